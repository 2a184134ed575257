/*
 * Cluster shared volume: the I/O path
 *
 * A read, or a write to subclusters with data, takes one map lookup and one
 * request to the volume, without a lock.  Any other write allocates.
 * Allocating requests are queued for the subclusters they touch, so that no two
 * change the same bits of the map.  The rest of a subcluster that the guest
 * does not write is filled in the same request with its previous content: from
 * the backing image, or with zeroes, because the cluster may contain old data
 * of another disk.
 *
 * Discards are queued for whole clusters.  They also wait for all requests in
 * flight in the range (which the block layer tracks), because a request that
 * read the map before still accesses the old place.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/memalign.h"
#include "disk.h"
#include "trace/trace-block_csv.h"

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
        int ret = 0;

        if (n < 0) {
            return n;
        }
        if (kind == CSV_EXTENT_DATA) {
            BLKDBG_CO_EVENT(bs->file, BLKDBG_READ_AIO);
            ret = bdrv_co_preadv_part(bs->file, host, n, qiov, qiov_offset,
                                      0);
        } else if (kind == CSV_EXTENT_HOLE && bs->backing) {
            BLKDBG_CO_EVENT(bs->file, BLKDBG_READ_BACKING_AIO);
            ret = bdrv_co_preadv_part(bs->backing, offset, n, qiov,
                                      qiov_offset, 0);
        } else {
            qemu_iovec_memset(qiov, qiov_offset, 0, n);
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

uint32_t csv_touched(uint64_t offset, uint64_t bytes)
{
    uint64_t in = offset & (CSV_CLUSTER_SIZE - 1);
    unsigned first = in >> CSV_SUBCLUSTER_BITS;
    unsigned last = (in + bytes - 1) >> CSV_SUBCLUSTER_BITS;

    assert(bytes && last < CSV_SUBCLUSTERS);
    return MAKE_64BIT_MASK(first, last - first + 1);
}

void coroutine_fn csv_queue_enter(CsvDisk *disk, BlockReq *req,
                                  uint64_t offset, uint64_t bytes,
                                  uint64_t unit)
{
    uint64_t start = ROUND_DOWN(offset, unit);
    uint64_t end = ROUND_UP(offset + bytes, unit);
    BlockReq *other;

    QEMU_LOCK_GUARD(&disk->alloc_lock);
    while ((other = reqlist_find_conflict(&disk->allocating, start,
                                          end - start)) &&
           !csv_break(CSV_BREAK_NO_QUEUE)) {
        qemu_co_queue_wait(&other->wait_queue, &disk->alloc_lock);
    }
    reqlist_init_req(&disk->allocating, req, start, end - start);
}

void coroutine_fn csv_queue_leave(CsvDisk *disk, BlockReq *req)
{
    QEMU_LOCK_GUARD(&disk->alloc_lock);
    reqlist_remove_req(req);
}

/* Write data to the volume, after csv_gate_pass(). */
static int coroutine_fn GRAPH_RDLOCK
csv_write_data(CsvDisk *disk, uint64_t offset, uint64_t bytes,
               QEMUIOVector *qiov, size_t qiov_offset, BdrvRequestFlags flags)
{
    int ret = csv_gate_pass(disk->volume);

    return ret < 0 ? ret : bdrv_co_pwritev_part(disk->bs->file, offset, bytes,
                                                qiov, qiov_offset, flags);
}

/* The same, from one buffer of our own. */
static int coroutine_fn GRAPH_RDLOCK
csv_write_buffer(CsvDisk *disk, uint64_t offset, uint64_t bytes,
                 const void *buf, BdrvRequestFlags flags)
{
    int ret = csv_gate_pass(disk->volume);

    return ret < 0 ? ret : bdrv_co_pwrite(disk->bs->file, offset, bytes, buf,
                                          flags & ~BDRV_REQ_REGISTERED_BUF);
}

/* Read the previous content of [offset, offset + bytes) into @buf. */
static int coroutine_fn GRAPH_RDLOCK
csv_fill(BlockDriverState *bs, uint64_t offset, uint64_t bytes, uint64_t masks,
         uint8_t *buf)
{
    uint32_t sub = csv_touched(offset, bytes);

    if (!bs->backing || (csv_masks_zero(masks) & sub) ||
        csv_break(CSV_BREAK_NO_FILL)) {
        memset(buf, 0, bytes);
        return 0;
    }
    return bdrv_co_pread(bs->backing, offset, bytes, buf, 0);
}

/* Up to this size, copying the data is cheaper than a second request. */
#define CSV_COPY_MAX (16 * KiB)

/* As csv_write_filled(), within one subcluster without data, with a copy. */
static int coroutine_fn GRAPH_RDLOCK
csv_write_around(BlockDriverState *bs, uint64_t place, uint64_t offset,
                 uint64_t bytes, uint64_t masks, QEMUIOVector *qiov,
                 size_t qiov_offset, BdrvRequestFlags flags)
{
    QEMU_AUTO_VFREE uint8_t *buf = qemu_blockalign(bs->file->bs,
                                                   CSV_SUBCLUSTER_SIZE);
    uint64_t head = offset % CSV_SUBCLUSTER_SIZE;
    uint64_t in = offset & (CSV_CLUSTER_SIZE - 1);
    int ret = csv_fill(bs, offset - head, CSV_SUBCLUSTER_SIZE, masks, buf);

    if (ret < 0) {
        return ret;
    }
    qemu_iovec_to_buf(qiov, qiov_offset, buf + head, bytes);
    return csv_write_buffer(bs->opaque, place + in - head,
                            CSV_SUBCLUSTER_SIZE, buf, flags);
}

/*
 * Write [offset, offset + bytes) of the disk to its cluster at @place, and fill
 * the rest of the subclusters that had no data.
 */
static int coroutine_fn GRAPH_RDLOCK
csv_write_filled(BlockDriverState *bs, uint64_t place, uint64_t offset,
                 uint64_t bytes, uint64_t masks, QEMUIOVector *qiov,
                 size_t qiov_offset, BdrvRequestFlags flags)
{
    CsvDisk *disk = bs->opaque;
    bool blank = !csv_has_backing(disk) &&
                 csv_map_blank(disk, offset >> CSV_CLUSTER_BITS);
    uint64_t in = offset & (CSV_CLUSTER_SIZE - 1);
    uint64_t end = in + bytes;
    uint64_t head = in % CSV_SUBCLUSTER_SIZE;
    uint64_t tail = ROUND_UP(end, CSV_SUBCLUSTER_SIZE) - end;
    QEMU_AUTO_VFREE uint8_t *fill = NULL;
    QEMUIOVector filled;
    int ret = 0;

    if (blank || csv_masks_data(masks) & (1U << (in >> CSV_SUBCLUSTER_BITS))) {
        head = 0;
    }
    if (blank ||
        csv_masks_data(masks) & (1U << ((end - 1) >> CSV_SUBCLUSTER_BITS))) {
        tail = 0;
    }
    if (!head && !tail) {
        return csv_write_data(disk, place + in, bytes, qiov, qiov_offset,
                              flags);
    }

    stat64_add(&disk->bytes_filled, head + tail);
    if (head && tail && bytes <= CSV_COPY_MAX &&
        head + bytes + tail == CSV_SUBCLUSTER_SIZE) {
        return csv_write_around(bs, place, offset, bytes, masks, qiov,
                                qiov_offset, flags);
    }
    fill = qemu_blockalign(bs->file->bs, head + tail);
    if (head) {
        ret = csv_fill(bs, offset - head, head, masks, fill);
    }
    if (ret >= 0 && tail) {
        ret = csv_fill(bs, offset + bytes, tail, masks, fill + head);
    }
    if (ret < 0) {
        return ret;
    }
    if (qemu_iovec_subvec_niov(qiov, qiov_offset, bytes) + 2 > IOV_MAX) {
        /* Too many vectors for one request: write the filling separately. */
        ret = head ? csv_write_buffer(disk, place + in - head, head, fill, 0)
                   : 0;
        if (ret >= 0 && tail) {
            ret = csv_write_buffer(disk, place + end, tail, fill + head, 0);
        }
        return ret < 0 ? ret : csv_write_data(disk, place + in, bytes, qiov,
                                              qiov_offset, flags);
    }
    qemu_iovec_init(&filled, qiov->niov + 2);
    if (head) {
        qemu_iovec_add(&filled, fill, head);
    }
    qemu_iovec_concat(&filled, qiov, qiov_offset, bytes);
    if (tail) {
        qemu_iovec_add(&filled, fill + head, tail);
    }
    /* The filling is not in a registered buffer. */
    ret = csv_write_data(disk, place + in - head, filled.size, &filled, 0,
                         flags & ~BDRV_REQ_REGISTERED_BUF);
    qemu_iovec_destroy(&filled);
    return ret;
}

/* A write within one cluster, to some subclusters without data. */
static int coroutine_fn GRAPH_RDLOCK
csv_write_alloc(BlockDriverState *bs, uint64_t offset, uint64_t bytes,
                QEMUIOVector *qiov, size_t qiov_offset,
                BdrvRequestFlags flags)
{
    CsvDisk *disk = bs->opaque;
    uint64_t cluster = offset >> CSV_CLUSTER_BITS;
    CsvL2Entry entry;
    uint64_t place;
    BlockReq req;
    int ret;

    csv_queue_enter(disk, &req, offset, bytes, CSV_SUBCLUSTER_SIZE);
    ret = csv_map_place(disk, cluster, &place);
    trace_csv_write_alloc(disk, cluster, place, bytes);
    if (ret >= 0) {
        ret = csv_map_get(disk, cluster, &entry);
    }
    if (ret >= 0) {
        ret = csv_write_filled(bs, place, offset, bytes, entry.masks, qiov,
                               qiov_offset, flags);
        if (ret >= 0) {
            ret = csv_map_change(disk, cluster, csv_touched(offset, bytes), 0,
                                 0, false);
        }
        if (ret < 0) {
            csv_map_spoil(disk, cluster);
        }
    }
    csv_queue_leave(disk, &req);
    return ret;
}

int coroutine_fn GRAPH_RDLOCK
csv_co_pwritev_part(BlockDriverState *bs, int64_t offset, int64_t bytes,
                    QEMUIOVector *qiov, size_t qiov_offset,
                    BdrvRequestFlags flags)
{
    CsvDisk *disk = bs->opaque;

    if (!disk->owned && !(disk->use & CSV_USE_WRITE)) {
        return -EPERM;
    }
    while (bytes) {
        CsvExtentKind kind;
        uint64_t host;
        int64_t n = csv_map_extent(disk, offset, bytes, &kind, &host);
        int ret;

        if (n < 0) {
            return n;
        }
        BLKDBG_CO_EVENT(bs->file, BLKDBG_WRITE_AIO);
        if (kind == CSV_EXTENT_DATA) {
            ret = csv_write_data(disk, host, n, qiov, qiov_offset, flags);
        } else if (!disk->owned) {
            ret = -EIO;     /* a shared disk is fully allocated */
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

/*
 * Wait for all requests that may access what is about to be freed.  Clusters at
 * the bounds are freed as a whole, so the request is extended to clusters.
 */
static void coroutine_fn csv_wait_for_others(BlockDriverState *bs)
{
    bdrv_make_request_serialising(bdrv_co_get_self_request(bs),
                                  CSV_CLUSTER_SIZE);
}

/* Make whole subclusters within one cluster read as zeroes or as a hole. */
static int coroutine_fn GRAPH_RDLOCK
csv_clear(CsvDisk *disk, uint64_t offset, uint64_t bytes, bool zero,
          bool unmap)
{
    uint64_t cluster = offset >> CSV_CLUSTER_BITS;
    uint32_t touched = csv_touched(offset, bytes);
    CsvL2Entry entry;
    BlockReq req;
    int ret = 0;

    csv_queue_enter(disk, &req, offset, bytes,
                    unmap ? CSV_CLUSTER_SIZE : CSV_SUBCLUSTER_SIZE);
    if (zero) {
        ret = csv_map_make_table(disk, cluster);
    }
    if (ret >= 0) {
        ret = csv_map_get(disk, cluster, &entry);
    }
    if (ret >= 0 && (zero || entry.masks)) {
        ret = csv_map_change(disk, cluster, 0, zero ? touched : 0,
                             zero ? 0 : touched, unmap);
    }
    csv_queue_leave(disk, &req);
    return ret;
}

int coroutine_fn GRAPH_RDLOCK
csv_clear_range(BlockDriverState *bs, int64_t offset, int64_t bytes,
                bool zero, bool unmap)
{
    CsvDisk *disk = bs->opaque;
    int64_t size = disk->record.size;
    bool whole = offset % CSV_SUBCLUSTER_SIZE == 0 &&
                 ((offset + bytes) % CSV_SUBCLUSTER_SIZE == 0 ||
                  offset + bytes == size);

    if (!disk->owned) {
        /* A shared disk must stay fully allocated. */
        return disk->use & CSV_USE_WRITE ? -ENOTSUP : -EPERM;
    }
    if (!whole) {
        return -ENOTSUP;    /* the block layer writes zeroes then */
    }
    if (unmap && !csv_break(CSV_BREAK_NO_WAIT)) {
        csv_wait_for_others(bs);
    }
    while (bytes) {
        int64_t n = MIN(bytes, ROUND_UP(offset + 1, CSV_CLUSTER_SIZE) -
                               offset);
        int ret = csv_clear(disk, offset, n, zero, unmap);

        if (ret < 0) {
            return ret;
        }
        offset += n;
        bytes -= n;
    }
    return 0;
}

int coroutine_fn GRAPH_RDLOCK
csv_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                     BdrvRequestFlags flags)
{
    return csv_clear_range(bs, offset, bytes, true,
                           flags & BDRV_REQ_MAY_UNMAP);
}

int coroutine_fn GRAPH_RDLOCK
csv_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    /* What the guest wrote must not be replaced by the backing image. */
    return csv_clear_range(bs, offset, bytes, bs->backing, true);
}

/* Discard on the storage; a failure is harmless. */
static void coroutine_fn GRAPH_RDLOCK
csv_discard_data(CsvDisk *disk, uint64_t offset, uint64_t bytes)
{
    if (csv_gate_pass(disk->volume) >= 0) {
        bdrv_co_pdiscard(disk->bs->file, offset, bytes);
    }
}

/* Discard freed subclusters on the storage. */
static void coroutine_fn GRAPH_RDLOCK
csv_discard_subclusters(CsvDisk *disk, const CsvDiscard *d)
{
    CsvL2Entry entry;
    uint32_t left;
    BlockReq req;

    csv_queue_enter(disk, &req, d->cluster << CSV_CLUSTER_BITS,
                    CSV_CLUSTER_SIZE, CSV_CLUSTER_SIZE);
    /* Not those that were written since. */
    left = csv_map_get(disk, d->cluster, &entry) >= 0 &&
           entry.offset == d->offset ?
           d->subclusters & ~csv_masks_data(entry.masks) : 0;
    if (csv_break(CSV_BREAK_DISCARD_UNSEEN)) {
        left = d->subclusters;
    }
    while (left) {
        unsigned first = ctz32(left);
        unsigned n = ctz64(~((uint64_t)left >> first));

        csv_discard_data(disk, d->offset + first * CSV_SUBCLUSTER_SIZE,
                         n * CSV_SUBCLUSTER_SIZE);
        left &= ~(uint32_t)MAKE_64BIT_MASK(first, n);
    }
    csv_queue_leave(disk, &req);
}

/* Reuse and discard what was freed by changes that are durable now. */
static void coroutine_fn GRAPH_RDLOCK csv_discard_freed(CsvDisk *disk)
{
    g_autoptr(GArray) discards = NULL;
    guint i;

    WITH_QEMU_LOCK_GUARD(&disk->map_lock) {
        if (!disk->discards->len) {
            return;
        }
        discards = g_steal_pointer(&disk->discards);
        disk->discards = g_array_new(false, false, sizeof(CsvDiscard));
    }
    for (i = 0; i < discards->len; i++) {
        CsvDiscard *d = &g_array_index(discards, CsvDiscard, i);

        trace_csv_discard(disk, d->cluster, d->offset, d->subclusters);
        if (d->subclusters != UINT32_MAX) {
            csv_discard_subclusters(disk, d);
            continue;
        }
        csv_discard_data(disk, d->offset, CSV_CLUSTER_SIZE);
        QEMU_LOCK_GUARD(&disk->alloc_lock);
        csv_cluster_free(disk, d->offset);
    }
    if (!csv_break(CSV_BREAK_REUSE_EARLY)) {
        csv_segments_give_back(disk);
    }
}

int coroutine_fn GRAPH_RDLOCK csv_co_flush(BlockDriverState *bs)
{
    CsvDisk *disk = bs->opaque;
    uint64_t begun = qatomic_read(&disk->flush_begun);
    int ret;

    if (csv_break(CSV_BREAK_ACK_BEFORE_RECORD) && disk->flush_lock.locked) {
        return 0;
    }
    if (csv_break(CSV_BREAK_REUSE_EARLY) ||
        csv_break(CSV_BREAK_SEGMENT_EARLY)) {
        csv_discard_freed(disk);
    }
    /* Both events first: the flush of the record may be the only one. */
    BLKDBG_CO_EVENT(bs->file, BLKDBG_FLUSH_TO_OS);
    BLKDBG_CO_EVENT(bs->file, BLKDBG_FLUSH_TO_DISK);
    ret = csv_journal_commit(disk);
    if (ret < 0) {
        return ret;
    }
    csv_discard_freed(disk);
    if (qatomic_read(&disk->flush_done) > begun ||
        csv_break(CSV_BREAK_RECORD_NOT_FLUSHED)) {
        /*
         * The record's flush covers the data as well.  The node below cannot
         * know that, as other requests may have ended since.
         */
        return 0;
    }
    return bdrv_co_flush(bs->file->bs);
}

int coroutine_fn GRAPH_RDLOCK
csv_co_block_status(BlockDriverState *bs, bool want_zero,
                    int64_t offset, int64_t bytes, int64_t *pnum,
                    int64_t *map, BlockDriverState **file)
{
    CsvExtentKind kind;
    uint64_t host;

    *pnum = csv_map_extent(bs->opaque, offset, bytes, &kind, &host);
    if (*pnum < 0) {
        return *pnum;
    }
    switch (kind) {
    case CSV_EXTENT_DATA:
        *map = host;
        *file = bs->file->bs;
        return BDRV_BLOCK_DATA | BDRV_BLOCK_OFFSET_VALID;
    case CSV_EXTENT_ZERO:
        return BDRV_BLOCK_ZERO | BDRV_BLOCK_ALLOCATED;
    default:
        return 0;               /* the backing image, or zeroes */
    }
}
