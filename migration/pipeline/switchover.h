/*
 * Migration pipeline: when a migration switches over
 *
 * migration_iteration_run() compares what is pending with what may be, both in
 * bytes of memory, and switches over when it is less.
 *
 * For a plain migration the latter is what can be sent within the limit of
 * the downtime, whatever these bytes take on the wire, and what the last look
 * at the dirty bitmap takes is not part of the time.  The disks are flushed
 * in the background before.
 *
 * A migration that the pipeline drives switches over when the policy says so:
 * nothing may be pending, and nothing is when it is time.
 *
 * All functions: source, from whoever works on the migration's RAM, which is
 * the migration thread but for its setup.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_SWITCHOVER_H
#define MIGRATION_PIPELINE_SWITCHOVER_H

#include "estimate.h"

/* When there is nothing to send but to wait for something, in microseconds */
#define PIPELINE_NAP    2000

typedef struct MigrationState MigrationState;

/* A migration begins.  Main thread, before there is another one. */
void migration_pipeline_reset(void);

/* Around each sync of the dirty bitmap */
void migration_pipeline_sync_begin(void);
void migration_pipeline_sync_end(void);

/* Nothing was sent for @time microseconds, on purpose. */
void migration_pipeline_rested(int64_t time);

/*
 * Migration thread: send nothing until the destination has taken in what was
 * sent, for what is on its way would be part of the blackout.  It says so by
 * answering a ping.  Waits at most @most microseconds, within 50 ms and 1 s,
 * and not without a return path.
 */
void migration_pipeline_settle(MigrationState *s, int64_t most);

/* Return path's thread: the answer to a ping */
void migration_pipeline_pong(uint32_t value);

/*
 * Bytes of memory that may be pending at switch-over.  @by_wire: what the
 * bandwidth of the wire says, which stands for data that are not memory, and
 * when the user has said what the bandwidth will be.
 */
uint64_t migration_pipeline_threshold(MigrationState *s, uint64_t by_wire);

/*
 * As migration_pipeline_decide(), for a migration that the pipeline does not
 * drive, and that is not in postcopy.
 */
uint64_t migration_pipeline_decide_plain(MigrationState *s, uint64_t pending);

/* Of the migration under way, with @pending bytes known to be left */
PipelineSample migration_pipeline_sample(MigrationState *s, uint64_t pending);

#endif /* MIGRATION_PIPELINE_SWITCHOVER_H */
