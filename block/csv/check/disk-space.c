/*
 * Cluster shared volume: segments and clusters of a disk under check
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "check-int.h"

CsvCheckSegment *csv_check_segment(CsvCheckDisk *d, guint i)
{
    return &g_array_index(d->segments, CsvCheckSegment, i);
}

/* Position in d->segments of segment @index, or where it would be inserted. */
static guint csv_check_segment_place(CsvCheckDisk *d, uint64_t index)
{
    guint lo = 0, hi = d->segments->len;

    while (lo < hi) {
        guint mid = lo + (hi - lo) / 2;

        if (csv_check_segment(d, mid)->index < index) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

CsvCheckSegment *csv_check_segment_add(CsvCheckDisk *d, uint64_t index,
                                       uint32_t sequence, bool assumed)
{
    const CsvSuperblock *sb = &d->c->vol->sb;
    guint place = csv_check_segment_place(d, index);
    CsvCheckSegment seg = {
        .index = index,
        .sequence = sequence,
        .assumed = assumed,
        .used = bitmap_new(1U << (sb->segment_bits - CSV_CLUSTER_BITS)),
    };

    if (index == d->rec->first_segment) {
        set_bit(0, seg.used);       /* header, level-1 map, journal */
    }
    g_array_insert_val(d->segments, place, seg);
    return csv_check_segment(d, place);
}

CsvCheckSegment *csv_check_segment_get(CsvCheckDisk *d, uint64_t index)
{
    guint place = csv_check_segment_place(d, index);

    if (place < d->segments->len &&
        csv_check_segment(d, place)->index == index) {
        return csv_check_segment(d, place);
    }
    return csv_check_claim_lost(d->c, index)
           ? csv_check_segment_add(d, index, 0, true) : NULL;
}

int csv_check_use(CsvCheckDisk *d, uint64_t offset)
{
    const CsvSuperblock *sb = &d->c->vol->sb;
    CsvCheckSegment *seg;
    uint64_t index;

    if (offset < sb->data_offset) {
        return -ENOENT;
    }
    index = (offset - sb->data_offset) >> sb->segment_bits;
    seg = csv_check_segment_get(d, index);
    if (!seg) {
        return -ENOENT;
    }
    offset -= csv_segment_start(sb, index);
    return test_and_set_bit(offset >> CSV_CLUSTER_BITS, seg->used) ? -EEXIST
                                                                   : 0;
}

void csv_check_segments_take(CsvCheckDisk *d)
{
    guint n, i;
    const CsvCheckEntry *entry = csv_check_claimed_find(d->c, d->rec->slot, &n);

    for (i = 0; i < n; i++) {
        csv_check_segment_add(d, entry[i].index, entry[i].sequence, false);
    }
}
