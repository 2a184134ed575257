/*
 * Migration pipeline: quick migration, through the volume
 *
 * The source saves the guest to a state in the volume (state.h) while it runs,
 * stops it for the rest, and lets its disks go with a token, as in any
 * migration; the token is in the state.  The destination needs no connection
 * to the source: it opens the state, claims the disks with the token, and runs
 * the guest.  So it holds here as well that the side which has the disks runs,
 * and a state can be restored once only.
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

/* Source */

/*
 * Make the state @name, or one with a name of its own if that is NULL, for the
 * migration that is about to begin.
 */
bool migration_quick_begin(const char *name, Error **errp);

/* Whether the migration that is armed goes to a state; any thread */
bool migration_quick_saves(void);

/*
 * In place of what file: does: connect the migration to the state, or a thread
 * of multifd (any thread).  False if no state is being made.
 */
bool migration_quick_connect(MigrationState *s);
bool migration_quick_send_channel(void *opaque);

/*
 * In the migration thread without BQL, when all is sent: make the state
 * complete, unless its file has an error, which is for the caller to see.
 * False, and an error is set in @s, if that fails.
 */
bool migration_quick_finish(MigrationState *s);

/* The migration has ended: the state stays if it was @completed. */
void migration_quick_end(bool completed);

/* Destination */

/* In place of what file: does: take the guest in from the state. */
bool migration_quick_accept(void);

/* The guest's disks are here, and it is about to run. */
void migration_quick_accepted(void);

/* The load has ended, one way or the other. */
void migration_quick_loaded(void);

/* QEMU ends. */
void migration_quick_shutdown(void);

/* What there is to say about a state, or NULL; to be freed by the caller */
MigratePipelineState *migration_quick_info(void);

#endif /* MIGRATION_PIPELINE_QUICK_H */
