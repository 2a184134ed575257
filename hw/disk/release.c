/*
 * Disk hot-plug: releasing a disk
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/aio.h"
#include "detach.h"
#include "guest.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-block-core.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qom/object_interfaces.h"
#include "release.h"
#include "resize.h"
#include "slots.h"

/* A property that is released with the device */
#define WATCH   "disk-hotplug"

static void disk_del_node(Disk *disk, char **node)
{
    Error *err = NULL;

    if (*node) {
        qmp_blockdev_del(*node, &err);
        if (err) {
            warn_reportf_err(err, "disk '%s' is gone, but its node stays: ",
                             disk->id);
        }
        g_clear_pointer(node, g_free);
    }
}

static void disk_del_object(Disk *disk, char **id)
{
    Error *err = NULL;

    if (*id) {
        if (!user_creatable_del(*id, &err)) {
            warn_reportf_err(err, "disk '%s' is gone, but its object stays: ",
                             disk->id);
        }
        g_clear_pointer(id, g_free);
    }
}

void disk_release(Disk *disk)
{
    assert(!disk->dev);
    disk_resize_forget(disk);
    disk_del_node(disk, &disk->own_filter);
    disk_del_object(disk, &disk->own_group);
    disk_del_object(disk, &disk->own_iothread);
    disk_del_node(disk, &disk->own_node);
    qapi_free_DiskSpec(disk->spec);
    g_free(disk->opened);
    g_free(disk->place.name);
    g_free(disk->node);
    g_free(disk->serial);
    g_free(disk->id);
    g_free(disk);
}

static void disk_gone_bh(void *opaque)
{
    Disk *disk = opaque;
    Detach *d = detach_leave(disk);

    QTAILQ_REMOVE(&disks, disk, next);
    disk_guest_unhide(disk);
    disk_quarantine_begin(disk->place.name, disk->place.address);
    disk_release(disk);
    if (d) {
        detach_gone(d);
    }
}

/*
 * The device is being freed, in any thread, with the BQL; it has not released
 * its drive yet.  Releasing that may change the block graph, which polls in the
 * main context; so do it in a bottom half.
 */
static void disk_dev_gone(Object *obj, const char *name, void *opaque)
{
    Disk *disk = opaque;

    disk->dev = NULL;
    aio_bh_schedule_oneshot(iohandler_get_aio_context(), disk_gone_bh, disk);
}

static void disk_get_watch(Object *obj, Visitor *v, const char *name,
                           void *opaque, Error **errp)
{
    bool yes = true;

    visit_type_bool(v, name, &yes, errp);
}

void disk_watch(Disk *disk)
{
    object_property_add(OBJECT(disk->dev), WATCH, "bool", disk_get_watch, NULL,
                        disk_dev_gone, disk);
    QTAILQ_INSERT_TAIL(&disks, disk, next);
}
