/*
 * Quick migration: through the volume that the guest's disk is in
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "csv/pipeline-scene.h"
#include "migration/pipeline/state.h"
#include "qobject/qlist.h"

#define DISK    "vm1/root"
#define STATE   DISK ".state"

static int G_GNUC_PRINTF(1, 2) qemu_img(const char *fmt, ...)
{
    g_autofree char *args = NULL, *cmd = NULL;
    va_list ap;
    int status;

    va_start(ap, fmt);
    args = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    cmd = g_strdup_printf("%s %s", getenv("QTEST_QEMU_IMG"), args);
    g_assert_true(g_spawn_command_line_sync(cmd, NULL, NULL, &status, NULL));
    return status;
}

/*
 * Two sides with a disk in a volume of that size; the guest runs here.  The
 * destination reads @dst_rate bytes per second; 0: as fast as it can.
 */
static char *begin_sized(PipelineScene *s, const char *size,
                         unsigned dst_rate)
{
    g_autofree char *volume = NULL, *dst = NULL;
    char *disk;

    s->dir = g_dir_make_tmp("pipeline-XXXXXX", NULL);
    s->deferred = true;
    volume = g_strdup_printf("%s/volume", s->dir);
    g_assert_cmpint(qemu_img("create -q -f csv -o volume=v,volume_size=%s,"
                             "segment_size=8M,disk=%s %s 64M", size, DISK,
                             volume), ==, 0);
    disk = g_strdup_printf("-blockdev driver=file,filename=%s,node-name=v "
                           "-blockdev driver=csv,file=v,disk=%s,node-name=d "
                           "-device virtio-blk-pci,drive=d", volume, DISK);
    dst = g_strdup_printf("-object throttle-group,id=rate,x-bps-read=%u "
                          "-blockdev driver=file,filename=%s,node-name=f "
                          "-blockdev driver=throttle,throttle-group=rate,"
                          "file=f,node-name=v "
                          "-blockdev driver=csv,file=v,disk=%s,node-name=d "
                          "-device virtio-blk-pci,drive=d", dst_rate, volume,
                          DISK);
    pipeline_begin(s, disk, dst_rate ? dst : disk);
    return disk;
}

static char *begin(PipelineScene *s)
{
    return begin_sized(s, "2G", 0);
}

static QDict *quick(PipelineScene *s, const char *options)
{
    g_autofree char *cmd = g_strdup_printf(
        "{'execute': 'migrate-pipeline-start', 'arguments': {'mode': 'quick', "
        "'max-blackout': %d%s}}", PIPELINE_PATIENT_MS, options);

    return qtest_qmp(s->src, cmd, NULL);
}

/* It is in the middle, and stays there for long. */
static void quick_slowly(PipelineScene *s)
{
    expect_success(quick(s, ", 'max-bandwidth': 1048576"));
    pipeline_assert_stage(s->src, "setup");
    pipeline_assert_stage(s->src, "bulk");
}

static QDict *restore(QTestState *qts, const char *options)
{
    g_autofree char *cmd = g_strdup_printf(
        "{'execute': 'migrate-pipeline-restore', 'arguments': {%s}}", options);

    return qtest_qmp(qts, cmd, NULL);
}

/* It was saved, and the source is done with it. */
static void assert_saved(PipelineScene *s)
{
    static const char *const parts[] = {
        "stop", "flush", "release", "sync", "memory", "device-state", "remote",
        NULL
    };
    QDict *rsp = pipeline_wait_report(s->src);

    g_assert_cmpstr(qdict_get_str(rsp, "stage"), ==, "completed");
    g_assert_cmpstr(qdict_get_str(rsp, "mode"), ==, "quick");
    g_assert_cmpstr(qdict_get_str(qdict_get_qdict(rsp, "state"), "disk"), ==,
                    STATE);
    pipeline_assert_blackout(rsp, parts);
    qobject_unref(rsp);
    g_assert_true(pipeline_has_run_state(s->src, "postmigrate"));
    pipeline_assert_settings(s->src, NULL);
}

static void wait_stage(QTestState *qts, const char *want)
{
    gint64 end = g_get_monotonic_time() + PIPELINE_TIMEOUT_US;

    for (;;) {
        QDict *rsp = pipeline_query(qts);
        bool there = g_str_equal(qdict_get_str(rsp, "stage"), want);

        qobject_unref(rsp);
        if (there) {
            return;
        }
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(10 * 1000);
    }
}

/* Is there a state in the volume? */
static bool has_state(QTestState *qts)
{
    QDict *rsp = qtest_qmp(qts, "{'execute': 'query-csv-volumes'}");
    QDict *volume = qobject_to(QDict, qlist_entry_obj(
        qlist_first(qdict_get_qlist(rsp, "return"))));
    const QListEntry *e;
    bool found = false;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(volume, "disks"), e) {
        QDict *disk = qobject_to(QDict, qlist_entry_obj(e));

        found |= g_str_equal(qdict_get_str(disk, "name"), STATE);
    }
    qobject_unref(rsp);
    return found;
}

static void assert_restored(PipelineScene *s)
{
    wait_stage(s->dst, "completed");
    pipeline_assert_moved(s);
    g_assert_false(has_state(s->dst));
}

static void quick_move(const char *options)
{
    PipelineScene s = { 0 };
    g_autofree char *disk = begin(&s);

    expect_success(quick(&s, ""));
    assert_saved(&s);
    g_assert_true(has_state(s.src));
    expect_success(restore(s.dst, options));
    assert_restored(&s);
    /* Only one has the disk, and the source knows. */
    expect_error(qtest_qmp(s.src, "{'execute': 'cont'}"), "owned by another");
    pipeline_end(&s);
}

static void test_move(void)
{
    quick_move("");
}

static void test_eager(void)
{
    quick_move("'lazy': false");
}

/*
 * The volume is below a filter, and slow: the guest runs long before all of its
 * memory is there, can be stopped meanwhile, and goes on.
 */
static void test_filter(void)
{
    PipelineScene s = { 0 };
    g_autofree char *disk = begin_sized(&s, "2G", 16 * MiB);
    QDict *rsp;

    expect_success(quick(&s, ""));
    assert_saved(&s);
    expect_success(restore(s.dst, ""));
    pipeline_wait_run_state(s.dst, "running");
    expect_success(qtest_qmp(s.dst, "{'execute': 'stop'}"));
    rsp = pipeline_query(s.dst);
    g_assert_cmpstr(qdict_get_str(rsp, "stage"), !=, "completed");
    qobject_unref(rsp);
    expect_success(qtest_qmp(s.dst, "{'execute': 'cont'}"));
    assert_restored(&s);
    pipeline_end(&s);
}

/*
 * Each page, while it comes in and when all is there.  The guest does not run,
 * and its disk was not claimed: so the state stays.
 */
static void test_memory(void)
{
    PipelineScene s = { 0 };
    g_autofree char *disk = begin(&s);
    g_autofree char *paused = g_strdup_printf("-S %s", disk);
    g_autofree char *saved = NULL, *early = NULL, *late = NULL;

    qtest_quit(s.dst);
    pipeline_start_destination(&s, paused);
    expect_success(quick(&s, ""));
    assert_saved(&s);
    saved = pipeline_memory(&s, s.src);
    expect_success(restore(s.dst, ""));
    pipeline_wait_run_state(s.dst, "paused");
    early = pipeline_memory(&s, s.dst);
    wait_stage(s.dst, "completed");
    late = pipeline_memory(&s, s.dst);
    g_assert_true(has_state(s.dst));
    g_assert_cmpint(memcmp(saved, early, PIPELINE_GUEST_MB * MiB), ==, 0);
    g_assert_cmpint(memcmp(saved, late, PIPELINE_GUEST_MB * MiB), ==, 0);

    expect_success(qtest_qmp(s.dst, "{'execute': 'cont'}"));
    pipeline_wait_for_guest(&s, "dst");
    pipeline_end(&s);
}

/* Nobody restores it, so the source goes on; then it is too late for that. */
static void test_take_back(void)
{
    PipelineScene s = { 0 };
    g_autofree char *disk = begin(&s);
    QDict *rsp;

    expect_success(quick(&s, ""));
    assert_saved(&s);
    expect_success(qtest_qmp(s.src, "{'execute': 'cont'}"));
    pipeline_wait_for_guest(&s, "src");

    expect_success(restore(s.dst, ""));
    wait_stage(s.dst, "failed");
    rsp = pipeline_query(s.dst);
    g_assert_nonnull(strstr(qdict_get_str(rsp, "error"), "owned by another"));
    qobject_unref(rsp);
    pipeline_assert_settings(s.dst, NULL);
    g_assert_true(pipeline_has_run_state(s.src, "running"));

    /* It may be saved anew, in the place of the old one. */
    qtest_quit(s.dst);
    pipeline_start_destination(&s, disk);
    expect_success(quick(&s, ""));
    assert_saved(&s);
    expect_success(restore(s.dst, ""));
    assert_restored(&s);
    pipeline_end(&s);
}

/* The source dies in the middle: there is nothing to restore. */
static void test_killed(void)
{
    PipelineScene s = { 0 };
    g_autofree char *disk = begin(&s);

    quick_slowly(&s);
    g_assert_cmpint(kill(qtest_pid(s.src), SIGKILL), ==, 0);
    while (qtest_probe_child(s.src)) {
        g_usleep(1000);
    }
    expect_error(restore(s.dst, ""), "not come to the end");

    s.src = pipeline_start_side(&s, "src", disk);
    pipeline_wait_for_guest(&s, "src");
    expect_success(quick(&s, ""));
    assert_saved(&s);
    expect_success(restore(s.dst, ""));
    assert_restored(&s);
    pipeline_end(&s);
}

/* It ends in good order, and leaves nothing behind. */
static void test_quits(void)
{
    PipelineScene s = { 0 };
    g_autofree char *disk = begin(&s);

    quick_slowly(&s);
    qtest_quit(s.src);
    g_assert_false(has_state(s.dst));
    s.src = pipeline_start_side(&s, "src", disk);
    pipeline_wait_for_guest(&s, "src");
    pipeline_end(&s);
}

static void test_cancel(void)
{
    PipelineScene s = { 0 };
    g_autofree char *disk = begin(&s);
    QDict *rsp;

    quick_slowly(&s);
    expect_error(quick(&s, ""), "under way");
    expect_success(qtest_qmp(s.src, "{'execute': 'migrate-pipeline-cancel'}"));
    rsp = pipeline_wait_report(s.src);
    g_assert_cmpstr(qdict_get_str(rsp, "stage"), ==, "cancelled");
    qobject_unref(rsp);
    g_assert_false(has_state(s.src));
    pipeline_assert_settings(s.src, NULL);
    pipeline_wait_for_guest(&s, "src");
    pipeline_end(&s);
}

/* The volume has no room for it: the guest goes on, and its disk has room. */
static void test_full(void)
{
    PipelineScene s = { 0 };
    g_autofree char *disk = begin_sized(&s, "80M", 0);
    QDict *rsp;

    /* Until it has written to all of its memory */
    pipeline_wait_for_guest(&s, "src");
    pipeline_wait_for_guest(&s, "src");
    expect_success(quick(&s, ""));
    rsp = pipeline_wait_report(s.src);
    g_assert_cmpstr(qdict_get_str(rsp, "stage"), ==, "failed");
    g_assert_nonnull(strstr(qdict_get_str(rsp, "error"), "No space"));
    qobject_unref(rsp);
    g_assert_false(has_state(s.src));
    pipeline_assert_settings(s.src, NULL);
    pipeline_wait_for_guest(&s, "src");
    pipeline_end(&s);
}

/* In mode auto the guest goes through the volume when there is no way else. */
static void test_auto(void)
{
    PipelineScene s = { 0 };
    g_autofree char *disk = begin(&s);

    expect_success(pipeline_start(&s, ", 'mode': 'auto'"));
    assert_saved(&s);
    expect_success(restore(s.dst, ""));
    assert_restored(&s);
    pipeline_end(&s);
}

/*
 * A migration in mode auto that could be connected, if only for a moment, says
 * nothing of the next one: that is not sent through the volume.
 */
static void test_auto_is_over(void)
{
    PipelineScene s = { 0 };
    g_autofree char *disk = begin(&s);
    int fds[2];
    QDict *rsp;

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
    expect_success(qtest_qmp_fds(s.src, &fds[0], 1, "{'execute': 'getfd', "
                                 "'arguments': {'fdname': 'f'}}"));
    close(fds[0]);
    close(fds[1]);
    expect_success(qtest_qmp(s.src, "{'execute': 'migrate-pipeline-start', "
                             "'arguments': {'uri': 'fd:f', 'mode': 'auto'}}"));
    rsp = pipeline_wait_report(s.src);
    g_assert_cmpstr(qdict_get_str(rsp, "stage"), ==, "failed");
    qobject_unref(rsp);

    expect_success(qtest_qmp(s.src, "{'execute': 'migrate', 'arguments': "
                             "{'uri': 'unix:/nowhere/x'}}"));
    for (unsigned i = 0; i < 10; i++) {
        g_usleep(10 * 1000);
        rsp = qtest_qmp(s.src, "{'execute': 'query-migrate'}");
        g_assert_cmpstr(qdict_get_str(qdict_get_qdict(rsp, "return"), "status"),
                        !=, "completed");
        qobject_unref(rsp);
        g_assert_false(has_state(s.src));
    }
    pipeline_wait_for_guest(&s, "src");
    pipeline_end(&s);
}

/* There is no way at all: one report, which says so. */
static void test_auto_nowhere(void)
{
    PipelineScene s = { 0 };
    QDict *rsp;

    s.deferred = true;
    pipeline_begin(&s, "", "");
    expect_success(pipeline_start(&s, ", 'mode': 'auto'"));
    rsp = pipeline_wait_report(s.src);
    g_assert_cmpstr(qdict_get_str(rsp, "stage"), ==, "failed");
    g_assert_nonnull(strstr(qdict_get_str(rsp, "error"),
                            "no disk of the guest"));
    qobject_unref(rsp);
    pipeline_assert_settings(s.src, NULL);
    pipeline_wait_for_guest(&s, "src");
    pipeline_end(&s);
}

static void test_errors(void)
{
    PipelineScene s = { 0 };
    g_autofree char *disk = begin(&s);

    expect_error(quick(&s, ", 'uri': 'tcp:127.0.0.1:1'"), "leave out 'uri'");
    expect_error(pipeline_start(&s, ", 'state': 'x'"), "for the modes");
    expect_error(quick(&s, ", 'state': '" DISK "'"), "already");
    expect_error(quick(&s, ", 'state': ''"), "name");
    expect_error(restore(s.src, ""), "-incoming defer");
    expect_error(restore(s.dst, ""), "no disk '" STATE "'");
    qtest_qmp_assert_success(s.src, "{'execute': 'object-add', 'arguments': {"
        "'qom-type': 'tls-creds-anon', 'id': 'tls', 'endpoint': 'client'}}");
    qtest_qmp_assert_success(s.src, "{'execute': 'migrate-set-parameters', "
                             "'arguments': {'tls-creds': 'tls'}}");
    expect_error(quick(&s, ""), "'tls-creds'");
    pipeline_wait_for_guest(&s, "src");
    pipeline_end(&s);
}

/* Overwrite a byte of the state, in a process that has nothing else. */
static void damage(PipelineScene *s, unsigned offset, unsigned byte)
{
    QTestState *qts = qtest_initf("-nodefaults -machine none -blockdev "
        "driver=file,filename=%s/volume,node-name=v "
        "-blockdev driver=csv,file=v,disk=%s,node-name=state", s->dir, STATE);
    g_autofree char *out = qtest_hmp(qts, "qemu-io state \"write -P %u %u 1\"",
                                     byte, offset);

    g_assert_cmpstr(out, ==, "");
    qtest_quit(qts);
}

/* What is no state, or a damaged one, is refused, and left alone. */
static void test_damaged(void)
{
    PipelineScene s = { 0 };
    g_autofree char *disk = begin(&s);

    expect_success(quick(&s, ""));
    assert_saved(&s);
    damage(&s, 100, 1);
    expect_error(restore(s.dst, ""), "CRC");
    damage(&s, 0, 1);
    expect_error(restore(s.dst, ""), "not the state of a guest");
    expect_success(qtest_qmp(s.src, "{'execute': 'cont'}"));
    expect_error(quick(&s, ""), "in the place of");
    g_assert_true(has_state(s.src));
    pipeline_wait_for_guest(&s, "src");
    pipeline_end(&s);
}

/* The header is in order, and the stream is not. */
static void test_damaged_stream(void)
{
    PipelineScene s = { 0 };
    g_autofree char *disk = begin(&s);

    expect_success(quick(&s, ""));
    assert_saved(&s);
    damage(&s, STATE_STREAM, 1);
    expect_success(restore(s.dst, ""));
    wait_stage(s.dst, "failed");
    expect_success(qtest_qmp(s.src, "{'execute': 'cont'}"));
    pipeline_wait_for_guest(&s, "src");
    pipeline_end(&s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/pipeline/quick/move", test_move);
    qtest_add_func("/pipeline/quick/eager", test_eager);
    qtest_add_func("/pipeline/quick/filter", test_filter);
    qtest_add_func("/pipeline/quick/memory", test_memory);
    qtest_add_func("/pipeline/quick/take-back", test_take_back);
    qtest_add_func("/pipeline/quick/killed", test_killed);
    qtest_add_func("/pipeline/quick/quits", test_quits);
    qtest_add_func("/pipeline/quick/cancel", test_cancel);
    qtest_add_func("/pipeline/quick/full", test_full);
    qtest_add_func("/pipeline/quick/auto", test_auto);
    qtest_add_func("/pipeline/quick/auto/is-over", test_auto_is_over);
    qtest_add_func("/pipeline/quick/auto/nowhere", test_auto_nowhere);
    qtest_add_func("/pipeline/quick/errors", test_errors);
    qtest_add_func("/pipeline/quick/damaged", test_damaged);
    qtest_add_func("/pipeline/quick/damaged/stream", test_damaged_stream);
    return g_test_run();
}
