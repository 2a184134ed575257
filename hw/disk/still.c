/*
 * Disk hot-plug: whether the block graph can be changed now
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/aio.h"
#include "block/block-global-state.h"
#include "block/block-io.h"
#include "block/block_int.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "still.h"

#define LOOK_US     (50 * 1000)
#define ROUND_US    200

/* A node with requests in flight, preferably one named by the user */
static BlockDriverState *graph_busy(void)
{
    BlockDriverState *bs = NULL, *busy = NULL;

    GRAPH_RDLOCK_GUARD_MAINLOOP();
    while ((bs = bdrv_next_all_states(bs))) {
        if (bdrv_drain_poll(bs, NULL, true)) {
            busy = bs;
            if (*bdrv_get_node_name(bs) != '#') {
                break;
            }
        }
    }
    return busy;
}

bool disk_graph_is_still(Error **errp)
{
    int64_t end = g_get_monotonic_time() + LOOK_US;
    BlockDriverState *busy;

    bdrv_drain_all_begin_nopoll();
    while ((busy = graph_busy()) && g_get_monotonic_time() < end) {
        if (!aio_poll(qemu_get_aio_context(), false)) {
            g_usleep(ROUND_US);
        }
    }
    if (busy) {
        error_setg(errp, "requests of block node '%s' do not end; try again "
                   "when its storage answers", bdrv_get_node_name(busy));
    }
    bdrv_drain_all_end();
    return !busy;
}
