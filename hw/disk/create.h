/*
 * Disk hot-plug: creating the image
 *
 * A job does it, since writing a preallocated image takes time, and neither the
 * monitor nor the guest may wait for that.  The job is called "ID.create"; its
 * progress is in query-jobs.
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

/* Start the job for disk @id.  False and an error on failure. */
bool disk_create_begin(const char *id, BlockdevCreateOptions *options,
                       Error **errp);

/* Has the job ended?  Then call disk_create_end(). */
bool disk_create_has_ended(const char *id);

/* The same, after waiting briefly: a thin image takes no longer. */
bool disk_create_ends_soon(const char *id);

/* Dismiss the job.  False and an error if it failed. */
bool disk_create_end(const char *id, Error **errp);

#endif /* HW_DISK_CREATE_H */
