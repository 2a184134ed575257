/*
 * Disk hot-plug: resize, and whether the guest has noticed
 *
 * A virtio-blk disk raises a configuration interrupt, and the guest then reads
 * its configuration.  A SCSI disk answers the next command with a unit
 * attention condition.  Both devices record, in any thread, that the guest was
 * notified; a timer checks that every few milliseconds.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/aio.h"
#include "block/block-global-state.h"
#include "block/block-io.h"
#include "block/graph-lock.h"
#include "guest.h"
#include "hw/scsi/scsi.h"
#include "hw/virtio/virtio-blk.h"
#include "migration/misc.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-disk.h"
#include "qapi/qapi-events-disk.h"
#include "qemu/atomic.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "resize.h"
#include "scsi/constants.h"
#include "system/block-backend.h"

#define LOOK_MS             20
#define DEADLINE_MS         10000

/* A completed resize, until its event */
typedef struct DiskResize {
    Disk *disk;
    int64_t size;
    int64_t deadline;           /* in ms of QEMU_CLOCK_REALTIME */
    unsigned told_before;       /* resize_times_told() before it */
    QEMUTimer timer;
} DiskResize;

typedef enum Notice {
    NOTICE_NOT_YET,
    NOTICE_TOLD,
    NOTICE_NO_DRIVER,
} Notice;

static VirtIOBlock *resize_virtio_blk(const Disk *disk)
{
    return VIRTIO_BLK(object_resolve_path_component(OBJECT(disk->dev),
                                                    "virtio-backend"));
}

/* Notification of the guest */

static bool resize_has_driver(DeviceState *virtio)
{
    /*
     * A driver that is still starting counts, too: it may have read the old
     * size, and would otherwise miss the change.
     */
    return VIRTIO_DEVICE(virtio)->status & VIRTIO_CONFIG_S_DRIVER;
}

static Notice resize_look_virtio_blk(const DiskResize *r)
{
    VirtIOBlock *dev = resize_virtio_blk(r->disk);

    if (!resize_has_driver(DEVICE(dev))) {
        return NOTICE_NO_DRIVER;
    }
    return dev->told_capacity == r->size >> BDRV_SECTOR_BITS ?
           NOTICE_TOLD : NOTICE_NOT_YET;
}

static bool is_of_capacity(const SCSISense *ua)
{
    return ua->asc == SENSE_CODE(CAPACITY_CHANGED).asc &&
           ua->ascq == SENSE_CODE(CAPACITY_CHANGED).ascq;
}

void disk_resize_told(SCSIDevice *dev, const SCSISense *ua)
{
    if (is_of_capacity(ua)) {
        qatomic_inc(&dev->capacity_told);
    }
}

static unsigned resize_times_told(const Disk *disk)
{
    return disk->place.bus == DISK_BUS_SCSI ?
           qatomic_read(&SCSI_DEVICE(disk->dev)->capacity_told) : 0;
}

static Notice resize_look_scsi(const DiskResize *r)
{
    SCSIDevice *dev = SCSI_DEVICE(r->disk->dev);
    SCSISense ua = dev->unit_attention;
    bool told;

    /* It is counted before it is cleared, in any thread. */
    smp_rmb();
    told = resize_times_told(r->disk) != r->told_before;

    if (!resize_has_driver(qdev_get_parent_bus(DEVICE(dev))->parent)) {
        return NOTICE_NO_DRIVER;
    }
    if (ua.key != UNIT_ATTENTION) {
        return told ? NOTICE_TOLD : NOTICE_NOT_YET;
    }
    if (is_of_capacity(&ua)) {
        /* Notifications since then may be of an earlier resize. */
        return NOTICE_NOT_YET;
    }
    /*
     * The unit attention of a reset replaces that of a resize.  A guest that
     * receives it initializes the disk again.
     */
    return told ? NOTICE_TOLD : NOTICE_NO_DRIVER;
}

static Notice resize_look(const DiskResize *r)
{
    return r->disk->place.bus == DISK_BUS_SCSI ? resize_look_scsi(r) :
                                                 resize_look_virtio_blk(r);
}

/* Waiting for the guest */

static void resize_end(DiskResize *r, bool told, DiskUntold reason)
{
    qapi_event_send_disk_resized(r->disk->id, r->size, told, !told, reason);
    r->disk->resize = NULL;
    timer_del(&r->timer);
    g_free(r);
}

static void resize_timer(void *opaque)
{
    DiskResize *r = opaque;
    int64_t now = qemu_clock_get_ms(QEMU_CLOCK_REALTIME);
    Notice notice;

    if (!r->disk->dev || !qdev_is_realized(r->disk->dev)) {
        resize_end(r, false, DISK_UNTOLD_GONE);
        return;
    }
    notice = resize_look(r);
    if (notice == NOTICE_TOLD) {
        resize_end(r, true, 0);
    } else if (notice == NOTICE_NO_DRIVER) {
        resize_end(r, false, DISK_UNTOLD_NO_DRIVER);
    } else if (now >= r->deadline) {
        resize_end(r, false, DISK_UNTOLD_DEADLINE);
    } else {
        timer_mod(&r->timer, MIN(now + LOOK_MS, r->deadline));
    }
}

void disk_resize_forget(Disk *disk)
{
    if (disk->resize) {
        resize_end(disk->resize, false, DISK_UNTOLD_GONE);
    }
}

static void resize_begin(Disk *disk, int64_t size, unsigned told_before,
                         uint32_t deadline)
{
    int64_t now = qemu_clock_get_ms(QEMU_CLOCK_REALTIME);
    DiskResize *r = g_new0(DiskResize, 1);

    if (disk->resize) {
        resize_end(disk->resize, false, DISK_UNTOLD_SUPERSEDED);
    }
    r->disk = disk;
    r->size = size;
    r->deadline = now + deadline;
    r->told_before = told_before;
    timer_init_ms(&r->timer, QEMU_CLOCK_REALTIME, resize_timer, r);
    disk->resize = r;
    /* The first check is in the main loop, after the command's reply. */
    timer_mod(&r->timer, now);
}

/* The command */

static Disk *resize_find(const char *id, Error **errp)
{
    Disk *disk = disk_find_plugged(id, errp);

    if (!disk) {
        return NULL;
    }
    if (disk->state != DISK_STATE_ATTACHED) {
        error_setg(errp, "disk '%s' is being detached, and is now '%s'", id,
                   DiskState_str(disk->state));
        return NULL;
    }
    if (disk->place.bus == DISK_BUS_NVME) {
        error_setg(errp, "disk '%s' is on bus 'nvme', where a guest cannot be "
                   "told of a new size: detach it first", id);
        return NULL;
    }
    if (migration_is_running()) {
        error_setg(errp, "the guest is being migrated: resize the disk when "
                   "that is over, where the guest is then");
        return NULL;
    }
    return disk;
}

static bool resize_check_size(const Disk *disk, int64_t size, bool shrink,
                              Error **errp)
{
    unsigned unit = object_property_get_uint(OBJECT(disk->dev),
                                             "logical_block_size",
                                             &error_abort);
    int64_t old = blk_getlength(disk_blk(disk));

    if (old < 0) {
        error_setg_errno(errp, -old, "the size of disk '%s' is not known",
                         disk->id);
        return false;
    }
    if (size <= 0 || size % unit) {
        error_setg(errp, "'size' must be a multiple of %u, the block size of "
                   "disk '%s'", unit, disk->id);
        return false;
    }
    if (size < old && !shrink) {
        error_setg(errp, "disk '%s' has %" PRId64 " bytes, and what lies "
                   "behind the new end would be lost: if that is meant, "
                   "say 'shrink': true", disk->id, old);
        return false;
    }
    return true;
}

/* In the AioContext of @bs, with none of its requests in flight */
static void coroutine_fn resize_image(BlockDriverState *bs, int64_t size,
                                      Error **errp)
{
    BlockBackend *blk;
    AioContext *home;

    WITH_GRAPH_RDLOCK_GUARD() {
        if (bdrv_op_is_blocked(bs, BLOCK_OP_TYPE_RESIZE, errp)) {
            return;
        }
    }
    blk = blk_co_new_with_bs(bs, BLK_PERM_RESIZE, BLK_PERM_ALL, errp);
    if (!blk) {
        return;
    }
    bdrv_drained_begin(bs);
    home = bdrv_co_enter(bs);
    blk_co_truncate(blk, size, false, PREALLOC_MODE_OFF, 0, errp);
    bdrv_co_leave(bs, home);
    bdrv_drained_end(bs);
    blk_co_unref(blk);
}

static void resize_unref_bh(void *opaque)
{
    object_unref(OBJECT(opaque));
}

void coroutine_fn qmp_disk_resize(const char *id, int64_t size,
                                  bool has_shrink, bool shrink,
                                  bool has_deadline, uint32_t deadline,
                                  Error **errp)
{
    ERRP_GUARD();
    Disk *disk = resize_find(id, errp);
    unsigned told_before;
    BlockBackend *blk;
    int64_t length;

    if (!disk || !resize_check_size(disk, size, has_shrink && shrink, errp)) {
        return;
    }
    /*
     * The device's root: the disk's node may have another one above it by now.
     */
    blk = disk_blk(disk);
    told_before = resize_times_told(disk);

    /*
     * While this waits for the image, the device may go away, but not the disk.
     */
    object_ref(OBJECT(disk->dev));
    resize_image(blk_bs(blk), size, errp);
    if (!*errp) {
        /* The block driver may have rounded it up. */
        length = blk_getlength(blk);
        resize_begin(disk, length < 0 ? size : length, told_before,
                     has_deadline ? deadline : DEADLINE_MS);
    }
    /* Dropping the last reference is not allowed in a coroutine. */
    aio_bh_schedule_oneshot(qemu_get_aio_context(), resize_unref_bh, disk->dev);
}
