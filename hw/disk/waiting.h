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
 * Attach @spec's disk, which passed all checks that need no time, as soon as
 * hooks, a migration and the block graph let it; by then or not at all.
 * Returns what it is now, to be freed: it may be attached already.
 */
DiskInfo *disk_attach_waiting(const DiskSpec *spec, Error **errp);

/* What waits, to be appended to a list at @tail */
void disk_waiting_infos(DiskInfoList **tail);

#endif /* HW_DISK_WAITING_H */
