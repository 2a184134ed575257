/*
 * Migration pipeline: how a migration would go
 *
 * This runs the policy on a simulated guest and link: memory is sent at a
 * constant rate, and the guest dirties random pages at a constant rate, as
 * measured.  Real guests differ, so this is a forecast and not a promise.
 *
 * A pure function, like those of policy.h.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_FORECAST_H
#define MIGRATION_PIPELINE_FORECAST_H

#include "policy.h"

typedef struct PipelineModel {
    uint64_t pages;             /* to be sent in the first pass */
    uint64_t working_set;       /* pages that the guest writes to at all */
    double page_rate;           /* pages sent per second */
    double dirty_rate;          /* pages written to per second */
    int64_t fixed;              /* part of the blackout, in microseconds */
    int64_t spread;             /* by how much that may be exceeded */
} PipelineModel;

typedef struct PipelineForecast {
    MigratePipelineAction end;  /* _SWITCH_OVER, _POSTCOPY or _GIVE_UP */
    MigratePipelineReason why;
    int64_t time;               /* until then, in microseconds */
    int64_t blackout;           /* of the switch-over, in microseconds */
    unsigned throttle;          /* percent, at the end */
    uint64_t pages_sent;
} PipelineForecast;

PipelineForecast pipeline_forecast(const PipelineGoal *goal,
                                   const PipelineModel *m);

/*
 * The shortest max_blackout for which @goal would be met by switching over, in
 * microseconds, rounded up to milliseconds; -1 if there is none.
 */
int64_t pipeline_forecast_floor(const PipelineGoal *goal,
                                const PipelineModel *m);

#endif /* MIGRATION_PIPELINE_FORECAST_H */
