/*
 * Migration pipeline: when a migration switches over
 *
 * migration_iteration_run() compares pending bytes of memory with a threshold,
 * and switches over when there are fewer.
 *
 * For a plain migration the threshold is what can be sent within the downtime
 * limit, less the time of the last sync of the dirty bitmap, whatever the size
 * on the wire.  The disks are flushed in the background before.
 *
 * A migration driven by the pipeline switches over when the policy decides: the
 * threshold is 0, and 0 bytes are reported as pending then.
 *
 * All functions: source, in the thread that works on the migration's RAM, which
 * is the migration thread except during setup.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_SWITCHOVER_H
#define MIGRATION_PIPELINE_SWITCHOVER_H

#include "estimate.h"

/* Sleep when there is nothing to do but wait, in microseconds */
#define PIPELINE_NAP    2000

typedef struct MigrationState MigrationState;
typedef struct PipelineSwitchover PipelineSwitchover;

/* For MigrationPipeline */
PipelineSwitchover *migration_switchover_new(void);

/* A migration begins.  Main thread, before the migration thread exists. */
void migration_pipeline_reset(void);

/* Around each sync of the dirty bitmap */
void migration_pipeline_sync_begin(void);
void migration_pipeline_sync_end(void);

/* Sending was paused deliberately for @time microseconds. */
void migration_pipeline_rested(int64_t time);

/*
 * Migration thread: pause until the destination has read what was sent, because
 * data in flight would add to the blackout.  It answers a ping then.  Waits at
 * most @most microseconds, clamped to 50 ms to 1 s; does not wait without a
 * return path.
 */
void migration_pipeline_settle(MigrationState *s, int64_t most);

/* Return path's thread: the answer to a ping */
void migration_pipeline_pong(uint32_t value);

/*
 * Bytes of memory that may be pending at switch-over.  @by_wire: upstream's
 * threshold from the bandwidth on the wire, a lower bound for the result, and
 * the result itself if the user has set the bandwidth.
 */
uint64_t migration_pipeline_threshold(MigrationState *s, uint64_t by_wire);

/*
 * migration_pipeline_decide() for a migration that is not driven by the
 * pipeline and not in postcopy.
 */
uint64_t migration_pipeline_decide_plain(MigrationState *s, uint64_t pending);

/* Sample the current migration, with @pending bytes known to be left. */
PipelineSample migration_pipeline_sample(MigrationState *s, uint64_t pending);

#endif /* MIGRATION_PIPELINE_SWITCHOVER_H */
