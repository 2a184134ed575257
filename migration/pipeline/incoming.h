/*
 * Migration pipeline: the state of the incoming migration
 *
 * It belongs to MigrationIncomingState, and lives as long: until the process
 * ends.  It cannot end with migration_incoming_state_destroy(): after that the
 * guest runs while its memory is still read (lazy.h), and the user can ask for
 * the result.  That function resets what has been negotiated (hello.h) and ends
 * a restore that has failed (quick.h), so the next attempt starts clean.
 *
 * What both directions use is in MigrationState, as upstream's capabilities and
 * parameters are (current.h).
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_INCOMING_H
#define MIGRATION_PIPELINE_INCOMING_H

#include "migration/migration.h"

typedef struct MigrationPipelineIncoming {
    /* Each is private to the file with that name, whose header says how. */
    struct PipelineHello *hello;
    struct PipelineLazy *lazy;
    struct PipelineRestore *restore;        /* quick.c */
} MigrationPipelineIncoming;

/* Create mis->pipeline.  Main thread. */
void migration_pipeline_init_incoming(MigrationIncomingState *mis);

/* Any thread, after migration_object_init() */
static inline MigrationPipelineIncoming *migration_pipeline_incoming(void)
{
    return migration_incoming_get_current()->pipeline;
}

#endif /* MIGRATION_PIPELINE_INCOMING_H */
