/*
 * Disk hot-plug: places that exist from the start
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "monitor/qdev.h"
#include "provision.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qobject/qdict.h"

/*
 * The same on all hosts, since it is guest-visible: a slot near the end, which
 * QEMU does not assign by itself.
 */
#define CONTROLLER_ID       "disks"
#define CONTROLLER_ADDR     "1e"

static bool wanted;

static bool disk_get_hotplug(Object *obj, Error **errp)
{
    return wanted;
}

static void disk_set_hotplug(Object *obj, bool value, Error **errp)
{
    wanted = value;
}

void disk_provision_class_init(ObjectClass *oc)
{
    object_class_property_add_bool(oc, "disk-hotplug", disk_get_hotplug,
                                   disk_set_hotplug);
    object_class_property_set_description(oc, "disk-hotplug",
        "Add a virtio-scsi controller with places for 256 disks");
}

void disk_provision(void)
{
    g_autoptr(QDict) opts = qdict_new();
    DeviceState *dev;
    Error *err = NULL;

    if (!wanted) {
        return;
    }
    qdict_put_str(opts, "driver", "virtio-scsi-pci");
    qdict_put_str(opts, "id", CONTROLLER_ID);
    qdict_put_str(opts, "addr", CONTROLLER_ADDR);
    dev = qdev_device_add_from_qdict(opts, true, &err);
    if (!dev) {
        error_reportf_err(err, "disk-hotplug=on needs slot 0x%s of the first "
                          "PCI bus and the id '%s': ", CONTROLLER_ADDR,
                          CONTROLLER_ID);
        exit(EXIT_FAILURE);
    }
    object_unref(OBJECT(dev));
}
