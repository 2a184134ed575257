/*
 * Cluster shared volume: check and repair
 *
 * An independent walk over what stands on the volume.  It uses the codec, the
 * records and the membership, and not the driver's map in memory: what the
 * driver believes is what is to be judged here.
 *
 * From the bottom up: finding.c what is found and told; claimed.c the segment
 * table as read; disk-space.c, map.c, disk.c a disk's segments, map, and header
 * and journal; segments.c the segment table; records.c members and disk
 * records; check.c the entry points, the superblock, and claims for repair.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BLOCK_CSV_CHECK_H
#define BLOCK_CSV_CHECK_H

#include "block/csv/disk/disk.h"

/*
 * Check the disk whose record is @rec (any state but unused), and repair what
 * @fix allows.  To repair, the disk is claimed for the time of the check, so
 * it must not be open in this process, @file must be writable, and an owner
 * that lives, or may live, makes it a check without repair, with a message
 * that names the owner.
 *
 * A disk that is not ours may change under our eyes; what looks wrong is then
 * looked at again several times, and only what stays is reported.
 *
 * Findings go to stderr, one line each, and are counted in @res: corruptions
 * and leaks that stay, or *_fixed.  Adds to res->bfi; image_end_offset is
 * raised to what the disk uses.  Returns 0 when the check was complete,
 * whatever it found; else -errno with @errp set.
 */
int coroutine_fn GRAPH_RDLOCK
csv_check_disk(CsvVolume *vol, BdrvChild *file, const CsvDiskRecord *rec,
               BdrvCheckResult *res, BdrvCheckMode fix, Error **errp);

/*
 * Check superblock, members, disk records, the segment table, and each disk
 * as csv_check_disk() does.  What belongs to no disk alone, disk records and
 * the segment table, is made anew only if there is no other member.
 */
int coroutine_fn GRAPH_RDLOCK
csv_check_volume(CsvVolume *vol, BdrvChild *file, BdrvCheckResult *res,
                 BdrvCheckMode fix, Error **errp);

#endif /* BLOCK_CSV_CHECK_H */
