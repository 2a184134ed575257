/*
 * Cluster shared volume: which level-2 tables are in memory
 *
 * A request that needs a table loads it; requests for the same table are
 * serialised.  A table can be evicted whenever map_lock is free, unless it has
 * changes that the volume lacks: it is dirty or pending, or held while a write
 * of it may still fail.  So a pointer to a table is only valid in an RCU read
 * section or under map_lock.  To change a table, take the lock with
 * csv_map_lock(); the change prevents the eviction.
 *
 * Eviction is by the clock algorithm: the hand passes over tables that were
 * used since it last passed them.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "map-int.h"
#include "trace/trace-block_csv.h"

/* A request may need one table, and another request a second one. */
#define CSV_CACHE_MIN_TABLES 2

/* Attempts to read a table that its owner may be writing. */
#define CSV_FETCH_TRIES 5

guint csv_map_cache_tables(const CsvDisk *disk)
{
    uint64_t tables = disk->cache_size / sizeof(CsvL2Table);

    return MIN(MAX(tables, CSV_CACHE_MIN_TABLES), CSV_MAX_L2_TABLES);
}

uint64_t csv_map_cache_bytes(const CsvDisk *disk)
{
    return (uint64_t)disk->cached->len * sizeof(CsvL2Table);
}

void csv_map_fragments(CsvDisk *disk, uint64_t *clusters,
                       uint64_t *fragmented)
{
    guint i;

    *clusters = *fragmented = 0;
    QEMU_LOCK_GUARD(&disk->map_lock);
    for (i = 0; i < disk->cached->len; i++) {
        uint32_t t = g_array_index(disk->cached, uint32_t, i);
        const uint32_t *place = disk->l2[t]->place;
        unsigned e;

        for (e = 0; e < CSV_L2_ENTRIES; e++) {
            *clusters += place[e] != 0;
            *fragmented += e && place[e] && place[e - 1] &&
                           place[e] != place[e - 1] + 1;
        }
    }
}

/* map_lock held. */
static bool csv_map_may_evict(CsvDisk *disk, unsigned t)
{
    return !test_bit(t, disk->l2_dirty) && !test_bit(t, disk->l2_pending) &&
           !test_bit(t, disk->l2_held);
}

/* Evict tables down to @max, as far as that is possible.  map_lock held. */
static void csv_map_evict(CsvDisk *disk, guint max)
{
    GArray *cached = disk->cached;
    guint looks = 2 * cached->len;

    for (; cached->len > max && looks; looks--) {
        guint at = disk->cached_hand % cached->len;
        uint32_t t = g_array_index(cached, uint32_t, at);
        CsvL2Table *table = disk->l2[t];

        disk->cached_hand = at + 1;
        if (!csv_map_may_evict(disk, t) ||
            qatomic_xchg(&table->used, false)) {
            continue;
        }
        qatomic_rcu_set(&disk->l2[t], NULL);
        g_free_rcu(table, rcu);
        g_array_remove_index_fast(cached, at);
        disk->cached_hand = at;
        disk->table_evictions++;
        trace_csv_table_evict(disk, t);
    }
}

void csv_map_cache_add(CsvDisk *disk, unsigned t, CsvL2Table *table)
{
    uint32_t which = t;

    assert(!disk->l2[t]);
    csv_map_evict(disk, csv_map_cache_tables(disk) - 1);
    table->used = true;
    g_array_append_val(disk->cached, which);
    qatomic_rcu_set(&disk->l2[t], table);
}

bool csv_map_crowded(CsvDisk *disk)
{
    QEMU_LOCK_GUARD(&disk->map_lock);
    return bitmap_count_one(disk->l2_dirty, CSV_MAX_L2_TABLES) >
           csv_map_cache_tables(disk) / 2;
}

void csv_map_release(CsvDisk *disk)
{
    QEMU_LOCK_GUARD(&disk->map_lock);
    bitmap_zero(disk->l2_held, CSV_MAX_L2_TABLES);
    csv_map_evict(disk, csv_map_cache_tables(disk));
}

/* Read table @t.  Retry if the disk is not ours: a page may be half written. */
static int coroutine_mixed_fn GRAPH_RDLOCK
csv_table_read(CsvDisk *disk, unsigned t, uint64_t offset, CsvL2Table *table)
{
    Error *err = NULL;
    int ret, tries;

    for (tries = 1; ; tries++) {
        ret = csv_map_read_table(disk, t, offset, table, &err);
        if (ret >= 0 && !csv_scan_table(disk, t, table, &err)) {
            ret = -EINVAL;
        }
        if (ret != -EINVAL || disk->owned || tries == CSV_FETCH_TRIES) {
            break;
        }
        error_free(err);
        err = NULL;
    }
    if (ret == -EINVAL) {
        error_prepend(&err, "Disk '%s' of csv volume '%s' is damaged: ",
                      disk->record.name, csv_volume_label(disk->volume));
        ret = -EIO;
    }
    if (ret < 0) {
        error_report_err(err);
    }
    return ret;
}

/* Load table @t if it is missing.  The caller is queued for it, or alone. */
static int coroutine_mixed_fn GRAPH_RDLOCK
csv_table_load(CsvDisk *disk, unsigned t)
{
    g_autofree CsvL2Table *table = NULL;
    uint64_t offset, replaced;
    int ret;

    WITH_QEMU_LOCK_GUARD(&disk->map_lock) {
        offset = disk->l1[t];
        replaced = disk->map_replaced;
        if (disk->l2[t] || !offset) {
            return 0;
        }
    }
    table = g_new0(CsvL2Table, 1);
    ret = csv_table_read(disk, t, offset, table);
    trace_csv_table_load(disk, t, offset, ret);
    if (ret < 0) {
        return ret;
    }
    QEMU_LOCK_GUARD(&disk->map_lock);
    /* An activation may have replaced the map meanwhile. */
    if (disk->map_replaced == replaced) {
        csv_map_cache_add(disk, t, g_steal_pointer(&table));
        disk->table_loads++;
    }
    return 0;
}

static int coroutine_fn GRAPH_RDLOCK
csv_table_load_queued(CsvDisk *disk, unsigned t)
{
    BlockReq req;
    int ret;

    WITH_QEMU_LOCK_GUARD(&disk->load_lock) {
        reqlist_wait_all(&disk->loading, t, 1, &disk->load_lock);
        reqlist_init_req(&disk->loading, &req, t, 1);
    }
    ret = csv_table_load(disk, t);

    QEMU_LOCK_GUARD(&disk->load_lock);
    reqlist_remove_req(&req);
    return ret;
}

int coroutine_mixed_fn csv_map_fetch(CsvDisk *disk, unsigned t)
{
    return qemu_in_coroutine() ? csv_table_load_queued(disk, t)
                               : csv_table_load(disk, t);
}

int coroutine_mixed_fn csv_map_lock(CsvDisk *disk, unsigned t)
{
    for (;;) {
        int ret;

        qemu_mutex_lock(&disk->map_lock);
        assert(disk->l1[t]);
        if (disk->l2[t]) {
            return 0;
        }
        qemu_mutex_unlock(&disk->map_lock);
        ret = csv_map_fetch(disk, t);
        if (ret < 0) {
            return ret;
        }
    }
}
