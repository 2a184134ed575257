/*
 * Disk hot-plug: identity of a disk in its guest
 *
 * Serial number and World Wide Name are the beginning of the disk's UUID, so
 * they are the same wherever and however often it is attached, and are easy to
 * match by eye.
 *
 * Pure functions.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_DISK_IDENTITY_H
#define HW_DISK_IDENTITY_H

#include "qapi/qapi-types-disk.h"
#include "qemu/uuid.h"

/* Maximum length for virtio-blk and NVMe disks */
#define DISK_SERIAL_LEN     20

/* 20 hexadecimal digits: the first 80 bits of @uuid.  To be freed. */
char *disk_serial(const QemuUUID *uuid);

/*
 * NAA 3, locally assigned, and the first 60 bits of @uuid.
 */
uint64_t disk_wwn(const QemuUUID *uuid);

/* The default id of a disk.  To be freed. */
char *disk_default_id(const QemuUUID *uuid);

/*
 * The link that udev makes in a Linux guest, to be freed.  @wwn is that of a
 * SCSI disk.
 */
char *disk_guest_name(DiskBus bus, const char *serial, uint64_t wwn);

/*
 * Is @text the serial number of that disk as reported by a guest agent?  Linux
 * agents report udev's ID_SERIAL, which has more in it than Windows' number.
 */
bool disk_guest_serial_is(const char *text, DiskBus bus, const char *serial,
                          uint64_t wwn);

/*
 * A UUID for a disk without one: from this project's name space and @name (RFC
 * 4122, version 5).
 */
QemuUUID disk_uuid_of_name(const char *name);

#endif /* HW_DISK_IDENTITY_H */
