/*
 * Cluster shared volume: may this member write now?
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/qapi-events-csv.h"
#include "qemu/lockable.h"
#include "volume.h"
#include "trace/trace-block_csv.h"

void csv_gate_init(CsvGate *gate)
{
    gate->deadline = INT64_MAX;
    qemu_mutex_init(&gate->lock);
    qemu_co_queue_init(&gate->waiting);
}

void csv_gate_destroy(CsvGate *gate)
{
    assert(qemu_co_queue_empty(&gate->waiting));
    qemu_mutex_destroy(&gate->lock);
}

static void csv_gate_event(CsvVolume *vol, CsvGateState state)
{
    trace_csv_gate(vol, state);
    qapi_event_send_csv_volume_writes(csv_volume_label(vol),
                                      bdrv_get_node_name(vol->bs), state);
}

/*
 * Wake waiting requests, as long as they need not wait again: a short deadline
 * may expire meanwhile.  gate->lock is held, and dropped in between.
 */
static void csv_gate_wake(CsvGate *gate)
{
    while (gate->cut || csv_gate_is_open(gate)) {
        if (!qemu_co_enter_next(&gate->waiting, &gate->lock)) {
            break;
        }
    }
}

int coroutine_mixed_fn csv_gate_wait(CsvVolume *vol)
{
    CsvGate *gate = &vol->gate;

    QEMU_LOCK_GUARD(&gate->lock);
    while (!csv_gate_is_open(gate)) {
        if (gate->cut) {
            return -ESTALE;
        }
        if (!gate->told) {
            gate->told = true;
            csv_gate_event(vol, CSV_GATE_STATE_WAITING);
        }
        if (!qemu_in_coroutine()) {
            return -ETIMEDOUT;
        }
        qemu_co_queue_wait(&gate->waiting, &gate->lock);
    }
    return 0;
}

void csv_gate_extend(CsvVolume *vol, int64_t deadline)
{
    CsvGate *gate = &vol->gate;

    QEMU_LOCK_GUARD(&gate->lock);
    if (gate->cut) {
        return;
    }
    qatomic_set(&gate->deadline, deadline);
    if (gate->told && csv_gate_is_open(gate)) {
        gate->told = false;
        csv_gate_event(vol, CSV_GATE_STATE_RESUMED);
    }
    csv_gate_wake(gate);
}

void csv_gate_cut(CsvVolume *vol)
{
    CsvGate *gate = &vol->gate;

    QEMU_LOCK_GUARD(&gate->lock);
    if (!gate->cut) {
        qatomic_set(&gate->cut, true);
        qatomic_set(&gate->deadline, INT64_MIN);
        csv_gate_event(vol, CSV_GATE_STATE_CUT_OFF);
        csv_gate_wake(gate);
    }
}

void csv_gate_reset(CsvVolume *vol)
{
    CsvGate *gate = &vol->gate;

    QEMU_LOCK_GUARD(&gate->lock);
    assert(qemu_co_queue_empty(&gate->waiting));
    gate->told = false;
    qatomic_set(&gate->cut, false);
    qatomic_set(&gate->deadline, INT64_MAX);
}

int coroutine_mixed_fn csv_pwrite(CsvVolume *vol, BdrvChild *file,
                                  int64_t offset, int64_t bytes,
                                  const void *buf, BdrvRequestFlags flags)
{
    int ret = csv_gate_pass(vol);

    return ret < 0 ? ret : bdrv_pwrite(file, offset, bytes, buf, flags);
}
