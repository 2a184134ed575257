/*
 * Cluster shared volume: the segment table, with the disk of each segment
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "volume.h"
#include "trace/trace-block_csv.h"

/* Minimum growth of a growable volume, in segments. */
#define CSV_GROW_STEP 4

static uint64_t csv_segment_page_offset(const CsvVolume *vol, uint64_t page)
{
    return vol->sb.segment_offset + page * CSV_PAGE_SIZE;
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

/* Set vol->space, if @used segments are in use. */
static void csv_space_set(CsvVolume *vol, uint64_t used)
{
    uint64_t all = vol->sb.compatible & CSV_COMPAT_GROW ?
                   csv_volume_max_segments(&vol->sb) : vol->sb.segment_count;

    qatomic_set(&vol->space, all - MIN(used, all));
}

/* @n more segments are free, or fewer if @n < 0. */
static void csv_space_change(CsvVolume *vol, int n)
{
    unsigned space = qatomic_read(&vol->space);

    qatomic_set(&vol->space, n > 0 && n > space ? 0 : space - n);
}

/*
 * Claim up to @want segments in @page by one compare-and-write.  Returns their
 * number, 0 if none is free, or -errno.
 */
static int GRAPH_RDLOCK
csv_segment_claim_in(CsvVolume *vol, BdrvChild *file, uint64_t page,
                     uint32_t slot, CsvClaim *claims, unsigned want,
                     Error **errp)
{
    CsvSegmentEntry entry[CSV_SEGMENTS_PER_PAGE];
    uint64_t first = page * CSV_SEGMENTS_PER_PAGE;
    uint64_t here = MIN(CSV_SEGMENTS_PER_PAGE, vol->sb.segment_count - first);
    uint8_t raw[CSV_RECORD_SIZE];
    unsigned tries, i, n;
    int ret;

    for (tries = 0; tries < CSV_SWAP_TRIES; tries++) {
        ret = csv_segment_page_read(vol, file, page, raw, entry, errp);
        if (ret < 0) {
            return ret;
        }
        for (i = n = 0; i < here && n < want; i++) {
            if (entry[i].disk < 0) {
                entry[i] = (CsvSegmentEntry) {
                    .disk = slot,
                    .sequence = claims[n].sequence,
                };
                claims[n++].index = first + i;
            }
        }
        ret = n ? csv_segment_page_swap(vol, file, page, raw, entry) : 0;
        if (ret == -EAGAIN) {
            continue;
        }
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Cannot claim a segment of csv "
                             "volume '%s'", csv_volume_label(vol));
            return ret;
        }
        for (i = 0; i < n; i++) {
            trace_csv_segment_claim(vol, slot, claims[i].index,
                                    claims[i].sequence);
        }
        csv_space_change(vol, n);
        return n;
    }
    return 0;   /* too much contention: try another page */
}

/* Try all pages once, starting with the hint. */
static int GRAPH_RDLOCK
csv_segment_claim_any(CsvVolume *vol, BdrvChild *file, uint32_t slot,
                      CsvClaim *claims, unsigned want, Error **errp)
{
    uint64_t pages = csv_segment_pages(vol->sb.segment_count);
    uint64_t i;

    for (i = 0; i < pages; i++) {
        uint64_t page = (vol->segment_hint + i) % pages;
        int ret = csv_segment_claim_in(vol, file, page, slot, claims, want,
                                       errp);
        if (ret) {
            vol->segment_hint = page;
            return ret;
        }
    }
    return 0;
}

/* Grow the volume if that is permitted.  1: there are more segments now. */
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
        /* Another member changed it, and perhaps grew the volume. */
        ret = csv_volume_refresh(vol, file, errp);
    }
    return ret < 0 ? ret : 1;
}

int csv_segments_claim(CsvVolume *vol, BdrvChild *file, uint32_t slot,
                       CsvClaim *claims, unsigned want, Error **errp)
{
    int ret, tries;

    for (tries = 0; tries < CSV_SWAP_TRIES; tries++) {
        uint64_t count = vol->sb.segment_count;

        ret = csv_segment_claim_any(vol, file, slot, claims, want, errp);
        if (ret) {
            return ret;
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

int csv_segments_free_some(CsvVolume *vol, BdrvChild *file, uint64_t page,
                           uint32_t slot, uint64_t which, Error **errp)
{
    CsvSegmentEntry entry[CSV_SEGMENTS_PER_PAGE];
    uint8_t raw[CSV_RECORD_SIZE];
    unsigned tries, i;
    int found, ret;

    QEMU_BUILD_BUG_ON(CSV_SEGMENTS_PER_PAGE > 64);
    for (tries = 0; tries < CSV_SWAP_TRIES; tries++) {
        found = 0;

        ret = csv_segment_page_read(vol, file, page, raw, entry, errp);
        if (ret < 0) {
            return ret;
        }
        for (i = 0; i < CSV_SEGMENTS_PER_PAGE; i++) {
            if (entry[i].disk == slot && (which & BIT_ULL(i))) {
                entry[i] = (CsvSegmentEntry) { .disk = -1 };
                found++;
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
        return ret;
    }
    csv_space_change(vol, -found);
    return 0;
}

int csv_segments_free(CsvVolume *vol, BdrvChild *file, uint32_t slot,
                      ProgressMeter *progress, Error **errp)
{
    uint64_t pages, page;
    int ret = csv_volume_refresh(vol, file, errp);

    if (ret < 0) {
        return ret;
    }
    pages = csv_segment_pages(vol->sb.segment_count);
    if (progress) {
        progress_set_remaining(progress, pages);
    }
    for (page = 0; page < pages; page++) {
        ret = csv_segments_free_some(vol, file, page, slot, UINT64_MAX,
                                     errp);
        if (ret < 0) {
            return ret;
        }
        if (progress) {
            progress_work_done(progress, 1);
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
    uint64_t used = 0;
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

            used += entry[i].disk >= 0;
            if (entry[i].disk >= 0 && !fn(opaque, index, &entry[i], errp)) {
                csv_table_end(&it);
                return -EINVAL;
            }
        }
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read the segment table of csv "
                         "volume '%s'", csv_volume_label(vol));
        return ret;
    }
    csv_space_set(vol, used);
    return 0;
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
