/*
 * Cluster shared volume: the map of a disk
 *
 * Level-2 tables stand in memory as long as the disk is open; the level-1
 * map is where they are.  The I/O path reads entries without a lock.  Only
 * allocation and zeroing change them, one request at a time for each cluster
 * (see io.c), so an entry has one writer.
 *
 * Order of writes at a flush (docs/interop/csv.rst, "Order of writes without
 * a journal"): what is to be written is encoded first, then the data is
 * flushed, then the pages are written.  An entry is published only after its
 * data was written, so whatever was encoded stands for data that the flush
 * in between has made durable.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/memalign.h"
#include "csv.h"
#include "trace.h"

/* Map pages that are written between two flushes, to bound memory. */
#define CSV_BATCH_PAGES 256

static uint64_t csv_l1_offset(const CsvDisk *disk, unsigned page)
{
    return csv_segment_start(&disk->volume->sb, disk->record.first_segment) +
           CSV_L1_OFFSET + page * CSV_PAGE_SIZE;
}

int csv_map_format(CsvVolume *vol, BdrvChild *file, const CsvDiskRecord *disk,
                   Error **errp)
{
    uint64_t start = csv_segment_start(&vol->sb, disk->first_segment);
    const uint64_t none[CSV_L1_PER_PAGE] = { 0 };
    size_t bytes = CSV_L1_PAGES * CSV_PAGE_SIZE;
    uint8_t *buf = qemu_blockalign0(file->bs, bytes);
    CsvHeader header = { .disk = disk->slot };
    unsigned i;
    int ret;

    for (i = 0; i < CSV_L1_PAGES; i++) {
        csv_l1_encode(none, disk, i, buf + i * CSV_PAGE_SIZE);
    }
    ret = bdrv_pwrite(file, start + CSV_L1_OFFSET, bytes, buf, 0);
    if (ret >= 0) {
        csv_header_encode(&header, disk, buf);
        ret = bdrv_pwrite(file, start, CSV_PAGE_SIZE, buf, 0);
    }
    if (ret >= 0) {
        ret = bdrv_flush(file->bs);
    }
    qemu_vfree(buf);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot write the header of disk '%s' of "
                         "csv volume '%s'", disk->name, csv_volume_label(vol));
    }
    return ret;
}

static int GRAPH_RDLOCK
csv_map_read(CsvDisk *disk, uint64_t offset, size_t bytes, uint8_t *buf,
             const char *what, Error **errp)
{
    int ret = bdrv_pread(disk->bs->file, offset, bytes, buf, 0);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read the %s of disk '%s' of csv "
                         "volume '%s'", what, disk->record.name,
                         csv_volume_label(disk->volume));
    }
    return ret;
}

/*
 * A table's place: in a cluster of the disk that holds nothing but tables.
 * @clusters: those seen so far, with a mask of the tables in each.
 */
static bool csv_map_use_table(CsvDisk *disk, GHashTable *clusters,
                              uint64_t offset, Error **errp)
{
    uint64_t cluster = ROUND_DOWN(offset, CSV_CLUSTER_SIZE);
    uint32_t bit = 1U << ((offset - cluster) / CSV_L2_SIZE);
    uint32_t *mask = g_hash_table_lookup(clusters, &cluster);

    if (!mask) {
        uint64_t *key;

        if (!csv_cluster_use(disk, cluster, errp)) {
            return false;
        }
        key = g_new(uint64_t, 1);
        *key = cluster;
        mask = g_new0(uint32_t, 1);
        g_hash_table_insert(clusters, key, mask);
    }
    if (*mask & bit) {
        error_setg(errp, "the table at %" PRIu64 " is used twice", offset);
        return false;
    }
    *mask |= bit;
    return true;
}

/* What lies past the @end of the volume would read as zeroes. */
static bool csv_map_check_data(const CsvL2Entry *entry, uint64_t end,
                               Error **errp)
{
    uint32_t data = csv_masks_data(entry->masks);
    uint64_t bytes = (32ULL - clz32(data)) << CSV_SUBCLUSTER_BITS;

    if (data && entry->offset + bytes > end) {
        error_setg(errp, "the data at %" PRIu64 " is past the end of the "
                   "volume, at %" PRIu64, entry->offset, end);
        return false;
    }
    return true;
}

static int GRAPH_RDLOCK
csv_map_load_table(CsvDisk *disk, unsigned t, CsvL2Table *table, uint64_t end,
                   uint8_t *buf, Error **errp)
{
    ERRP_GUARD();
    unsigned i;
    int ret = csv_map_read(disk, table->offset, CSV_L2_SIZE, buf,
                           "level-2 map", errp);

    if (ret < 0) {
        return ret;
    }
    for (i = 0; i < CSV_L2_PAGES; i++) {
        if (!csv_l2_decode(buf + i * CSV_PAGE_SIZE, &disk->record, t, i,
                           &table->entry[i * CSV_L2_PER_PAGE], errp)) {
            return -EINVAL;
        }
    }
    for (i = 0; i < CSV_L2_ENTRIES; i++) {
        if (table->entry[i].offset &&
            (!csv_cluster_use(disk, table->entry[i].offset, errp) ||
             !csv_map_check_data(&table->entry[i], end, errp))) {
            error_prepend(errp, "level-2 map page %u: field 'offset': entry "
                          "%u: ", t * CSV_L2_PAGES + i / CSV_L2_PER_PAGE,
                          i % CSV_L2_PER_PAGE);
            return -EINVAL;
        }
    }
    return 0;
}

/* Fill @l2, one table for each offset in the level-1 map @l1. */
static int GRAPH_RDLOCK
csv_map_load_tables(CsvDisk *disk, GHashTable *clusters, const uint8_t *l1,
                    CsvL2Table **l2, Error **errp)
{
    ERRP_GUARD();
    QEMU_AUTO_VFREE uint8_t *buf = qemu_blockalign(disk->bs->file->bs,
                                                   CSV_L2_SIZE);
    uint64_t offset[CSV_L1_PER_PAGE];
    int64_t end = bdrv_getlength(disk->bs->file->bs);
    unsigned page, i;
    int ret;

    if (end < 0) {
        error_setg_errno(errp, -end, "Cannot find the size of node '%s'",
                         bdrv_get_node_name(disk->bs->file->bs));
        return end;
    }
    for (page = 0; page < CSV_L1_PAGES; page++) {
        if (!csv_l1_decode(l1 + page * CSV_PAGE_SIZE, &disk->record, page,
                           offset, errp)) {
            return -EINVAL;
        }
        for (i = 0; i < CSV_L1_PER_PAGE; i++) {
            unsigned t = page * CSV_L1_PER_PAGE + i;

            if (!offset[i]) {
                continue;
            }
            if (!csv_map_use_table(disk, clusters, offset[i], errp)) {
                error_prepend(errp, "level-1 map page %u: field 'table': "
                              "entry %u: ", page, i);
                return -EINVAL;
            }
            l2[t] = g_new0(CsvL2Table, 1);
            l2[t]->offset = offset[i];
            ret = csv_map_load_table(disk, t, l2[t], end, buf, errp);
            if (ret < 0) {
                return ret;
            }
        }
    }
    return 0;
}

/* Go on filling a cluster of tables that has room. */
static void csv_map_resume_tables(CsvDisk *disk, GHashTable *clusters)
{
    GHashTableIter it;
    uint64_t *cluster;
    uint32_t *mask;

    g_hash_table_iter_init(&it, clusters);
    while (g_hash_table_iter_next(&it, (void **)&cluster, (void **)&mask)) {
        unsigned n = ctpop32(*mask);

        if (n < CSV_L2_PER_CLUSTER && *mask == (1U << n) - 1) {
            disk->tables = *cluster;
            disk->tables_used = n;
            return;
        }
    }
}

/* Put the tables of @l2 in the place of those that were there. */
static void csv_map_replace(CsvDisk *disk, CsvL2Table **l2)
{
    unsigned t;

    for (t = 0; t < CSV_MAX_L2_TABLES; t++) {
        CsvL2Table *old = disk->l2[t];

        if (old || l2[t]) {
            qatomic_rcu_set(&disk->l2[t], l2[t]);
        }
        if (old) {
            g_free_rcu(old, rcu);
        }
    }
    bitmap_zero(disk->l2_dirty, CSV_MAX_L2_TABLES);
    disk->l1_dirty = 0;
}

void csv_map_drop(CsvDisk *disk)
{
    g_autofree CsvL2Table **none = g_new0(CsvL2Table *, CSV_MAX_L2_TABLES);

    csv_map_replace(disk, none);
}

static int GRAPH_RDLOCK
csv_map_load_all(CsvDisk *disk, GHashTable *clusters, CsvL2Table **l2,
                 Error **errp)
{
    size_t bytes = CSV_L1_PAGES * CSV_PAGE_SIZE;
    QEMU_AUTO_VFREE uint8_t *buf = qemu_blockalign(disk->bs->file->bs, bytes);
    CsvHeader header;
    int ret;

    ret = csv_map_read(disk, csv_segment_start(&disk->volume->sb,
                                               disk->record.first_segment),
                       CSV_PAGE_SIZE, buf, "header", errp);
    if (ret < 0) {
        return ret;
    }
    if (!csv_header_decode(buf, &disk->record, &header, errp)) {
        return -EINVAL;
    }
    ret = csv_map_read(disk, csv_l1_offset(disk, 0), bytes, buf,
                       "level-1 map", errp);
    if (ret < 0) {
        return ret;
    }
    return csv_map_load_tables(disk, clusters, buf, l2, errp);
}

int csv_map_load(CsvDisk *disk, Error **errp)
{
    ERRP_GUARD();
    g_autoptr(GHashTable) clusters =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    g_autofree CsvL2Table **l2 = g_new0(CsvL2Table *, CSV_MAX_L2_TABLES);
    int ret = csv_map_load_all(disk, clusters, l2, errp);

    if (ret < 0) {
        unsigned t;

        for (t = 0; t < CSV_MAX_L2_TABLES; t++) {
            g_free(l2[t]);
        }
        if (ret == -EINVAL) {
            error_prepend(errp, "Disk '%s' of csv volume '%s' is damaged: ",
                          disk->record.name, csv_volume_label(disk->volume));
        }
        return ret;
    }
    csv_map_replace(disk, l2);
    csv_map_resume_tables(disk, clusters);
    return 0;
}

CsvL2Entry *csv_map_entry(CsvDisk *disk, uint64_t cluster)
{
    CsvL2Table *table =
        qatomic_rcu_read(&disk->l2[cluster / CSV_L2_ENTRIES]);

    return table ? &table->entry[cluster % CSV_L2_ENTRIES] : NULL;
}

int coroutine_fn GRAPH_RDLOCK csv_map_entry_make(CsvDisk *disk,
                                                 uint64_t cluster,
                                                 CsvL2Entry **entry)
{
    unsigned t = cluster / CSV_L2_ENTRIES;
    CsvL2Table *table;

    *entry = csv_map_entry(disk, cluster);
    if (*entry) {
        return 0;
    }
    if (!disk->tables) {
        int ret = csv_cluster_alloc(disk, &disk->tables);

        if (ret < 0) {
            disk->tables = 0;
            return ret;
        }
        disk->tables_used = 0;
    }
    table = g_new0(CsvL2Table, 1);
    table->offset = disk->tables + disk->tables_used * CSV_L2_SIZE;
    if (++disk->tables_used == CSV_L2_PER_CLUSTER) {
        disk->tables = 0;
    }
    WITH_QEMU_LOCK_GUARD(&disk->map_lock) {
        /* All pages: the table's place may hold anything. */
        table->dirty = UINT16_MAX;
        set_bit(t, disk->l2_dirty);
        disk->l1_dirty |= 1U << (t / CSV_L1_PER_PAGE);
        qatomic_rcu_set(&disk->l2[t], table);
    }
    *entry = &table->entry[cluster % CSV_L2_ENTRIES];
    return 0;
}

void csv_map_set(CsvDisk *disk, uint64_t cluster, CsvL2Entry *entry,
                 uint64_t offset, uint64_t masks)
{
    unsigned t = cluster / CSV_L2_ENTRIES;
    unsigned page = cluster % CSV_L2_ENTRIES / CSV_L2_PER_PAGE;

    assert(!(csv_masks_data(masks) & csv_masks_zero(masks)));
    assert(offset || !csv_masks_data(masks));
    qatomic_set(&entry->offset, offset);
    qatomic_store_release(&entry->masks, masks);
    WITH_QEMU_LOCK_GUARD(&disk->map_lock) {
        disk->l2[t]->dirty |= 1U << page;
        set_bit(t, disk->l2_dirty);
    }
}

/* Pages that wait to be written. */
typedef struct CsvBatch {
    CsvDisk *disk;
    unsigned n;
    struct {
        uint32_t table;         /* or, of a level-1 page, its number */
        uint32_t page;
    } at[CSV_BATCH_PAGES];
    uint8_t *buf;
} CsvBatch;

/* Encode level-2 pages from table @t on.  Returns where to go on. */
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
            csv_l2_encode(&table->entry[page * CSV_L2_PER_PAGE],
                          &disk->record, t, page,
                          b->buf + b->n * CSV_PAGE_SIZE);
            b->at[b->n].table = t;
            b->at[b->n].page = page;
            b->n++;
        }
        table->dirty = 0;
        clear_bit(t, disk->l2_dirty);
    }
    return t;
}

static void csv_batch_l1(CsvBatch *b)
{
    CsvDisk *disk = b->disk;
    uint64_t offset[CSV_L1_PER_PAGE];
    unsigned page, i;

    QEMU_LOCK_GUARD(&disk->map_lock);
    b->n = 0;
    for (page = 0; page < CSV_L1_PAGES; page++) {
        if (!(disk->l1_dirty & (1U << page))) {
            continue;
        }
        for (i = 0; i < CSV_L1_PER_PAGE; i++) {
            unsigned t = page * CSV_L1_PER_PAGE + i;

            offset[i] = t < CSV_MAX_L2_TABLES && disk->l2[t] ?
                        disk->l2[t]->offset : 0;
        }
        csv_l1_encode(offset, &disk->record, page,
                      b->buf + b->n * CSV_PAGE_SIZE);
        b->at[b->n++].page = page;
    }
    disk->l1_dirty = 0;
}

/* What could not be written is dirty as before. */
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
              : b->disk->l2[b->at[i].table]->offset +
                b->at[i].page * CSV_PAGE_SIZE;
}

/* Flush what the pages stand for, then write them; neighbours at once. */
static int coroutine_fn GRAPH_RDLOCK csv_batch_write(CsvBatch *b, bool l1)
{
    BdrvChild *file = b->disk->bs->file;
    unsigned i, run;
    int ret;

    if (!b->n) {
        return 0;
    }
    ret = bdrv_co_flush(file->bs);
    for (i = 0; ret >= 0 && i < b->n; i += run) {
        uint64_t offset = csv_batch_offset(b, i, l1);

        for (run = 1; i + run < b->n; run++) {
            if (csv_batch_offset(b, i + run, l1) !=
                offset + run * CSV_PAGE_SIZE) {
                break;
            }
        }
        ret = bdrv_co_pwrite(file, offset, run * CSV_PAGE_SIZE,
                             b->buf + i * CSV_PAGE_SIZE, 0);
    }
    trace_csv_map_write_back(b->disk, b->n, ret);
    if (ret < 0) {
        csv_batch_undo(b, l1);
        return ret;
    }
    return 0;
}

static bool csv_map_dirty(CsvDisk *disk)
{
    QEMU_LOCK_GUARD(&disk->map_lock);
    return disk->l1_dirty ||
           find_first_bit(disk->l2_dirty, CSV_MAX_L2_TABLES) <
           CSV_MAX_L2_TABLES;
}

int coroutine_fn GRAPH_RDLOCK csv_map_write_back(CsvDisk *disk)
{
    CsvBatch l1 = { .disk = disk }, l2 = { .disk = disk };
    unsigned t;
    int ret = 0;

    QEMU_LOCK_GUARD(&disk->flush_lock);
    if (!csv_map_dirty(disk)) {
        return 0;
    }
    if (!disk->owned) {
        /* Taken by another member: what we hold back must not be written. */
        return -ESTALE;
    }
    l1.buf = qemu_blockalign(disk->bs->file->bs, CSV_L1_PAGES * CSV_PAGE_SIZE);
    l2.buf = qemu_blockalign(disk->bs->file->bs,
                             CSV_BATCH_PAGES * CSV_PAGE_SIZE);

    /*
     * Level-1 pages are encoded before level-2 pages are collected, so they
     * name only tables all of whose pages are written before them.
     */
    csv_batch_l1(&l1);
    for (t = 0; ret >= 0 && t < CSV_MAX_L2_TABLES; ) {
        t = csv_batch_l2(&l2, t);
        ret = csv_batch_write(&l2, false);
    }
    if (ret >= 0) {
        ret = csv_batch_write(&l1, true);
    } else {
        csv_batch_undo(&l1, true);
    }
    qemu_vfree(l1.buf);
    qemu_vfree(l2.buf);
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

uint64_t csv_map_extent(CsvDisk *disk, uint64_t offset, uint64_t bytes,
                        CsvExtentKind *kind, uint64_t *host)
{
    uint64_t done = 0;

    RCU_READ_LOCK_GUARD();
    while (done < bytes) {
        uint64_t cluster = (offset + done) >> CSV_CLUSTER_BITS;
        uint64_t in = (offset + done) & (CSV_CLUSTER_SIZE - 1);
        CsvL2Entry *entry = csv_map_entry(disk, cluster);
        uint64_t masks = entry ? qatomic_load_acquire(&entry->masks) : 0;
        uint64_t place = entry ? qatomic_read(&entry->offset) + in : 0;
        unsigned sub = in >> CSV_SUBCLUSTER_BITS;

        if (done == 0) {
            *kind = csv_masks_kind(masks, sub);
            *host = place;
        }
        if (*kind == CSV_EXTENT_DATA && place != *host + done) {
            break;
        }
        if (!entry) {
            /* No table: all that it would map is a hole. */
            if (*kind != CSV_EXTENT_HOLE) {
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
