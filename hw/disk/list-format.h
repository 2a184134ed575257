/*
 * Disk hot-plug: format of the list of disks that migrates with a guest
 *
 * See docs/interop/disk-list.rst.  Pure functions; a text may be malicious.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_DISK_LIST_FORMAT_H
#define HW_DISK_LIST_FORMAT_H

#include "qapi/qapi-types-disk.h"
#include "qemu/units.h"

/* Maximum size of a text, in bytes */
#define DISK_LIST_MAX       MiB
/* Maximum nesting of its arrays and objects */
#define DISK_LIST_DEPTH     64

/* Convert to text, to be freed; NULL and an error if it is too long */
GString *disk_list_write(const DiskManifest *list, Error **errp);

/* Is @len a valid size of a text? */
bool disk_list_check_len(size_t len, Error **errp);

uint32_t disk_list_crc(const char *text, size_t len);

/*
 * Parse the @len bytes of @text, followed by a zero byte; to be freed.  NULL
 * and an error if the text itself is invalid.
 */
DiskManifest *disk_list_read(const char *text, size_t len, uint32_t crc,
                             Error **errp);

#endif /* HW_DISK_LIST_FORMAT_H */
