/*
 * Cluster shared volume: the segments that a disk holds
 *
 * A disk claims segments ahead of need, so that a guest's write does not wait
 * for a claim, and returns those that it does not need.  This reserve is a
 * share of the volume's free space, so it is small compared with what is left
 * for others; as the volume fills up, each open disk periodically reduces its
 * reserve.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "block/aio-wait.h"
#include "qemu/error-report.h"
#include "disk.h"
#include "trace/trace-block_csv.h"

/*
 * The reserve of an open disk: this share of the volume's free space, up to
 * this number of bytes.  A guest that allocates 20,000 clusters per second uses
 * half of that in 25 ms, which is enough time for a claim that waits for a disk
 * to flush its cache.
 */
#define CSV_AHEAD_SHARE         256
#define CSV_AHEAD_BYTES         (2 * GiB)

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
    disk->free_clusters = 0;
    disk->blank_end = disk->blank_start;
    qatomic_set(&disk->freed_at, qatomic_read(&disk->flush_begun));
    disk->tables = 0;
    disk->tables_used = 0;
}

uint64_t csv_disk_used(const CsvDisk *disk)
{
    uint64_t all = (uint64_t)disk->segments->len *
                   csv_clusters_per_segment(disk->volume);
    uint64_t free = qatomic_read(&disk->free_clusters);

    /* The two are not read atomically. */
    return (all - MIN(free, all)) << CSV_CLUSTER_BITS;
}

/*
 * Choose numbers for up to @want new segments: the lowest unused ones, since
 * they must stay below segment_slots, however often segments are claimed and
 * returned.  Returns their count.  claim_lock and alloc_lock held.
 */
static unsigned csv_segment_numbers(CsvDisk *disk, CsvClaim *claims,
                                    unsigned want)
{
    /* At most the first two are taken, so @want are free below. */
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

/* Size of the reserve, in segments; 0 if the volume is small or nearly full. */
static uint64_t csv_disk_share(const CsvDisk *disk)
{
    const CsvSuperblock *sb = &disk->volume->sb;
    uint64_t share = qatomic_read(&disk->volume->space) / CSV_AHEAD_SHARE;

    return MIN(share, CSV_AHEAD_BYTES >> sb->segment_bits);
}

/* The same for a disk that is being written: at least one segment. */
static uint64_t csv_disk_ahead(const CsvDisk *disk)
{
    return MAX(1, csv_disk_share(disk));
}

/* Number of segments to claim so that @ahead segments' clusters are free. */
static unsigned csv_disk_lacks(CsvDisk *disk, uint64_t ahead)
{

    QEMU_LOCK_GUARD(&disk->alloc_lock);
    return ahead - MIN(ahead, disk->free_clusters /
                              csv_clusters_per_segment(disk->volume));
}

int csv_segment_claim_more(CsvDisk *disk)
{
    CsvClaim claims[CSV_SEGMENTS_PER_PAGE];
    Error *err = NULL;
    unsigned want = csv_disk_lacks(disk, csv_disk_ahead(disk)), i;
    int ret;

    WITH_QEMU_LOCK_GUARD(&disk->alloc_lock) {
        want = csv_segment_numbers(disk, claims,
                                   MIN(MAX(1, want), ARRAY_SIZE(claims)));
    }
    if (!want) {
        return -ENOSPC;     /* no number below segment_slots is left */
    }
    ret = csv_segments_claim(disk->volume, disk->bs->file, disk->record.slot,
                             claims, want, &err);
    csv_space_inspect(disk->volume, disk->bs->file);
    if (ret == -ENOSPC) {
        error_free(err);
        return ret;
    }
    if (ret < 0) {
        /* Some may have been claimed, with these numbers: do not reuse them. */
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

/* Claim ahead; an error is reported by the write that needs the space. */
static void coroutine_fn GRAPH_RDLOCK
csv_claim_ahead(CsvDisk *disk, uint64_t (*ahead)(const CsvDisk *disk))
{
    QEMU_LOCK_GUARD(&disk->claim_lock);
    while (csv_disk_lacks(disk, ahead(disk))) {
        if (csv_segment_claim_more(disk) < 0) {
            break;
        }
    }
}

static void coroutine_fn csv_claim_ahead_entry(void *opaque)
{
    CsvDisk *disk = opaque;

    WITH_GRAPH_RDLOCK_GUARD() {
        csv_claim_ahead(disk, csv_disk_ahead);
    }
    qatomic_set(&disk->adjusting, false);
    bdrv_dec_in_flight(disk->bs);
}

void csv_adjust_with(CsvDisk *disk, AioContext *ctx, CoroutineEntry *entry)
{
    if (qatomic_xchg(&disk->adjusting, true)) {
        return;
    }
    bdrv_inc_in_flight(disk->bs);
    aio_co_enter(ctx, qemu_coroutine_create(entry, disk));
}

void csv_claim_in_time(CsvDisk *disk)
{
    uint64_t low = csv_disk_ahead(disk) *
                   csv_clusters_per_segment(disk->volume) / 2;
    uint64_t free;

    WITH_QEMU_LOCK_GUARD(&disk->alloc_lock) {
        free = disk->free_clusters;
    }
    if (free < MAX(2, low)) {
        csv_adjust_with(disk, qemu_get_current_aio_context(),
                        csv_claim_ahead_entry);
    }
}

void coroutine_fn csv_segments_adjust(CsvDisk *disk)
{
    if (csv_space_count(disk->volume, disk->bs->file) < 0) {
        return;     /* reported by the next operation that needs it */
    }
    csv_segments_give_back(disk);
    csv_claim_ahead(disk, csv_disk_share);
}

/* Move segments without a used cluster to @out, but keep @keep of them. */
static void csv_segments_take_free(CsvDisk *disk, unsigned keep, GArray *out)
{
    uint32_t clusters = csv_clusters_per_segment(disk->volume);
    unsigned empty = 0;
    guint i = 0;

    if (!csv_map_is_scanned(disk)) {
        return;     /* what is in use is not known */
    }
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
 * Free the segments in @out, and remove them from it; those of a page of the
 * table at once.  Those that remain may not be free.  Flushes first, because
 * the next owner may rely on the zeroes in them.
 */
static void GRAPH_RDLOCK csv_segments_return(CsvDisk *disk, GArray *out)
{
    bool any = false;

    if (!out->len || bdrv_flush(disk->bs->file->bs) < 0) {
        return;
    }
    /* If another member took the disk, it may be using these segments. */
    if (csv_disk_confirm(disk, NULL) < 0) {
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
        csv_space_inspect(disk->volume, disk->bs->file);
    }
}

void csv_segments_give_back_all(CsvDisk *disk)
{
    g_autoptr(GArray) out = g_array_new(false, false, sizeof(CsvSegment));

    csv_segments_take_free(disk, 0, out);
    csv_segments_return(disk, out);
}

void coroutine_fn csv_segments_give_back(CsvDisk *disk)
{
    g_autoptr(GArray) out = g_array_new(false, false, sizeof(CsvSegment));
    guint i;

    QEMU_LOCK_GUARD(&disk->claim_lock);
    WITH_QEMU_LOCK_GUARD(&disk->alloc_lock) {
        csv_segments_take_free(disk, csv_disk_ahead(disk), out);
    }
    csv_segments_return(disk, out);
    /* Perhaps the rest is free: use neither it nor its numbers. */
    for (i = 0; i < out->len; i++) {
        g_array_append_val(disk->doubtful,
                           g_array_index(out, CsvSegment, i).sequence);
    }
}
