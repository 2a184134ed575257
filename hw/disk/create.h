/*
 * Disk hot-plug: the image of a disk is made
 *
 * By QEMU's job for that, so that nobody stands still meanwhile: it may take as
 * long as it takes to write all of the image.  The job is named after the disk,
 * "ID.create"; query-jobs has its progress.
 *
 * Main thread, BQL held, in no coroutine.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_DISK_CREATE_H
#define HW_DISK_CREATE_H

#include "qapi/qapi-types-block-core.h"

typedef struct DiskCreate DiskCreate;

/* Begin to make the image of disk @id.  NULL and an error if that fails. */
DiskCreate *disk_create_begin(const char *id, BlockdevCreateOptions *options,
                              Error **errp);

/* Has it ended?  Then disk_create_end() is next. */
bool disk_create_has_ended(const DiskCreate *create);

/* The same, when it had a moment for it: a thin image takes no longer. */
bool disk_create_ends_soon(const DiskCreate *create);

/* What came of it, which has ended; frees @create.  False and an error. */
bool disk_create_end(DiskCreate *create, Error **errp);

#endif /* HW_DISK_CREATE_H */
