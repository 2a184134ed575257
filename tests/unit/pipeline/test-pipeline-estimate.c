/*
 * How fast memory moves, as the migration pipeline sees it
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/pipeline/estimate.h"

#define MS 1000
#define S  1000000

/* @time of sending at @rate pages a second, in steps of 10 ms */
static void send_pages(PipelineEstimate *e, PipelineSample *s, int64_t time,
                       unsigned rate)
{
    for (int64_t t = 0; t < time; t += 10 * MS) {
        uint64_t n = MIN(rate / 100, s->pages_left);

        s->now += 10 * MS;
        s->pages_done += n;
        s->pages_left -= n;
        pipeline_estimate_add(e, s);
    }
}

/* A sync that takes @time and finds @dirty pages that were not dirty. */
static void sync_bitmap(PipelineEstimate *e, PipelineSample *s, int64_t time,
                        unsigned dirty)
{
    s->now += time;
    s->sync_time += time;
    s->syncs++;
    s->pages_left += dirty;
    g_assert_true(pipeline_estimate_add(e, s));
    g_assert_false(pipeline_estimate_add(e, s));
}

static void assert_near(double have, double want)
{
    g_assert_cmpfloat(have, >, 0.9 * want);
    g_assert_cmpfloat(have, <, 1.1 * want);
}

/* Nothing is known, so nothing can be promised. */
static void test_nothing(void)
{
    PipelineEstimate e = { 0 };

    g_assert_cmpint(pipeline_estimate_time(&e, 1), ==, INT64_MAX);
    g_assert_cmpint(pipeline_estimate_time(&e, 0), ==, 0);
    g_assert_cmpint(pipeline_estimate_pages(&e, S), ==, 0);
}

static void test_rate(void)
{
    PipelineEstimate e = { 0 };
    PipelineSample s = { .pages_left = UINT32_MAX };

    send_pages(&e, &s, S, 50000);
    assert_near(e.page_rate, 50000);
    assert_near(pipeline_estimate_time(&e, 5000), 100 * MS);
    assert_near(pipeline_estimate_pages(&e, 100 * MS), 5000);
    /* A limit that other costs have used up */
    g_assert_cmpint(pipeline_estimate_pages(&e, -1), ==, 0);
}

/* What syncs take is not what pages take. */
static void test_syncs(void)
{
    PipelineEstimate e = { 0 };
    PipelineSample s = { .pages_left = UINT32_MAX };

    for (unsigned i = 0; i < 20; i++) {
        send_pages(&e, &s, 50 * MS, 50000);
        sync_bitmap(&e, &s, 70 * MS, 0);
    }
    assert_near(e.page_rate, 50000);
}

/*
 * Zeroes of the first pass were never touched, and say nothing about the rest;
 * later ones were written, and go like all others.
 */
static void test_zeroes(void)
{
    PipelineEstimate e = { 0 };
    PipelineSample s = { .pages_left = UINT32_MAX, .syncs = 1 };

    for (unsigned i = 0; i < 200; i++) {
        s.pages_zero += 900;
        send_pages(&e, &s, 10 * MS, 100000);
    }
    assert_near(e.page_rate, 10000);
    sync_bitmap(&e, &s, MS, 0);
    for (unsigned i = 0; i < 200; i++) {
        s.pages_zero += 900;
        send_pages(&e, &s, 10 * MS, 100000);
    }
    assert_near(e.page_rate, 100000);
}

/* Wait @time until all that was sent is there. */
static void settle(PipelineEstimate *e, PipelineSample *s, int64_t time)
{
    s->now += time;
    s->sync_time += time;
    s->settle_time += time;
    s->settles++;
    pipeline_estimate_add(e, s);
}

/* What goes into the buffers of sockets is not there yet. */
static void test_settled(void)
{
    PipelineEstimate e = { 0 };
    PipelineSample s = { .pages_left = UINT32_MAX, .syncs = 2 };

    /* 10,000 a second; the buffers take 1000 at once. */
    send_pages(&e, &s, 20 * MS, 50000);
    settle(&e, &s, 80 * MS);
    assert_near(e.page_rate, 10000);
    for (unsigned i = 0; i < 5; i++) {
        send_pages(&e, &s, 20 * MS, 50000);
        g_assert_cmpfloat(e.page_rate, >, 10000);
        settle(&e, &s, 80 * MS);
        assert_near(e.page_rate, 10000);
    }
    /* Of a long time they are a small part, also if the link was slower. */
    send_pages(&e, &s, 10 * S, 1000);
    send_pages(&e, &s, S, 10000);
    assert_near(e.page_rate, 10000);
    settle(&e, &s, 80 * MS);
    assert_near(e.page_rate, 10000);
    /* It is known, too, when nothing was measured before. */
    e = (PipelineEstimate) { 0 };
    s = (PipelineSample) { .pages_left = UINT32_MAX, .syncs = 2 };
    send_pages(&e, &s, 10 * MS, 50000);
    settle(&e, &s, 40 * MS);
    assert_near(e.page_rate, 10000);
}

/* A link that breaks down is believed sooner than one that gets better. */
static void test_changes(void)
{
    PipelineEstimate e = { 0 };
    PipelineSample s = { .pages_left = UINT32_MAX };
    double down, up;

    send_pages(&e, &s, S, 50000);
    send_pages(&e, &s, 60 * MS, 5000);
    down = e.page_rate;
    g_assert_cmpfloat(down, <, 15000);
    send_pages(&e, &s, S, 5000);
    send_pages(&e, &s, 60 * MS, 50000);
    up = e.page_rate;
    g_assert_cmpfloat(up, <, 45000);
    send_pages(&e, &s, S, 50000);
    assert_near(e.page_rate, 50000);
}

static void test_dirty(void)
{
    PipelineEstimate e = { 0 };
    PipelineSample s = { 0 };

    /* All memory, which nobody has dirtied */
    sync_bitmap(&e, &s, MS, 100000);
    g_assert_cmpfloat(e.dirty_rate, ==, 0);
    for (unsigned i = 0; i < 10; i++) {
        send_pages(&e, &s, S, 50000);
        sync_bitmap(&e, &s, MS, 20000);
    }
    assert_near(e.dirty_rate, 20000);
    /* It is quiet now. */
    for (unsigned i = 0; i < 10; i++) {
        send_pages(&e, &s, S, 50000);
        sync_bitmap(&e, &s, MS, 0);
    }
    g_assert_cmpfloat(e.dirty_rate, <, 100);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pipeline/estimate/nothing", test_nothing);
    g_test_add_func("/pipeline/estimate/rate", test_rate);
    g_test_add_func("/pipeline/estimate/syncs", test_syncs);
    g_test_add_func("/pipeline/estimate/zeroes", test_zeroes);
    g_test_add_func("/pipeline/estimate/settled", test_settled);
    g_test_add_func("/pipeline/estimate/changes", test_changes);
    g_test_add_func("/pipeline/estimate/dirty", test_dirty);
    return g_test_run();
}
