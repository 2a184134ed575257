/*
 * Disk hot-plug: releasing a disk
 *
 * All functions run in the main thread with the BQL held, and in no coroutine.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_DISK_RELEASE_H
#define HW_DISK_RELEASE_H

#include "disk.h"

/*
 * Release everything of a disk without a device, and free it.  A node that has
 * other users is kept, with a warning.
 */
void disk_release(Disk *disk);

/* @disk now has its device: release @disk when that goes, for any reason. */
void disk_watch(Disk *disk);

#endif /* HW_DISK_RELEASE_H */
