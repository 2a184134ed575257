/*
 * Cluster shared volume: preallocation
 *
 * Preallocated clusters have a place in the map, so later writes do not
 * allocate one.  With 'metadata' that is all: the first write to a subcluster
 * still marks it as data, which goes to the journal.  With 'falloc' and 'full'
 * the storage is allocated too, and all subclusters are data, so no write
 * changes the map again.
 *
 * The preallocated range is not in use yet: the disk is being created, or the
 * range is past its end.  So after a crash the next owner frees the clusters,
 * or the incomplete disk is deleted.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/cutils.h"
#include "qemu/memalign.h"
#include "disk.h"
#include "trace/trace-block_csv.h"

/*
 * Clusters that are allocated at once.  A table has a multiple of this; the
 * journal is committed after each table.
 */
#define CSV_PREALLOC_BATCH 64

QEMU_BUILD_BUG_ON(CSV_L2_ENTRIES % CSV_PREALLOC_BATCH);

typedef struct CsvPrealloc {
    BlockDriverState *bs;
    PreallocMode mode;
    uint8_t *zeroes;            /* one cluster, for 'full' */
} CsvPrealloc;

/* Number of clusters to allocate for [from, to), with tables; or -errno. */
static int64_t coroutine_fn GRAPH_RDLOCK
csv_prealloc_need(CsvDisk *disk, uint64_t from, uint64_t to)
{
    uint64_t c = from >> CSV_CLUSTER_BITS;
    uint64_t end = DIV_ROUND_UP(to, CSV_CLUSTER_SIZE);
    uint64_t need = 0, tables = 0;
    uint64_t room = disk->tables ? CSV_L2_PER_CLUSTER - disk->tables_used : 0;

    while (c < end) {
        unsigned t = c / CSV_L2_ENTRIES;
        uint64_t next = MIN(end, (uint64_t)(t + 1) * CSV_L2_ENTRIES);

        if (!qatomic_read(&disk->l1[t])) {
            tables++;
            need += next - c;
            c = next;
            continue;
        }
        for (; c < next; c++) {
            CsvL2Entry entry;
            int ret = csv_map_get(disk, c, &entry);

            if (ret < 0) {
                return ret;
            }
            need += !entry.offset;
        }
    }
    return need + (tables > room ? DIV_ROUND_UP(tables - room,
                                                CSV_L2_PER_CLUSTER) : 0);
}

/*
 * Is there enough free space?  Other members may claim it meanwhile, but
 * usually this detects a volume that is too small before anything is claimed.
 */
static int coroutine_fn GRAPH_RDLOCK
csv_prealloc_check(CsvDisk *disk, uint64_t from, uint64_t to, Error **errp)
{
    CsvVolume *vol = disk->volume;
    unsigned bits = vol->sb.segment_bits - CSV_CLUSTER_BITS;
    int64_t need = csv_prealloc_need(disk, from, to);
    uint64_t segments, have;
    int ret = csv_map_scan(disk, false);

    need = ret < 0 ? ret : need;
    if (need < 0) {
        error_setg_errno(errp, -need, "Cannot read the map of disk '%s' of "
                         "csv volume '%s'", disk->record.name,
                         csv_volume_label(vol));
        return need;
    }
    ret = csv_segments_count(vol, disk->bs->file, NULL, &segments, errp);
    if (ret < 0) {
        return ret;
    }
    if (vol->sb.compatible & CSV_COMPAT_GROW) {
        segments += MIN(vol->sb.segment_slots,
                        (CSV_MAX_VOLUME_SIZE - vol->sb.data_offset) >>
                        vol->sb.segment_bits) - vol->sb.segment_count;
    }
    WITH_QEMU_LOCK_GUARD(&disk->alloc_lock) {
        have = disk->free_clusters + (segments << bits);
    }
    if (need > have) {
        g_autofree char *missing =
            size_to_str((need - have) << CSV_CLUSTER_BITS);

        error_setg(errp, "Cannot preallocate disk '%s': csv volume '%s' has %s "
                   "too little free space; delete a disk, or make "
                   "this one without preallocation", disk->record.name,
                   csv_volume_label(vol), missing);
        return -ENOSPC;
    }
    return 0;
}

/* Provide storage for @bytes at @host of the volume, which reads as zeroes. */
static int coroutine_fn GRAPH_RDLOCK
csv_prealloc_storage(CsvPrealloc *p, uint64_t host, uint64_t bytes)
{
    CsvDisk *disk = p->bs->opaque;
    int ret = csv_gate_pass(disk->volume);

    if (ret >= 0 && p->mode == PREALLOC_MODE_FALLOC) {
        return bdrv_co_pwrite_zeroes(p->bs->file, host, bytes, 0);
    }
    while (ret >= 0 && bytes) {
        uint64_t n = MIN(bytes, CSV_CLUSTER_SIZE);

        ret = csv_pwrite(disk->volume, p->bs->file, host, n, p->zeroes, 0);
        host += n;
        bytes -= n;
    }
    return ret;
}

/* Provide storage for [from, to), in clusters that have a place. */
static int coroutine_fn GRAPH_RDLOCK
csv_prealloc_data(CsvPrealloc *p, uint64_t from, uint64_t to)
{
    CsvDisk *disk = p->bs->opaque;
    uint64_t host = 0, bytes = 0, next, pos;
    int ret = 0;

    /* Contiguous clusters in one request. */
    for (pos = from; ret >= 0 && pos < to; pos = next) {
        CsvL2Entry entry;
        uint64_t place;

        ret = csv_map_get(disk, pos >> CSV_CLUSTER_BITS, &entry);
        if (ret < 0) {
            return ret;
        }
        place = entry.offset + pos % CSV_CLUSTER_SIZE;
        next = MIN(to, ROUND_DOWN(pos, CSV_CLUSTER_SIZE) + CSV_CLUSTER_SIZE);
        if (bytes && place != host + bytes) {
            ret = csv_prealloc_storage(p, host, bytes);
            bytes = 0;
        }
        host = bytes ? host : place;
        bytes += next - pos;
    }
    if (ret >= 0) {
        ret = csv_prealloc_storage(p, host, bytes);
    }
    for (pos = from; ret >= 0 && pos < to; pos = next) {
        next = MIN(to, ROUND_DOWN(pos, CSV_CLUSTER_SIZE) + CSV_CLUSTER_SIZE);
        ret = csv_map_change(disk, pos >> CSV_CLUSTER_BITS,
                             csv_touched(pos, next - pos), 0, 0, false);
    }
    return ret;
}

/* Preallocate [from, to), at most CSV_PREALLOC_BATCH clusters. */
static int coroutine_fn GRAPH_RDLOCK
csv_prealloc_batch(CsvPrealloc *p, uint64_t from, uint64_t to)
{
    CsvDisk *disk = p->bs->opaque;
    uint64_t place, c;
    BlockReq req;
    int ret = 0;

    /* The guest may discard data in the first cluster at the same time. */
    csv_queue_enter(disk, &req, from, to - from, CSV_CLUSTER_SIZE);
    for (c = from >> CSV_CLUSTER_BITS;
         ret >= 0 && c < DIV_ROUND_UP(to, CSV_CLUSTER_SIZE); c++) {
        ret = csv_map_place(disk, c, &place);
    }
    if (ret >= 0 && p->mode != PREALLOC_MODE_METADATA) {
        ret = csv_prealloc_data(p, from, to);
    }
    csv_queue_leave(disk, &req);
    trace_csv_prealloc(disk, from, to, ret);
    return ret;
}

static int coroutine_fn GRAPH_RDLOCK
csv_prealloc_range(CsvPrealloc *p, uint64_t from, uint64_t to)
{
    CsvDisk *disk = p->bs->opaque;
    const uint64_t batch = CSV_PREALLOC_BATCH * CSV_CLUSTER_SIZE;
    const uint64_t table = CSV_L2_ENTRIES * CSV_CLUSTER_SIZE;
    uint64_t next;
    int ret = 0;

    for (; ret >= 0 && from < to; from = next) {
        next = MIN(to, ROUND_DOWN(from, batch) + batch);
        ret = csv_prealloc_batch(p, from, next);
        if (ret >= 0 && (next == to || next % table == 0)) {
            ret = csv_journal_commit(disk);
        }
    }
    return ret < 0 ? ret : bdrv_co_flush(p->bs->file->bs);
}

/* After a failure: free everything from @from on. */
static void coroutine_fn GRAPH_RDLOCK
csv_prealloc_undo(BlockDriverState *bs, uint64_t from)
{
    CsvDisk *disk = bs->opaque;
    BlockReq req;

    csv_queue_enter(disk, &req, from, CSV_CLUSTER_SIZE, CSV_CLUSTER_SIZE);
    csv_map_cut(disk, from);
    csv_queue_leave(disk, &req);
    csv_co_flush(bs);
}

int coroutine_fn csv_preallocate(BlockDriverState *bs, uint64_t from,
                                 uint64_t to, PreallocMode mode, Error **errp)
{
    CsvDisk *disk = bs->opaque;
    CsvPrealloc p = { .bs = bs, .mode = mode };
    int ret;

    assert(disk->owned && from % CSV_SUBCLUSTER_SIZE == 0);
    to = ROUND_UP(to, CSV_SUBCLUSTER_SIZE);
    if (mode == PREALLOC_MODE_OFF || from >= to) {
        return 0;
    }
    ret = csv_prealloc_check(disk, from, to, errp);
    if (ret < 0) {
        return ret;
    }
    if (mode == PREALLOC_MODE_FULL) {
        p.zeroes = qemu_blockalign0(bs->file->bs, CSV_CLUSTER_SIZE);
    }
    ret = csv_prealloc_range(&p, from, to);
    qemu_vfree(p.zeroes);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot preallocate disk '%s' of csv "
                         "volume '%s'", disk->record.name,
                         csv_volume_label(disk->volume));
        csv_prealloc_undo(bs, from);
    }
    return ret;
}
