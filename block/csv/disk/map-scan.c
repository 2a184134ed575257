/*
 * Cluster shared volume: scan of a map
 *
 * The scan checks every table of a map, and marks the clusters that are in use,
 * for the allocation: every cluster must be in a segment of the disk, and none
 * may be used twice.  It takes time in proportion to the size of the disk.
 *
 * A disk is scanned when it is opened.  It is not scanned again when an open
 * node becomes the owner, after a clean release: a guest would wait for that,
 * and the previous owner has checked the same map.  The scan is then made in
 * the background, after the guest was started.  Until it is complete, nothing
 * is allocated, and no segment is returned: a request that needs a new cluster
 * makes the rest of the scan itself.  A request that loads a table scans it
 * first, so that no table in memory is unchecked, and what a request frees is
 * marked.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/memalign.h"
#include "map-int.h"
#include "trace/trace-block_csv.h"

/*
 * Tables that are read by one request.  Fewer in the background, because other
 * requests in the thread wait while they are checked, 0.4 ms each.
 */
#define CSV_SCAN_TABLES         16
#define CSV_SCAN_TABLES_LATER   2

/*
 * Check the place of a table: in a cluster of the disk that contains only
 * tables.  @clusters: those found so far, with a mask of the tables in each.
 */
static bool csv_scan_place(CsvDisk *disk, GHashTable *clusters,
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

/* New tables go to a cluster of tables that is not full. */
static void csv_scan_resume_tables(CsvDisk *disk, GHashTable *clusters)
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

bool csv_scan_l1(CsvMapLoad *load, Error **errp)
{
    g_autoptr(GHashTable) clusters =
        g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    CsvDisk *disk = load->disk;
    unsigned t;

    bitmap_zero(disk->unscanned, CSV_MAX_L2_TABLES);
    for (t = 0; t < CSV_MAX_L2_TABLES; t++) {
        if (!load->l1[t]) {
            continue;
        }
        if (!csv_scan_place(disk, clusters, load->l1[t], errp)) {
            csv_map_prepend_l1(t, errp);
            return false;
        }
        set_bit(t, disk->unscanned);
    }
    for (t = 0; t < CSV_MAX_L2_TABLES; t++) {
        if (load->l2[t] && !csv_scan_table(disk, t, load->l2[t], errp)) {
            return false;
        }
    }
    csv_scan_resume_tables(disk, clusters);
    return true;
}

/* A table to scan. */
typedef struct CsvTableAt {
    uint64_t offset;
    unsigned t;
} CsvTableAt;

static gint csv_table_order(gconstpointer a, gconstpointer b)
{
    const CsvTableAt *x = a, *y = b;

    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* The tables that are not scanned yet, at the offsets in @l1, by offset. */
static GArray *csv_scan_list(CsvDisk *disk, const uint64_t *l1)
{
    GArray *rest = g_array_new(false, false, sizeof(CsvTableAt));
    unsigned t;

    WITH_QEMU_LOCK_GUARD(&disk->alloc_lock) {
        for (t = find_first_bit(disk->unscanned, CSV_MAX_L2_TABLES);
             t < CSV_MAX_L2_TABLES;
             t = find_next_bit(disk->unscanned, CSV_MAX_L2_TABLES, t + 1)) {
            CsvTableAt at = { l1[t], t };

            g_array_append_val(rest, at);
        }
    }
    g_array_sort(rest, csv_table_order);
    return rest;
}

/* How many of the @n tables at @at are contiguous from the first one on? */
static unsigned csv_scan_run(const CsvTableAt *at, unsigned n)
{
    unsigned run;

    for (run = 1; run < n; run++) {
        if (at[run].offset != at[0].offset + run * CSV_L2_SIZE) {
            break;
        }
    }
    return run;
}

/* Keep a table in memory if the cache has room for it. */
static void csv_scan_keep(CsvDisk *disk, CsvMapLoad *load, unsigned t,
                          CsvL2Table **table)
{
    guint max = csv_map_cache_tables(disk);

    if (load) {
        if (load->tables < max) {
            load->l2[t] = g_steal_pointer(table);
            load->tables++;
        }
        return;
    }
    QEMU_LOCK_GUARD(&disk->map_lock);
    if (disk->cached->len < max) {
        csv_map_cache_add(disk, t, g_steal_pointer(table));
    }
}

static bool csv_scan_wanted(CsvDisk *disk, unsigned t)
{
    QEMU_LOCK_GUARD(&disk->alloc_lock);
    return test_bit(t, disk->unscanned);
}

/*
 * Read and scan @n contiguous tables.  @buf has space for them.  @load is NULL
 * if the map is in use; then the caller is queued for the tables.
 */
static int coroutine_mixed_fn GRAPH_RDLOCK
csv_scan_tables(CsvDisk *disk, CsvMapLoad *load, const CsvTableAt *at,
                unsigned n, uint8_t *buf, Error **errp)
{
    g_autofree CsvL2Table *table = NULL;
    int ret = csv_map_read(disk, at[0].offset, n * CSV_L2_SIZE, buf,
                           "level-2 map", errp);
    unsigned i;

    for (i = 0; ret >= 0 && i < n; i++) {
        /* If a request has loaded it, we may have read it half written. */
        if (!csv_scan_wanted(disk, at[i].t)) {
            continue;
        }
        table = table ?: g_new0(CsvL2Table, 1);
        if (!csv_map_decode_table(disk, at[i].t, buf + i * CSV_L2_SIZE, table,
                                  errp) ||
            !csv_scan_table(disk, at[i].t, table, errp)) {
            return -EINVAL;
        }
        csv_scan_keep(disk, load, at[i].t, &table);
    }
    return ret;
}

int csv_scan_load(CsvMapLoad *load, Error **errp)
{
    CsvDisk *disk = load->disk;
    g_autoptr(GArray) rest = csv_scan_list(disk, load->l1);
    const CsvTableAt *at = (const CsvTableAt *)rest->data;
    QEMU_AUTO_VFREE uint8_t *buf =
        qemu_blockalign(disk->bs->file->bs, CSV_SCAN_TABLES * CSV_L2_SIZE);
    unsigned i, run;

    for (i = 0; i < rest->len; i += run) {
        int ret;

        run = csv_scan_run(at + i, MIN(rest->len - i, CSV_SCAN_TABLES));
        ret = csv_scan_tables(disk, load, at + i, run, buf, errp);
        if (ret < 0) {
            return ret;
        }
    }
    disk->scanned = true;
    return 0;
}

/* The same for a map that is in use. */
static int coroutine_fn GRAPH_RDLOCK
csv_scan_queued(CsvDisk *disk, const CsvTableAt *at, unsigned n, uint8_t *buf,
                Error **errp)
{
    BlockReq req[CSV_SCAN_TABLES_LATER];
    unsigned i;
    int ret;

    assert(n <= ARRAY_SIZE(req));
    WITH_QEMU_LOCK_GUARD(&disk->load_lock) {
        for (i = 0; i < n; i++) {
            reqlist_wait_all(&disk->loading, at[i].t, 1, &disk->load_lock);
            reqlist_init_req(&disk->loading, &req[i], at[i].t, 1);
        }
    }
    ret = csv_scan_tables(disk, NULL, at, n, buf, errp);

    QEMU_LOCK_GUARD(&disk->load_lock);
    for (i = 0; i < n; i++) {
        reqlist_remove_req(&req[i]);
    }
    return ret;
}

/* Does somebody wait for all requests to end? */
static bool csv_scan_gives_way(CsvDisk *disk)
{
    return qatomic_read(&disk->bs->quiesce_counter) ||
           qatomic_read(&disk->adjust_stop);
}

static int coroutine_fn GRAPH_RDLOCK
csv_scan_rest(CsvDisk *disk, bool background, Error **errp)
{
    g_autoptr(GArray) rest = csv_scan_list(disk, disk->l1);
    const CsvTableAt *at = (const CsvTableAt *)rest->data;
    QEMU_AUTO_VFREE uint8_t *buf =
        qemu_blockalign(disk->bs->file->bs,
                        CSV_SCAN_TABLES_LATER * CSV_L2_SIZE);
    unsigned i, run;

    for (i = 0; i < rest->len; i += run) {
        int ret;

        if (background && csv_scan_gives_way(disk)) {
            return -ECANCELED;
        }
        run = csv_scan_run(at + i, MIN(rest->len - i, CSV_SCAN_TABLES_LATER));
        ret = csv_scan_queued(disk, at + i, run, buf, errp);
        if (ret < 0) {
            return ret;
        }
    }
    return 0;
}

int coroutine_fn csv_map_scan(CsvDisk *disk, bool background)
{
    Error *err = NULL;
    int ret;

    if (csv_map_is_scanned(disk)) {
        return 0;
    }
    QEMU_LOCK_GUARD(&disk->scan_lock);
    if (csv_map_is_scanned(disk)) {
        return 0;
    }
    ret = csv_scan_rest(disk, background, &err);
    trace_csv_map_scan(disk, background, ret);
    if (ret >= 0) {
        qatomic_set(&disk->scanned, true);
        return 0;
    }
    if (ret == -EINVAL) {
        error_prepend(&err, "Disk '%s' of csv volume '%s' is damaged: ",
                      disk->record.name, csv_volume_label(disk->volume));
        ret = -EIO;
    }
    if (err) {
        error_report_err(err);
    }
    return ret;
}
