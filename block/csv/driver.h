/*
 * Cluster shared volume: operations of the BlockDriver that stand in other
 * files than driver.c
 *
 * What they do and return is what include/block/block_int-common.h says of
 * the operations with these names.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BLOCK_CSV_DRIVER_H
#define BLOCK_CSV_DRIVER_H

#include "csv.h"

/* driver.c, for reopen.c */

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

/* reopen.c */

int csv_reopen_prepare(BDRVReopenState *state, BlockReopenQueue *queue,
                       Error **errp);
void csv_reopen_commit_post(BDRVReopenState *state);
void csv_reopen_abort(BDRVReopenState *state);
/* Begin to write the disk, even if its node is still a read-only one. */
int GRAPH_RDLOCK csv_reopen_take(CsvDisk *disk, const QemuUUID *token,
                                 Error **errp);
/* Write the disk no more, as long as the node of the volume can be written. */
int GRAPH_RDLOCK csv_reopen_let_go(CsvDisk *disk, const QemuUUID *token,
                                   Error **errp);

/* resize.c */

int coroutine_fn GRAPH_RDLOCK
csv_co_truncate(BlockDriverState *bs, int64_t offset, bool exact,
                PreallocMode prealloc, BdrvRequestFlags flags, Error **errp);

/* backing.c */

int coroutine_fn GRAPH_RDLOCK
csv_co_change_backing_file(BlockDriverState *bs, const char *backing_file,
                           const char *backing_fmt);

/* io.c */

int coroutine_fn GRAPH_RDLOCK
csv_co_preadv_part(BlockDriverState *bs, int64_t offset, int64_t bytes,
                   QEMUIOVector *qiov, size_t qiov_offset,
                   BdrvRequestFlags flags);
int coroutine_fn GRAPH_RDLOCK
csv_co_pwritev_part(BlockDriverState *bs, int64_t offset, int64_t bytes,
                    QEMUIOVector *qiov, size_t qiov_offset,
                    BdrvRequestFlags flags);
int coroutine_fn GRAPH_RDLOCK
csv_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                     BdrvRequestFlags flags);
int coroutine_fn GRAPH_RDLOCK
csv_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes);
int coroutine_fn GRAPH_RDLOCK csv_co_flush(BlockDriverState *bs);
int coroutine_fn GRAPH_RDLOCK
csv_co_block_status(BlockDriverState *bs, bool want_zero,
                    int64_t offset, int64_t bytes, int64_t *pnum,
                    int64_t *map, BlockDriverState **file);

/* create.c */

extern QemuOptsList csv_create_opts;
int coroutine_fn GRAPH_UNLOCKED
csv_co_create(BlockdevCreateOptions *opts, Error **errp);
int coroutine_fn GRAPH_UNLOCKED
csv_co_create_opts(BlockDriver *drv, const char *filename, QemuOpts *opts,
                   Error **errp);

/* amend.c */

extern QemuOptsList csv_amend_opts;
int GRAPH_RDLOCK
csv_amend(BlockDriverState *bs, QemuOpts *opts,
          BlockDriverAmendStatusCB *status, void *opaque, bool force,
          Error **errp);
/* It cannot, and says what to do instead. */
bool coroutine_fn GRAPH_RDLOCK
csv_co_can_store_new_dirty_bitmap(BlockDriverState *bs, const char *name,
                                  uint32_t granularity, Error **errp);

#endif /* BLOCK_CSV_DRIVER_H */
