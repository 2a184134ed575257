/*
 * Disk hot-plug: detaches in progress when a guest migrates
 *
 * The list of disks comes first in the stream, when the final state of detaches
 * is not known yet.  So they have their own section at the end, in the same
 * format: docs/interop/disk-list.rst.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "detach.h"
#include "list-format.h"
#include "migrate.h"
#include "migration/vmstate.h"
#include "qapi/error.h"
#include "slots.h"

static bool state_needed(void *opaque)
{
    return detach_any() || disk_slots_any_quarantine();
}

static GString *state_make(Error **errp)
{
    g_autoptr(DiskManifest) list = g_new0(DiskManifest, 1);

    detach_save(list);
    disk_slots_save(list);
    return disk_list_write(list, errp);
}

static int state_put(QEMUFile *f, void *pv, size_t size,
                     const VMStateField *field, JSONWriter *vmdesc)
{
    return disk_list_put(f, state_make);
}

static bool state_load(const DiskManifest *list, Error **errp)
{
    if (list->disks) {
        error_setg(errp, "the state of disks has a list of them");
        return false;
    }
    return disk_slots_load(list, errp) && detach_load(list, errp);
}

static int state_get(QEMUFile *f, void *pv, size_t size,
                     const VMStateField *field)
{
    g_autoptr(DiskManifest) list = NULL;
    DiskListText text = { 0 };
    Error *err = NULL;

    if (disk_list_get(f, &text) < 0) {
        return -EINVAL;
    }
    list = disk_list_read(text.text, text.len, text.crc, &err);
    g_free(text.text);
    if (!list || !state_load(list, &err)) {
        return disk_list_failed(err);
    }
    return 0;
}

static const VMStateInfo vmstate_info_disk_state = {
    .name = "disk-state",
    .get = state_get,
    .put = state_put,
};

static const VMStateDescription vmstate_disk_state = {
    .name = "disk-state",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = state_needed,
    .fields = (const VMStateField[]) {
        {
            .name = "state",
            .info = &vmstate_info_disk_state,
            .flags = VMS_SINGLE,
        },
        VMSTATE_END_OF_LIST()
    }
};

static void state_register(void)
{
    vmstate_register(NULL, 0, &vmstate_disk_state, NULL);
}

migration_init(state_register);
