/*
 * Disk hot-plug: what SCSI disks have told their guest of their size
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_DISK_RESIZE_H
#define HW_DISK_RESIZE_H

#include "disk.h"
#include "hw/scsi/scsi.h"

/*
 * The guest fetches @ua from @dev now: count it if it tells of a new size.  To
 * be called before @ua is cleared, in any thread.
 */
void disk_resize_told(SCSIDevice *dev, const SCSISense *ua);

/* @disk goes: so does the resize that waits for its guest, with its event. */
void disk_resize_forget(Disk *disk);

#endif /* HW_DISK_RESIZE_H */
