/*
 * Migration pipeline: do not send what is dirty again anyway
 *
 * Two kinds of pages are not sent while the guest runs: those that were
 * dirtied since the last sync, as far as QEMU knows without asking, and those
 * that are always found dirty (hot-set.h).  All are sent when it has stopped.
 *
 * Only while the pipeline drives a migration; else these do nothing.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_HOT_H
#define MIGRATION_PIPELINE_HOT_H

typedef struct RAMBlock RAMBlock;

/* A migration begins or has ended.  No other thread looks at its memory. */
void migration_hot_reset(void);

/*
 * A sync has added to the bitmaps of the RAM blocks what was dirtied.  @last:
 * nothing may be put off any more, which is also so when the guest does not
 * run.  Returns the number of pages that count twice, since they were put off
 * and were dirtied again.
 *
 * Migration thread, RAMState.bitmap_mutex and RCU read lock held.
 */
uint64_t migration_hot_sync(bool last);

/*
 * Page @page of @block is about to be sent, and its bit in the bitmap was
 * cleared.  Is it dirty again already, and will the next sync find it?  Only
 * as long as pages are put off.  The same thread and lock.
 */
bool migration_hot_skip(RAMBlock *block, unsigned long page);

/* May pages be left out, or be put off at the next sync?  At first they may. */
void migration_hot_permit(bool yes);

/* Pages that are put off now.  Any thread. */
uint64_t migration_hot_pages(void);
/* Times that a page was not sent and then was dirty again.  Any thread. */
uint64_t migration_hot_saved(void);

#endif /* MIGRATION_PIPELINE_HOT_H */
