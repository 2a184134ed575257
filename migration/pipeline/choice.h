/*
 * Migration pipeline: how to send a packet of pages
 *
 * Raw, compressed, or the delta to what was sent before?  The best method
 * depends on link, CPU and pages, and may change.  So each channel measures: it
 * sends a run of packets with one method and records the time per page;
 * occasionally it tries another method, and uses the cheapest.  The time
 * includes delays from the link, the other side and the thread that supplies
 * pages.  If methods are equal, because pages are not supplied faster, raw
 * takes less CPU time; if CPU time is short, the work counts twice.
 *
 * The first half of a run does not count: it fills the socket's buffers, which
 * take raw pages at memory speed.  A trial that goes badly is cut short, and
 * the next one is delayed.  Packets of mostly zero pages do not count either,
 * because they are the same for all methods.
 *
 * The first packets are compressed, because raw ones cost more on a slow link
 * than compressed ones on a fast link; then packet_choice_know_raw() corrects
 * that from the link's speed.  If the link is known beforehand to be fast, they
 * are raw, and trials start later.
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

/* All zeroes is the initial state. */
typedef struct PacketChoice {
    PacketMethod best;
    double cost[PACKET_METHODS];    /* microseconds per page; 0: unknown */
    bool told;                      /* raw cost was given, not measured */
    double work[PACKET_METHODS];    /* part of @cost without sending */
    double bytes[PACKET_METHODS];   /* bytes per page */
    unsigned packets;               /* of this run, that count */
    bool fast;                      /* link is fast so far; set at the start */
    bool last;                      /* no time for trials; set later */
    /*
     * If CPU time is short, work slows down the guest and the other side: the
     * cost of a microsecond of work to them; set later
     */
    double work_costs;

    /* private */
    bool begun;                     /* there was a run */
    bool doubted;                   /* a slow raw run was ignored once */
    bool trial;                     /* this run is not of the best method */
    PacketMethod other;             /* but of this one */
    int64_t from;                   /* start of the last packet */
    unsigned sent;                  /* pages in it, if it counts */
    uint64_t pages, counted;        /* of this run; of its second half */
    int64_t time, counted_time;     /* their time, in microseconds */
    int64_t worked;                 /* part of @time without sending */
    uint64_t became;                /* bytes of all @pages */
    unsigned sent_work;             /* work of the last packet, like @sent */
    size_t sent_bytes;
    unsigned runs, interval;        /* since the last trial; between trials */
    bool over;                      /* this run needs no more packets */
} PacketChoice;

/*
 * Choose the method for the next packet, after all before it were sent.  The
 * first @methods are available, at least two, and not fewer than before.  @now
 * is in microseconds.
 */
PacketMethod packet_choice_next(PacketChoice *c, int64_t now,
                                unsigned methods);

/*
 * That packet has @all pages, @pages of them not zero.  Preparing it took @work
 * microseconds; its size is @bytes.
 */
void packet_choice_sent(PacketChoice *c, unsigned pages, unsigned all,
                        unsigned work, size_t bytes);

/*
 * There was a pause after the last packet, so the time since then must not be
 * counted.
 */
void packet_choice_pause(PacketChoice *c);

/*
 * Set the expected cost of a raw page to @cost microseconds, or 0 if it is only
 * known that the link is not slow.  No effect once it has been measured.
 *
 * A nominal link speed cannot be compared with measurements on a shared link.
 * So until raw pages are measured, another method is better if it makes pages
 * smaller, in less time than @cost.
 */
void packet_choice_know_raw(PacketChoice *c, double cost, size_t page_size);

#endif /* MIGRATION_PIPELINE_CHOICE_H */
