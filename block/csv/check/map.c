/*
 * Cluster shared volume: check of a disk's map
 *
 * Only one table is in memory at a time, with its changes from the journal, and
 * a bit for each cluster of the disk's segments.  The places of tables are
 * checked before entries, so that if both use a cluster, the entry is cleared.
 *
 * A repair writes the map with the changes from the journal, which is replaced
 * afterwards.  If the repair is interrupted, replay makes the same changes
 * again.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/memalign.h"
#include "check-int.h"

/* A table under check. */
typedef struct CsvCheckTable {
    unsigned number;
    bool dirty;                 /* to be written */
    uint64_t next;              /* where a contiguous cluster would be */
    CsvL2Entry entry[CSV_L2_ENTRIES];
} CsvCheckTable;

/*
 * May an error be repaired?  If not, nothing is written from now on: the map in
 * memory lacks what could not be read.
 */
static bool csv_check_fix_error(CsvCheckDisk *d)
{
    if (d->repair && csv_check_may_fix(d->c, CSV_FINDING_ERROR)) {
        return true;
    }
    d->repair = d->changed = false;
    return false;
}

/* Guest offsets of @count clusters from @first on, for messages. */
static char *csv_check_range(const CsvCheckDisk *d, uint64_t first,
                             uint64_t count)
{
    uint64_t from = MIN(first << CSV_CLUSTER_BITS, d->rec->size);
    uint64_t to = MIN((first + count) << CSV_CLUSTER_BITS, d->rec->size);

    return from == to ? g_strdup("nothing")
                      : g_strdup_printf("guest bytes %" PRIu64 " to %" PRIu64,
                                        from, to - 1);
}

static void csv_check_l1_bad(CsvCheckDisk *d, unsigned s, const char *why)
{
    g_autofree char *lost =
        csv_check_range(d, (uint64_t)s * CSV_L1_PER_SECTOR * CSV_L2_ENTRIES,
                        CSV_L1_PER_SECTOR * CSV_L2_ENTRIES);
    bool fix = csv_check_fix_error(d);

    csv_check_found(d->c, CSV_FINDING_ERROR, fix, "disk '%s': %s; %s %s",
                    d->rec->name, why, fix ? "cleared, which lost"
                    : "'repair all' clears it, which loses", lost);
}

static int GRAPH_RDLOCK csv_check_l1_read(CsvCheckDisk *d, Error **errp)
{
    size_t bytes = CSV_L1_PAGES * CSV_PAGE_SIZE;
    QEMU_AUTO_VFREE uint8_t *buf = qemu_blockalign(d->c->file->bs, bytes);
    uint64_t table[CSV_L1_PER_SECTOR];
    unsigned s;
    guint i;
    int ret = bdrv_pread(d->c->file,
                         csv_segment_start(&d->c->vol->sb,
                                           d->rec->first_segment) +
                         CSV_L1_OFFSET, bytes, buf, 0);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read the level-1 map of disk "
                         "'%s' of csv volume '%s'", d->rec->name,
                         csv_volume_label(d->c->vol));
        return ret;
    }
    for (s = 0; s < CSV_L1_SECTORS; s++) {
        unsigned t = s * CSV_L1_PER_SECTOR;
        Error *err = NULL;

        if (!csv_l1_decode(buf + s * CSV_SECTOR_SIZE, &d->rec->uuid, s, table,
                           &err)) {
            csv_check_l1_bad(d, s, error_get_pretty(err));
            error_free(err);
        } else if (t < CSV_MAX_L2_TABLES) {
            memcpy(d->tables + t, table,
                   MIN(CSV_L1_PER_SECTOR, CSV_MAX_L2_TABLES - t) *
                   sizeof(table[0]));
        }
    }
    for (i = 0; i < d->changes->len; i++) {
        const CsvCheckChange *e = &g_array_index(d->changes, CsvCheckChange, i);

        if (e->entry.type == CSV_JOURNAL_L1) {
            d->tables[e->table] = e->entry.value.offset;
            set_bit(e->table, d->fresh);
        }
    }
    return 0;
}

/* Check the place of table @t.  @clusters: masks of the tables in each. */
static const char *csv_check_table_place(CsvCheckDisk *d, unsigned t,
                                         GHashTable *clusters)
{
    uint64_t offset = d->tables[t];
    uint64_t cluster = ROUND_DOWN(offset, CSV_CLUSTER_SIZE);
    gpointer key = GUINT_TO_POINTER(cluster >> CSV_CLUSTER_BITS);
    uint32_t bit = 1U << ((offset - cluster) / CSV_L2_SIZE);
    uint32_t mask = GPOINTER_TO_UINT(g_hash_table_lookup(clusters, key));

    if (!mask) {
        int ret = csv_check_use(d, cluster);

        if (ret < 0) {
            return ret == -ENOENT ? "is in no segment of the disk"
                                  : "is in a cluster that holds the header";
        }
    } else if (mask & bit) {
        return "is that of another table";
    }
    g_hash_table_insert(clusters, key, GUINT_TO_POINTER(mask | bit));
    return NULL;
}

static void csv_check_places(CsvCheckDisk *d)
{
    g_autoptr(GHashTable) clusters = g_hash_table_new(NULL, NULL);
    unsigned t;

    for (t = 0; t < CSV_MAX_L2_TABLES; t++) {
        g_autofree char *lost = NULL;
        const char *why;
        bool fix;

        why = d->tables[t] ? csv_check_table_place(d, t, clusters) : NULL;
        if (!why) {
            continue;
        }
        lost = csv_check_range(d, (uint64_t)t * CSV_L2_ENTRIES,
                               CSV_L2_ENTRIES);
        fix = csv_check_fix_error(d);
        csv_check_found(d->c, CSV_FINDING_ERROR, fix, "disk '%s': level-1 map "
                        "sector %u: field 'table': entry %u: offset %" PRIu64
                        " %s; %s %s", d->rec->name, t / CSV_L1_PER_SECTOR,
                        t % CSV_L1_PER_SECTOR, d->tables[t], why,
                        fix ? "cleared, which lost"
                            : "'repair all' clears it, which loses", lost);
        d->tables[t] = 0;
    }
}

static int GRAPH_RDLOCK
csv_check_table_read(CsvCheckDisk *d, CsvCheckTable *t, uint8_t *buf,
                     Error **errp)
{
    unsigned s;
    int ret = bdrv_pread(d->c->file, d->tables[t->number], CSV_L2_SIZE, buf,
                         0);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read table %u of disk '%s' of "
                         "csv volume '%s'", t->number, d->rec->name,
                         csv_volume_label(d->c->vol));
        return ret;
    }
    for (s = 0; s < CSV_L2_SECTORS; s++) {
        uint64_t number = (uint64_t)t->number * CSV_L2_SECTORS + s;
        g_autofree char *lost = NULL;
        Error *err = NULL;
        bool fix;

        if (csv_l2_decode(buf + s * CSV_SECTOR_SIZE, &d->rec->uuid, number,
                          t->entry + s * CSV_L2_PER_SECTOR, &err)) {
            continue;
        }
        memset(t->entry + s * CSV_L2_PER_SECTOR, 0,
               CSV_L2_PER_SECTOR * sizeof(t->entry[0]));
        lost = csv_check_range(d, number * CSV_L2_PER_SECTOR,
                               CSV_L2_PER_SECTOR);
        fix = csv_check_fix_error(d);
        csv_check_found(d->c, CSV_FINDING_ERROR, fix, "disk '%s': %s; %s %s",
                        d->rec->name, error_get_pretty(err),
                        fix ? "cleared, which lost"
                            : "'repair all' clears it, which loses", lost);
        error_free(err);
        t->dirty = true;
    }
    return 0;
}

/* Apply the journal to the table; *next: first entry for a later table. */
static void csv_check_replay(CsvCheckDisk *d, CsvCheckTable *t, guint *next)
{
    while (*next < d->changes->len) {
        const CsvCheckChange *e = &g_array_index(d->changes, CsvCheckChange,
                                                *next);

        if (e->table > t->number) {
            return;
        }
        (*next)++;
        if (e->table < t->number) {
            bool fix = csv_check_fix_error(d);

            csv_check_found(d->c, CSV_FINDING_ERROR, fix, "disk '%s': "
                            "journal: cluster %" PRIu64 " has no table; %s",
                            d->rec->name, e->entry.index, fix ? "dropped" :
                            "'repair all' drops this change");
            continue;
        }
        t->dirty = true;
        if (e->entry.type == CSV_JOURNAL_L1) {
            memset(t->entry, 0, sizeof(t->entry));
        } else {
            t->entry[e->entry.index % CSV_L2_ENTRIES] = e->entry.value;
        }
    }
}

/* Mask of subclusters of @cluster past the end of the disk. */
static uint32_t csv_check_past(const CsvCheckDisk *d, uint64_t cluster)
{
    uint64_t start = cluster << CSV_CLUSTER_BITS;
    uint64_t subs;

    if (start >= d->rec->size) {
        return UINT32_MAX;
    }
    subs = DIV_ROUND_UP(d->rec->size - start, CSV_SUBCLUSTER_SIZE);
    return subs < CSV_SUBCLUSTERS ? UINT32_MAX << subs : 0;
}

/* Clear what is past the end of the disk, left by an interrupted shrink. */
static void csv_check_entry_past(CsvCheckDisk *d, CsvCheckTable *t, unsigned i)
{
    uint64_t cluster = (uint64_t)t->number * CSV_L2_ENTRIES + i;
    uint32_t past = csv_check_past(d, cluster);
    CsvL2Entry *e = &t->entry[i];
    bool fix = d->repair && csv_check_may_fix(d->c, CSV_FINDING_LEAK);

    if (!(e->masks & csv_masks(past, past)) &&
        !(past == UINT32_MAX && e->offset)) {
        return;
    }
    csv_check_found(d->c, CSV_FINDING_LEAK, fix, "disk '%s': level-2 map "
                    "sector %u: entry %u: cluster %" PRIu64 " is mapped "
                    "past the end of the disk%s", d->rec->name,
                    t->number * CSV_L2_SECTORS + i / CSV_L2_PER_SECTOR,
                    i % CSV_L2_PER_SECTOR, cluster, fix ? ""
                    : "; 'repair leaks' frees it");
    if (past == UINT32_MAX) {
        *e = (CsvL2Entry) { 0 };
    } else {
        e->masks &= ~csv_masks(past, past);
    }
    t->dirty = true;
}

/* End of the last subcluster in @mask, in bytes from the cluster's start. */
static uint64_t csv_check_entry_bytes(uint32_t mask)
{
    return mask ? (32ULL - clz32(mask)) << CSV_SUBCLUSTER_BITS : 0;
}

/* Mark the entry's cluster as used.  Returns NULL, or what is wrong with it. */
static const char *csv_check_entry_place(CsvCheckDisk *d, const CsvL2Entry *e)
{
    uint64_t bytes = csv_check_entry_bytes(csv_masks_data(e->masks));

    switch (csv_check_use(d, e->offset)) {
    case -ENOENT:
        return "is in no segment of the disk";
    case -EEXIST:
        return "is used already";
    default:
        return e->offset + bytes > d->end
               ? "has data past the end of the storage" : NULL;
    }
}

static void csv_check_entry(CsvCheckDisk *d, CsvCheckTable *t, unsigned i)
{
    uint64_t cluster = (uint64_t)t->number * CSV_L2_ENTRIES + i;
    CsvL2Entry *e = &t->entry[i];
    BdrvCheckResult *res = d->c->res;
    g_autofree char *lost = NULL;
    const char *why;
    bool fix;

    if (e->masks) {
        d->mapped = MAX(d->mapped, (cluster << CSV_CLUSTER_BITS) +
                        csv_check_entry_bytes(csv_masks_data(e->masks) |
                                              csv_masks_zero(e->masks)));
    }
    csv_check_entry_past(d, t, i);
    if (!e->offset) {
        return;
    }
    why = csv_check_entry_place(d, e);
    if (!why) {
        res->bfi.allocated_clusters++;
        res->bfi.fragmented_clusters += t->next && e->offset != t->next;
        t->next = e->offset + CSV_CLUSTER_SIZE;
        res->image_end_offset = MAX(res->image_end_offset, t->next);
        return;
    }
    lost = csv_check_range(d, cluster, 1);
    fix = csv_check_fix_error(d);
    csv_check_found(d->c, CSV_FINDING_ERROR, fix, "disk '%s': level-2 map "
                    "sector %u: field 'offset': entry %u: the cluster at %"
                    PRIu64 " %s; %s %s", d->rec->name,
                    t->number * CSV_L2_SECTORS + i / CSV_L2_PER_SECTOR,
                    i % CSV_L2_PER_SECTOR, e->offset, why,
                    fix ? "cleared, which lost"
                        : "'repair all' clears it, which loses", lost);
    *e = (CsvL2Entry) { 0 };
    t->dirty = true;
}

static int GRAPH_RDLOCK
csv_check_table_write(CsvCheckDisk *d, const CsvCheckTable *t, uint8_t *buf,
                      Error **errp)
{
    unsigned s;
    int ret;

    for (s = 0; s < CSV_L2_SECTORS; s++) {
        csv_l2_encode(t->entry + s * CSV_L2_PER_SECTOR, &d->rec->uuid,
                      (uint64_t)t->number * CSV_L2_SECTORS + s,
                      buf + s * CSV_SECTOR_SIZE);
    }
    ret = csv_pwrite(d->c->vol, d->c->file, d->tables[t->number], CSV_L2_SIZE,
                     buf, 0);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot write table %u of disk '%s' of "
                         "csv volume '%s'", t->number, d->rec->name,
                         csv_volume_label(d->c->vol));
    }
    return ret;
}

static int GRAPH_RDLOCK
csv_check_table(CsvCheckDisk *d, CsvCheckTable *t, guint *next, uint8_t *buf,
                Error **errp)
{
    unsigned i;
    int ret = 0;

    t->dirty = false;
    if (test_bit(t->number, d->fresh)) {
        memset(t->entry, 0, sizeof(t->entry));
    } else {
        ret = csv_check_table_read(d, t, buf, errp);
    }
    if (ret < 0) {
        return ret;
    }
    csv_check_replay(d, t, next);
    for (i = 0; i < CSV_L2_ENTRIES; i++) {
        csv_check_entry(d, t, i);
    }
    return t->dirty && d->repair ? csv_check_table_write(d, t, buf, errp) : 0;
}

static int GRAPH_RDLOCK csv_check_tables(CsvCheckDisk *d, Error **errp)
{
    g_autofree CsvCheckTable *t = g_new0(CsvCheckTable, 1);
    QEMU_AUTO_VFREE uint8_t *buf = qemu_blockalign(d->c->file->bs,
                                                   CSV_L2_SIZE);
    guint next = 0;
    int ret = 0;

    for (; ret >= 0 && t->number < CSV_MAX_L2_TABLES; t->number++) {
        if (d->tables[t->number]) {
            ret = csv_check_table(d, t, &next, buf, errp);
        }
    }
    if (ret >= 0) {
        csv_check_replay(d, t, &next);
    }
    return ret;
}

/* Write the level-1 map, after the tables that it names. */
static int GRAPH_RDLOCK csv_check_l1_write(CsvCheckDisk *d, Error **errp)
{
    size_t bytes = CSV_L1_PAGES * CSV_PAGE_SIZE;
    QEMU_AUTO_VFREE uint8_t *buf = qemu_blockalign(d->c->file->bs, bytes);
    uint64_t table[CSV_L1_PER_SECTOR];
    unsigned s, i;
    int ret = bdrv_flush(d->c->file->bs);

    for (s = 0; s < CSV_L1_SECTORS; s++) {
        for (i = 0; i < CSV_L1_PER_SECTOR; i++) {
            unsigned t = s * CSV_L1_PER_SECTOR + i;

            table[i] = t < CSV_MAX_L2_TABLES ? d->tables[t] : 0;
        }
        csv_l1_encode(table, &d->rec->uuid, s, buf + s * CSV_SECTOR_SIZE);
    }
    if (ret >= 0) {
        ret = csv_pwrite(d->c->vol, d->c->file,
                         csv_segment_start(&d->c->vol->sb,
                                           d->rec->first_segment) +
                         CSV_L1_OFFSET, bytes, buf, 0);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot write the level-1 map of disk "
                         "'%s' of csv volume '%s'", d->rec->name,
                         csv_volume_label(d->c->vol));
    }
    return ret;
}

int csv_check_map(CsvCheckDisk *d, Error **errp)
{
    BdrvCheckResult *res = d->c->res;
    uint64_t first = csv_segment_start(&d->c->vol->sb, d->rec->first_segment);
    int ret;

    res->bfi.total_clusters += DIV_ROUND_UP(d->rec->size, CSV_CLUSTER_SIZE);
    res->image_end_offset = MAX(res->image_end_offset,
                                first + CSV_CLUSTER_SIZE);
    d->changed = d->repair;
    ret = csv_check_l1_read(d, errp);
    if (ret < 0) {
        return ret;
    }
    csv_check_places(d);
    ret = csv_check_tables(d, errp);
    return ret >= 0 && d->changed ? csv_check_l1_write(d, errp) : ret;
}
