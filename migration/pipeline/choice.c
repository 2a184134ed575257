/*
 * Migration pipeline: how to send a packet of pages
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "choice.h"

/* Packets in a run, enough to fill a socket's buffers twice */
#define RUN             16
/* Runs between two trials, initially and at most */
#define INTERVAL_MIN    16
#define INTERVAL_MAX    512
/* Weight of a new measurement */
#define WEIGHT          0.5
/* A trial ends if it takes this many times as long as the best method. */
#define HOPELESS        2
/* Maximum time of the first raw run, in microseconds: it is not reliable. */
#define FIRST_MOST      40000
/*
 * If the best method costs this many times what it did, the pages or the link
 * have changed, and the costs of the other methods are obsolete.
 */
#define OTHER_WORLD     2
/*
 * Maximum microseconds per raw page on a fast link: for 4 KiB, that is 80 MB/s
 * in one channel of several.  More if the channel itself waits for a CPU.
 */
#define FAST_MOST       50
/* A method that takes more CPU must be cheaper by this factor. */
#define WORTH           0.9
/* A packet counts if at least one in this many pages is not zero. */
#define SPARSE          8

static PacketMethod choice_method(const PacketChoice *c)
{
    return c->trial ? c->other : c->best;
}

/* Find a method of unknown cost, which is tried first. */
static bool choice_find_unknown(PacketChoice *c, unsigned methods)
{
    for (unsigned m = 0; m < methods; m++) {
        if (m != c->best && !c->cost[m]) {
            c->other = m;
            return true;
        }
    }
    return false;
}

/* The other methods take turns in trials. */
static void choice_find_other(PacketChoice *c, unsigned methods)
{
    if (!choice_find_unknown(c, methods)) {
        do {
            c->other = (c->other + 1) % methods;
        } while (c->other == c->best);
    }
}

static void choice_learn(PacketChoice *c)
{
    PacketMethod m = choice_method(c);
    double *cost = &c->cost[m];
    double new;

    if (!c->counted) {
        return;
    }
    new = (double)c->counted_time / c->counted;
    c->work[m] = (double)c->worked / c->pages;
    c->bytes[m] = (double)c->became / c->pages;
    if (m == PACKET_RAW) {
        c->told = false;
    }
    if (!c->told && !c->trial && *cost && new > OTHER_WORLD * *cost) {
        memset(c->cost, 0, sizeof(c->cost));
        *cost = new;
    }
    /* Trials are rare, so the previous one is obsolete. */
    *cost = *cost && !c->trial ? *cost + WEIGHT * (new - *cost) : new;
}

/* Cost of a page to the channel and to others */
static double choice_cost(const PacketChoice *c, PacketMethod m)
{
    return c->cost[m] + c->work_costs *
                        MAX(0, c->work[m] - c->work[PACKET_RAW]);
}

/* The cheapest method, if raw pages were measured */
static PacketMethod choice_cheapest(const PacketChoice *c, unsigned methods)
{
    double limit = WORTH * c->cost[PACKET_RAW];
    PacketMethod best = PACKET_RAW;

    for (unsigned m = PACKET_RAW + 1; m < methods; m++) {
        if (c->cost[m] && choice_cost(c, m) < limit) {
            limit = choice_cost(c, m);
            best = m;
        }
    }
    return best;
}

/* The method with the smallest pages that is faster than sending raw ones */
static PacketMethod choice_smallest(const PacketChoice *c, unsigned methods)
{
    double limit = WORTH * c->bytes[PACKET_RAW];
    PacketMethod best = PACKET_RAW;

    for (unsigned m = PACKET_RAW + 1; m < methods; m++) {
        if (c->cost[m] && c->bytes[m] < limit &&
            c->work[m] < c->cost[PACKET_RAW]) {
            limit = c->bytes[m];
            best = m;
        }
    }
    return best;
}

static void choice_decide(PacketChoice *c, unsigned methods)
{
    PacketMethod best = c->told ? choice_smallest(c, methods) :
                                  choice_cheapest(c, methods);

    if (c->trial) {
        bool clear = c->cost[best] * HOPELESS < c->cost[c->other];

        c->runs = 0;
        c->interval = best == c->best && clear ?
                      MIN(INTERVAL_MAX, c->interval * 2) : INTERVAL_MIN;
    }
    c->best = best;
}

static bool choice_raw_is_slow(const PacketChoice *c)
{
    return c->cost[PACKET_RAW] > FAST_MOST * (1 + c->work_costs);
}

/*
 * Raw packets were slow although the link is supposed to be fast.  The first
 * time, the thread may just not have got a CPU: measure once more.
 */
static void choice_doubt(PacketChoice *c)
{
    if (c->fast && !c->told && !c->doubted && choice_raw_is_slow(c)) {
        c->doubted = true;
        c->cost[PACKET_RAW] = 0;
    }
}

/* The run has ended: choose the next one. */
static void choice_turn(PacketChoice *c, unsigned methods)
{
    choice_learn(c);
    choice_doubt(c);
    choice_decide(c, methods);
    c->fast = c->fast && !choice_raw_is_slow(c);
    c->interval = MAX(c->interval, INTERVAL_MIN);
    if (c->trial || c->last) {
        c->trial = false;
    } else if (!c->fast && choice_find_unknown(c, methods)) {
        c->trial = true;
    } else if (++c->runs >= c->interval) {
        choice_find_other(c, methods);
        c->trial = true;
    }
    c->packets = 0;
    c->pages = c->counted = c->became = 0;
    c->time = c->counted_time = c->worked = 0;
    c->over = false;
}

void packet_choice_know_raw(PacketChoice *c, double cost, size_t page_size)
{
    if (c->told) {
        c->cost[PACKET_RAW] = cost;
        c->told = cost > 0;
        c->over = c->packets && !c->told;
    } else if (!c->cost[PACKET_RAW]) {
        c->cost[PACKET_RAW] = cost;
        c->bytes[PACKET_RAW] = page_size;
        c->told = cost > 0;
        /* End a raw run if the cost is now given, another run if it is not. */
        c->over = c->packets && (choice_method(c) == PACKET_RAW) == (cost > 0);
    }
}

/* Has the trial taken longer than half a run of the best method would? */
static bool choice_hopeless(const PacketChoice *c)
{
    if (!c->packets) {
        return false;
    }
    if (!c->cost[c->best]) {
        return !c->trial && c->time > FIRST_MOST;
    }
    return c->trial && !c->told && c->time > HOPELESS * c->cost[c->best] *
                                 c->pages / c->packets * RUN / 2;
}

/* The last packet has been sent. */
static void choice_count(PacketChoice *c, int64_t now)
{
    int64_t took = now - c->from;

    if (!c->sent) {
        return;
    }
    c->packets++;
    c->pages += c->sent;
    c->time += took;
    c->worked += c->sent_work;
    c->became += c->sent_bytes;
    if (c->packets > RUN / 2) {
        c->counted += c->sent;
        c->counted_time += took;
    }
    c->sent = 0;
}

void packet_choice_sent(PacketChoice *c, unsigned pages, unsigned all,
                        unsigned work, size_t bytes)
{
    c->sent = pages * SPARSE >= all ? pages : 0;
    c->sent_work = work;
    c->sent_bytes = bytes;
}

void packet_choice_pause(PacketChoice *c)
{
    c->sent = 0;
}

PacketMethod packet_choice_next(PacketChoice *c, int64_t now, unsigned methods)
{
    if (!c->begun) {
        c->begun = true;
        c->trial = !c->fast;
        c->other = PACKET_ZSTD;
    }
    choice_count(c, now);
    if (c->packets == RUN || c->over || (c->last && c->trial)) {
        choice_turn(c, methods);
    } else if (choice_hopeless(c)) {
        if (!c->counted) {
            c->counted_time = c->time;
            c->counted = c->pages;
        }
        choice_turn(c, methods);
    }
    c->from = now;
    return choice_method(c);
}
