/*
 * Live migration of guests with disks on a cluster shared volume
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Two QEMU processes on one volume stand for two hosts. There is no guest:
 * the test drives the virtio-blk device itself, so each acknowledged write is
 * known. Whatever is done to a migration, afterwards
 *
 *  - at most one process runs the guest, and the test says which;
 *  - that process owns all disks, at the epoch that the test expects;
 *  - all data that was written is there.
 */

#include "qemu/osdep.h"
#include <sys/resource.h>
#include "csv/csv-vm.h"
#include "csv/proxy.h"
#include "qobject/qdict.h"

/* Memory that is not zero, and so has to be sent, and a rate that is slow */
#define FILL_START          (24 * MiB)
#define FILL_SIZE           (32 * MiB)
#define SLOW_BYTES_PER_S    (1 * MiB)

/* Make the guest's memory take its time */
static void guest_fill_memory(CsvVm *vm)
{
    qtest_memset(vm->qts, FILL_START, 0xa5, FILL_SIZE);
}

/*
 * @winner runs, or will so soon; @other does not and will not. @claims is how
 * often the disks have got an owner in all, or 0 when that is left open: a
 * source whose migration fails may or may not have let go of them before.
 */
static void check_winner(CsvScene *s, CsvVm *winner, CsvVm *other, int claims)
{
    csv_vm_wait(winner, "running");
    for (int i = 0; i < s->disks; i++) {
        CsvDiskState d = csv_query_disk(winner, i);

        g_assert_cmpstr(d.state, ==, "owned");
        g_assert_cmpint(d.owner_pid, ==, winner->pid);
        if (claims) {
            g_assert_cmpint(d.epoch, ==, claims);
        }
    }
    csv_guest_use_disks(s, winner);
    if (other) {
        g_assert_false(csv_vm_is(other, "running"));
        /* Nor does it believe to own anything */
        for (int i = 0; i < s->disks; i++) {
            g_assert_cmpint(csv_query_disk(other, i).owner_pid,
                            ==, winner->pid);
        }
    }
}

/* All is over: the next one to open the disks gets them, and the data */
static void finish(CsvScene *s)
{
    CsvVm *vm = csv_vm_start(s, "");

    check_winner(s, vm, NULL, 0);
    csv_vm_quit(vm);
    csv_scene_cleanup(s);
}

static void set_parameter(CsvVm *vm, const char *name, int64_t value)
{
    qtest_qmp_assert_success(vm->qts,
        "{'execute': 'migrate-set-parameters', 'arguments': {%s: %"PRId64"}}",
        name, value);
}

static void set_capability(CsvVm *vm, const char *name)
{
    qtest_qmp_assert_success(vm->qts,
        "{'execute': 'migrate-set-capabilities', 'arguments': {"
        "'capabilities': [{'capability': %s, 'state': true}]}}", name);
}

static void migrate_to(CsvVm *vm, const char *socket)
{
    g_autofree char *uri = g_strdup_printf("unix:%s", socket);

    qtest_qmp_assert_success(vm->qts,
        "{'execute': 'migrate', 'arguments': {'uri': %s}}", uri);
}

static char *migrate_status(CsvVm *vm)
{
    QDict *rsp = qtest_qmp_assert_success_ref(vm->qts,
                                              "{'execute': 'query-migrate'}");
    char *ret = g_strdup(qdict_get_try_str(rsp, "status") ?: "none");

    qobject_unref(rsp);
    return ret;
}

static void migrate_wait(CsvVm *vm, const char *status)
{
    gint64 end = g_get_monotonic_time() + CSV_TIMEOUT_US;

    for (;;) {
        g_autofree char *now = migrate_status(vm);

        if (g_str_equal(now, status)) {
            return;
        }
        if (g_str_equal(now, "failed") || g_str_equal(now, "completed") ||
            g_get_monotonic_time() > end) {
            g_assert_cmpstr(now, ==, status);
        }
        g_usleep(10 * 1000);
    }
}

/* Part of the memory is there, and most is not */
static void migrate_wait_middle(CsvVm *vm)
{
    gint64 end = g_get_monotonic_time() + CSV_TIMEOUT_US;
    int64_t sent = 0;

    migrate_wait(vm, "active");
    while (sent < 2 * SLOW_BYTES_PER_S) {
        QDict *rsp = qtest_qmp_assert_success_ref(vm->qts,
            "{'execute': 'query-migrate'}");

        g_assert_cmpstr(qdict_get_str(rsp, "status"), ==, "active");
        if (qdict_haskey(rsp, "ram")) {
            sent = qdict_get_int(qdict_get_qdict(rsp, "ram"), "transferred");
        }
        qobject_unref(rsp);
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(10 * 1000);
    }
}

static void migrate_continue(CsvVm *vm)
{
    qtest_qmp_assert_success(vm->qts,
        "{'execute': 'migrate-continue',"
        " 'arguments': {'state': 'pre-switchover'}}");
}

/* Both ends, with the guest at work on the source */
static void start_pair(CsvScene *s, int disks, CsvVm **src, CsvVm **dst)
{
    csv_scene_init(s, disks);
    *src = csv_vm_start(s, "");
    check_winner(s, *src, NULL, 1);
    *dst = csv_vm_start_incoming(s, "");
    g_assert_true(csv_vm_is(*dst, "inmigrate"));
}

/* As start_pair(), and the migration has come to where the guest stops */
static void start_pair_at_switchover(CsvScene *s, int disks,
                                     CsvVm **src, CsvVm **dst)
{
    start_pair(s, disks, src, dst);
    set_capability(*src, "pause-before-switchover");
    migrate_to(*src, s->socket);
    migrate_wait(*src, "pre-switchover");
    /* Let the destination read what has been sent */
    g_usleep(200 * 1000);
}

/* Move the guest from @src to @dst, and end both */
static void move_and_finish(CsvScene *s, CsvVm *src, CsvVm *dst)
{
    migrate_to(src, s->socket);
    migrate_wait(src, "completed");
    check_winner(s, dst, src, 2);
    g_assert_true(csv_vm_is(src, "postmigrate"));
    csv_vm_quit(src);
    check_winner(s, dst, NULL, 2);
    csv_vm_quit(dst);
    finish(s);
}

static void do_move(int disks)
{
    CsvScene s;
    CsvVm *src, *dst;

    start_pair(&s, disks, &src, &dst);
    move_and_finish(&s, src, dst);
}

static void test_move(void)
{
    do_move(1);
}

static void test_two_disks(void)
{
    do_move(2);
}

/*
 * Disks in two volumes change hands together or not at all: the destination
 * has an old copy of one of them, first of this one, then of that.  The order
 * in which they are claimed is that of random UUIDs, so one of both times
 * it has claimed the other one before.
 */
static void test_two_volumes(void)
{
    static const char *const second = " -blockdev driver=csv,node-name=e,"
        "disk=disk0,file.driver=file,file.filename=%s "
        "-device virtio-blk-pci,drive=e,addr=10";
    g_autofree char *volume = NULL, *copy = NULL, *device = NULL;
    g_autofree char *stale = NULL;
    CsvScene s;
    CsvVm *src, *dst;

    csv_scene_init(&s, 1);
    volume = g_strdup_printf("%s/volume2", s.dir);
    copy = g_strdup_printf("%s/copy", s.dir);
    device = g_strdup_printf(second, volume);
    stale = g_strdup_printf(second, copy);
    csv_qemu_img("create -q -f csv -o volume=vol2,disk=disk0 %s 8M", volume);
    src = csv_vm_start(&s, device);
    check_winner(&s, src, NULL, 1);

    for (int i = 0; i < 2; i++) {
        char *good = s.volume;

        csv_qemu_img("convert -U -f raw -O raw %s %s", i ? volume : good,
                     copy);
        s.volume = i ? good : copy;
        dst = csv_vm_start_incoming(&s, i ? stale : device);
        s.volume = good;
        migrate_to(src, s.socket);
        migrate_wait(src, "failed");
        csv_vm_wait_failed(dst);
        check_winner(&s, src, NULL, 0);
    }

    dst = csv_vm_start_incoming(&s, device);
    migrate_to(src, s.socket);
    migrate_wait(src, "completed");
    check_winner(&s, dst, src, 0);
    csv_vm_quit(src);
    csv_vm_quit(dst);
    unlink(volume);
    unlink(copy);
    finish(&s);
}

static void test_back_and_forth(void)
{
    CsvScene s;
    CsvVm *src, *dst;

    start_pair(&s, 1, &src, &dst);
    for (int i = 1; i <= 20; i++) {
        migrate_to(src, s.socket);
        migrate_wait(src, "completed");
        check_winner(&s, dst, src, 1 + i);
        csv_vm_quit(src);
        src = dst;
        dst = i < 20 ? csv_vm_start_incoming(&s, "") : NULL;
    }
    csv_vm_quit(src);
    finish(&s);
}

/* The disk and the one below it reach the volume through one node. */
static void test_overlay(void)
{
    CsvScene s;
    CsvVm *src, *dst;

    csv_scene_init(&s, 0);
    csv_qemu_img("create -q -f csv -o disk=base %s %dM", s.volume,
                 CSV_DISK_MB);
    csv_qemu_img("create -q -f csv -o disk=disk0,backing_disk=base %s 0",
                 s.volume);
    s.disks = 1;
    src = csv_vm_start(&s, "");
    csv_guest_use_disks(&s, src);
    dst = csv_vm_start_incoming(&s, "");
    move_and_finish(&s, src, dst);
}

/* The source must not start the guest again once the destination has it */
static void test_cont_on_source(void)
{
    CsvScene s;
    CsvVm *src, *dst;
    QDict *rsp;

    start_pair(&s, 1, &src, &dst);
    migrate_to(src, s.socket);
    migrate_wait(src, "completed");
    check_winner(&s, dst, src, 2);

    rsp = qtest_qmp(src->qts, "{'execute': 'cont'}");
    g_assert_true(qdict_haskey(rsp, "error"));
    qobject_unref(rsp);
    check_winner(&s, dst, src, 2);

    csv_vm_quit(src);
    csv_vm_quit(dst);
    finish(&s);
}

static void test_stopped_destination(void)
{
    CsvScene s;
    CsvVm *src, *dst;

    start_pair(&s, 1, &src, &dst);
    csv_vm_kill(dst);
    dst = csv_vm_start_incoming(&s, "-S");
    migrate_to(src, s.socket);
    migrate_wait(src, "completed");
    csv_vm_wait(dst, "paused");
    g_assert_true(csv_vm_is(src, "postmigrate"));

    qtest_qmp_assert_success(dst->qts, "{'execute': 'cont'}");
    check_winner(&s, dst, src, 2);
    csv_vm_quit(src);
    csv_vm_quit(dst);
    finish(&s);
}

/* As for a snapshot of memory and disks: migrate, add overlays, go on */
static void test_snapshot_after(void)
{
    g_autofree char *args = NULL, *top = NULL;
    CsvScene s;
    CsvVm *src, *dst;
    QDict *rsp;

    csv_scene_init(&s, 1);
    top = g_strdup_printf("%s/top.qcow2", s.dir);
    csv_qemu_img("create -q -f qcow2 %s %dM", top, CSV_DISK_MB);
    dst = csv_vm_start_incoming(&s, "-S");

    /* With nodes of its own, the volume's stays writable below an overlay */
    args = g_strdup_printf("-blockdev file,node-name=vol,filename=%s"
                           " -blockdev csv,node-name=d0,disk=disk0,file=vol"
                           " -device virtio-blk-pci,id=vd0,drive=d0,addr=4",
                           s.volume);
    s.disks = 0;
    src = csv_vm_start(&s, args);
    s.disks = 1;
    csv_guest_use_disks(&s, src);
    migrate_to(src, s.socket);
    migrate_wait(src, "completed");
    csv_vm_wait(dst, "paused");

    qtest_qmp_assert_success(src->qts,
        "{'execute': 'blockdev-add', 'arguments': {'driver': 'qcow2',"
        " 'node-name': 'top', 'file': {'driver': 'file', 'filename': %s}}}",
        top);
    qtest_qmp_assert_success(src->qts,
        "{'execute': 'blockdev-snapshot', 'arguments': {'node': 'd0',"
        " 'overlay': 'top'}}");
    qtest_qmp_assert_success(src->qts, "{'execute': 'cont'}");
    csv_vm_wait(src, "running");

    /* What the overlay stands on is not to be had any more */
    rsp = qtest_qmp(dst->qts, "{'execute': 'cont'}");
    g_assert_true(qdict_haskey(rsp, "error"));
    qobject_unref(rsp);
    g_assert_false(csv_vm_is(dst, "running"));
    g_assert_cmpstr(csv_query_disk(src, 0).state, ==, "free");

    qtest_qmp_assert_success(src->qts,
        "{'execute': 'block-commit', 'arguments': {'device': 'top',"
        " 'job-id': 'commit'}}");
    g_assert_cmpint(csv_query_disk(src, 0).owner_pid, ==, src->pid);
    csv_vm_quit(dst);
    csv_vm_quit(src);
    unlink(top);
    finish(&s);
}

static void test_cancel(void)
{
    CsvScene s;
    CsvVm *src, *dst;

    start_pair(&s, 1, &src, &dst);
    guest_fill_memory(src);
    set_parameter(src, "max-bandwidth", SLOW_BYTES_PER_S);
    migrate_to(src, s.socket);
    migrate_wait_middle(src);
    qtest_qmp_assert_success(src->qts, "{'execute': 'migrate_cancel'}");
    migrate_wait(src, "cancelled");
    csv_vm_wait_failed(dst);
    check_winner(&s, src, NULL, 1);

    /* And it can be tried again */
    dst = csv_vm_start_incoming(&s, "");
    set_parameter(src, "max-bandwidth", 0);
    move_and_finish(&s, src, dst);
}

static void test_cancel_at_switchover(void)
{
    CsvScene s;
    CsvVm *src, *dst;

    start_pair_at_switchover(&s, 1, &src, &dst);
    qtest_qmp_assert_success(src->qts, "{'execute': 'migrate_cancel'}");
    migrate_wait(src, "cancelled");
    csv_vm_wait_failed(dst);
    check_winner(&s, src, NULL, 1);
    csv_vm_quit(src);
    finish(&s);
}

/* Not even connected, or the connection has not been accepted */
static void test_destination_killed_setup(void)
{
    CsvScene s;
    CsvVm *src, *dst;

    start_pair(&s, 1, &src, &dst);
    guest_fill_memory(src);
    csv_vm_signal(dst, SIGSTOP);
    migrate_to(src, s.socket);
    csv_vm_kill(dst);
    migrate_wait(src, "failed");
    check_winner(&s, src, NULL, 1);
    csv_vm_quit(src);
    finish(&s);
}

static void test_destination_killed_middle(void)
{
    CsvScene s;
    CsvVm *src, *dst;

    start_pair(&s, 1, &src, &dst);
    guest_fill_memory(src);
    set_parameter(src, "max-bandwidth", SLOW_BYTES_PER_S);
    migrate_to(src, s.socket);
    migrate_wait_middle(src);
    csv_vm_kill(dst);
    migrate_wait(src, "failed");
    check_winner(&s, src, NULL, 1);
    csv_vm_quit(src);
    finish(&s);
}

static void test_destination_killed_switchover(void)
{
    CsvScene s;
    CsvVm *src, *dst;

    start_pair_at_switchover(&s, 1, &src, &dst);
    csv_vm_kill(dst);
    migrate_continue(src);
    migrate_wait(src, "failed");
    check_winner(&s, src, NULL, 0);
    csv_vm_quit(src);
    finish(&s);
}

/* The source has let go, and nobody comes to take the disks */
static void test_destination_killed_handover(void)
{
    CsvScene s;
    CsvVm *src, *dst;

    start_pair_at_switchover(&s, 2, &src, &dst);
    csv_vm_signal(dst, SIGSTOP);
    migrate_continue(src);
    csv_wait_for_handover(&s);
    csv_vm_kill(dst);
    migrate_wait(src, "failed");
    check_winner(&s, src, NULL, 2);
    csv_vm_quit(src);
    finish(&s);
}

/* The owner of the disks is gone, so nobody runs until the next one starts */
static void test_source_killed_switchover(void)
{
    CsvScene s;
    CsvVm *src, *dst;

    start_pair_at_switchover(&s, 1, &src, &dst);
    csv_vm_kill(src);
    csv_vm_wait_failed(dst);
    finish(&s);
}

/* The source has let go and said everything: the destination needs no more */
static void test_source_killed_handover(void)
{
    CsvScene s;
    CsvVm *src, *dst;

    start_pair_at_switchover(&s, 2, &src, &dst);
    csv_vm_signal(dst, SIGSTOP);
    migrate_continue(src);
    csv_wait_for_handover(&s);
    /* The rest of the stream fits into the socket */
    migrate_wait(src, "device");
    g_usleep(300 * 1000);
    csv_vm_kill(src);
    csv_vm_signal(dst, SIGCONT);
    check_winner(&s, dst, NULL, 2);
    csv_vm_quit(dst);
    finish(&s);
}

/*
 * The destination has the disks and runs, but its word that all went well is
 * lost. The disks say so, too.
 */
static void test_lost_message(void)
{
    CsvScene s;
    CsvVm *src, *dst;
    Proxy proxy;

    start_pair(&s, 2, &src, &dst);
    proxy_start(&proxy, &s);
    migrate_to(src, proxy.path);
    check_winner(&s, dst, NULL, 2);
    proxy_wait(&proxy);
    g_assert_true(proxy.cut);

    csv_vm_wait(src, "postmigrate");
    migrate_wait(src, "completed");
    check_winner(&s, dst, src, 2);
    csv_vm_quit(src);
    csv_vm_quit(dst);
    finish(&s);
}

/* The destination's writes to the volume fail, so it must give up */
static void test_cannot_claim(void)
{
    static const struct rlimit none = { 0, 0 };
    CsvScene s;
    CsvVm *src, *dst;

    start_pair_at_switchover(&s, 2, &src, &dst);
    g_assert_cmpint(prlimit(dst->pid, RLIMIT_FSIZE, &none, NULL), ==, 0);
    migrate_continue(src);
    migrate_wait(src, "failed");
    csv_vm_wait_failed(dst);
    check_winner(&s, src, NULL, 2);

    /* It was not the source's fault */
    dst = csv_vm_start_incoming(&s, "");
    migrate_to(src, s.socket);
    migrate_wait(src, "pre-switchover");
    migrate_continue(src);
    migrate_wait(src, "completed");
    check_winner(&s, dst, src, 3);
    csv_vm_quit(src);
    csv_vm_quit(dst);
    finish(&s);
}

/* The guest's memory is on its way, and may be so when it starts there. */
static bool start_pair_for_postcopy(CsvScene *s, CsvVm **src, CsvVm **dst)
{
    if (access("/dev/userfaultfd", R_OK | W_OK) && geteuid()) {
        g_test_skip("no userfaultfd");
        return false;
    }
    start_pair(s, 2, src, dst);
    set_capability(*src, "postcopy-ram");
    set_capability(*dst, "postcopy-ram");
    guest_fill_memory(*src);
    set_parameter(*src, "max-bandwidth", SLOW_BYTES_PER_S);
    set_parameter(*src, "max-postcopy-bandwidth", SLOW_BYTES_PER_S);
    migrate_to(*src, s->socket);
    migrate_wait_middle(*src);
    return true;
}

static void start_postcopy(CsvVm *src)
{
    qtest_qmp_assert_success(src->qts, "{'execute': 'migrate-start-postcopy'}");
}

static void source_goes_on(CsvScene *s, CsvVm *src)
{
    migrate_wait(src, "failed");
    check_winner(s, src, NULL, 2);
    csv_vm_quit(src);
    finish(s);
}

/* With postcopy, too, a guest that has not run there goes on here. */
static void test_postcopy_killed(void)
{
    CsvScene s;
    CsvVm *src, *dst;

    if (start_pair_for_postcopy(&s, &src, &dst)) {
        csv_vm_signal(dst, SIGSTOP);
        start_postcopy(src);
        csv_wait_for_handover(&s);
        csv_vm_kill(dst);
        source_goes_on(&s, src);
    }
}

static void test_postcopy_cannot_claim(void)
{
    static const struct rlimit none = { 0, 0 };
    CsvScene s;
    CsvVm *src, *dst;

    if (start_pair_for_postcopy(&s, &src, &dst)) {
        g_assert_cmpint(prlimit(dst->pid, RLIMIT_FSIZE, &none, NULL), ==, 0);
        start_postcopy(src);
        csv_vm_wait_failed(dst);
        source_goes_on(&s, src);
    }
}

/* Once it has run there, it cannot go on here, whatever happens. */
static void test_postcopy_lost(void)
{
    CsvScene s;
    CsvVm *src, *dst;

    if (start_pair_for_postcopy(&s, &src, &dst)) {
        start_postcopy(src);
        check_winner(&s, dst, NULL, 2);
        csv_vm_kill(dst);
        migrate_wait(src, "postcopy-paused");
        g_assert_false(csv_vm_is(src, "running"));
        csv_vm_kill(src);
        finish(&s);
    }
}

/*
 * The destination has claimed the disks, and cannot use another one, which a
 * third process locks: it gives them back.
 */
static void test_give_back(void)
{
    static const char *const device = " -drive if=none,id=x,format=raw,"
        "cache=none,file=%s/%s -device virtio-blk-pci,drive=x,addr=10";
    g_autofree char *here = NULL, *there = NULL, *busy = NULL, *path = NULL;
    CsvScene s;
    CsvVm *src, *dst;
    QTestState *third;

    csv_scene_init(&s, 2);
    for (int i = 0; i < 2; i++) {
        g_autofree char *file = g_strdup_printf("%s/x%d", s.dir, i);

        g_assert_true(g_file_set_contents(file, "", 0, NULL));
        g_assert_cmpint(truncate(file, MiB), ==, 0);
    }
    here = g_strdup_printf(device, s.dir, "x0");
    there = g_strdup_printf(device, s.dir, "x1");
    busy = g_strdup_printf("-machine q35 -nodefaults %s", there);
    third = qtest_init(busy);
    src = csv_vm_start(&s, here);
    check_winner(&s, src, NULL, 1);
    dst = csv_vm_start_incoming(&s, there);
    migrate_to(src, s.socket);
    migrate_wait(src, "failed");
    csv_vm_wait_failed(dst);
    check_winner(&s, src, NULL, 3);

    qtest_quit(third);
    dst = csv_vm_start_incoming(&s, there);
    migrate_to(src, s.socket);
    migrate_wait(src, "completed");
    check_winner(&s, dst, src, 4);
    csv_vm_quit(src);
    csv_vm_quit(dst);
    for (int i = 0; i < 2; i++) {
        path = g_strdup_printf("%s/x%d", s.dir, i);
        unlink(path);
        g_clear_pointer(&path, g_free);
    }
    finish(&s);
}

/* Nobody else gets a disk that changes hands, not even by force */
static void test_refuse_third(void)
{
    CsvScene s;
    CsvVm *src, *dst;
    QTestState *third;
    QDict *rsp, *err;

    start_pair_at_switchover(&s, 1, &src, &dst);
    csv_vm_signal(dst, SIGSTOP);
    migrate_continue(src);
    csv_wait_for_handover(&s);

    third = qtest_init("-machine none");
    rsp = qtest_qmp(third, "{'execute': 'blockdev-add', 'arguments': {"
                    " 'driver': 'csv', 'disk': 'disk0', 'node-name': 'd0',"
                    " 'force-takeover': true,"
                    " 'file': {'driver': 'file', 'filename': %s}}}", s.volume);
    err = qdict_get_qdict(rsp, "error");
    g_assert_nonnull(err);
    g_assert_nonnull(strstr(qdict_get_str(err, "desc"), "'disk0'"));
    g_assert_nonnull(strstr(qdict_get_str(err, "desc"), "handed over"));
    qobject_unref(rsp);
    qtest_quit(third);

    csv_vm_signal(dst, SIGCONT);
    migrate_wait(src, "completed");
    check_winner(&s, dst, src, 2);
    csv_vm_quit(src);
    csv_vm_quit(dst);
    finish(&s);
}

/*
 * The source has let go and dies. A third process is started instead, before
 * the destination could take the disks: that comes too late and must not run.
 */
static void test_late_destination(void)
{
    CsvScene s;
    CsvVm *src, *dst, *third;

    start_pair_at_switchover(&s, 2, &src, &dst);
    csv_vm_signal(dst, SIGSTOP);
    migrate_continue(src);
    csv_wait_for_handover(&s);
    migrate_wait(src, "device");
    g_usleep(300 * 1000);
    csv_vm_kill(src);

    third = csv_vm_start(&s, "");
    check_winner(&s, third, NULL, 2);
    csv_vm_signal(dst, SIGCONT);
    csv_vm_wait_failed(dst);
    check_winner(&s, third, NULL, 2);
    csv_vm_quit(third);
    finish(&s);
}

static void add_test(const char *name, void (*fn)(void))
{
    g_autofree char *path = g_strdup_printf("csv-migration/%s", name);

    qtest_add_func(path, fn);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    if (!have_qemu_img()) {
        g_test_message("QTEST_QEMU_IMG not set or qemu-img missing");
        return g_test_run();
    }
    if (!qtest_has_machine("q35") || !qtest_has_device("virtio-blk-pci")) {
        g_test_message("no q35 machine or no virtio-blk-pci device");
        return g_test_run();
    }

    /* A limit of the file size is to be an error, see test_cannot_claim() */
    signal(SIGXFSZ, SIG_IGN);

    add_test("move", test_move);
    add_test("two-disks", test_two_disks);
    add_test("two-volumes", test_two_volumes);
    add_test("back-and-forth", test_back_and_forth);
    add_test("overlay", test_overlay);
    add_test("cont-on-source", test_cont_on_source);
    add_test("stopped-destination", test_stopped_destination);
    add_test("snapshot-after", test_snapshot_after);
    add_test("cancel/middle", test_cancel);
    add_test("cancel/switchover", test_cancel_at_switchover);
    add_test("destination-killed/setup", test_destination_killed_setup);
    add_test("destination-killed/middle", test_destination_killed_middle);
    add_test("destination-killed/switchover",
             test_destination_killed_switchover);
    add_test("destination-killed/handover", test_destination_killed_handover);
    add_test("source-killed/switchover", test_source_killed_switchover);
    add_test("source-killed/handover", test_source_killed_handover);
    add_test("lost-message", test_lost_message);
    add_test("cannot-claim", test_cannot_claim);
    add_test("give-back", test_give_back);
    add_test("postcopy/killed", test_postcopy_killed);
    add_test("postcopy/cannot-claim", test_postcopy_cannot_claim);
    add_test("postcopy/lost", test_postcopy_lost);
    add_test("refuse-third", test_refuse_third);
    add_test("late-destination", test_late_destination);

    return g_test_run();
}
