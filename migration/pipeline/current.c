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

Pipeline pipeline;

static void __attribute__((constructor)) pipeline_construct(void)
{
    qemu_mutex_init(&pipeline.lock);
}

bool migration_pipeline_drives(MigrationState *s)
{
    QEMU_LOCK_GUARD(&pipeline.lock);
    return pipeline.on && pipeline.start_time == s->start_time;
}

bool migration_pipeline_greets(MigrationState *s)
{
    QEMU_LOCK_GUARD(&pipeline.lock);
    return pipeline.on && pipeline.greets;
}

void migration_pipeline_greeted(void)
{
    QEMU_LOCK_GUARD(&pipeline.lock);
    pipeline.greets = false;
}
