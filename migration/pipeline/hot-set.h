/*
 * Migration pipeline: pages that the guest changes all the time
 *
 * A page that was dirty at two syncs in a row will be dirty at the next one,
 * in all likelihood; what is sent of it before the guest stops is sent in
 * vain.  So such pages are put off: taken out of the bitmap of what is to be
 * sent, until they were not dirtied for a pass, or until the guest stops.
 *
 * Whether it is likely is measured: of those that were dirty at two syncs in a
 * row, how many were at the third?  Of random writes few are, and then nothing
 * is put off, for what comes back after the guest has stopped would make the
 * blackout longer.
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
 * The pages of one block of memory.  Those put off are the ones in @twice, or
 * none; they are not in the bitmap of what is to be sent.
 */
typedef struct HotSet {
    unsigned long pages;
    unsigned long *last;        /* dirtied before the last sync */
    unsigned long *twice;       /* and before the one before that */
    bool put_off;               /* the latter are */
} HotSet;

/* What was seen at a sync, over all blocks */
typedef struct HotCount {
    uint64_t last, last_again;      /* dirty at the last sync; now as well */
    uint64_t twice, twice_again;    /* dirty at the last two; now as well */
    uint64_t both;                  /* to be sent and put off */
} HotCount;

HotSet *hot_set_new(unsigned long pages);
void hot_set_free(HotSet *set);

/*
 * A sync has added what was dirtied to @dirty, the bitmap of pages to be sent:
 * count, and change nothing.
 */
void hot_set_count(const HotSet *set, const unsigned long *dirty,
                   HotCount *count);

/* Is a page that was dirty twice likely to be dirty again? */
bool hot_count_likely(const HotCount *count);

/*
 * After hot_set_count(): what was put off is to be sent again, unless it was
 * dirtied once more and @put_off.  Returns how many pages are put off now.
 */
uint64_t hot_set_sync(HotSet *set, unsigned long *dirty, bool put_off);

/*
 * The same for a sync that comes so soon after another one that it says
 * nothing: what is put off stays so.
 */
void hot_set_sync_again(HotSet *set, unsigned long *dirty);

/* The last sync: all that was put off is to be sent. */
void hot_set_end(HotSet *set, unsigned long *dirty);

#endif /* MIGRATION_PIPELINE_HOT_SET_H */
