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
/*
 * When the best costs so many times what it did, pages or link are others, and
 * what is known of the other method means nothing.
 */
#define OTHER_WORLD     2
/* So much cheaper must what takes more CPU be. */
#define WORTH           0.9

static PacketMethod choice_other(PacketMethod m)
{
    return m == PACKET_RAW ? PACKET_ZSTD : PACKET_RAW;
}

static PacketMethod choice_method(const PacketChoice *c)
{
    return c->trial ? choice_other(c->best) : c->best;
}

static void choice_learn(PacketChoice *c, int64_t now)
{
    double *cost = &c->cost[choice_method(c)];
    double new;

    if (!c->counted) {
        return;
    }
    new = (double)(now - c->counts_from) / c->counted;
    if (!c->trial && new > OTHER_WORLD * *cost) {
        c->cost[choice_other(c->best)] = 0;
    }
    /* A trial is rare; what was long ago says little. */
    *cost = *cost && !c->trial ? *cost + WEIGHT * (new - *cost) : new;
}

static void choice_decide(PacketChoice *c)
{
    double raw = c->cost[PACKET_RAW], zstd = c->cost[PACKET_ZSTD];
    PacketMethod best = zstd && zstd < WORTH * raw ? PACKET_ZSTD : PACKET_RAW;

    if (c->trial) {
        bool clear = c->cost[best] * HOPELESS < c->cost[choice_other(best)];

        c->runs = 0;
        c->interval = best == c->best && clear ?
                      MIN(INTERVAL_MAX, c->interval * 2) : INTERVAL_MIN;
    }
    c->best = best;
}

/* The run has ended: what is the next one? */
static void choice_turn(PacketChoice *c, int64_t now)
{
    choice_learn(c, now);
    choice_decide(c);
    c->interval = MAX(c->interval, INTERVAL_MIN);
    c->trial = !c->trial && (!c->cost[choice_other(c->best)] ||
                             ++c->runs >= c->interval);
    c->packets = 0;
}

/* Has the trial taken longer than half a run of the best should? */
static bool choice_hopeless(const PacketChoice *c, int64_t now)
{
    double half_run = c->pages / (double)c->packets * RUN / 2;

    return c->trial && c->cost[c->best] &&
           now - c->begun > HOPELESS * c->cost[c->best] * half_run;
}

PacketMethod packet_choice_next(PacketChoice *c, int64_t now, unsigned pages)
{
    if (c->packets == RUN) {
        choice_turn(c, now);
    } else if (c->packets && choice_hopeless(c, now)) {
        if (!c->counted) {
            c->counts_from = c->begun;
            c->counted = c->pages;
        }
        choice_turn(c, now);
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
