/*
 * Cluster shared volume: a disk becomes ours to read or write, and ceases to be
 *
 * Main thread.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BLOCK_CSV_OPEN_H
#define BLOCK_CSV_OPEN_H

#include "block/csv/disk/disk.h"

/*
 * Find the disk that disk->name means, or the only one, and begin to use it
 * as @flags (BDRV_O_*) say.
 */
int GRAPH_RDLOCK csv_open_disk(CsvDisk *disk, int flags, Error **errp);
/*
 * Join the volume, claim the disk and read its map.  On failure the disk is
 * let go again.
 */
int GRAPH_RDLOCK csv_disk_activate(CsvDisk *disk, const QemuUUID *token,
                                   Error **errp);
/*
 * Begin to read.  Of a sealed or shared disk this is said on the volume, if
 * the node of the volume can be written at all.
 */
int GRAPH_RDLOCK csv_disk_begin_read(CsvDisk *disk, Error **errp);
/*
 * Write everything back and let the disk go, see csv_disk_release().  What
 * cannot be settled is left to the next owner's replay.
 */
int GRAPH_RDLOCK csv_disk_let_go(CsvDisk *disk, const QemuUUID *token,
                                 Error **errp);
/* Leave the volume, which the disk is attached to. */
void GRAPH_RDLOCK csv_disk_detach(CsvDisk *disk);

#endif /* BLOCK_CSV_OPEN_H */
