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
 * The storage may be slow, so a coroutine does the I/O.  A timer starts it, and
 * does what a coroutine cannot do, or not in the middle of another change of
 * the nodes: it activates and inactivates the volume's.  In between anything
 * may happen to the disks.  So the coroutine begins with a look at all of them
 * each time, and holds them while it runs: they cannot be closed then.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "driver.h"

/* How soon it is looked whether all are claimed, and how often in the end. */
#define CSV_LEAVE_MS            500
#define CSV_LEAVE_MAX_MS        8000

static void csv_leave_in(CsvVolume *vol, int ms)
{
    timer_mod(vol->leave.timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + ms);
}

static void csv_leave_later(CsvVolume *vol)
{
    vol->leave.ms = MIN(2 * vol->leave.ms, CSV_LEAVE_MAX_MS);
    csv_leave_in(vol, vol->leave.ms);
}

/*
 * Has this process no use for its membership, as far as it knows without I/O?
 * 0: so.  -EAGAIN: not yet.  -EBUSY: it uses a disk.
 */
static int csv_leave_idle(CsvVolume *vol)
{
    unsigned attached = 0;
    bool drained = false;
    CsvDisk *disk;

    QLIST_FOREACH(disk, &vol->disks, next) {
        if (!disk->attached) {
            continue;
        }
        attached++;
        if (!(disk->bs->open_flags & BDRV_O_INACTIVE) || disk->owned ||
            disk->unsure || disk->give_back) {
            return -EBUSY;
        }
        drained |= disk->bs->quiesce_counter;
    }
    if (!attached) {
        return -EBUSY;
    }
    /* Else a command is at work. */
    return attached == vol->attached && !drained ? 0 : -EAGAIN;
}

/* What the coroutine works on: disks that are held by their in-flight count */
typedef struct CsvLeaving {
    CsvVolume *vol;
    GPtrArray *disks;           /* of CsvDisk, all that are attached */
} CsvLeaving;

static void csv_leave_hold(CsvLeaving *run)
{
    CsvDisk *disk;

    run->disks = g_ptr_array_new();
    QLIST_FOREACH(disk, &run->vol->disks, next) {
        if (disk->attached) {
            bdrv_inc_in_flight(disk->bs);
            g_ptr_array_add(run->disks, disk);
        }
    }
}

static void csv_leave_unhold(CsvLeaving *run)
{
    for (guint i = 0; i < run->disks->len; i++) {
        CsvDisk *disk = g_ptr_array_index(run->disks, i);

        bdrv_dec_in_flight(disk->bs);
    }
    g_ptr_array_free(run->disks, true);
}

/* Does the record of a disk that we let go still name us, or may it? */
static bool coroutine_fn GRAPH_RDLOCK csv_leave_named(CsvDisk *disk)
{
    CsvDiskRecord rec;

    return csv_disk_reread(disk, &rec, NULL) < 0 ||
           rec.epoch == disk->record.epoch;
}

/* Do others own all that was handed over?  Results are of csv_leave_idle(). */
static int coroutine_fn GRAPH_RDLOCK csv_leave_check(CsvLeaving *run)
{
    int ret;

    for (guint i = 0; i < run->disks->len; i++) {
        CsvDisk *disk = g_ptr_array_index(run->disks, i);

        if (disk->handed_over && csv_leave_named(disk)) {
            return -EAGAIN;
        }
    }
    ret = csv_leave_idle(run->vol);
    if (ret < 0) {
        return ret;
    }
    /* A disk may have come back and gone again, or another one with it. */
    return run->vol->leave.again || run->vol->attached != run->disks->len
           ? -EAGAIN : 0;
}

/* The node of the volume is active, and nobody here needs the membership. */
static int coroutine_fn GRAPH_RDLOCK csv_leave_do(CsvLeaving *run)
{
    CsvDisk *way = g_ptr_array_index(run->disks, 0);

    run->vol->leave.ending = true;
    way->leaving = true;
    if (bdrv_child_refresh_perms(way->bs, way->bs->file, NULL) < 0 ||
        !csv_may_write(way->bs->file)) {
        return -EAGAIN;
    }
    /*
     * Before anything yields: a disk that comes back from here on joins again.
     * Its use ends with our record.
     */
    for (guint i = 0; i < run->disks->len; i++) {
        CsvDisk *disk = g_ptr_array_index(run->disks, i);

        disk->attached = false;
        disk->use = 0;
    }
    /* The last one to detach writes the record. */
    for (guint i = run->disks->len; i-- > 0; ) {
        CsvDisk *disk = g_ptr_array_index(run->disks, i);

        csv_member_detach(run->vol, disk->bs->file);
    }
    return 0;
}

static void coroutine_fn GRAPH_RDLOCK csv_leave_run(CsvLeaving *run)
{
    CsvVolume *vol = run->vol;
    CsvLeave *leave = &vol->leave;
    int ret = csv_leave_check(run);

    if (ret >= 0) {
        leave->able = vol->bs->open_flags & BDRV_O_INACTIVE;
        if (!leave->able) {
            ret = csv_leave_do(run);
        }
    }
    leave->running = false;
    if (leave->able || leave->ending) {
        csv_leave_in(vol, 0);
    } else if (ret == -EAGAIN || leave->again) {
        csv_leave_later(vol);
    }
    csv_leave_unhold(run);      /* now they may be closed, and the volume */
}

static void coroutine_fn csv_leave_entry(void *opaque)
{
    g_autofree CsvLeaving *run = opaque;

    bdrv_graph_co_rdlock();
    csv_leave_run(run);
    bdrv_graph_co_rdunlock();
}

static void csv_leave_start(CsvVolume *vol)
{
    CsvLeaving *run = g_new0(CsvLeaving, 1);

    run->vol = vol;
    csv_leave_hold(run);
    vol->leave.running = true;
    vol->leave.again = false;
    aio_co_enter(qemu_get_aio_context(),
                 qemu_coroutine_create(csv_leave_entry, run));
}

/* Is there a request that inactivating the node would have to wait for? */
static bool csv_leave_busy(CsvVolume *vol)
{
    CsvDisk *disk;

    QLIST_FOREACH(disk, &vol->disks, next) {
        if (qatomic_read(&disk->bs->in_flight)) {
            return true;
        }
    }
    return qatomic_read(&vol->bs->in_flight);
}

/* Drop what was needed to write our record. */
static void csv_leave_end(CsvVolume *vol)
{
    CsvDisk *disk;

    GRAPH_RDLOCK_GUARD_MAINLOOP();

    QLIST_FOREACH(disk, &vol->disks, next) {
        if (disk->leaving) {
            disk->leaving = false;
            bdrv_child_refresh_perms(disk->bs, disk->bs->file, NULL);
        }
    }
    if (vol->leave.activated) {
        bdrv_inactivate(vol->bs, NULL);     /* not if it is in use again */
    }
    vol->leave.ending = false;
    vol->leave.activated = false;
}

/* The coroutine is about to start; activate the node if it asked for that. */
static int csv_leave_prepare(CsvVolume *vol)
{
    CsvLeave *leave = &vol->leave;
    int ret = csv_leave_idle(vol);
    bool activate = leave->able;

    leave->able = false;
    if (ret < 0 || !activate || !(vol->bs->open_flags & BDRV_O_INACTIVE)) {
        return ret;
    }
    leave->ending = true;
    leave->activated = true;
    return bdrv_activate(vol->bs, NULL) < 0 ? -EAGAIN : 0;
}

static void csv_leave(void *opaque)
{
    CsvVolume *vol = opaque;
    CsvLeave *leave = &vol->leave;
    int ret;

    if (leave->running) {
        leave->again = true;
        return;
    }
    if (leave->ending) {
        if (csv_leave_busy(vol)) {
            csv_leave_in(vol, CSV_LEAVE_MS);
            return;
        }
        csv_leave_end(vol);
        ret = csv_leave_idle(vol) == -EBUSY ? -EBUSY : -EAGAIN;
    } else {
        ret = csv_leave_prepare(vol);
    }
    if (ret >= 0) {
        csv_leave_start(vol);
    } else if (ret == -EAGAIN) {
        csv_leave_later(vol);
    }
}

void csv_leave_soon(CsvVolume *vol)
{
    CsvLeave *leave = &vol->leave;

    if (!leave->timer) {
        leave->timer = timer_new_ms(QEMU_CLOCK_REALTIME, csv_leave, vol);
    }
    leave->again = true;
    leave->ms = CSV_LEAVE_MS;
    csv_leave_in(vol, leave->ms);
}
