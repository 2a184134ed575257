/*
 * Disk hot-plug: attach
 *
 * Each step records in the Disk what it has created; if one fails,
 * disk_release() undoes all of them.  The device comes last, because it is
 * visible to the guest.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "attach.h"
#include "block/block-global-state.h"
#include "block/block_int.h"
#include "block/csv.h"
#include "hw/boards.h"
#include "identity.h"
#include "migration/misc.h"
#include "monitor/qdev.h"
#include "probe.h"
#include "qapi/clone-visitor.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-block-core.h"
#include "qapi/qapi-types-qom.h"
#include "qapi/qapi-visit-block-core.h"
#include "qapi/qapi-visit-disk.h"
#include "qemu/id.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "qobject/qdict.h"
#include "qobject/qnum.h"
#include "qom/object_interfaces.h"
#include "release.h"
#include "slots.h"
#include "still.h"
#include "system/runstate.h"

/* Checks of the spec itself */

static bool attach_id_is_free(const char *id, Error **errp)
{
    if (!id_wellformed(id)) {
        error_setg(errp, "'id' must be an identifier, not '%s': a letter, then "
                   "letters, digits, '-', '.' and '_'", id);
        return false;
    }
    if (disk_find(id) || disk_name_is_reserved(id) ||
        object_resolve_path_component(machine_get_container("peripheral"),
                                      id)) {
        error_setg(errp, "there is a device '%s' already", id);
        return false;
    }
    return true;
}

/* Options to open its node; NULL if it exists already. */
static BlockdevOptions *attach_opens(const DiskSpec *spec)
{
    return spec->blockdev->type == QTYPE_QDICT ?
           &spec->blockdev->u.definition : NULL;
}

static bool attach_check(Disk *disk, const DiskSpec *spec, Error **errp)
{
    if (spec->create && !attach_opens(spec)) {
        error_setg(errp, "with 'create', 'blockdev' must say how to open the "
                   "image");
        return false;
    }
    if (spec->throttle && spec->throttle_group) {
        error_setg(errp, "only one of 'throttle' and 'throttle-group' can be "
                   "given");
        return false;
    }
    if ((spec->iothread || spec->has_queues) &&
        (!spec->has_bus || spec->bus != DISK_BUS_VIRTIO_BLK)) {
        error_setg(errp, "'iothread' and 'queues' are for 'bus': 'virtio-blk'; "
                   "a SCSI disk has those of its controller");
        return false;
    }
    if (spec->serial && (!*spec->serial ||
                         strlen(spec->serial) > DISK_SERIAL_LEN)) {
        error_setg(errp, "'serial' must have 1 to %d characters",
                   DISK_SERIAL_LEN);
        return false;
    }
    if (spec->uuid && qemu_uuid_parse(spec->uuid, &disk->uuid) < 0) {
        error_setg(errp, "'uuid' must be a UUID, not '%s'", spec->uuid);
        return false;
    }
    disk->has_uuid = spec->uuid;
    return true;
}

static bool attach_waits_for_migration(const DiskSpec *spec)
{
    return spec->has_on_migration &&
           spec->on_migration == DISK_ON_MIGRATION_WAIT;
}

static bool attach_check_now(const DiskSpec *spec, Error **errp)
{
    if (spec->id && !attach_id_is_free(spec->id, errp)) {
        return false;
    }
    if (migration_is_running() && !attach_waits_for_migration(spec)) {
        error_setg(errp, "the guest is being migrated: attach the disk when "
                   "that is over, where the guest is then, or with "
                   "'on-migration': 'wait'");
        return false;
    }
    return true;
}

/* The node */

static bool attach_open(Disk *disk, const DiskSpec *spec, Error **errp)
{
    ERRP_GUARD();
    BlockdevOptions *opts = attach_opens(spec);

    if (!opts) {
        disk->node = g_strdup(spec->blockdev->u.reference);
        if (!bdrv_find_node(disk->node)) {
            error_setg(errp, "there is no block node '%s'", disk->node);
            return false;
        }
        return true;
    }
    if (!opts->node_name) {
        error_setg(errp, "'blockdev' needs a 'node-name'");
        return false;
    }
    qmp_blockdev_add(opts, errp);
    if (*errp) {
        return false;
    }
    disk->node = g_strdup(opts->node_name);
    disk->own_node = g_strdup(opts->node_name);
    return true;
}

/* Identity */

char *disk_node_filename(const char *node)
{
    BlockDriverState *bs = bdrv_find_node(node);

    GRAPH_RDLOCK_GUARD_MAINLOOP();
    bdrv_refresh_filename(bs);
    return g_strdup(bs->filename);
}

static QemuUUID attach_uuid(const char *node)
{
    g_autofree char *name = disk_node_filename(node);
    BlockDriverState *bs = bdrv_find_node(node);
    QemuUUID uuid;

    GRAPH_RDLOCK_GUARD_MAINLOOP();
    return csv_node_uuid(bdrv_skip_filters(bs), &uuid) ? uuid :
           disk_uuid_of_name(name);
}

static bool attach_identify(Disk *disk, const DiskSpec *spec, Error **errp)
{
    if (!disk->has_uuid) {
        disk->uuid = attach_uuid(disk->node);
        disk->has_uuid = true;
    }
    disk->serial = spec->serial ? g_strdup(spec->serial) :
                                  disk_serial(&disk->uuid);
    disk->id = spec->id ? g_strdup(spec->id) : disk_default_id(&disk->uuid);
    return spec->id || attach_id_is_free(disk->id, errp);
}

/* Its limits */

static bool attach_throttle(Disk *disk, const DiskSpec *spec, Error **errp)
{
    ERRP_GUARD();
    g_autofree char *name = g_strdup_printf("%s.throttle", disk->id);
    g_autoptr(BlockdevOptions) filter = g_new0(BlockdevOptions, 1);

    if (!spec->throttle && !spec->throttle_group) {
        return true;
    }
    if (spec->throttle) {
        g_autoptr(ObjectOptions) group = g_new0(ObjectOptions, 1);

        group->qom_type = OBJECT_TYPE_THROTTLE_GROUP;
        group->id = g_strdup(name);
        group->u.throttle_group.limits = QAPI_CLONE(ThrottleLimits,
                                                    spec->throttle);
        user_creatable_add_qapi(group, errp);
        if (*errp) {
            return false;
        }
        disk->own_group = g_strdup(name);
    }
    filter->driver = BLOCKDEV_DRIVER_THROTTLE;
    filter->node_name = g_strdup(name);
    filter->u.throttle.throttle_group =
        g_strdup(spec->throttle ? name : spec->throttle_group);
    filter->u.throttle.file = g_new0(BlockdevRef, 1);
    filter->u.throttle.file->type = QTYPE_QSTRING;
    filter->u.throttle.file->u.reference = g_strdup(disk->node);
    qmp_blockdev_add(filter, errp);
    if (*errp) {
        return false;
    }
    disk->own_filter = g_strdup(name);
    return true;
}

static bool attach_iothread(Disk *disk, const DiskSpec *spec, Error **errp)
{
    ERRP_GUARD();
    g_autoptr(ObjectOptions) opts = NULL;

    if (!spec->iothread ||
        object_resolve_path_component(object_get_objects_root(),
                                      spec->iothread)) {
        return true;
    }
    opts = g_new0(ObjectOptions, 1);
    opts->qom_type = OBJECT_TYPE_IOTHREAD;
    opts->id = g_strdup(spec->iothread);
    user_creatable_add_qapi(opts, errp);
    if (*errp) {
        return false;
    }
    disk->own_iothread = g_strdup(spec->iothread);
    return true;
}

/* The device */

const char *disk_driver(DiskBus bus)
{
    static const char *const drivers[] = {
        [DISK_BUS_SCSI] = "scsi-hd",
        [DISK_BUS_VIRTIO_BLK] = "virtio-blk-pci",
        [DISK_BUS_NVME] = "nvme",
    };

    return drivers[bus];
}

static QDict *attach_device_options(const Disk *disk, const DiskSpec *spec)
{
    g_autofree char *addr = g_strdup_printf("%x", disk->place.address);
    QDict *opts = qdict_new();

    qdict_put_str(opts, "driver", disk_driver(disk->place.bus));
    qdict_put_str(opts, "id", disk->id);
    qdict_put_str(opts, "bus", disk->place.name);
    qdict_put_str(opts, "drive", disk->own_filter ?: disk->node);
    qdict_put_str(opts, "serial", disk->serial);
    if (spec->has_share_rw) {
        qdict_put_bool(opts, "share-rw", spec->share_rw);
    }
    if (disk->place.bus == DISK_BUS_SCSI) {
        qdict_put_int(opts, "channel", 0);
        qdict_put_int(opts, "scsi-id", disk->place.address);
        qdict_put_int(opts, "lun", 0);
        qdict_put(opts, "wwn", qnum_from_uint(disk->wwn));
        return opts;
    }
    qdict_put_str(opts, "addr", addr);
    if (spec->iothread) {
        qdict_put_str(opts, "iothread", spec->iothread);
    }
    if (spec->has_queues) {
        qdict_put_int(opts, "num-queues", spec->queues);
    }
    return opts;
}

static bool attach_device(Disk *disk, const DiskSpec *spec, Error **errp)
{
    g_autoptr(QDict) opts = attach_device_options(disk, spec);

    disk->dev = qdev_device_add_from_qdict(opts, true, errp);
    if (!disk->dev) {
        /* The failed device releases the node later, without the BQL. */
        drain_call_rcu();
        return false;
    }
    disk->state = DISK_STATE_ATTACHED;
    disk_watch(disk);
    object_unref(OBJECT(disk->dev));
    return true;
}

/* Complete attach */

static bool attach_place(Disk *disk, const DiskSpec *spec,
                         const DiskPlace *at, Error **errp)
{
    if (at && !disk_place_check(at, errp)) {
        return false;
    }
    if (at) {
        disk->place = *at;
        disk->place.name = g_strdup(at->name);
    } else if (!disk_place_find(spec->has_bus ? spec->bus : DISK_BUS_AUTO,
                                &disk->place, errp)) {
        return false;
    }
    if (disk->place.bus == DISK_BUS_SCSI && disk->has_uuid) {
        disk->wwn = spec->has_wwn ? spec->wwn : disk_wwn(&disk->uuid);
    } else if (spec->has_wwn) {
        error_setg(errp, "a disk on bus '%s' has no 'wwn'",
                   DiskBus_str(disk->place.bus));
        return false;
    }
    return true;
}

/* The identity of an image that does not exist yet is unknown. */
static bool attach_plan(Disk *disk, const DiskSpec *spec, Error **errp)
{
    if (spec->create) {
        disk->node = g_strdup(attach_opens(spec)->node_name ?: "");
        disk->id = g_strdup(spec->id ?: "");
        return attach_place(disk, spec, NULL, errp);
    }
    return attach_open(disk, spec, errp) &&
           attach_identify(disk, spec, errp) &&
           attach_place(disk, spec, NULL, errp);
}

static bool attach(Disk *disk, const DiskSpec *spec, const DiskPlace *at,
                   Error **errp)
{
    return attach_open(disk, spec, errp) &&
           attach_identify(disk, spec, errp) &&
           attach_throttle(disk, spec, errp) &&
           attach_iothread(disk, spec, errp) &&
           attach_place(disk, spec, at, errp) &&
           attach_device(disk, spec, errp);
}

static DiskSpec *attach_remember(const DiskSpec *spec)
{
    DiskSpec *copy = QAPI_CLONE(DiskSpec, spec);

    copy->has_deadline = copy->has_on_migration = false;
    return copy;
}

Disk *disk_attach_at(const DiskSpec *spec, const DiskPlace *at, Error **errp)
{
    Disk *disk = g_new0(Disk, 1);

    assert(!spec->create);
    if (!attach_check(disk, spec, errp) || !attach_check_now(spec, errp) ||
        !attach(disk, spec, at, errp)) {
        disk_release(disk);
        return NULL;
    }
    disk->spec = attach_remember(spec);
    disk->opened = disk_node_filename(disk->node);
    return disk;
}

DiskInfo *disk_attach_try(const DiskSpec *spec, Error **errp)
{
    Disk *disk = g_new0(Disk, 1);
    DiskInfo *info = NULL;

    if (attach_check(disk, spec, errp) && attach_check_now(spec, errp) &&
        disk_graph_is_still(errp) && disk_storage_answers(spec, errp) &&
        attach_plan(disk, spec, errp)) {
        info = disk_info(disk);
    }
    disk_release(disk);
    return info;
}

char *disk_spec_node(const DiskSpec *spec)
{
    const BlockdevOptions *opts = attach_opens(spec);

    return g_strdup(opts ? opts->node_name : spec->blockdev->u.reference);
}

bool disk_attach_check(const DiskSpec *spec, Error **errp)
{
    g_autofree Disk *disk = g_new0(Disk, 1);
    g_autofree char *node = disk_spec_node(spec);

    if (!node) {
        error_setg(errp, "'blockdev' needs a 'node-name'");
        return false;
    }
    return attach_check(disk, spec, errp) && attach_check_now(spec, errp);
}
