/*
 * What a blackout takes besides memory: the history and its estimates
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/pipeline/costs.h"

#define MS 1000

/* A blackout of @total, most of which is the load */
static PipelineRow row_of(uint32_t total)
{
    return (PipelineRow) {
        .time = { total / 10, total / 10, total / 10, total * 5 / 10,
                  total / 10, total / 10 },
    };
}

static void add(PipelineHistory *h, uint32_t total)
{
    PipelineRow row = row_of(total);

    pipeline_history_add(h, &row);
    g_assert_true(pipeline_history_valid(h));
}

/* Without a history there is a guess, more where disks change hands. */
static void test_guess(void)
{
    PipelineHistory h = { 0 };
    PipelineCosts plain = pipeline_costs(&h, 1000, false);
    PipelineCosts disks = pipeline_costs(&h, 1000, true);
    PipelineCosts busy = pipeline_costs(&h, 3000, false);
    int64_t sum = 0;

    for (unsigned p = 0; p < PIPELINE_COSTS; p++) {
        sum += plain.time[p];
    }
    g_assert_cmpint(plain.rows, ==, 0);
    g_assert_cmpint(plain.total, ==, sum);
    g_assert_cmpint(plain.total, >, 0);
    g_assert_cmpint(plain.spread, >, 0);
    g_assert_cmpint(disks.total, >, plain.total);
    g_assert_cmpint(busy.total, ==, 3 * plain.total);
}

/* One blackout is believed, but not blindly. */
static void test_one(void)
{
    PipelineHistory h = { 0 };
    PipelineCosts c;

    add(&h, 50 * MS);
    c = pipeline_costs(&h, 1000, true);
    g_assert_cmpint(c.rows, ==, 1);
    g_assert_cmpint(c.total, ==, 50 * MS);
    g_assert_cmpint(c.time[PIPELINE_COST_LOAD], ==, 25 * MS);
    g_assert_cmpint(c.spread, >=, 10 * MS);
}

/* One that was far off changes little. */
static void test_outlier(void)
{
    PipelineHistory h = { 0 };

    for (unsigned i = 0; i < 5; i++) {
        add(&h, 30 * MS);
    }
    add(&h, 400 * MS);
    g_assert_cmpint(pipeline_costs(&h, 1000, true).total, <=, 30 * MS);
    g_assert_cmpint(pipeline_costs(&h, 1000, true).spread, <=, 15 * MS);
}

/* The spread is that of the blackouts. */
static void test_spread(void)
{
    PipelineHistory calm = { 0 }, wild = { 0 };

    for (unsigned i = 0; i < PIPELINE_HISTORY; i++) {
        add(&calm, 50 * MS + i * 100);
        add(&wild, 30 * MS + i % 4 * 14 * MS);
    }
    g_assert_cmpint(pipeline_costs(&calm, 1000, true).spread, <, 6 * MS);
    g_assert_cmpint(pipeline_costs(&wild, 1000, true).spread, >, 15 * MS);
}

/* Two new ones count for more than all before them. */
static void test_change(void)
{
    PipelineHistory h = { 0 };

    for (unsigned i = 0; i < PIPELINE_HISTORY; i++) {
        add(&h, 100 * MS);
    }
    add(&h, 20 * MS);
    g_assert_cmpint(pipeline_costs(&h, 1000, true).total, ==, 100 * MS);
    add(&h, 20 * MS);
    g_assert_cmpint(pipeline_costs(&h, 1000, true).total, ==, 20 * MS);
}

/* What was is believed less as time goes by, and never for ever. */
static void test_age(void)
{
    PipelineHistory h = { 0 };
    int64_t spread;

    for (unsigned i = 0; i < 4; i++) {
        add(&h, 130 * MS);
    }
    spread = pipeline_costs(&h, 1000, true).spread;
    pipeline_history_age(&h, 1800);
    g_assert_cmpint(pipeline_costs(&h, 1000, true).age, ==, 1800);
    g_assert_cmpint(pipeline_costs(&h, 1000, true).spread, >, 2 * spread);
    /* A new one counts for more than four that are half an hour old. */
    add(&h, 30 * MS);
    g_assert_cmpint(pipeline_costs(&h, 1000, true).total, ==, 30 * MS);
    pipeline_history_age(&h, UINT32_MAX);
    pipeline_history_age(&h, UINT32_MAX);
    g_assert_true(pipeline_history_valid(&h));
    g_assert_cmpint(pipeline_costs(&h, 1000, true).total, >, 0);
}

/* Only the latest ones are kept, and no time is absurd. */
static void test_full(void)
{
    PipelineHistory h = { 0 };

    for (unsigned i = 0; i < 5 * PIPELINE_HISTORY; i++) {
        add(&h, UINT32_MAX);
    }
    g_assert_cmpint(h.rows, ==, PIPELINE_HISTORY);
    g_assert_cmpint(pipeline_costs(&h, 1000, true).total, <=,
                    (int64_t)PIPELINE_COSTS * PIPELINE_COST_MOST);
    for (unsigned i = 0; i < PIPELINE_HISTORY; i++) {
        add(&h, 20 * MS);
    }
    g_assert_cmpint(pipeline_costs(&h, 1000, true).total, ==, 20 * MS);
}

/* What comes from another host is looked at. */
static void test_invalid(void)
{
    PipelineHistory h = { 0 }, bad;

    add(&h, 20 * MS);
    bad = h;
    bad.rows = PIPELINE_HISTORY + 1;
    g_assert_false(pipeline_history_valid(&bad));
    bad = h;
    bad.row[0].time[PIPELINE_COST_LOAD] = PIPELINE_COST_MOST + 1;
    g_assert_false(pipeline_history_valid(&bad));
    /* behind the rows that count */
    bad = h;
    bad.row[1].time[PIPELINE_COST_LOAD] = UINT32_MAX;
    g_assert_true(pipeline_history_valid(&bad));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pipeline/costs/guess", test_guess);
    g_test_add_func("/pipeline/costs/one", test_one);
    g_test_add_func("/pipeline/costs/outlier", test_outlier);
    g_test_add_func("/pipeline/costs/spread", test_spread);
    g_test_add_func("/pipeline/costs/change", test_change);
    g_test_add_func("/pipeline/costs/age", test_age);
    g_test_add_func("/pipeline/costs/full", test_full);
    g_test_add_func("/pipeline/costs/invalid", test_invalid);
    return g_test_run();
}
