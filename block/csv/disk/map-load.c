/*
 * Cluster shared volume: reading a disk's header and map
 *
 * The whole map is checked: every cluster must be in a segment of the disk, and
 * none may be used twice.  The journal is replayed before that, because it may
 * replace what a page says.  Replay loads the tables that the journal names;
 * then all others are read, in large requests and in the order of their
 * offsets, and as many are kept as the cache permits.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/memalign.h"
#include "map-int.h"
#include "trace/trace-block_csv.h"

/* Tables that are read by one request. */
#define CSV_LOAD_TABLES 16

/*
 * Check the place of a table: in a cluster of the disk that contains only
 * tables.  @clusters: those found so far, with a mask of the tables in each.
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

/* Data past the @end of the volume would read as zeroes. */
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

/* New tables go to a cluster of tables that is not full. */
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

static bool csv_map_decode_l1(CsvMapLoad *load, const uint8_t *buf,
                              Error **errp)
{
    uint64_t offset[CSV_L1_PER_SECTOR];
    unsigned s, i;

    for (s = 0; s < CSV_L1_SECTORS; s++) {
        if (!csv_l1_decode(buf + s * CSV_SECTOR_SIZE,
                           &load->disk->record.uuid, s, offset, errp)) {
            return false;
        }
        for (i = 0; i < CSV_L1_PER_SECTOR; i++) {
            if (offset[i]) {
                load->l1[s * CSV_L1_PER_SECTOR + i] = offset[i];
            }
        }
    }
    return true;
}

/* Check the clusters of table @t, and mark them as used. */
static bool csv_map_judge_table(CsvMapLoad *load, unsigned t,
                                const CsvL2Table *table, Error **errp)
{
    ERRP_GUARD();
    unsigned i;

    for (i = 0; i < CSV_L2_ENTRIES; i++) {
        uint64_t offset = (uint64_t)table->place[i] << CSV_CLUSTER_BITS;

        if (offset &&
            (!csv_cluster_use(load->disk, offset, errp) ||
             !csv_map_check_data(offset, csv_masks_data(table->masks[i]),
                                 load->end, errp))) {
            error_prepend(errp, "level-2 map sector %u: field 'offset': entry "
                          "%u: ", t * CSV_L2_SECTORS + i / CSV_L2_PER_SECTOR,
                          i % CSV_L2_PER_SECTOR);
            return false;
        }
    }
    return true;
}

/* A table that is not in memory yet. */
typedef struct CsvTableAt {
    uint64_t offset;
    unsigned t;
} CsvTableAt;

static gint csv_table_order(gconstpointer a, gconstpointer b)
{
    const CsvTableAt *x = a, *y = b;

    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Check the places of all tables, and tables in memory; the rest to @rest. */
static bool csv_map_judge_known(CsvMapLoad *load, GArray *rest, Error **errp)
{
    unsigned t;

    for (t = 0; t < CSV_MAX_L2_TABLES; t++) {
        if (load->l1[t] && !csv_map_use_table(load->disk, load->clusters,
                                              load->l1[t], errp)) {
            csv_map_prepend_l1(t, errp);
            return false;
        }
    }
    for (t = 0; t < CSV_MAX_L2_TABLES; t++) {
        CsvTableAt at = { load->l1[t], t };

        if (load->l2[t]) {
            if (!csv_map_judge_table(load, t, load->l2[t], errp)) {
                return false;
            }
        } else if (load->l1[t]) {
            g_array_append_val(rest, at);
        }
    }
    return true;
}

/* Decode and check @n tables in @buf; keep those that fit in the cache. */
static bool csv_map_take_tables(CsvMapLoad *load, const CsvTableAt *at,
                                unsigned n, const uint8_t *buf, Error **errp)
{
    g_autofree CsvL2Table *table = NULL;
    unsigned i;

    for (i = 0; i < n; i++) {
        table = table ?: g_new0(CsvL2Table, 1);
        if (!csv_map_decode_table(load->disk, at[i].t, buf + i * CSV_L2_SIZE,
                                  table, errp) ||
            !csv_map_judge_table(load, at[i].t, table, errp)) {
            return false;
        }
        if (load->tables < csv_map_cache_tables(load->disk)) {
            load->l2[at[i].t] = g_steal_pointer(&table);
            load->tables++;
        }
    }
    return true;
}

/* Read the tables in @rest; contiguous ones at once. */
static int GRAPH_RDLOCK
csv_map_read_rest(CsvMapLoad *load, GArray *rest, Error **errp)
{
    CsvDisk *disk = load->disk;
    const CsvTableAt *at = (const CsvTableAt *)rest->data;
    QEMU_AUTO_VFREE uint8_t *buf = NULL;
    unsigned i, run;

    if (rest->len) {
        buf = qemu_blockalign(disk->bs->file->bs,
                              MIN(rest->len, CSV_LOAD_TABLES) * CSV_L2_SIZE);
    }
    g_array_sort(rest, csv_table_order);
    for (i = 0; i < rest->len; i += run) {
        int ret;

        for (run = 1; run < MIN(rest->len - i, CSV_LOAD_TABLES); run++) {
            if (at[i + run].offset != at[i].offset + run * CSV_L2_SIZE) {
                break;
            }
        }
        ret = csv_map_read(disk, at[i].offset, run * CSV_L2_SIZE, buf,
                           "level-2 map", errp);
        if (ret < 0) {
            return ret;
        }
        if (!csv_map_take_tables(load, at + i, run, buf, errp)) {
            return -EINVAL;
        }
    }
    return 0;
}

static int GRAPH_RDLOCK csv_map_judge(CsvMapLoad *load, Error **errp)
{
    ERRP_GUARD();
    g_autoptr(GArray) rest = g_array_new(false, false, sizeof(CsvTableAt));
    BlockDriverState *file = load->disk->bs->file->bs;
    int64_t end = bdrv_getlength(file);

    if (end < 0) {
        error_setg_errno(errp, -end, "Cannot find the size of node '%s'",
                         bdrv_get_node_name(file));
        return -EINVAL;
    }
    load->end = end;
    if (!csv_map_judge_known(load, rest, errp)) {
        return -EINVAL;
    }
    return csv_map_read_rest(load, rest, errp);
}

/* Replace the map by that in @load, or by none if it is NULL. */
static void csv_map_replace(CsvDisk *disk, const CsvMapLoad *load)
{
    uint32_t t;

    QEMU_LOCK_GUARD(&disk->map_lock);
    bitmap_zero(disk->l2_pending, CSV_MAX_L2_TABLES);
    bitmap_zero(disk->l1_pending, CSV_MAX_L2_TABLES);
    bitmap_zero(disk->l2_dirty, CSV_MAX_L2_TABLES);
    bitmap_zero(disk->l2_held, CSV_MAX_L2_TABLES);
    disk->l1_dirty = 0;
    qatomic_set(&disk->pending, false);
    g_array_set_size(disk->freed, 0);
    g_array_set_size(disk->discards, 0);
    g_array_set_size(disk->cached, 0);
    disk->map_replaced++;
    for (t = 0; t < CSV_MAX_L2_TABLES; t++) {
        CsvL2Table *old = disk->l2[t], *new = load ? load->l2[t] : NULL;
        uint64_t offset = load ? load->l1[t] : 0;

        if (offset != disk->l1[t]) {
            qatomic_set(&disk->l1[t], offset);
        }
        if (old || new) {
            qatomic_rcu_set(&disk->l2[t], new);
        }
        if (old) {
            g_free_rcu(old, rcu);
        }
        if (new) {
            g_array_append_val(disk->cached, t);
        }
        if (new && new->dirty) {
            set_bit(t, disk->l2_dirty);
            disk->l1_dirty |= 1U << (t / CSV_L1_PER_PAGE);
        }
    }
}

void csv_map_drop(CsvDisk *disk)
{
    csv_map_replace(disk, NULL);
}

static int GRAPH_RDLOCK
csv_map_load_all(CsvMapLoad *load, bool clean, Error **errp)
{
    CsvDisk *disk = load->disk;
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
        ret = csv_map_decode_l1(load, buf, errp) ? 0 : -EINVAL;
    }
    if (ret >= 0 && !clean) {
        ret = csv_journal_replay(disk, load, errp);
    }
    return ret < 0 ? ret : csv_map_judge(load, errp);
}

int csv_map_load(CsvDisk *disk, bool clean, Error **errp)
{
    ERRP_GUARD();
    g_autoptr(GHashTable) clusters =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    g_autofree CsvMapLoad *load = g_new0(CsvMapLoad, 1);
    int ret;

    load->disk = disk;
    load->clusters = clusters;
    ret = csv_map_load_all(load, clean, errp);
    if (ret < 0) {
        unsigned t;

        for (t = 0; t < CSV_MAX_L2_TABLES; t++) {
            g_free(load->l2[t]);
        }
        if (ret == -EINVAL) {
            error_prepend(errp, "Disk '%s' of csv volume '%s' is damaged: ",
                          disk->record.name, csv_volume_label(disk->volume));
        }
        return ret;
    }
    csv_map_replace(disk, load);
    csv_map_resume_tables(disk, clusters);
    return 0;
}
