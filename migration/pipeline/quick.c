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
#include "lazy.h"
#include "pipeline.h"
#include "quick.h"
#include "state.h"

static struct {
    PipelineState *state;       /* saved to or restored from */
    bool saves;                 /* atomic: which of the two */
    bool lazy;                  /* memory is read later */
    bool accepted;              /* the guest runs, or may be started */
    char *name;                 /* of the last state, for the user */
    bool restored;              /* whether that was restored here */

    /* as the user had them */
    bool mapped_ram, multifd;
} quick;

static void quick_close(void)
{
    pipeline_state_unref(g_steal_pointer(&quick.state));
    qatomic_set(&quick.saves, false);
}

static void quick_open(PipelineState *state, bool saves)
{
    quick.state = state;
    g_free(quick.name);
    quick.name = g_strdup(pipeline_state_name(state));
    quick.restored = !saves;
    qatomic_set(&quick.saves, saves);
}

/* Source */

bool migration_quick_begin(const char *name, Error **errp)
{
    PipelineState *state;

    if (migrate_tls()) {
        error_setg(errp, "'tls-creds' is set, and a state is written to the "
                   "volume as it is; clear it with migrate-set-parameters if "
                   "that may be");
        return false;
    }
    if (quick.state) {
        error_setg(errp, "the state '%s' is still in use",
                   pipeline_state_name(quick.state));
        return false;
    }
    state = pipeline_state_create(name, ram_bytes_total(), errp);
    if (state) {
        quick_open(state, true);
    }
    return state;
}

bool migration_quick_saves(void)
{
    return qatomic_read(&quick.saves);
}

bool migration_quick_connect(MigrationState *s)
{
    QIOChannel *ioc;

    if (!migration_quick_saves()) {
        return false;
    }
    ioc = pipeline_state_channel(quick.state);
    migration_channel_connect(s, ioc, NULL, NULL);
    object_unref(OBJECT(ioc));
    return true;
}

bool migration_quick_send_channel(void *opaque)
{
    QIOChannel *ioc;

    if (!migration_quick_saves()) {
        return false;
    }
    ioc = pipeline_state_channel(quick.state);
    multifd_channel_connect(opaque, ioc);
    multifd_send_channel_created();
    return true;
}

bool migration_quick_finish(MigrationState *s)
{
    Error *err = NULL;
    QemuUUID token;

    if (!migration_quick_saves() || qemu_file_get_error(s->to_dst_file)) {
        return true;
    }
    bql_lock();
    token = csv_handover_token();
    bql_unlock();
    if (pipeline_state_finish(quick.state, &token, &err)) {
        return true;
    }
    migrate_set_error(s, err);
    error_free(err);
    return false;
}

void migration_quick_end(bool completed)
{
    if (migration_quick_saves()) {
        if (!completed) {
            pipeline_state_drop(quick.state);
        }
        quick_close();
    }
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
    unsigned channels = 1;

    if (!quick.state || migration_quick_saves()) {
        return false;
    }
    if (migrate_multifd()) {
        channels += migrate_multifd_channels();
    }
    while (channels--) {
        aio_bh_schedule_oneshot(qemu_get_aio_context(), quick_accept_bh,
                                pipeline_state_channel(quick.state));
    }
    return true;
}

static bool quick_restores(void)
{
    return quick.state && !migration_quick_saves();
}

void migration_quick_accepted(void)
{
    if (quick_restores()) {
        quick.accepted = true;
        if (quick.lazy) {
            migration_lazy_complete();
        }
    }
}

/* All memory has been read. */
static void quick_done(void)
{
    QemuUUID token = csv_handover_token();

    /* Until the disks are claimed, another process may take them. */
    if (qemu_uuid_is_null(&token)) {
        pipeline_state_drop(quick.state);
    }
    quick_close();
    qapi_event_send_migrate_pipeline_stage(MIGRATE_PIPELINE_STAGE_COMPLETED);
}

void migration_quick_loaded(void)
{
    bool *caps = migrate_get_current()->capabilities;

    if (!quick_restores()) {
        return;
    }
    caps[MIGRATION_CAPABILITY_MAPPED_RAM] = quick.mapped_ram;
    caps[MIGRATION_CAPABILITY_MULTIFD] = quick.multifd;
    if (!quick.accepted) {
        migration_lazy_end();
        quick_close();
    } else if (!quick.lazy) {
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
    if (migration_quick_saves()) {
        migration_cancel();
    } else {
        quick_close();
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
    quick_open(opened, false);
    quick.accepted = false;
    quick.lazy = !has_lazy || lazy;
    quick.mapped_ram = caps[MIGRATION_CAPABILITY_MAPPED_RAM];
    quick.multifd = caps[MIGRATION_CAPABILITY_MULTIFD];
    if (quick.lazy && !migration_lazy_begin(opened, quick_done, &why)) {
        warn_reportf_err(why, "all memory is read before the guest runs: ");
        quick.lazy = false;
    }
    caps[MIGRATION_CAPABILITY_MAPPED_RAM] = true;
    caps[MIGRATION_CAPABILITY_MULTIFD] = !quick.lazy;
    qmp_migrate_incoming("file:state", false, NULL, true, false, errp);
    if (*errp) {
        migration_quick_loaded();
    }
}

MigratePipelineState *migration_quick_info(void)
{
    MigratePipelineState *info;
    LazyInfo lazy;

    if (!quick.name) {
        return NULL;
    }
    info = g_new0(MigratePipelineState, 1);
    info->disk = g_strdup(quick.name);
    if (quick.restored && migration_lazy_info(&lazy)) {
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
