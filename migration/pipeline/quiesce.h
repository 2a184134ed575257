/*
 * Migration pipeline: write disks back before the guest stops
 *
 * Stopping the guest flushes all disks, which adds to the blackout.  So they
 * are flushed in the background, repeatedly while switch-over is near, so that
 * little is left to flush then.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_QUIESCE_H
#define MIGRATION_PIPELINE_QUIESCE_H

typedef struct PipelineQuiesce PipelineQuiesce;

/* For MigrationPipeline */
PipelineQuiesce *migration_quiesce_new(void);

/* Forget how long earlier rounds took.  Any thread. */
void migration_quiesce_reset(void);

/*
 * Migration thread: flush all disks in the background, unless such a round is
 * in progress or has just ended.
 */
void migration_quiesce(void);

/*
 * How long the last round took, in microseconds; -1 if none has ended since the
 * reset.  Flush errors are ignored: they will recur when the guest stops.  Any
 * thread.
 */
int64_t migration_quiesce_time(void);

#endif /* MIGRATION_PIPELINE_QUIESCE_H */
