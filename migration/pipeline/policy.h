/*
 * Migration pipeline: what to do next
 *
 * The decisions are a pure function of samples: no clock, no guest, no lock,
 * so that they can be tested with traces.  The caller has one PipelinePolicy
 * per migration and calls pipeline_policy_step() with a sample from time to
 * time, from one thread at a time.
 *
 * The rules:
 *
 *   - The predicted blackout is the fixed part, which does not depend on
 *     memory, plus pages left / page rate.  It must be within the promise
 *     with a reserve for either.
 *   - If it is, and the disks are ready: switch over, unless one more pass
 *     makes it much shorter and the migration hardly longer.
 *   - Passes leave out pages that are always dirty.  A pass that has nothing
 *     to send pauses, to see whether they still are.
 *   - If it is not, and passes no longer shorten it: take the next rung of the
 *     ladder.  The first is to leave nothing out, because pages that are
 *     always dirty may get through faster than others, as deltas; then what
 *     is permitted: throttle, postcopy.
 *   - The floor is reached when passes cannot shorten the blackout because
 *     memory is small compared with the fixed part.  Without a deadline, it
 *     then switches over if the bare prediction is within promise plus margin.
 *   - If the fixed part alone exceeds that, the reason says so from the first
 *     sample on, and it gives up after a moment or at the deadline.
 *   - Quick migration has no ladder: the guest stops instead.
 *   - At the top rung: wait for a moment that keeps the promise, until the
 *     deadline or until more is pointless; then give up.  So it always ends.
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
    int64_t max_blackout;       /* the promise */
    int64_t margin;             /* added to it at the floor */
    int64_t deadline;           /* since the start; 0: none */
    unsigned throttle_max;      /* percent of the vCPUs' time; 0: do not */
    bool postcopy;
    bool compression;           /* where it pays; not used by the policy */
    bool quick;                 /* stop the guest when nothing else helps */
    uint64_t ram_pages;         /* of the guest */
} PipelineGoal;

typedef struct PipelinePolicy {
    PipelineGoal goal;

    /* public, shown to the user */
    PipelineEstimate estimate;
    int64_t predicted;          /* blackout, if switched over now */
    int64_t worst;              /* with reserve; compared with the promise */
    MigratePipelineReason why;
    bool put_off;               /* hot pages may be deferred */
    unsigned throttle;          /* percent */
    unsigned passes;
    int64_t rest_until;         /* send nothing before that time */

    /* private */
    uint64_t best_left;         /* fewest pages after a sync, on this rung */
    unsigned stuck;             /* syncs since then */
    bool top;                   /* the top rung was reached */
    int64_t within_since;       /* within the promise, but continuing; or -1 */
    int64_t waits_since;        /* nothing to do but wait; or -1 */
    int64_t fixed_since;        /* at the floor, above the promise; or -1 */
} PipelinePolicy;

void pipeline_policy_init(PipelinePolicy *p, const PipelineGoal *goal);

/*
 * Decide what to do now.  After _SYNC the caller syncs the bitmap, and the next
 * sample shows that; _THROTTLE is to @p->throttle percent, and the migration
 * continues; after _SWITCH_OVER, _POSTCOPY and _GIVE_UP there is no next step.
 */
MigratePipelineAction pipeline_policy_step(PipelinePolicy *p,
                                           const PipelineSample *s);

#endif /* MIGRATION_PIPELINE_POLICY_H */
