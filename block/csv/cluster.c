/*
 * Cluster shared volume: segments of a disk, and the clusters in them
 *
 * Inside its segments a disk's owner is alone: which clusters are free is
 * kept in bitmaps in memory, made from the map when the disk is opened.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "csv.h"
#include "trace.h"

static uint32_t csv_clusters_per_segment(const CsvVolume *vol)
{
    return 1U << (vol->sb.segment_bits - CSV_CLUSTER_BITS);
}

static CsvSegment *csv_segment_at(CsvDisk *disk, guint i)
{
    return &g_array_index(disk->segments, CsvSegment, i);
}

static void csv_segment_add(CsvDisk *disk, uint64_t index, uint32_t sequence)
{
    uint32_t clusters = csv_clusters_per_segment(disk->volume);
    CsvSegment seg = {
        .index = index,
        .sequence = sequence,
        .free = clusters,
        .used = bitmap_new(clusters),
    };

    if (sequence == 0) {
        /* Header, level-1 map and journal. */
        set_bit(0, seg.used);
        seg.free--;
    }
    disk->free_clusters += seg.free;
    g_array_append_val(disk->segments, seg);
}

static bool csv_segments_load_one(void *opaque, uint64_t index,
                                  const CsvSegmentEntry *entry, Error **errp)
{
    CsvDisk *disk = opaque;

    if (entry->disk != disk->record.slot) {
        return true;
    }
    if ((entry->sequence == 0) != (index == disk->record.first_segment)) {
        error_setg(errp, "csv volume '%s' is damaged: segment table: field "
                   "'sequence': segment %" PRIu64 " is number %" PRIu32
                   " of disk %" PRIu32 ", whose first one is %" PRIu64,
                   csv_volume_label(disk->volume), index, entry->sequence,
                   disk->record.slot, disk->record.first_segment);
        return false;
    }
    csv_segment_add(disk, index, entry->sequence);
    return true;
}

/* Segments were found in the order of their place, so pointers stay. */
static gint csv_segment_by_sequence(gconstpointer a, gconstpointer b)
{
    const CsvSegment *x = a, *y = b;

    return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

static bool csv_segments_check_unique(CsvDisk *disk, Error **errp)
{
    g_autoptr(GArray) sorted = g_array_copy(disk->segments);
    guint i;

    g_array_sort(sorted, csv_segment_by_sequence);
    if (sorted->len && g_array_index(sorted, CsvSegment, 0).sequence) {
        error_setg(errp, "csv volume '%s' is damaged: segment table: field "
                   "'disk': segment %" PRIu64 ", the first one of disk '%s', "
                   "does not belong to it", csv_volume_label(disk->volume),
                   disk->record.first_segment, disk->record.name);
        return false;
    }
    for (i = 1; i < sorted->len; i++) {
        const CsvSegment *x = &g_array_index(sorted, CsvSegment, i - 1);
        const CsvSegment *y = &g_array_index(sorted, CsvSegment, i);

        if (x->sequence == y->sequence) {
            error_setg(errp, "csv volume '%s' is damaged: segment table: "
                       "field 'sequence': segments %" PRIu64 " and %" PRIu64
                       " are both number %" PRIu32 " of disk %" PRIu32,
                       csv_volume_label(disk->volume), x->index, y->index,
                       x->sequence, disk->record.slot);
            return false;
        }
    }
    return true;
}

int csv_segments_load(CsvDisk *disk, Error **errp)
{
    int ret;

    csv_segments_drop(disk);
    ret = csv_segments_walk(disk->volume, disk->bs->file,
                            csv_segments_load_one, NULL, disk, errp);
    if (ret < 0) {
        return ret;
    }
    if (!csv_segments_check_unique(disk, errp)) {
        return -EINVAL;
    }
    if (!disk->segments->len) {
        error_setg(errp, "csv volume '%s' is damaged: segment table: field "
                   "'disk': none belongs to disk '%s'",
                   csv_volume_label(disk->volume), disk->record.name);
        return -EINVAL;
    }
    return 0;
}

void csv_segments_drop(CsvDisk *disk)
{
    guint i;

    for (i = 0; i < disk->segments->len; i++) {
        g_free(csv_segment_at(disk, i)->used);
    }
    g_array_set_size(disk->segments, 0);
    disk->segment_current = 0;
    g_array_set_size(disk->doubtful, 0);
    disk->ahead = 0;
    disk->free_clusters = 0;
    disk->blank_end = disk->blank_start;
    qatomic_set(&disk->freed_at, qatomic_read(&disk->flush_begun));
    disk->tables = 0;
    disk->tables_used = 0;
}

/*
 * Place of segment @index in the list, or its length.  Segments were loaded
 * in the order of their index; those claimed since come after, so most disks
 * need a few steps.
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
 * The segment that @offset is in and the cluster's number there.  A map names
 * most clusters in the order of their places, so the segment is mostly that
 * of the last time.
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

uint64_t csv_disk_used(const CsvDisk *disk)
{
    uint64_t all = (uint64_t)disk->segments->len *
                   csv_clusters_per_segment(disk->volume);
    uint64_t free = qatomic_read(&disk->free_clusters);

    /* Another thread may be between the two. */
    return (all - MIN(free, all)) << CSV_CLUSTER_BITS;
}

bool csv_segment_has(CsvDisk *disk, uint64_t offset)
{
    uint32_t cluster;

    return csv_cluster_find(disk, offset, &cluster);
}

/*
 * How many segments are claimed, and kept, ahead of need: a share of what the
 * disk has, so that a growing disk does not wait for claims and others do not
 * miss the space.  A disk whose writes had to wait nevertheless claims twice
 * as many the next time, up to a share of what the volume can have.
 */
#define CSV_AHEAD_SHARE     8
#define CSV_AHEAD_MAX       CSV_SEGMENTS_PER_PAGE
#define CSV_AHEAD_BYTES     (128 * MiB)
#define CSV_HURRY_SHARE     64
#define CSV_HURRY_BYTES     (512 * MiB)

static unsigned csv_segments_ahead(const CsvDisk *disk)
{
    const CsvSuperblock *sb = &disk->volume->sb;
    uint64_t ahead = MIN(1 + disk->segments->len / CSV_AHEAD_SHARE,
                         CSV_AHEAD_BYTES >> sb->segment_bits);

    ahead = MAX(ahead, disk->ahead);
    return MAX(1, MIN(ahead, CSV_AHEAD_MAX));
}

/* A write has to wait for a claim.  claim_lock held. */
static void csv_segments_hurry(CsvDisk *disk)
{
    const CsvSuperblock *sb = &disk->volume->sb;
    uint64_t all = sb->compatible & CSV_COMPAT_GROW ?
                   csv_volume_max_segments(sb) : sb->segment_count;
    uint64_t most = MIN(all / CSV_HURRY_SHARE,
                        MAX(2, CSV_HURRY_BYTES >> sb->segment_bits));

    QEMU_LOCK_GUARD(&disk->alloc_lock);
    disk->ahead = MIN(2 * csv_segments_ahead(disk), most);
}

/*
 * The numbers of up to @want new segments: the lowest that none has, for they
 * must be below segment_slots, however often segments come and go.  Returns
 * how many.  claim_lock and alloc_lock held.
 */
static unsigned csv_segment_numbers(CsvDisk *disk, CsvClaim *claims,
                                    unsigned want)
{
    /* Whatever is taken, so many are free below. */
    long bits = disk->segments->len + disk->doubtful->len + want;
    long end = MIN(bits, disk->volume->sb.segment_slots), at = 0;
    g_autofree unsigned long *taken = bitmap_new(bits);
    unsigned i;

    for (i = 0; i < disk->segments->len; i++) {
        if (csv_segment_at(disk, i)->sequence < bits) {
            set_bit(csv_segment_at(disk, i)->sequence, taken);
        }
    }
    for (i = 0; i < disk->doubtful->len; i++) {
        if (g_array_index(disk->doubtful, uint32_t, i) < bits) {
            set_bit(g_array_index(disk->doubtful, uint32_t, i), taken);
        }
    }
    for (i = 0; i < want; i++) {
        at = find_next_zero_bit(taken, end, at);
        if (at >= end) {
            break;
        }
        claims[i].sequence = at++;
    }
    return i;
}

/* claim_lock held. */
static int coroutine_fn GRAPH_RDLOCK csv_segment_claim_more(CsvDisk *disk)
{
    CsvClaim claims[CSV_AHEAD_MAX];
    Error *err = NULL;
    unsigned want, i;
    int ret;

    WITH_QEMU_LOCK_GUARD(&disk->alloc_lock) {
        want = csv_segment_numbers(disk, claims, csv_segments_ahead(disk));
    }
    if (!want) {
        return -ENOSPC;     /* the table is full, or as good as that */
    }
    ret = csv_segments_claim(disk->volume, disk->bs->file, disk->record.slot,
                             claims, want, &err);
    csv_space_look(disk->volume, disk->bs->file);
    if (ret == -ENOSPC) {
        error_free(err);
        return ret;
    }
    if (ret < 0) {
        /* Some may be ours now, and then they have these numbers. */
        for (i = 0; i < want; i++) {
            g_array_append_val(disk->doubtful, claims[i].sequence);
        }
        error_report_err(err);
        return ret;
    }
    QEMU_LOCK_GUARD(&disk->alloc_lock);
    for (i = 0; i < ret; i++) {
        csv_segment_add(disk, claims[i].index, claims[i].sequence);
    }
    disk->stats.segments_claimed += ret;
    return 0;
}

/* Take a free cluster from the segments that are there. */
static bool coroutine_fn csv_cluster_take(CsvDisk *disk, uint64_t *offset)
{
    uint32_t clusters = csv_clusters_per_segment(disk->volume);
    guint n, i;

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

static void coroutine_fn csv_claim_ahead_entry(void *opaque)
{
    CsvDisk *disk = opaque;

    WITH_GRAPH_RDLOCK_GUARD() {
        QEMU_LOCK_GUARD(&disk->claim_lock);
        /* If there is no space the write that needs it will say so. */
        csv_segment_claim_more(disk);
    }
    qatomic_set(&disk->claiming, false);
    bdrv_dec_in_flight(disk->bs);
}

/* Claim segments while there are still some clusters left. */
static void coroutine_fn csv_claim_ahead(CsvDisk *disk)
{
    uint64_t low, free;

    WITH_QEMU_LOCK_GUARD(&disk->alloc_lock) {
        free = disk->free_clusters;
        low = MAX(1, csv_segments_ahead(disk) *
                     csv_clusters_per_segment(disk->volume) / 4);
    }
    if (free > low || qatomic_xchg(&disk->claiming, true)) {
        return;
    }
    bdrv_inc_in_flight(disk->bs);
    aio_co_enter(qemu_get_current_aio_context(),
                 qemu_coroutine_create(csv_claim_ahead_entry, disk));
}

/* Clusters whose content is looked at at once. */
#define CSV_BLANK_CLUSTERS 32

/* From @offset, which was just taken, over the free clusters behind it. */
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
 * Does the cluster at @offset, which was just taken, read as zeroes?  A hole
 * in a file does, and what was discarded, if the storage says so.  Nobody
 * but us writes there, so it stays like that; and it is durable unless one of
 * our own clusters was freed since the last flush, for who gives a segment
 * back flushes before.
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
        /* None of them was taken, written and freed since it was looked at. */
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
            csv_claim_ahead(disk);
            return 0;
        }
        QEMU_LOCK_GUARD(&disk->claim_lock);
        /* The claim that we waited for may have been ours. */
        if (csv_cluster_take(disk, offset)) {
            return 0;
        }
        csv_segments_hurry(disk);
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

    /* With a backing image, what is not written holds its data anyway. */
    *blank = ret >= 0 && !csv_has_backing(disk) &&
             csv_cluster_blank(disk, *offset);
    return ret;
}

void csv_cluster_free(CsvDisk *disk, uint64_t offset)
{
    uint32_t cluster;
    CsvSegment *seg = csv_cluster_find(disk, offset, &cluster);

    assert(seg && test_bit(cluster, seg->used));
    clear_bit(cluster, seg->used);
    seg->free++;
    disk->free_clusters++;
    disk->stats.clusters_freed++;
    qatomic_set(&disk->freed_at, qatomic_read(&disk->flush_begun));
    if (offset >= disk->blank_start && offset < disk->blank_end) {
        disk->blank_end = disk->blank_start;
    }
}

/* Move segments without a used cluster from the list to @out; @keep some. */
static void csv_segments_take_free(CsvDisk *disk, unsigned keep, GArray *out)
{
    uint32_t clusters = csv_clusters_per_segment(disk->volume);
    unsigned empty = 0;
    guint i = 0;

    while (i < disk->segments->len) {
        CsvSegment *seg = csv_segment_at(disk, i);

        if (seg->free == clusters && ++empty > keep) {
            g_clear_pointer(&seg->used, g_free);
            g_array_append_val(out, *seg);
            g_array_remove_index(disk->segments, i);
            disk->free_clusters -= clusters;
            disk->blank_end = disk->blank_start;
            disk->segment_current = 0;
        } else {
            i++;
        }
    }
}

/*
 * Free the segments in @out, all those of a page of the table at once; what
 * stays in it could not be freed.  The zeroes in them become durable first,
 * since others take them for that.
 */
static void GRAPH_RDLOCK csv_segments_give_back(CsvDisk *disk, GArray *out)
{
    bool any = false;

    if (!out->len || bdrv_flush(disk->bs->file->bs) < 0) {
        return;
    }
    while (out->len) {
        uint64_t page = g_array_index(out, CsvSegment, out->len - 1).index /
                        CSV_SEGMENTS_PER_PAGE;
        uint64_t which = 0;
        guint i;
        int ret;

        for (i = 0; i < out->len; i++) {
            uint64_t index = g_array_index(out, CsvSegment, i).index;

            if (index / CSV_SEGMENTS_PER_PAGE == page) {
                which |= BIT_ULL(index % CSV_SEGMENTS_PER_PAGE);
            }
        }
        ret = csv_segments_free_some(disk->volume, disk->bs->file, page,
                                     disk->record.slot, which, NULL);
        trace_csv_segments_free(disk, page, which, ret);
        if (ret < 0) {
            break;
        }
        for (i = out->len; i-- > 0; ) {
            if (g_array_index(out, CsvSegment, i).index /
                CSV_SEGMENTS_PER_PAGE == page) {
                g_array_remove_index(out, i);
                disk->stats.segments_freed++;
            }
        }
        any = true;
    }
    if (any) {
        csv_space_look(disk->volume, disk->bs->file);
    }
}

void csv_segments_give_back_all(CsvDisk *disk)
{
    g_autoptr(GArray) out = g_array_new(false, false, sizeof(CsvSegment));

    csv_segments_take_free(disk, 0, out);
    csv_segments_give_back(disk, out);
}

void coroutine_fn csv_segments_trim(CsvDisk *disk)
{
    g_autoptr(GArray) out = g_array_new(false, false, sizeof(CsvSegment));
    guint i;

    QEMU_LOCK_GUARD(&disk->claim_lock);
    WITH_QEMU_LOCK_GUARD(&disk->alloc_lock) {
        csv_segments_take_free(disk, csv_segments_ahead(disk), out);
    }
    csv_segments_give_back(disk, out);
    /* The rest is ours or is not: use neither it nor its numbers. */
    for (i = 0; i < out->len; i++) {
        g_array_append_val(disk->doubtful,
                           g_array_index(out, CsvSegment, i).sequence);
    }
}
