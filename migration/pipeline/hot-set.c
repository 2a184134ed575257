/*
 * Migration pipeline: pages that the guest changes all the time
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitmap.h"
#include "qemu/host-utils.h"
#include "hot-set.h"

/* Minimum number of pages for which this pays and is significant */
#define LEAST_PAGES     256
/* Minimum share of dirty pages that must be dirty again */
#define LIKELY          0.9

HotSet *hot_set_new(unsigned long pages)
{
    HotSet *set = g_new0(HotSet, 1);

    set->pages = pages;
    set->last = bitmap_new(pages);
    set->twice = bitmap_new(pages);
    return set;
}

void hot_set_free(HotSet *set)
{
    if (set) {
        g_free(set->last);
        g_free(set->twice);
        g_free(set);
    }
}

void hot_set_count(const HotSet *set, const unsigned long *dirty,
                   HotCount *count)
{
    for (unsigned long i = 0; i < BITS_TO_LONGS(set->pages); i++) {
        unsigned long again = dirty[i] & set->twice[i];

        count->last += ctpopl(set->last[i]);
        count->last_again += ctpopl(dirty[i] & set->last[i]);
        count->twice += ctpopl(set->twice[i]);
        count->twice_again += ctpopl(again);
        count->both += set->put_off ? ctpopl(again) : 0;
    }
}

bool hot_count_likely(const HotCount *count)
{
    /* Without such pages, use those of one sync. */
    return count->twice >= LEAST_PAGES ?
           count->twice_again >= LIKELY * count->twice :
           count->last >= LEAST_PAGES &&
           count->last_again >= LIKELY * count->last;
}

uint64_t hot_set_sync(HotSet *set, unsigned long *dirty, bool put_off)
{
    uint64_t n = 0;

    for (unsigned long i = 0; i < BITS_TO_LONGS(set->pages); i++) {
        unsigned long back = set->put_off ? set->twice[i] : 0;
        unsigned long twice = dirty[i] & set->last[i];

        set->last[i] = dirty[i];
        set->twice[i] = twice;
        dirty[i] |= back;
        if (put_off) {
            dirty[i] &= ~twice;
            n += ctpopl(twice);
        }
    }
    set->put_off = put_off;
    return n;
}

void hot_set_sync_again(HotSet *set, unsigned long *dirty)
{
    if (set->put_off) {
        bitmap_andnot(dirty, dirty, set->twice, set->pages);
    }
}

void hot_set_end(HotSet *set, unsigned long *dirty)
{
    if (set->put_off) {
        bitmap_or(dirty, dirty, set->twice, set->pages);
    }
    set->put_off = false;
}
