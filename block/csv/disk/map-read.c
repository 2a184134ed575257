/*
 * Cluster shared volume: reading tables of a map, and replay into them
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
