/*
 * The cache of level-2 tables of a csv disk
 *
 * Workers write, zero, discard and read random places of a disk whose map has
 * many more tables than may be in memory, and know what they must find. Each
 * worker has places of its own, but tables and clusters are shared.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <glib/gstdio.h>
#include "block/block.h"
#include "block/csv/disk/disk.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qobject/qdict.h"
#include "system/block-backend.h"
#include "tests/unit/iothread.h"

#define TABLES          10
#define CLUSTERS        3       /* used of each table */
#define SUBS            8       /* used of each cluster: one per worker */
#define WORKERS         8
#define PLACES          (TABLES * CLUSTERS)
#define BLOCK           4096
#define TABLE_SPAN      ((uint64_t)CSV_L2_ENTRIES << CSV_CLUSTER_BITS)
#define DISK_SIZE       (TABLES * TABLE_SPAN)
#define TINY            (2 * sizeof(CsvL2Table))

/* The first block of each subcluster has the value, the rest is zero. */
static uint8_t model[WORKERS][PLACES];
static char *image;
static BlockBackend *blk;
static int running;             /* atomic */

typedef struct Worker {
    unsigned nr;
    unsigned ops;
    GRand *random;
} Worker;

static int64_t place_offset(unsigned worker, unsigned place)
{
    unsigned table = place / CLUSTERS, cluster = place % CLUSTERS;

    /* The first and last clusters of tables, and one between */
    cluster = cluster * (CSV_L2_ENTRIES - 1) / 2;
    return table * TABLE_SPAN + cluster * CSV_CLUSTER_SIZE +
           worker * CSV_SUBCLUSTER_SIZE;
}

static void coroutine_fn check_place(unsigned worker, unsigned place)
{
    int64_t offset = place_offset(worker, place);
    uint8_t buf[2 * BLOCK], want[2 * BLOCK] = { 0 };

    memset(want, model[worker][place], BLOCK);
    g_assert_cmpint(blk_co_pread(blk, offset, sizeof(buf), buf, 0), ==, 0);
    g_assert_cmpmem(buf, sizeof(buf), want, sizeof(want));
}

static void coroutine_fn check_status(unsigned worker, unsigned place)
{
    int64_t offset = place_offset(worker, place), n;
    int ret;

    WITH_GRAPH_RDLOCK_GUARD() {
        ret = bdrv_co_block_status(blk_bs(blk), offset, CSV_SUBCLUSTER_SIZE,
                                   &n, NULL, NULL);
    }
    g_assert_cmpint(ret, >=, 0);
    g_assert_cmpint(n, ==, CSV_SUBCLUSTER_SIZE);
    if (model[worker][place]) {
        g_assert_true(ret & BDRV_BLOCK_DATA);
    }
}

static void coroutine_fn one_op(Worker *w)
{
    unsigned place = g_rand_int_range(w->random, 0, PLACES);
    int64_t offset = place_offset(w->nr, place);
    uint8_t buf[BLOCK];
    int ret = 0;

    switch (g_rand_int_range(w->random, 0, 16)) {
    case 0 ... 4:
        model[w->nr][place] = g_rand_int_range(w->random, 1, 256);
        memset(buf, model[w->nr][place], BLOCK);
        ret = blk_co_pwrite(blk, offset, BLOCK, buf, 0);
        break;
    case 5:
        model[w->nr][place] = 0;
        ret = blk_co_pwrite_zeroes(blk, offset, CSV_SUBCLUSTER_SIZE,
                                   g_rand_boolean(w->random) ?
                                   BDRV_REQ_MAY_UNMAP : 0);
        break;
    case 6:
        model[w->nr][place] = 0;
        ret = blk_co_pdiscard(blk, offset, CSV_SUBCLUSTER_SIZE, 0);
        break;
    case 7:
        ret = blk_co_flush(blk);
        break;
    case 8:
        check_status(w->nr, place);
        break;
    default:
        check_place(w->nr, place);
    }
    g_assert_cmpint(ret, ==, 0);
}

static void coroutine_fn worker_entry(void *opaque)
{
    Worker *w = opaque;

    while (w->ops--) {
        one_op(w);
    }
    for (unsigned i = 0; i < PLACES; i++) {
        check_place(w->nr, i);
    }
    qatomic_dec(&running);
    aio_wait_kick();
}

static void open_image(uint64_t cache_size)
{
    QDict *options = qdict_new();

    qdict_put_str(options, "driver", "csv");
    if (cache_size) {
        qdict_put_int(options, "cache-size", cache_size);
    }
    qdict_put_str(options, "file.driver", "file");
    qdict_put_str(options, "file.filename", image);
    qdict_put_str(options, "file.cache.no-flush", "on");
    blk = blk_new_open(NULL, NULL, options, BDRV_O_RDWR | BDRV_O_UNMAP,
                       &error_abort);
    blk_set_disable_request_queuing(blk, true);
}

static CsvDisk *disk_state(void)
{
    return blk_bs(blk)->opaque;
}

/* All workers do @ops each, and then look at all they know. */
static void run(unsigned ops, uint32_t seed, IOThread **threads)
{
    Worker workers[WORKERS];

    running = WORKERS;
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i] = (Worker) { i, ops, g_rand_new_with_seed(seed + i) };
        aio_co_enter(threads ? iothread_get_aio_context(threads[i % 2])
                             : qemu_get_aio_context(),
                     qemu_coroutine_create(worker_entry, &workers[i]));
    }
    AIO_WAIT_WHILE_UNLOCKED(NULL, qatomic_read(&running) > 0);
    for (unsigned i = 0; i < WORKERS; i++) {
        g_rand_free(workers[i].random);
    }
}

/* @cache_size: 0 for the default */
static void round_of(unsigned ops, uint32_t seed, uint64_t cache_size,
                     IOThread **threads)
{
    CsvDisk *disk;

    open_image(cache_size);
    disk = disk_state();
    run(ops, seed, threads);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    if (cache_size) {
        g_assert_cmpint(disk->table_loads, >, 0);
        g_assert_cmpint(disk->table_evictions, >, 0);
        g_assert_cmpint(csv_map_cache_bytes(disk), <=, MAX(TINY, cache_size));
    } else {
        g_assert_cmpint(disk->table_loads, ==, 0);
        g_assert_cmpint(disk->table_evictions, ==, 0);
    }
    blk_unref(blk);
}

static void make_image(void)
{
    int fd = g_file_open_tmp("csv-cache-XXXXXX", &image, NULL);

    g_assert_cmpint(fd, >=, 0);
    close(fd);
    bdrv_img_create(image, "csv", NULL, NULL,
                    (char *)"volume_size=1G,segment_size=8M", DISK_SIZE, 0,
                    true, &error_abort);
    memset(model, 0, sizeof(model));
}

static void drop_image(void)
{
    unlink(image);
    g_free(image);
}

/* Before each round the disk is opened, with a cache of another size. */
static void test_reopen(void)
{
    make_image();
    for (unsigned i = 0; i < 6; i++) {
        round_of(300, 100 * i, i % 3 == 1 ? 1 : i % 3 * TINY, NULL);
    }
    drop_image();
}

static void test_threads(void)
{
    IOThread *threads[] = { iothread_new(), iothread_new() };

    make_image();
    for (unsigned i = 0; i < 3; i++) {
        round_of(2000, 1000 * i, (i + 1) * TINY, threads);
    }
    iothread_join(threads[0]);
    iothread_join(threads[1]);
    drop_image();
}

int main(int argc, char **argv)
{
    bdrv_init();
    module_call_init(MODULE_INIT_QOM);
    qemu_init_main_loop(&error_abort);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/csv/cache/reopen", test_reopen);
    g_test_add_func("/csv/cache/threads", test_threads);
    return g_test_run();
}
