/*
 * Disk hot-plug: does the storage respond?
 *
 * Opening an image makes the main loop, and with it the guest, wait for
 * requests to the storage, however long they take.  So another thread reads a
 * little of it first.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_DISK_PROBE_H
#define HW_DISK_PROBE_H

#include "qapi/qapi-types-disk.h"

/*
 * Do all files and devices respond that the disk of @spec is opened from?  It
 * does not matter whether they exist or can be read.  Storage that is not a
 * file of this host, and backing files not named in @spec, are not probed.
 * Waits for 50 ms; false and an error that names the file if that was not
 * enough: ask again then.  Main thread, with BQL.
 */
bool disk_storage_answers(const DiskSpec *spec, Error **errp);

#endif /* HW_DISK_PROBE_H */
