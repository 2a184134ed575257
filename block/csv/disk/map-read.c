/*
 * Cluster shared volume: reading and checking tables of a map, and replay into
 * them
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/memalign.h"
#include "map-int.h"

int csv_map_read(CsvDisk *disk, uint64_t offset, size_t bytes, uint8_t *buf,
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

bool csv_map_decode_table(CsvDisk *disk, unsigned t, const uint8_t *buf,
                          CsvL2Table *table, Error **errp)
{
    CsvL2Entry entry[CSV_L2_PER_SECTOR];
    unsigned s, i;

    for (s = 0; s < CSV_L2_SECTORS; s++) {
        if (!csv_l2_decode(buf + s * CSV_SECTOR_SIZE, &disk->record.uuid,
                           (uint64_t)t * CSV_L2_SECTORS + s, entry, errp)) {
            return false;
        }
        for (i = 0; i < CSV_L2_PER_SECTOR; i++) {
            table->masks[s * CSV_L2_PER_SECTOR + i] = entry[i].masks;
            table->place[s * CSV_L2_PER_SECTOR + i] =
                entry[i].offset >> CSV_CLUSTER_BITS;
        }
    }
    return true;
}

int coroutine_mixed_fn
csv_map_read_table(CsvDisk *disk, unsigned t, uint64_t offset,
                   CsvL2Table *table, Error **errp)
{
    QEMU_AUTO_VFREE uint8_t *buf = qemu_blockalign(disk->bs->file->bs,
                                                   CSV_L2_SIZE);
    int ret = csv_map_read(disk, offset, CSV_L2_SIZE, buf, "level-2 map",
                           errp);

    if (ret < 0) {
        return ret;
    }
    return csv_map_decode_table(disk, t, buf, table, errp) ? 0 : -EINVAL;
}

/* Data past the @end of the volume would read as zeroes. */
static bool csv_scan_data(uint64_t offset, uint32_t data, uint64_t end,
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

static bool csv_scan_entry(CsvDisk *disk, const CsvL2Table *table, unsigned i,
                           Error **errp)
{
    uint64_t offset = (uint64_t)table->place[i] << CSV_CLUSTER_BITS;

    return !offset ||
           (csv_scan_data(offset, csv_masks_data(table->masks[i]),
                          disk->map_end, errp) &&
            csv_cluster_use(disk, offset, errp));
}

bool csv_scan_table(CsvDisk *disk, unsigned t, const CsvL2Table *table,
                    Error **errp)
{
    ERRP_GUARD();
    unsigned i, end;

    QEMU_LOCK_GUARD(&disk->alloc_lock);
    if (!test_bit(t, disk->unscanned)) {
        return true;
    }
    for (i = 0; i < CSV_L2_ENTRIES; i++) {
        if (!csv_scan_entry(disk, table, i, errp)) {
            break;
        }
    }
    if (i == CSV_L2_ENTRIES) {
        clear_bit(t, disk->unscanned);
        return true;
    }
    error_prepend(errp, "level-2 map sector %u: field 'offset': entry %u: ",
                  t * CSV_L2_SECTORS + i / CSV_L2_PER_SECTOR,
                  i % CSV_L2_PER_SECTOR);
    /* The next attempt shall find the same fault. */
    for (end = i, i = 0; i < end; i++) {
        if (table->place[i]) {
            csv_cluster_unuse(disk, (uint64_t)table->place[i] <<
                                    CSV_CLUSTER_BITS);
        }
    }
    return false;
}

void csv_map_prepend_l1(unsigned t, Error **errp)
{
    error_prepend(errp, "level-1 map sector %u: field 'table': entry %u: ",
                  t / CSV_L1_PER_SECTOR, t % CSV_L1_PER_SECTOR);
}

/* Load table @t, for replay. */
static int GRAPH_RDLOCK
csv_map_apply_table(CsvMapLoad *load, unsigned t, Error **errp)
{
    ERRP_GUARD();
    CsvDisk *disk = load->disk;
    g_autofree CsvL2Table *table = NULL;
    int ret;

    if (load->l2[t]) {
        return 0;
    }
    if (!csv_segment_has(disk, load->l1[t])) {
        error_setg(errp, "offset %" PRIu64 " is in no segment of disk '%s'",
                   load->l1[t], disk->record.name);
        csv_map_prepend_l1(t, errp);
        return -EINVAL;
    }
    table = g_new0(CsvL2Table, 1);
    ret = csv_map_read_table(disk, t, load->l1[t], table, errp);
    if (ret >= 0) {
        load->l2[t] = g_steal_pointer(&table);
        load->tables++;
    }
    return ret;
}

int csv_map_apply(CsvMapLoad *load, const CsvJournalEntry *entry, Error **errp)
{
    unsigned t = entry->index, i;
    int ret;

    if (entry->type == CSV_JOURNAL_L1) {
        load->tables += !load->l2[t];
        g_free(load->l2[t]);
        load->l2[t] = g_new0(CsvL2Table, 1);
        load->l2[t]->dirty = UINT16_MAX;
        load->l1[t] = entry->value.offset;
        return 0;
    }
    t = entry->index / CSV_L2_ENTRIES;
    i = entry->index % CSV_L2_ENTRIES;
    if (!load->l1[t]) {
        error_setg(errp, "field 'index': cluster %" PRIu64 " has no table",
                   entry->index);
        return -EINVAL;
    }
    ret = csv_map_apply_table(load, t, errp);
    if (ret < 0) {
        return ret;
    }
    load->l2[t]->masks[i] = entry->value.masks;
    load->l2[t]->place[i] = entry->value.offset >> CSV_CLUSTER_BITS;
    load->l2[t]->dirty |= 1U << (i / CSV_L2_PER_PAGE);
    return 0;
}
