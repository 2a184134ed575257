/*
 * Migration pipeline: the volume is the arbiter of who runs the guest
 *
 * A guest whose disks are in cluster shared volumes (block/csv) runs where
 * its disks are owned.  At switch-over the source lets the disks go with a
 * token, which travels in the migration stream; the destination claims them
 * with it, and only then starts the guest.  Whatever is lost on the way,
 * messages, a process, a link: each side asks the volume, by the same
 * compare-and-write, and the side that gets the disks runs.
 *
 * Nothing here does anything for a guest without such disks.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_HANDOVER_H
#define MIGRATION_PIPELINE_HANDOVER_H

#include "qapi/qapi-types-migration.h"

typedef struct MigrationState MigrationState;
typedef struct MigrationIncomingState MigrationIncomingState;

/*
 * Source, when the return path would not be opened otherwise: should it be?
 * The destination's word that it has the disks comes this way.  Only over a
 * socket: with a file or a command nobody may be listening yet.
 */
bool migration_handover_wants_return_path(MigrationState *s);

/*
 * Source, in the migration thread without BQL, after the guest's state was
 * sent and something went wrong: true if the destination has the disks, so
 * that the migration did complete.  Otherwise the disks are ours again, or
 * cannot be had, and the migration failed.
 */
bool migration_handover_completed(MigrationState *s);

/*
 * Destination, in the main thread, when the guest's state is loaded and it
 * is about to be started: claim the disks, and activate all others.  If either
 * fails, what was claimed is given back and the incoming migration fails: the
 * source is told and goes on, this process exits as after any error in loading.
 */
bool migration_handover_accept(MigrationIncomingState *mis);

/*
 * The same with postcopy, when the device state is loaded and memory still
 * comes in.  False or the end of this process if the guest must not start: the
 * connection to the source ends, and the source goes on.
 */
bool migration_handover_accept_postcopy(MigrationIncomingState *mis);

/*
 * Source, in the migration thread without BQL, when the connection is lost in
 * postcopy: if the destination has not claimed the disks, its guest has not
 * run, and all of its memory is still here.  Then they are ours again and the
 * migration has failed: true.  False if it is as it ever is with postcopy.
 */
bool migration_handover_not_taken(MigrationState *s);

/*
 * Source, main or migration thread with BQL, when its migration has failed and
 * its disks cannot be had: 'cont' may try again, for the volume decides then.
 */
void migration_handover_stays_stopped(void);

#endif /* MIGRATION_PIPELINE_HANDOVER_H */
