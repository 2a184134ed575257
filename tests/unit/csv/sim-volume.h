/*
 * Volumes on the block device in memory
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_CSV_SIM_VOLUME_H
#define TESTS_UNIT_CSV_SIM_VOLUME_H

#include "qemu/units.h"
#include "system/block-backend.h"

#define SIM_SEGMENT_SIZE (8 * MiB)
#define SIM_DISK_SIZE (16 * MiB)     /* of sim_pair_start() */

/*
 * Make a disk of @size bytes, based on the disk @backing if that is not NULL.
 * Before that, if @volume is not 0, make a volume of so many bytes.
 */
void sim_disk_create(const char *disk, uint64_t size, const char *backing,
                     uint64_t volume, Error **errp);

/* A new device, a volume with the disks "one" and "two", nodes "a" and "b". */
void sim_pair_start(void);
void sim_pair_stop(void);
/* Open the device by another node, as another process would. */
BlockDriverState *sim_node_open(const char *node);
/* Open a disk of the volume on @node for writing. */
BlockBackend *sim_disk_open(const char *node, const char *disk);

#endif
