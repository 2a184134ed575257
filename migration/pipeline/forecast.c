/*
 * Migration pipeline: how a migration would go
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <math.h>
#include "forecast.h"

/* Step of the simulation, in microseconds */
#define STEP        10000
/* Number of steps, a day, after which it does not terminate */
#define STEPS_MAX   8640000
#define US_PER_S    1000000.0
#define US_PER_MS   1000
/* Upper bound for the floor, in microseconds */
#define FLOOR_MOST  (2000 * US_PER_MS * (int64_t)1000)

/* Number of dirty pages after a step, if @dirty were before */
static double forecast_dirty(const PipelineModel *m, double dirty,
                             unsigned throttle)
{
    double writes = m->dirty_rate * (1 - throttle / 100.0) * STEP / US_PER_S;

    if (!m->working_set) {
        return dirty;
    }
    return dirty + (m->working_set - dirty) *
                   (1 - exp(-writes / m->working_set));
}

/* Ask the policy, and again after a sync if it wants one. */
static MigratePipelineAction forecast_ask(PipelinePolicy *p, PipelineSample *s,
                                          double *left, double *dirty)
{
    MigratePipelineAction action = pipeline_policy_step(p, s);

    if (action == MIGRATE_PIPELINE_ACTION_SYNC) {
        s->syncs++;
        *left += *dirty;
        *dirty = 0;
        s->pages_left = *left;
        action = pipeline_policy_step(p, s);
    }
    return action;
}

PipelineForecast pipeline_forecast(const PipelineGoal *goal,
                                   const PipelineModel *m)
{
    PipelineSample s = {
        .syncs = 1, .pages_left = m->pages, .fixed = m->fixed,
        .spread = m->spread, .ready = true,
    };
    double left = m->pages, done = 0, dirty = 0;
    PipelinePolicy p;
    MigratePipelineAction action = MIGRATE_PIPELINE_ACTION_GO_ON;

    pipeline_policy_init(&p, goal);
    for (unsigned i = 0; i < STEPS_MAX; i++) {
        bool rests = s.now < p.rest_until;
        double sent = rests ? 0 : MIN(left, m->page_rate * STEP / US_PER_S);

        action = forecast_ask(&p, &s, &left, &dirty);
        if (action >= MIGRATE_PIPELINE_ACTION_SWITCH_OVER) {
            break;
        }
        dirty = forecast_dirty(m, dirty, p.throttle);
        left -= sent;
        done += sent;
        s.now += STEP;
        s.sync_time += rests ? STEP : 0;
        s.pages_done = done;
        s.pages_left = left;
    }
    return (PipelineForecast) {
        .end = action, .why = p.why, .time = s.now, .blackout = p.predicted,
        .throttle = p.throttle, .pages_sent = done,
    };
}

static bool forecast_keeps(const PipelineGoal *goal, const PipelineModel *m,
                           int64_t max_blackout)
{
    PipelineGoal g = *goal;

    g.max_blackout = max_blackout;
    g.margin = 0;
    return pipeline_forecast(&g, m).end == MIGRATE_PIPELINE_ACTION_SWITCH_OVER;
}

int64_t pipeline_forecast_floor(const PipelineGoal *goal,
                                const PipelineModel *m)
{
    int64_t no = 0, yes = FLOOR_MOST;

    if (!forecast_keeps(goal, m, yes)) {
        return -1;
    }
    while (yes - no > US_PER_MS) {
        int64_t middle = (no + yes) / 2 / US_PER_MS * US_PER_MS;

        if (forecast_keeps(goal, m, middle)) {
            yes = middle;
        } else {
            no = middle;
        }
    }
    return yes;
}
