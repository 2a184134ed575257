/*
 * Cluster shared volume: reading a disk's header and map
 *
 * The journal is replayed before the map is checked (map-scan.c), because it
 * may replace what a page says.  Replay loads the tables that the journal
 * names; the check loads as many others as the cache permits.
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

/* Check the map.  @mode as in csv_map_load(). */
static int GRAPH_RDLOCK
csv_map_check(CsvMapLoad *load, CsvLoadMode mode, Error **errp)
{
    BlockDriverState *file = load->disk->bs->file->bs;
    int64_t end = bdrv_getlength(file);

    if (end < 0) {
        error_setg_errno(errp, -end, "Cannot find the size of node '%s'",
                         bdrv_get_node_name(file));
        return -EINVAL;
    }
    load->disk->map_end = end;
    if (!csv_scan_l1(load, errp)) {
        return -EINVAL;
    }
    return mode == CSV_LOAD_HANDED_OVER ? 0 : csv_scan_load(load, errp);
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
csv_map_load_all(CsvMapLoad *load, CsvLoadMode mode, Error **errp)
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
    if (ret >= 0 && mode == CSV_LOAD_REPLAY) {
        ret = csv_journal_replay(disk, load, errp);
    }
    return ret < 0 ? ret : csv_map_check(load, mode, errp);
}

int csv_map_load(CsvDisk *disk, CsvLoadMode mode, Error **errp)
{
    ERRP_GUARD();
    g_autofree CsvMapLoad *load = g_new0(CsvMapLoad, 1);
    int ret;

    load->disk = disk;
    disk->scanned = false;
    ret = csv_map_load_all(load, mode, errp);
    if (ret < 0) {
        unsigned t;

        /* The map remains the old one, which is not to be scanned. */
        bitmap_zero(disk->unscanned, CSV_MAX_L2_TABLES);
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
    return 0;
}
