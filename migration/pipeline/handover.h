/*
 * Migration pipeline: ownership in the volume decides which side runs the guest
 *
 * A guest with disks in cluster shared volumes (block/csv) runs where its disks
 * are owned.  At switch-over the source releases the disks with a token, which
 * travels in the migration stream; the destination claims them with it, and
 * only then starts the guest.  Whatever is lost on the way, messages, a process
 * or a link: both sides use the same compare-and-write on the volume, and the
 * side that gets the disks runs.
 *
 * These functions have no effect for a guest without such disks.
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
typedef struct PipelineHandover PipelineHandover;

/*
 * For MigrationPipeline: the section of the stream with the token, for both
 * directions.  It is registered here.
 */
PipelineHandover *migration_handover_new(void);

/*
 * Source, if the return path would not be opened otherwise: whether to open it,
 * for the destination's acknowledgement that it has the disks.  True only for a
 * socket: with a file or a command, the other side may not be listening yet.
 */
bool migration_handover_wants_return_path(MigrationState *s);

/*
 * Source, in the migration thread without BQL, on an error after the guest's
 * state was sent: true if the destination has the disks, so that the migration
 * did complete.  Otherwise the disks are ours again, or cannot be taken back,
 * and the migration failed.
 */
bool migration_handover_completed(MigrationState *s);

/*
 * Destination, in the main thread, when the guest's state is loaded and it is
 * about to be started: claim the disks, and activate all others.  If either
 * fails, claimed disks are given back and the incoming migration fails: the
 * source is told and resumes; this process exits as after any loading error.
 */
bool migration_handover_accept(MigrationIncomingState *mis);

/*
 * The same with postcopy, when the device state is loaded and memory is still
 * arriving.  If the guest must not start, this returns false or exits: the
 * connection to the source ends, and the source resumes.
 */
bool migration_handover_accept_postcopy(MigrationIncomingState *mis);

/*
 * Source, in the migration thread without BQL, when the connection is lost in
 * postcopy: true if the destination has not claimed the disks.  Then its guest
 * has not run, all of the memory is still here, the disks are ours again, and
 * the migration has failed.  False: recover as usual with postcopy.
 */
bool migration_handover_not_taken(MigrationState *s);

/*
 * Source, main or migration thread with BQL, when its migration has failed and
 * its disks cannot be taken back: 'cont' may try again, since the volume
 * decides then.
 */
void migration_handover_stays_stopped(void);

#endif /* MIGRATION_PIPELINE_HANDOVER_H */
