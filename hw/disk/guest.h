/*
 * Disk hot-plug: asking the guest to let go of a disk
 *
 * What differs from bus to bus: a virtio-scsi controller has events; a PCI slot
 * is asked through ACPI, or by the attention button of a PCIe port.
 *
 * All functions run in the main thread with the BQL held, and in no coroutine;
 * a disk that is given has its device.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_DISK_GUEST_H
#define HW_DISK_GUEST_H

#include "detach-policy.h"
#include "disk.h"
#include "system/block-backend.h"

/* The backend of its requests */
BlockBackend *disk_blk(const Disk *disk);

/*
 * A disk is about to be plugged into @qbus: look how much room for events there
 * is while the guest has nothing else to think of.
 */
void disk_guest_prepare(BusState *qbus);

/* What is seen of the guest: the part of @s that is about it */
void disk_guest_look(Disk *disk, DetachSample *s);

/* Ask it to let go; from now on the device stays when it does. */
bool disk_guest_ask(Disk *disk, Error **errp);

/* It need not let go any more; when it does, the device goes as ever. */
void disk_guest_forget(Disk *disk);

/*
 * No new request is let in; those under way go on.  As long as one of these may
 * still write into the guest's memory, the guest must not believe that it will
 * not: a SCSI disk cannot be reached any more, and a PCI device stays where it
 * is, but does nothing.
 */
void disk_guest_hide(Disk *disk);

/* The block nodes are as before; works without a device, too. */
void disk_guest_unhide(Disk *disk);

/*
 * Remove the device, and tell a guest that has not let go.  Waits for what is
 * under way: nothing should be.  False: only what is behind it was removed, and
 * requests that were held back while the disk was hidden have to fail first.
 */
bool disk_guest_remove(Disk *disk);

/*
 * True: the guest knows that nothing is at @address of @qbus any more.
 */
bool disk_guest_knows(BusState *qbus, unsigned address);

/*
 * Room that the driver of @qbus has for events when none is under way, in
 * bytes; 0 if it is not known, or has none.  Setting fails on other buses.
 */
unsigned disk_guest_event_room(BusState *qbus);
bool disk_guest_set_event_room(BusState *qbus, unsigned bytes, Error **errp);

/* The guest has come from another host, where it was asked to let go. */
void disk_guest_resume(Disk *disk, bool let_go);

#endif /* HW_DISK_GUEST_H */
