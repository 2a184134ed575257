/*
 * Cluster shared volume: check of a disk's segments, header and journal
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/memalign.h"
#include "check-int.h"

static uint64_t csv_check_first(const CsvCheckDisk *d)
{
    return csv_segment_start(&d->c->vol->sb, d->rec->first_segment);
}

/*
 * Set the number of segment @index to @sequence in the table, and its disk to
 * this one.  False if another disk has the segment, or if it must not be
 * repaired.
 */
static bool GRAPH_RDLOCK
csv_check_segment_number(CsvCheckDisk *d, uint64_t index, uint32_t sequence)
{
    CsvVolume *vol = d->c->vol;
    uint64_t page = index / CSV_SEGMENTS_PER_PAGE;
    uint64_t offset = vol->sb.segment_offset + page * CSV_PAGE_SIZE;
    CsvSegmentEntry entry[CSV_SEGMENTS_PER_PAGE], *e;
    uint8_t old[CSV_RECORD_SIZE], new[CSV_RECORD_SIZE];
    int tries, ret = -EAGAIN;

    if (!d->repair || !csv_check_may_fix(d->c, CSV_FINDING_ERROR) ||
        index >= vol->sb.segment_count) {
        return false;
    }
    for (tries = 0; ret == -EAGAIN && tries < CSV_SWAP_TRIES; tries++) {
        if (csv_record_read(d->c->file, offset, old) < 0 ||
            !csv_segments_decode(old, &vol->sb, page, entry, NULL)) {
            return false;
        }
        e = &entry[index % CSV_SEGMENTS_PER_PAGE];
        if (e->disk >= 0 && e->disk != d->rec->slot) {
            return false;
        }
        *e = (CsvSegmentEntry) { d->rec->slot, sequence };
        csv_segments_encode(entry, &vol->sb, page, new);
        ret = csv_record_swap(vol, d->c->file, offset, old, new);
    }
    return ret >= 0;
}

static uint32_t csv_check_free_number(CsvCheckDisk *d)
{
    uint32_t n = 0;
    guint i;

    for (i = 0; i < d->segments->len; i++) {
        n = MAX(n, csv_check_segment(d, i)->sequence);
    }
    return n + 1;
}

/* Check that the first segment exists, with number 0.  False: it does not. */
static bool GRAPH_RDLOCK csv_check_first_segment(CsvCheckDisk *d)
{
    uint64_t first = d->rec->first_segment;
    CsvCheckSegment *seg = csv_check_segment_get(d, first);
    bool fixed;

    if (seg && !seg->sequence) {
        return true;
    }
    fixed = csv_check_segment_number(d, first, 0);
    if (seg) {
        csv_check_found(d->c, CSV_FINDING_ERROR, fixed, "disk '%s': segment %"
                        PRIu64 ", its first, has number %" PRIu32
                        " instead of 0", d->rec->name, first, seg->sequence);
        seg->sequence = fixed ? 0 : seg->sequence;
        return true;
    }
    csv_check_found(d->c, CSV_FINDING_ERROR, fixed, "disk '%s': segment %"
                    PRIu64 ", its first, does not belong to it%s",
                    d->rec->name, first, fixed ? "" : "; 'repair all' claims "
                    "it if it is free");
    if (fixed) {
        csv_check_segment_add(d, first, 0, false);
    }
    return fixed;
}

static void GRAPH_RDLOCK csv_check_numbers(CsvCheckDisk *d)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);
    guint i;

    g_hash_table_add(seen, GUINT_TO_POINTER(0));
    for (i = 0; i < d->segments->len; i++) {
        CsvCheckSegment *seg = csv_check_segment(d, i);
        uint32_t is = seg->sequence;
        bool fixed;

        if (seg->assumed || seg->index == d->rec->first_segment ||
            g_hash_table_add(seen, GUINT_TO_POINTER(is))) {
            continue;
        }
        seg->sequence = csv_check_free_number(d);
        fixed = csv_check_segment_number(d, seg->index, seg->sequence);
        csv_check_found(d->c, CSV_FINDING_ERROR, fixed, "disk '%s': segment %"
                        PRIu64 " has the same number %" PRIu32 " as another%s",
                        d->rec->name, seg->index, is, fixed ? "" :
                        "; 'repair all' gives it an unused one");
    }
}

static void GRAPH_RDLOCK csv_check_header_fix(CsvCheckDisk *d,
                                              const CsvHeader *header,
                                              unsigned copy, uint8_t *buf,
                                              const char *why)
{
    bool fixed = false;

    if (header && d->repair && csv_check_may_fix(d->c, CSV_FINDING_ERROR)) {
        csv_header_encode(header, d->rec, copy, buf);
        fixed = csv_pwrite(d->c->vol, d->c->file, csv_check_first(d) +
                           (copy ? CSV_HEADER_COPY_1 : CSV_HEADER_COPY_0),
                           CSV_PAGE_SIZE, buf, BDRV_REQ_FUA) >= 0;
    }
    csv_check_found(d->c, CSV_FINDING_ERROR, fixed, "disk '%s': %s%s",
                    d->rec->name, why, fixed ? "" : header ?
                    "; 'repair all' rewrites it from the other copy" :
                    "; no copy is intact");
}

static int GRAPH_RDLOCK csv_check_header(CsvCheckDisk *d, Error **errp)
{
    QEMU_AUTO_VFREE uint8_t *buf = qemu_blockalign(d->c->file->bs,
                                                   CSV_PAGE_SIZE);
    g_autofree CsvHeader *header = g_new0(CsvHeader, 2);
    Error *err[2] = { NULL, NULL };
    unsigned i;
    int ret = 0;

    for (i = 0; i < 2 && ret >= 0; i++) {
        ret = bdrv_pread(d->c->file, csv_check_first(d) +
                         (i ? CSV_HEADER_COPY_1 : CSV_HEADER_COPY_0),
                         CSV_PAGE_SIZE, buf, 0);
        if (ret >= 0) {
            csv_header_decode(buf, d->rec, i, &header[i], &err[i]);
        }
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read the header of disk '%s' of "
                         "csv volume '%s'", d->rec->name,
                         csv_volume_label(d->c->vol));
    }
    for (i = 0; i < 2 && ret >= 0; i++) {
        if (err[i]) {
            csv_check_header_fix(d, err[!i] ? NULL : &header[!i], i, buf,
                                 error_get_pretty(err[i]));
        }
    }
    /* After a crash between the two writes the next owner updates the copy. */
    if (ret >= 0 && !err[0] && !err[1] &&
        header[0].generation != header[1].generation) {
        bool newer = header[1].generation > header[0].generation;

        csv_check_header_fix(d, &header[newer], !newer, buf,
                             "the copies of the header differ");
    }
    error_free(err[0]);
    error_free(err[1]);
    return ret;
}

typedef struct CsvCheckRecord {
    CsvJournalRecord rec;
    uint32_t page;
} CsvCheckRecord;

static gint csv_check_by_sequence(gconstpointer a, gconstpointer b)
{
    const CsvCheckRecord *x = a, *y = b;

    if (x->rec.sequence < y->rec.sequence) {
        return -1;
    }
    return x->rec.sequence > y->rec.sequence;
}

/* Intact records of the newest epoch, by sequence. */
static GArray *csv_check_ring_scan(CsvCheckDisk *d, const uint8_t *ring)
{
    GArray *found = g_array_new(false, false, sizeof(CsvCheckRecord));
    uint64_t epoch = 0;
    uint32_t page;

    for (page = 0; page < CSV_JOURNAL_PAGES; page++) {
        CsvCheckRecord r = { .page = page };

        if (!csv_journal_decode(ring + page * CSV_PAGE_SIZE,
                                CSV_JOURNAL_BYTES - page * CSV_PAGE_SIZE,
                                &d->rec->uuid, &r.rec, NULL) ||
            r.rec.epoch < epoch) {
            continue;
        }
        if (r.rec.epoch > epoch) {
            /* A chain never includes records of another epoch. */
            epoch = r.rec.epoch;
            g_array_set_size(found, 0);
        }
        g_array_append_val(found, r);
    }
    g_array_sort(found, csv_check_by_sequence);
    return found;
}

static void csv_check_ring_take(CsvCheckDisk *d, const uint8_t *ring,
                                const CsvCheckRecord *r)
{
    uint32_t i;

    for (i = 0; i < r->rec.entries; i++) {
        CsvCheckChange e = { .order = d->changes->len };

        csv_journal_entry(ring + r->page * CSV_PAGE_SIZE, i, &e.entry);
        e.table = e.entry.type == CSV_JOURNAL_L1
                  ? e.entry.index : e.entry.index / CSV_L2_ENTRIES;
        g_array_append_val(d->changes, e);
    }
}

static gint csv_check_by_table(gconstpointer a, gconstpointer b)
{
    const CsvCheckChange *x = a, *y = b;

    if (x->table != y->table) {
        return x->table < y->table ? -1 : 1;
    }
    return x->order < y->order ? -1 : x->order > y->order;
}

/* Report that the journal cannot be replayed; @fmt says why. */
static void G_GNUC_PRINTF(2, 3)
csv_check_chain_bad(CsvCheckDisk *d, const char *fmt, ...)
{
    bool fix = d->repair && csv_check_may_fix(d->c, CSV_FINDING_ERROR);
    g_autofree char *why = NULL;
    va_list ap;

    va_start(ap, fmt);
    why = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    csv_check_found(d->c, CSV_FINDING_ERROR, fix, "disk '%s': journal record %"
                    PRIu64 ": %s%s, and with it the last writes",
                    d->rec->name, d->sequence, why,
                    fix ? "; the journal is dropped"
                        : "; 'repair all' drops the journal");
    g_array_set_size(d->changes, 0);
    d->changed |= fix;
}

static void csv_check_chain(CsvCheckDisk *d, const uint8_t *ring)
{
    g_autoptr(GArray) found = csv_check_ring_scan(d, ring);
    const CsvCheckRecord *r = (CsvCheckRecord *)found->data, *newest;
    uint64_t want;
    guint i;

    if (!found->len) {
        return;
    }
    newest = &r[found->len - 1];
    d->epoch = newest->rec.epoch;
    d->sequence = newest->rec.sequence;
    d->head = (newest->page + newest->rec.bytes / CSV_PAGE_SIZE) %
              CSV_JOURNAL_PAGES;
    for (want = newest->rec.tail, i = 0; i < found->len; i++) {
        if (r[i].rec.sequence == want) {
            csv_check_ring_take(d, ring, &r[i]);
            want++;
        }
    }
    if (want <= newest->rec.sequence) {
        csv_check_chain_bad(d, "field 'tail': record %" PRIu64 " is missing",
                            want);
    } else if (newest->rec.epoch > d->rec->epoch) {
        csv_check_chain_bad(d, "field 'epoch': is %" PRIu64 ", but the disk "
                            "is in epoch %" PRIu64, newest->rec.epoch,
                            d->rec->epoch);
    }
    g_array_sort(d->changes, csv_check_by_table);
}

static int GRAPH_RDLOCK csv_check_journal(CsvCheckDisk *d, Error **errp)
{
    QEMU_AUTO_VFREE uint8_t *ring = qemu_blockalign(d->c->file->bs,
                                                    CSV_JOURNAL_BYTES);
    int ret = bdrv_pread(d->c->file, csv_check_first(d) + CSV_JOURNAL_OFFSET,
                         CSV_JOURNAL_BYTES, ring, 0);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read the journal of disk '%s' of "
                         "csv volume '%s'", d->rec->name,
                         csv_volume_label(d->c->vol));
        return ret;
    }
    csv_check_chain(d, ring);
    return 0;
}

/*
 * The map on the volume is complete, so invalidate the journal.  First write a
 * record that has our epoch and starts a chain; then clear the rest of the
 * ring, because damaged records there may look newer.
 */
static int GRAPH_RDLOCK csv_check_mount(CsvCheckDisk *d, Error **errp)
{
    QEMU_AUTO_VFREE uint8_t *buf = qemu_blockalign0(d->c->file->bs,
                                                    CSV_JOURNAL_BYTES);
    CsvJournalRecord rec = {
        .sequence = d->sequence + 1,
        .epoch = d->rec->epoch,
        .tail = d->sequence + 1,
        .bytes = csv_journal_bytes(0),
    };
    uint64_t ring = csv_check_first(d) + CSV_JOURNAL_OFFSET;
    uint32_t at = csv_ring_at(csv_ring_first(d->rec->epoch), d->head) *
                  CSV_PAGE_SIZE;
    int ret = bdrv_flush(d->c->file->bs);

    csv_journal_encode(&rec, &d->rec->uuid, buf + at);
    if (ret >= 0) {
        ret = csv_pwrite(d->c->vol, d->c->file, ring + at, CSV_PAGE_SIZE,
                         buf + at, BDRV_REQ_FUA);
    }
    if (ret >= 0) {
        ret = csv_pwrite(d->c->vol, d->c->file, ring, CSV_JOURNAL_BYTES, buf,
                         BDRV_REQ_FUA);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot write the journal of disk '%s' "
                         "of csv volume '%s'", d->rec->name,
                         csv_volume_label(d->c->vol));
    }
    return ret;
}

static int GRAPH_RDLOCK csv_check_disk_parts(CsvCheckDisk *d, Error **errp)
{
    int ret;

    csv_check_segments_take(d);
    if (!csv_check_first_segment(d)) {
        return 0;
    }
    csv_check_numbers(d);
    ret = csv_check_header(d, errp);
    if (ret >= 0) {
        ret = csv_check_journal(d, errp);
    }
    if (ret >= 0) {
        ret = csv_check_map(d, errp);
    }
    if (ret >= 0 && d->changed) {
        ret = csv_check_mount(d, errp);
    }
    return ret;
}

CsvCheckDisk *csv_check_disk_new(CsvCheckup *c, const CsvDiskRecord *rec)
{
    CsvCheckDisk *d = g_new0(CsvCheckDisk, 1);

    d->c = c;
    d->rec = rec;
    d->segments = g_array_new(false, false, sizeof(CsvCheckSegment));
    d->changes = g_array_new(false, false, sizeof(CsvCheckChange));
    return d;
}

void csv_check_disk_free(CsvCheckDisk *d)
{
    guint i;

    for (i = 0; i < d->segments->len; i++) {
        g_free(csv_check_segment(d, i)->used);
    }
    g_array_free(d->segments, true);
    g_array_free(d->changes, true);
    g_free(d);
}

int csv_check_disk_walk(CsvCheckDisk *d, Error **errp)
{
    int ret = csv_refresh_length(d->c->file->bs);

    d->end = ret < 0 ? ret : bdrv_getlength(d->c->file->bs);
    if (d->end < 0) {
        error_setg_errno(errp, -d->end, "Cannot find the size of node '%s'",
                         bdrv_get_node_name(d->c->file->bs));
        return d->end;
    }
    /* Some segments are assumed because of the map that is to be repaired. */
    d->repair = d->repair && !d->c->damaged->len;
    ret = csv_check_disk_parts(d, errp);
    return MIN(ret, 0);
}

int csv_check_inspect(CsvCheckDisk *d, GHashTable *found, BdrvCheckResult *res,
                      Error **errp)
{
    CsvCheckup *c = d->c;
    BdrvCheckResult *sum = c->res;
    int ret;

    c->found = found;
    c->res = res;
    c->more = 0;
    ret = csv_check_disk_walk(d, errp);
    c->found = NULL;
    c->res = sum;
    return ret;
}
