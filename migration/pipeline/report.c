/*
 * Migration pipeline: the parts of the blackout
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/migration.h"
#include "qapi/util.h"
#include "qemu/lockable.h"
#include "qemu/thread.h"
#include "qemu/timer.h"
#include "current.h"
#include "report.h"
#include "trace.h"

/*
 * PONG values with the destination's times; the last one is the total.  The
 * lower bits are microseconds.
 */
#define PONG_CLAIM      0x53000000
#define PONG_START      0x54000000
#define PONG_TOTAL      0x52000000
#define PONG_TIME       0x00ffffff

struct PipelineReport {
    QemuMutex lock;
    bool active;
    bool awaits_packet;         /* atomic */
    int64_t begun, last;        /* in microseconds; begun 0: no report */
    /* times on the other side; 0: unknown */
    int64_t there, there_claim, there_start;
    int64_t heard;              /* when they arrived; 0: not yet */
    int64_t first_packet;       /* after the end; 0: none yet */
    int64_t time[MIGRATE_PIPELINE_PART__MAX];
    bool seen[MIGRATE_PIPELINE_PART__MAX];
    /* in the order of their first mark */
    MigratePipelinePart order[MIGRATE_PIPELINE_PART__MAX];
    unsigned parts;
};

PipelineReport *migration_report_new(void)
{
    PipelineReport *r = g_new0(PipelineReport, 1);

    qemu_mutex_init(&r->lock);
    return r;
}

static int64_t report_now(void)
{
    return qemu_clock_get_us(QEMU_CLOCK_REALTIME);
}

/* Called with the lock held */
static void report_clear(bool active)
{
    PipelineReport *r = migration_pipeline()->report;

    r->active = active;
    r->begun = r->last = active ? report_now() : 0;
    r->there = r->there_claim = r->there_start = 0;
    r->heard = 0;
    r->first_packet = 0;
    qatomic_set(&r->awaits_packet, false);
    memset(r->time, 0, sizeof(r->time));
    memset(r->seen, 0, sizeof(r->seen));
    r->parts = 0;
}

void migration_report_reset(void)
{
    PipelineReport *r = migration_pipeline()->report;

    QEMU_LOCK_GUARD(&r->lock);
    report_clear(false);
}

void migration_report_begin(void)
{
    PipelineReport *r = migration_pipeline()->report;

    QEMU_LOCK_GUARD(&r->lock);
    report_clear(true);
}

void migration_report_begin_once(void)
{
    PipelineReport *r = migration_pipeline()->report;

    QEMU_LOCK_GUARD(&r->lock);
    if (!r->active) {
        report_clear(true);
    }
}

/* Called with the lock held */
static void report_add(MigratePipelinePart part, int64_t until)
{
    PipelineReport *r = migration_pipeline()->report;

    if (!r->seen[part]) {
        assert(r->parts < ARRAY_SIZE(r->order));
        r->seen[part] = true;
        r->order[r->parts++] = part;
    }
    r->time[part] += until - r->last;
    trace_migration_pipeline_part(MigratePipelinePart_str(part),
                                  until - r->last, until - r->begun);
    r->last = until;
}

/*
 * The destination has sent its times.  It began to load while the device state
 * was still being sent: count only the load time after that, so that parts do
 * not overlap.  Called with the lock held.
 */
static void report_add_remote(int64_t now)
{
    PipelineReport *r = migration_pipeline()->report;
    int64_t start, claim;

    if (!r->heard) {
        report_add(MIGRATE_PIPELINE_PART_REMOTE, now);
        return;
    }
    /* The guest has been running since; later work does not count. */
    now = MAX(r->last, r->heard);
    report_add(MIGRATE_PIPELINE_PART_WIRE,
               MAX(r->last, now - r->there));
    start = MAX(r->last, now - r->there_start);
    claim = MAX(r->last, start - r->there_claim);
    report_add(MIGRATE_PIPELINE_PART_LOAD, claim);
    report_add(MIGRATE_PIPELINE_PART_CLAIM, start);
    report_add(MIGRATE_PIPELINE_PART_START, now);
}

void migration_report_mark(MigratePipelinePart part)
{
    PipelineReport *r = migration_pipeline()->report;
    int64_t now = report_now();

    QEMU_LOCK_GUARD(&r->lock);
    if (!r->active) {
        return;
    }
    if (part == MIGRATE_PIPELINE_PART_REMOTE) {
        report_add_remote(now);
    } else {
        report_add(part, now);
    }
}

bool migration_report_end(void)
{
    PipelineReport *r = migration_pipeline()->report;

    QEMU_LOCK_GUARD(&r->lock);
    r->active = false;
    return r->begun;
}

bool migration_report_end_here(MigrationIncomingState *mis)
{
    PipelineReport *r = migration_pipeline()->report;
    int64_t total, claim, start;
    bool tell;

    WITH_QEMU_LOCK_GUARD(&r->lock) {
        total = r->last - r->begun;
        claim = r->time[MIGRATE_PIPELINE_PART_CLAIM];
        start = r->time[MIGRATE_PIPELINE_PART_START];
    }
    tell = migration_report_end() && mis->to_src_file;
    if (tell) {
        migrate_send_rp_pong(mis, PONG_CLAIM | MIN(claim, PONG_TIME));
        migrate_send_rp_pong(mis, PONG_START | MIN(start, PONG_TIME));
        migrate_send_rp_pong(mis, PONG_TOTAL | MIN(total, PONG_TIME));
    }
    qatomic_set(&r->awaits_packet, true);
    return tell;
}

void migration_report_pong(uint32_t value)
{
    PipelineReport *r = migration_pipeline()->report;
    uint32_t time = value & PONG_TIME;

    if (time == PONG_TIME) {
        return;
    }
    QEMU_LOCK_GUARD(&r->lock);
    switch (value & ~PONG_TIME) {
    case PONG_CLAIM:
        r->there_claim = time;
        break;
    case PONG_START:
        r->there_start = time;
        break;
    case PONG_TOTAL:
        r->there = time;
        r->heard = report_now();
        break;
    }
}

int64_t migration_report_time(MigratePipelinePart part)
{
    PipelineReport *r = migration_pipeline()->report;

    QEMU_LOCK_GUARD(&r->lock);
    return r->time[part];
}

int64_t migration_report_since(void)
{
    PipelineReport *r = migration_pipeline()->report;

    QEMU_LOCK_GUARD(&r->lock);
    return r->active ? report_now() - r->last : 0;
}

int64_t migration_report_total(void)
{
    PipelineReport *r = migration_pipeline()->report;

    QEMU_LOCK_GUARD(&r->lock);
    return r->begun ? r->last - r->begun : 0;
}

void migration_report_nic_packet(void)
{
    PipelineReport *r = migration_pipeline()->report;

    if (likely(!qatomic_read(&r->awaits_packet))) {
        return;
    }
    QEMU_LOCK_GUARD(&r->lock);
    if (qatomic_xchg(&r->awaits_packet, false)) {
        r->first_packet = report_now() - r->last;
    }
}

MigratePipelineBlackout *migration_report_get(void)
{
    PipelineReport *r = migration_pipeline()->report;
    MigratePipelineBlackout *b;
    MigratePipelineSpanList **tail;

    QEMU_LOCK_GUARD(&r->lock);
    if (!r->begun) {
        return NULL;
    }
    b = g_new0(MigratePipelineBlackout, 1);
    b->total = r->last - r->begun;
    b->has_first_packet = r->first_packet;
    b->first_packet = r->first_packet;
    tail = &b->parts;
    for (unsigned i = 0; i < r->parts; i++) {
        MigratePipelineSpan *span = g_new0(MigratePipelineSpan, 1);

        span->part = r->order[i];
        span->time = r->time[span->part];
        QAPI_LIST_APPEND(tail, span);
    }
    return b;
}
