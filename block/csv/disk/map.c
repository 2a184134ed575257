/*
 * Cluster shared volume: the map of a disk
 *
 * The level-1 map is in memory while the disk is open; level-2 tables are
 * loaded when needed (map-cache.c).  The I/O path reads entries without a lock;
 * if a table is missing, it loads the table and tries again.  Only requests
 * that are queued for a subcluster change its bits (see io.c).  All changes are
 * made under map_lock, so that the journal sees each entry whole.
 *
 * A change makes its entry pending, for the journal, and its page dirty, for
 * the next checkpoint; journal.c explains the order of the writes.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/memalign.h"
#include "disk.h"
#include "trace/trace-block_csv.h"

/*
 * Table @t, or NULL; in an RCU read section.  *known: false if the table exists
 * but is not in memory.
 */
static inline CsvL2Table *csv_map_table(CsvDisk *disk, unsigned t, bool *known)
{
    CsvL2Table *table = qatomic_rcu_read(&disk->l2[t]);

    if (unlikely(!table)) {
        *known = !qatomic_read(&disk->l1[t]);
    } else if (unlikely(!qatomic_read(&table->used))) {
        qatomic_set(&table->used, true);
    }
    return table;
}

static bool csv_map_peek(CsvDisk *disk, uint64_t cluster, CsvL2Entry *entry)
{
    unsigned i = cluster % CSV_L2_ENTRIES;
    bool known = true;
    CsvL2Table *table;

    RCU_READ_LOCK_GUARD();
    table = csv_map_table(disk, cluster / CSV_L2_ENTRIES, &known);
    *entry = (CsvL2Entry) { 0 };
    if (table) {
        entry->masks = qatomic_load_acquire(&table->masks[i]);
        entry->offset = (uint64_t)qatomic_read(&table->place[i]) <<
                        CSV_CLUSTER_BITS;
    }
    return known;
}

int coroutine_mixed_fn csv_map_get(CsvDisk *disk, uint64_t cluster,
                                   CsvL2Entry *entry)
{
    while (!csv_map_peek(disk, cluster, entry)) {
        int ret = csv_map_fetch(disk, cluster / CSV_L2_ENTRIES);

        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

/* Mark entry @i of table @t as changed.  map_lock held. */
static void csv_map_mark(CsvDisk *disk, unsigned t, unsigned i)
{
    CsvL2Table *table = disk->l2[t];

    set_bit(i, table->pending);
    set_bit(t, disk->l2_pending);
    table->dirty |= 1U << (i / CSV_L2_PER_PAGE);
    set_bit(t, disk->l2_dirty);
    qatomic_set(&disk->pending, true);
}

/* Mark table @t as new.  map_lock held. */
static void csv_map_mark_new(CsvDisk *disk, unsigned t)
{
    set_bit(t, disk->l1_pending);
    /* All pages: the cluster may contain anything. */
    disk->l2[t]->dirty = UINT16_MAX;
    set_bit(t, disk->l2_dirty);
    disk->l1_dirty |= 1U << (t / CSV_L1_PER_PAGE);
    qatomic_set(&disk->pending, true);
}

/* After a hand-over, the free clusters may not be known yet. */
static int coroutine_fn GRAPH_RDLOCK
csv_map_alloc(CsvDisk *disk, uint64_t *offset, bool *blank)
{
    int ret = csv_map_scan(disk, false);

    return ret < 0 ? ret : csv_cluster_alloc(disk, offset, blank);
}

int coroutine_fn csv_map_make_table(CsvDisk *disk, uint64_t cluster)
{
    unsigned t = cluster / CSV_L2_ENTRIES;
    uint64_t offset;

    if (qatomic_read(&disk->l1[t])) {
        return 0;
    }
    QEMU_LOCK_GUARD(&disk->make_lock);
    if (disk->l1[t]) {
        return 0;
    }
    if (!disk->tables) {
        bool blank;
        int ret = csv_map_alloc(disk, &disk->tables, &blank);

        if (ret < 0) {
            disk->tables = 0;
            return ret;
        }
        disk->tables_used = 0;
    }
    offset = disk->tables + disk->tables_used * CSV_L2_SIZE;
    if (++disk->tables_used == CSV_L2_PER_CLUSTER) {
        disk->tables = 0;
    }
    QEMU_LOCK_GUARD(&disk->map_lock);
    csv_map_cache_add(disk, t, g_new0(CsvL2Table, 1));
    qatomic_set(&disk->l1[t], offset);
    csv_map_mark_new(disk, t);
    return 0;
}

int coroutine_fn csv_map_place(CsvDisk *disk, uint64_t cluster,
                               uint64_t *place)
{
    unsigned t = cluster / CSV_L2_ENTRIES, i = cluster % CSV_L2_ENTRIES;
    CsvL2Entry entry;
    bool blank;
    int ret = csv_map_get(disk, cluster, &entry);

    *place = entry.offset;
    if (ret < 0 || *place) {
        return ret;
    }
    QEMU_LOCK_GUARD(&disk->place_lock[cluster % CSV_PLACE_LOCKS]);
    ret = csv_map_make_table(disk, cluster);
    if (ret >= 0) {
        /* A request for another part of the cluster may have done it. */
        ret = csv_map_get(disk, cluster, &entry);
        *place = entry.offset;
    }
    if (ret < 0 || *place) {
        return ret;
    }
    ret = csv_map_alloc(disk, place, &blank);
    if (ret < 0) {
        return ret;
    }
    ret = csv_map_lock(disk, t);
    if (ret < 0) {
        QEMU_LOCK_GUARD(&disk->alloc_lock);
        csv_cluster_free(disk, *place);
        return ret;
    }
    if (blank) {
        set_bit(i, disk->l2[t]->blank);
    } else {
        clear_bit(i, disk->l2[t]->blank);
    }
    qatomic_set(&disk->l2[t]->place[i], *place >> CSV_CLUSTER_BITS);
    csv_map_mark(disk, t, i);
    qemu_mutex_unlock(&disk->map_lock);
    return 0;
}

bool csv_map_blank(CsvDisk *disk, uint64_t cluster)
{
    CsvL2Table *table;

    QEMU_LOCK_GUARD(&disk->map_lock);
    table = disk->l2[cluster / CSV_L2_ENTRIES];
    return table && test_bit(cluster % CSV_L2_ENTRIES, table->blank);
}

void csv_map_spoil(CsvDisk *disk, uint64_t cluster)
{
    CsvL2Table *table;

    QEMU_LOCK_GUARD(&disk->map_lock);
    table = disk->l2[cluster / CSV_L2_ENTRIES];
    if (table) {
        clear_bit(cluster % CSV_L2_ENTRIES, table->blank);
    }
}

/* Note that a cluster, or some of its subclusters, are free.  map_lock held. */
static void csv_map_free(CsvDisk *disk, uint64_t cluster, uint64_t offset,
                         uint32_t subclusters)
{
    CsvDiscard d = {
        .cluster = cluster,
        .offset = offset,
        .subclusters = subclusters,
    };

    g_array_append_val(csv_break(CSV_BREAK_REUSE_EARLY) ||
                       csv_break(CSV_BREAK_SEGMENT_EARLY) ? disk->discards
                                                          : disk->freed,
                       d);
}

/* map_lock held. */
static void GRAPH_RDLOCK
csv_map_change_locked(CsvDisk *disk, uint64_t cluster, uint32_t data,
                      uint32_t zero, uint32_t hole, bool unmap)
{
    unsigned t = cluster / CSV_L2_ENTRIES, i = cluster % CSV_L2_ENTRIES;
    CsvL2Table *table = disk->l2[t];
    uint64_t masks = table->masks[i];
    uint64_t place = (uint64_t)table->place[i] << CSV_CLUSTER_BITS;
    uint32_t old_data = csv_masks_data(masks);
    uint32_t new_data = (old_data | data) & ~(zero | hole);
    uint32_t new_zero = (csv_masks_zero(masks) | zero) & ~(data | hole);

    assert(place || !new_data);
    if (old_data & ~new_data) {
        clear_bit(i, table->blank);
    }
    /*
     * The record may be durable before its data only if the data replaces
     * zeroes: see rule Z in journal.c.
     */
    if (zero || hole || csv_has_backing(disk) || !test_bit(i, table->blank)) {
        disk->ordered = true;
    }

    qatomic_store_release(&table->masks[i], csv_masks(new_data, new_zero));
    if (unmap && place && !new_data) {
        qatomic_set(&table->place[i], 0);
        csv_map_free(disk, cluster, place, UINT32_MAX);
    } else if (unmap && (old_data & ~new_data)) {
        csv_map_free(disk, cluster, place, old_data & ~new_data);
    } else if (masks == table->masks[i]) {
        return;
    }
    csv_map_mark(disk, t, i);
}

int coroutine_mixed_fn
csv_map_change(CsvDisk *disk, uint64_t cluster, uint32_t data, uint32_t zero,
               uint32_t hole, bool unmap)
{
    int ret = csv_map_lock(disk, cluster / CSV_L2_ENTRIES);

    if (ret < 0) {
        return ret;
    }
    csv_map_change_locked(disk, cluster, data, zero, hole, unmap);
    qemu_mutex_unlock(&disk->map_lock);
    return 0;
}

/* Turn the subclusters in @hole into holes, and free their space. */
static int coroutine_mixed_fn GRAPH_RDLOCK
csv_map_cut_cluster(CsvDisk *disk, uint64_t cluster, uint32_t hole)
{
    CsvL2Entry e;
    int ret = csv_map_get(disk, cluster, &e);

    if (ret < 0 || (!(e.masks & csv_masks(hole, hole)) &&
                    !(e.offset && hole == UINT32_MAX))) {
        return ret;
    }
    return csv_map_change(disk, cluster, 0, 0, hole, true);
}

int coroutine_mixed_fn csv_map_cut(CsvDisk *disk, uint64_t size)
{
    uint64_t first = DIV_ROUND_UP(size, CSV_CLUSTER_SIZE);
    unsigned sub = DIV_ROUND_UP(size % CSV_CLUSTER_SIZE, CSV_SUBCLUSTER_SIZE);
    unsigned t;
    int ret = 0;

    for (t = first / CSV_L2_ENTRIES; t < CSV_MAX_L2_TABLES; t++) {
        uint64_t c = MAX(first, (uint64_t)t * CSV_L2_ENTRIES);

        if (!disk->l1[t]) {
            continue;
        }
        for (; ret >= 0 && c < (uint64_t)(t + 1) * CSV_L2_ENTRIES; c++) {
            ret = csv_map_cut_cluster(disk, c, UINT32_MAX);
        }
    }
    if (ret >= 0 && sub && sub < CSV_SUBCLUSTERS) {
        ret = csv_map_cut_cluster(disk, size >> CSV_CLUSTER_BITS,
                                  UINT32_MAX << sub);
    }
    return ret;
}

/* Maximum of map pages written between two flushes, to bound memory. */
#define CSV_BATCH_PAGES 256

static uint64_t csv_l1_offset(const CsvDisk *disk, unsigned page)
{
    return csv_segment_start(&disk->volume->sb, disk->record.first_segment) +
           CSV_L1_OFFSET + page * CSV_PAGE_SIZE;
}

/* Add pending changes of table @t to the record, up to @max entries in it. */
static uint32_t csv_map_collect_table(CsvDisk *disk, unsigned t, uint8_t *buf,
                                      uint32_t n, uint32_t max)
{
    CsvL2Table *table = disk->l2[t];
    unsigned i;

    set_bit(t, disk->l2_held);
    for (i = find_first_bit(table->pending, CSV_L2_ENTRIES);
         i < CSV_L2_ENTRIES && n < max;
         i = find_next_bit(table->pending, CSV_L2_ENTRIES, i + 1)) {
        CsvJournalEntry e = {
            .type = CSV_JOURNAL_L2,
            .index = (uint64_t)t * CSV_L2_ENTRIES + i,
            .value.offset = (uint64_t)table->place[i] << CSV_CLUSTER_BITS,
            .value.masks = table->masks[i],
        };

        csv_journal_put(buf, n++, &e);
        clear_bit(i, table->pending);
    }
    if (i == CSV_L2_ENTRIES) {
        clear_bit(t, disk->l2_pending);
    }
    return n;
}

uint32_t csv_map_collect(CsvDisk *disk, uint8_t *buf, uint32_t max,
                         GArray *freed, bool *ordered)
{
    uint32_t n = 0;
    unsigned t;

    QEMU_LOCK_GUARD(&disk->map_lock);
    for (t = find_first_bit(disk->l1_pending, CSV_MAX_L2_TABLES);
         t < CSV_MAX_L2_TABLES && n < max;
         t = find_next_bit(disk->l1_pending, CSV_MAX_L2_TABLES, t + 1)) {
        CsvJournalEntry e = {
            .type = CSV_JOURNAL_L1,
            .index = t,
            .value.offset = disk->l1[t],
        };

        csv_journal_put(buf, n++, &e);
        clear_bit(t, disk->l1_pending);
    }
    for (t = find_first_bit(disk->l2_pending, CSV_MAX_L2_TABLES);
         t < CSV_MAX_L2_TABLES && n < max;
         t = find_next_bit(disk->l2_pending, CSV_MAX_L2_TABLES, t + 1)) {
        n = csv_map_collect_table(disk, t, buf, n, max);
    }
    /* Freed clusters may be used again, so their zeroes must be durable. */
    *ordered = disk->ordered ||
               (qatomic_read(&disk->flush_done) <=
                qatomic_read(&disk->freed_at) &&
                !csv_break(CSV_BREAK_ZEROES_NOT_DURABLE));
    if (n < max) {
        qatomic_set(&disk->pending, false);
        disk->ordered = false;
        g_array_append_vals(freed, disk->freed->data, disk->freed->len);
        g_array_set_size(disk->freed, 0);
    }
    return n;
}

void csv_map_uncollect(CsvDisk *disk, const uint8_t *buf, uint32_t entries)
{
    uint32_t i;

    QEMU_LOCK_GUARD(&disk->map_lock);
    for (i = 0; i < entries; i++) {
        CsvJournalEntry e;

        csv_journal_entry(buf, i, &e);
        if (e.type == CSV_JOURNAL_L1) {
            set_bit(e.index, disk->l1_pending);
        } else {
            set_bit(e.index % CSV_L2_ENTRIES,
                    disk->l2[e.index / CSV_L2_ENTRIES]->pending);
            set_bit(e.index / CSV_L2_ENTRIES, disk->l2_pending);
        }
    }
    qatomic_set(&disk->pending, true);
    disk->ordered = true;
}

/* Encode page @page of table @t.  map_lock held. */
static void csv_map_encode_page(CsvDisk *disk, unsigned t, unsigned page,
                                uint8_t *buf)
{
    CsvL2Table *table = disk->l2[t];
    unsigned s, i;

    for (s = 0; s < CSV_SECTORS_PER_PAGE; s++) {
        unsigned sector = page * CSV_SECTORS_PER_PAGE + s;
        CsvL2Entry entry[CSV_L2_PER_SECTOR];

        for (i = 0; i < CSV_L2_PER_SECTOR; i++) {
            unsigned at = sector * CSV_L2_PER_SECTOR + i;

            entry[i].offset = (uint64_t)table->place[at] << CSV_CLUSTER_BITS;
            entry[i].masks = table->masks[at];
        }
        csv_l2_encode(entry, &disk->record.uuid,
                      (uint64_t)t * CSV_L2_SECTORS + sector,
                      buf + s * CSV_SECTOR_SIZE);
    }
}

/* Map pages to be written. */
typedef struct CsvBatch {
    CsvDisk *disk;
    unsigned n;
    struct {
        uint32_t table;         /* of a level-1 page: number of the page */
        uint32_t page;
    } at[CSV_BATCH_PAGES];
    uint8_t *buf;
} CsvBatch;

/* Encode level-2 pages from table @t on.  Returns the next table. */
static unsigned csv_batch_l2(CsvBatch *b, unsigned t)
{
    CsvDisk *disk = b->disk;

    QEMU_LOCK_GUARD(&disk->map_lock);
    b->n = 0;
    for (t = find_next_bit(disk->l2_dirty, CSV_MAX_L2_TABLES, t);
         t < CSV_MAX_L2_TABLES && b->n + CSV_L2_PAGES <= CSV_BATCH_PAGES;
         t = find_next_bit(disk->l2_dirty, CSV_MAX_L2_TABLES, t + 1)) {
        CsvL2Table *table = disk->l2[t];
        unsigned page;

        for (page = 0; page < CSV_L2_PAGES; page++) {
            if (!(table->dirty & (1U << page))) {
                continue;
            }
            csv_map_encode_page(disk, t, page, b->buf + b->n * CSV_PAGE_SIZE);
            b->at[b->n].table = t;
            b->at[b->n].page = page;
            b->n++;
        }
        table->dirty = 0;
        clear_bit(t, disk->l2_dirty);
        set_bit(t, disk->l2_held);
    }
    return t;
}

static void csv_batch_l1(CsvBatch *b)
{
    CsvDisk *disk = b->disk;
    uint64_t offset[CSV_L1_PER_SECTOR];
    unsigned page, s, i;

    QEMU_LOCK_GUARD(&disk->map_lock);
    b->n = 0;
    for (page = 0; page < CSV_L1_PAGES; page++) {
        if (!(disk->l1_dirty & (1U << page))) {
            continue;
        }
        for (s = 0; s < CSV_SECTORS_PER_PAGE; s++) {
            unsigned sector = page * CSV_SECTORS_PER_PAGE + s;

            for (i = 0; i < CSV_L1_PER_SECTOR; i++) {
                unsigned t = sector * CSV_L1_PER_SECTOR + i;

                offset[i] = t < CSV_MAX_L2_TABLES ? disk->l1[t] : 0;
            }
            csv_l1_encode(offset, &disk->record.uuid, sector,
                          b->buf + b->n * CSV_PAGE_SIZE + s * CSV_SECTOR_SIZE);
        }
        b->at[b->n++].page = page;
    }
    disk->l1_dirty = 0;
}

/* The write failed: make the pages dirty again. */
static void csv_batch_undo(CsvBatch *b, bool l1)
{
    CsvDisk *disk = b->disk;
    unsigned i;

    QEMU_LOCK_GUARD(&disk->map_lock);
    for (i = 0; i < b->n; i++) {
        if (l1) {
            disk->l1_dirty |= 1U << b->at[i].page;
        } else {
            disk->l2[b->at[i].table]->dirty |= 1U << b->at[i].page;
            set_bit(b->at[i].table, disk->l2_dirty);
        }
    }
    b->n = 0;
}

static uint64_t csv_batch_offset(CsvBatch *b, unsigned i, bool l1)
{
    return l1 ? csv_l1_offset(b->disk, b->at[i].page)
              : b->disk->l1[b->at[i].table] +
                b->at[i].page * CSV_PAGE_SIZE;
}

/* Flush what the pages depend on, then write them; contiguous ones at once. */
static int GRAPH_RDLOCK csv_batch_write(CsvBatch *b, bool l1)
{
    BdrvChild *file = b->disk->bs->file;
    unsigned i, run;
    int ret;

    if (!b->n) {
        return 0;
    }
    ret = csv_break(l1 ? CSV_BREAK_LEVEL1_BEFORE_LEVEL2
                       : CSV_BREAK_PAGES_BEFORE_DATA) ? 0
                                                      : bdrv_flush(file->bs);
    for (i = 0; ret >= 0 && i < b->n; i += run) {
        uint64_t offset = csv_batch_offset(b, i, l1);

        for (run = 1; i + run < b->n; run++) {
            if (csv_batch_offset(b, i + run, l1) !=
                offset + run * CSV_PAGE_SIZE) {
                break;
            }
        }
        ret = csv_pwrite(b->disk->volume, file, offset, run * CSV_PAGE_SIZE,
                         b->buf + i * CSV_PAGE_SIZE, 0);
    }
    trace_csv_map_write_back(b->disk, b->n, ret);
    if (ret < 0) {
        csv_batch_undo(b, l1);
        return ret;
    }
    return 0;
}

bool csv_map_dirty(CsvDisk *disk)
{
    QEMU_LOCK_GUARD(&disk->map_lock);
    return disk->l1_dirty ||
           find_first_bit(disk->l2_dirty, CSV_MAX_L2_TABLES) <
           CSV_MAX_L2_TABLES;
}

int csv_map_write_pages(CsvDisk *disk)
{
    g_autofree CsvBatch *l1 = g_new0(CsvBatch, 1);
    g_autofree CsvBatch *l2 = g_new0(CsvBatch, 1);
    unsigned t;
    int ret = 0;

    if (!csv_map_dirty(disk)) {
        return 0;
    }
    l1->disk = l2->disk = disk;
    l1->buf = qemu_blockalign(disk->bs->file->bs,
                              CSV_L1_PAGES * CSV_PAGE_SIZE);
    l2->buf = qemu_blockalign(disk->bs->file->bs,
                              CSV_BATCH_PAGES * CSV_PAGE_SIZE);

    /*
     * Level-1 pages are encoded first and written last, so every table that
     * they name is written before them.
     */
    csv_batch_l1(l1);
    for (t = 0; ret >= 0 && t < CSV_MAX_L2_TABLES; ) {
        t = csv_batch_l2(l2, t);
        ret = csv_batch_write(l2, false);
    }
    if (ret >= 0) {
        ret = csv_batch_write(l1, true);
    } else {
        csv_batch_undo(l1, true);
    }
    qemu_vfree(l1->buf);
    qemu_vfree(l2->buf);
    return ret;
}

static CsvExtentKind csv_masks_kind(uint64_t masks, unsigned sub)
{
    if (csv_masks_data(masks) & (1U << sub)) {
        return CSV_EXTENT_DATA;
    }
    return csv_masks_zero(masks) & (1U << sub) ? CSV_EXTENT_ZERO
                                               : CSV_EXTENT_HOLE;
}

/* As csv_map_extent(); 0 if the first table is not in memory. */
static uint64_t csv_map_known_extent(CsvDisk *disk, uint64_t offset,
                                     uint64_t bytes, CsvExtentKind *kind,
                                     uint64_t *host)
{
    uint64_t done = 0;
    bool known = true;

    RCU_READ_LOCK_GUARD();
    while (done < bytes) {
        uint64_t cluster = (offset + done) >> CSV_CLUSTER_BITS;
        uint64_t in = (offset + done) & (CSV_CLUSTER_SIZE - 1);
        CsvL2Table *table = csv_map_table(disk, cluster / CSV_L2_ENTRIES,
                                          &known);
        unsigned i = cluster % CSV_L2_ENTRIES;
        uint64_t masks = table ? qatomic_load_acquire(&table->masks[i]) : 0;
        uint64_t place = table ? qatomic_read(&table->place[i]) : 0;
        unsigned sub = in >> CSV_SUBCLUSTER_BITS;

        /* A status query may race with a discard, which clears place last. */
        masks = place ? masks : csv_masks(0, csv_masks_zero(masks));
        place = (place << CSV_CLUSTER_BITS) + in;

        if (done == 0) {
            *kind = csv_masks_kind(masks, sub);
            *host = place;
        }
        if (*kind == CSV_EXTENT_DATA && place != *host + done) {
            break;
        }
        if (!table) {
            /* No table: everything that it would map is a hole. */
            if (!known || *kind != CSV_EXTENT_HOLE) {
                break;
            }
            done = ((cluster / CSV_L2_ENTRIES + 1) * CSV_L2_ENTRIES
                    << CSV_CLUSTER_BITS) - offset;
            continue;
        }
        while (sub < CSV_SUBCLUSTERS && csv_masks_kind(masks, sub) == *kind) {
            sub++;
        }
        if (((uint64_t)sub << CSV_SUBCLUSTER_BITS) <= in) {
            break;
        }
        done += ((uint64_t)sub << CSV_SUBCLUSTER_BITS) - in;
        if (sub < CSV_SUBCLUSTERS) {
            break;
        }
    }
    return MIN(done, bytes);
}

int64_t coroutine_mixed_fn csv_map_extent(CsvDisk *disk, uint64_t offset,
                                    uint64_t bytes, CsvExtentKind *kind,
                                    uint64_t *host)
{
    uint64_t n;

    assert(bytes);
    while (unlikely(!(n = csv_map_known_extent(disk, offset, bytes, kind,
                                               host)))) {
        int ret = csv_map_fetch(disk, (offset >> CSV_CLUSTER_BITS) /
                                      CSV_L2_ENTRIES);

        if (ret < 0) {
            return ret;
        }
    }
    return n;
}

bool csv_map_is_full(CsvDisk *disk)
{
    uint64_t offset = 0, size = disk->record.size, host;
    CsvExtentKind kind;

    while (offset < size) {
        int64_t n = csv_map_extent(disk, offset, size - offset, &kind, &host);

        if (n < 0 || kind != CSV_EXTENT_DATA) {
            return false;
        }
        offset += n;
    }
    return true;
}
