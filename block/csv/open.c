/*
 * Cluster shared volume: activate and inactivate a disk
 *
 * Opening a disk for writing makes the process a member of the volume and the
 * owner of the disk; closing or inactivating the node releases the disk.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "block/csv/disk/disk.h"
#include "open.h"

/* Attempts to read a map that its owner may be writing. */
#define CSV_READ_TRIES 5

/* Read the record of a disk that is not ours again: its owner may resize it. */
static int GRAPH_RDLOCK
csv_disk_inspect(CsvDisk *disk, Error **errp)
{
    CsvDiskRecord rec;
    int ret = csv_disk_reread(disk, &rec, errp);

    if (ret < 0) {
        return ret;
    }
    if (!qemu_uuid_is_equal(&rec.uuid, &disk->record.uuid) ||
        rec.state == CSV_RECORD_DELETING) {
        error_setg(errp, "Disk '%s' of csv volume '%s' was deleted",
                   disk->record.name, csv_volume_label(disk->volume));
        return -ENOENT;
    }
    disk->record = rec;
    return 0;
}

/* Did the last owner release the disk cleanly? */
static bool csv_disk_is_clean(const CsvDiskRecord *rec)
{
    return (rec->state == CSV_RECORD_FREE ||
            rec->state == CSV_RECORD_HANDOVER) && rec->journal_sequence;
}

static int GRAPH_RDLOCK
csv_disk_load_once(CsvDisk *disk, CsvLoadMode mode, Error **errp)
{
    BlockDriverState *file = disk->bs->file->bs;
    int ret = disk->owned ? 0 : csv_disk_inspect(disk, errp);

    if (ret < 0) {
        return ret;
    }
    if (!disk->owned) {
        mode = csv_disk_is_clean(&disk->record) ? CSV_LOAD_CLEAN
                                                : CSV_LOAD_REPLAY;
    }
    ret = csv_refresh_length(file);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot find the size of node '%s'",
                         bdrv_get_node_name(file));
        return ret;
    }
    ret = csv_segments_load(disk, errp);
    return ret < 0 ? ret : csv_map_load(disk, mode, errp);
}

/*
 * Read segments and map.  If another member owns the disk, a page may be half
 * written, so retry after a failure.  @mode is for a disk that we own.
 */
static int GRAPH_RDLOCK
csv_disk_load(CsvDisk *disk, CsvLoadMode mode, Error **errp)
{
    Error *err = NULL;
    int tries, ret;

    for (tries = 1; ; tries++) {
        ret = csv_disk_load_once(disk, mode, &err);
        if (ret != -EINVAL || disk->owned ||
            disk->record.state != CSV_RECORD_OWNED ||
            tries == CSV_READ_TRIES) {
            break;
        }
        error_free(err);
        err = NULL;
        g_usleep(1000 * tries);
    }
    error_propagate(errp, err);
    return ret;
}

void csv_disk_detach(CsvDisk *disk)
{
    BdrvChild *file = disk->bs->file;

    if (disk->use) {
        csv_use_leave(disk);
    }
    csv_member_detach(disk->volume, file);
    disk->attached = false;
}

/*
 * After a claim: read the map, and write our first journal record.  @was is the
 * record before the claim.
 */
static int GRAPH_RDLOCK
csv_disk_take(CsvDisk *disk, const CsvDiskRecord *was, Error **errp)
{
    CsvLoadMode mode = !csv_disk_is_clean(was) ? CSV_LOAD_REPLAY :
                       disk->map_replaced ? CSV_LOAD_HANDED_OVER :
                       CSV_LOAD_CLEAN;
    int ret = csv_disk_load(disk, mode, errp);

    if (ret < 0) {
        return ret;
    }
    if (mode != CSV_LOAD_REPLAY) {
        csv_journal_position(disk, was);
    }
    ret = csv_map_cut(disk, disk->record.size);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read the level-2 map of disk "
                         "'%s' of csv volume '%s'", disk->record.name,
                         csv_volume_label(disk->volume));
        return ret;
    }
    if (disk->header.autoclear & ~CSV_AUTOCLEAR_KNOWN) {
        CsvHeader header = disk->header;

        header.autoclear &= CSV_AUTOCLEAR_KNOWN;
        ret = csv_header_write(disk, &header, errp);
        if (ret < 0) {
            return ret;
        }
    }
    ret = csv_journal_mount(disk, errp);
    if (ret >= 0) {
        csv_header_refresh(disk);
    }
    return ret;
}

static int GRAPH_RDLOCK csv_disk_attach(CsvDisk *disk, Error **errp)
{
    int ret = 0;

    if (!disk->attached) {
        ret = csv_member_attach(disk->volume, disk->bs->file, errp);
        disk->attached = ret >= 0;
    }
    return ret;
}

/* Activate a shared disk for writing. */
static int GRAPH_RDLOCK csv_disk_share(CsvDisk *disk, Error **errp)
{
    int ret = csv_use_enter(disk, true, errp);

    if (ret < 0) {
        return ret;
    }
    ret = csv_disk_load(disk, CSV_LOAD_REPLAY, errp);
    if (ret >= 0 && !csv_map_is_full(disk)) {
        error_setg(errp, "Disk '%s' of csv volume '%s' is shared, but not all "
                   "of it is allocated; unshare it, or create it with "
                   "preallocation=full", disk->record.name,
                   csv_volume_label(disk->volume));
        ret = -EINVAL;
    }
    if (ret < 0) {
        csv_use_leave(disk);
    }
    return ret;
}

int csv_disk_begin_read(CsvDisk *disk, Error **errp)
{
    BlockDriverState *bs = disk->bs, *file = bs->file->bs;
    int ret = 0;

    if (disk->record.flags && !disk->use && !bdrv_is_read_only(file) &&
        !(file->open_flags & BDRV_O_INACTIVE)) {
        disk->claiming_node = true;
        ret = bdrv_child_refresh_perms(bs, bs->file, errp);
        if (ret >= 0) {
            ret = csv_disk_attach(disk, errp);
        }
        if (ret >= 0) {
            ret = csv_use_enter(disk, false, errp);
        }
        disk->claiming_node = false;
    }
    return ret < 0 ? ret : csv_disk_load(disk, CSV_LOAD_REPLAY, errp);
}

/* Undo a claim.  Only the epoch has changed. */
static void GRAPH_RDLOCK
csv_disk_give_up(CsvDisk *disk, const QemuUUID *token)
{
    disk->record.journal_sequence = 0;
    /* With the same token, so that the other side can still claim it. */
    if (csv_disk_release(disk, token, NULL) < 0) {
        /* It may be ours until that is known, or we leave the volume. */
        disk->owned = false;
        disk->unsure = disk->record.epoch;
    }
}

int csv_disk_activate(CsvDisk *disk, const QemuUUID *token, Error **errp)
{
    bool joined = !disk->attached;
    CsvDiskRecord was;
    int ret;

    ret = csv_disk_attach(disk, errp);
    if (ret < 0) {
        return ret;
    }
    if (disk->record.flags & CSV_DISK_SHARED) {
        ret = csv_disk_share(disk, errp);
        if (ret < 0 && joined) {
            csv_disk_detach(disk);
        }
        return ret;
    }
    ret = csv_disk_claim(disk, token, &was, errp);
    if (ret < 0) {
        if (joined && !disk->unsure) {
            csv_disk_detach(disk);
        }
        return ret;
    }
    ret = csv_disk_take(disk, &was, errp);
    if (ret < 0) {
        csv_disk_give_up(disk, token);
        return ret;
    }
    csv_adjust_start(disk);
    return 0;
}

int csv_disk_let_go(CsvDisk *disk, const QemuUUID *token, Error **errp)
{
    int ret;

    csv_adjust_stop(disk);
    if (!disk->pending) {
        if (!token) {
            csv_segments_give_back_all(disk);
        }   /* else save time: the destination keeps the segments */
        csv_journal_settle(disk, &disk->record);
    } else {
        disk->record.journal_sequence = 0;
    }
    if (disk->making) {
        /* csv_disk_make_end() changes the record. */
        disk->owned = false;
        return 0;
    }
    if (!disk->owned) {
        error_setg(errp, "Disk '%s' of csv volume '%s' was taken by another "
                   "member", disk->record.name, csv_volume_label(disk->volume));
        return -ESTALE;
    }
    ret = csv_disk_release(disk, token, errp);
    if (disk->owned) {
        csv_adjust_start(disk);
    }
    return ret;
}

/*
 * If no disk is named, a node for a check or for information can be the volume
 * itself, with a size of 0.
 */
static bool GRAPH_RDLOCK csv_open_whole(CsvDisk *disk, int flags)
{
    CsvDiskRecord rec;
    uint8_t raw[CSV_RECORD_SIZE];

    if (disk->name || !(flags & (BDRV_O_CHECK | BDRV_O_NO_IO))) {
        return false;
    }
    disk->whole = flags & BDRV_O_CHECK ||
                  csv_disk_find(disk->volume, disk->bs->file, NULL, &rec, raw,
                                NULL) < 0;
    return disk->whole;
}

/* Open a disk under creation by this process as if it owned the disk. */
static int GRAPH_RDLOCK
csv_open_making(CsvDisk *disk, Error **errp)
{
    const CsvDiskRecord *rec = &disk->record;
    int ret;

    if (!qemu_uuid_is_equal(&disk->made, &rec->uuid) ||
        !csv_member_is_me(disk->volume, rec->owner, rec->owner_incarnation)) {
        error_setg(errp, "Disk '%s' of csv volume '%s' is not complete: it is "
                   "being created, or that was interrupted; create it again",
                   rec->name, csv_volume_label(disk->volume));
        return -EBUSY;
    }
    ret = csv_member_attach(disk->volume, disk->bs->file, errp);
    if (ret < 0) {
        return ret;
    }
    disk->attached = disk->owned = disk->making = true;
    ret = csv_disk_take(disk, rec, errp);
    if (ret < 0) {
        disk->owned = false;
    }
    return ret;
}

int csv_open_disk(CsvDisk *disk, int flags, Error **errp)
{
    BlockDriverState *bs = disk->bs;
    int ret;

    disk->volume = csv_volume_get(bs->file, errp);
    if (!disk->volume) {
        return -EINVAL;
    }
    QLIST_INSERT_HEAD(&disk->volume->disks, disk, next);
    if (csv_open_whole(disk, flags)) {
        return 0;
    }
    ret = csv_disk_find(disk->volume, bs->file, disk->name, &disk->record,
                        disk->raw, errp);
    if (ret >= 0) {
        ret = csv_backing_check_chain(disk, errp);
    }
    if (ret < 0) {
        return ret;
    }
    if (disk->record.state == CSV_RECORD_CREATING) {
        return csv_open_making(disk, errp);
    }
    if (flags & BDRV_O_CHECK) {
        return 0;   /* csv_co_check() does not use the map in memory */
    }
    if ((flags & BDRV_O_RDWR) && !(flags & BDRV_O_INACTIVE)) {
        ret = csv_disk_activate(disk, NULL, errp);
    } else if (flags & BDRV_O_NO_IO) {
        ret = csv_disk_load(disk, CSV_LOAD_REPLAY, errp);
    } else {
        ret = csv_disk_begin_read(disk, errp);
        if (ret >= 0 && flags & BDRV_O_INACTIVE) {
            csv_member_look(disk->volume, bs->file);
        }
    }
    if (ret >= 0) {
        ret = csv_backing_open(bs, errp);
        if (ret < 0 && disk->owned) {
            csv_disk_give_up(disk, NULL);
        }
    }
    return ret;
}
