/*
 * Disk hot-plug: places for disks
 *
 * A place is a target of a virtio-scsi controller, the slot of a PCIe port that
 * takes hot-plug, or a slot of a PCI bus that does.  Main thread, BQL held.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_DISK_SLOTS_H
#define HW_DISK_SLOTS_H

#include "disk.h"

/*
 * Find a free place for a disk that is to be seen as @bus says: the first one,
 * in the order of the names of buses and of addresses.  False and an error that
 * says what there is.
 */
bool disk_place_find(DiskBus bus, DiskPlace *place, Error **errp);

/* Is @place there, and free? */
bool disk_place_check(const DiskPlace *place, Error **errp);

/* As query-disk-slots says; to be freed */
DiskSlotsList *disk_slots(void);

/*
 * The guest may believe that a disk is still at @address of bus @name: no other
 * one goes there until the guest knows better, which is looked at whenever
 * places are, or until somebody ends it.
 */
void disk_quarantine_begin(const char *name, unsigned address);

/* False: there is none. */
bool disk_quarantine_end(const char *name, unsigned address);

/* True: there are addresses that no disk may get yet. */
bool disk_slots_any_quarantine(void);

/*
 * What a destination must know of places: the members quarantine and rooms of
 * @list.  Loading fails with an error for what this machine does not have.
 */
void disk_slots_save(DiskManifest *list);
bool disk_slots_load(const DiskManifest *list, Error **errp);

#endif /* HW_DISK_SLOTS_H */
