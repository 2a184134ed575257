/*
 * Migration pipeline: one command, one promise
 *
 * The pipeline drives a migration from migrate-pipeline-start, or from
 * migrate if the user has said so with -global migration.pipeline=on, to its
 * end: for that time it sets the capabilities and parameters that it decides
 * about, asks its policy in each iteration, and does what that says.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_PIPELINE_H
#define MIGRATION_PIPELINE_PIPELINE_H

#include "qapi/qapi-types-pipeline.h"
#include "policy.h"

typedef struct MigrationState MigrationState;

/*
 * Drive the next migration.  @max_bandwidth: in bytes a second, 0: no limit;
 * @greet: it begins with a greeting.  Main thread, with no migration under way.
 */
void migration_pipeline_arm(const PipelineGoal *goal, uint64_t max_bandwidth,
                            bool greet);

/* This is the one.  Main thread, when its start_time is known. */
void migration_pipeline_armed(MigrationState *s);

/* It did not come to that.  Main thread. */
void migration_pipeline_disarm(void);

/*
 * Main thread: what is about to fail is going to be tried in another way, so
 * there is no report; and that could not even begin, for @err, which is taken.
 */
void migration_pipeline_fall_back(void);
void migration_pipeline_failed(Error *err);

/*
 * Main thread: is there a connection to the destination?  If not, in mode auto
 * the guest goes through the volume instead.
 */
void migration_pipeline_reached(bool yes);

/* Does the pipeline drive this migration?  Any thread. */
bool migration_pipeline_drives(MigrationState *s);

/*
 * Main thread: does this migration greet; it has; what it offers, or would for
 * @goal if that is not NULL; what of that was accepted.  Features are those of
 * hello.h.
 */
bool migration_pipeline_greets(MigrationState *s);
void migration_pipeline_greeted(void);
void migration_pipeline_offer(const PipelineGoal *goal, uint64_t *features,
                              uint32_t *channels);
void migration_pipeline_accepted(uint64_t features);

/*
 * Migration thread: one step of a migration that the pipeline drives, as
 * migration_pipeline_decide().
 */
uint64_t migration_pipeline_step(MigrationState *s, uint64_t pending);

/* May a migration start as far as its settings go?  Main thread. */
bool migration_pipeline_may_start(Error **errp);

/* The state or report, to be freed by the caller.  Main thread. */
MigratePipelineInfo *migration_pipeline_info(void);

#endif /* MIGRATION_PIPELINE_PIPELINE_H */
