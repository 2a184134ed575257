/*
 * Migration pipeline: when a plain migration switches over
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "exec/target_page.h"
#include "migration/migration.h"
#include "migration/migration-stats.h"
#include "migration/misc.h"
#include "migration/options.h"
#include "migration/ram.h"
#include "qemu/timer.h"
#include "estimate.h"
#include "switchover.h"
#include "trace.h"

/* Of the migration that began at start_time */
static struct {
    int64_t start_time;
    int64_t sync_begun;
    int64_t sync_time;          /* of all syncs, in microseconds */
    int64_t sync_last;
    PipelineEstimate estimate;
} pipeline;

static int64_t pipeline_now(void)
{
    return qemu_clock_get_us(QEMU_CLOCK_REALTIME);
}

void migration_pipeline_sync_begin(void)
{
    pipeline.sync_begun = pipeline_now();
}

void migration_pipeline_sync_end(void)
{
    pipeline.sync_last = pipeline_now() - pipeline.sync_begun;
    pipeline.sync_time += pipeline.sync_last;
}

/* The first look at a new migration forgets the one before. */
static void pipeline_look_at(MigrationState *s, const PipelineSample *sample)
{
    if (pipeline.start_time != s->start_time) {
        pipeline.start_time = s->start_time;
        pipeline.estimate = (PipelineEstimate) { .rate_from = *sample };
    }
    pipeline_estimate_add(&pipeline.estimate, sample);
}

uint64_t migration_pipeline_threshold(MigrationState *s, uint64_t by_wire)
{
    size_t page = qemu_target_page_size();
    PipelineSample sample = {
        .now = pipeline_now(),
        /* Pages of zeroes cost next to nothing, and are not what is left. */
        .pages_done = stat64_get(&mig_stats.normal_pages) +
                      xbzrle_counters.pages,
        .sync_time = pipeline.sync_time,
    };
    uint64_t by_pages;

    pipeline_look_at(s, &sample);
    if (migrate_avail_switchover_bandwidth() || migration_in_postcopy()) {
        return by_wire;
    }
    by_pages = page *
               pipeline_estimate_pages(&pipeline.estimate,
                                       migrate_downtime_limit() * 1000 -
                                       pipeline.sync_last);
    trace_migration_pipeline_threshold(by_wire, by_pages, pipeline.sync_last);
    return MAX(by_wire, by_pages);
}
