/*
 * Migration pipeline: the guest runs while its memory comes in
 *
 * A guest that is restored from the volume needs only its device state to
 * run.  Pages that it touches are read when it does (userfaultfd), the others
 * one after the other meanwhile.  Until all is there it depends on the volume
 * that the state is in, as it always does on that of its disks: when a read
 * fails it is tried again, and whoever touched that page waits.
 *
 * Main thread, with BQL, unless said otherwise.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_LAZY_H
#define MIGRATION_PIPELINE_LAZY_H

#include "exec/cpu-common.h"
#include "state.h"

/*
 * What an UFFDIO_COPY of @len bytes that returned @ret (0 or -errno) and
 * @copied, in pages of @page bytes, has done: so many bytes need nothing more,
 * 0: try again at once, -errno: it has failed, and the page is missing.
 * Pure function; any thread.
 */
static inline int64_t lazy_placed(int ret, int64_t copied, size_t len,
                                  size_t page)
{
    if (!ret) {
        return len;
    }
    if (copied > 0) {
        return copied;
    }
    switch (ret) {
    case -EEXIST:
        return page;
    case -EAGAIN:
        return 0;
    default:
        return ret;
    }
}

/*
 * Get ready to take memory from @state, to which there will be a reference;
 * @done is called when all of it is here.  False and an error if this host or
 * this guest's memory cannot do it.
 */
bool migration_lazy_begin(PipelineState *state, void (*done)(void),
                          Error **errp);

/*
 * In the load of memory: @block, of whose pages those that are set in @bitmap
 * are in the state, at its pages_offset.  True if it is going to come in, false
 * if it is to be read now.  It begins to come in at once.
 */
bool migration_lazy_take(RAMBlock *block, const unsigned long *bitmap,
                         long pages);

/* The guest has been accepted here, and no more memory is to come in. */
void migration_lazy_complete(void);

/*
 * It ends, as it has failed or QEMU does: what is not there yet is going to be
 * read as zeroes.  The guest must not run.  Nothing happens if it does not run.
 */
void migration_lazy_end(void);

typedef struct LazyInfo {
    uint64_t total, remaining;  /* bytes in the state, and not yet here */
    uint64_t faults;            /* pages that somebody had to wait for */
    int error;                  /* of the last read that failed, or 0 */
} LazyInfo;

/* False if no memory is coming in, and none has. */
bool migration_lazy_info(LazyInfo *info);

/* Whether memory is still to come in */
bool migration_lazy_active(void);

#endif /* MIGRATION_PIPELINE_LAZY_H */
