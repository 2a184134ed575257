/*
 * What a flush of a csv disk costs: requests to the device, in their order
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

#define DEVICE_SIZE     (64 * MiB)
#define DISK_SIZE       (1 * GiB)

static BlockBackend *open_disk(const char *name)
{
    QDict *options = qdict_new();

    qdict_put_str(options, "driver", "csv");
    qdict_put_str(options, "disk", name);
    qdict_put_str(options, "discard", "unmap");
    qdict_put_str(options, "file.driver", "csv-sim");
    qdict_put_str(options, "file.discard", "unmap");
    return blk_new_open(NULL, NULL, options, BDRV_O_RDWR | BDRV_O_UNMAP,
                        &error_abort);
}

/* 4 KiB at the start of a cluster, or somewhere else in it */
static void write_at(BlockBackend *blk, unsigned cluster, unsigned in)
{
    static uint8_t buf[4 * KiB];

    memset(buf, 0x5a, sizeof(buf));
    g_assert_cmpint(blk_pwrite(blk, (cluster << CSV_CLUSTER_BITS) + in,
                               sizeof(buf), buf, 0), >=, 0);
}

static void discard(BlockBackend *blk, unsigned cluster)
{
    g_assert_cmpint(blk_pdiscard(blk, (int64_t)cluster << CSV_CLUSTER_BITS,
                                 CSV_CLUSTER_SIZE, 0), >=, 0);
}

static void flush(BlockBackend *blk)
{
    g_assert_cmpint(blk_flush(blk), >=, 0);
}

/* W: data, J: journal record, Z: zeroes or discard, M: other, F: flush */
static char event_letter(const SimEvent *event)
{
    if (event->kind == SIM_FLUSH) {
        return 'F';
    }
    if (!event->data) {
        return 'Z';
    }
    if (memcmp(event->data, "CSV", 3)) {
        return 'W';
    }
    return event->data[3] == 'J' ? 'J' : 'M';
}

/* All requests since the last time, or since the start */
static void assert_requests(const char *want)
{
    SimTrace *trace = sim_trace_stop();
    g_autoptr(GString) have = g_string_new(NULL);

    for (unsigned i = 0; i < sim_trace_length(trace); i++) {
        const SimEvent *event = sim_trace_event(trace, i);

        if (event->kind == SIM_WRITE || event->kind == SIM_FLUSH) {
            g_string_append_c(have, event_letter(event));
        }
    }
    sim_trace_free(trace);
    sim_trace_start();
    g_assert_cmpstr(have->str, ==, want);
}

/* A disk with a cluster that has data; segments for more are claimed. */
static BlockBackend *start(const char *backing)
{
    BlockBackend *blk;

    sim_device_new(DEVICE_SIZE);
    if (backing) {
        sim_disk_create(backing, DISK_SIZE, NULL, DEVICE_SIZE, &error_abort);
    }
    sim_disk_create("disk", DISK_SIZE, backing, backing ? 0 : DEVICE_SIZE,
                    &error_abort);
    blk = open_disk("disk");
    write_at(blk, 0, 0);
    flush(blk);
    sim_trace_start();
    return blk;
}

static void stop(BlockBackend *blk)
{
    sim_trace_free(sim_trace_stop());
    blk_unref(blk);
    sim_device_free();
}

static void test_nothing(void)
{
    BlockBackend *blk = start(NULL);

    flush(blk);
    assert_requests("");
    stop(blk);
}

static void test_allocated(void)
{
    BlockBackend *blk = start(NULL);

    write_at(blk, 0, 0);
    flush(blk);
    assert_requests("WF");
    stop(blk);
}

/* The record's flush is that of the data, too. */
static void test_new(void)
{
    BlockBackend *blk = start(NULL);

    write_at(blk, 1, 0);
    flush(blk);
    assert_requests("WJF");
    stop(blk);
}

/* One record, however many places are new */
static void test_many_new(void)
{
    BlockBackend *blk = start(NULL);

    write_at(blk, 1, 0);
    write_at(blk, 1, 3 * CSV_SUBCLUSTER_SIZE);
    write_at(blk, 2, 5 * CSV_SUBCLUSTER_SIZE);
    write_at(blk, 3, 0);
    flush(blk);
    assert_requests("WWWWJF");
    stop(blk);
}

/* With a backing disk zeroes are not what was there: data first. */
static void test_new_in_overlay(void)
{
    BlockBackend *blk = start("base");

    write_at(blk, 1, 0);
    flush(blk);
    assert_requests("WFJF");
    stop(blk);
}

/*
 * The record that frees a cluster, and then the discard; the next data may
 * stand in that cluster, and its zeroes are not durable yet.
 */
static void test_freed(void)
{
    BlockBackend *blk = start(NULL);

    discard(blk, 0);
    flush(blk);
    assert_requests("JFZ");
    write_at(blk, 1, 0);
    flush(blk);
    assert_requests("WFJF");
    write_at(blk, 2, 0);
    flush(blk);
    assert_requests("WJF");
    stop(blk);
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/csv/flush/nothing", test_nothing);
    g_test_add_func("/csv/flush/allocated", test_allocated);
    g_test_add_func("/csv/flush/new", test_new);
    g_test_add_func("/csv/flush/many-new", test_many_new);
    g_test_add_func("/csv/flush/new-in-overlay", test_new_in_overlay);
    g_test_add_func("/csv/flush/freed", test_freed);
    return g_test_run();
}
