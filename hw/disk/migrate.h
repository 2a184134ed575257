/*
 * Disk hot-plug: disks that go with a guest
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_DISK_MIGRATE_H
#define HW_DISK_MIGRATE_H

#include "migration/qemu-file-types.h"
#include "migration/vmstate.h"

/*
 * The list of the attached disks: a subsection of "configuration", which is the
 * first thing in a stream.  It is not there when no disk is attached.
 */
extern const VMStateDescription vmstate_disk_list;

/* A text in the stream, which a zero byte follows in memory */
typedef struct DiskListText {
    char *text;
    uint32_t len, crc;
} DiskListText;

/* Write what @make makes; if that fails, it is reported, and @f has failed. */
int disk_list_put(QEMUFile *f, GString *(*make)(Error **errp));

/* Read a text, to be freed; negative and reported if it cannot be. */
int disk_list_get(QEMUFile *f, DiskListText *text);

/* Report @err, to whoever asks a destination that lives on, too; negative. */
int disk_list_failed(Error *err);

#endif /* HW_DISK_MIGRATE_H */
