/*
 * Cluster shared volume: the clusters in the segments of a disk
 *
 * Only its owner uses a disk's segments, so the free clusters are only known in
 * memory: in bitmaps that are built by a scan of the map (map-scan.c).
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "disk.h"
#include "trace/trace-block_csv.h"

/*
 * Position of segment @index in the list, or its length.  The list starts with
 * the segments that were loaded, in the order of their index, which allows a
 * binary search; those claimed since follow.
 */
static guint csv_segment_search(CsvDisk *disk, uint64_t index)
{
    guint lo = 0, hi = disk->segments->len, i;

    while (lo < hi) {
        guint mid = lo + (hi - lo) / 2;
        CsvSegment *seg = csv_segment_at(disk, mid);

        if (seg->index == index) {
            return mid;
        }
        if (seg->index < index) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    for (i = 0; i < disk->segments->len; i++) {
        if (csv_segment_at(disk, i)->index == index) {
            break;
        }
    }
    return i;
}

/*
 * The segment that contains @offset, and the cluster's number there.  Most
 * calls find the same segment as the last one, since maps mostly name clusters
 * in ascending order.
 */
static CsvSegment *csv_cluster_find(CsvDisk *disk, uint64_t offset,
                                    uint32_t *cluster)
{
    const CsvSuperblock *sb = &disk->volume->sb;
    guint at = qatomic_read(&disk->segment_found);
    uint64_t index;

    if (offset < sb->data_offset) {
        return NULL;
    }
    index = (offset - sb->data_offset) >> sb->segment_bits;
    *cluster = ((offset - sb->data_offset) >> CSV_CLUSTER_BITS) &
               (csv_clusters_per_segment(disk->volume) - 1);
    if (at >= disk->segments->len ||
        csv_segment_at(disk, at)->index != index) {
        at = csv_segment_search(disk, index);
        if (at == disk->segments->len) {
            return NULL;
        }
        qatomic_set(&disk->segment_found, at);
    }
    return csv_segment_at(disk, at);
}

bool csv_cluster_use(CsvDisk *disk, uint64_t offset, Error **errp)
{
    uint32_t cluster;
    CsvSegment *seg = csv_cluster_find(disk, offset, &cluster);

    if (!seg) {
        error_setg(errp, "offset %" PRIu64 " is in no segment of disk '%s'",
                   offset, disk->record.name);
        return false;
    }
    if (test_and_set_bit(cluster, seg->used)) {
        error_setg(errp, "the cluster at %" PRIu64 " is used twice", offset);
        return false;
    }
    seg->free--;
    disk->free_clusters--;
    return true;
}

void csv_cluster_unuse(CsvDisk *disk, uint64_t offset)
{
    uint32_t cluster;
    CsvSegment *seg = csv_cluster_find(disk, offset, &cluster);

    assert(seg && test_bit(cluster, seg->used));
    clear_bit(cluster, seg->used);
    seg->free++;
    disk->free_clusters++;
}

bool csv_segment_has(CsvDisk *disk, uint64_t offset)
{
    uint32_t cluster;

    return csv_cluster_find(disk, offset, &cluster);
}

/* Allocate a cluster in the segments that the disk has. */
static bool coroutine_fn csv_cluster_take(CsvDisk *disk, uint64_t *offset)
{
    uint32_t clusters = csv_clusters_per_segment(disk->volume);
    guint n, i;

    assert(csv_map_is_scanned(disk));
    QEMU_LOCK_GUARD(&disk->alloc_lock);
    n = disk->segments->len;
    for (i = 0; i < n; i++) {
        guint at = (disk->segment_current + i) % n;
        CsvSegment *seg = csv_segment_at(disk, at);
        unsigned long bit;

        if (!seg->free) {
            continue;
        }
        disk->segment_current = at;
        bit = find_first_zero_bit(seg->used, clusters);
        assert(bit < clusters);
        set_bit(bit, seg->used);
        seg->free--;
        disk->free_clusters--;
        disk->stats.clusters_allocated++;
        *offset = csv_segment_start(&disk->volume->sb, seg->index) +
                  (bit << CSV_CLUSTER_BITS);
        trace_csv_cluster_alloc(disk, *offset);
        return true;
    }
    return false;
}

/* Clusters whose allocation status is queried at once. */
#define CSV_BLANK_CLUSTERS 32

/* Bytes from @offset, a new cluster, up to the next cluster in use. */
static uint64_t coroutine_fn csv_cluster_run(CsvDisk *disk, uint64_t offset)
{
    uint32_t clusters = csv_clusters_per_segment(disk->volume), cluster, end;
    CsvSegment *seg;

    QEMU_LOCK_GUARD(&disk->alloc_lock);
    seg = csv_cluster_find(disk, offset, &cluster);
    clusters = MIN(clusters, cluster + CSV_BLANK_CLUSTERS);
    end = find_next_bit(seg->used, clusters, cluster + 1);
    return (uint64_t)(end - cluster) << CSV_CLUSTER_BITS;
}

/*
 * Does the new cluster at @offset read as zeroes?  Holes in a file do, and
 * discarded clusters, if the storage says so.  Only we write there, so it stays
 * so.  It is also durable, unless we freed a cluster since our last flush: a
 * member flushes before it returns a segment.
 */
static bool coroutine_fn GRAPH_RDLOCK
csv_cluster_blank(CsvDisk *disk, uint64_t offset)
{
    uint64_t freed;
    int64_t n;
    int ret;

    WITH_QEMU_LOCK_GUARD(&disk->alloc_lock) {
        if (offset >= disk->blank_start && offset < disk->blank_end) {
            return true;
        }
        freed = disk->stats.clusters_freed;
    }
    ret = bdrv_co_block_status(disk->bs->file->bs, offset,
                               csv_cluster_run(disk, offset), &n, NULL, NULL);
    if (ret < 0 || !(ret & BDRV_BLOCK_ZERO) || n < CSV_CLUSTER_SIZE) {
        return csv_break(CSV_BREAK_ALWAYS_BLANK);
    }
    QEMU_LOCK_GUARD(&disk->alloc_lock);
    if (disk->stats.clusters_freed == freed) {
        /* None of them was allocated, written and freed since the query. */
        disk->blank_start = offset;
        disk->blank_end = offset + ROUND_DOWN(n, CSV_CLUSTER_SIZE);
    }
    return true;
}

static int coroutine_fn GRAPH_RDLOCK
csv_cluster_alloc_any(CsvDisk *disk, uint64_t *offset)
{
    for (;;) {
        int ret;

        if (csv_cluster_take(disk, offset)) {
            csv_claim_in_time(disk);
            return 0;
        }
        QEMU_LOCK_GUARD(&disk->claim_lock);
        disk->stats.claim_waits++;
        /* The claim that we waited for may have added a segment. */
        if (csv_cluster_take(disk, offset)) {
            return 0;
        }
        ret = csv_segment_claim_more(disk);
        if (ret < 0) {
            return ret;
        }
    }
}

int coroutine_fn csv_cluster_alloc(CsvDisk *disk, uint64_t *offset,
                                   bool *blank)
{
    int ret = csv_cluster_alloc_any(disk, offset);

    /* With a backing image, the unwritten part is filled with its data. */
    *blank = ret >= 0 && !csv_has_backing(disk) &&
             csv_cluster_blank(disk, *offset);
    return ret;
}

void csv_cluster_free(CsvDisk *disk, uint64_t offset)
{
    csv_cluster_unuse(disk, offset);
    disk->stats.clusters_freed++;
    qatomic_set(&disk->freed_at, qatomic_read(&disk->flush_begun));
    if (offset >= disk->blank_start && offset < disk->blank_end) {
        disk->blank_end = disk->blank_start;
    }
}
