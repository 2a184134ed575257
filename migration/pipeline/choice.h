/*
 * Migration pipeline: how to send a packet of pages
 *
 * Raw, compressed, or the difference to what was sent before?  What is better
 * depends on link, CPU and pages, and may change.  So each channel measures: a
 * run of packets goes one way, and what a page has cost in time is remembered;
 * now and then there is a run another way, and the cheapest one is used.  That
 * includes whatever the link, the other side and whoever delivers the pages
 * add.  When there is no difference, because pages do not come faster, raw
 * takes less CPU; and when the host has none to spare, the work counts twice.
 *
 * A run's first half does not count: it fills the buffers of the socket, which
 * take raw pages as fast as memory.  A trial that goes badly is cut short, and
 * the next one comes later.  Nor do packets count that are zeroes for the most
 * part, which go all ways alike.
 *
 * The first packets are compressed, for what a slow link loses with raw ones is
 * more than what a fast one loses with these; then whoever knows the link says
 * whether that was right.  If it is known beforehand to be fast, they are raw,
 * and nothing is tried until there was time for that.
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
    bool told;                      /* that of a raw page was never measured */
    double work[PACKET_METHODS];    /* of these, without sending */
    double bytes[PACKET_METHODS];   /* that a page has become */
    unsigned packets;               /* of this run, that count */
    bool fast;                      /* the link, so far; set at the beginning */
    bool last;                      /* there is no time for trials; set later */
    /*
     * CPU time is short, so that work takes from the guest and from the other
     * side: what a microsecond of it costs them; set later
     */
    double work_costs;

    /* private */
    bool begun;                     /* there was a run */
    bool doubted;                   /* a slow raw one did not count */
    bool trial;                     /* this run is not of the best method, */
    PacketMethod other;             /* but of this one */
    int64_t from;                   /* when the last packet began */
    unsigned sent;                  /* pages in it, if it counts */
    uint64_t pages, counted;        /* of this run; of its second half */
    int64_t time, counted_time;     /* that these took, in microseconds */
    int64_t worked;                 /* of @time, and ... */
    uint64_t became;                /* ... bytes of all @pages */
    unsigned sent_work;             /* of the last packet, as @sent */
    size_t sent_bytes;
    unsigned runs, interval;        /* since the last trial; between trials */
    bool over;                      /* this run has nothing more to say */
} PacketChoice;

/*
 * A packet is about to be sent, and all before it have been: how?  There are
 * the first so many @methods, at least two, and not fewer than before.  @now is
 * in microseconds.
 */
PacketMethod packet_choice_next(PacketChoice *c, int64_t now,
                                unsigned methods);

/*
 * That packet has @pages pages which are not all zeroes, of @all.  To prepare
 * it took @work microseconds, and it has become @bytes.
 */
void packet_choice_sent(PacketChoice *c, unsigned pages, unsigned all,
                        unsigned work, size_t bytes);

/*
 * Since the last packet there was a time in which none was to be sent: what it
 * took says nothing.
 */
void packet_choice_pause(PacketChoice *c);

/*
 * Somebody else knows that a raw page costs @cost microseconds, or 0 if all
 * that is known is that the link is not slow.  No effect when it was measured.
 *
 * What one is told of a link, and what one measures while others use it, too,
 * do not compare.  So until raw pages are measured, another method is the
 * better one if it makes less of a page, in less time than that.
 */
void packet_choice_know_raw(PacketChoice *c, double cost, size_t page_size);

#endif /* MIGRATION_PIPELINE_CHOICE_H */
