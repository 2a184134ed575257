/*
 * Cluster shared volume: how a command reaches a volume
 *
 * Through a disk of it that is open, if there is one.  Only otherwise a
 * BlockBackend is attached, because a change of the graph waits for all
 * requests of this process, and the storage of one may not answer.
 *
 * Main thread.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BLOCK_CSV_WAY_H
#define BLOCK_CSV_WAY_H

#include "block/csv/volume/volume.h"

typedef struct CsvWay {
    BdrvChild *file;            /* to the node of the volume */
    /* One of these, which cannot be closed or drained meanwhile */
    BlockDriverState *disk;
    BlockBackend *blk;
} CsvWay;

/*
 * Find a way to the volume on @bs, which is writable if @write.  Draining
 * waits until csv_way_close().
 */
bool coroutine_fn GRAPH_UNLOCKED
csv_way_open(CsvWay *way, BlockDriverState *bs, bool write, Error **errp);
void coroutine_fn GRAPH_UNLOCKED csv_way_close(CsvWay *way);

#endif /* BLOCK_CSV_WAY_H */
