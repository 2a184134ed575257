/*
 * A drained csv disk is at rest: no request is left halfway
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block.h"
#include "block/csv/disk/disk.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "sim-device.h"
#include "sim-volume.h"
#include "system/block-backend.h"

#define VOLUME_SIZE     (256 * MiB)
#define MAX_WRITES      6
#define ROUNDS          200
#define BELOW           0x11
#define WRITTEN         0x22

typedef struct Write {
    BdrvChild *disk;
    int64_t offset;
    int ret;
} Write;

static unsigned running;

/* Not by a BlockBackend, which would count its requests as well */
static void coroutine_fn write_entry(void *opaque)
{
    uint8_t buf[4 * KiB];
    Write *w = opaque;

    memset(buf, WRITTEN, sizeof(buf));
    bdrv_graph_co_rdlock();
    w->ret = bdrv_co_pwrite(w->disk, w->offset, sizeof(buf), buf, 0);
    bdrv_graph_co_rdunlock();
    running--;
}

/* 4 KiB amid the subcluster, so that the rest of it has to be filled */
static int64_t place_of(unsigned i)
{
    return i * CSV_SUBCLUSTER_SIZE + 8 * KiB;
}

static void check_content(BlockBackend *blk, unsigned count)
{
    g_autofree uint8_t *buf = g_malloc(CSV_SUBCLUSTER_SIZE);

    for (unsigned i = 0; i < count; i++) {
        g_assert_cmpint(blk_pread(blk, i * CSV_SUBCLUSTER_SIZE,
                                  CSV_SUBCLUSTER_SIZE, buf, 0), ==, 0);
        for (unsigned n = 0; n < CSV_SUBCLUSTER_SIZE; n++) {
            g_assert_cmpint(buf[n], ==, n >= 8 * KiB && n < 12 * KiB ? WRITTEN
                                                                     : BELOW);
        }
    }
}

/* Drain after @steps of the main loop.  How many writes were on their way? */
static unsigned drain_writes(BlockBackend *blk, unsigned count, unsigned steps)
{
    CsvDisk *disk = blk_bs(blk)->opaque;
    uint64_t filled = stat64_get(&disk->bytes_filled);
    Write writes[MAX_WRITES];
    unsigned on_way;

    for (unsigned i = 0; i < count; i++) {
        writes[i] = (Write) { csv_blk_child(blk), place_of(i), -EINPROGRESS };
        running++;
        aio_co_enter(qemu_get_aio_context(),
                     qemu_coroutine_create(write_entry, &writes[i]));
    }
    while (steps--) {
        aio_poll(qemu_get_aio_context(), false);
    }
    on_way = running;
    bdrv_drain_all_begin();
    g_assert_cmpint(running, ==, 0);
    for (unsigned i = 0; i < count; i++) {
        g_assert_cmpint(writes[i].ret, ==, 0);
    }
    g_assert_cmpint(stat64_get(&disk->bytes_filled) - filled, ==,
                    count * (CSV_SUBCLUSTER_SIZE - 4 * KiB));
    bdrv_drain_all_end();
    return on_way;
}

/* A drain waits for writes that fill subclusters from the backing image. */
static void test_fill(void)
{
    g_autofree uint8_t *buf = g_malloc(CSV_CLUSTER_SIZE);
    SimFaults well = { 0 }, slow = { .delay = 80 };
    unsigned caught = 0;
    BlockBackend *blk;
    size_t mark;

    sim_device_new(VOLUME_SIZE);
    sim_disk_create("base", SIM_DISK_SIZE, NULL, VOLUME_SIZE, &error_abort);
    sim_node_open("a");
    blk = sim_disk_open("a", "base");
    memset(buf, BELOW, CSV_CLUSTER_SIZE);
    g_assert_cmpint(blk_pwrite(blk, 0, CSV_CLUSTER_SIZE, buf, 0), ==, 0);
    blk_unref(blk);

    sim_disk_create("top", 0, "base", 0, &error_abort);
    /*
     * Its cluster is there, so that no write starts to claim a segment in the
     * background: a drain waits for that, too.
     */
    blk = sim_disk_open("a", "top");
    g_assert_cmpint(blk_pwrite(blk, CSV_CLUSTER_SIZE - CSV_SUBCLUSTER_SIZE,
                               CSV_SUBCLUSTER_SIZE, buf, 0), ==, 0);
    blk_unref(blk);
    mark = sim_mark();
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned count = 1 + round % MAX_WRITES;

        blk = sim_disk_open("a", "top");
        sim_device_faults(&slow, round);
        caught += drain_writes(blk, count, round % 20);
        sim_device_faults(&well, 0);
        check_content(blk, count);
        blk_unref(blk);
        sim_undo(mark);
    }
    g_assert_cmpint(caught, >, ROUNDS);
    bdrv_unref(bdrv_lookup_bs("a", "a", NULL));
    sim_device_free();
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/csv/drain/fill", test_fill);
    return g_test_run();
}
