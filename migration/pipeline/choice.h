/*
 * Migration pipeline: how to send a packet of pages
 *
 * Raw, compressed, or the difference to what was sent before?  What is better
 * depends on link, CPU and pages, and may change.  So each channel measures: a
 * run of packets goes one way, and what a page has cost in time is remembered;
 * now and then there is a run another way, and the cheapest one is used.  That
 * includes whatever the link, the other side and whoever delivers the pages
 * add.  When there is no difference, because pages do not come faster, raw
 * takes less CPU.
 *
 * A run's first half does not count: it fills the buffers of the socket, which
 * take raw pages as fast as memory.  A trial that goes badly is cut short, and
 * the next one comes later.
 *
 * Pure functions, like those of estimate.h; one thread for each PacketChoice.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_CHOICE_H
#define MIGRATION_PIPELINE_CHOICE_H

typedef enum PacketMethod {
    PACKET_RAW,
    PACKET_ZSTD,
    PACKET_DELTA,
    PACKET_METHODS,
} PacketMethod;

/* All zeroes is a choice that knows nothing. */
typedef struct PacketChoice {
    PacketMethod best;
    double cost[PACKET_METHODS];    /* microseconds a page; 0: unknown */

    /* private */
    bool trial;                     /* this run is not of the best method, */
    PacketMethod other;             /* but of this one */
    unsigned packets;               /* of this run */
    uint64_t pages, counted;        /* of this run; of these, those to count */
    int64_t begun, counts_from;     /* of this run */
    unsigned runs, interval;        /* since the last trial; between trials */
    bool over;                      /* this run has nothing more to say */
} PacketChoice;

/*
 * @pages pages are about to be sent, and all before them have been: how?  There
 * are the first so many @methods, at least two, and not fewer than before.
 * @now is in microseconds.
 */
PacketMethod packet_choice_next(PacketChoice *c, int64_t now, unsigned pages,
                                unsigned methods);

/*
 * Nothing is known yet but, from elsewhere, that a raw page costs @cost
 * microseconds: no more of them need be sent to find that out.
 */
void packet_choice_know_raw(PacketChoice *c, double cost);

#endif /* MIGRATION_PIPELINE_CHOICE_H */
