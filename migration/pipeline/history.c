/*
 * Migration pipeline: the history of a guest's blackouts
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/misc.h"
#include "migration/vmstate.h"
#include "qapi/util.h"
#include "qemu/lockable.h"
#include "qemu/thread.h"
#include "qemu/timer.h"
#include "system/runstate.h"
#include "current.h"
#include "history.h"
#include "report.h"
#include "stall.h"
#include "trace.h"

static const MigratePipelinePart parts[PIPELINE_COSTS] = {
    [PIPELINE_COST_STOP] = MIGRATE_PIPELINE_PART_STOP,
    [PIPELINE_COST_RELEASE] = MIGRATE_PIPELINE_PART_RELEASE,
    [PIPELINE_COST_DEVICE_STATE] = MIGRATE_PIPELINE_PART_DEVICE_STATE,
    [PIPELINE_COST_LOAD] = MIGRATE_PIPELINE_PART_LOAD,
    [PIPELINE_COST_CLAIM] = MIGRATE_PIPELINE_PART_CLAIM,
    [PIPELINE_COST_START] = MIGRATE_PIPELINE_PART_START,
};

/* Format in the stream */
typedef struct PipelineLuggage {
    /* of the current blackout, in microseconds; states up to this section */
    uint32_t stop, release, device_state;
    uint32_t rows;
    PipelineRow row[PIPELINE_HISTORY];
} PipelineLuggage;

/* What this guest's blackouts took, on any host */
struct PipelineBlackouts {
    QemuMutex lock;             /* for all but the members noted below */
    PipelineHistory history;
    int64_t aged;               /* time of the last ageing, in milliseconds */
    bool disks;
    int64_t round_trip;         /* microseconds; 0: not known */

    /* main thread, or migration thread with the BQL */
    bool agreed;
    PipelineLuggage luggage;
};

/* Called with the lock held */
static void history_age(PipelineBlackouts *known)
{
    int64_t now = qemu_clock_get_ms(QEMU_CLOCK_REALTIME);
    int64_t seconds = known->aged ? (now - known->aged) / 1000 : 0;

    pipeline_history_age(&known->history, MIN(seconds, UINT32_MAX));
    known->aged = known->aged ? known->aged + seconds * 1000 : now;
}

void migration_history_begin(bool disks)
{
    PipelineBlackouts *known = migration_pipeline()->history;

    QEMU_LOCK_GUARD(&known->lock);
    known->disks = disks;
    known->round_trip = 0;
}

void migration_history_round_trip(int64_t time)
{
    PipelineBlackouts *known = migration_pipeline()->history;

    QEMU_LOCK_GUARD(&known->lock);
    known->round_trip = time;
}

int64_t migration_history_wire(void)
{
    PipelineBlackouts *known = migration_pipeline()->history;

    QEMU_LOCK_GUARD(&known->lock);
    return known->round_trip;
}

PipelineCosts migration_history_costs(void)
{
    PipelineBlackouts *known = migration_pipeline()->history;
    unsigned stall = migration_stall();

    QEMU_LOCK_GUARD(&known->lock);
    history_age(known);
    return pipeline_costs(&known->history, stall, known->disks);
}

/* Called with the times of the source's parts */
static void history_add(const PipelineLuggage *source)
{
    PipelineBlackouts *known = migration_pipeline()->history;
    PipelineRow row = { 0 };

    for (unsigned p = 0; p < PIPELINE_COSTS; p++) {
        row.time[p] = MIN(migration_report_time(parts[p]), PIPELINE_COST_MOST);
    }
    row.time[PIPELINE_COST_STOP] = source->stop;
    row.time[PIPELINE_COST_RELEASE] = source->release;
    row.time[PIPELINE_COST_DEVICE_STATE] = source->device_state;
    trace_migration_pipeline_row(row.time[PIPELINE_COST_STOP],
                                 row.time[PIPELINE_COST_RELEASE],
                                 row.time[PIPELINE_COST_DEVICE_STATE],
                                 row.time[PIPELINE_COST_LOAD],
                                 row.time[PIPELINE_COST_CLAIM],
                                 row.time[PIPELINE_COST_START]);
    QEMU_LOCK_GUARD(&known->lock);
    history_age(known);
    pipeline_history_add(&known->history, &row);
}

void migration_history_arrived(MigrationIncomingState *mis)
{
    PipelineBlackouts *known = migration_pipeline()->history;

    if (migration_report_end_here(mis) && runstate_is_running()) {
        history_add(&known->luggage);
    }
    known->luggage = (PipelineLuggage) { 0 };
}

MigratePipelineCostList *migration_history_info(void)
{
    PipelineCosts c = migration_history_costs();
    MigratePipelineCostList *list = NULL, **tail = &list;

    for (unsigned p = 0; p < PIPELINE_COSTS; p++) {
        MigratePipelineCost *cost = g_new0(MigratePipelineCost, 1);

        cost->part = parts[p];
        cost->time = c.time[p];
        cost->spread = c.total ? c.spread * c.time[p] / c.total : 0;
        cost->blackouts = c.rows;
        QAPI_LIST_APPEND(tail, cost);
    }
    return list;
}

/* In the stream */

static bool luggage_needed(void *opaque)
{
    return migration_pipeline()->history->agreed;
}

static uint32_t luggage_time(int64_t time)
{
    return MIN(time, PIPELINE_COST_MOST);
}

static int luggage_pre_save(void *opaque)
{
    PipelineBlackouts *known = migration_pipeline()->history;
    PipelineLuggage *l = opaque;

    *l = (PipelineLuggage) {
        .stop = luggage_time(migration_report_time(MIGRATE_PIPELINE_PART_STOP)),
        .release = luggage_time(
            migration_report_time(MIGRATE_PIPELINE_PART_RELEASE)),
        .device_state = luggage_time(migration_report_since()),
    };
    QEMU_LOCK_GUARD(&known->lock);
    history_age(known);
    l->rows = known->history.rows;
    memcpy(l->row, known->history.row, sizeof(l->row));
    return 0;
}

/*
 * An invalid history can only make predictions wrong, which must not keep the
 * guest from running: discard it.
 */
static int luggage_post_load(void *opaque, int version_id)
{
    PipelineBlackouts *known = migration_pipeline()->history;
    PipelineLuggage *l = opaque;
    PipelineHistory history = { .rows = l->rows };

    memcpy(history.row, l->row, sizeof(history.row));
    if (!pipeline_history_valid(&history) || l->stop > PIPELINE_COST_MOST ||
        l->release > PIPELINE_COST_MOST ||
        l->device_state > PIPELINE_COST_MOST) {
        trace_migration_pipeline_bad_history(l->rows);
        *l = (PipelineLuggage) { 0 };
        return 0;
    }
    QEMU_LOCK_GUARD(&known->lock);
    known->history = history;
    known->aged = 0;
    return 0;
}

static const VMStateDescription vmstate_row = {
    .name = "pipeline-history/row",
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT32_ARRAY(time, PipelineRow, PIPELINE_COSTS),
        VMSTATE_UINT32(age, PipelineRow),
        VMSTATE_END_OF_LIST()
    }
};

static const VMStateDescription vmstate_luggage = {
    .name = "pipeline-history",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = luggage_needed,
    .pre_save = luggage_pre_save,
    .post_load = luggage_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT32(stop, PipelineLuggage),
        VMSTATE_UINT32(release, PipelineLuggage),
        VMSTATE_UINT32(device_state, PipelineLuggage),
        VMSTATE_UINT32(rows, PipelineLuggage),
        VMSTATE_STRUCT_ARRAY(row, PipelineLuggage, PIPELINE_HISTORY, 1,
                             vmstate_row, PipelineRow),
        VMSTATE_END_OF_LIST()
    }
};

static void history_register(PipelineBlackouts *known)
{
    vmstate_register(NULL, 0, &vmstate_luggage, &known->luggage);
}

PipelineBlackouts *migration_history_new(void)
{
    PipelineBlackouts *known = g_new0(PipelineBlackouts, 1);

    qemu_mutex_init(&known->lock);
    history_register(known);
    return known;
}

void migration_history_agreed(bool yes)
{
    PipelineBlackouts *known = migration_pipeline()->history;

    known->agreed = yes;
    if (yes) {
        /* After all sections so far, to measure how long saving them takes. */
        vmstate_unregister(NULL, &vmstate_luggage, &known->luggage);
        history_register(known);
    }
}
