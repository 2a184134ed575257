/*
 * Migration pipeline: the history of a guest's blackouts
 *
 * Each QEMU process sees one arrival and one departure of a guest.  So the
 * durations of blackouts (costs.h) migrate with the guest, in a section of the
 * stream negotiated in the greeting; docs/interop/migration-pipeline.rst has
 * its format.  The destination adds a row for the blackout that it ends.
 *
 * In MigrationState it outlives both migrations, and is never reset.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_HISTORY_H
#define MIGRATION_PIPELINE_HISTORY_H

#include "qapi/qapi-types-pipeline.h"
#include "costs.h"

typedef struct MigrationIncomingState MigrationIncomingState;
typedef struct PipelineBlackouts PipelineBlackouts;

/*
 * For MigrationPipeline: an empty history.  The section of the stream, for both
 * directions, is registered here.
 */
PipelineBlackouts *migration_history_new(void);

/*
 * Source, main thread: a migration begins.  @disks: disks are handed over in a
 * volume.
 */
void migration_history_begin(bool disks);

/* Source, main thread: whether the destination accepts the history */
void migration_history_agreed(bool yes);

/*
 * Source, main thread: set the round-trip time on the wire, in microseconds.
 * It is kept until the next migration begins.
 */
void migration_history_round_trip(int64_t time);

/* That time, or 0 if unknown.  Any thread. */
int64_t migration_history_wire(void);

/*
 * Estimate the blackout without memory, the last sync, a flush and the round
 * trip.  Any thread.
 */
PipelineCosts migration_history_costs(void);

/* Destination, main thread: the guest runs here, and its blackout has ended. */
void migration_history_arrived(MigrationIncomingState *mis);

/* The same as a list for the user, to be freed by the caller.  Any thread. */
MigratePipelineCostList *migration_history_info(void);

#endif /* MIGRATION_PIPELINE_HISTORY_H */
