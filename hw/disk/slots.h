/*
 * Disk hot-plug: places for disks
 *
 * A place is a target of a virtio-scsi controller, or a slot of a PCIe port or
 * PCI bus with hot-plug.  Main thread, BQL held.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_DISK_SLOTS_H
#define HW_DISK_SLOTS_H

#include "disk.h"

/*
 * Find the first free place for a disk of type @bus, in the order of bus names
 * and addresses.  False and an error that lists the free places.
 */
bool disk_place_find(DiskBus bus, DiskPlace *place, Error **errp);

/* Does @place exist, and is it free? */
bool disk_place_check(const DiskPlace *place, Error **errp);

/* Result of query-disk-slots; to be freed */
DiskSlotsList *disk_slots(void);

/*
 * The guest may believe that a disk is still at @address of bus @name: do not
 * use the address until the guest knows that it is empty, which is checked
 * whenever places are, or until disk_quarantine_end().
 */
void disk_quarantine_begin(const char *name, unsigned address);

/* False: it was not quarantined. */
bool disk_quarantine_end(const char *name, unsigned address);

/* True: there are quarantined addresses. */
bool disk_slots_any_quarantine(void);

/*
 * Save and load the members quarantine and rooms of @list, for a destination.
 * Loading fails with an error for places that this machine does not have.
 */
void disk_slots_save(DiskManifest *list);
bool disk_slots_load(const DiskManifest *list, Error **errp);

#endif /* HW_DISK_SLOTS_H */
