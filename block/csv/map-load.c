/*
 * Cluster shared volume: reading a disk's header and map
 *
 * Everything is checked on the way in: a place must lie in a segment of the
 * disk, and none may be used twice.  The journal is replayed before that is
 * judged, for it may undo what a page says.
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
static bool csv_map_check_data(uint64_t offset, uint32_t data, uint64_t end,
                               Error **errp)
{
    uint64_t bytes = (32ULL - clz32(data)) << CSV_SUBCLUSTER_BITS;

    if (data && offset + bytes > end) {
        error_setg(errp, "the data at %" PRIu64 " is past the end of the "
                   "volume, at %" PRIu64, offset, end);
        return false;
    }
    return true;
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


static uint64_t csv_header_offset(const CsvVolume *vol,
                                  const CsvDiskRecord *disk, unsigned copy)
{
    return csv_segment_start(&vol->sb, disk->first_segment) +
           (copy ? CSV_HEADER_COPY_1 : CSV_HEADER_COPY_0);
}

/* Copy 1 is written first, so the copy with the higher generation counts. */
static int GRAPH_RDLOCK csv_header_read(CsvDisk *disk, Error **errp)
{
    QEMU_AUTO_VFREE uint8_t *buf = qemu_blockalign(disk->bs->file->bs,
                                                   CSV_PAGE_SIZE);
    CsvHeader header;
    Error *err = NULL;
    bool found = false;
    unsigned copy;

    for (copy = 0; copy < 2; copy++) {
        int ret = csv_map_read(disk, csv_header_offset(disk->volume,
                                                       &disk->record, copy),
                               CSV_PAGE_SIZE, buf, "header", errp);
        if (ret < 0) {
            error_free(err);
            return ret;
        }
        if (csv_header_decode(buf, &disk->record, copy, &header,
                              err ? NULL : &err) &&
            (!found || header.generation > disk->header.generation)) {
            disk->header = header;
            found = true;
        }
    }
    if (!found) {
        error_propagate(errp, err);
        return -EINVAL;
    }
    error_free(err);
    return 0;
}

static int GRAPH_RDLOCK
csv_header_write_copies(CsvVolume *vol, BdrvChild *file,
                        const CsvDiskRecord *disk, const CsvHeader *header)
{
    QEMU_AUTO_VFREE uint8_t *buf = qemu_blockalign(file->bs, CSV_PAGE_SIZE);
    int copy, ret = 0;

    for (copy = 1; ret >= 0 && copy >= 0; copy--) {
        csv_header_encode(header, disk, copy, buf);
        ret = bdrv_pwrite(file, csv_header_offset(vol, disk, copy),
                          CSV_PAGE_SIZE, buf, 0);
        if (ret >= 0) {
            ret = bdrv_flush(file->bs);
        }
    }
    return ret;
}

int csv_header_write(CsvDisk *disk, const CsvHeader *header, Error **errp)
{
    CsvHeader new = *header;
    int ret;

    assert(disk->owned);
    new.generation = disk->header.generation + 1;
    ret = csv_header_write_copies(disk->volume, disk->bs->file, &disk->record,
                                  &new);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot write the header of disk '%s' of "
                         "csv volume '%s'", disk->record.name,
                         csv_volume_label(disk->volume));
        return ret;
    }
    disk->header = new;
    return 0;
}

int csv_map_format(CsvVolume *vol, BdrvChild *file, const CsvDiskRecord *disk,
                   const CsvHeader *header, Error **errp)
{
    const uint64_t none[CSV_L1_PER_SECTOR] = { 0 };
    size_t bytes = CSV_L1_PAGES * CSV_PAGE_SIZE;
    QEMU_AUTO_VFREE uint8_t *buf = qemu_blockalign0(file->bs, bytes);
    unsigned i;
    int ret;

    for (i = 0; i < CSV_L1_SECTORS; i++) {
        csv_l1_encode(none, &disk->uuid, i, buf + i * CSV_SECTOR_SIZE);
    }
    ret = bdrv_pwrite(file, csv_segment_start(&vol->sb, disk->first_segment) +
                      CSV_L1_OFFSET, bytes, buf, 0);
    if (ret >= 0) {
        ret = csv_header_write_copies(vol, file, disk, header);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot write the header of disk '%s' of "
                         "csv volume '%s'", disk->name, csv_volume_label(vol));
    }
    return ret;
}

static int GRAPH_RDLOCK
csv_map_load_table(CsvDisk *disk, unsigned t, CsvL2Table *table, uint8_t *buf,
                   Error **errp)
{
    CsvL2Entry entry[CSV_L2_PER_SECTOR];
    unsigned s, i;
    int ret;

    if (!csv_segment_has(disk, table->offset)) {
        error_setg(errp, "level-1 map sector %u: field 'table': entry %u: "
                   "offset %" PRIu64 " is in no segment of disk '%s'",
                   t / CSV_L1_PER_SECTOR, t % CSV_L1_PER_SECTOR,
                   table->offset, disk->record.name);
        return -EINVAL;
    }
    ret = csv_map_read(disk, table->offset, CSV_L2_SIZE, buf, "level-2 map",
                       errp);
    if (ret < 0) {
        return ret;
    }
    for (s = 0; s < CSV_L2_SECTORS; s++) {
        if (!csv_l2_decode(buf + s * CSV_SECTOR_SIZE, &disk->record.uuid,
                           (uint64_t)t * CSV_L2_SECTORS + s, entry, errp)) {
            return -EINVAL;
        }
        for (i = 0; i < CSV_L2_PER_SECTOR; i++) {
            table->masks[s * CSV_L2_PER_SECTOR + i] = entry[i].masks;
            table->place[s * CSV_L2_PER_SECTOR + i] =
                entry[i].offset >> CSV_CLUSTER_BITS;
        }
    }
    return 0;
}

/* Fill @l2, one table for each offset in the level-1 map @l1. */
static int GRAPH_RDLOCK
csv_map_load_tables(CsvDisk *disk, const uint8_t *l1, CsvL2Table **l2,
                    Error **errp)
{
    QEMU_AUTO_VFREE uint8_t *buf = qemu_blockalign(disk->bs->file->bs,
                                                   CSV_L2_SIZE);
    uint64_t offset[CSV_L1_PER_SECTOR];
    unsigned s, i;
    int ret;

    for (s = 0; s < CSV_L1_SECTORS; s++) {
        if (!csv_l1_decode(l1 + s * CSV_SECTOR_SIZE, &disk->record.uuid, s,
                           offset, errp)) {
            return -EINVAL;
        }
        for (i = 0; i < CSV_L1_PER_SECTOR; i++) {
            unsigned t = s * CSV_L1_PER_SECTOR + i;

            if (!offset[i]) {
                continue;
            }
            l2[t] = g_new0(CsvL2Table, 1);
            l2[t]->offset = offset[i];
            ret = csv_map_load_table(disk, t, l2[t], buf, errp);
            if (ret < 0) {
                return ret;
            }
        }
    }
    return 0;
}

bool csv_map_apply(CsvL2Table **l2, const CsvJournalEntry *entry, Error **errp)
{
    unsigned t = entry->index, i;

    if (entry->type == CSV_JOURNAL_L1) {
        g_free(l2[t]);
        l2[t] = g_new0(CsvL2Table, 1);
        l2[t]->offset = entry->value.offset;
        l2[t]->dirty = UINT16_MAX;
        return true;
    }
    t = entry->index / CSV_L2_ENTRIES;
    i = entry->index % CSV_L2_ENTRIES;
    if (!l2[t]) {
        error_setg(errp, "field 'index': cluster %" PRIu64 " has no table",
                   entry->index);
        return false;
    }
    l2[t]->masks[i] = entry->value.masks;
    l2[t]->place[i] = entry->value.offset >> CSV_CLUSTER_BITS;
    l2[t]->dirty |= 1U << (i / CSV_L2_PER_PAGE);
    return true;
}

/* Mark what entries of table @t use, and check that they may. */
static bool csv_map_judge_table(CsvDisk *disk, unsigned t,
                                const CsvL2Table *table, uint64_t end,
                                Error **errp)
{
    ERRP_GUARD();
    unsigned i;

    for (i = 0; i < CSV_L2_ENTRIES; i++) {
        uint64_t offset = (uint64_t)table->place[i] << CSV_CLUSTER_BITS;

        if (offset &&
            (!csv_cluster_use(disk, offset, errp) ||
             !csv_map_check_data(offset, csv_masks_data(table->masks[i]), end,
                                 errp))) {
            error_prepend(errp, "level-2 map sector %u: field 'offset': entry "
                          "%u: ", t * CSV_L2_SECTORS + i / CSV_L2_PER_SECTOR,
                          i % CSV_L2_PER_SECTOR);
            return false;
        }
    }
    return true;
}

static bool GRAPH_RDLOCK
csv_map_judge(CsvDisk *disk, GHashTable *clusters, CsvL2Table **l2,
              Error **errp)
{
    ERRP_GUARD();
    int64_t end = bdrv_getlength(disk->bs->file->bs);
    unsigned t;

    if (end < 0) {
        error_setg_errno(errp, -end, "Cannot find the size of node '%s'",
                         bdrv_get_node_name(disk->bs->file->bs));
        return false;
    }
    for (t = 0; t < CSV_MAX_L2_TABLES; t++) {
        if (l2[t] && !csv_map_use_table(disk, clusters, l2[t]->offset, errp)) {
            error_prepend(errp, "level-1 map sector %u: field 'table': entry "
                          "%u: ", t / CSV_L1_PER_SECTOR,
                          t % CSV_L1_PER_SECTOR);
            return false;
        }
    }
    for (t = 0; t < CSV_MAX_L2_TABLES; t++) {
        if (l2[t] && !csv_map_judge_table(disk, t, l2[t], end, errp)) {
            return false;
        }
    }
    return true;
}

/* Put the tables of @l2 in the place of those that were there. */
static void csv_map_replace(CsvDisk *disk, CsvL2Table **l2)
{
    unsigned t;

    QEMU_LOCK_GUARD(&disk->map_lock);
    bitmap_zero(disk->l2_pending, CSV_MAX_L2_TABLES);
    bitmap_zero(disk->l1_pending, CSV_MAX_L2_TABLES);
    bitmap_zero(disk->l2_dirty, CSV_MAX_L2_TABLES);
    disk->l1_dirty = 0;
    qatomic_set(&disk->pending, false);
    g_array_set_size(disk->freed, 0);
    g_array_set_size(disk->trims, 0);
    for (t = 0; t < CSV_MAX_L2_TABLES; t++) {
        CsvL2Table *old = disk->l2[t];

        if (old || l2[t]) {
            qatomic_rcu_set(&disk->l2[t], l2[t]);
        }
        if (old) {
            g_free_rcu(old, rcu);
        }
        if (l2[t] && l2[t]->dirty) {
            set_bit(t, disk->l2_dirty);
            disk->l1_dirty |= 1U << (t / CSV_L1_PER_PAGE);
        }
    }
}

void csv_map_drop(CsvDisk *disk)
{
    g_autofree CsvL2Table **none = g_new0(CsvL2Table *, CSV_MAX_L2_TABLES);

    csv_map_replace(disk, none);
}

static int GRAPH_RDLOCK
csv_map_load_all(CsvDisk *disk, bool clean, GHashTable *clusters,
                 CsvL2Table **l2, Error **errp)
{
    size_t bytes = CSV_L1_PAGES * CSV_PAGE_SIZE;
    QEMU_AUTO_VFREE uint8_t *buf = qemu_blockalign(disk->bs->file->bs, bytes);
    int ret;

    ret = csv_header_read(disk, errp);
    if (ret >= 0) {
        ret = csv_map_read(disk, csv_segment_start(&disk->volume->sb,
                                                   disk->record.first_segment)
                           + CSV_L1_OFFSET, bytes, buf, "level-1 map", errp);
    }
    if (ret >= 0) {
        ret = csv_map_load_tables(disk, buf, l2, errp);
    }
    if (ret >= 0 && !clean) {
        ret = csv_journal_replay(disk, l2, errp);
    }
    if (ret < 0) {
        return ret;
    }
    return csv_map_judge(disk, clusters, l2, errp) ? 0 : -EINVAL;
}

int csv_map_load(CsvDisk *disk, bool clean, Error **errp)
{
    ERRP_GUARD();
    g_autoptr(GHashTable) clusters =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    g_autofree CsvL2Table **l2 = g_new0(CsvL2Table *, CSV_MAX_L2_TABLES);
    int ret = csv_map_load_all(disk, clean, clusters, l2, errp);

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
