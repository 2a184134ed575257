/*
 * Cluster shared volume: reading the segment table for a check
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "check-int.h"

uint64_t csv_check_page_offset(const CsvCheckup *c, uint64_t page)
{
    return c->vol->sb.segment_offset + page * CSV_PAGE_SIZE;
}

static bool csv_check_claimed_one(void *opaque, uint64_t index,
                                const CsvSegmentEntry *entry, Error **errp)
{
    CsvCheckup *c = opaque;
    CsvCheckEntry e = {
        .disk = entry->disk,
        .index = index,
        .sequence = entry->sequence,
    };

    g_array_append_val(c->claimed, e);
    return true;
}

static bool GRAPH_RDLOCK
csv_check_claimed_bad(void *opaque, uint64_t page, CsvSegmentEntry *entry,
                    const Error *why)
{
    CsvCheckup *c = opaque;
    uint8_t raw[CSV_RECORD_SIZE] = { 0 };
    CsvCheckPage bad = { .number = page };
    unsigned i;

    csv_check_settle(c, csv_check_page_offset(c, page), raw);
    if (!csv_segments_decode(raw, &c->vol->sb, page, entry, NULL)) {
        for (i = 0; i < CSV_SEGMENTS_PER_PAGE; i++) {
            entry[i] = (CsvSegmentEntry) { .disk = -1 };
        }
        bad.why = g_strdup(error_get_pretty(why));
        g_array_append_val(c->damaged, bad);
    }
    return true;
}

static gint csv_check_by_disk(gconstpointer a, gconstpointer b)
{
    const CsvCheckEntry *x = a, *y = b;

    if (x->disk != y->disk) {
        return x->disk < y->disk ? -1 : 1;
    }
    return x->index < y->index ? -1 : x->index > y->index;
}

int csv_check_claimed_read(CsvCheckup *c, Error **errp)
{
    int ret;

    g_array_set_size(c->claimed, 0);
    g_array_set_size(c->damaged, 0);
    ret = csv_segments_walk(c->vol, c->file, csv_check_claimed_one,
                            csv_check_claimed_bad, c, errp);
    g_array_sort(c->claimed, csv_check_by_disk);
    return ret;
}

const CsvCheckEntry *csv_check_claimed_find(const CsvCheckup *c, uint32_t slot,
                                          guint *count)
{
    const CsvCheckEntry *entry = (CsvCheckEntry *)c->claimed->data;
    guint lo = 0, hi = c->claimed->len, end;

    while (lo < hi) {
        guint mid = lo + (hi - lo) / 2;

        if (entry[mid].disk < slot) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    for (end = lo; end < c->claimed->len && entry[end].disk == slot; end++) {
        /* all of them */
    }
    *count = end - lo;
    return entry + lo;
}

bool csv_check_claim_lost(const CsvCheckup *c, uint64_t index)
{
    uint64_t page = index / CSV_SEGMENTS_PER_PAGE;
    guint lo = 0, hi = c->damaged->len;

    while (lo < hi) {
        guint mid = lo + (hi - lo) / 2;
        uint64_t number = g_array_index(c->damaged, CsvCheckPage, mid).number;

        if (number == page) {
            return index < c->vol->sb.segment_count;
        }
        if (number < page) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return false;
}
