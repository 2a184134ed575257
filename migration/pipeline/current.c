/*
 * Migration pipeline: the current migration
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/migration.h"
#include "qemu/lockable.h"
#include "current.h"

bool migration_pipeline_drives(MigrationState *s)
{
    MigrationPipeline *mp = migration_pipeline();

    QEMU_LOCK_GUARD(&mp->lock);
    return mp->on && mp->start_time == s->start_time;
}

bool migration_pipeline_greets(MigrationState *s)
{
    MigrationPipeline *mp = migration_pipeline();

    QEMU_LOCK_GUARD(&mp->lock);
    return mp->on && mp->greets;
}

void migration_pipeline_greeted(void)
{
    MigrationPipeline *mp = migration_pipeline();

    QEMU_LOCK_GUARD(&mp->lock);
    mp->greets = false;
}
