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
/* The very first run says little, and ends after so long, in microseconds. */
#define FIRST_MOST      40000
/*
 * When the best costs so many times what it did, pages or link are others, and
 * what is known of the other method means nothing.
 */
#define OTHER_WORLD     2
/* So much cheaper must what takes more CPU be. */
#define WORTH           0.9

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

static void choice_learn(PacketChoice *c, int64_t now)
{
    double *cost = &c->cost[choice_method(c)];
    double new;

    if (!c->counted) {
        return;
    }
    new = (double)(now - c->counts_from) / c->counted;
    if (!c->trial && *cost && new > OTHER_WORLD * *cost) {
        memset(c->cost, 0, sizeof(c->cost));
        *cost = new;
    }
    /* A trial is rare; what was long ago says little. */
    *cost = *cost && !c->trial ? *cost + WEIGHT * (new - *cost) : new;
}

static PacketMethod choice_cheapest(const PacketChoice *c, unsigned methods)
{
    double limit = WORTH * c->cost[PACKET_RAW];
    PacketMethod best = PACKET_RAW;

    for (unsigned m = PACKET_RAW + 1; m < methods; m++) {
        if (c->cost[m] && c->cost[m] < limit) {
            limit = c->cost[m];
            best = m;
        }
    }
    return best;
}

static void choice_decide(PacketChoice *c, unsigned methods)
{
    PacketMethod best = choice_cheapest(c, methods);

    if (c->trial) {
        bool clear = c->cost[best] * HOPELESS < c->cost[c->other];

        c->runs = 0;
        c->interval = best == c->best && clear ?
                      MIN(INTERVAL_MAX, c->interval * 2) : INTERVAL_MIN;
    }
    c->best = best;
}

/* The run has ended: what is the next one? */
static void choice_turn(PacketChoice *c, int64_t now, unsigned methods)
{
    choice_learn(c, now);
    choice_decide(c, methods);
    c->interval = MAX(c->interval, INTERVAL_MIN);
    if (c->trial) {
        c->trial = false;
    } else if (choice_find_unknown(c, methods)) {
        c->trial = true;
    } else if (++c->runs >= c->interval) {
        choice_find_other(c, methods);
        c->trial = true;
    }
    c->packets = 0;
    c->over = false;
}

void packet_choice_know_raw(PacketChoice *c, double cost)
{
    if (!c->cost[PACKET_RAW]) {
        c->cost[PACKET_RAW] = cost;
        c->over = c->packets && choice_method(c) == PACKET_RAW;
    }
}

/* Has the trial taken longer than half a run of the best should? */
static bool choice_hopeless(const PacketChoice *c, int64_t now)
{
    double half_run = c->pages / (double)c->packets * RUN / 2;

    if (!c->cost[c->best]) {
        return now - c->begun > FIRST_MOST;
    }
    return c->trial &&
           now - c->begun > HOPELESS * c->cost[c->best] * half_run;
}

PacketMethod packet_choice_next(PacketChoice *c, int64_t now, unsigned pages,
                                unsigned methods)
{
    if (c->packets == RUN || c->over) {
        choice_turn(c, now, methods);
    } else if (c->packets && choice_hopeless(c, now)) {
        if (!c->counted) {
            c->counts_from = c->begun;
            c->counted = c->pages;
        }
        choice_turn(c, now, methods);
    }
    if (!c->packets) {
        c->begun = now;
        c->pages = c->counted = 0;
    }
    if (c->packets == RUN / 2) {
        c->counts_from = now;
        c->counted = 0;
    }
    if (c->packets >= RUN / 2) {
        c->counted += pages;
    }
    c->pages += pages;
    c->packets++;
    return choice_method(c);
}
