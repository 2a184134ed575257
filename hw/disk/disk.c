/*
 * Disk hot-plug: the disks attached by disk-attach
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "disk.h"
#include "identity.h"
#include "qapi/error.h"

/* Names reserved for disks that are not attached yet */
static QTAILQ_HEAD(, DiskName) names = QTAILQ_HEAD_INITIALIZER(names);

DiskList disks = QTAILQ_HEAD_INITIALIZER(disks);

Disk *disk_find(const char *id)
{
    Disk *disk;

    QTAILQ_FOREACH(disk, &disks, next) {
        if (g_str_equal(disk->id, id)) {
            return disk;
        }
    }
    return NULL;
}

Disk *disk_find_plugged(const char *id, Error **errp)
{
    Disk *disk = disk_find(id);

    if (!disk || !disk_has_device(disk)) {
        error_setg(errp, "there is no disk '%s': 'query-disks' lists them", id);
        return NULL;
    }
    return disk;
}

void disk_name_reserve(DiskName *name, const char *id)
{
    assert(!name->id);
    name->id = g_strdup(id);
    QTAILQ_INSERT_TAIL(&names, name, next);
}

void disk_name_release(DiskName *name)
{
    if (name->id) {
        QTAILQ_REMOVE(&names, name, next);
        g_clear_pointer(&name->id, g_free);
    }
}

bool disk_name_is_reserved(const char *id)
{
    DiskName *name;

    QTAILQ_FOREACH(name, &names, next) {
        if (g_str_equal(name->id, id)) {
            return true;
        }
    }
    return false;
}

DiskInfo *disk_info(const Disk *disk)
{
    DiskInfo *info = g_new0(DiskInfo, 1);

    info->id = g_strdup(disk->id);
    info->state = disk->state;
    info->bus = disk->place.bus;
    info->node_name = g_strdup(disk->node);
    if (disk->dev) {
        info->device = object_get_canonical_path(OBJECT(disk->dev));
    }
    info->place = g_strdup(disk->place.name);
    info->address = disk->place.address;
    if (disk->has_uuid) {
        info->uuid = qemu_uuid_unparse_strdup(&disk->uuid);
    }
    if (disk->serial) {
        info->serial = g_strdup(disk->serial);
        info->guest_name = disk_guest_name(disk->place.bus, disk->serial,
                                           disk->wwn);
    }
    info->has_wwn = disk->wwn;
    info->wwn = disk->wwn;
    return info;
}
