/*
 * Disk hot-plug: whether the guest has noticed a new size
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
 * The guest receives the unit attention @ua from @dev: record it if it reports
 * a new size.  To be called before @ua is cleared, in any thread.
 */
void disk_resize_told(SCSIDevice *dev, const SCSISense *ua);

/* @disk goes away: end a resize that waits for its guest, with an event. */
void disk_resize_forget(Disk *disk);

#endif /* HW_DISK_RESIZE_H */
