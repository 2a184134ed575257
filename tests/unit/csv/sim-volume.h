/*
 * Volumes on the block device in memory
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_CSV_SIM_VOLUME_H
#define TESTS_UNIT_CSV_SIM_VOLUME_H

#include "qemu/units.h"

#define SIM_SEGMENT_SIZE (8 * MiB)

/*
 * Make a disk of @size bytes, based on the disk @backing if that is not NULL.
 * Before that, if @volume is not 0, make a volume of so many bytes.
 */
void sim_disk_create(const char *disk, uint64_t size, const char *backing,
                     uint64_t volume, Error **errp);

#endif
