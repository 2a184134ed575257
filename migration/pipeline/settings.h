/*
 * Migration pipeline: the settings of a migration
 *
 * Capabilities and parameters that the pipeline controls.  It sets its own
 * while it drives a migration, and restores the user's afterwards.
 *
 * Main thread.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_SETTINGS_H
#define MIGRATION_PIPELINE_SETTINGS_H

#include "qapi/qapi-types-migration.h"

typedef struct MigrationState MigrationState;

typedef struct PipelineSettings {
    bool return_path, auto_converge, dirty_limit, postcopy_ram, multifd;
    bool mapped_ram, xbzrle, zero_copy;
    MultiFDCompression compression;
    uint64_t max_bandwidth, downtime_limit;
} PipelineSettings;

PipelineSettings migration_settings_get(MigrationState *s);
void migration_settings_apply(MigrationState *s, const PipelineSettings *p);

/*
 * May the pipeline start a migration now?  If not, false and an error: one is
 * in progress, or there are incompatible settings.
 */
bool migration_settings_may_start(Error **errp);

#endif /* MIGRATION_PIPELINE_SETTINGS_H */
