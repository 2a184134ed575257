/*
 * Cluster shared volume: the header of a disk, in two copies
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/memalign.h"
#include "map-int.h"

static uint64_t csv_header_offset(const CsvVolume *vol,
                                  const CsvDiskRecord *disk, unsigned copy)
{
    return csv_segment_start(&vol->sb, disk->first_segment) +
           (copy ? CSV_HEADER_COPY_1 : CSV_HEADER_COPY_0);
}

int csv_header_read(CsvDisk *disk, Error **errp)
{
    QEMU_AUTO_VFREE uint8_t *buf = qemu_blockalign(disk->bs->file->bs,
                                                   CSV_PAGE_SIZE);
    CsvHeader header;
    uint64_t generation[2] = { 0, 0 };      /* of the intact copies */
    Error *err = NULL;
    bool found = false, whole = true;
    unsigned copy;

    for (copy = 0; copy < 2; copy++) {
        int ret = csv_map_read(disk, csv_header_offset(disk->volume,
                                                       &disk->record, copy),
                               CSV_PAGE_SIZE, buf, "header", errp);
        if (ret < 0) {
            error_free(err);
            return ret;
        }
        if (!csv_header_decode(buf, &disk->record, copy, &header,
                               err ? NULL : &err)) {
            whole = false;
            continue;
        }
        generation[copy] = header.generation;
        if (!found || header.generation > disk->header.generation) {
            disk->header = header;
            disk->header_copy = copy;
            found = true;
        }
    }
    if (!found) {
        error_propagate(errp, err);
        return -EINVAL;
    }
    error_free(err);
    disk->header_differs = !whole || generation[0] != generation[1];
    return 0;
}

/* Write both copies; @last, the valid one, is written last. */
static int GRAPH_RDLOCK
csv_header_write_copies(CsvVolume *vol, BdrvChild *file,
                        const CsvDiskRecord *disk, CsvHeader *header,
                        unsigned last)
{
    QEMU_AUTO_VFREE uint8_t *buf = qemu_blockalign(file->bs, CSV_PAGE_SIZE);
    unsigned i;
    int ret = 0;

    header->size = disk->size;
    memcpy(header->name, disk->name, sizeof(header->name));
    for (i = 0; ret >= 0 && i < 2; i++) {
        unsigned copy = i ? last : !last;

        csv_header_encode(header, disk, copy, buf);
        ret = csv_pwrite(vol, file, csv_header_offset(vol, disk, copy),
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
                                  &new, disk->header_copy);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot write the header of disk '%s' of "
                         "csv volume '%s'", disk->record.name,
                         csv_volume_label(disk->volume));
        return ret;
    }
    disk->header = new;
    disk->header_differs = false;
    return 0;
}

void csv_header_refresh(CsvDisk *disk)
{
    const CsvHeader *header = &disk->header;

    if (disk->header_differs || header->size != disk->record.size ||
        strcmp(header->name, disk->record.name)) {
        csv_header_write(disk, header, NULL);
    }
}

int csv_map_format(CsvVolume *vol, BdrvChild *file, const CsvDiskRecord *disk,
                   const CsvHeader *header, Error **errp)
{
    const uint64_t none[CSV_L1_PER_SECTOR] = { 0 };
    size_t bytes = CSV_L1_PAGES * CSV_PAGE_SIZE;
    QEMU_AUTO_VFREE uint8_t *buf = qemu_blockalign0(file->bs, bytes);
    CsvHeader new = *header;
    unsigned i;
    int ret;

    for (i = 0; i < CSV_L1_SECTORS; i++) {
        csv_l1_encode(none, &disk->uuid, i, buf + i * CSV_SECTOR_SIZE);
    }
    ret = csv_pwrite(vol, file,
                     csv_segment_start(&vol->sb, disk->first_segment) +
                     CSV_L1_OFFSET, bytes, buf, 0);
    if (ret >= 0) {
        ret = csv_header_write_copies(vol, file, disk, &new, 0);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot write the header of disk '%s' of "
                         "csv volume '%s'", disk->name, csv_volume_label(vol));
    }
    return ret;
}
