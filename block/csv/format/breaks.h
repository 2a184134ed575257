/*
 * Cluster shared volume: wrong orders, for the test of the crash simulation
 *
 * A test that finds nothing proves something only if it would have found it.
 * Each of these is a rule of journal.c, io.c or docs/interop/csv.rst left out.
 * The simulation is built a second time with CSV_TEST_BREAKS, leaves out one
 * after the other, and must notice.  In all other builds none of this is code.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BLOCK_CSV_BREAKS_H
#define BLOCK_CSV_BREAKS_H

typedef enum CsvBreak {
    CSV_BREAK_NONE,

    /* What a flush writes, and in which order */
    CSV_BREAK_ACK_BEFORE_RECORD,    /* done although a commit only began */
    CSV_BREAK_RECORD_BEFORE_DATA,   /* no flush between data and record */
    CSV_BREAK_RECORD_NOT_FLUSHED,   /* no flush behind the record */
    CSV_BREAK_ZEROES_NOT_DURABLE,   /* rule Z without durable zeroes */
    CSV_BREAK_ALWAYS_BLANK,         /* rule Z in a cluster of other data */
    CSV_BREAK_SWAP_NOT_FLUSHED,     /* shared records are not flushed */

    /* Checkpoint and ring */
    CSV_BREAK_PAGES_BEFORE_DATA,
    CSV_BREAK_LEVEL1_BEFORE_LEVEL2,
    CSV_BREAK_TAIL_BEFORE_PAGES,
    CSV_BREAK_TAIL_NOT_FLUSHED,     /* the ring goes on before the new tail */
    CSV_BREAK_RING_OVERRUN,         /* records still needed are overwritten */
    CSV_BREAK_CHAIN_GOES_ON,        /* after a record that failed */
    CSV_BREAK_SETTLE_WITHOUT_PAGES, /* "nothing to replay", and there is */

    /* Replay */
    CSV_BREAK_NO_CRC,               /* a torn record counts */
    CSV_BREAK_NO_EPOCH,             /* the highest sequence counts */
    CSV_BREAK_NO_OWN_RECORD,        /* an owner begins without a record */

    /* What is freed */
    CSV_BREAK_REUSE_EARLY,          /* before the freeing record */
    CSV_BREAK_SEGMENT_EARLY,        /* ... so that others can have it */
    CSV_BREAK_DISCARD_UNSEEN,          /* discard what was written again */
    CSV_BREAK_NO_WAIT,              /* free what writes are on the way to */

    /* What is next to what the guest writes */
    CSV_BREAK_NO_QUEUE,              /* two fill one subcluster at once */
    CSV_BREAK_NO_FILL,              /* backing data is left out */
    CSV_BREAK_GROW_UNCLEARED,
    CSV_BREAK_GROW_BEFORE_CLEAR,

    CSV_BREAK__MAX,
} CsvBreak;

#ifdef CSV_TEST_BREAKS
extern CsvBreak csv_broken;     /* the test's */

static inline bool csv_break(CsvBreak which)
{
    return csv_broken == which;
}
#else
#define csv_break(which) false
#endif

#endif /* BLOCK_CSV_BREAKS_H */
