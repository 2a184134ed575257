/*
 * Members of a csv volume: membership, and the gate before writes
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

/* Coroutines that join and leave at once through one node */
typedef struct Visitor {
    CsvVolume *vol;
    BdrvChild *file;
} Visitor;

static void coroutine_fn visit_entry(void *opaque)
{
    Visitor *v = opaque;

    for (unsigned i = 0; i < 20; i++) {
        GRAPH_RDLOCK_GUARD();
        CsvMemberRecord rec;

        g_assert_cmpint(csv_member_attach(v->vol, v->file, &error_abort), ==,
                        0);
        g_assert_true(v->vol->locked);
        csv_member_read(v->vol, v->file, v->vol->me.slot, &rec, &error_abort);
        g_assert_cmpint(rec.state, ==, CSV_MEMBER_ACTIVE);
        g_assert_cmpint(rec.incarnation, ==, v->vol->me.incarnation);
        g_assert_cmpint(bdrv_co_liveness_lock(v->vol->bs, 2 * rec.slot +
                                              (rec.incarnation & 1),
                                              BDRV_LIVENESS_TEST), ==, -EBUSY);
        csv_member_detach(v->vol, v->file);
    }
    running--;
}

static void test_membership(void)
{
    SimFaults slow = { .delay = 70 };
    BlockBackend *blk;
    Visitor v;

    sim_pair_start();
    blk = blk_new_with_bs(bdrv_lookup_bs("a", "a", NULL),
                          BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE,
                          BLK_PERM_ALL, &error_abort);
    bdrv_graph_rdlock_main_loop();
    v.file = csv_blk_child(blk);
    v.vol = csv_volume_get(v.file, &error_abort);
    bdrv_graph_rdunlock_main_loop();
    for (unsigned seed = 1; seed <= 20; seed++) {
        sim_device_faults(&slow, seed);
        for (unsigned i = 0; i < 3; i++) {
            begin(visit_entry, &v);
        }
        wait_for(0);
        g_assert_cmpint(v.vol->attached, ==, 0);
        g_assert_false(v.vol->locked);
    }
    bdrv_graph_rdlock_main_loop();
    csv_volume_put(v.vol);
    bdrv_graph_rdunlock_main_loop();
    blk_unref(blk);
    sim_pair_stop();
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
    g_test_add_func("/csv/member/membership", test_membership);
    g_test_add_func("/csv/member/gate", test_gate);
    return g_test_run();
}
