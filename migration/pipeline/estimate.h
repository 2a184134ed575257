/*
 * Migration pipeline: how fast memory is sent, and how fast it is dirtied
 *
 * Everything is counted in target pages that are done, whether they were sent
 * whole, compressed or as a delta.  Pending memory is also counted in pages, so
 * their quotient is a time.  Bytes on the wire are another unit: 1 MB on the
 * wire may hold 100 MB of well compressible pages, and a migration that
 * compares the two may wait forever.
 *
 * These are pure functions of samples: no clock, no lock, one thread.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_ESTIMATE_H
#define MIGRATION_PIPELINE_ESTIMATE_H

/* Measured since the start of the migration.  Times in microseconds. */
typedef struct PipelineSample {
    int64_t now;
    uint64_t pages_done;        /* of all passes */
    uint64_t pages_zero;        /* of these, zero pages */
    uint64_t pages_left;        /* dirty at the last sync, and not done */
    uint64_t pages_hot;         /* of these, not sent by this pass */
    uint64_t pages_saved;       /* skipped in a pass, and dirty again */
    int64_t sync_time;          /* in syncs and pauses: nothing was sent */
    int64_t settle_time;        /* of that, waiting for the destination */
    unsigned settles;           /* number of such waits */
    unsigned syncs;             /* number of syncs */
    double link_rate;           /* raw pages per second on the link, or 0 */
    int64_t fixed;              /* blackout without pages */
    int64_t spread;             /* by how much that may be exceeded */
    bool ready;                 /* disks were flushed, so @fixed is valid */
} PipelineSample;

typedef struct PipelineEstimate {
    double page_rate;           /* pages/s, not counting syncs; 0: unknown */
    double dirty_rate;          /* pages/s, each counted once per pass */

    /* private */
    PipelineSample rate_from;   /* start of the page rate's measurement */
    PipelineSample settled;     /* the last time when nothing was in flight */
    PipelineSample last_sync;
} PipelineEstimate;

/* All zeroes is the initial estimate. */

/*
 * Update from @s, which is not older than the previous sample.  True if it is
 * the first one after a sync.
 */
bool pipeline_estimate_add(PipelineEstimate *e, const PipelineSample *s);

/* How long @pages take, in microseconds; INT64_MAX if unknown. */
int64_t pipeline_estimate_time(const PipelineEstimate *e, double pages);

/* How many pages are done in @time microseconds; 0 if unknown. */
uint64_t pipeline_estimate_pages(const PipelineEstimate *e, int64_t time);

#endif /* MIGRATION_PIPELINE_ESTIMATE_H */
