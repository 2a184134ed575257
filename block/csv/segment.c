/*
 * Cluster shared volume: segments of a disk, and the clusters in them
 *
 * The segment table, shared by all, says which disk has which segment.
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

/* Segments by which a volume that may grow does so, at least. */
#define CSV_GROW_STEP 4

static uint64_t csv_segment_page_offset(const CsvVolume *vol, uint64_t page)
{
    return vol->sb.segment_offset + page * CSV_PAGE_SIZE;
}

static uint32_t csv_clusters_per_segment(const CsvVolume *vol)
{
    return 1U << (vol->sb.segment_bits - CSV_CLUSTER_BITS);
}

static int GRAPH_RDLOCK
csv_segment_page_read(CsvVolume *vol, BdrvChild *file, uint64_t page,
                      uint8_t *raw, CsvSegmentEntry *entry, Error **errp)
{
    ERRP_GUARD();
    int ret = csv_record_read(file, csv_segment_page_offset(vol, page), raw);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read the segment table of csv "
                         "volume '%s'", csv_volume_label(vol));
        return ret;
    }
    if (!csv_segments_decode(raw, &vol->sb, page, entry, errp)) {
        error_prepend(errp, "csv volume '%s' is damaged: ",
                      csv_volume_label(vol));
        return -EINVAL;
    }
    return 0;
}

static int GRAPH_RDLOCK
csv_segment_page_swap(CsvVolume *vol, BdrvChild *file, uint64_t page,
                      const uint8_t *raw, const CsvSegmentEntry *entry)
{
    uint8_t buf[CSV_RECORD_SIZE];

    csv_segments_encode(entry, &vol->sb, page, buf);
    return csv_record_swap(vol, file, csv_segment_page_offset(vol, page), raw,
                           buf);
}

/* Claim one in @page.  1: done.  0: nothing free.  Else -errno. */
static int GRAPH_RDLOCK
csv_segment_claim_in(CsvVolume *vol, BdrvChild *file, uint64_t page,
                     uint32_t slot, uint32_t sequence, uint64_t *index,
                     Error **errp)
{
    CsvSegmentEntry entry[CSV_SEGMENTS_PER_PAGE];
    uint8_t raw[CSV_RECORD_SIZE];
    unsigned tries, i;
    int ret;

    for (tries = 0; tries < CSV_SWAP_TRIES; tries++) {
        ret = csv_segment_page_read(vol, file, page, raw, entry, errp);
        if (ret < 0) {
            return ret;
        }
        for (i = 0; i < CSV_SEGMENTS_PER_PAGE; i++) {
            *index = page * CSV_SEGMENTS_PER_PAGE + i;
            if (*index >= vol->sb.segment_count) {
                return 0;
            }
            if (entry[i].disk < 0) {
                break;
            }
        }
        if (i == CSV_SEGMENTS_PER_PAGE) {
            return 0;
        }
        entry[i] = (CsvSegmentEntry) { .disk = slot, .sequence = sequence };
        ret = csv_segment_page_swap(vol, file, page, raw, entry);
        if (ret == -EAGAIN) {
            continue;
        }
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Cannot claim a segment of csv "
                             "volume '%s'", csv_volume_label(vol));
            return ret;
        }
        trace_csv_segment_claim(vol, slot, *index, sequence);
        return 1;
    }
    return 0;   /* crowded; look elsewhere */
}

/* Look at all pages once, from the hint on. */
static int GRAPH_RDLOCK
csv_segment_claim_any(CsvVolume *vol, BdrvChild *file, uint32_t slot,
                      uint32_t sequence, uint64_t *index, Error **errp)
{
    uint64_t pages = csv_segment_pages(vol->sb.segment_count);
    uint64_t i;

    for (i = 0; i < pages; i++) {
        uint64_t page = (vol->segment_hint + i) % pages;
        int ret = csv_segment_claim_in(vol, file, page, slot, sequence, index,
                                       errp);
        if (ret) {
            vol->segment_hint = page;
            return ret;
        }
    }
    return 0;
}

/* More segments, if the volume may grow.  1: there are some now. */
static int GRAPH_RDLOCK
csv_volume_extend(CsvVolume *vol, BdrvChild *file, Error **errp)
{
    CsvSuperblock sb = vol->sb;
    uint64_t room;
    int ret;

    if (!(sb.compatible & CSV_COMPAT_GROW)) {
        return 0;
    }
    room = csv_volume_max_segments(&sb);
    if (sb.segment_count >= room) {
        return 0;
    }
    sb.segment_count = MIN(room, sb.segment_count +
                           MAX(CSV_GROW_STEP, sb.segment_count / 8));
    ret = csv_superblock_swap(vol, file, &sb, errp);
    if (ret == -EAGAIN) {
        /* Somebody else changed it, perhaps grew it. */
        ret = csv_volume_refresh(vol, file, errp);
    }
    return ret < 0 ? ret : 1;
}

int csv_segment_claim(CsvVolume *vol, BdrvChild *file, uint32_t slot,
                      uint32_t sequence, uint64_t *index, Error **errp)
{
    int ret, tries;

    for (tries = 0; tries < CSV_SWAP_TRIES; tries++) {
        uint64_t count = vol->sb.segment_count;

        ret = csv_segment_claim_any(vol, file, slot, sequence, index, errp);
        if (ret) {
            return ret < 0 ? ret : 0;
        }
        /* Another member may have grown the volume. */
        ret = csv_volume_refresh(vol, file, errp);
        if (ret < 0) {
            return ret;
        }
        if (vol->sb.segment_count > count) {
            continue;
        }
        ret = csv_volume_extend(vol, file, errp);
        if (ret < 0) {
            return ret;
        }
        if (ret == 0) {
            break;
        }
    }
    error_setg(errp, "csv volume '%s' is full: none of its %" PRIu64
               " segments of %" PRIu64 " bytes is free; delete a disk, or "
               "enlarge the storage and use csv-volume-grow",
               csv_volume_label(vol), vol->sb.segment_count,
               (uint64_t)1 << vol->sb.segment_bits);
    return -ENOSPC;
}

/* Free all segments of @slot in @page, or only segment @which. */
static int GRAPH_RDLOCK
csv_segments_free_in(CsvVolume *vol, BdrvChild *file, uint64_t page,
                     uint32_t slot, uint64_t which, Error **errp)
{
    CsvSegmentEntry entry[CSV_SEGMENTS_PER_PAGE];
    uint8_t raw[CSV_RECORD_SIZE];
    unsigned tries, i;
    int ret;

    for (tries = 0; tries < CSV_SWAP_TRIES; tries++) {
        bool found = false;

        ret = csv_segment_page_read(vol, file, page, raw, entry, errp);
        if (ret < 0) {
            return ret;
        }
        for (i = 0; i < CSV_SEGMENTS_PER_PAGE; i++) {
            if (entry[i].disk == slot &&
                (which == CSV_NO_SEGMENT ||
                 which == page * CSV_SEGMENTS_PER_PAGE + i)) {
                entry[i] = (CsvSegmentEntry) { .disk = -1 };
                found = true;
            }
        }
        ret = found ? csv_segment_page_swap(vol, file, page, raw, entry) : 0;
        if (ret != -EAGAIN) {
            break;
        }
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot free segments of csv volume '%s'",
                         csv_volume_label(vol));
    }
    return ret;
}

int csv_segments_free(CsvVolume *vol, BdrvChild *file, uint32_t slot,
                      Error **errp)
{
    uint64_t pages, page;
    int ret = csv_volume_refresh(vol, file, errp);

    if (ret < 0) {
        return ret;
    }
    pages = csv_segment_pages(vol->sb.segment_count);
    for (page = 0; page < pages; page++) {
        ret = csv_segments_free_in(vol, file, page, slot, CSV_NO_SEGMENT,
                                   errp);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

int csv_segments_walk(CsvVolume *vol, BdrvChild *file, CsvSegmentFn *fn,
                      CsvSegmentBadFn *bad, void *opaque, Error **errp)
{
    ERRP_GUARD();
    CsvSegmentEntry entry[CSV_SEGMENTS_PER_PAGE];
    CsvTableIter it;
    unsigned i;
    int ret = csv_volume_refresh(vol, file, errp);

    if (ret < 0) {
        return ret;
    }
    csv_table_iter(&it, file, vol->sb.segment_offset,
                   csv_segment_pages(vol->sb.segment_count));
    while ((ret = csv_table_next(&it)) > 0) {
        if (!csv_segments_decode(it.record, &vol->sb, it.slot, entry, errp)) {
            if (bad && bad(opaque, it.slot, entry, *errp)) {
                error_free(*errp);
                *errp = NULL;
            } else {
                error_prepend(errp, "csv volume '%s' is damaged: ",
                              csv_volume_label(vol));
                csv_table_end(&it);
                return -EINVAL;
            }
        }
        for (i = 0; i < CSV_SEGMENTS_PER_PAGE; i++) {
            uint64_t index = (uint64_t)it.slot * CSV_SEGMENTS_PER_PAGE + i;

            if (entry[i].disk >= 0 && !fn(opaque, index, &entry[i], errp)) {
                csv_table_end(&it);
                return -EINVAL;
            }
        }
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read the segment table of csv "
                         "volume '%s'", csv_volume_label(vol));
    }
    return ret;
}

typedef struct CsvCount {
    uint64_t *per_disk;
    uint64_t used;
} CsvCount;

static bool csv_segments_count_one(void *opaque, uint64_t index,
                                   const CsvSegmentEntry *entry, Error **errp)
{
    CsvCount *c = opaque;

    c->used++;
    if (c->per_disk) {
        c->per_disk[entry->disk]++;
    }
    return true;
}

int csv_segments_count(CsvVolume *vol, BdrvChild *file, uint64_t *per_disk,
                       uint64_t *free, Error **errp)
{
    CsvCount c = { .per_disk = per_disk };
    int ret = csv_segments_walk(vol, file, csv_segments_count_one, NULL, &c,
                                errp);

    if (ret < 0) {
        return ret;
    }
    *free = vol->sb.segment_count - MIN(c.used, vol->sb.segment_count);
    return 0;
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
    disk->free_clusters = 0;
    disk->blank_end = disk->blank_start;
    disk->tables = 0;
    disk->tables_used = 0;
}

/*
 * The segment that @offset is in and the cluster's number there.  Segments
 * were loaded in the order of their index; those claimed since come after,
 * so most disks need a few steps.
 */
static CsvSegment *csv_cluster_find(CsvDisk *disk, uint64_t offset,
                                    uint32_t *cluster)
{
    const CsvSuperblock *sb = &disk->volume->sb;
    uint64_t index;
    guint lo = 0, hi = disk->segments->len, i;

    if (offset < sb->data_offset) {
        return NULL;
    }
    index = (offset - sb->data_offset) >> sb->segment_bits;
    *cluster = ((offset - sb->data_offset) >> CSV_CLUSTER_BITS) &
               (csv_clusters_per_segment(disk->volume) - 1);
    while (lo < hi) {
        guint mid = lo + (hi - lo) / 2;
        CsvSegment *seg = csv_segment_at(disk, mid);

        if (seg->index == index) {
            return seg;
        }
        if (seg->index < index) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    for (i = 0; i < disk->segments->len; i++) {
        if (csv_segment_at(disk, i)->index == index) {
            return csv_segment_at(disk, i);
        }
    }
    return NULL;
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

/* claim_lock held. */
static int coroutine_fn GRAPH_RDLOCK csv_segment_claim_more(CsvDisk *disk)
{
    uint64_t index;
    uint32_t sequence = 0;
    Error *err = NULL;
    guint i;
    int ret;

    WITH_QEMU_LOCK_GUARD(&disk->alloc_lock) {
        for (i = 0; i < disk->segments->len; i++) {
            sequence = MAX(sequence, csv_segment_at(disk, i)->sequence + 1);
        }
    }
    ret = csv_segment_claim(disk->volume, disk->bs->file, disk->record.slot,
                            sequence, &index, &err);
    csv_space_look(disk->volume, disk->bs->file);
    if (ret < 0) {
        if (ret != -ENOSPC) {
            error_report_err(err);
        } else {
            error_free(err);
        }
        return ret;
    }
    QEMU_LOCK_GUARD(&disk->alloc_lock);
    csv_segment_add(disk, index, sequence);
    disk->stats.segments_claimed++;
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

/* Claim a segment while there are still some clusters left. */
static void coroutine_fn csv_claim_ahead(CsvDisk *disk)
{
    uint64_t low = MAX(1, csv_clusters_per_segment(disk->volume) / 4);
    uint64_t free;

    WITH_QEMU_LOCK_GUARD(&disk->alloc_lock) {
        free = disk->free_clusters;
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
 * but us writes there, so it stays like that.
 */
static bool coroutine_fn GRAPH_RDLOCK
csv_cluster_blank(CsvDisk *disk, uint64_t offset)
{
    int64_t n;
    int ret;

    WITH_QEMU_LOCK_GUARD(&disk->alloc_lock) {
        if (offset >= disk->blank_start && offset < disk->blank_end) {
            return true;
        }
    }
    qatomic_set(&disk->blank_seen, qatomic_read(&disk->flush_begun));
    ret = bdrv_co_block_status(disk->bs->file->bs, offset,
                               csv_cluster_run(disk, offset), &n, NULL, NULL);
    if (ret < 0 || !(ret & BDRV_BLOCK_ZERO) || n < CSV_CLUSTER_SIZE) {
        return false;
    }
    QEMU_LOCK_GUARD(&disk->alloc_lock);
    disk->blank_start = offset;
    disk->blank_end = offset + ROUND_DOWN(n, CSV_CLUSTER_SIZE);
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
    if (offset >= disk->blank_start && offset < disk->blank_end) {
        disk->blank_end = disk->blank_start;
    }
}

/* Take a segment without a used cluster out of the list; @keep some. */
static bool csv_segment_drop_free(CsvDisk *disk, unsigned keep,
                                  CsvSegment *out)
{
    uint32_t clusters = csv_clusters_per_segment(disk->volume);
    unsigned empty = 0;
    guint i;

    for (i = 0; i < disk->segments->len; i++) {
        CsvSegment *seg = csv_segment_at(disk, i);

        if (seg->free == clusters && ++empty > keep) {
            *out = *seg;
            g_free(seg->used);
            disk->free_clusters -= clusters;
            g_array_remove_index(disk->segments, i);
            disk->blank_end = disk->blank_start;
            disk->segment_current = 0;
            return true;
        }
    }
    return false;
}

static int GRAPH_RDLOCK csv_segment_give_back(CsvDisk *disk,
                                              const CsvSegment *seg)
{
    int ret = csv_segments_free_in(disk->volume, disk->bs->file,
                                   seg->index / CSV_SEGMENTS_PER_PAGE,
                                   disk->record.slot, seg->index, NULL);

    trace_csv_segment_free(disk, seg->index, ret);
    disk->stats.segments_freed += ret >= 0;
    return ret;
}

void csv_segments_give_back_all(CsvDisk *disk)
{
    CsvSegment seg;
    bool any = false;

    while (csv_segment_drop_free(disk, 0, &seg) &&
           csv_segment_give_back(disk, &seg) >= 0) {
        any = true;
    }
    if (any) {
        csv_space_look(disk->volume, disk->bs->file);
    }
}

void coroutine_fn csv_segments_trim(CsvDisk *disk)
{
    CsvSegment seg;
    bool found, any = false;
    int ret;

    /* Nobody may claim meanwhile, and get the sequence of a segment here. */
    QEMU_LOCK_GUARD(&disk->claim_lock);
    do {
        ret = 0;
        WITH_QEMU_LOCK_GUARD(&disk->alloc_lock) {
            found = csv_segment_drop_free(disk, 1, &seg);
        }
        if (found) {
            ret = csv_segment_give_back(disk, &seg);
            any |= ret >= 0;
        }
        if (ret < 0) {
            /* It is still ours, and so is its sequence. */
            QEMU_LOCK_GUARD(&disk->alloc_lock);
            csv_segment_add(disk, seg.index, seg.sequence);
        }
    } while (found && ret >= 0);
    if (any) {
        csv_space_look(disk->volume, disk->bs->file);
    }
}
