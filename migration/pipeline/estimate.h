/*
 * Migration pipeline: how fast memory moves, and how fast it changes
 *
 * Everything is counted in pages of the target that are done with, whatever
 * that took: sent whole, compressed or as a difference.
 * What is pending is counted in pages, too, so the one divided by the other
 * is the time that it takes.  Bytes of the wire are of another unit: of pages
 * that compress well 1 MB of wire holds 100 MB, and a migration that compares
 * the two waits for a moment that never comes.
 *
 * These are pure functions of samples: no clock, no lock, one thread.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_ESTIMATE_H
#define MIGRATION_PIPELINE_ESTIMATE_H

/* What was seen, since the start of the migration.  Times in microseconds. */
typedef struct PipelineSample {
    int64_t now;
    uint64_t pages_done;        /* of all passes */
    uint64_t pages_zero;        /* of these, the ones that were all zeroes */
    uint64_t pages_left;        /* found dirty by the last sync, and not done */
    uint64_t pages_hot;         /* of these, what this pass does not send */
    uint64_t pages_saved;       /* not sent in any pass, and dirty again */
    int64_t sync_time;          /* of syncs and rests: nothing was sent */
    int64_t settle_time;        /* of these: until all was there */
    unsigned settles;           /* how often that was waited for */
    unsigned syncs;             /* how many that were */
    double link_rate;           /* pages a second that it takes whole, or 0 */
    int64_t fixed;              /* what the blackout takes without pages, */
    int64_t spread;             /* and it may well be so much longer */
    bool ready;                 /* disks were flushed, so that fixed is true */
} PipelineSample;

typedef struct PipelineEstimate {
    double page_rate;           /* pages a second, without syncs; 0: unknown */
    double dirty_rate;          /* pages a second, each counted once a pass */

    /* private */
    PipelineSample rate_from;   /* where the page rate is measured from */
    PipelineSample settled;     /* the last time when nothing was under way */
    PipelineSample last_sync;
} PipelineEstimate;

/* All zeroes is an estimate that knows nothing. */

/*
 * Learn from @s, which is not older than the sample before.  True if it is
 * the first one after a sync.
 */
bool pipeline_estimate_add(PipelineEstimate *e, const PipelineSample *s);

/* How long @pages take, in microseconds; INT64_MAX if that is unknown. */
int64_t pipeline_estimate_time(const PipelineEstimate *e, double pages);

/* How many pages are done in @time microseconds; 0 if that is unknown. */
uint64_t pipeline_estimate_pages(const PipelineEstimate *e, int64_t time);

#endif /* MIGRATION_PIPELINE_ESTIMATE_H */
