/*
 * Migration pipeline: ownership in the volume decides which side runs the guest
 *
 * The token is sent as a device section.  Device state is saved after the disks
 * were inactivated (migration_switchover_start()), so the token in the section
 * is the one in the volumes, and a destination that has it has everything that
 * was sent before.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block-global-state.h"
#include "block/csv.h"
#include "io/channel-socket.h"
#include "io/channel-tls.h"
#include "migration/global_state.h"
#include "migration/migration.h"
#include "migration/misc.h"
#include "migration/options.h"
#include "migration/qemu-file.h"
#include "migration/vmstate.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "system/runstate.h"
#include "system/system.h"
#include "handover.h"
#include "quick.h"

/* The token on its way through the stream */
struct PipelineHandover {
    uint8_t token[16];
};

static bool csv_handover_vmstate_needed(void *opaque)
{
    QemuUUID token = csv_handover_token();

    return csv_handover_needed() && !qemu_uuid_is_null(&token);
}

static int csv_handover_pre_save(void *opaque)
{
    PipelineHandover *h = opaque;
    QemuUUID token = csv_handover_token();

    memcpy(h->token, token.data, sizeof(h->token));
    return 0;
}

static int csv_handover_post_load(void *opaque, int version_id)
{
    PipelineHandover *h = opaque;
    QemuUUID token;

    memcpy(token.data, h->token, sizeof(h->token));
    if (qemu_uuid_is_null(&token)) {
        error_report("csv-handover: the token in the stream is zero");
        return -EINVAL;
    }
    csv_handover_set_token(&token);
    return 0;
}

static const VMStateDescription vmstate_csv_handover = {
    .name = "csv-handover",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = csv_handover_vmstate_needed,
    .pre_save = csv_handover_pre_save,
    .post_load = csv_handover_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT8_ARRAY(token, PipelineHandover, 16),
        VMSTATE_END_OF_LIST()
    }
};

bool migration_handover_wants_return_path(MigrationState *s)
{
    QIOChannel *ioc = qemu_file_get_ioc(s->to_dst_file);

    if (!object_dynamic_cast(OBJECT(ioc), TYPE_QIO_CHANNEL_SOCKET) &&
        !object_dynamic_cast(OBJECT(ioc), TYPE_QIO_CHANNEL_TLS)) {
        return false;
    }
    return csv_handover_needed();
}

bool migration_handover_completed(MigrationState *s)
{
    Error *err = NULL;
    bool theirs = false;

    if (s->state != MIGRATION_STATUS_DEVICE) {
        return false;
    }

    BQL_LOCK_GUARD();
    if (!csv_handover_needed() || csv_handover_claim(&err)) {
        return false;
    }
    switch (csv_handover_outcome(NULL)) {
    case CSV_HANDOVER_THEIRS:
        warn_report("migration: the destination's last word was lost, but it "
                    "has the disks and runs the guest: %s",
                    error_get_pretty(err));
        WITH_QEMU_LOCK_GUARD(&s->error_mutex) {
            error_free(s->error);
            s->error = NULL;
        }
        theirs = true;
        break;
    default:
        /* migration_iteration_finish() tries again, and reports it. */
        break;
    }
    error_free(err);
    return theirs;
}

/* Activate the other disks, which the guest also needs. */
static bool handover_activate(Error **errp)
{
    ERRP_GUARD();

    bdrv_activate_all(errp);
    return !*errp;
}

bool migration_handover_accept(MigrationIncomingState *mis)
{
    MigrationState *s = migrate_get_current();
    RunState target = global_state_received() ? global_state_get_runstate()
                                              : RUN_STATE_RUNNING;
    Error *err = NULL;

    if (!csv_handover_needed() || !autostart || !runstate_is_live(target)) {
        /* The disks are claimed when the guest is started, by 'cont'. */
        migration_quick_accepted();
        return true;
    }
    if (csv_handover_claim_then(handover_activate, &err)) {
        migration_quick_accepted();
        return true;
    }

    error_prepend(&err, "load of migration failed: ");
    migrate_set_error(s, err);
    migrate_set_state(&mis->state, MIGRATION_STATUS_ACTIVE,
                      MIGRATION_STATUS_FAILED);
    /* Makes the last message to the source report a failure. */
    qemu_file_set_error(mis->from_src_file, -EBUSY);
    migration_incoming_state_destroy();
    if (mis->exit_on_error) {
        error_report_err(err);
        exit(EXIT_FAILURE);
    }
    error_free(err);
    return false;
}

bool migration_handover_accept_postcopy(MigrationIncomingState *mis)
{
    Error *err = NULL;

    if (!csv_handover_needed() ||
        csv_handover_claim_then(handover_activate, &err)) {
        return true;
    }
    error_prepend(&err, "the guest cannot be started here: ");
    if (mis->exit_on_error) {
        error_report_err(err);
        exit(EXIT_FAILURE);
    }
    migrate_set_error(migrate_get_current(), err);
    error_report_err(err);
    /* The source takes that for our exit, and takes the disks back. */
    qemu_file_shutdown(mis->from_src_file);
    return false;
}

bool migration_handover_not_taken(MigrationState *s)
{
    Error *err = NULL;

    BQL_LOCK_GUARD();
    /* With release-ram, part of the guest's memory is gone here. */
    if (!csv_handover_needed() || migrate_release_ram()) {
        return false;
    }
    if (!csv_handover_claim(&err)) {
        warn_reportf_err(err, "migration: the guest cannot run on here: ");
        return false;
    }
    migrate_set_state(&s->state, s->state, MIGRATION_STATUS_FAILED);
    return true;
}

void migration_handover_stays_stopped(void)
{
    if (csv_handover_needed() && runstate_check(RUN_STATE_FINISH_MIGRATE)) {
        runstate_set(RUN_STATE_POSTMIGRATE);
    }
}

PipelineHandover *migration_handover_new(void)
{
    PipelineHandover *h = g_new0(PipelineHandover, 1);

    vmstate_register(NULL, 0, &vmstate_csv_handover, h);
    return h;
}
