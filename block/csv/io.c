/*
 * Cluster shared volume: the I/O path
 *
 * A read, and a write to subclusters that hold data, is a look at the map and
 * one request to the volume; no lock is taken.  A write to anything else
 * allocates: such requests are in line for each cluster, so that an entry of
 * the map has one writer.  The part of a subcluster that the guest does not
 * write is filled with zeroes in the same request, because a cluster may hold
 * what an earlier disk left there.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/memalign.h"
#include "csv.h"
#include "trace.h"

int coroutine_fn GRAPH_RDLOCK
csv_co_preadv_part(BlockDriverState *bs, int64_t offset, int64_t bytes,
                   QEMUIOVector *qiov, size_t qiov_offset,
                   BdrvRequestFlags flags)
{
    CsvDisk *disk = bs->opaque;

    while (bytes) {
        CsvExtentKind kind;
        uint64_t host;
        int64_t n = csv_map_extent(disk, offset, bytes, &kind, &host);

        if (kind == CSV_EXTENT_DATA) {
            int ret = bdrv_co_preadv_part(bs->file, host, n, qiov,
                                          qiov_offset, 0);
            if (ret < 0) {
                return ret;
            }
        } else {
            qemu_iovec_memset(qiov, qiov_offset, 0, n);
        }
        offset += n;
        bytes -= n;
        qiov_offset += n;
    }
    return 0;
}

/* Subclusters that [offset, offset + bytes) of one cluster touches. */
static uint32_t csv_touched(uint64_t offset, uint64_t bytes)
{
    uint64_t in = offset & (CSV_CLUSTER_SIZE - 1);
    unsigned first = in >> CSV_SUBCLUSTER_BITS;
    unsigned last = (in + bytes - 1) >> CSV_SUBCLUSTER_BITS;

    assert(bytes && last < CSV_SUBCLUSTERS);
    return MAKE_64BIT_MASK(first, last - first + 1);
}

/*
 * Write [offset, offset + bytes) of the disk into its cluster at @place, and
 * zeroes around it up to the bounds of subclusters that hold no data yet.
 */
static int coroutine_fn GRAPH_RDLOCK
csv_write_padded(BlockDriverState *bs, uint64_t place, uint64_t offset,
                 uint64_t bytes, uint32_t data, QEMUIOVector *qiov,
                 size_t qiov_offset, BdrvRequestFlags flags)
{
    uint64_t in = offset & (CSV_CLUSTER_SIZE - 1);
    uint64_t end = in + bytes;
    uint64_t head = in % CSV_SUBCLUSTER_SIZE;
    uint64_t tail = ROUND_UP(end, CSV_SUBCLUSTER_SIZE) - end;
    QEMU_AUTO_VFREE uint8_t *zeroes = NULL;
    QEMUIOVector padded;
    int ret;

    if (data & (1U << (in >> CSV_SUBCLUSTER_BITS))) {
        head = 0;
    }
    if (data & (1U << ((end - 1) >> CSV_SUBCLUSTER_BITS))) {
        tail = 0;
    }
    if (!head && !tail) {
        return bdrv_co_pwritev_part(bs->file, place + in, bytes, qiov,
                                    qiov_offset, flags);
    }

    zeroes = qemu_blockalign0(bs->file->bs, MAX(head, tail));
    if (qemu_iovec_subvec_niov(qiov, qiov_offset, bytes) + 2 > IOV_MAX) {
        /* The padding does not fit into the request. */
        ret = head ? bdrv_co_pwrite(bs->file, place + in - head, head, zeroes,
                                    0) : 0;
        if (ret >= 0 && tail) {
            ret = bdrv_co_pwrite(bs->file, place + end, tail, zeroes, 0);
        }
        return ret < 0 ? ret : bdrv_co_pwritev_part(bs->file, place + in,
                                                    bytes, qiov, qiov_offset,
                                                    flags);
    }
    qemu_iovec_init(&padded, qiov->niov + 2);
    if (head) {
        qemu_iovec_add(&padded, zeroes, head);
    }
    qemu_iovec_concat(&padded, qiov, qiov_offset, bytes);
    if (tail) {
        qemu_iovec_add(&padded, zeroes, tail);
    }
    /* The padding is not in a buffer that was registered. */
    ret = bdrv_co_pwritev(bs->file, place + in - head, padded.size, &padded,
                          flags & ~BDRV_REQ_REGISTERED_BUF);
    qemu_iovec_destroy(&padded);
    return ret;
}

/*
 * Enter the line of requests that change the map entry of @cluster.  On
 * success alloc_lock is not held, and csv_alloc_end() must follow.
 */
static int coroutine_fn GRAPH_RDLOCK
csv_alloc_begin(CsvDisk *disk, uint64_t cluster, BlockReq *req,
                CsvL2Entry **entry)
{
    int64_t start = cluster << CSV_CLUSTER_BITS;
    int ret;

    QEMU_LOCK_GUARD(&disk->alloc_lock);
    reqlist_wait_all(&disk->allocating, start, CSV_CLUSTER_SIZE,
                     &disk->alloc_lock);
    ret = csv_map_entry_make(disk, cluster, entry);
    if (ret < 0) {
        return ret;
    }
    reqlist_init_req(&disk->allocating, req, start, CSV_CLUSTER_SIZE);
    return 0;
}

static void coroutine_fn csv_alloc_end(CsvDisk *disk, BlockReq *req)
{
    QEMU_LOCK_GUARD(&disk->alloc_lock);
    reqlist_remove_req(req);
}

/* A write within one cluster, of which some subclusters hold no data. */
static int coroutine_fn GRAPH_RDLOCK
csv_write_alloc(BlockDriverState *bs, uint64_t offset, uint64_t bytes,
                QEMUIOVector *qiov, size_t qiov_offset,
                BdrvRequestFlags flags)
{
    CsvDisk *disk = bs->opaque;
    uint64_t cluster = offset >> CSV_CLUSTER_BITS;
    uint32_t touched = csv_touched(offset, bytes);
    CsvL2Entry *entry;
    uint64_t place, masks;
    BlockReq req;
    bool fresh;
    int ret;

    ret = csv_alloc_begin(disk, cluster, &req, &entry);
    if (ret < 0) {
        return ret;
    }
    place = entry->offset;
    masks = entry->masks;
    fresh = !place;
    if (fresh) {
        QEMU_LOCK_GUARD(&disk->alloc_lock);
        ret = csv_cluster_alloc(disk, &place);
    }
    trace_csv_write_alloc(disk, cluster, place, bytes);
    if (ret >= 0) {
        ret = csv_write_padded(bs, place, offset, bytes,
                               csv_masks_data(masks), qiov, qiov_offset,
                               flags);
        if (ret >= 0) {
            csv_map_set(disk, cluster, entry, place,
                        csv_masks(csv_masks_data(masks) | touched,
                                  csv_masks_zero(masks) & ~touched));
        } else if (fresh) {
            QEMU_LOCK_GUARD(&disk->alloc_lock);
            csv_cluster_free(disk, place);
        }
    }
    csv_alloc_end(disk, &req);
    return ret;
}

int coroutine_fn GRAPH_RDLOCK
csv_co_pwritev_part(BlockDriverState *bs, int64_t offset, int64_t bytes,
                    QEMUIOVector *qiov, size_t qiov_offset,
                    BdrvRequestFlags flags)
{
    CsvDisk *disk = bs->opaque;

    if (!disk->owned) {
        return -EPERM;
    }
    while (bytes) {
        CsvExtentKind kind;
        uint64_t host;
        int64_t n = csv_map_extent(disk, offset, bytes, &kind, &host);
        int ret;

        if (kind == CSV_EXTENT_DATA) {
            ret = bdrv_co_pwritev_part(bs->file, host, n, qiov, qiov_offset,
                                       flags);
        } else {
            n = MIN(bytes, ROUND_UP(offset + 1, CSV_CLUSTER_SIZE) - offset);
            ret = csv_write_alloc(bs, offset, n, qiov, qiov_offset, flags);
        }
        if (ret < 0) {
            return ret;
        }
        offset += n;
        bytes -= n;
        qiov_offset += n;
    }
    return 0;
}

int coroutine_fn GRAPH_RDLOCK
csv_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                     BdrvRequestFlags flags)
{
    CsvDisk *disk = bs->opaque;
    int64_t size = bs->total_sectors * BDRV_SECTOR_SIZE;
    bool whole = offset % CSV_SUBCLUSTER_SIZE == 0 &&
                 ((offset + bytes) % CSV_SUBCLUSTER_SIZE == 0 ||
                  offset + bytes == size);

    if (!disk->owned) {
        return -EPERM;
    }
    if (!whole) {
        return -ENOTSUP;    /* the block layer writes zeroes then */
    }
    while (bytes) {
        int64_t n = MIN(bytes, ROUND_UP(offset + 1, CSV_CLUSTER_SIZE) -
                               offset);
        uint32_t touched = csv_touched(offset, n);
        CsvL2Entry *entry;
        BlockReq req;
        int ret = csv_alloc_begin(disk, offset >> CSV_CLUSTER_BITS, &req,
                                  &entry);

        if (ret < 0) {
            return ret;
        }
        csv_map_set(disk, offset >> CSV_CLUSTER_BITS, entry, entry->offset,
                    csv_masks(csv_masks_data(entry->masks) & ~touched,
                              csv_masks_zero(entry->masks) | touched));
        csv_alloc_end(disk, &req);
        offset += n;
        bytes -= n;
    }
    return 0;
}

int coroutine_fn GRAPH_RDLOCK csv_co_flush_to_os(BlockDriverState *bs)
{
    CsvDisk *disk = bs->opaque;

    return csv_map_write_back(disk);
}

int coroutine_fn GRAPH_RDLOCK
csv_co_block_status(BlockDriverState *bs, bool want_zero,
                    int64_t offset, int64_t bytes, int64_t *pnum,
                    int64_t *map, BlockDriverState **file)
{
    CsvExtentKind kind;
    uint64_t host;

    *pnum = csv_map_extent(bs->opaque, offset, bytes, &kind, &host);
    switch (kind) {
    case CSV_EXTENT_DATA:
        *map = host;
        *file = bs->file->bs;
        return BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID;
    case CSV_EXTENT_ZERO:
        return BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED;
    default:
        /* There are no backing images, so a hole reads as zeroes. */
        return BDRV_BLOCK_ZERO;
    }
}
