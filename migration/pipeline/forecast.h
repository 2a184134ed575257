/*
 * Migration pipeline: how a migration would go
 *
 * The policy is asked what it would do with a guest and a link that are made
 * up from measures: memory is sent at a constant rate, the guest dirties pages
 * at random at a constant rate.  No guest is like that, so this is a forecast
 * and no promise.
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
    uint64_t pages;             /* that are to be sent at first */
    uint64_t working_set;       /* pages that the guest writes to at all */
    double page_rate;           /* pages sent a second */
    double dirty_rate;          /* pages written to a second */
    int64_t fixed;              /* of the blackout, in microseconds, */
    int64_t spread;             /* and how much longer that may be */
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
