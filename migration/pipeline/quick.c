/*
 * Migration pipeline: quick migration, through the volume
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/csv.h"
#include "migration/channel.h"
#include "migration/migration.h"
#include "migration/multifd.h"
#include "migration/options.h"
#include "migration/qemu-file.h"
#include "migration/ram.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-migration.h"
#include "qapi/qapi-commands-pipeline.h"
#include "qapi/qapi-events-pipeline.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "system/runstate.h"
#include "current.h"
#include "incoming.h"
#include "lazy.h"
#include "pipeline.h"
#include "quick.h"
#include "state.h"

struct PipelineSave {
    PipelineState *state;       /* atomic; NULL: none is being saved */
    char *name;                 /* of the last one, for the user; or NULL */
};

struct PipelineRestore {
    PipelineState *state;       /* NULL: none is being restored */
    char *name;                 /* of the last one, for the user; or NULL */
    bool lazy;                  /* memory is read later */
    bool accepted;              /* the guest runs, or may be started */

    /* as the user had them */
    bool mapped_ram, multifd;
};

PipelineSave *migration_quick_save_new(void)
{
    return g_new0(PipelineSave, 1);
}

PipelineRestore *migration_quick_restore_new(void)
{
    return g_new0(PipelineRestore, 1);
}

/* The state that is being saved, or NULL; any thread */
static PipelineState *quick_saved(void)
{
    return qatomic_read(&migration_pipeline()->save->state);
}

/* The state that is being restored, or NULL */
static PipelineState *quick_restored(void)
{
    return migration_pipeline_incoming()->restore->state;
}

/* Source */

bool migration_quick_begin(const char *name, Error **errp)
{
    PipelineSave *save = migration_pipeline()->save;
    PipelineState *state = save->state ?: quick_restored();

    if (migrate_tls()) {
        error_setg(errp, "'tls-creds' is set, and a state is written to the "
                   "volume as it is; clear it with migrate-set-parameters if "
                   "that may be");
        return false;
    }
    if (state) {
        error_setg(errp, "the state '%s' is still in use",
                   pipeline_state_name(state));
        return false;
    }
    state = pipeline_state_create(name, ram_bytes_total(), errp);
    if (state) {
        g_free(save->name);
        save->name = g_strdup(pipeline_state_name(state));
        qatomic_set(&save->state, state);
    }
    return state;
}

bool migration_quick_saves(void)
{
    return quick_saved();
}

bool migration_quick_connect(MigrationState *s)
{
    PipelineState *state = quick_saved();
    QIOChannel *ioc;

    if (!state) {
        return false;
    }
    ioc = pipeline_state_channel(state);
    migration_channel_connect(s, ioc, NULL, NULL);
    object_unref(OBJECT(ioc));
    return true;
}

bool migration_quick_send_channel(void *opaque)
{
    PipelineState *state = quick_saved();

    if (!state) {
        return false;
    }
    multifd_channel_connect(opaque, pipeline_state_channel(state));
    multifd_send_channel_created();
    return true;
}

bool migration_quick_finish(MigrationState *s)
{
    PipelineState *state = quick_saved();
    Error *err = NULL;
    QemuUUID token;

    if (!state || qemu_file_get_error(s->to_dst_file)) {
        return true;
    }
    bql_lock();
    token = csv_handover_token();
    bql_unlock();
    if (pipeline_state_finish(state, &token, &err)) {
        return true;
    }
    migrate_set_error(s, err);
    error_free(err);
    return false;
}

void migration_quick_end(bool completed)
{
    PipelineState *state = qatomic_xchg(&migration_pipeline()->save->state,
                                        NULL);

    if (state && !completed) {
        pipeline_state_drop(state);
    }
    pipeline_state_unref(state);
}

/* Destination */

static void quick_accept_bh(void *opaque)
{
    QIOChannel *ioc = opaque;

    migration_channel_process_incoming(ioc);
    object_unref(OBJECT(ioc));
}

bool migration_quick_accept(void)
{
    PipelineState *state = quick_restored();
    unsigned channels = 1;

    if (!state) {
        return false;
    }
    if (migrate_multifd()) {
        channels += migrate_multifd_channels();
    }
    while (channels--) {
        aio_bh_schedule_oneshot(qemu_get_aio_context(), quick_accept_bh,
                                pipeline_state_channel(state));
    }
    return true;
}

void migration_quick_accepted(void)
{
    PipelineRestore *restore = migration_pipeline_incoming()->restore;

    if (restore->state) {
        restore->accepted = true;
        if (restore->lazy) {
            migration_lazy_complete();
        }
    }
}

static void quick_close(void)
{
    PipelineRestore *restore = migration_pipeline_incoming()->restore;

    pipeline_state_unref(g_steal_pointer(&restore->state));
}

/* All memory has been read. */
static void quick_done(void)
{
    QemuUUID token = csv_handover_token();

    /* Until the disks are claimed, another process may take them. */
    if (qemu_uuid_is_null(&token)) {
        pipeline_state_drop(quick_restored());
    }
    quick_close();
    qapi_event_send_migrate_pipeline_stage(MIGRATE_PIPELINE_STAGE_COMPLETED);
}

void migration_quick_loaded(void)
{
    PipelineRestore *restore = migration_pipeline_incoming()->restore;
    bool *caps = migrate_get_current()->capabilities;

    if (!restore->state) {
        return;
    }
    caps[MIGRATION_CAPABILITY_MAPPED_RAM] = restore->mapped_ram;
    caps[MIGRATION_CAPABILITY_MULTIFD] = restore->multifd;
    if (!restore->accepted) {
        migration_lazy_end();
        quick_close();
    } else if (!restore->lazy) {
        quick_done();
    }
}

void migration_quick_shutdown(void)
{
    if (migration_lazy_active()) {
        /* Without its memory the guest must not run. */
        vm_shutdown();
        migration_lazy_end();
    }
    quick_close();
    if (migration_quick_saves()) {
        migration_cancel();
    }
    /* Its nodes must be closed before all others. */
    while (migration_quick_saves()) {
        bql_unlock();
        g_usleep(SCALE_MS / 1000);
        bql_lock();
        aio_poll(qemu_get_aio_context(), false);
    }
}

void qmp_migrate_pipeline_restore(const char *state, bool has_lazy, bool lazy,
                                  Error **errp)
{
    ERRP_GUARD();
    PipelineRestore *restore = migration_pipeline_incoming()->restore;
    bool *caps = migrate_get_current()->capabilities;
    PipelineState *opened;
    Error *why = NULL;

    if (!runstate_check(RUN_STATE_INMIGRATE) ||
        migration_incoming_get_current()->state != MIGRATION_STATUS_NONE) {
        error_setg(errp, "this QEMU waits for no state of a guest; start one "
                   "with '-incoming defer'");
        return;
    }
    opened = pipeline_state_open(state, errp);
    if (!opened) {
        return;
    }
    g_clear_pointer(&migration_pipeline()->save->name, g_free);
    g_free(restore->name);
    *restore = (PipelineRestore) {
        .state = opened,
        .name = g_strdup(pipeline_state_name(opened)),
        .lazy = !has_lazy || lazy,
        .mapped_ram = caps[MIGRATION_CAPABILITY_MAPPED_RAM],
        .multifd = caps[MIGRATION_CAPABILITY_MULTIFD],
    };
    if (restore->lazy && !migration_lazy_begin(opened, quick_done, &why)) {
        warn_reportf_err(why, "all memory is read before the guest runs: ");
        restore->lazy = false;
    }
    caps[MIGRATION_CAPABILITY_MAPPED_RAM] = true;
    caps[MIGRATION_CAPABILITY_MULTIFD] = !restore->lazy;
    qmp_migrate_incoming("file:state", false, NULL, true, false, errp);
    if (*errp) {
        migration_quick_loaded();
    }
}

MigratePipelineState *migration_quick_info(void)
{
    PipelineSave *save = migration_pipeline()->save;
    PipelineRestore *restore = migration_pipeline_incoming()->restore;
    MigratePipelineState *info;
    LazyInfo lazy;

    if (!save->name && !restore->name) {
        return NULL;
    }
    info = g_new0(MigratePipelineState, 1);
    info->disk = g_strdup(save->name ?: restore->name);
    if (!save->name && migration_lazy_info(&lazy)) {
        info->has_total = info->has_remaining = info->has_faults = true;
        info->total = lazy.total;
        info->remaining = lazy.remaining;
        info->faults = lazy.faults;
        if (lazy.error) {
            info->error = g_strdup(strerror(-lazy.error));
        }
    }
    return info;
}
