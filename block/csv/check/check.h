/*
 * Cluster shared volume: check and repair
 *
 * An independent walk over the volume.  It uses the codec, the records and the
 * membership, but not the driver's map in memory, so that it also finds bugs of
 * the driver.
 *
 * From the bottom up: finding.c collects and reports findings; claimed.c reads
 * the segment table; disk-space.c, map.c and disk.c check a disk's segments,
 * its map, its header and journal; segments.c checks the segment table;
 * records.c checks members and disk records; check.c has the entry points,
 * checks the superblock, and claims disks for repair.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BLOCK_CSV_CHECK_H
#define BLOCK_CSV_CHECK_H

#include "block/csv/disk/disk.h"

/*
 * Check the disk of record @rec (in any state but unused), and repair what @fix
 * permits.  A repair claims the disk until the check ends, so the disk must not
 * be open in this process, and @file must be writable.  If the disk has an
 * owner that is, or may be, alive, it is checked but not repaired, and a
 * message names the owner.
 *
 * A disk of another member may change during the check, so it is checked
 * several times, and only errors that persist are reported.
 *
 * Findings go to stderr, one line each, and are counted in @res: remaining
 * corruptions and leaks, or *_fixed.  Adds to res->bfi, and raises
 * res->image_end_offset to the end of what the disk uses.  Returns 0 if the
 * check was complete, whatever it found; else -errno with @errp set.
 */
int coroutine_fn GRAPH_RDLOCK
csv_check_disk(CsvVolume *vol, BdrvChild *file, const CsvDiskRecord *rec,
               BdrvCheckResult *res, BdrvCheckMode fix, Error **errp);

/*
 * Check the superblock, members, disk records, the segment table, and each disk
 * as csv_check_disk() does.  Disk records and the segment table are shared, so
 * they are rebuilt only if there is no other member.
 */
int coroutine_fn GRAPH_RDLOCK
csv_check_volume(CsvVolume *vol, BdrvChild *file, BdrvCheckResult *res,
                 BdrvCheckMode fix, Error **errp);

#endif /* BLOCK_CSV_CHECK_H */
