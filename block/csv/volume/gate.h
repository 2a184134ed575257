/*
 * Cluster shared volume: may this member write now?
 *
 * A member with a lease that needs a beat may write until a deadline, and each
 * beat extends it.  After the deadline others may declare the member dead, so
 * its writes wait: a guest sees a slow disk, not an error.  When the lease is
 * lost for good they fail.
 *
 * The deadline is on the monotonic clock (get_clock()).  It is checked before
 * each write of data, map and journal.  Writes of shared records are not
 * checked: they are compare-and-write, and renew the lease itself.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BLOCK_CSV_GATE_H
#define BLOCK_CSV_GATE_H

#include "block/block-io.h"
#include "qemu/coroutine.h"
#include "qemu/thread.h"
#include "qemu/timer.h"

typedef struct CsvGate {
    int64_t deadline;           /* ns; INT64_MAX: none; atomic */
    bool cut;                   /* closed for good; atomic */
    bool told;                  /* sent the event 'waiting'; under lock */
    QemuMutex lock;
    CoQueue waiting;            /* under lock */
} CsvGate;

void csv_gate_init(CsvGate *gate);
void csv_gate_destroy(CsvGate *gate);

/* Any thread, without the lock; it may close right after that. */
static inline bool csv_gate_is_open(const CsvGate *gate)
{
    int64_t deadline = qatomic_read(&gate->deadline);

    return likely(deadline == INT64_MAX) || get_clock() < deadline;
}

static inline bool csv_gate_is_cut(const CsvGate *gate)
{
    return qatomic_read(&gate->cut);
}

#endif /* BLOCK_CSV_GATE_H */
