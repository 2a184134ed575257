/*
 * Cluster shared volume: periodic work on an owned disk
 *
 * Adapts the reserve of segments; before that, scans what a hand-over left
 * unscanned of the map.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/aio-wait.h"
#include "disk.h"

/* After the activation, and periodically. */
#define CSV_ADJUST_FIRST_MS     1000
#define CSV_ADJUST_MS           60000
/* The scan begins earlier, but not before the guest was started. */
#define CSV_ADJUST_SCAN_MS      100

static void coroutine_fn csv_adjust_entry(void *opaque)
{
    CsvDisk *disk = opaque;

    WITH_GRAPH_RDLOCK_GUARD() {
        if (csv_map_is_scanned(disk)) {
            csv_segments_adjust(disk);
        } else {
            csv_map_scan(disk, true);
        }
    }
    qatomic_set(&disk->adjusting, false);
    bdrv_dec_in_flight(disk->bs);
}

static void csv_adjust_timer(void *opaque)
{
    CsvDisk *disk = opaque;
    int64_t now = qemu_clock_get_ms(QEMU_CLOCK_REALTIME);
    bool drained = disk->bs->quiesce_counter;

    if (!disk->owned) {
        return;     /* another member took it */
    }
    timer_mod(disk->adjust_timer, now + (!drained && csv_map_is_scanned(disk)
                                         ? CSV_ADJUST_MS
                                         : CSV_ADJUST_FIRST_MS));
    if (!drained) {
        csv_adjust_with(disk, bdrv_get_aio_context(disk->bs),
                        csv_adjust_entry);
    }
}

void csv_adjust_start(CsvDisk *disk)
{
    int64_t now = qemu_clock_get_ms(QEMU_CLOCK_REALTIME);

    qatomic_set(&disk->adjust_stop, false);
    if (!disk->adjust_timer) {
        disk->adjust_timer = timer_new_ms(QEMU_CLOCK_REALTIME,
                                          csv_adjust_timer, disk);
    }
    timer_mod(disk->adjust_timer, now + (csv_map_is_scanned(disk)
                                         ? CSV_ADJUST_FIRST_MS
                                         : CSV_ADJUST_SCAN_MS));
}

void csv_adjust_stop(CsvDisk *disk)
{
    qatomic_set(&disk->adjust_stop, true);
    g_clear_pointer(&disk->adjust_timer, timer_free);
    BDRV_POLL_WHILE(disk->bs, qatomic_read(&disk->adjusting));
}
