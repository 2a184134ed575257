/*
 * Migration pipeline: quick migration, through the volume
 *
 * The source saves the guest to a state in the volume (state.h) while it runs,
 * stops it for the rest, and releases its disks with a token, as in any
 * migration; the token is in the state.  The destination needs no connection to
 * the source: it opens the state, claims the disks with the token, and runs the
 * guest.  So here, too, the side that owns the disks runs the guest, and a
 * state can be restored only once.
 *
 * The state that is saved belongs to MigrationState, one that is restored to
 * MigrationIncomingState, each with a reference: the first until the migration
 * ends, the second until all memory is here, which can be long after loading.
 * A process uses one at a time.
 *
 * Main thread, with BQL, unless said otherwise.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_QUICK_H
#define MIGRATION_PIPELINE_QUICK_H

#include "qapi/qapi-types-pipeline.h"

typedef struct MigrationState MigrationState;
typedef struct PipelineRestore PipelineRestore;
typedef struct PipelineSave PipelineSave;

/* For MigrationPipeline, and for MigrationPipelineIncoming */
PipelineSave *migration_quick_save_new(void);
PipelineRestore *migration_quick_restore_new(void);

/* Source */

/*
 * Create the state @name, or one with a default name if that is NULL, for the
 * migration that is about to begin.
 */
bool migration_quick_begin(const char *name, Error **errp);

/* Whether the armed migration goes to a state; any thread */
bool migration_quick_saves(void);

/*
 * In place of the code for file: connect the migration, or a multifd thread
 * (any thread), to the state.  False if no state is being saved.
 */
bool migration_quick_connect(MigrationState *s);
bool migration_quick_send_channel(void *opaque);

/*
 * In the migration thread without BQL, when all is sent: mark the state as
 * complete, unless its file has an error, which the caller will find.  On
 * failure, false and an error in @s.
 */
bool migration_quick_finish(MigrationState *s);

/* The migration has ended: keep the state if it was @completed. */
void migration_quick_end(bool completed);

/* Destination */

/* In place of the code for file: load the guest from the state. */
bool migration_quick_accept(void);

/* The guest's disks have been claimed, and it is about to run. */
void migration_quick_accepted(void);

/* Loading has ended, whether or not it succeeded. */
void migration_quick_loaded(void);

/* QEMU ends. */
void migration_quick_shutdown(void);

/* Information about the last state, or NULL; to be freed by the caller */
MigratePipelineState *migration_quick_info(void);

#endif /* MIGRATION_PIPELINE_QUICK_H */
