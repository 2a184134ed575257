/*
 * Migration pipeline: how to send a packet of pages
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "choice.h"

/* Packets of a run; as many as fill a socket's buffers twice */
#define RUN             16
/* Runs between two trials, to begin with, and at most */
#define INTERVAL_MIN    16
#define INTERVAL_MAX    512
/* What a new measure counts for */
#define WEIGHT          0.5
/* A trial ends when it has taken so many times what the best would have. */
#define HOPELESS        2
/* The first raw run says little, and ends after so long, in microseconds. */
#define FIRST_MOST      40000
/*
 * When the best costs so many times what it did, pages or link are others, and
 * what is known of the other method means nothing.
 */
#define OTHER_WORLD     2
/*
 * Microseconds that a raw page takes at most where the link is fast: that of 4
 * KiB has 80 MB/s then, in one channel of several.  More where the channel
 * itself has to wait for a CPU.
 */
#define FAST_MOST       50
/* So much cheaper must what takes more CPU be. */
#define WORTH           0.9
/* A packet counts if one page of so many at least is not all zeroes. */
#define SPARSE          8

static PacketMethod choice_method(const PacketChoice *c)
{
    return c->trial ? c->other : c->best;
}

/* Is there a method that nothing is known of?  That is tried first. */
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

/* The others take turns. */
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
    /* A trial is rare; what was long ago says little. */
    *cost = *cost && !c->trial ? *cost + WEIGHT * (new - *cost) : new;
}

/* What a page costs the channel, and all others */
static double choice_cost(const PacketChoice *c, PacketMethod m)
{
    return c->cost[m] + c->work_costs *
                        MAX(0, c->work[m] - c->work[PACKET_RAW]);
}

/* The cheapest one, when raw pages were measured as well */
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

/* The one that makes least of a page, and is ready before a raw one is sent */
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
 * The link was thought to be fast, and raw packets were slow.  The first time
 * that may as well be a thread that did not get a CPU: measure once more.
 */
static void choice_doubt(PacketChoice *c)
{
    if (c->fast && !c->told && !c->doubted && choice_raw_is_slow(c)) {
        c->doubted = true;
        c->cost[PACKET_RAW] = 0;
    }
}

/* The run has ended: what is the next one? */
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
        /* Raw packets are to find that out, and others were a guess. */
        c->over = c->packets && (choice_method(c) == PACKET_RAW) == (cost > 0);
    }
}

/* Has the trial taken longer than half a run of the best should? */
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

/* The last packet is on its way. */
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
