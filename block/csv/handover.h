/*
 * Cluster shared volume: activation of one disk, for the hand-over of all
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BLOCK_CSV_HANDOVER_H
#define BLOCK_CSV_HANDOVER_H

#include "block/csv.h"
#include "csv.h"

/*
 * Join the volume, claim the disk and read its map.  On failure the disk is
 * let go again.  Main thread, graph locked for reading.
 */
int GRAPH_RDLOCK csv_disk_activate(CsvDisk *disk, const QemuUUID *token,
                                   Error **errp);

#endif /* BLOCK_CSV_HANDOVER_H */
