/*
 * Migration pipeline: how fast memory moves, and how fast it changes
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "estimate.h"

#define US_PER_S        1000000.0
#define FOREVER         (100.0 * 365 * 86400 * US_PER_S)

/* A rate is measured for so long, in microseconds, before it counts. */
#define RATE_WINDOW     20000
/* What a new measure counts for; what gets worse is believed sooner. */
#define RATE_UP         0.3
#define RATE_DOWN       0.6
/* The same for what the guest dirties, whichever way it goes */
#define DIRTY_WEIGHT    0.5

/*
 * Most pages of zeroes of the first pass were never touched.  They cost next to
 * nothing and say nothing about pages that are.  Later ones are like all that
 * the guest writes.
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
 * Pages that are in the sockets' buffers count as done.  When all are there,
 * it is known how long they really took.  What was measured meanwhile is too
 * much, by as much as the wait for them at most.
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
 * What is left now and was done since is more than was left then by what?
 * What was left out did not become more.
 */
static void estimate_dirty_rate(PipelineEstimate *e, const PipelineSample *s)
{
    const PipelineSample *from = &e->last_sync;
    uint64_t have = s->pages_left + (s->pages_done - from->pages_done) +
                    (s->pages_saved - from->pages_saved);
    double rate;

    /* What the first sync finds is all memory. */
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
    /* Below a page a second nothing moves; a century is as good as never. */
    time = e->page_rate < 1 ? FOREVER : pages / e->page_rate * US_PER_S;
    return time < FOREVER ? (int64_t)time : INT64_MAX;
}

uint64_t pipeline_estimate_pages(const PipelineEstimate *e, int64_t time)
{
    return time > 0 ? e->page_rate * time / US_PER_S : 0;
}
