/*
 * How many segments a csv disk holds: some ahead of need, and not too many
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block.h"
#include "block/csv/disk/disk.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qobject/qdict.h"
#include "sim-device.h"
#include "sim-volume.h"
#include "system/block-backend.h"

#define DEVICE_SIZE     (16 * GiB)
#define DISK_SIZE       (16 * GiB)
#define SEGMENTS        2047    /* of DEVICE_SIZE, less the tables */
#define CLUSTERS        (SIM_SEGMENT_SIZE / CSV_CLUSTER_SIZE)   /* of one */

static BlockBackend *open_disk(const char *name)
{
    QDict *options = qdict_new();

    qdict_put_str(options, "driver", "csv");
    qdict_put_str(options, "disk", name);
    qdict_put_str(options, "file", "device");
    return blk_new_open(NULL, NULL, options, BDRV_O_RDWR, &error_abort);
}

static CsvDisk *disk_of(BlockBackend *blk)
{
    return blk_bs(blk)->opaque;
}

/* A device with a volume with two disks, on a node of the name "device" */
static BlockDriverState *start(void)
{
    QDict *options = qdict_new();

    sim_device_new(DEVICE_SIZE);
    sim_disk_create("one", DISK_SIZE, NULL, DEVICE_SIZE, &error_abort);
    sim_disk_create("two", DISK_SIZE, NULL, 0, &error_abort);
    qdict_put_str(options, "driver", "csv-sim");
    qdict_put_str(options, "node-name", "device");
    return bdrv_open(NULL, NULL, options, BDRV_O_RDWR | BDRV_O_RESIZE,
                     &error_abort);
}

static void stop(BlockDriverState *device)
{
    bdrv_unref(device);
    sim_device_free();
}

typedef struct Work {
    BlockBackend *blk;
    unsigned cluster;
} Work;

static unsigned running;

static void coroutine_fn write_entry(void *opaque)
{
    static uint8_t buf[4 * KiB];
    Work *w = opaque;

    g_assert_cmpint(blk_co_pwrite(w->blk,
                                  (uint64_t)w->cluster << CSV_CLUSTER_BITS,
                                  sizeof(buf), buf, 0), >=, 0);
    g_free(w);
    running--;
}

static void coroutine_fn adjust_entry(void *opaque)
{
    CsvDisk *disk = opaque;

    WITH_GRAPH_RDLOCK_GUARD() {
        csv_segments_adjust(disk);
    }
    running--;
}

static void begin(CoroutineEntry *entry, void *opaque)
{
    running++;
    aio_co_enter(qemu_get_aio_context(),
                 qemu_coroutine_create(entry, opaque));
}

static void wait_for_all(void)
{
    while (running) {
        aio_poll(qemu_get_aio_context(), true);
    }
}

static void adjust(BlockBackend *blk)
{
    begin(adjust_entry, disk_of(blk));
    wait_for_all();
}

/* The first writes to clusters @first to @last, all at once */
static void write_clusters(BlockBackend *blk, unsigned first, unsigned last)
{
    for (unsigned i = first; i <= last; i++) {
        Work *w = g_new(Work, 1);

        *w = (Work) { blk, i };
        begin(write_entry, w);
    }
    wait_for_all();
}

/* Segments that belong to @blk, as the volume knows it */
static unsigned segments(BlockBackend *blk)
{
    CsvDisk *disk = disk_of(blk);
    g_autofree uint64_t *per_disk = g_new0(uint64_t,
                                           disk->volume->sb.disk_slots);
    uint64_t free;

    GRAPH_RDLOCK_GUARD_MAINLOOP();
    g_assert_cmpint(csv_segments_count(disk->volume, disk->bs->file, per_disk,
                                       &free, &error_abort), >=, 0);
    return per_disk[disk->record.slot];
}

/* The share is that of what was left before the disk claimed it. */
static void assert_ahead(BlockBackend *blk, unsigned used, unsigned left)
{
    unsigned ahead = segments(blk) - used;

    g_assert_cmpint(ahead, <=, left / 256);
    g_assert_cmpint(ahead + 1, >=, left / 256);
}

static void test_share(void)
{
    BlockDriverState *device = start();
    BlockBackend *one = open_disk("one"), *two;

    g_assert_cmpint(segments(one), ==, 1);
    adjust(one);
    assert_ahead(one, 1, SEGMENTS);
    adjust(one);
    assert_ahead(one, 1, SEGMENTS);

    /* It takes nothing along that it does not use. */
    blk_unref(one);
    one = open_disk("one");
    two = open_disk("two");
    g_assert_cmpint(segments(one), ==, 1);
    blk_unref(one);
    blk_unref(two);
    stop(device);
}

/* Half of it is used at once, while a claim takes its time: nobody waits. */
static void test_burst(void)
{
    const SimFaults slow = { .delay = 95 };
    BlockDriverState *device = start();
    BlockBackend *one = open_disk("one");
    CsvDisk *disk = disk_of(one);
    unsigned half = SEGMENTS / 256 * CLUSTERS / 2;

    write_clusters(one, 0, 0);
    adjust(one);
    sim_device_faults(&slow, 1);
    for (unsigned i = 0; i < 10; i++) {
        write_clusters(one, i * half + 1, i * half + half);
        g_assert_cmpint(disk->stats.claim_waits, ==, 0);
        blk_drain(one);
    }
    g_assert_cmpint(disk->stats.segments_claimed, >, 10 * half / CLUSTERS);
    blk_unref(one);
    stop(device);
}

/* One disk uses up nearly all; the other one does not keep its share. */
static void test_give_back(void)
{
    BlockDriverState *device = start();
    BlockBackend *one = open_disk("one"), *two = open_disk("two");
    unsigned most = (SEGMENTS - 2 - SEGMENTS / 256 - 256) * CLUSTERS;

    adjust(one);
    assert_ahead(one, 1, SEGMENTS);
    write_clusters(two, 0, most - 1);
    adjust(one);
    g_assert_cmpint(segments(one), ==, 2);
    adjust(two);
    g_assert_cmpint(segments(two), <=, DIV_ROUND_UP(most, CLUSTERS) + 3);

    /* What was given back can be used. */
    write_clusters(two, most, most + SEGMENTS / 256 * CLUSTERS);
    blk_unref(one);
    blk_unref(two);
    stop(device);
}

/* It does all this by itself. */
static void test_timer(void)
{
    BlockDriverState *device = start();
    BlockBackend *one = open_disk("one");

    while (segments(one) == 1) {
        main_loop_wait(false);
    }
    blk_drain(one);
    assert_ahead(one, 1, SEGMENTS);
    blk_unref(one);
    stop(device);
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/csv/holding/share", test_share);
    g_test_add_func("/csv/holding/burst", test_burst);
    g_test_add_func("/csv/holding/give-back", test_give_back);
    g_test_add_func("/csv/holding/timer", test_timer);
    return g_test_run();
}
