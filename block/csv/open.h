/*
 * Cluster shared volume: activate and inactivate a disk
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
 * Find the disk disk->name or, if that is NULL, the only disk of the volume,
 * and activate it for what @flags (BDRV_O_*) say.
 */
int GRAPH_RDLOCK csv_open_disk(CsvDisk *disk, int flags, Error **errp);
/*
 * Join the volume, claim the disk with @token (may be NULL) and read its map.
 * On failure the disk is released again.
 */
int GRAPH_RDLOCK csv_disk_activate(CsvDisk *disk, const QemuUUID *token,
                                   Error **errp);
/*
 * Read the map, to read the disk.  The use of a sealed or shared disk is
 * recorded on the volume if its node is writable.
 */
int GRAPH_RDLOCK csv_disk_begin_read(CsvDisk *disk, Error **errp);
/*
 * Write everything back and release the disk, see csv_disk_release().  If the
 * map cannot be written, the next owner replays the journal.
 */
int GRAPH_RDLOCK csv_disk_let_go(CsvDisk *disk, const QemuUUID *token,
                                 Error **errp);
/* Leave the volume.  The disk must be attached. */
void GRAPH_RDLOCK csv_disk_detach(CsvDisk *disk);

#endif /* BLOCK_CSV_OPEN_H */
