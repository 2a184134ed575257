/*
 * Migration pipeline: what to do next
 *
 * The decisions are a pure function of samples: no clock, no guest, no lock,
 * so that traces test them.  Whoever calls keeps one PipelinePolicy per
 * migration and calls pipeline_policy_step() with a sample from time to time;
 * one thread at a time.
 *
 * The rules:
 *
 *   - The predicted blackout is what does not depend on memory, the fixed
 *     part, and pages left / page rate.  It must be within the promise with
 *     something to spare for either.
 *   - It is within the promise, and the disks are ready: switch over, unless
 *     one more pass makes it much shorter, and all takes hardly longer for it.
 *   - Passes leave out what is always dirty.  One that has nothing to send
 *     takes some time, to see whether that is still so.
 *   - It is not, and passes do not make it shorter any more: one step up the
 *     ladder.  The first is to leave nothing out, since pages that are always
 *     dirty may get through faster than others, as what has changed in them;
 *     then what is permitted: throttle, postcopy.
 *   - The floor is reached when passes cannot make the blackout shorter, since
 *     memory is little beside the fixed part.  Without a deadline the guest
 *     goes then if the prediction itself is within promise and margin.
 *   - If the fixed part alone is longer, the reason says so from the first
 *     sample on, and it ends after a moment or at the deadline.
 *   - In quick migration there is no ladder: the guest stops then.
 *   - The top is reached: wait for a moment that keeps the promise, until the
 *     deadline, or until more makes no sense; then give up.  It always ends.
 *     What may still be sent is spread over that time.
 *
 * Passes that end when the rest is small are those of Clark et al., "Live
 * Migration of Virtual Machines" (NSDI 2005); the rest is ours.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_POLICY_H
#define MIGRATION_PIPELINE_POLICY_H

#include "qapi/qapi-types-pipeline.h"
#include "estimate.h"

/* What the user allows.  Times in microseconds. */
typedef struct PipelineGoal {
    int64_t max_blackout;       /* the promise, */
    int64_t margin;             /* and so much more at the floor */
    int64_t deadline;           /* since the start; 0: none */
    unsigned throttle_max;      /* percent of the vCPUs' time; 0: do not */
    bool postcopy;
    bool compression;           /* where it pays; not for the policy to say */
    bool quick;                 /* stop the guest when nothing else helps */
    uint64_t ram_pages;         /* of the guest */
} PipelineGoal;

typedef struct PipelinePolicy {
    PipelineGoal goal;

    /* public, for the user to see */
    PipelineEstimate estimate;
    int64_t predicted;          /* blackout, if switched now, */
    int64_t worst;              /* and what must be within the promise */
    MigratePipelineReason why;
    bool put_off;               /* hot pages may be */
    unsigned throttle;          /* percent */
    unsigned passes;
    int64_t rest_until;         /* send nothing before that time */

    /* private */
    uint64_t best_left;         /* fewest pages after a sync, on this rung */
    unsigned stuck;             /* syncs since then */
    bool top;                   /* of the ladder was reached */
    int64_t within_since;       /* within the promise, and going on; or -1 */
    int64_t waits_since;        /* with nothing to be done but wait; or -1 */
    int64_t fixed_since;        /* at the floor, above the promise; or -1 */
} PipelinePolicy;

void pipeline_policy_init(PipelinePolicy *p, const PipelineGoal *goal);

/*
 * What to do now.  After _SYNC the bitmap is synced, and the next sample says
 * so; _THROTTLE is to @p->throttle percent, and the migration goes on; after
 * _SWITCH_OVER, _POSTCOPY and _GIVE_UP there is no next step.
 */
MigratePipelineAction pipeline_policy_step(PipelinePolicy *p,
                                           const PipelineSample *s);

#endif /* MIGRATION_PIPELINE_POLICY_H */
