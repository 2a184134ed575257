/*
 * Disk hot-plug: commands of QMP that attach disks and list them
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "attach.h"
#include "create.h"
#include "hooks.h"
#include "migration/misc.h"
#include "probe.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-disk.h"
#include "slots.h"
#include "still.h"
#include "waiting.h"

/*
 * True: an obstacle may go away by the deadline, or a hook must be called.  An
 * error is set if waiting is not allowed.
 */
static bool attach_waits(const DiskSpec *spec, Error **errp)
{
    bool may_wait = spec->has_deadline && spec->deadline;

    return disk_hooks_want(DISK_HOOK_POINT_BEFORE_ATTACH) ||
           disk_hooks_want(DISK_HOOK_POINT_AFTER_ATTACH) ||
           migration_is_running() ||
           !disk_graph_is_still(may_wait ? NULL : errp) ||
           !disk_storage_answers(spec, may_wait ? NULL : errp);
}

static DiskInfo *attach_now(DiskSpec *spec, Error **errp)
{
    Disk *disk = disk_attach_at(spec, NULL, errp);

    return disk ? disk_info(disk) : NULL;
}

/* Create the image; the attach continues in the background if it takes long. */
static DiskInfo *attach_create(DiskSpec *spec, Error **errp)
{
    if (!disk_create_begin(spec->id, spec->create, errp)) {
        return NULL;
    }
    if (!disk_create_ends_soon(spec->id)) {
        return disk_attach_waiting(spec, true, errp);
    }
    if (!disk_create_end(spec->id, errp)) {
        return NULL;
    }
    g_clear_pointer(&spec->create, qapi_free_BlockdevCreateOptions);
    return attach_now(spec, errp);
}

DiskInfo *qmp_disk_attach(DiskSpec *spec, Error **errp)
{
    ERRP_GUARD();

    if (spec->has_dry_run && spec->dry_run) {
        return disk_attach_try(spec, errp);
    }
    if (!disk_attach_check(spec, errp)) {
        return NULL;
    }
    if (spec->create && !spec->id) {
        error_setg(errp, "with 'create' the disk must have an 'id', since it "
                   "may have to wait for its image");
        return NULL;
    }
    if (attach_waits(spec, errp)) {
        return *errp ? NULL : disk_attach_waiting(spec, false, errp);
    }
    return spec->create ? attach_create(spec, errp) : attach_now(spec, errp);
}

DiskInfoList *qmp_query_disks(Error **errp)
{
    DiskInfoList *list = NULL, **tail = &list;
    Disk *disk;

    QTAILQ_FOREACH(disk, &disks, next) {
        QAPI_LIST_APPEND(tail, disk_info(disk));
    }
    disk_waiting_infos(tail);
    return list;
}

DiskSlotsList *qmp_query_disk_slots(Error **errp)
{
    return disk_slots();
}

void qmp_disk_slot_release(const char *place, int64_t address, Error **errp)
{
    if (address < 0 || address > UINT_MAX ||
        !disk_quarantine_end(place, address)) {
        error_setg(errp, "address %" PRId64 " of '%s' is not quarantined",
                   address, place);
    }
}
