/*
 * The migration pipeline: its commands, errors, events and decisions
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "csv/pipeline-scene.h"
#include "qobject/qlist.h"

#define ROUND_US        (10 * 1000)

static void test_move(void)
{
    PipelineScene s = { 0 };
    g_autofree char *options = g_strdup_printf(", 'max-blackout': %d",
                                               PIPELINE_PATIENT_MS);
    QDict *rsp, *data;

    pipeline_begin(&s, "", "");
    rsp = pipeline_query(s.src);
    g_assert_cmpstr(qdict_get_str(rsp, "stage"), ==, "none");
    g_assert_false(qdict_haskey(rsp, "promise"));
    g_assert_false(qdict_haskey(rsp, "blackout"));
    qobject_unref(rsp);

    pipeline_set_capability(s.src, "auto-converge");
    expect_success(pipeline_start(&s, options));
    rsp = qtest_qmp_eventwait_ref(s.src, "MIGRATE_PIPELINE_DECISION");
    data = qdict_get_qdict(rsp, "data");
    g_assert_cmpstr(qdict_get_str(data, "action"), ==, "go-on");
    g_assert_cmpstr(qdict_get_str(data, "reason"), ==, "first-pass");
    g_assert_cmpint(qdict_get_int(data, "remaining"), >=,
                    PIPELINE_GUEST_MB * MiB);
    qobject_unref(rsp);

    rsp = pipeline_wait_report(s.src);
    g_assert_cmpstr(qdict_get_str(rsp, "stage"), ==, "completed");
    g_assert_cmpint(qdict_get_int(qdict_get_qdict(rsp, "promise"),
                                  "max-blackout"), ==, PIPELINE_PATIENT_MS);
    g_assert_true(pipeline_has_decision(rsp, "switch-over", "promise"));
    g_assert_cmpstr(qdict_get_str(qdict_get_qdict(rsp, "decision"),
                                  "action"), ==, "switch-over");
    g_assert_cmpint(qdict_get_int(qdict_get_qdict(rsp, "estimate"),
                                  "page-rate"), >, 0);
    pipeline_assert_blackout(rsp, pipeline_source_parts);
    qobject_unref(rsp);
    pipeline_assert_moved(&s);
    pipeline_assert_settings(s.src, "auto-converge");
    pipeline_end(&s);
}

/* Stages come in order, each once.  This guest changes nothing. */
static void test_stages(void)
{
    static const char *const stages[] = {
        "setup", "bulk", "switch-over", "completed"
    };
    PipelineScene s = { 0 };
    g_autofree char *options = g_strdup_printf(", 'max-blackout': %d",
                                               PIPELINE_PATIENT_MS);

    pipeline_begin(&s, "", "");
    qtest_qmp_assert_success(s.src, "{'execute': 'stop'}");
    expect_success(pipeline_start(&s, options));
    for (unsigned i = 0; i < ARRAY_SIZE(stages); i++) {
        g_autofree char *stage = pipeline_next_stage(s.src);

        if (i == 2 && g_str_equal(stage, "converge")) {
            /* Another pass, although there is nothing to send: that may be */
            i--;
            continue;
        }
        g_assert_cmpstr(stage, ==, stages[i]);
    }
    pipeline_wait_run_state(s.dst, "paused");
    pipeline_end(&s);
}

/* The promise cannot be kept: the guest goes on, and moves when it can be. */
static void test_give_up(void)
{
    PipelineScene s = { 0 };
    g_autofree char *options = g_strdup_printf(", 'max-blackout': %d",
                                               PIPELINE_PATIENT_MS);
    QDict *rsp;

    pipeline_begin(&s, "", "");
    pipeline_set_capability(s.src, "auto-converge");
    expect_success(pipeline_start(&s, ", 'max-blackout': 1, 'deadline': 2, "
                                  "'max-bandwidth': 50000000"));
    rsp = pipeline_wait_report(s.src);
    g_assert_cmpstr(qdict_get_str(rsp, "stage"), ==, "failed");
    g_assert_true(pipeline_has_decision(rsp, "give-up", "deadline") ||
                  pipeline_has_decision(rsp, "give-up", "enough"));
    g_assert_nonnull(strstr(qdict_get_str(rsp, "error"), "gave up"));
    g_assert_false(qdict_haskey(rsp, "blackout"));
    qobject_unref(rsp);
    g_assert_true(pipeline_has_run_state(s.src, "running"));
    pipeline_wait_for_guest(&s, "src");
    pipeline_assert_settings(s.src, "auto-converge");

    pipeline_end_destination(&s);
    pipeline_start_destination(&s, "");
    expect_success(pipeline_start(&s, options));
    rsp = pipeline_wait_report(s.src);
    g_assert_cmpstr(qdict_get_str(rsp, "stage"), ==, "completed");
    qobject_unref(rsp);
    pipeline_assert_moved(&s);
    pipeline_end(&s);
}

/*
 * What is fixed is above the promise: that is said at once, it ends soon, and
 * the guest goes on.  With a margin it moves.
 */
static void test_fixed(void)
{
    PipelineScene s = { 0 };
    const QListEntry *first;
    QDict *rsp;

    pipeline_begin(&s, "", "");
    expect_success(pipeline_start(&s, ", 'max-blackout': 1"));
    rsp = pipeline_wait_report(s.src);
    g_assert_cmpstr(qdict_get_str(rsp, "stage"), ==, "failed");
    first = qlist_first(qdict_get_qlist(rsp, "decisions"));
    g_assert_cmpstr(qdict_get_str(qobject_to(QDict, qlist_entry_obj(first)),
                                  "reason"), ==, "fixed");
    g_assert_true(pipeline_has_decision(rsp, "give-up", "fixed"));
    g_assert_nonnull(strstr(qdict_get_str(rsp, "error"), "are not memory"));
    g_assert_nonnull(strstr(qdict_get_str(rsp, "error"), "load"));
    g_assert_cmpint(qlist_size(qdict_get_qlist(
        qdict_get_qdict(rsp, "estimate"), "costs")), >, 0);
    qobject_unref(rsp);
    g_assert_true(pipeline_has_run_state(s.src, "running"));
    pipeline_wait_for_guest(&s, "src");

    pipeline_end_destination(&s);
    pipeline_start_destination(&s, "");
    expect_success(pipeline_start(&s, ", 'max-blackout': 1, "
                                  "'margin': 60000"));
    rsp = pipeline_wait_report(s.src);
    g_assert_cmpstr(qdict_get_str(rsp, "stage"), ==, "completed");
    g_assert_true(pipeline_has_decision(rsp, "switch-over", "floor"));
    qobject_unref(rsp);
    pipeline_assert_moved(&s);
    pipeline_end(&s);
}

static void test_throttle(void)
{
    PipelineScene s = { 0 };
    const QListEntry *e;
    QDict *rsp;

    pipeline_begin(&s, "", "");
    expect_success(pipeline_start(&s, ", 'max-blackout': 200, 'deadline': 8, "
                                  "'allow-throttle': 70, "
                                  "'max-bandwidth': 100000000, "
                                  "'allow-compression': false"));
    rsp = pipeline_wait_report(s.src);
    /* Whether that was enough is for the host to say. */
    g_assert_true(pipeline_has_decision(rsp, "throttle", "stuck"));
    QLIST_FOREACH_ENTRY(qdict_get_qlist(rsp, "decisions"), e) {
        QDict *d = qobject_to(QDict, qlist_entry_obj(e));

        g_assert_cmpint(qdict_get_int(d, "throttle"), <=, 70);
    }
    qobject_unref(rsp);
    rsp = qtest_qmp_assert_success_ref(s.src, "{'execute': 'query-migrate'}");
    g_assert_false(qdict_haskey(rsp, "cpu-throttle-percentage"));
    qobject_unref(rsp);
    if (pipeline_has_run_state(s.src, "running")) {
        pipeline_end_destination(&s);
    }
    pipeline_end(&s);
}

static bool can_postcopy(void)
{
    return access("/dev/userfaultfd", R_OK | W_OK) == 0 || geteuid() == 0;
}

/* Stop the guest: the migration completes, and all memory is there. */
static void stop_and_compare(PipelineScene *s)
{
    g_autofree char *here = NULL, *there = NULL;
    QDict *report;

    expect_success(qtest_qmp(s->src, "{'execute': 'stop'}"));
    report = pipeline_wait_report(s->src);
    g_assert_cmpstr(qdict_get_str(report, "stage"), ==, "completed");
    qobject_unref(report);
    here = pipeline_memory(s, s->src);
    there = pipeline_memory(s, s->dst);
    g_assert_cmpint(memcmp(here, there, PIPELINE_GUEST_MB * MiB), ==, 0);
}

/*
 * Pages that change by a byte are sent as what has changed, and come out as
 * they are; the promise cannot be kept while the guest runs, so there are
 * passes enough.
 */
static void test_changes(void)
{
    PipelineScene s = { 0 };
    uint64_t changes = 0, saved = 0;
    QDict *report;

    pipeline_begin(&s, "", "-S");
    expect_success(pipeline_start(&s, ", 'max-blackout': 1, 'deadline': 600, "
                                  "'max-bandwidth': 30000000"));
    /* A guest that dirties all pages in each pass has them put off instead. */
    while (!changes && saved < 10 * PIPELINE_GUEST_MB * MiB / 4096) {
        QDict *estimate;

        report = pipeline_query(s.src);
        g_assert_cmpstr(qdict_get_str(report, "stage"), !=, "failed");
        g_assert_cmpstr(qdict_get_str(report, "stage"), !=, "completed");
        estimate = qdict_get_qdict(report, "estimate");
        changes = qdict_get_int(estimate, "changes");
        saved = qdict_get_int(estimate, "saved");
        qobject_unref(report);
        g_usleep(10 * 1000);
    }
    stop_and_compare(&s);
    report = pipeline_query(s.src);
    g_test_message("%" PRId64 " pages were sent as changes, %" PRIu64
                   " put off", qdict_get_int(qdict_get_qdict(report,
                                                             "estimate"),
                                             "changes"), saved);
    qobject_unref(report);
    pipeline_end(&s);
}

/*
 * What is always dirty is put off, until there is nothing else; the guest stops
 * then or soon after, and all its memory arrives.
 */
static void test_hot(void)
{
    PipelineScene s = { 0 };
    uint64_t hot = 0, saved = 0;
    QDict *report;

    pipeline_begin(&s, "", "-S");
    pipeline_wait_for_guest(&s, "src");
    expect_success(pipeline_start(&s, ", 'max-blackout': 1, 'deadline': 600, "
                                  "'allow-compression': false"));
    /* It is for a few passes only; a slow host may not see that. */
    while (!hot && saved < 10 * PIPELINE_GUEST_MB * MiB / 4096) {
        QDict *estimate;

        report = pipeline_query(s.src);
        g_assert_cmpstr(qdict_get_str(report, "stage"), !=, "failed");
        g_assert_cmpstr(qdict_get_str(report, "stage"), !=, "completed");
        estimate = qdict_get_qdict(report, "estimate");
        hot = qdict_get_int(estimate, "hot");
        saved = qdict_get_int(estimate, "saved");
        qobject_unref(report);
    }
    stop_and_compare(&s);
    g_test_message("%" PRIu64 " bytes were put off when the guest stopped, "
                   "%" PRIu64 " pages left out before", hot, saved);
    pipeline_end(&s);
}

static void test_postcopy(void)
{
    PipelineScene s = { 0 };
    QDict *rsp;

    if (!can_postcopy()) {
        g_test_skip("userfaultfd is not for us");
        return;
    }
    pipeline_begin(&s, "", "");
    expect_success(pipeline_start(&s, ", 'max-blackout': 200, "
                                  "'allow-postcopy': true, "
                                  "'max-bandwidth': 100000000"));
    rsp = pipeline_wait_report(s.src);
    g_assert_cmpstr(qdict_get_str(rsp, "stage"), ==, "completed");
    g_assert_true(pipeline_has_decision(rsp, "postcopy", "stuck") ||
                  pipeline_has_decision(rsp, "postcopy", "enough"));
    qobject_unref(rsp);
    pipeline_wait_run_state(s.dst, "running");
    pipeline_wait_for_guest(&s, "dst");
    rsp = pipeline_query(s.dst);
    pipeline_assert_blackout(rsp, pipeline_destination_parts);
    qobject_unref(rsp);
    pipeline_end(&s);
}

static void test_cancel(void)
{
    PipelineScene s = { 0 };
    QDict *rsp;

    pipeline_begin(&s, "", "");
    expect_error(qtest_qmp(s.src, "{'execute': 'migrate-pipeline-cancel'}"),
                 "no migration is under way");
    expect_success(pipeline_start(&s, ", 'max-bandwidth': 1000000"));
    pipeline_assert_stage(s.src, "setup");
    pipeline_assert_stage(s.src, "bulk");
    expect_error(pipeline_start(&s, ""), "a migration is under way");
    rsp = pipeline_query(s.src);
    g_assert_cmpstr(qdict_get_str(rsp, "stage"), ==, "bulk");
    g_assert_true(qdict_haskey(rsp, "estimate"));
    qobject_unref(rsp);

    qtest_qmp_assert_success(s.src, "{'execute': 'migrate-pipeline-cancel'}");
    pipeline_assert_stage(s.src, "cancelled");
    rsp = pipeline_wait_report(s.src);
    g_assert_cmpstr(qdict_get_str(rsp, "stage"), ==, "cancelled");
    qobject_unref(rsp);
    g_assert_true(pipeline_has_run_state(s.src, "running"));
    pipeline_wait_for_guest(&s, "src");
    pipeline_end_destination(&s);
    pipeline_end(&s);
}

static void test_errors(void)
{
    static const struct {
        const char *options, *want;
    } errors[] = {
        { ", 'max-blackout': 0", "'max-blackout' must be from 1" },
        { ", 'max-blackout': 2000001", "'max-blackout' must be from 1" },
        { ", 'margin': 2000001", "'margin' must be from 0" },
        { ", 'deadline': 0", "'deadline' must be more" },
        { ", 'allow-throttle': 100", "'allow-throttle' is a percentage" },
    };
    static const char *const one_way[] = { "exec:cat", "file:/dev/null" };
    PipelineScene s = { 0 };

    pipeline_begin(&s, "", "");
    for (unsigned i = 0; i < ARRAY_SIZE(errors); i++) {
        expect_error(pipeline_start(&s, errors[i].options), errors[i].want);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(one_way); i++) {
        expect_error(qtest_qmp(s.src, "{'execute': 'migrate-pipeline-start', "
                               "'arguments': {'uri': %s}}", one_way[i]),
                     "a destination that can answer");
    }
    expect_error(qtest_qmp(s.src, "{'execute': 'migrate-pipeline-start', "
                           "'arguments': {'uri': 'nonsense'}}"), "nonsense");
    expect_error(qtest_qmp(s.src, "{'execute': 'migrate-pipeline-start'}"),
                 "'uri' or 'channels' says where");
    expect_error(qtest_qmp(s.dst, "{'execute': 'migrate-pipeline-start', "
                           "'arguments': {'uri': 'tcp:127.0.0.1:1'}}"),
                 "waiting for an incoming migration");
    pipeline_set_capability(s.src, "multifd");
    expect_error(pipeline_start(&s, ", 'allow-postcopy': true"),
                 "cannot go with the capability 'multifd'");
    pipeline_set_capability(s.src, "mapped-ram");
    expect_error(pipeline_start(&s, ""), "'mapped-ram' cannot go");
    g_assert_true(pipeline_has_run_state(s.src, "running"));
    pipeline_end(&s);
}

/* Nobody listens. */
static void test_refused(void)
{
    PipelineScene s = { 0 };
    QDict *rsp;

    pipeline_begin(&s, "", "");
    qtest_quit(s.dst);
    s.dst = NULL;
    unlink(s.socket);
    expect_success(pipeline_start(&s, ""));
    do {
        g_usleep(ROUND_US);
        rsp = pipeline_query(s.src);
        if (g_str_equal(qdict_get_str(rsp, "stage"), "failed")) {
            break;
        }
        qobject_unref(rsp);
    } while (true);
    g_assert_nonnull(strstr(qdict_get_str(rsp, "error"), "connect"));
    qobject_unref(rsp);
    g_assert_true(pipeline_has_run_state(s.src, "running"));
    pipeline_end(&s);
}

/* What is no argument of migrate is a property of the migration. */
static void test_property(void)
{
    PipelineScene s = { 0 };
    g_autofree char *uri = NULL;
    QDict *rsp;

    pipeline_begin(&s, "-global migration.pipeline=on", "");
    uri = g_strdup_printf("unix:%s", s.socket);
    qtest_qmp_assert_success(s.src, "{'execute': 'migrate-set-parameters', "
        "'arguments': {'downtime-limit': 60000}}");
    qtest_qmp_assert_success(s.src, "{'execute': 'migrate', "
        "'arguments': {'uri': %s}}", uri);
    rsp = pipeline_wait_report(s.src);
    g_assert_cmpstr(qdict_get_str(rsp, "stage"), ==, "completed");
    g_assert_cmpint(qdict_get_int(qdict_get_qdict(rsp, "promise"),
                                  "max-blackout"), ==, 60000);
    qobject_unref(rsp);
    pipeline_assert_moved(&s);
    pipeline_end(&s);
}

/* A plain migration reports what its blackout was made of. */
static void test_plain(void)
{
    PipelineScene s = { 0 };
    g_autofree char *uri = NULL;
    gint64 timeout = g_get_monotonic_time() + PIPELINE_TIMEOUT_US;
    QDict *rsp = NULL;

    pipeline_begin(&s, "", "");
    uri = g_strdup_printf("unix:%s", s.socket);
    pipeline_set_capability(s.src, "return-path");
    qtest_qmp_assert_success(s.src, "{'execute': 'migrate-set-parameters', "
        "'arguments': {'downtime-limit': 60000}}");
    qtest_qmp_assert_success(s.src, "{'execute': 'migrate', "
        "'arguments': {'uri': %s}}", uri);
    do {
        qobject_unref(rsp);
        g_usleep(ROUND_US);
        g_assert_cmpint(g_get_monotonic_time(), <, timeout);
        rsp = pipeline_query(s.src);
    } while (!g_str_equal(qdict_get_str(rsp, "stage"), "completed"));
    g_assert_false(qdict_haskey(rsp, "promise"));
    pipeline_assert_blackout(rsp, pipeline_source_parts);
    qobject_unref(rsp);
    pipeline_assert_moved(&s);
    pipeline_end(&s);
}

/*
 * A disk that takes long to write back does not make the guest stand still:
 * it has done so before.
 */
static void test_quiesce(void)
{
    /* So that "preparing" is seen: three seconds are longer than passes. */
    static const char *const disk =
        "-blockdev null-co,node-name=n0,size=1073741824,"
        "latency-ns=3000000000 -device virtio-blk-pci,drive=n0,share-rw=on";
    PipelineScene s = { 0 };
    QDict *rsp;

    pipeline_begin(&s, disk, disk);
    /* The guest has no driver: give the disk something to write back. */
    qtest_qmp_assert_success(s.src, "{'execute': 'human-monitor-command', "
        "'arguments': {'command-line': 'qemu-io n0 \"write -q 0 4k\"'}}");
    expect_success(pipeline_start(&s, ", 'max-blackout': 60000"));
    rsp = pipeline_wait_report(s.src);
    g_assert_true(pipeline_has_decision(rsp, "go-on", "preparing"));
    g_assert_cmpstr(qdict_get_str(rsp, "stage"), ==, "completed");
    g_assert_cmpint(pipeline_part_time(rsp, "flush"), <, 1500000);
    qobject_unref(rsp);
    pipeline_end(&s);
}

/* What a migration may have left on makes no snapshot crash. */
static void test_snapshot(void)
{
    static const char *const names[] = { "multifd", "mapped-ram" };
    static const char *const commands[] = { "savevm a", "loadvm a" };
    QTestState *qts = qtest_init("-machine pc -nodefaults");

    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        pipeline_set_capability(qts, names[i]);
        for (unsigned j = 0; j < ARRAY_SIZE(commands); j++) {
            g_autofree char *out = qtest_hmp(qts, "%s", commands[j]);

            g_assert_nonnull(strstr(out, names[0]));
        }
    }
    qtest_quit(qts);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/pipeline/move", test_move);
    qtest_add_func("/pipeline/stages", test_stages);
    qtest_add_func("/pipeline/give-up", test_give_up);
    qtest_add_func("/pipeline/fixed", test_fixed);
    qtest_add_func("/pipeline/throttle", test_throttle);
    qtest_add_func("/pipeline/changes", test_changes);
    qtest_add_func("/pipeline/postcopy", test_postcopy);
    qtest_add_func("/pipeline/hot", test_hot);
    qtest_add_func("/pipeline/cancel", test_cancel);
    qtest_add_func("/pipeline/errors", test_errors);
    qtest_add_func("/pipeline/refused", test_refused);
    qtest_add_func("/pipeline/property", test_property);
    qtest_add_func("/pipeline/plain", test_plain);
    qtest_add_func("/pipeline/quiesce", test_quiesce);
    qtest_add_func("/pipeline/snapshot", test_snapshot);
    return g_test_run();
}
