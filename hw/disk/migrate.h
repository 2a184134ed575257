/*
 * Disk hot-plug: disks that migrate with a guest
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
 * The list of attached disks: a subsection of "configuration", the first
 * section of a stream.  It is absent if no disk is attached.
 */
extern const VMStateDescription vmstate_disk_list;

/* A text in the stream, followed by a zero byte in memory */
typedef struct DiskListText {
    char *text;
    uint32_t len, crc;
} DiskListText;

/* Write the result of @make; a failure is reported, and set in @f. */
int disk_list_put(QEMUFile *f, GString *(*make)(Error **errp));

/* Read a text, to be freed; a failure is reported, and negative. */
int disk_list_get(QEMUFile *f, DiskListText *text);

/* Report @err, and keep it for query-migrate if QEMU lives on; negative. */
int disk_list_failed(Error *err);

#endif /* HW_DISK_MIGRATE_H */
