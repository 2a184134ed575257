/*
 * Cluster shared volume: how a command reaches a volume
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "system/block-backend.h"
#include "block/csv/disk/disk.h"
#include "way.h"

/* An open disk of the volume on @bs, through which it can be reached */
static CsvDisk *csv_way_disk(BlockDriverState *bs, bool write)
{
    CsvVolume *vol;
    CsvDisk *disk;

    for (vol = csv_volume_next(NULL); vol; vol = csv_volume_next(vol)) {
        if (vol->bs != bs) {
            continue;
        }
        QLIST_FOREACH(disk, &vol->disks, next) {
            if (!write || csv_may_write(disk->bs->file)) {
                return disk;
            }
        }
    }
    return NULL;
}

bool csv_way_open(CsvWay *way, BlockDriverState *bs, bool write, Error **errp)
{
    CsvDisk *disk;

    *way = (CsvWay) { 0 };
    WITH_GRAPH_RDLOCK_GUARD() {
        disk = csv_way_disk(bs, write);
        if (disk) {
            way->disk = disk->bs;
            way->file = disk->bs->file;
            bdrv_inc_in_flight(way->disk);
            return true;
        }
    }

    bdrv_ref(bs);
    way->blk = blk_co_new_with_bs(bs, BLK_PERM_CONSISTENT_READ |
                                  (write ? BLK_PERM_WRITE : 0), BLK_PERM_ALL,
                                  errp);
    bdrv_co_unref(bs);
    if (!way->blk) {
        return false;
    }
    way->file = csv_blk_child(way->blk);
    blk_inc_in_flight(way->blk);
    return true;
}

void csv_way_close(CsvWay *way)
{
    if (way->disk) {
        bdrv_dec_in_flight(way->disk);
    } else {
        blk_dec_in_flight(way->blk);
        blk_co_unref(way->blk);
    }
}
