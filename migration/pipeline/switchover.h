/*
 * Migration pipeline: when a plain migration switches over
 *
 * migration_iteration_run() compares what is pending, in bytes of memory, with
 * what can be sent within the limit of the downtime.  Here the latter is in
 * bytes of memory as well, whatever these take on the wire, and what the last
 * look at the dirty bitmap takes is not part of the time.
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

typedef struct MigrationState MigrationState;

/* Around each sync of the dirty bitmap */
void migration_pipeline_sync_begin(void);
void migration_pipeline_sync_end(void);

/*
 * Bytes of memory that may be pending at switch-over.  @by_wire: what the
 * bandwidth of the wire says, which stands for data that are not memory, and
 * when the user has said what the bandwidth will be.
 */
uint64_t migration_pipeline_threshold(MigrationState *s, uint64_t by_wire);

#endif /* MIGRATION_PIPELINE_SWITCHOVER_H */
