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
#include "slots.h"

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

/*
 * Release everything of a disk without a device, and free it.  A node that
 * somebody else uses stays, with a warning.
 */
void disk_release(Disk *disk);

/*
 * Attach @spec's disk at @at, or where there is room if that is NULL.  The disk
 * is among those attached; NULL and nothing is left if something fails.
 */
Disk *disk_attach_at(const DiskSpec *spec, const DiskPlace *at, Error **errp);

/* The node that @spec opens or names, to be freed; NULL: it has no name */
char *disk_spec_node(const DiskSpec *spec);

/* The type of a disk's device; not for DISK_BUS_AUTO */
const char *disk_driver(DiskBus bus);

/* What is under @node, as one string; it changes when that is exchanged. */
char *disk_node_filename(const char *node);

/* @disk has its device now: when that goes, however it does, so does @disk. */
void disk_watch(Disk *disk);

/* @disk goes: so does the resize that waits for its guest, with its event. */
void disk_resize_forget(Disk *disk);

#endif /* HW_DISK_DISK_H */
