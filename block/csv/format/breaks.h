/*
 * Cluster shared volume: deliberate bugs, to test the crash simulation
 *
 * Each of these disables one rule of journal.c, io.c or docs/interop/csv.rst.
 * test-csv-breaks is the crash simulation built with CSV_TEST_BREAKS: it
 * enables one bug after the other and fails unless the simulation detects each.
 * In all other builds csv_break() is constant false.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BLOCK_CSV_BREAKS_H
#define BLOCK_CSV_BREAKS_H

typedef enum CsvBreak {
    CSV_BREAK_NONE,

    /* Order of the writes of a flush */
    CSV_BREAK_ACK_BEFORE_RECORD,    /* flush ends before the commit */
    CSV_BREAK_RECORD_BEFORE_DATA,   /* no flush between data and record */
    CSV_BREAK_RECORD_NOT_FLUSHED,   /* no flush after the record */
    CSV_BREAK_ZEROES_NOT_DURABLE,   /* rule Z without durable zeroes */
    CSV_BREAK_ALWAYS_BLANK,         /* rule Z in clusters with old data */
    CSV_BREAK_SWAP_NOT_FLUSHED,     /* shared records are not flushed */

    /* Checkpoint and ring */
    CSV_BREAK_PAGES_BEFORE_DATA,
    CSV_BREAK_LEVEL1_BEFORE_LEVEL2,
    CSV_BREAK_TAIL_BEFORE_PAGES,
    CSV_BREAK_TAIL_NOT_FLUSHED,     /* reuse the ring before the tail */
    CSV_BREAK_RING_OVERRUN,         /* overwrite records still needed */
    CSV_BREAK_CHAIN_GOES_ON,        /* continue after a failed record */
    CSV_BREAK_SETTLE_WITHOUT_PAGES, /* skip replay that is needed */

    /* Replay */
    CSV_BREAK_NO_CRC,               /* accept a torn record */
    CSV_BREAK_NO_EPOCH,             /* compare only sequence numbers */
    CSV_BREAK_NO_OWN_RECORD,        /* new owner writes no first record */

    /* Freed clusters */
    CSV_BREAK_REUSE_EARLY,          /* before the freeing record */
    CSV_BREAK_SEGMENT_EARLY,        /* ... a segment, for other disks */
    CSV_BREAK_DISCARD_UNSEEN,       /* discard what was written since */
    CSV_BREAK_NO_WAIT,              /* free under requests in flight */

    /* Data next to what the guest writes */
    CSV_BREAK_NO_QUEUE,             /* fill a subcluster twice at once */
    CSV_BREAK_NO_FILL,              /* do not copy backing data */
    CSV_BREAK_GROW_UNCLEARED,
    CSV_BREAK_GROW_BEFORE_CLEAR,

    CSV_BREAK__MAX,
} CsvBreak;

#ifdef CSV_TEST_BREAKS
extern CsvBreak csv_broken;     /* set by the test */

static inline bool csv_break(CsvBreak which)
{
    return csv_broken == which;
}
#else
#define csv_break(which) false
#endif

#endif /* BLOCK_CSV_BREAKS_H */
