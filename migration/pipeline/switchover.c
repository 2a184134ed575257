/*
 * Migration pipeline: when a migration switches over
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
#include "migration/qemu-file.h"
#include "migration/ram.h"
#include "migration/savevm.h"
#include "qemu/thread.h"
#include "qemu/timer.h"
#include "system/runstate.h"
#include "adaptive.h"
#include "current.h"
#include "history.h"
#include "hot.h"
#include "pipeline.h"
#include "quiesce.h"
#include "report.h"
#include "switchover.h"
#include "trace.h"

/* Disks are flushed once at most this many times the threshold is pending. */
#define NEAR                4
/* Maximum wait of a plain migration for that, in microseconds */
#define QUIESCE_PATIENCE    1000000
/* Our pings have values above this one; QEMU's own are small. */
#define PING                0x51500000
/*
 * Minimum wait for the answer if the deadline is near, and maximum, in
 * milliseconds.  A destination that takes longer lacks CPU time, and would
 * continue to.
 */
#define SETTLE_LEAST        50
#define SETTLE_MOST         1000
/* How often to check whether the migration has been cancelled */
#define SETTLE_SLICE        50

struct PipelineSwitchover {
    int64_t sync_begun;
    int64_t sync_time;          /* in syncs and pauses, in microseconds */
    int64_t sync_last;
    /*
     * The shortest one after the first: the time without contention by vCPUs,
     * as in the blackout
     */
    int64_t sync_least;
    unsigned syncs;
    int64_t settle_time;        /* of @sync_time */
    unsigned settles;
    int64_t waits_since;        /* wait for the disks; 0: none */
    PipelineEstimate estimate;

    /* The members above are reset when a migration begins. */
    struct { } end_reset_fields;

    uint32_t pinged;            /* value of the last ping; atomic */
    QemuSemaphore ponged;       /* its answer has arrived */
};

PipelineSwitchover *migration_switchover_new(void)
{
    PipelineSwitchover *sw = g_new0(PipelineSwitchover, 1);

    sw->pinged = PING;
    qemu_sem_init(&sw->ponged, 0);
    return sw;
}

static int64_t switchover_now(void)
{
    return qemu_clock_get_us(QEMU_CLOCK_REALTIME);
}

void migration_pipeline_reset(void)
{
    memset(migration_pipeline()->switchover, 0,
           offsetof(PipelineSwitchover, end_reset_fields));
    migration_quiesce_reset();
}

void migration_pipeline_sync_begin(void)
{
    PipelineSwitchover *sw = migration_pipeline()->switchover;

    sw->sync_begun = switchover_now();
}

void migration_pipeline_sync_end(void)
{
    PipelineSwitchover *sw = migration_pipeline()->switchover;

    sw->sync_last = switchover_now() - sw->sync_begun;
    sw->sync_time += sw->sync_last;
    sw->sync_least = sw->syncs++ > 1 ? MIN(sw->sync_least, sw->sync_last)
                                     : sw->sync_last;
    migration_report_mark(MIGRATE_PIPELINE_PART_SYNC);
}

void migration_pipeline_rested(int64_t time)
{
    PipelineSwitchover *sw = migration_pipeline()->switchover;

    sw->sync_time += time;
}

void migration_pipeline_settle(MigrationState *s, int64_t most)
{
    PipelineSwitchover *sw = migration_pipeline()->switchover;
    int64_t begun = switchover_now(), took;

    if (!s->rp_state.rp_thread_created) {
        return;
    }
    most = MIN(MAX(most, SETTLE_LEAST * 1000), SETTLE_MOST * 1000);
    while (qemu_sem_timedwait(&sw->ponged, 0) == 0) {
        /* discard late answers */
    }
    qatomic_set(&sw->pinged, sw->pinged + 1);
    qemu_savevm_send_ping(s->to_dst_file, sw->pinged);
    while (qemu_sem_timedwait(&sw->ponged, SETTLE_SLICE) < 0 &&
           switchover_now() - begun < most &&
           qatomic_read(&s->state) == MIGRATION_STATUS_ACTIVE &&
           !qemu_file_get_error(s->to_dst_file)) {
        /* The guest keeps running. */
    }
    took = switchover_now() - begun;
    trace_migration_pipeline_settled(took);
    migration_pipeline_rested(took);
    sw->settle_time += took;
    sw->settles++;
    migration_adaptive_paused();
}

void migration_pipeline_pong(uint32_t value)
{
    PipelineSwitchover *sw = migration_pipeline()->switchover;

    if (value == qatomic_read(&sw->pinged)) {
        qemu_sem_post(&sw->ponged);
    }
    migration_report_pong(value);
}

PipelineSample migration_pipeline_sample(MigrationState *s, uint64_t pending)
{
    PipelineSwitchover *sw = migration_pipeline()->switchover;
    uint64_t zero = stat64_get(&mig_stats.zero_pages);
    int64_t flush = migration_quiesce_time();
    PipelineSample sample = {
        .now = switchover_now() - s->start_time * 1000,
        .pages_done = stat64_get(&mig_stats.normal_pages) + zero +
                      xbzrle_counters.pages,
        .pages_zero = zero,
        .pages_left = DIV_ROUND_UP(pending, qemu_target_page_size()),
        .pages_hot = migration_hot_pages(),
        .pages_saved = migration_hot_saved(),
        .sync_time = sw->sync_time,
        .settle_time = sw->settle_time,
        .settles = sw->settles,
        .syncs = stat64_get(&mig_stats.dirty_sync_count),
        .link_rate = migration_adaptive_link_rate() / qemu_target_page_size(),
        .ready = true,
    };

    /* A guest that does not run has no blackout. */
    if (runstate_is_running()) {
        PipelineCosts costs = migration_history_costs();

        sample.ready = flush >= 0;
        sample.fixed = sw->sync_least + MAX(flush, 0) +
                       migration_history_wire() + costs.total;
        sample.spread = costs.spread;
    }
    return sample;
}

/* The rate is measured from the first sample on. */
static void switchover_look_at(const PipelineSample *sample)
{
    PipelineSwitchover *sw = migration_pipeline()->switchover;
    PipelineEstimate *e = &sw->estimate;

    if (!e->rate_from.now) {
        e->rate_from = *sample;
    }
    pipeline_estimate_add(e, sample);
}

uint64_t migration_pipeline_threshold(MigrationState *s, uint64_t by_wire)
{
    PipelineSwitchover *sw = migration_pipeline()->switchover;
    PipelineSample sample;
    uint64_t by_pages;

    if (migration_in_postcopy()) {
        return by_wire;
    }
    if (migration_pipeline_drives(s)) {
        return 0;
    }
    sample = migration_pipeline_sample(s, ram_bytes_remaining());
    switchover_look_at(&sample);
    if (migrate_avail_switchover_bandwidth()) {
        return by_wire;
    }
    by_pages = qemu_target_page_size() *
               pipeline_estimate_pages(&sw->estimate,
                                       migrate_downtime_limit() * 1000 -
                                       sw->sync_last);
    trace_migration_pipeline_threshold(by_wire, by_pages, sw->sync_last);
    return MAX(by_wire, by_pages);
}

/* A plain migration is about to switch over: must it wait for flushes? */
static bool switchover_waits(void)
{
    PipelineSwitchover *sw = migration_pipeline()->switchover;
    int64_t now = switchover_now();

    if (!runstate_is_running() || migration_quiesce_time() >= 0) {
        return false;
    }
    if (!sw->waits_since) {
        sw->waits_since = now;
    }
    return now - sw->waits_since < QUIESCE_PATIENCE;
}

uint64_t migration_pipeline_decide_plain(MigrationState *s, uint64_t pending)
{
    if (pending / NEAR < s->threshold_size) {
        migration_quiesce();
    }
    if (pending < s->threshold_size && switchover_waits()) {
        g_usleep(PIPELINE_NAP);
        return UINT64_MAX;
    }
    return pending;
}
