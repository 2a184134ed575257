/*
 * Migration pipeline: write disks back before the guest stops
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/aio.h"
#include "block/block.h"
#include "block/block_int.h"
#include "qemu/lockable.h"
#include "qemu/thread.h"
#include "qemu/timer.h"
#include "system/replay.h"
#include "current.h"
#include "quiesce.h"
#include "trace.h"

/* Between two rounds, in microseconds */
#define QUIESCE_PAUSE   20000
/* A first round that takes longer also writes back older data. */
#define QUIESCE_LONG    5000

struct PipelineQuiesce {
    QemuMutex lock;
    unsigned generation;        /* counts resets; older rounds are ignored */
    bool running;
    unsigned in_flight;         /* disks, plus one while starting them */
    unsigned begun_in;          /* generation of the round */
    int64_t begun, ended;       /* in microseconds */
    bool again;                 /* the first round took long */
    int64_t time;               /* of the last round that counts */
};

PipelineQuiesce *migration_quiesce_new(void)
{
    PipelineQuiesce *q = g_new0(PipelineQuiesce, 1);

    qemu_mutex_init(&q->lock);
    q->time = -1;
    return q;
}

void migration_quiesce_reset(void)
{
    PipelineQuiesce *q = migration_pipeline()->quiesce;

    QEMU_LOCK_GUARD(&q->lock);
    q->generation++;
    q->ended = 0;
    q->again = false;
    q->time = -1;
}

int64_t migration_quiesce_time(void)
{
    PipelineQuiesce *q = migration_pipeline()->quiesce;

    QEMU_LOCK_GUARD(&q->lock);
    return q->time;
}

/* A disk, or starting them, is done. */
static void quiesce_done(void)
{
    PipelineQuiesce *q = migration_pipeline()->quiesce;
    int64_t time;

    QEMU_LOCK_GUARD(&q->lock);
    if (--q->in_flight) {
        return;
    }
    q->running = false;
    if (q->begun_in != q->generation) {
        return;
    }
    time = qemu_clock_get_us(QEMU_CLOCK_REALTIME) - q->begun;
    trace_migration_pipeline_quiesced(time);
    if (q->time < 0 && !q->again && time > QUIESCE_LONG) {
        /* Measure the next round instead. */
        q->again = true;
    } else {
        q->time = time;
        q->ended = q->begun + time;
    }
}

static void quiesce_unref_bh(void *opaque)
{
    BlockDriverState *bs = opaque;

    bdrv_dec_in_flight(bs);
    bdrv_unref(bs);
    quiesce_done();
}

/* In the disk's context; holds a reference to it */
static void coroutine_fn quiesce_co_flush(void *opaque)
{
    BlockDriverState *bs = opaque;

    WITH_GRAPH_RDLOCK_GUARD() {
        bdrv_co_flush(bs);
    }
    aio_bh_schedule_oneshot(qemu_get_aio_context(), quiesce_unref_bh, bs);
}

/* The disks of bdrv_flush_all(), each with a reference */
static GPtrArray *quiesce_disks(void)
{
    GPtrArray *disks = g_ptr_array_new();
    BdrvNextIterator it;
    BlockDriverState *bs;

    GRAPH_RDLOCK_GUARD_MAINLOOP();
    for (bs = bdrv_first(&it); bs; bs = bdrv_next(&it)) {
        bdrv_ref(bs);
        g_ptr_array_add(disks, bs);
    }
    return disks;
}

/* Main thread */
static void quiesce_begin_bh(void *opaque)
{
    PipelineQuiesce *q = migration_pipeline()->quiesce;
    g_autoptr(GPtrArray) disks = quiesce_disks();

    WITH_QEMU_LOCK_GUARD(&q->lock) {
        q->in_flight += disks->len;
    }
    for (unsigned i = 0; i < disks->len; i++) {
        BlockDriverState *bs = disks->pdata[i];

        /* A drain must wait even if the coroutine has not started. */
        bdrv_inc_in_flight(bs);
        aio_co_enter(bdrv_get_aio_context(bs),
                     qemu_coroutine_create(quiesce_co_flush, bs));
    }
    quiesce_done();
}

void migration_quiesce(void)
{
    PipelineQuiesce *q = migration_pipeline()->quiesce;
    int64_t now = qemu_clock_get_us(QEMU_CLOCK_REALTIME);

    if (replay_events_enabled()) {
        return;
    }
    WITH_QEMU_LOCK_GUARD(&q->lock) {
        if (q->running || now < q->ended + QUIESCE_PAUSE) {
            return;
        }
        q->running = true;
        q->in_flight = 1;
        q->begun = now;
        q->begun_in = q->generation;
    }
    aio_bh_schedule_oneshot(qemu_get_aio_context(), quiesce_begin_bh, NULL);
}
