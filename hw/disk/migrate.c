/*
 * Disk hot-plug: disks that migrate with a guest
 *
 * The list comes with the configuration, but is used a little later, by
 * load_setup(): then the machines are known to match, but nothing of the guest
 * has been read yet.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "attach.h"
#include "block/block-global-state.h"
#include "block/block_int.h"
#include "hw/boards.h"
#include "hw/hotplug.h"
#include "hw/pci/pci_device.h"
#include "hw/scsi/scsi.h"
#include "list-format.h"
#include "migrate.h"
#include "migration/migration.h"
#include "migration/qemu-file.h"
#include "migration/register.h"
#include "qapi/clone-visitor.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-block-core.h"
#include "qapi/qapi-visit-disk.h"
#include "qapi/qobject-input-visitor.h"
#include "qapi/qobject-output-visitor.h"
#include "qemu/coroutine.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "qobject/qdict.h"
#include "qobject/qstring.h"
#include "qom/object_interfaces.h"
#include "qom/qom-qobject.h"
#include "release.h"
#include "slots.h"
#include "system/runstate.h"

/* The root node of a device, including filters and snapshots */
static BlockDriverState *device_node(DeviceState *dev)
{
    g_autofree char *drive = object_property_get_str(OBJECT(dev), "drive",
                                                     &error_abort);

    return bdrv_lookup_bs(drive, drive, NULL);
}

/* Source: records */

static void replace(char **field, const char *value)
{
    g_free(*field);
    *field = g_strdup(value);
}

static BlockdevRef *reference(const char *node)
{
    BlockdevRef *ref = g_new0(BlockdevRef, 1);

    ref->type = QTYPE_QSTRING;
    ref->u.reference = g_strdup(node);
    return ref;
}

/*
 * NULL if the disk's node is below its device, with only filters between,
 * including its throttle; otherwise the node that is there.
 */
static char *record_other_node(const Disk *disk, bool *throttled)
{
    BlockDriverState *base = device_node(disk->dev);

    GRAPH_RDLOCK_GUARD_MAINLOOP();
    *throttled = false;
    for (BlockDriverState *bs = base; bs; bs = bdrv_filter_bs(bs)) {
        const char *name = bdrv_get_node_name(bs);

        if (g_str_equal(name, disk->node)) {
            return NULL;
        }
        if (disk->own_filter && g_str_equal(name, disk->own_filter)) {
            *throttled = true;
            base = bdrv_filter_bs(bs);
        }
    }
    return g_strdup(bdrv_get_node_name(bdrv_skip_implicit_filters(base)));
}

/* The current limits: they may have been changed through the group. */
static void record_limits(DiskRecord *r, const Disk *disk)
{
    Object *group = object_resolve_path_component(object_get_objects_root(),
                                                  disk->own_group);
    QObject *limits = object_property_get_qobject(group, "limits",
                                                  &error_abort);
    Visitor *v = qobject_input_visitor_new(limits);

    qapi_free_ThrottleLimits(r->throttle);
    visit_type_ThrottleLimits(v, NULL, &r->throttle, &error_abort);
    visit_free(v);
    qobject_unref(limits);
}

static void record_node(DiskRecord *r, const Disk *disk)
{
    bool throttled;
    g_autofree char *other = record_other_node(disk, &throttled);
    g_autofree char *now = disk_node_filename(other ?: disk->node);

    if (throttled && r->throttle) {
        record_limits(r, disk);
    } else if (!throttled) {
        g_clear_pointer(&r->throttle, qapi_free_ThrottleLimits);
        g_clear_pointer(&r->throttle_group, g_free);
    }
    if (other || !g_str_equal(now, disk->opened)) {
        /* The original options would now open something else. */
        qapi_free_BlockdevRef(r->blockdev);
        r->blockdev = reference(other ?: disk->node);
    }
}

static DiskRecord *record_new(const Disk *disk)
{
    DiskRecord *r = g_new0(DiskRecord, 1);

    QAPI_CLONE_MEMBERS(DiskSpec, qapi_DiskRecord_base(r), disk->spec);
    r->has_dry_run = false;
    replace(&r->id, disk->id);
    r->has_bus = true;
    r->bus = disk->place.bus;
    r->place = g_strdup(disk->place.name);
    r->address = disk->place.address;
    g_free(r->uuid);
    r->uuid = qemu_uuid_unparse_strdup(&disk->uuid);
    replace(&r->serial, disk->serial);
    r->has_wwn = disk->place.bus == DISK_BUS_SCSI;
    r->wwn = disk->wwn;
    record_node(r, disk);
    return r;
}

/* Source: the list */

static GString *list_make(Error **errp)
{
    g_autoptr(DiskManifest) list = g_new0(DiskManifest, 1);
    DiskRecordList **tail = &list->disks;
    Disk *disk;

    QTAILQ_FOREACH(disk, &disks, next) {
        if (!disk_has_device(disk)) {
            continue;
        }
        if (!device_node(disk->dev)) {
            /* When QEMU exits, nodes are closed before a migration ends. */
            error_setg(errp, "disk '%s' has no block node any more", disk->id);
            return NULL;
        }
        QAPI_LIST_APPEND(tail, record_new(disk));
    }
    return disk_list_write(list, errp);
}

static bool list_needed(void *opaque)
{
    Disk *disk;

    QTAILQ_FOREACH(disk, &disks, next) {
        if (disk_has_device(disk)) {
            return true;
        }
    }
    return false;
}

/* Refuse an impossible migration in the command. */
static int list_save_prepare(void *opaque, Error **errp)
{
    GString *text = list_make(errp);

    if (!text) {
        return -E2BIG;
    }
    g_string_free(text, true);
    return 0;
}

int disk_list_put(QEMUFile *f, GString *(*make)(Error **errp))
{
    Error *err = NULL;
    GString *text = make(&err);

    if (!text) {
        error_report_err(err);
        /*
         * The caller, which writes the configuration, does not expect errors.
         */
        qemu_file_set_error(f, -EINVAL);
        return 0;
    }
    qemu_put_be32(f, text->len);
    qemu_put_be32(f, disk_list_crc(text->str, text->len));
    qemu_put_buffer(f, (uint8_t *)text->str, text->len);
    g_string_free(text, true);
    return 0;
}

static int list_put(QEMUFile *f, void *pv, size_t size,
                    const VMStateField *field, JSONWriter *vmdesc)
{
    return disk_list_put(f, list_make);
}

/* Destination: the device of a record, if it already exists */

static DeviceState *record_device(const DiskRecord *r)
{
    Object *all = machine_get_container("peripheral");

    return (DeviceState *)object_resolve_path_component(all, r->id);
}

static bool device_same(const char *what, const char *here, const char *there,
                        Error **errp)
{
    if (g_str_equal(here, there)) {
        return true;
    }
    error_setg(errp, "there is a device with this id here, but its %s is '%s' "
               "instead of '%s'", what, here, there);
    return false;
}

static bool device_is_at(DeviceState *dev, const DiskRecord *r)
{
    if (r->bus == DISK_BUS_SCSI) {
        SCSIDevice *scsi = SCSI_DEVICE(dev);

        return !scsi->channel && scsi->id == r->address && !scsi->lun;
    }
    return PCI_SLOT(PCI_DEVICE(dev)->devfn) == r->address &&
           !PCI_FUNC(PCI_DEVICE(dev)->devfn);
}

static bool device_has_wwn(DeviceState *dev, const DiskRecord *r, Error **errp)
{
    uint64_t wwn = object_property_get_uint(OBJECT(dev), "wwn", &error_abort);

    if (wwn == r->wwn) {
        return true;
    }
    error_setg(errp, "there is a device with this id here, but its WWN is "
               "0x%" PRIx64 " instead of 0x%" PRIx64, wwn, r->wwn);
    return false;
}

static bool device_check(DeviceState *dev, const DiskRecord *r, Error **errp)
{
    g_autofree char *serial = NULL;

    if (!device_same("type", object_get_typename(OBJECT(dev)),
                     disk_driver(r->bus), errp)) {
        return false;
    }
    if (!dev->realized || !device_node(dev)) {
        error_setg(errp, "the device with this id here is not ready");
        return false;
    }
    if (!device_same("bus", dev->parent_bus->name, r->place, errp)) {
        return false;
    }
    if (!device_is_at(dev, r)) {
        error_setg(errp, "there is a device with this id here, but not at "
                   "address %u of bus '%s'", r->address, r->place);
        return false;
    }
    serial = object_property_get_str(OBJECT(dev), "serial", &error_abort);
    return device_same("serial number", serial, r->serial, errp) &&
           (r->bus != DISK_BUS_SCSI || device_has_wwn(dev, r, errp));
}

static bool record_check(const DiskRecord *r, Error **errp)
{
    DiskPlace at = { r->bus, r->place, r->address };
    DeviceState *dev = record_device(r);

    if (dev) {
        return device_check(dev, r, errp);
    }
    if (!runstate_check(RUN_STATE_INMIGRATE)) {
        /* The image would not match the snapshot. */
        error_setg(errp, "the snapshot has it, but it is not attached here: "
                   "attach it before the snapshot is loaded");
        return false;
    }
    return disk_place_check(&at, errp);
}

/* The device is the user's, and so are its nodes. */
static void record_adopt(const DiskRecord *r)
{
    Disk *disk;

    if (disk_find(r->id)) {
        return;
    }
    disk = g_new0(Disk, 1);
    disk->id = g_strdup(r->id);
    disk->state = DISK_STATE_ATTACHED;
    disk->place = (DiskPlace) { r->bus, g_strdup(r->place), r->address };
    disk->dev = record_device(r);
    disk->node = g_strdup(bdrv_get_node_name(device_node(disk->dev)));
    disk->opened = disk_node_filename(disk->node);
    disk->has_uuid = !qemu_uuid_parse(r->uuid, &disk->uuid);
    disk->serial = g_strdup(r->serial);
    disk->wwn = r->wwn;
    disk->spec = QAPI_CLONE(DiskSpec, qapi_DiskRecord_base(r));
    qapi_free_BlockdevRef(disk->spec->blockdev);
    disk->spec->blockdev = reference(disk->node);
    g_clear_pointer(&disk->spec->throttle, qapi_free_ThrottleLimits);
    g_clear_pointer(&disk->spec->throttle_group, g_free);
    disk_watch(disk);
}

/* Destination: missing disks */

static bool node_check(const char *name, Error **errp)
{
    if (bdrv_find_node(name)) {
        return true;
    }
    error_setg(errp, "there is no block node '%s' here: open it before the "
               "migration", name);
    return false;
}

/*
 * Do the nodes exist that are children of the node to open?  QEMU's own error
 * would not say what to do about it.
 */
static bool children_check(const QDict *opts, Error **errp)
{
    static const char *const names[] = { "file", "backing", "data-file" };

    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        QObject *child = qdict_get(opts, names[i]);
        QString *name = qobject_to(QString, child);
        QDict *inner = qobject_to(QDict, child);

        if ((name && !node_check(qstring_get_str(name), errp)) ||
            (inner && !children_check(inner, errp))) {
            return false;
        }
    }
    return true;
}

static bool nodes_check(const DiskRecord *r, Error **errp)
{
    QObject *opts = NULL;
    Visitor *v;
    bool ok;

    if (r->blockdev->type == QTYPE_QSTRING) {
        return node_check(r->blockdev->u.reference, errp);
    }
    v = qobject_output_visitor_new(&opts);
    visit_type_BlockdevRef(v, NULL, &((DiskRecord *)r)->blockdev, &error_abort);
    visit_complete(v, &opts);
    visit_free(v);
    ok = children_check(qobject_to(QDict, opts), errp);
    qobject_unref(opts);
    return ok;
}

/* The guest has not seen them yet. */
static void load_take_back(GSList *made)
{
    for (; made; made = made->next) {
        DeviceState *dev = ((Disk *)made->data)->dev;

        hotplug_handler_unplug(qdev_get_hotplug_handler(dev), dev,
                               &error_abort);
        object_unparent(OBJECT(dev));
    }
    /* They and their nodes are freed after an RCU grace period. */
    drain_call_rcu();
}

/* Adds the attached disks to @made, last one first. */
static bool load_record(const DiskRecord *r, GSList **made, Error **errp)
{
    DiskPlace at = { r->bus, r->place, r->address };
    Disk *disk;

    if (record_device(r)) {
        return true;
    }
    if (!nodes_check(r, errp)) {
        return false;
    }
    disk = disk_attach_at(qapi_DiskRecord_base(r), &at, errp);
    if (!disk) {
        return false;
    }
    *made = g_slist_prepend(*made, disk);
    return true;
}

static bool load_records(const DiskManifest *list, Error **errp)
{
    ERRP_GUARD();
    g_autoptr(GSList) made = NULL;
    DiskRecordList *e;

    for (e = list->disks; e; e = e->next) {
        if (!record_check(e->value, errp)) {
            error_prepend(errp, "disk '%s': ", e->value->id);
            return false;
        }
    }
    for (e = list->disks; e; e = e->next) {
        if (!load_record(e->value, &made, errp)) {
            error_prepend(errp, "disk '%s': ", e->value->id);
            load_take_back(made);
            return false;
        }
    }
    for (e = list->disks; e; e = e->next) {
        record_adopt(e->value);
    }
    return true;
}

/* Destination: the list */

/* The received list, until it is used */
static DiskListText incoming;

static int list_load_cleanup(void *opaque)
{
    g_clear_pointer(&incoming.text, g_free);
    return 0;
}

/* For a destination that lives on, and reports the error in query-migrate */
static void list_note(const Error *err)
{
    if (runstate_check(RUN_STATE_INMIGRATE)) {
        migrate_set_error(migrate_get_current(), err);
    }
}

int disk_list_failed(Error *err)
{
    list_note(err);
    error_report_err(err);
    return -EINVAL;
}

int disk_list_get(QEMUFile *f, DiskListText *text)
{
    Error *err = NULL;

    text->len = qemu_get_be32(f);
    text->crc = qemu_get_be32(f);
    /* A truncated stream is an error of the stream. */
    if (qemu_file_get_error(f)) {
        return -EIO;
    }
    if (!disk_list_check_len(text->len, &err)) {
        return disk_list_failed(err);
    }
    text->text = g_malloc0(text->len + 1);
    qemu_get_buffer(f, (uint8_t *)text->text, text->len);
    return 0;
}

static int list_get(QEMUFile *f, void *pv, size_t size,
                    const VMStateField *field)
{
    list_load_cleanup(NULL);
    return disk_list_get(f, &incoming);
}

typedef struct Load {
    Coroutine *co;              /* waiting coroutine, or NULL */
    Error **errp;
    bool ok;
} Load;

static void list_load(void *opaque)
{
    Load *load = opaque;
    g_autoptr(DiskManifest) list = disk_list_read(incoming.text, incoming.len,
                                                  incoming.crc, load->errp);

    load->ok = list && load_records(list, load->errp);
    if (load->co) {
        aio_co_wake(load->co);
    }
}

static int list_load_setup(QEMUFile *f, void *opaque, Error **errp)
{
    ERRP_GUARD();
    Load load = { .errp = errp };

    if (!incoming.text) {
        return 0;
    }
    if (qemu_in_coroutine()) {
        /*
         * Nodes must be opened, and devices plugged, outside of coroutines, and
         * not while other code does that and polls: so use the context of the
         * monitor.
         */
        load.co = qemu_coroutine_self();
        aio_bh_schedule_oneshot(iohandler_get_aio_context(), list_load, &load);
        qemu_coroutine_yield();
    } else {
        list_load(&load);
    }
    if (!load.ok) {
        list_note(*errp);
        return -EINVAL;
    }
    return 0;
}

static const VMStateInfo vmstate_info_disk_list = {
    .name = "disk-list",
    .get = list_get,
    .put = list_put,
};

const VMStateDescription vmstate_disk_list = {
    .name = "configuration/disk-list",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = list_needed,
    .fields = (const VMStateField[]) {
        {
            .name = "disks",
            .info = &vmstate_info_disk_list,
            .flags = VMS_SINGLE,
        },
        VMSTATE_END_OF_LIST()
    }
};

/* Such a section is never written. */
static int list_load_state(QEMUFile *f, void *opaque, int version_id)
{
    error_report("the list of disks is not where it should be");
    return -EINVAL;
}

static const SaveVMHandlers list_handlers = {
    .save_prepare = list_save_prepare,
    .load_state = list_load_state,
    .load_setup = list_load_setup,
    .load_cleanup = list_load_cleanup,
};

static void list_register(void)
{
    register_savevm_live("disk-list", 0, 1, &list_handlers, NULL);
}

migration_init(list_register);
