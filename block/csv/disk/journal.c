/*
 * Cluster shared volume: the journal of a disk
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

/*
 * A guest's flush with new clusters costs one flush for the data, one record
 * for all of them, and one flush for the record.  The first flush is not needed
 * if all new data replaces zeroes (see Z).  Map pages are written much later:
 * when the ring is full, the disk is released, or half of the tables that fit
 * in the cache are dirty.
 *
 * Why a crash at any time is harmless: let D be the data of a change, R the
 * record that contains the change, P its map page, and T the first record with
 * a tail after R.  The writes are ordered by flushes:
 *
 *      D < R < acknowledge < P < T < reuse of R's place in the ring
 *
 * - R not durable: the map on the volume is the old one, and nothing refers to
 *   the cluster with D.  The lost change was not acknowledged.
 * - R torn: its CRC is wrong, so the record before it is the newest.
 * - R durable, P not durable or torn: R is replayed.  A torn page is a mix of
 *   old and new sectors, each valid, because each has its own CRC.  Replay sets
 *   values, so it does not matter what P contains.
 * - P may hold a change whose record was never written, since pages are
 *   encoded from memory.  But the data was flushed between encoding and
 *   writing, and what the change frees is not reused, so this is a state that
 *   any unflushed write may leave.
 * - R's place is reused only after a record with a tail after R is durable, so
 *   a torn write there damages nothing that replay needs.
 * - Z: D < R does not hold for data in a blank cluster (the other subclusters
 *   read as zeroes on the volume) of a disk without a backing image.  If R is
 *   durable and D is not, or only in part, the rest reads as zeroes, as before:
 *   as if D itself had been torn.  The zeroes may come from a discard, and must
 *   be durable.  So before R is written, a flush must have completed that began
 *   after the last cluster was freed; and a member flushes before it returns a
 *   segment.  If one change in a record needs D < R, all its changes keep it.
 * - a cluster that R frees is not reused before R is durable: a replay that
 *   ends before R would find it in use twice.
 * - a level-1 entry in R: the table's pages may contain anything, so replay
 *   starts with an empty table.  All its entries are newer than the level-1
 *   entry, and are in the journal as long as R is.
 *
 * The newest record by (epoch, sequence) is valid, and its chain back to its
 * tail must be complete.  A new owner first writes a record that has its epoch
 * and starts a chain.  A predecessor that was declared dead may still write,
 * but its records have a lower epoch, so they are ignored.  They do not
 * overwrite the new owner's records either, because the two use different
 * halves of the ring.
 *
 * After a failed write or flush of the journal it is unknown what is durable.
 * The next commit then writes the pages and starts a new chain, skipping one
 * sequence number, so that no two records ever have the same.
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/memalign.h"
#include "map-int.h"
#include "trace/trace-block_csv.h"

/*
 * The largest record that is written.  An owner has half of the ring; if one
 * page of that is in use, a record of less than half of it fits before or after
 * that page.
 */
#define CSV_COMMIT_BYTES    (256 * KiB)
#define CSV_COMMIT_ENTRIES \
    ((CSV_COMMIT_BYTES - sizeof(CsvJournalPage)) / \
     sizeof(CsvJournalPageEntry))

static uint64_t csv_ring_offset(const CsvDisk *disk, uint32_t page)
{
    return csv_segment_start(&disk->volume->sb, disk->record.first_segment) +
           CSV_JOURNAL_OFFSET + (uint64_t)page * CSV_PAGE_SIZE;
}

/* A record in the ring. */
typedef struct CsvFound {
    CsvJournalRecord rec;
    uint32_t page;
} CsvFound;

static gint csv_found_order(gconstpointer a, gconstpointer b)
{
    uint64_t x = ((const CsvFound *)a)->rec.sequence;
    uint64_t y = ((const CsvFound *)b)->rec.sequence;

    return x < y ? -1 : x > y;
}

static bool csv_found_newer(const CsvFound *a, const CsvFound *b)
{
    if (a->rec.epoch != b->rec.epoch && !csv_break(CSV_BREAK_NO_EPOCH)) {
        return a->rec.epoch > b->rec.epoch;
    }
    return a->rec.sequence > b->rec.sequence;
}

/* All intact records in @ring, by sequence; *newest is the valid one. */
static GArray *csv_ring_scan(const CsvDisk *disk, const uint8_t *ring,
                             CsvFound *newest)
{
    GArray *found = g_array_new(false, false, sizeof(CsvFound));
    uint32_t page;

    *newest = (CsvFound) { 0 };
    for (page = 0; page < CSV_JOURNAL_PAGES; page++) {
        CsvFound f = { .page = page };

        if (!csv_journal_decode(ring + page * CSV_PAGE_SIZE,
                                CSV_JOURNAL_BYTES - page * CSV_PAGE_SIZE,
                                &disk->record.uuid, &f.rec, NULL)) {
            continue;
        }
        g_array_append_val(found, f);
        if (csv_found_newer(&f, newest)) {
            *newest = f;
        }
    }
    g_array_sort(found, csv_found_order);
    return found;
}

/* Apply one record of the chain. */
static int GRAPH_RDLOCK
csv_ring_apply(CsvMapLoad *load, const uint8_t *ring, const CsvFound *f,
               Error **errp)
{
    ERRP_GUARD();
    uint32_t i;

    for (i = 0; i < f->rec.entries; i++) {
        CsvJournalEntry e;
        int ret;

        csv_journal_entry(ring + f->page * CSV_PAGE_SIZE, i, &e);
        ret = csv_map_apply(load, &e, errp);
        if (ret < 0) {
            error_prepend(errp, "journal record %" PRIu64 ": entry %u: ",
                          f->rec.sequence, i);
            return ret;
        }
    }
    return 0;
}

static int GRAPH_RDLOCK
csv_ring_replay(CsvDisk *disk, CsvMapLoad *load, const uint8_t *ring,
                Error **errp)
{
    CsvFound newest;
    g_autoptr(GArray) found = csv_ring_scan(disk, ring, &newest);
    uint64_t want = newest.rec.tail;
    guint i;

    disk->journal = (CsvJournal) { .broken = true };
    /* If the disk is not ours, it may have got another owner since. */
    if (disk->owned && newest.rec.epoch > disk->record.epoch) {
        error_setg(errp, "journal record %" PRIu64 ": field 'epoch': is %"
                   PRIu64 ", but the disk is in epoch %" PRIu64,
                   newest.rec.sequence, newest.rec.epoch, disk->record.epoch);
        return -EINVAL;
    }
    for (i = 0; i < found->len; i++) {
        const CsvFound *f = &g_array_index(found, CsvFound, i);
        int ret;

        if (f->rec.sequence != want || f->rec.sequence > newest.rec.sequence ||
            f->rec.epoch != newest.rec.epoch) {
            continue;   /* older, or of a former owner */
        }
        ret = csv_ring_apply(load, ring, f, errp);
        if (ret < 0) {
            return ret;
        }
        want++;
    }
    if (newest.rec.sequence && want <= newest.rec.sequence) {
        error_setg(errp, "journal record %" PRIu64 ": field 'tail': record %"
                   PRIu64 " is missing", newest.rec.sequence, want);
        return -EINVAL;
    }
    trace_csv_journal_replay(disk, newest.rec.tail, newest.rec.sequence);
    disk->journal.sequence = newest.rec.sequence;
    disk->journal.oldest = newest.page;
    disk->journal.head = newest.page + newest.rec.bytes / CSV_PAGE_SIZE;
    return 0;
}

int csv_journal_replay(CsvDisk *disk, CsvMapLoad *load, Error **errp)
{
    QEMU_AUTO_VFREE uint8_t *ring = qemu_blockalign(disk->bs->file->bs,
                                                    CSV_JOURNAL_BYTES);
    int ret = bdrv_pread(disk->bs->file, csv_ring_offset(disk, 0),
                         CSV_JOURNAL_BYTES, ring, 0);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read the journal of disk '%s' of "
                         "csv volume '%s'", disk->record.name,
                         csv_volume_label(disk->volume));
        return ret;
    }
    return csv_ring_replay(disk, load, ring, errp);
}

void csv_journal_position(CsvDisk *disk, const CsvDiskRecord *rec)
{
    disk->journal = (CsvJournal) {
        .sequence = rec->journal_sequence,
        .tail = rec->journal_sequence + 1,
        .head = rec->journal_page,
        .oldest = rec->journal_page,
    };
}

/*
 * Find the place for a record of @pages.  One page after it must be free, so
 * that there is always a place for the record that frees the ring.
 */
static bool csv_ring_room(const CsvJournal *j, uint32_t pages, uint32_t *at)
{
    if (j->head > j->oldest || csv_break(CSV_BREAK_RING_OVERRUN)) {
        if (j->head + pages + 1 <= j->first + CSV_JOURNAL_HALF) {
            *at = j->head;
            return true;
        }
        *at = j->first;
        return j->first + pages + 1 <= j->oldest ||
               csv_break(CSV_BREAK_RING_OVERRUN);
    }
    *at = j->head;
    return j->head + pages + 1 <= j->oldest;
}

/* Flush the volume, and count the flush. */
static int GRAPH_RDLOCK csv_journal_flush(CsvDisk *disk)
{
    uint64_t begun = qatomic_inc_fetch(&disk->flush_begun);
    int ret = bdrv_flush(disk->bs->file->bs);

    if (ret >= 0) {
        qatomic_set(&disk->flush_done, begun);
    }
    return ret;
}

/*
 * Complete the record in @buf, which contains its entries, write it to page
 * @at, and flush.  What it depends on must be durable.
 */
static int GRAPH_RDLOCK
csv_record_write(CsvDisk *disk, uint8_t *buf, uint32_t entries, uint32_t at)
{
    CsvJournal *j = &disk->journal;
    CsvJournalRecord rec = {
        .sequence = j->sequence + 1,
        .epoch = disk->record.epoch,
        .tail = j->tail,
        .bytes = csv_journal_bytes(entries),
        .entries = entries,
    };
    int ret;

    csv_journal_encode(&rec, &disk->record.uuid, buf);
    ret = csv_pwrite(disk->volume, disk->bs->file, csv_ring_offset(disk, at),
                     rec.bytes, buf, 0);
    if (ret >= 0 && !csv_break(entries ? CSV_BREAK_RECORD_NOT_FLUSHED
                                       : CSV_BREAK_TAIL_NOT_FLUSHED)) {
        ret = csv_journal_flush(disk);
    }
    trace_csv_journal_write(disk, rec.sequence, rec.tail, at, entries, ret);
    j->sequence = rec.sequence;
    if (ret < 0) {
        j->broken = !csv_break(CSV_BREAK_CHAIN_GOES_ON);
        return ret;
    }
    disk->stats.records++;
    disk->stats.entries += entries;
    j->head = csv_ring_at(j->first, at + rec.bytes / CSV_PAGE_SIZE);
    if (rec.tail == rec.sequence) {
        j->oldest = at;
    }
    return 0;
}

/*
 * Write all dirty map pages, then a record without entries that is its own
 * tail, which frees the rest of the ring.
 */
static int GRAPH_RDLOCK csv_checkpoint(CsvDisk *disk)
{
    QEMU_AUTO_VFREE uint8_t *buf = qemu_blockalign0(disk->bs->file->bs,
                                                    CSV_PAGE_SIZE);
    CsvJournal *j = &disk->journal;
    uint32_t at = csv_ring_at(j->first, j->head);
    int ret = csv_map_write_pages(disk);

    if (ret >= 0 && !csv_break(CSV_BREAK_TAIL_BEFORE_PAGES)) {
        ret = bdrv_flush(disk->bs->file->bs);
    }
    if (ret < 0) {
        return ret;
    }
    if (j->broken) {
        j->sequence++;          /* the failed record may be on the volume */
    }
    j->tail = j->sequence + 1;
    ret = csv_record_write(disk, buf, 0, at);
    if (ret >= 0) {
        disk->stats.checkpoints++;
        j->broken = false;
    }
    return ret;
}

int csv_journal_mount(CsvDisk *disk, Error **errp)
{
    int ret;

    disk->journal.first = csv_ring_first(disk->record.epoch);
    ret = csv_break(CSV_BREAK_NO_OWN_RECORD) ? 0 : csv_checkpoint(disk);
    csv_map_release(disk);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot write the journal of disk '%s' "
                         "of csv volume '%s'", disk->record.name,
                         csv_volume_label(disk->volume));
    }
    return ret;
}

int csv_journal_settle(CsvDisk *disk, CsvDiskRecord *rec)
{
    CsvJournal *j = &disk->journal;
    int ret = 0;

    rec->journal_sequence = 0;
    rec->journal_page = 0;
    assert(!disk->pending);
    /* Unless there is nothing but the record of our own claim. */
    if (!csv_break(CSV_BREAK_SETTLE_WITHOUT_PAGES) &&
        (j->broken || j->tail != j->sequence || csv_map_dirty(disk))) {
        ret = csv_checkpoint(disk);
        csv_map_release(disk);
    }
    if (ret >= 0) {
        rec->journal_sequence = j->sequence;
        rec->journal_page = j->head;
    }
    return ret;
}

/* Write one record.  Returns its number of entries, or -errno. */
static int GRAPH_RDLOCK
csv_commit_one(CsvDisk *disk, uint8_t *buf, GArray *freed)
{
    uint32_t entries, pages, at;
    bool ordered;
    int ret;

    entries = csv_map_collect(disk, buf, CSV_COMMIT_ENTRIES, freed, &ordered);
    if (!entries) {
        return 0;
    }
    pages = csv_journal_bytes(entries) / CSV_PAGE_SIZE;
    if (!disk->journal.broken && !csv_map_crowded(disk) &&
        csv_ring_room(&disk->journal, pages, &at)) {
        ordered = ordered && !csv_break(CSV_BREAK_RECORD_BEFORE_DATA);
        ret = ordered ? csv_journal_flush(disk) : 0;
    } else {
        ret = csv_checkpoint(disk);
        if (ret >= 0) {
            /* One record of one page is left: see CSV_COMMIT_BYTES. */
            bool room = csv_ring_room(&disk->journal, pages, &at);

            assert(room);
        }
    }
    if (ret >= 0) {
        ret = csv_record_write(disk, buf, entries, at);
    }
    if (ret < 0) {
        csv_map_uncollect(disk, buf, entries);
        return ret;
    }
    return entries;
}

int coroutine_fn csv_journal_commit(CsvDisk *disk)
{
    g_autoptr(GArray) freed = NULL;
    QEMU_AUTO_VFREE uint8_t *buf = NULL;
    int ret;

    QEMU_LOCK_GUARD(&disk->flush_lock);
    if (!qatomic_read(&disk->pending)) {
        return 0;
    }
    if (!disk->owned) {
        /* Another member took the disk: these changes must not be written. */
        return -ESTALE;
    }
    disk->stats.commits++;
    buf = qemu_blockalign(disk->bs->file->bs, CSV_COMMIT_BYTES);
    freed = g_array_new(false, false, sizeof(CsvDiscard));
    do {
        ret = csv_commit_one(disk, buf, freed);
    } while (ret > 0 && qatomic_read(&disk->pending));
    csv_map_release(disk);

    WITH_QEMU_LOCK_GUARD(&disk->map_lock) {
        g_array_append_vals(ret < 0 ? disk->freed : disk->discards, freed->data,
                            freed->len);
    }
    return MIN(ret, 0);
}
