/*
 * Disk hot-plug: the list of disks that goes with a guest
 *
 * docs/interop/disk-list.rst has the format.  Pure functions: what is in a text
 * may have been made to do harm.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_DISK_LIST_FORMAT_H
#define HW_DISK_LIST_FORMAT_H

#include "qapi/qapi-types-disk.h"
#include "qemu/units.h"

/* A text is not longer, in bytes */
#define DISK_LIST_MAX       MiB
/* Arrays and objects in it are not nested deeper */
#define DISK_LIST_DEPTH     64

/* Its text, to be freed; NULL and an error if that is too long */
GString *disk_list_write(const DiskManifest *list, Error **errp);

/* May a text have @len bytes? */
bool disk_list_check_len(size_t len, Error **errp);

uint32_t disk_list_crc(const char *text, size_t len);

/*
 * What is in the @len bytes of @text, which a zero byte follows; to be freed.
 * NULL and an error if it breaks a rule that is about the text alone.
 */
DiskManifest *disk_list_read(const char *text, size_t len, uint32_t crc,
                             Error **errp);

#endif /* HW_DISK_LIST_FORMAT_H */
