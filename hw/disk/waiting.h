/*
 * Disk hot-plug: attaches that have to wait
 *
 * Main thread, BQL held, in no coroutine.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_DISK_WAITING_H
#define HW_DISK_WAITING_H

#include "create.h"
#include "disk.h"

/*
 * Attach @spec's disk, which passed all checks that need no time, as soon as
 * hooks, a migration and the block graph let it; by then or not at all.  Its
 * image is being made by @create, which is taken, or will be if that is NULL and
 * @spec asks for one.  Returns what it is now, to be freed.
 */
DiskInfo *disk_attach_waiting(const DiskSpec *spec, DiskCreate *create,
                              Error **errp);

/* Append the waiting disks to the list at @tail. */
void disk_waiting_infos(DiskInfoList **tail);

#endif /* HW_DISK_WAITING_H */
