/*
 * Migration pipeline: the incoming migration
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/migration.h"
#include "hello.h"
#include "incoming.h"
#include "lazy.h"
#include "quick.h"

void migration_pipeline_init_incoming(MigrationIncomingState *mis)
{
    MigrationPipelineIncoming *mp = g_new0(MigrationPipelineIncoming, 1);

    mp->hello = migration_hello_new();
    mp->lazy = migration_lazy_new();
    mp->restore = migration_quick_restore_new();
    mis->pipeline = mp;
}
