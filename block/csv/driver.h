/*
 * Cluster shared volume: operations of the BlockDriver outside of driver.c
 *
 * include/block/block_int-common.h has the contract of the operations with the
 * same name.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BLOCK_CSV_DRIVER_H
#define BLOCK_CSV_DRIVER_H

#include "block/csv/disk/disk.h"

#define CSV_OPT_DISK            "disk"
#define CSV_OPT_FORCE_TAKEOVER  "force-takeover"
#define CSV_OPT_CACHE_SIZE      "cache-size"
/* UUID of a disk under creation; lets its creator open it. */
#define CSV_OPT_MAKING          "making"
#define CSV_DEFAULT_DISK        "disk0"
#define CSV_DEFAULT_CACHE_SIZE  (64 * MiB)  /* maps more than 10 TiB */

/* reopen.c */

int csv_reopen_prepare(BDRVReopenState *state, BlockReopenQueue *queue,
                       Error **errp);
void csv_reopen_commit_post(BDRVReopenState *state);
void csv_reopen_abort(BDRVReopenState *state);
/* Claim the disk for writing, even if its node is still read-only. */
int GRAPH_RDLOCK csv_reopen_take(CsvDisk *disk, const QemuUUID *token,
                                 Error **errp);
/* Release the disk, while the node of the volume can still be written. */
int GRAPH_RDLOCK csv_reopen_let_go(CsvDisk *disk, const QemuUUID *token,
                                   Error **errp);

/* leave.c */

/*
 * A disk of @vol became inactive: leave the volume as soon as others own all
 * that this process had there.  Main thread; does no I/O by itself.
 */
void csv_leave_soon(CsvVolume *vol);

/* create.c */

extern QemuOptsList csv_create_opts;
int coroutine_fn GRAPH_UNLOCKED
csv_co_create(BlockdevCreateOptions *opts, Error **errp);
int coroutine_fn GRAPH_UNLOCKED
csv_co_create_opts(BlockDriver *drv, const char *filename, QemuOpts *opts,
                   Error **errp);

/* Bytes of a volume made for one disk of @size bytes that uses @clusters. */
uint64_t csv_volume_bytes(uint64_t size, uint64_t clusters);

/* measure.c */

/*
 * For .bdrv_measure: the size of a volume with one disk that has the size and
 * content of @in_bs or, if that is NULL, the size in option 'size'.
 */
BlockMeasureInfo *csv_measure(QemuOpts *opts, BlockDriverState *in_bs,
                              Error **errp);

/* amend.c */

extern QemuOptsList csv_amend_opts;
int GRAPH_RDLOCK
csv_amend(BlockDriverState *bs, QemuOpts *opts,
          BlockDriverAmendStatusCB *status, void *opaque, bool force,
          Error **errp);
/* False, with a message that names the alternatives. */
bool coroutine_fn GRAPH_RDLOCK
csv_co_can_store_new_dirty_bitmap(BlockDriverState *bs, const char *name,
                                  uint32_t granularity, Error **errp);

#endif /* BLOCK_CSV_DRIVER_H */
