/*
 * How a migration would go: forecasts of simple cases
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/pipeline/forecast.h"

#define MS      1000
#define S       1000000
#define PAGES   (512 * 256)     /* 512 MiB */

static const PipelineGoal goal = { .max_blackout = 300 * MS,
                                   .ram_pages = PAGES };

/* At 28,000 pages a second all memory takes 4.7 seconds. */
static void test_idle(void)
{
    PipelineModel m = { .pages = PAGES, .page_rate = 28000, .fixed = 10 * MS };
    PipelineForecast f = pipeline_forecast(&goal, &m);

    g_assert_cmpint(f.end, ==, MIGRATE_PIPELINE_ACTION_SWITCH_OVER);
    g_assert_cmpint(f.time, >, 4.5 * S);
    g_assert_cmpint(f.time, <, 5 * S);
    g_assert_cmpint(f.blackout, <, 20 * MS);
    g_assert_cmpint(f.pages_sent, >=, 0.98 * PAGES);
}

static void test_converges(void)
{
    PipelineModel m = { .pages = PAGES, .page_rate = 28000, .fixed = 10 * MS,
                        .working_set = PAGES, .dirty_rate = 10000 };
    PipelineForecast f = pipeline_forecast(&goal, &m);

    g_assert_cmpint(f.end, ==, MIGRATE_PIPELINE_ACTION_SWITCH_OVER);
    g_assert_cmpint(f.time, >, 5 * S);
    g_assert_cmpint(f.blackout, <=, goal.max_blackout);
}

/* Too much is written: what is permitted decides. */
static void test_hot(void)
{
    PipelineModel m = { .pages = PAGES, .page_rate = 28000, .fixed = 10 * MS,
                        .working_set = PAGES / 2, .dirty_rate = 200000 };
    PipelineGoal g = goal;

    g.deadline = 30 * S;
    g_assert_cmpint(pipeline_forecast(&g, &m).end, ==,
                    MIGRATE_PIPELINE_ACTION_GIVE_UP);
    g.postcopy = true;
    g_assert_cmpint(pipeline_forecast(&g, &m).end, ==,
                    MIGRATE_PIPELINE_ACTION_POSTCOPY);
    g.postcopy = false;
    g.throttle_max = 99;
    g_assert_cmpint(pipeline_forecast(&g, &m).end, ==,
                    MIGRATE_PIPELINE_ACTION_SWITCH_OVER);
    g_assert_cmpint(pipeline_forecast(&g, &m).throttle, >, 50);
}

/* A link that takes nothing, and no deadline: it ends nevertheless. */
static void test_dead(void)
{
    PipelineModel m = { .pages = PAGES, .fixed = 10 * MS };
    PipelineForecast f = pipeline_forecast(&goal, &m);

    g_assert_cmpint(f.end, !=, MIGRATE_PIPELINE_ACTION_SWITCH_OVER);
}

/* The floor is what is fixed and may be longer, and little memory. */
static void test_floor(void)
{
    PipelineModel m = { .pages = PAGES, .page_rate = 28000, .fixed = 80 * MS,
                        .spread = 20 * MS };
    int64_t floor = pipeline_forecast_floor(&goal, &m);
    PipelineGoal g = goal;

    g_assert_cmpint(floor, >=, 80 * MS);
    g_assert_cmpint(floor, <, 110 * MS);
    g_assert_cmpint(floor % MS, ==, 0);
    g.max_blackout = floor;
    g_assert_cmpint(pipeline_forecast(&g, &m).end, ==,
                    MIGRATE_PIPELINE_ACTION_SWITCH_OVER);
    g.max_blackout = floor - MS;
    g_assert_cmpint(pipeline_forecast(&g, &m).end, ==,
                    MIGRATE_PIPELINE_ACTION_GIVE_UP);
    g_assert_cmpint(pipeline_forecast(&g, &m).why, ==,
                    MIGRATE_PIPELINE_REASON_FIXED);
    m.page_rate = 0;
    g_assert_cmpint(pipeline_forecast_floor(&goal, &m), ==, -1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pipeline/forecast/idle", test_idle);
    g_test_add_func("/pipeline/forecast/converges", test_converges);
    g_test_add_func("/pipeline/forecast/hot", test_hot);
    g_test_add_func("/pipeline/forecast/dead", test_dead);
    g_test_add_func("/pipeline/forecast/floor", test_floor);
    return g_test_run();
}
