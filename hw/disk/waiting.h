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

#include "disk.h"

/*
 * Attach @spec's disk, which passed disk_attach_check(), as soon as hooks, a
 * migration and the block graph permit, or fail at its deadline.  @creating:
 * its image is being created; if not, and @spec has 'create', that is done
 * later.  Returns the current state, to be freed.
 */
DiskInfo *disk_attach_waiting(const DiskSpec *spec, bool creating,
                              Error **errp);

/* Append the waiting disks to the list at @tail. */
void disk_waiting_infos(DiskInfoList **tail);

#endif /* HW_DISK_WAITING_H */
