/*
 * Migration pipeline: the history of a guest's blackouts
 *
 * Each QEMU sees one arrival and one departure of a guest.  So what blackouts
 * took (costs.h) goes with the guest, in a section of the stream that both
 * sides have agreed on in the greeting; docs/interop/migration-pipeline.rst has
 * its format.  The destination adds the row of the blackout that it ends.
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

/*
 * Source, main thread: a migration begins.  @disks: they change hands in a
 * volume.
 */
void migration_history_begin(bool disks);

/* Source, main thread: the destination takes the history. */
void migration_history_agreed(bool yes);

/*
 * Source, main thread: a round trip on the wire takes so long, in microseconds.
 * That is known until the next migration begins.
 */
void migration_history_round_trip(int64_t time);

/* That, or 0 if it is not known.  Any thread. */
int64_t migration_history_wire(void);

/*
 * What a blackout takes besides memory, the last sync, a flush and the round
 * trip.  Any thread.
 */
PipelineCosts migration_history_costs(void);

/* Destination, main thread: the guest runs here, and its blackout has ended. */
void migration_history_arrived(MigrationIncomingState *mis);

/* The same as a list for the user, to be freed by the caller.  Any thread. */
MigratePipelineCostList *migration_history_info(void);

#endif /* MIGRATION_PIPELINE_HISTORY_H */
