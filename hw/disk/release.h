/*
 * Disk hot-plug: the end of a disk
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
 * Release everything of a disk without a device, and free it.  A node that
 * somebody else uses stays, with a warning.
 */
void disk_release(Disk *disk);

/* @disk has its device now: when that goes, however it does, so does @disk. */
void disk_watch(Disk *disk);

#endif /* HW_DISK_RELEASE_H */
