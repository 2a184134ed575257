/*
 * The scan of a csv disk's map after a hand-over
 *
 * It is not complete when the guest starts.  Until then, requests must not use
 * what they do not know to be free.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block.h"
#include "block/csv.h"
#include "block/csv/disk/disk.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qobject/qdict.h"
#include "sim-device.h"
#include "sim-volume.h"
#include "system/block-backend.h"

#define TABLES          9
#define CLUSTERS        3       /* used of each table */
#define BLOCK           4096
#define TABLE_SPAN      ((uint64_t)CSV_L2_ENTRIES << CSV_CLUSTER_BITS)
#define DISK_SIZE       (TABLES * TABLE_SPAN)
#define DEVICE_SIZE     (1 * GiB)

static int64_t place(unsigned table, unsigned cluster)
{
    return table * TABLE_SPAN + cluster * CSV_CLUSTER_SIZE;
}

static int put(BlockBackend *blk, unsigned table, unsigned cluster,
               uint8_t value)
{
    uint8_t buf[BLOCK];

    memset(buf, value, sizeof(buf));
    return blk_pwrite(blk, place(table, cluster), sizeof(buf), buf, 0);
}

static void expect(BlockBackend *blk, unsigned table, unsigned cluster,
                   uint8_t value)
{
    uint8_t buf[BLOCK], want[BLOCK];

    memset(want, value, sizeof(want));
    g_assert_cmpint(blk_pread(blk, place(table, cluster), sizeof(buf), buf, 0),
                    ==, 0);
    g_assert_cmpmem(buf, sizeof(buf), want, sizeof(want));
}

/* The data that the first owner wrote */
static uint8_t value(unsigned table, unsigned cluster)
{
    return 1 + table * CLUSTERS + cluster;
}

static void expect_all(BlockBackend *blk)
{
    for (unsigned t = 0; t < TABLES; t++) {
        for (unsigned c = 0; c < CLUSTERS; c++) {
            expect(blk, t, c, value(t, c));
        }
    }
}

static CsvDisk *disk_of(BlockBackend *blk)
{
    return blk_bs(blk)->opaque;
}

static unsigned unscanned(BlockBackend *blk)
{
    return bitmap_count_one(disk_of(blk)->unscanned, CSV_MAX_L2_TABLES);
}

static BlockBackend *open_disk(const char *node, int flags)
{
    QDict *options = qdict_new();
    BlockDriverState *bs;
    BlockBackend *blk = blk_new(qemu_get_aio_context(),
                                BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE,
                                BLK_PERM_ALL);

    qdict_put_str(options, "driver", "csv");
    qdict_put_str(options, "disk", "one");
    qdict_put_str(options, "file", node);
    bs = bdrv_open(NULL, NULL, options, BDRV_O_RDWR | BDRV_O_UNMAP | flags,
                   &error_abort);
    blk_set_force_allow_inactivate(blk);
    blk_insert_bs(blk, bs, &error_abort);
    bdrv_unref(bs);
    return blk;
}

/* A disk with data in all its tables, open on node "a" */
static BlockBackend *start(void)
{
    BlockBackend *blk;

    sim_device_new(DEVICE_SIZE);
    sim_disk_create("one", DISK_SIZE, NULL, DEVICE_SIZE, &error_abort);
    sim_node_open("a");
    sim_node_open("b");
    blk = open_disk("a", 0);
    for (unsigned t = 0; t < TABLES; t++) {
        for (unsigned c = 0; c < CLUSTERS; c++) {
            g_assert_cmpint(put(blk, t, c, value(t, c)), ==, 0);
        }
    }
    g_assert_cmpint(blk_flush(blk), ==, 0);
    return blk;
}

static void stop(BlockBackend *blk)
{
    blk_unref(blk);
    sim_pair_stop();
}

/*
 * Close @old, and let a node on "b" that was opened before own the disk.  When
 * nobody owns it, @damage changes the map.
 */
static BlockBackend *hand_over(BlockBackend *old,
                               void (*damage)(const CsvDisk *disk))
{
    BlockBackend *blk = open_disk("b", BDRV_O_INACTIVE);

    csv_handover_begin();
    g_assert_cmpint(bdrv_inactivate(blk_bs(old), &error_abort), ==, 0);
    if (damage) {
        damage(disk_of(old));
    }
    bdrv_graph_rdlock_main_loop();
    bdrv_activate(blk_bs(blk), &error_abort);
    bdrv_graph_rdunlock_main_loop();
    csv_handover_set_token(NULL);
    blk_unref(old);
    g_assert_true(disk_of(blk)->owned);
    g_assert_false(csv_map_is_scanned(disk_of(blk)));
    g_assert_cmpint(unscanned(blk), ==, TABLES);
    return blk;
}

/* A write that needs a cluster waits for the scan. */
static void test_allocate(void)
{
    BlockBackend *blk = hand_over(start(), NULL);

    for (unsigned c = 0; c < CLUSTERS; c++) {
        g_assert_cmpint(put(blk, 4, CLUSTERS + c, 0xa0 + c), ==, 0);
    }
    g_assert_true(csv_map_is_scanned(disk_of(blk)));
    g_assert_cmpint(unscanned(blk), ==, 0);
    expect_all(blk);
    for (unsigned c = 0; c < CLUSTERS; c++) {
        expect(blk, 4, CLUSTERS + c, 0xa0 + c);
    }
    stop(blk);
}

/* Requests that allocate nothing do not wait, but scan the table they load. */
static void test_request(void)
{
    BlockBackend *blk = hand_over(start(), NULL);

    expect(blk, 3, 0, value(3, 0));
    g_assert_cmpint(unscanned(blk), ==, TABLES - 1);
    g_assert_cmpint(put(blk, 3, 1, 0xb0), ==, 0);
    g_assert_cmpint(unscanned(blk), ==, TABLES - 1);

    /* What is freed can be used again. */
    g_assert_cmpint(blk_pdiscard(blk, place(5, 2), CSV_CLUSTER_SIZE, 0), ==,
                    0);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    g_assert_cmpint(unscanned(blk), ==, TABLES - 2);
    expect(blk, 5, 2, 0);
    for (unsigned c = CLUSTERS; c < 4 * CLUSTERS; c++) {
        g_assert_cmpint(put(blk, 6, c, 0xc0 + c), ==, 0);
    }
    for (unsigned c = CLUSTERS; c < 4 * CLUSTERS; c++) {
        expect(blk, 6, c, 0xc0 + c);
    }
    expect(blk, 3, 1, 0xb0);
    expect(blk, 5, 2, 0);
    g_assert_cmpint(put(blk, 3, 1, value(3, 1)), ==, 0);
    g_assert_cmpint(put(blk, 5, 2, value(5, 2)), ==, 0);
    expect_all(blk);
    stop(blk);
}

static void coroutine_fn adjust_entry(void *opaque)
{
    CsvDisk *disk = opaque;

    WITH_GRAPH_RDLOCK_GUARD() {
        csv_segments_adjust(disk);
    }
    qatomic_set(&disk->adjusting, false);
    bdrv_dec_in_flight(disk->bs);
}

/* No segment is returned while it is not known what is in use. */
static void test_return(void)
{
    BlockBackend *blk = hand_over(start(), NULL);
    CsvDisk *disk = disk_of(blk);
    guint segments = disk->segments->len;

    csv_adjust_with(disk, qemu_get_aio_context(), adjust_entry);
    BDRV_POLL_WHILE(disk->bs, qatomic_read(&disk->adjusting));
    g_assert_cmpint(disk->segments->len, >=, segments);
    g_assert_cmpint(disk->stats.segments_freed, ==, 0);
    g_assert_false(csv_map_is_scanned(disk));

    /* Nor when the disk is closed then. */
    blk_unref(blk);
    blk = open_disk("b", 0);
    expect_all(blk);
    stop(blk);
}

static int scanned;

static void coroutine_fn scan_entry(void *opaque)
{
    WITH_GRAPH_RDLOCK_GUARD() {
        scanned = csv_map_scan(opaque, true);
    }
    aio_wait_kick();
}

static void expect_gives_way(BlockDriverState *bs)
{
    scanned = 1;
    aio_co_enter(qemu_get_aio_context(),
                 qemu_coroutine_create(scan_entry, bs->opaque));
    AIO_WAIT_WHILE(NULL, scanned == 1);
    g_assert_cmpint(scanned, ==, -ECANCELED);
    g_assert_false(csv_map_is_scanned(bs->opaque));
}

/*
 * The scan in the background gives way to a drained section and to the release
 * of the disk, and continues.
 */
static void test_background(void)
{
    BlockBackend *blk = hand_over(start(), NULL);
    BlockDriverState *bs = blk_bs(blk);

    bdrv_drained_begin(bs);
    expect_gives_way(bs);
    bdrv_drained_end(bs);

    csv_adjust_stop(bs->opaque);
    expect_gives_way(bs);
    csv_adjust_start(bs->opaque);
    while (!csv_map_is_scanned(bs->opaque)) {
        main_loop_wait(false);
    }
    g_assert_cmpint(unscanned(blk), ==, 0);
    blk_drain(blk);
    expect_all(blk);
    g_assert_cmpint(put(blk, 0, CLUSTERS, 0xd0), ==, 0);
    expect_all(blk);
    stop(blk);
}

/* Let cluster 0 of table 7 be where cluster 0 of table 2 is. */
static void alias(const CsvDisk *disk)
{
    const unsigned from = 2, to = 7;
    uint8_t buf[CSV_SECTOR_SIZE];
    CsvL2Entry source[CSV_L2_PER_SECTOR], entry[CSV_L2_PER_SECTOR];

    sim_peek(disk->l1[from], buf, sizeof(buf));
    g_assert_true(csv_l2_decode(buf, &disk->record.uuid,
                                from * CSV_L2_SECTORS, source, &error_abort));
    sim_peek(disk->l1[to], buf, sizeof(buf));
    g_assert_true(csv_l2_decode(buf, &disk->record.uuid, to * CSV_L2_SECTORS,
                                entry, &error_abort));
    entry[0].offset = source[0].offset;
    csv_l2_encode(entry, &disk->record.uuid, to * CSV_L2_SECTORS, buf);
    sim_poke(disk->l1[to], buf, sizeof(buf));
}

/* Damage is found by the request that meets it, and nothing is allocated. */
static void test_damaged(void)
{
    BlockBackend *blk = hand_over(start(), alias);
    uint8_t buf[BLOCK];

    expect(blk, 2, 0, value(2, 0));
    g_assert_cmpint(blk_pread(blk, place(7, 0), sizeof(buf), buf, 0), ==,
                    -EIO);
    g_assert_cmpint(put(blk, 7, 1, 0xe0), ==, -EIO);
    g_assert_cmpint(put(blk, 4, CLUSTERS, 0xe0), ==, -EIO);
    g_assert_cmpint(put(blk, 4, CLUSTERS, 0xe0), ==, -EIO);
    g_assert_false(csv_map_is_scanned(disk_of(blk)));
    expect(blk, 4, CLUSTERS, 0);
    expect(blk, 2, 0, value(2, 0));
    g_assert_cmpint(put(blk, 2, 0, 0xe1), ==, 0);
    expect(blk, 2, 0, 0xe1);
    stop(blk);
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/csv/scan/allocate", test_allocate);
    g_test_add_func("/csv/scan/request", test_request);
    g_test_add_func("/csv/scan/return", test_return);
    g_test_add_func("/csv/scan/background", test_background);
    g_test_add_func("/csv/scan/damaged", test_damaged);
    return g_test_run();
}
