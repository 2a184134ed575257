/*
 * Disk hot-plug: asking the guest to release a disk
 *
 * This depends on the bus: a virtio-scsi controller has events; for a PCI slot,
 * ACPI or the attention button of a PCIe port is used.
 *
 * All functions run in the main thread with the BQL held, and in no coroutine;
 * @disk has its device.
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
 * A disk is about to be plugged into @qbus: record the available buffer space
 * for events while none is pending.
 */
void disk_guest_prepare(BusState *qbus);

/* Fill in the part of @s that is about the guest. */
void disk_guest_look(Disk *disk, DetachSample *s);

/* Ask the guest; the device is then kept when the guest releases it. */
bool disk_guest_ask(Disk *disk, Error **errp);

/* Withdraw that; if the guest releases the disk, the device goes as usual. */
void disk_guest_forget(Disk *disk);

/*
 * Block new requests; those in flight continue.  While one of them may still
 * write to guest memory, the guest must not be told otherwise: a SCSI disk can
 * no longer be reached, and a PCI device stays in place, but does nothing.
 */
void disk_guest_hide(Disk *disk);

/* Restore the block nodes; works without a device, too. */
void disk_guest_unhide(Disk *disk);

/*
 * Remove the device, and notify a guest that has not released it.  Waits for
 * requests in flight, of which there should be none.  False: only its backend
 * was removed, and requests held while the disk was hidden have to fail first.
 */
bool disk_guest_remove(Disk *disk);

/*
 * True: the guest knows that @address of @qbus is empty.
 */
bool disk_guest_knows(BusState *qbus, unsigned address);

/*
 * Buffer space for events of the driver of @qbus when none is pending, in
 * bytes; 0 if unknown, or none.  Setting it fails on other buses.
 */
unsigned disk_guest_event_room(BusState *qbus);
bool disk_guest_set_event_room(BusState *qbus, unsigned bytes, Error **errp);

/* The guest has been asked to release @disk on the source of a migration. */
void disk_guest_resume(Disk *disk, bool let_go);

#endif /* HW_DISK_GUEST_H */
