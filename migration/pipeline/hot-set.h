/*
 * Migration pipeline: pages that the guest changes all the time
 *
 * A page that was dirty at two syncs in a row is likely to be dirty at the next
 * one, so sending it before the guest stops is wasted.  Such pages are
 * deferred: removed from the bitmap of pages to send, until they have not been
 * dirtied for a pass, or until the guest stops.
 *
 * Whether that is likely is measured: how many pages that were dirty at two
 * syncs in a row were dirty at the third?  With random writes few are, and then
 * nothing is deferred, because deferred pages prolong the blackout.
 *
 * These are functions of bitmaps: no guest, no lock, one thread.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_HOT_SET_H
#define MIGRATION_PIPELINE_HOT_SET_H

/*
 * The pages of one block of memory.  Either all pages in @twice are deferred,
 * or none; deferred pages are not in the bitmap of pages to send.
 */
typedef struct HotSet {
    unsigned long pages;
    unsigned long *last;        /* dirty at the last sync */
    unsigned long *twice;       /* and at the one before that */
    bool put_off;               /* the latter are deferred */
} HotSet;

/* Counts at a sync, over all blocks */
typedef struct HotCount {
    uint64_t last, last_again;      /* dirty at the last sync; and now */
    uint64_t twice, twice_again;    /* dirty at the last two; and now */
    uint64_t both;                  /* to be sent, and deferred */
} HotCount;

HotSet *hot_set_new(unsigned long pages);
void hot_set_free(HotSet *set);

/*
 * A sync has added dirtied pages to @dirty, the bitmap of pages to send: count
 * them, without a change.
 */
void hot_set_count(const HotSet *set, const unsigned long *dirty,
                   HotCount *count);

/* Is a page that was dirty twice likely to be dirty again? */
bool hot_count_likely(const HotCount *count);

/*
 * After hot_set_count(): deferred pages are to be sent, unless they were
 * dirtied again and @put_off.  Returns the number of pages deferred now.
 */
uint64_t hot_set_sync(HotSet *set, unsigned long *dirty, bool put_off);

/*
 * The same for a sync too soon after another one to be significant: deferred
 * pages stay deferred.
 */
void hot_set_sync_again(HotSet *set, unsigned long *dirty);

/* The last sync: all deferred pages are to be sent. */
void hot_set_end(HotSet *set, unsigned long *dirty);

#endif /* MIGRATION_PIPELINE_HOT_SET_H */
