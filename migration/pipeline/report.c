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

bool migration_report_awaits_packet;

static struct {
    QemuMutex lock;
    bool active;
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
} report;

static void __attribute__((constructor)) report_init(void)
{
    qemu_mutex_init(&report.lock);
}

static int64_t report_now(void)
{
    return qemu_clock_get_us(QEMU_CLOCK_REALTIME);
}

/* Called with the lock held */
static void report_clear(bool active)
{
    report.active = active;
    report.begun = report.last = active ? report_now() : 0;
    report.there = report.there_claim = report.there_start = 0;
    report.heard = 0;
    report.first_packet = 0;
    qatomic_set(&migration_report_awaits_packet, false);
    memset(report.time, 0, sizeof(report.time));
    memset(report.seen, 0, sizeof(report.seen));
    report.parts = 0;
}

void migration_report_reset(void)
{
    QEMU_LOCK_GUARD(&report.lock);
    report_clear(false);
}

void migration_report_begin(void)
{
    QEMU_LOCK_GUARD(&report.lock);
    report_clear(true);
}

void migration_report_begin_once(void)
{
    QEMU_LOCK_GUARD(&report.lock);
    if (!report.active) {
        report_clear(true);
    }
}

/* Called with the lock held */
static void report_add(MigratePipelinePart part, int64_t until)
{
    if (!report.seen[part]) {
        assert(report.parts < ARRAY_SIZE(report.order));
        report.seen[part] = true;
        report.order[report.parts++] = part;
    }
    report.time[part] += until - report.last;
    trace_migration_pipeline_part(MigratePipelinePart_str(part),
                                  until - report.last, until - report.begun);
    report.last = until;
}

/*
 * The destination has sent its times.  It began to load while the device state
 * was still being sent: count only the load time after that, so that parts do
 * not overlap.  Called with the lock held.
 */
static void report_add_remote(int64_t now)
{
    int64_t start, claim;

    if (!report.heard) {
        report_add(MIGRATE_PIPELINE_PART_REMOTE, now);
        return;
    }
    /* The guest has been running since; later work does not count. */
    now = MAX(report.last, report.heard);
    report_add(MIGRATE_PIPELINE_PART_WIRE,
               MAX(report.last, now - report.there));
    start = MAX(report.last, now - report.there_start);
    claim = MAX(report.last, start - report.there_claim);
    report_add(MIGRATE_PIPELINE_PART_LOAD, claim);
    report_add(MIGRATE_PIPELINE_PART_CLAIM, start);
    report_add(MIGRATE_PIPELINE_PART_START, now);
}

void migration_report_mark(MigratePipelinePart part)
{
    int64_t now = report_now();

    QEMU_LOCK_GUARD(&report.lock);
    if (!report.active) {
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
    QEMU_LOCK_GUARD(&report.lock);
    report.active = false;
    return report.begun;
}

bool migration_report_end_here(MigrationIncomingState *mis)
{
    int64_t total, claim, start;
    bool tell;

    WITH_QEMU_LOCK_GUARD(&report.lock) {
        total = report.last - report.begun;
        claim = report.time[MIGRATE_PIPELINE_PART_CLAIM];
        start = report.time[MIGRATE_PIPELINE_PART_START];
    }
    tell = migration_report_end() && mis->to_src_file;
    if (tell) {
        migrate_send_rp_pong(mis, PONG_CLAIM | MIN(claim, PONG_TIME));
        migrate_send_rp_pong(mis, PONG_START | MIN(start, PONG_TIME));
        migrate_send_rp_pong(mis, PONG_TOTAL | MIN(total, PONG_TIME));
    }
    qatomic_set(&migration_report_awaits_packet, true);
    return tell;
}

void migration_report_pong(uint32_t value)
{
    uint32_t time = value & PONG_TIME;

    if (time == PONG_TIME) {
        return;
    }
    QEMU_LOCK_GUARD(&report.lock);
    switch (value & ~PONG_TIME) {
    case PONG_CLAIM:
        report.there_claim = time;
        break;
    case PONG_START:
        report.there_start = time;
        break;
    case PONG_TOTAL:
        report.there = time;
        report.heard = report_now();
        break;
    }
}

int64_t migration_report_time(MigratePipelinePart part)
{
    QEMU_LOCK_GUARD(&report.lock);
    return report.time[part];
}

int64_t migration_report_since(void)
{
    QEMU_LOCK_GUARD(&report.lock);
    return report.active ? report_now() - report.last : 0;
}

int64_t migration_report_total(void)
{
    QEMU_LOCK_GUARD(&report.lock);
    return report.begun ? report.last - report.begun : 0;
}

void migration_report_first_packet(void)
{
    QEMU_LOCK_GUARD(&report.lock);
    if (qatomic_xchg(&migration_report_awaits_packet, false)) {
        report.first_packet = report_now() - report.last;
    }
}

MigratePipelineBlackout *migration_report_get(void)
{
    MigratePipelineBlackout *b;
    MigratePipelineSpanList **tail;

    QEMU_LOCK_GUARD(&report.lock);
    if (!report.begun) {
        return NULL;
    }
    b = g_new0(MigratePipelineBlackout, 1);
    b->total = report.last - report.begun;
    b->has_first_packet = report.first_packet;
    b->first_packet = report.first_packet;
    tail = &b->parts;
    for (unsigned i = 0; i < report.parts; i++) {
        MigratePipelineSpan *span = g_new0(MigratePipelineSpan, 1);

        span->part = report.order[i];
        span->time = report.time[span->part];
        QAPI_LIST_APPEND(tail, span);
    }
    return b;
}
