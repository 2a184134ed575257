/*
 * Migration pipeline: one command, one promise
 *
 * The pipeline drives a migration from migrate-pipeline-start, or from migrate
 * with -global migration.pipeline=on, to its end: it sets the capabilities and
 * parameters that it controls, asks its policy in each iteration, and acts on
 * the decision.
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
 * Create s->pipeline_current, and take a reference to @s that is never dropped,
 * because the guest is stopped, and disks are flushed, after
 * migration_shutdown().  Main thread.
 */
void migration_pipeline_init(MigrationState *s);

/*
 * Drive the next migration.  @max_bandwidth: in bytes per second, 0: no limit;
 * @greet: it begins with a greeting; @or_else, or NULL: called from the main
 * loop to try another mode, in place of a report, if the destination cannot be
 * connected to.  Main thread, with no migration in progress.
 */
void migration_pipeline_arm(const PipelineGoal *goal, uint64_t max_bandwidth,
                            bool greet, QEMUBHFunc *or_else);

/* The armed migration is @s.  Main thread, when its start_time is known. */
void migration_pipeline_armed(MigrationState *s);

/* The armed migration did not start.  Main thread. */
void migration_pipeline_disarm(void);

/* Main thread: whether the destination could be connected to. */
void migration_pipeline_reached(bool yes);

/* Main thread: no migration could start, because of @err, which is taken. */
void migration_pipeline_failed(Error *err);

/*
 * Main thread: the features that this migration offers in its greeting, or
 * would for @goal if that is not NULL; the features that were accepted.
 * Features are those of hello.h.
 */
void migration_pipeline_offer(const PipelineGoal *goal, uint64_t *features,
                              uint32_t *channels);
void migration_pipeline_accepted(uint64_t features);

/*
 * Decide what this iteration does.  @pending bytes are known to be left.
 * Returns the value for migration_iteration_run() to use instead: 0 to switch
 * over, UINT64_MAX not to, @pending to leave it to upstream.
 */
uint64_t migration_pipeline_decide(MigrationState *s, uint64_t pending);

#endif /* MIGRATION_PIPELINE_PIPELINE_H */
