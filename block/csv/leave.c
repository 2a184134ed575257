/*
 * Cluster shared volume: a process that let its disks go leaves the volume
 *
 * After a migration the source may stay for as long as it pleases, with its
 * nodes inactive.  When others own all that it had, it has no reason to be a
 * member.  Not before: until a disk that is handed over is claimed, its record
 * names the member that let it go, and if that was gone anybody could take it.
 *
 * An inactive node cannot be written, so the volume's is activated for the
 * moment that it takes.  If the disks come back, which takes a claim, the
 * process becomes a member again.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/timer.h"
#include "system/block-backend.h"
#include "driver.h"
#include "open.h"

/* How soon it is looked whether all are claimed, and how often in the end. */
#define CSV_LEAVE_MS            500
#define CSV_LEAVE_MAX_MS        8000

static QEMUTimer *csv_leave_timer;
static int csv_leave_ms;

/* Does the record of a disk that we let go still name us, or may it? */
static bool GRAPH_RDLOCK csv_leave_named(CsvDisk *disk)
{
    CsvDiskRecord rec;

    return csv_disk_reread(disk, &rec, NULL) < 0 ||
           rec.epoch == disk->record.epoch;
}

/* Has this process no use for its membership?  0: so.  -EAGAIN: not yet. */
static int csv_leave_check(CsvVolume *vol)
{
    unsigned attached = 0;
    CsvDisk *disk;

    GRAPH_RDLOCK_GUARD_MAINLOOP();

    QLIST_FOREACH(disk, &vol->disks, next) {
        if (!disk->attached) {
            continue;
        }
        attached++;
        if (!(disk->bs->open_flags & BDRV_O_INACTIVE) || disk->owned ||
            disk->unsure || disk->give_back) {
            return -EBUSY;
        }
    }
    if (!attached) {
        return -EBUSY;
    }
    if (attached != vol->attached) {
        return -EAGAIN;     /* a command is at work */
    }
    QLIST_FOREACH(disk, &vol->disks, next) {
        if (disk->attached && disk->handed_over && csv_leave_named(disk)) {
            return -EAGAIN;
        }
    }
    return 0;
}

/* By @file, which can be written. */
static void csv_leave_by(CsvVolume *vol, BdrvChild *file)
{
    CsvDisk *disk;

    GRAPH_RDLOCK_GUARD_MAINLOOP();

    /* The last one to detach writes the record. */
    if (csv_member_attach(vol, file, NULL) < 0) {
        return;
    }
    QLIST_FOREACH(disk, &vol->disks, next) {
        if (disk->attached) {
            csv_disk_detach(disk);
        }
    }
    csv_member_detach(vol, file);
}

/* Returns true if it must be tried again. */
static bool csv_leave_volume(CsvVolume *vol)
{
    BlockDriverState *bs = vol->bs;
    bool inactive = bs->open_flags & BDRV_O_INACTIVE;
    int ret = csv_leave_check(vol);
    BlockBackend *blk;

    if (ret < 0) {
        return ret == -EAGAIN;
    }
    if (inactive && bdrv_activate(bs, NULL) < 0) {
        return true;
    }
    blk = blk_new_with_bs(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE,
                          BLK_PERM_ALL, NULL);
    if (blk) {
        csv_leave_by(vol, csv_blk_child(blk));
        blk_unref(blk);
    }
    if (inactive) {
        bdrv_inactivate(bs, NULL);
    }
    return !blk;
}

static void csv_leave_in(int ms)
{
    csv_leave_ms = ms;
    timer_mod(csv_leave_timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + ms);
}

static void csv_leave(void *opaque)
{
    g_autoptr(GPtrArray) volumes = g_ptr_array_new();
    bool again = false;
    CsvVolume *vol;

    for (vol = csv_volume_next(NULL); vol; vol = csv_volume_next(vol)) {
        vol->refs++;
        bdrv_ref(vol->bs);
        g_ptr_array_add(volumes, vol);
    }
    for (guint i = 0; i < volumes->len; i++) {
        BlockDriverState *bs;

        vol = g_ptr_array_index(volumes, i);
        bs = vol->bs;
        again |= csv_leave_volume(vol);
        csv_volume_put(vol);
        bdrv_unref(bs);
    }
    if (again) {
        csv_leave_in(MIN(2 * csv_leave_ms, CSV_LEAVE_MAX_MS));
    }
}

void csv_leave_soon(void)
{
    if (!csv_leave_timer) {
        csv_leave_timer = timer_new_ms(QEMU_CLOCK_REALTIME, csv_leave, NULL);
    }
    csv_leave_in(CSV_LEAVE_MS);
}
