/*
 * Cluster shared volume: growing and shrinking a disk
 *
 * The size is in the disk record, the map is in the disk's segments, so they do
 * not change atomically.  Therefore the map may contain clusters past the end,
 * which nobody reads, and the owner drops them when it opens the disk.  To
 * shrink, first change the size, then drop the clusters.  To grow, first drop
 * them durably and clear the rest of the last subcluster, then change the size.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/memalign.h"
#include "disk.h"

/*
 * Make [offset, end) read as zeroes: the rest of the subcluster that contains
 * the old end of the disk.
 */
static int coroutine_fn GRAPH_RDLOCK
csv_clear_tail(BlockDriverState *bs, uint64_t offset, uint64_t end)
{
    QEMU_AUTO_VFREE uint8_t *zeroes = NULL;
    CsvExtentKind kind;
    QEMUIOVector qiov;
    uint64_t host;
    int64_t ret;

    ret = csv_map_extent(bs->opaque, offset, end - offset, &kind, &host);
    if (ret < 0) {
        return ret;
    }
    if (kind == CSV_EXTENT_ZERO ||
        (kind == CSV_EXTENT_HOLE && !bs->backing)) {
        return 0;
    }
    zeroes = qemu_blockalign0(bs->file->bs, end - offset);
    qemu_iovec_init_buf(&qiov, zeroes, end - offset);
    return csv_co_pwritev_part(bs, offset, end - offset, &qiov, 0, 0);
}

/* If the backing image is longer, it must not be visible past the old end. */
static int coroutine_fn GRAPH_RDLOCK
csv_hide_backing(BlockDriverState *bs, uint64_t offset, uint64_t end)
{
    int64_t length = bs->backing ? bdrv_co_getlength(bs->backing->bs) : 0;

    if (length < 0) {
        return length;
    }
    end = MIN(end, ROUND_UP(length, CSV_SUBCLUSTER_SIZE));
    return end <= offset ? 0 : csv_clear_range(bs, offset, end - offset, true,
                                               false);
}

static int GRAPH_RDLOCK
csv_set_size(CsvDisk *disk, uint64_t size, Error **errp)
{
    int ret = csv_disk_set_size(disk, size, errp);

    if (ret >= 0) {
        csv_header_refresh(disk);
    }
    return ret;
}

static int coroutine_fn GRAPH_RDLOCK
csv_grow(BlockDriverState *bs, uint64_t size, PreallocMode prealloc,
         Error **errp)
{
    CsvDisk *disk = bs->opaque;
    uint64_t old = disk->record.size;
    uint64_t aligned = ROUND_UP(old, CSV_SUBCLUSTER_SIZE);
    int ret = csv_map_cut(disk, old);   /* left by a shrink that failed */

    if (ret >= 0 && aligned > old && !csv_break(CSV_BREAK_GROW_UNCLEARED)) {
        ret = csv_clear_tail(bs, old, aligned);
    }
    if (ret >= 0) {
        ret = csv_hide_backing(bs, aligned, ROUND_UP(size,
                                                     CSV_SUBCLUSTER_SIZE));
    }
    if (ret >= 0 && !csv_break(CSV_BREAK_GROW_BEFORE_CLEAR)) {
        ret = csv_journal_commit(disk);
        if (ret >= 0) {
            ret = bdrv_co_flush(bs->file->bs);
        }
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot clear the space after the end "
                         "of disk '%s' of csv volume '%s'", disk->record.name,
                         csv_volume_label(disk->volume));
        return ret;
    }
    ret = csv_preallocate(bs, aligned, size, prealloc, errp);
    return ret < 0 ? ret : csv_set_size(disk, size, errp);
}

int coroutine_fn
csv_co_truncate(BlockDriverState *bs, int64_t offset, bool exact,
                PreallocMode prealloc, BdrvRequestFlags flags, Error **errp)
{
    CsvDisk *disk = bs->opaque;
    uint64_t size = ROUND_UP(offset, BDRV_SECTOR_SIZE);
    int ret;

    if (disk->record.flags & CSV_DISK_SHARED) {
        error_setg(errp, "Disk '%s' of csv volume '%s' is shared and cannot be "
                   "resized; use csv-disk-share to unshare it first",
                   disk->record.name, csv_volume_label(disk->volume));
        return -EBUSY;
    }
    if (!disk->owned) {
        error_setg(errp, "Disk '%s' of csv volume '%s' is not owned by this "
                   "process and cannot be resized", disk->record.name,
                   csv_volume_label(disk->volume));
        return -EPERM;
    }
    if (size > CSV_MAX_DISK_SIZE) {
        error_setg(errp, "A csv disk has at most %" PRIu64 " bytes",
                   (uint64_t)CSV_MAX_DISK_SIZE);
        return -EFBIG;
    }
    if (size > disk->record.size) {
        return csv_grow(bs, size, prealloc, errp);
    }
    if (size == disk->record.size) {
        return 0;
    }
    ret = csv_set_size(disk, size, errp);
    if (ret >= 0) {
        /* If this fails, the disk has shrunk nevertheless; see csv_grow(). */
        csv_map_cut(disk, size);
    }
    return ret;
}
