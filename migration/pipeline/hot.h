/*
 * Migration pipeline: do not send pages that are already dirty again
 *
 * Two kinds of pages are not sent while the guest runs: those that were
 * dirtied since the last sync, as far as QEMU knows without a sync, and those
 * that are dirty at every sync (hot-set.h).  All are sent after it has stopped.
 *
 * This has no effect unless the pipeline drives the migration.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_HOT_H
#define MIGRATION_PIPELINE_HOT_H

typedef struct RAMBlock RAMBlock;
typedef struct PipelineHot PipelineHot;

/* For MigrationPipeline */
PipelineHot *migration_hot_new(void);

/* A migration begins or has ended.  No other thread accesses its memory. */
void migration_hot_reset(void);

/*
 * A sync has added dirtied pages to the bitmaps of the RAM blocks.  @last:
 * pages may no longer be deferred, which is implied if the guest does not run.
 * Returns the number of pages that were counted twice, because they were
 * deferred and dirtied again.
 *
 * Migration thread, RAMState.bitmap_mutex and RCU read lock held.
 */
uint64_t migration_hot_sync(bool last);

/*
 * Page @page of @block is about to be sent, and its bit in the bitmap was
 * cleared.  True if it is already dirty again, so that the next sync will find
 * it; always false unless pages are deferred.  Same thread and lock.
 */
bool migration_hot_skip(RAMBlock *block, unsigned long page);

/* Whether pages may be skipped, or deferred at the next sync; initially true */
void migration_hot_permit(bool yes);

/* Number of pages deferred now.  Any thread. */
uint64_t migration_hot_pages(void);
/* Number of times a skipped page was dirty again.  Any thread. */
uint64_t migration_hot_saved(void);

#endif /* MIGRATION_PIPELINE_HOT_H */
