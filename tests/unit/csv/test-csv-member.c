/*
 * Members of a csv volume: membership, leases, and the gate before writes
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block.h"
#include "block/csv/disk/disk.h"
#include "block/csv/volume/lease.h"
#include "qapi/error.h"
#include "qobject/qdict.h"
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

/* Join, look whether we are in, and leave again. */
static void coroutine_fn GRAPH_RDLOCK visit(Visitor *v)
{
    CsvMemberRecord rec;

    g_assert_cmpint(csv_member_attach(v->vol, v->file, &error_abort), ==, 0);
    g_assert_true(v->vol->locked);
    csv_member_read(v->vol, v->file, v->vol->me.slot, &rec, &error_abort);
    g_assert_cmpint(rec.state, ==, CSV_MEMBER_ACTIVE);
    g_assert_cmpint(rec.incarnation, ==, v->vol->me.incarnation);
    g_assert_cmpint(bdrv_co_liveness_lock(v->vol->bs, 2 * rec.slot +
                                          (rec.incarnation & 1),
                                          BDRV_LIVENESS_TEST), ==, -EBUSY);
    csv_member_detach(v->vol, v->file);
}

static void coroutine_fn visit_entry(void *opaque)
{
    for (unsigned i = 0; i < 20; i++) {
        bdrv_graph_co_rdlock();
        visit(opaque);
        bdrv_graph_co_rdunlock();
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

static BlockDriverState *open_inactive(const char *node, const char *disk)
{
    QDict *options = qdict_new();

    qdict_put_str(options, "driver", "csv");
    qdict_put_str(options, "disk", disk);
    qdict_put_str(options, "file", node);
    return bdrv_open(NULL, NULL, options, BDRV_O_RDWR | BDRV_O_INACTIVE,
                     &error_abort);
}

static void activate(BlockDriverState *bs)
{
    GRAPH_RDLOCK_GUARD_MAINLOOP();

    bdrv_activate(bs, &error_abort);
}

static CsvVolume *volume_of(BlockDriverState *bs)
{
    CsvDisk *disk = bs->opaque;

    return disk->volume;
}

/* An inactive node remembers a slot to join in; it may be taken by then. */
static void test_hint(void)
{
    BlockDriverState *one, *two;

    sim_pair_start();
    one = open_inactive("a", "one");
    two = open_inactive("b", "two");
    g_assert_cmpint(volume_of(one)->slot_hint, ==, 0);
    g_assert_cmpint(volume_of(two)->slot_hint, ==, 0);
    activate(two);
    activate(one);
    g_assert_cmpint(volume_of(two)->me.slot, ==, 0);
    g_assert_cmpint(volume_of(one)->me.slot, ==, 1);
    bdrv_unref(one);

    one = open_inactive("a", "one");
    g_assert_cmpint(volume_of(one)->slot_hint, ==, 1);
    volume_of(one)->slot_hint = 5;
    activate(one);
    g_assert_cmpint(volume_of(one)->me.slot, ==, 5);
    bdrv_unref(one);
    bdrv_unref(two);
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

/* A lease that needs a beat, as the test has it */
static struct {
    int64_t renewed;            /* what ->renew() returns */
    bool held;
    int64_t dead_ns;            /* a beat that is older is that of a dead one */
    int64_t seen;               /* of the peer judged last */
} beat;

static int GRAPH_RDLOCK beat_probe(CsvVolume *vol, BdrvChild *file,
                                   Error **errp)
{
    return 0;
}

static int GRAPH_RDLOCK beat_acquire(CsvVolume *vol, BdrvChild *file,
                                     const CsvMemberRecord *rec, Error **errp)
{
    beat.held = true;
    return 0;
}

static int64_t GRAPH_RDLOCK beat_renew(CsvVolume *vol, BdrvChild *file)
{
    return beat.renewed;
}

static CsvLiveness GRAPH_RDLOCK
beat_judge(CsvVolume *vol, BdrvChild *file, const CsvMemberRecord *rec,
           const CsvPeer *peer)
{
    if (!peer) {
        return CSV_LIVENESS_UNKNOWN;
    }
    beat.seen = peer->seen;
    return get_clock() - peer->seen > beat.dead_ns ? CSV_LIVENESS_DEAD
                                                   : CSV_LIVENESS_ALIVE;
}

static CsvLiveness GRAPH_RDLOCK
beat_judge_slot(CsvVolume *vol, BdrvChild *file, uint32_t slot)
{
    return CSV_LIVENESS_UNKNOWN;
}

static void GRAPH_RDLOCK beat_release(CsvVolume *vol,
                                      const CsvMemberRecord *rec)
{
    beat.held = false;
}

static const CsvLeaseOps beat_lease = {
    .name       = "test",
    .kind       = CSV_LIVENESS_BY_HEARTBEAT,
    .caps       = CSV_LEASE_REACHES_HOSTS | CSV_LEASE_FENCES_IO |
                  CSV_LEASE_NEEDS_BEAT,
    .probe      = beat_probe,
    .acquire    = beat_acquire,
    .renew      = beat_renew,
    .judge      = beat_judge,
    .judge_slot = beat_judge_slot,
    .release    = beat_release,
};

/* A peer with this lease is alive as long as its beat changes. */
static void GRAPH_RDLOCK judge_peer(CsvVolume *vol, BdrvChild *file,
                                    CsvMemberRecord *rec)
{
    uint64_t offset = csv_member_offset(vol, rec->slot);
    uint8_t raw[CSV_RECORD_SIZE];
    int64_t before;

    for (rec->beat = 1; rec->beat < 4; rec->beat++) {
        csv_member_encode(rec, &vol->sb, raw);
        sim_poke(offset, raw, sizeof(raw));
        before = get_clock();
        if (rec->beat > 1) {
            csv_lease_tick(vol, file);
        }
        beat.dead_ns = 100 * NANOSECONDS_PER_SECOND;
        g_assert_cmpint(csv_member_liveness(vol, file, rec, rec->incarnation),
                        ==, CSV_LIVENESS_ALIVE);
        g_assert_cmpint(beat.seen, >=, before);
    }
    rec->beat--;
    before = get_clock();
    csv_lease_tick(vol, file);
    beat.dead_ns = 0;
    g_assert_cmpint(csv_member_liveness(vol, file, rec, rec->incarnation), ==,
                    CSV_LIVENESS_DEAD);
    g_assert_cmpint(beat.seen, <, before);
}

/* Another lease needs no change of the code that uses leases. */
static void test_lease(void)
{
    g_autofree uint8_t *buf = g_malloc0(4 * KiB);
    BlockBackend *one;
    CsvMemberRecord rec;
    CsvVolume *vol;
    Request r;

    sim_pair_start();
    csv_lease_set(CSV_LIVENESS_BY_HEARTBEAT, &beat_lease);
    beat.renewed = 100 * NANOSECONDS_PER_SECOND;
    one = sim_disk_open("a", "one");
    vol = disk_of(one)->volume;
    g_assert_true(beat.held && vol->lease == &beat_lease);
    g_assert_cmpint(vol->gate.deadline, <, INT64_MAX);
    g_assert_true(csv_gate_is_open(&vol->gate));
    {
        GRAPH_RDLOCK_GUARD_MAINLOOP();
        BdrvChild *file = disk_of(one)->bs->file;

        csv_member_read(vol, file, vol->me.slot, &rec, &error_abort);
        g_assert_cmpint(rec.liveness, ==, CSV_LIVENESS_BY_HEARTBEAT);
        rec.slot = vol->me.slot + 1;
        judge_peer(vol, file, &rec);

        /* We may write as long as the renewal said. */
        beat.renewed = 1;
        csv_lease_tick(vol, file);
    }
    r = (Request) { one, buf, -EINPROGRESS };
    begin(request_entry, &r);
    poll_for_ms(20);
    g_assert_cmpint(r.ret, ==, -EINPROGRESS);

    /* The timer renews it. */
    beat.renewed = 100 * NANOSECONDS_PER_SECOND;
    wait_for(0);
    g_assert_cmpint(r.ret, ==, 0);

    beat.renewed = -ESTALE;
    while (csv_gate_is_open(&vol->gate)) {
        aio_poll(qemu_get_aio_context(), true);
    }
    r = (Request) { one, buf, -EINPROGRESS };
    begin(request_entry, &r);
    wait_for(0);
    g_assert_cmpint(r.ret, ==, -ESTALE);
    blk_unref(one);
    g_assert_false(beat.held);
    csv_lease_set(CSV_LIVENESS_BY_HEARTBEAT, NULL);
    sim_pair_stop();
}

static int edit_beat(CsvMemberRecord *me, void *opaque, Error **errp)
{
    me->beat++;
    return 1;
}

/* A member that was declared dead stops writing when it notices. */
static void test_evict(void)
{
    g_autofree uint8_t *buf = g_malloc0(4 * KiB);
    BlockBackend *one, *two;
    CsvVolume *vol, *other;
    BdrvChild *file;
    uint64_t incarnation;

    sim_pair_start();
    one = sim_disk_open("a", "one");
    two = sim_disk_open("b", "two");
    vol = disk_of(one)->volume;
    other = disk_of(two)->volume;
    bdrv_graph_rdlock_main_loop();
    file = disk_of(two)->bs->file;
    incarnation = vol->me.incarnation;
    g_assert_cmpint(csv_member_evict(other, file, vol->me.slot, incarnation,
                                     NULL), ==, -EBUSY);
    sim_device_drop_locks();
    g_assert_cmpint(csv_member_evict(other, file, vol->me.slot,
                                     incarnation - 1, NULL), ==, -ENOENT);
    g_assert_cmpint(csv_member_evict(other, file, vol->me.slot,
                                     incarnation + 1, NULL), ==, -ENOENT);
    g_assert_cmpint(csv_member_evict(other, file, other->sb.member_slots, 1,
                                     NULL), ==, -EINVAL);
    g_assert_cmpint(csv_member_evict(other, file, vol->me.slot, incarnation,
                                     &error_abort), ==, 0);
    g_assert_cmpint(csv_member_evict(other, file, vol->me.slot, incarnation,
                                     NULL), ==, -ENOENT);
    bdrv_graph_rdunlock_main_loop();

    g_assert_cmpint(blk_pwrite(one, 0, 4 * KiB, buf, 0), ==, 0);
    bdrv_graph_rdlock_main_loop();
    g_assert_cmpint(csv_member_change(vol, disk_of(one)->bs->file, edit_beat,
                                      NULL, NULL), ==, -ESTALE);
    bdrv_graph_rdunlock_main_loop();
    g_assert_cmpint(blk_pwrite(one, 0, 4 * KiB, buf, 0), ==, -ESTALE);
    blk_unref(one);
    blk_unref(two);
    sim_pair_stop();
}

/* Two members on storage that may drop the locks of those that live */
typedef struct Vanish {
    BlockBackend *one, *two;
    CsvVolume *vol, *other;
    BdrvChild *file, *other_file;
} Vanish;

static Vanish vanish_start(void)
{
    SimFaults faults = { .may_vanish = true };
    Vanish v;

    sim_pair_start();
    sim_device_faults(&faults, 1);
    sim_node_open("c");
    sim_node_open("d");
    v.one = sim_disk_open("c", "one");
    v.two = sim_disk_open("d", "two");
    v.vol = disk_of(v.one)->volume;
    v.other = disk_of(v.two)->volume;
    v.file = disk_of(v.one)->bs->file;
    v.other_file = disk_of(v.two)->bs->file;
    g_assert_nonnull(v.vol->lease_timer);
    sim_device_drop_locks();
    return v;
}

static void vanish_stop(Vanish *v)
{
    blk_unref(v->one);
    blk_unref(v->two);
    bdrv_unref(bdrv_lookup_bs("c", "c", NULL));
    bdrv_unref(bdrv_lookup_bs("d", "d", NULL));
    sim_pair_stop();
}

static CsvLiveness GRAPH_RDLOCK judge(Vanish *v, const CsvMemberRecord *rec)
{
    return csv_member_liveness(v->other, v->other_file, rec,
                               rec->incarnation);
}

/* A lock that vanished proves nothing as long as the process may live. */
static void test_vanished(void)
{
    Vanish v = vanish_start();
    CsvMemberRecord rec, peer;
    QDict *options = qdict_new();
    Error *err = NULL;

    qdict_put_str(options, "driver", "csv");
    qdict_put_str(options, "disk", "one");
    qdict_put_str(options, "file", "d");
    g_assert_null(blk_new_open(NULL, NULL, options, BDRV_O_RDWR, &err));
    error_free_or_abort(&err);
    g_assert_true(disk_of(v.one)->owned);

    bdrv_graph_rdlock_main_loop();
    csv_member_read(v.other, v.other_file, v.vol->me.slot, &rec, &error_abort);
    g_assert_cmpint(judge(&v, &rec), ==, CSV_LIVENESS_UNKNOWN);

    peer = rec;
    peer.pid = INT32_MAX;
    g_assert_cmpint(judge(&v, &peer), ==, CSV_LIVENESS_DEAD);
    peer.pid_space++;
    g_assert_cmpint(judge(&v, &peer), ==, CSV_LIVENESS_UNKNOWN);
    peer.pid_space = 0;
    g_assert_cmpint(judge(&v, &peer), ==, CSV_LIVENESS_UNKNOWN);
    peer = rec;
    peer.boot_id.data[0] ^= 1;
    if (!qemu_uuid_is_null(&peer.host_id)) {
        g_assert_cmpint(judge(&v, &peer), ==, CSV_LIVENESS_DEAD);
    }
    peer.host_id.data[0] ^= 1;
    g_assert_cmpint(judge(&v, &peer), ==, CSV_LIVENESS_UNKNOWN);

    /* Its owner takes the lock again. */
    csv_lease_tick(v.vol, v.file);
    g_assert_true(csv_gate_is_open(&v.vol->gate));
    g_assert_cmpint(judge(&v, &rec), ==, CSV_LIVENESS_ALIVE);
    peer = rec;
    peer.pid = INT32_MAX;
    g_assert_cmpint(judge(&v, &peer), ==, CSV_LIVENESS_ALIVE);
    bdrv_graph_rdunlock_main_loop();
    vanish_stop(&v);
}

/* The same if a damaged record does not say which process that is. */
static void test_vanished_damaged(void)
{
    Vanish v = vanish_start();
    uint8_t raw[CSV_RECORD_SIZE];
    uint32_t slot = v.vol->me.slot;
    uint64_t offset = csv_member_offset(v.vol, slot);
    char *who = NULL;

    sim_peek(offset, raw, sizeof(raw));
    raw[100] ^= 1;
    sim_poke(offset, raw, sizeof(raw));
    bdrv_graph_rdlock_main_loop();
    g_assert_true(csv_member_other(v.other, v.other_file, &who));
    g_free(who);
    g_assert_cmpint(csv_lease_judge_slot(v.other, v.other_file, slot), ==,
                    CSV_LIVENESS_UNKNOWN);

    csv_lease_tick(v.vol, v.file);
    g_assert_cmpint(csv_lease_judge_slot(v.other, v.other_file, slot), ==,
                    CSV_LIVENESS_ALIVE);
    g_assert_cmpint(csv_member_evict(v.other, v.other_file, slot, 0, NULL),
                    ==, -EBUSY);

    /* The administrator knows better, and knows no incarnation. */
    sim_device_drop_locks();
    g_assert_cmpint(csv_member_evict(v.other, v.other_file, slot,
                                     v.vol->me.incarnation, NULL), <, 0);
    csv_member_evict(v.other, v.other_file, slot, 0, &error_abort);
    g_assert_false(csv_member_other(v.other, v.other_file, &who));
    g_assert_cmpint(csv_member_evict(v.other, v.other_file, slot, 0, NULL),
                    ==, -ENOENT);
    csv_lease_tick(v.vol, v.file);
    g_assert_true(csv_gate_is_cut(&v.vol->gate));
    bdrv_graph_rdunlock_main_loop();
    vanish_stop(&v);
}

static void check_no_write(SimTrace *trace)
{
    for (unsigned i = 0; i < sim_trace_length(trace); i++) {
        g_assert_cmpint(sim_trace_event(trace, i)->kind, !=, SIM_WRITE);
    }
    sim_trace_free(trace);
}

/*
 * The member was declared dead while its lock was gone: it writes nothing more,
 * whether or not another one has its slot now.
 */
static void do_vanished_late(bool slot_taken)
{
    g_autofree uint8_t *buf = g_malloc0(4 * KiB);
    Vanish v = vanish_start();
    unsigned slot = v.vol->me.slot;

    g_assert_cmpint(blk_pwrite(v.one, 0, 4 * KiB, buf, 0), ==, 0);
    bdrv_graph_rdlock_main_loop();
    csv_member_evict(v.other, v.other_file, slot, v.vol->me.incarnation,
                     &error_abort);
    bdrv_graph_rdunlock_main_loop();
    if (slot_taken) {
        BlockBackend *next;

        sim_node_open("e");
        next = sim_disk_open("e", "one");
        g_assert_cmpint(disk_of(next)->volume->me.slot, ==, slot);
        g_assert_true(csv_gate_is_open(&v.vol->gate));
        bdrv_graph_rdlock_main_loop();
        csv_lease_tick(v.vol, v.file);
        bdrv_graph_rdunlock_main_loop();
        blk_unref(next);
        bdrv_unref(bdrv_lookup_bs("e", "e", NULL));
    } else {
        bdrv_graph_rdlock_main_loop();
        csv_lease_tick(v.vol, v.file);
        bdrv_graph_rdunlock_main_loop();
    }
    g_assert_false(csv_gate_is_open(&v.vol->gate));
    sim_trace_start();
    g_assert_cmpint(blk_pwrite(v.one, 0, 4 * KiB, buf, 0), ==, -ESTALE);
    g_assert_cmpint(blk_flush(v.one), ==, -ESTALE);
    check_no_write(sim_trace_stop());
    vanish_stop(&v);
}

static void test_vanished_late(void)
{
    do_vanished_late(false);
    do_vanished_late(true);
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/csv/member/membership", test_membership);
    g_test_add_func("/csv/member/hint", test_hint);
    g_test_add_func("/csv/member/gate", test_gate);
    g_test_add_func("/csv/member/lease", test_lease);
    g_test_add_func("/csv/member/evict", test_evict);
    g_test_add_func("/csv/member/vanished", test_vanished);
    g_test_add_func("/csv/member/vanished-damaged", test_vanished_damaged);
    g_test_add_func("/csv/member/vanished-late", test_vanished_late);
    return g_test_run();
}
