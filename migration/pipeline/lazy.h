/*
 * Migration pipeline: the guest runs while its memory is read
 *
 * A guest that is restored from the volume needs only its device state to run.
 * Pages that it touches are read on demand (userfaultfd), the others
 * sequentially in the background.  Until then it depends on the volume with the
 * state, as it always does on that of its disks: a failed read is retried, and
 * threads that touched the page wait.
 *
 * The state belongs to MigrationIncomingState and lives as long as the process:
 * the threads outlive migration_incoming_state_destroy(), and the user can ask
 * for figures when all memory is here.
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
 * Result of an UFFDIO_COPY of @len bytes that returned @ret (0 or -errno) and
 * @copied; pages have @page bytes.  Returns the number of bytes that are in
 * place, 0 to try again at once, or -errno if the next page is missing still.
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

typedef struct PipelineLazy PipelineLazy;

/* For MigrationPipelineIncoming */
PipelineLazy *migration_lazy_new(void);

/*
 * Prepare to read memory from @state, and take a reference to it; call @done
 * when all of it is here.  False and an error if the host or the guest's memory
 * does not support it.
 */
bool migration_lazy_begin(PipelineState *state, void (*done)(void),
                          Error **errp);

/*
 * While memory is loaded: @block has the pages set in @bitmap in the state, at
 * its pages_offset.  True if they are read in the background, starting now;
 * false if the caller must read them.
 */
bool migration_lazy_take(RAMBlock *block, const unsigned long *bitmap,
                         long pages);

/* The guest has been accepted here, and there are no more blocks to take. */
void migration_lazy_complete(void);

/*
 * Stop, after a failure or because QEMU exits: missing pages will read as
 * zeroes.  The guest must not run.  No effect if nothing is being read.
 */
void migration_lazy_end(void);

typedef struct LazyInfo {
    uint64_t total, remaining;  /* bytes in the state, and not yet read */
    uint64_t faults;            /* pages that a thread had to wait for */
    int error;                  /* of the last read that failed, or 0 */
} LazyInfo;

/* False if no memory is or was read this way. */
bool migration_lazy_info(LazyInfo *info);

/* Whether there is still memory to read */
bool migration_lazy_active(void);

#endif /* MIGRATION_PIPELINE_LAZY_H */
