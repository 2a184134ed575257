/*
 * Disk hot-plug: the disks attached by disk-attach
 *
 * All functions run in the main thread with the BQL held, and in no coroutine.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_DISK_DISK_H
#define HW_DISK_DISK_H

#include "block/block.h"
#include "hw/qdev-core.h"
#include "qapi/qapi-types-disk.h"
#include "qemu/queue.h"
#include "qemu/uuid.h"

typedef struct DiskPlace {
    DiskBus bus;                /* not DISK_BUS_AUTO */
    char *name;                 /* of the bus, to be freed */
    unsigned address;           /* SCSI target, or PCI slot */
} DiskPlace;

/* State of the protocol with a disk's guest */
typedef struct DiskGuest {
    bool asked;                 /* to release the disk */
    bool blinked;               /* its slot's LED has blinked since then */
    BlockDriverState *quiesced; /* a reference; NULL: its root is not */
} DiskGuest;

/*
 * A disk and what belongs to it.  Everything that must be released has its own
 * member, which is NULL while it does not exist; so a failed attach and a
 * detach use the same clean-up.
 */
typedef struct Disk {
    char *id;
    DiskState state;
    DiskPlace place;
    char *node;                 /* the user's name of its node */
    bool has_uuid;
    QemuUUID uuid;
    char *serial;
    uint64_t wwn;               /* 0: none */
    DiskSpec *spec;             /* without 'create'; for a destination */
    char *opened;               /* disk_node_filename() of @node when opened */

    /* to be released in reverse order */
    char *own_node;
    char *own_iothread;
    char *own_group;
    char *own_filter;           /* throttles own_node or the user's */
    DeviceState *dev;           /* no reference; NULL when it goes */
    struct DiskResize *resize;  /* that the guest has not noticed yet */

    struct Detach *detach;      /* NULL: it is not being detached */
    DiskGuest guest;

    QTAILQ_ENTRY(Disk) next;
} Disk;

typedef QTAILQ_HEAD(DiskList, Disk) DiskList;

/* All that are attached */
extern DiskList disks;

/* The disk @id; NULL if there is none */
Disk *disk_find(const char *id);

/*
 * The same, if it has a usable device; NULL and an error otherwise.
 */
Disk *disk_find_plugged(const char *id, Error **errp);

/*
 * True: it has a usable device.  False: there is none, or it is about to be
 * freed, and has already lost its backend.
 */
static inline bool disk_has_device(const Disk *disk)
{
    return disk->dev && qdev_is_realized(disk->dev);
}

/* Description of @disk for the user, to be freed */
DiskInfo *disk_info(const Disk *disk);

/* Reserved name of a disk that is not attached yet; all zero: none */
typedef struct DiskName {
    char *id;
    QTAILQ_ENTRY(DiskName) next;
} DiskName;

/* Reserve @id until @name is released. */
void disk_name_reserve(DiskName *name, const char *id);

/* No effect if nothing is reserved */
void disk_name_release(DiskName *name);

/* True: @id is reserved for a disk that is not attached yet. */
bool disk_name_is_reserved(const char *id);

#endif /* HW_DISK_DISK_H */
