/*
 * Migration pipeline: how fast memory is sent, and how fast it is dirtied
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "estimate.h"

#define US_PER_S        1000000.0
#define FOREVER         (100.0 * 365 * 86400 * US_PER_S)

/* Minimum time to measure a rate, in microseconds */
#define RATE_WINDOW     20000
/* Weight of a new measurement; more if it is worse than before */
#define RATE_UP         0.3
#define RATE_DOWN       0.6
/* The same for the dirty rate, in either direction */
#define DIRTY_WEIGHT    0.5

/*
 * Most zero pages of the first pass were never touched.  They cost next to
 * nothing, so they must not count for the rate.  Later ones are like other
 * pages that the guest writes.
 */
static uint64_t estimate_pages_since(const PipelineSample *from,
                                     const PipelineSample *s)
{
    uint64_t done = s->pages_done - from->pages_done;

    return from->syncs > 1 ? done
                           : done - (s->pages_zero - from->pages_zero);
}

static void estimate_page_rate(PipelineEstimate *e, const PipelineSample *s)
{
    const PipelineSample *from = &e->rate_from;
    int64_t time = s->now - from->now - (s->sync_time - from->sync_time);
    double rate;

    if (time < RATE_WINDOW) {
        return;
    }
    rate = estimate_pages_since(from, s) * US_PER_S / time;
    if (!e->page_rate) {
        e->page_rate = rate;
    } else {
        e->page_rate += (rate < e->page_rate ? RATE_DOWN : RATE_UP) *
                        (rate - e->page_rate);
    }
    e->rate_from = *s;
}

/*
 * Pages in the sockets' buffers count as done.  Only when the destination has
 * all of them is it known how long they really took.  Rates measured in
 * between are too high, at most by the time of that wait.
 */
static void estimate_settled_rate(PipelineEstimate *e, const PipelineSample *s)
{
    const PipelineSample *from = &e->settled;
    int64_t sent = s->now - from->now - (s->sync_time - from->sync_time);
    int64_t time = sent + s->settle_time - from->settle_time;

    if (time >= RATE_WINDOW) {
        double rate = estimate_pages_since(from, s) * US_PER_S / time;
        double least = e->page_rate * sent / time;

        rate = MAX(rate, least);
        e->page_rate = e->page_rate ? MIN(e->page_rate, rate) : rate;
    }
    e->rate_from = e->settled = *s;
}

/*
 * Pages left now and done since, less the pages left then, were dirtied.
 * Skipped pages were not.
 */
static void estimate_dirty_rate(PipelineEstimate *e, const PipelineSample *s)
{
    const PipelineSample *from = &e->last_sync;
    uint64_t have = s->pages_left + (s->pages_done - from->pages_done) +
                    (s->pages_saved - from->pages_saved);
    double rate;

    /* The first sync finds all memory dirty. */
    if (from->syncs && s->now > from->now) {
        rate = (have - MIN(have, from->pages_left)) * US_PER_S /
               (s->now - from->now);
        e->dirty_rate += (e->dirty_rate ? DIRTY_WEIGHT : 1) *
                         (rate - e->dirty_rate);
    }
    e->last_sync = *s;
}

bool pipeline_estimate_add(PipelineEstimate *e, const PipelineSample *s)
{
    bool synced = s->syncs != e->last_sync.syncs;

    estimate_page_rate(e, s);
    if (s->settles != e->settled.settles) {
        estimate_settled_rate(e, s);
    }
    if (synced) {
        estimate_dirty_rate(e, s);
    }
    return synced;
}

int64_t pipeline_estimate_time(const PipelineEstimate *e, double pages)
{
    double time;

    if (pages <= 0) {
        return 0;
    }
    /* Below a page per second, the time is infinite. */
    time = e->page_rate < 1 ? FOREVER : pages / e->page_rate * US_PER_S;
    return time < FOREVER ? (int64_t)time : INT64_MAX;
}

uint64_t pipeline_estimate_pages(const PipelineEstimate *e, int64_t time)
{
    return time > 0 ? e->page_rate * time / US_PER_S : 0;
}
