/*
 * Disk hot-plug: does the storage answer?
 *
 * To open an image takes requests that the main loop waits for, and with it the
 * guest, as long as the storage likes.  So another thread reads a little of it
 * before.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_DISK_PROBE_H
#define HW_DISK_PROBE_H

#include "qapi/qapi-types-disk.h"

/*
 * Do all files and devices answer that the disk of @spec is opened from?  That
 * something is there, or can be read, does not matter.  Of storage that is no
 * file of this host, or is a backing file that @spec does not name, nothing is
 * known.  Waits for 50 ms; false and an error that names the file if that was
 * not enough.  Ask again then.  Main thread, with BQL.
 */
bool disk_storage_answers(const DiskSpec *spec, Error **errp);

#endif /* HW_DISK_PROBE_H */
