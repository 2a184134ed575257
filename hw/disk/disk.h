/*
 * Disk hot-plug: the disks that disk-attach has made
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

/* What has passed between a disk's guest and us */
typedef struct DiskGuest {
    bool asked;                 /* to let go of it */
    bool blinked;               /* the light of its slot, since then */
    BlockDriverState *quiesced; /* a reference; NULL: its root is not */
} DiskGuest;

/*
 * What belongs to a disk.  Each of the things that must be released stands in a
 * field of its own, which is NULL as long as, and as soon as, there is none; so
 * what an attach that fails leaves and what a detach leaves is released alike.
 */
typedef struct Disk {
    char *id;
    DiskState state;
    DiskPlace place;
    char *node;                 /* what the user calls its data */
    bool has_uuid;
    QemuUUID uuid;
    char *serial;
    uint64_t wwn;               /* 0: none */
    DiskSpec *spec;             /* without 'create'; for a destination */
    char *opened;               /* disk_node_filename() of @node then */

    /* to be released, the last one first */
    char *own_node;
    char *own_iothread;
    char *own_group;
    char *own_filter;           /* throttles own_node or the user's */
    DeviceState *dev;           /* no reference: it says when it goes */
    struct DiskResize *resize;  /* of which the guest is yet to be told */

    struct Detach *detach;      /* NULL: it is not being detached */
    DiskGuest guest;

    QTAILQ_ENTRY(Disk) next;
} Disk;

typedef QTAILQ_HEAD(DiskList, Disk) DiskList;

/* All that are attached */
extern DiskList disks;

/* The disk called @id; NULL if there is none */
Disk *disk_find(const char *id);

/*
 * The same, if its device can be worked with; NULL and an error otherwise.
 */
Disk *disk_find_plugged(const char *id, Error **errp);

/*
 * True: its device can be worked with.  False: there is none, or it is about to
 * be freed, and has no backend any more.
 */
static inline bool disk_has_device(const Disk *disk)
{
    return disk->dev && qdev_is_realized(disk->dev);
}

/* What @disk is, to be freed */
DiskInfo *disk_info(const Disk *disk);

/* The name of a disk that is not attached yet; all zero: none */
typedef struct DiskName {
    char *id;
    QTAILQ_ENTRY(DiskName) next;
} DiskName;

/* From now on @id is taken, until @name is released. */
void disk_name_reserve(DiskName *name, const char *id);

/* Harmless if it holds none */
void disk_name_release(DiskName *name);

/* True: a disk that is not attached yet has @id. */
bool disk_name_is_reserved(const char *id);

#endif /* HW_DISK_DISK_H */
