/*
 * Cluster shared volume: check of the segment table
 *
 * Only the table says which segments a disk has.  A damaged page is rebuilt
 * from the maps of all disks, which name every segment that contains data.
 * Until then, the check assumes that a disk has the segments in that page that
 * its map names.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "check-int.h"

/* Add segments in damaged pages that the map of disk @rec names to @claims. */
static int GRAPH_RDLOCK
csv_check_named_by(CsvCheckup *c, const CsvDiskRecord *rec, GArray *claims,
                    Error **errp)
{
    g_autoptr(GHashTable) found =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(CsvCheckDisk) d = csv_check_disk_new(c, rec);
    BdrvCheckResult one = { 0 };
    uint32_t sequence = 0;
    guint i;
    int ret = csv_check_inspect(d, found, &one, errp);

    for (i = 0; ret >= 0 && i < d->segments->len; i++) {
        sequence = MAX(sequence, g_array_index(d->segments, CsvCheckSegment,
                                               i).sequence);
    }
    for (i = 0; ret >= 0 && i < d->segments->len; i++) {
        CsvCheckSegment *seg = &g_array_index(d->segments, CsvCheckSegment, i);
        CsvCheckEntry e = { .disk = rec->slot, .index = seg->index };

        if (seg->assumed) {
            e.sequence = seg->index == rec->first_segment ? 0 : ++sequence;
            g_array_append_val(claims, e);
        }
    }
    return ret;
}

/* If two disks name a segment, the one that starts in it comes first. */
static gint csv_check_by_index(gconstpointer a, gconstpointer b)
{
    const CsvCheckEntry *x = a, *y = b;

    if (x->index != y->index) {
        return x->index < y->index ? -1 : 1;
    }
    if (!x->sequence != !y->sequence) {
        return x->sequence ? 1 : -1;
    }
    return x->disk < y->disk ? -1 : x->disk > y->disk;
}

/* Collect the entries of damaged pages in @claims, sorted by index. */
static int GRAPH_RDLOCK
csv_check_named(CsvCheckup *c, GArray *claims, Error **errp)
{
    CsvTableIter it;
    CsvDiskRecord rec;
    int ret;

    csv_table_iter(&it, c->file, c->vol->sb.disk_offset,
                   c->vol->sb.disk_high);
    while ((ret = csv_table_next(&it)) > 0) {
        if (!csv_disk_decode(it.record, &c->vol->sb, it.slot, &rec, NULL) ||
            rec.state == CSV_RECORD_UNUSED ||
            rec.state == CSV_RECORD_CREATING ||
            rec.state == CSV_RECORD_DELETING) {
            continue;
        }
        ret = csv_check_named_by(c, &rec, claims, errp);
        if (ret < 0) {
            csv_table_end(&it);
            return ret;
        }
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read the disk table of csv "
                         "volume '%s'", csv_volume_label(c->vol));
    }
    g_array_sort(claims, csv_check_by_index);
    return ret;
}

/* Rebuild @page from the claims in it; *used gets their number. */
static bool GRAPH_RDLOCK
csv_check_page_anew(CsvCheckup *c, uint64_t page, const GArray *claims,
                    unsigned *used)
{
    CsvSegmentEntry entry[CSV_SEGMENTS_PER_PAGE];
    uint8_t old[CSV_RECORD_SIZE], new[CSV_RECORD_SIZE];
    unsigned i;

    if (csv_record_read(c->file, csv_check_page_offset(c, page), old) < 0 ||
        csv_segments_decode(old, &c->vol->sb, page, entry, NULL)) {
        return false;
    }
    for (i = 0; i < CSV_SEGMENTS_PER_PAGE; i++) {
        entry[i] = (CsvSegmentEntry) { .disk = -1 };
    }
    *used = 0;
    for (i = 0; i < claims->len; i++) {
        const CsvCheckEntry *e = &g_array_index(claims, CsvCheckEntry, i);
        CsvSegmentEntry *to = &entry[e->index % CSV_SEGMENTS_PER_PAGE];

        if (e->index / CSV_SEGMENTS_PER_PAGE == page && to->disk < 0) {
            *to = (CsvSegmentEntry) { e->disk, e->sequence };
            ++*used;
        }
    }
    csv_segments_encode(entry, &c->vol->sb, page, new);
    return csv_record_swap(c->vol, c->file, csv_check_page_offset(c, page),
                           old, new) >= 0;
}

static void GRAPH_RDLOCK
csv_check_page(CsvCheckup *c, const CsvCheckPage *page, const GArray *claims)
{
    uint64_t first = page->number * CSV_SEGMENTS_PER_PAGE;
    unsigned used;

    if (claims && csv_check_page_anew(c, page->number, claims, &used)) {
        csv_check_found(c, CSV_FINDING_ERROR, true, "%s; rebuilt from the "
                        "disks' maps: they use %u of the segments %" PRIu64
                        " to %" PRIu64 ", the others are free", page->why,
                        used, first, first + CSV_SEGMENTS_PER_PAGE - 1);
        return;
    }
    csv_check_found(c, CSV_FINDING_ERROR, false, "%s; no disk can be opened; "
                    "'repair all' rebuilds it from the disks' maps",
                    page->why);
}

/* A disk whose record is damaged would lose its segments. */
static bool GRAPH_RDLOCK csv_check_pages_may_fix(CsvCheckup *c)
{
    if (!csv_check_may_rebuild(c, "the segment table")) {
        return false;
    }
    if (c->records_bad) {
        fprintf(stderr, "Cannot rebuild the segment table: %u disk records are "
                "damaged; repair them first\n", c->records_bad);
        return false;
    }
    return true;
}

int csv_check_pages(CsvCheckup *c, Error **errp)
{
    g_autoptr(GArray) claims =
        g_array_new(false, false, sizeof(CsvCheckEntry));
    bool fix = c->damaged->len && csv_check_pages_may_fix(c);
    int ret = fix ? csv_check_named(c, claims, errp) : 0;
    guint i;

    if (ret < 0) {
        return ret;
    }
    for (i = 0; i < c->damaged->len; i++) {
        csv_check_page(c, &g_array_index(c->damaged, CsvCheckPage, i),
                       fix ? claims : NULL);
    }
    return fix ? csv_check_claimed_read(c, errp) : 0;
}

/*
 * Free the segments of the unused slot rec->slot.  Meanwhile the slot has a
 * disk in state 'deleting', so that no member creates a disk there.
 */
static bool GRAPH_RDLOCK
csv_check_segments_free(CsvCheckup *c, CsvDiskRecord *rec, uint8_t *raw)
{
    qemu_uuid_generate(&rec->uuid);
    snprintf(rec->name, sizeof(rec->name), "leaked-%" PRIu32, rec->slot);
    return csv_disk_erase(c->vol, c->file, rec, raw, NULL, NULL) >= 0;
}

/* Does the table still contain entry @e? */
static bool GRAPH_RDLOCK
csv_check_entry_stays(CsvCheckup *c, const CsvCheckEntry *e)
{
    uint64_t page = e->index / CSV_SEGMENTS_PER_PAGE;
    CsvSegmentEntry entry[CSV_SEGMENTS_PER_PAGE];
    uint8_t raw[CSV_RECORD_SIZE];

    return csv_record_read(c->file, csv_check_page_offset(c, page),
                           raw) >= 0 &&
           csv_segments_decode(raw, &c->vol->sb, page, entry, NULL) &&
           entry[e->index % CSV_SEGMENTS_PER_PAGE].disk == e->disk;
}

/* Report and free the segments of @e->disk if there is no such disk. */
static void GRAPH_RDLOCK
csv_check_segments_of(CsvCheckup *c, const CsvCheckEntry *e)
{
    CsvDiskRecord rec;
    uint8_t raw[CSV_RECORD_SIZE];
    bool fixed = false;

    /* The disk may have been deleted since the table was read. */
    if (csv_disk_read(c->vol, c->file, e->disk, &rec, raw, NULL) < 0 ||
        rec.state != CSV_RECORD_UNUSED || !csv_check_entry_stays(c, e)) {
        return;
    }
    if (csv_check_may_fix(c, CSV_FINDING_LEAK)) {
        fixed = csv_check_segments_free(c, &rec, raw);
    }
    csv_check_found(c, CSV_FINDING_LEAK, fixed, "segment table: segment %"
                    PRIu32 " and maybe more belong to disk record %" PRIu32
                    ", where there is no disk%s", e->index, e->disk,
                    fixed ? "; they are free now"
                          : "; 'repair leaks' frees them");
}

void csv_check_segments(CsvCheckup *c)
{
    guint i;

    for (i = 0; i < c->claimed->len; i++) {
        const CsvCheckEntry *e = &g_array_index(c->claimed, CsvCheckEntry, i);

        if (!i || e[-1].disk != e->disk) {
            csv_check_segments_of(c, e);
        }
    }
}
