/*
 * Members of a csv volume: the gate before writes
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block.h"
#include "block/csv/disk/disk.h"
#include "block/csv/volume/volume.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "sim-device.h"
#include "sim-volume.h"
#include "system/block-backend.h"

static CsvDisk *disk_of(BlockBackend *blk)
{
    return blk_bs(blk)->opaque;
}

static unsigned running;

static void begin(CoroutineEntry *entry, void *opaque)
{
    running++;
    aio_co_enter(qemu_get_aio_context(),
                 qemu_coroutine_create(entry, opaque));
}

static void wait_for(unsigned left)
{
    while (running > left) {
        aio_poll(qemu_get_aio_context(), true);
    }
}

typedef struct Request {
    BlockBackend *blk;
    uint8_t *buf;       /* NULL: flush */
    int ret;
} Request;

static void coroutine_fn request_entry(void *opaque)
{
    Request *r = opaque;

    r->ret = r->buf ? blk_co_pwrite(r->blk, 0, 4 * KiB, r->buf, 0)
                    : blk_co_flush(r->blk);
    running--;
}

static void poll_for_ms(unsigned ms)
{
    int64_t end = get_clock() + ms * SCALE_MS;

    while (get_clock() < end) {
        aio_poll(qemu_get_aio_context(), false);
    }
}

/* Writes wait while the member may not write, and fail when it never may. */
static void test_gate(void)
{
    g_autofree uint8_t *buf = g_malloc0(4 * KiB);
    BlockBackend *one;
    CsvVolume *vol;
    Request r;

    sim_pair_start();
    one = sim_disk_open("a", "one");
    vol = disk_of(one)->volume;
    g_assert_true(csv_gate_is_open(&vol->gate));

    r = (Request) { one, buf, -EINPROGRESS };
    csv_gate_extend(vol, get_clock());
    begin(request_entry, &r);
    poll_for_ms(20);
    g_assert_cmpint(r.ret, ==, -EINPROGRESS);
    csv_gate_extend(vol, get_clock() + 100 * NANOSECONDS_PER_SECOND);
    wait_for(0);
    g_assert_cmpint(r.ret, ==, 0);

    /* The journal, too */
    r = (Request) { one, NULL, -EINPROGRESS };
    csv_gate_extend(vol, get_clock());
    begin(request_entry, &r);
    poll_for_ms(20);
    g_assert_cmpint(r.ret, ==, -EINPROGRESS);
    csv_gate_extend(vol, INT64_MAX);
    wait_for(0);
    g_assert_cmpint(r.ret, ==, 0);

    r = (Request) { one, buf, -EINPROGRESS };
    csv_gate_extend(vol, get_clock());
    begin(request_entry, &r);
    poll_for_ms(20);
    csv_gate_cut(vol);
    wait_for(0);
    g_assert_cmpint(r.ret, ==, -ESTALE);
    csv_gate_extend(vol, INT64_MAX);
    g_assert_false(csv_gate_is_open(&vol->gate));
    blk_unref(one);
    sim_pair_stop();
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/csv/member/gate", test_gate);
    return g_test_run();
}
