/*
 * Migration pipeline: query-migrate-pipeline
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_INFO_H
#define MIGRATION_PIPELINE_INFO_H

#include "qapi/qapi-types-migration.h"
#include "qapi/qapi-types-pipeline.h"

/* Stage of a migration, on the source or the destination */
MigratePipelineStage migration_pipeline_stage(MigrationStatus status,
                                              bool source);

/* The state or report, to be freed by the caller.  Main thread. */
MigratePipelineInfo *migration_pipeline_info(void);

#endif /* MIGRATION_PIPELINE_INFO_H */
