/*
 * A guest that moves between two QEMU processes
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qobject/qlist.h"
#include "qobject/qstring.h"
#include "migration/i386/a-b-bootblock.h"
#include "pipeline-scene.h"

#define ROUND_US        (10 * 1000)

QTestState *pipeline_start_side(PipelineScene *s, const char *serial,
                                const char *extra)
{
    return qtest_initf("-accel tcg -machine pc -m %d -nodefaults "
                       "-serial file:%s/%s -drive if=none,id=d0,format=raw,"
                       "file.locking=off,file=%s -device ide-hd,drive=d0 %s",
                       PIPELINE_GUEST_MB, s->dir, serial, s->boot, extra);
}

void pipeline_start_destination(PipelineScene *s, const char *extra)
{
    g_autofree char *incoming = s->deferred ?
        g_strdup_printf("-incoming defer %s", extra) :
        g_strdup_printf("-incoming unix:%s %s", s->socket, extra);

    s->dst = pipeline_start_side(s, "dst", incoming);
}

/* The guest says something more on its serial line. */
void pipeline_wait_for_guest(PipelineScene *s, const char *serial)
{
    g_autofree char *path = g_strdup_printf("%s/%s", s->dir, serial);
    gint64 end = g_get_monotonic_time() + PIPELINE_TIMEOUT_US;
    struct stat st, now;

    g_assert_cmpint(stat(path, &st), ==, 0);
    do {
        g_usleep(ROUND_US);
        g_assert_cmpint(stat(path, &now), ==, 0);
        g_assert_cmpint(g_get_monotonic_time(), <, end);
    } while (now.st_size <= st.st_size);
}

/* Both sides; the guest runs on the source. */
void pipeline_begin(PipelineScene *s, const char *src, const char *dst)
{
    if (!s->dir) {
        s->dir = g_dir_make_tmp("pipeline-XXXXXX", NULL);
    }
    g_assert_nonnull(s->dir);
    s->boot = g_strdup_printf("%s/boot", s->dir);
    s->socket = g_strdup_printf("%s/socket", s->dir);
    g_assert_true(g_file_set_contents(s->boot, (char *)x86_bootsect,
                                      sizeof(x86_bootsect), NULL));
    s->src = pipeline_start_side(s, "src", src);
    pipeline_start_destination(s, dst);
    pipeline_wait_for_guest(s, "src");
}

/* The destination's migration has failed, and it ends by itself. */
void pipeline_end_destination(PipelineScene *s)
{
    qtest_set_expected_status(s->dst, EXIT_FAILURE);
    qtest_wait_qemu(s->dst);
    qtest_quit(s->dst);
    s->dst = NULL;
}

void pipeline_end(PipelineScene *s)
{
    static const char *const files[] = {
        "boot", "socket", "src", "dst", "src.pcap", "dst.pcap", "volume",
        "keys.psk"
    };

    qtest_quit(s->src);
    if (s->dst) {
        qtest_quit(s->dst);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(files); i++) {
        g_autofree char *path = g_strdup_printf("%s/%s", s->dir, files[i]);

        unlink(path);
    }
    rmdir(s->dir);
    g_free(s->dir);
    g_free(s->boot);
    g_free(s->socket);
}

/* @options: more arguments, each with a comma before it */
QDict *pipeline_start(PipelineScene *s, const char *options)
{
    g_autofree char *cmd = g_strdup_printf("{'execute': "
        "'migrate-pipeline-start', 'arguments': {'uri': 'unix:%s'%s}}",
        s->socket, options);

    return qtest_qmp(s->src, cmd, NULL);
}

void expect_success(QDict *rsp)
{
    g_assert_true(qdict_haskey(rsp, "return"));
    qobject_unref(rsp);
}

void expect_error(QDict *rsp, const char *want)
{
    const char *text = qdict_get_str(qdict_get_qdict(rsp, "error"), "desc");

    g_assert_nonnull(strstr(text, want));
    qobject_unref(rsp);
}

QDict *pipeline_query(QTestState *qts)
{
    return qtest_qmp_assert_success_ref(qts,
        "{'execute': 'query-migrate-pipeline'}");
}

char *pipeline_next_stage(QTestState *qts)
{
    QDict *event = qtest_qmp_eventwait_ref(qts, "MIGRATE_PIPELINE_STAGE");
    char *stage = g_strdup(qdict_get_str(qdict_get_qdict(event, "data"),
                                         "stage"));

    qobject_unref(event);
    return stage;
}

void pipeline_assert_stage(QTestState *qts, const char *want)
{
    g_autofree char *stage = pipeline_next_stage(qts);

    g_assert_cmpstr(stage, ==, want);
}

/* The report, which query-migrate-pipeline repeats */
QDict *pipeline_wait_report(QTestState *qts)
{
    QDict *event = qtest_qmp_eventwait_ref(qts, "MIGRATE_PIPELINE_REPORT");
    QDict *report = qdict_get_qdict(qdict_get_qdict(event, "data"), "report");
    QDict *again = pipeline_query(qts);

    g_assert_cmpstr(qdict_get_str(report, "stage"), ==,
                    qdict_get_str(again, "stage"));
    qobject_unref(event);
    return again;
}

bool pipeline_has_run_state(QTestState *qts, const char *want)
{
    QDict *rsp = qtest_qmp_assert_success_ref(qts,
                                              "{'execute': 'query-status'}");
    bool ret = g_str_equal(qdict_get_str(rsp, "status"), want);

    qobject_unref(rsp);
    return ret;
}

void pipeline_wait_run_state(QTestState *qts, const char *want)
{
    gint64 end = g_get_monotonic_time() + PIPELINE_TIMEOUT_US;

    while (!pipeline_has_run_state(qts, want)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(ROUND_US);
    }
}

/* Was there this decision? */
bool pipeline_has_decision(QDict *report, const char *action,
                         const char *reason)
{
    const QListEntry *e;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(report, "decisions"), e) {
        QDict *d = qobject_to(QDict, qlist_entry_obj(e));

        if (g_str_equal(qdict_get_str(d, "action"), action) &&
            g_str_equal(qdict_get_str(d, "reason"), reason)) {
            return true;
        }
    }
    return false;
}

/* Time of a part in the blackout, or -1 */
int64_t pipeline_part_time(QDict *report, const char *part)
{
    QList *parts = qdict_get_qlist(qdict_get_qdict(report, "blackout"),
                                   "parts");
    const QListEntry *e;

    QLIST_FOREACH_ENTRY(parts, e) {
        QDict *d = qobject_to(QDict, qlist_entry_obj(e));

        if (g_str_equal(qdict_get_str(d, "part"), part)) {
            return qdict_get_int(d, "time");
        }
    }
    return -1;
}

/* The parts are there and make up the whole. */
void pipeline_assert_blackout(QDict *report, const char *const *parts)
{
    int64_t total = qdict_get_int(qdict_get_qdict(report, "blackout"),
                                  "total");
    unsigned n = 0;

    for (; *parts; parts++, n++) {
        int64_t time = pipeline_part_time(report, *parts);

        g_assert_cmpint(time, >=, 0);
        total -= time;
    }
    g_assert_cmpint(total, ==, 0);
    g_assert_cmpint(qlist_size(qdict_get_qlist(
        qdict_get_qdict(report, "blackout"), "parts")), ==, n);
}

const char *const pipeline_source_parts[] = {
    "stop", "flush", "release", "sync", "memory", "device-state", "wire",
    "load", "claim", "start", NULL
};

const char *const pipeline_destination_parts[] = {
    "load", "claim", "start", NULL
};

/* What the user had set is what is set again: @capability, and no other. */
void pipeline_assert_settings(QTestState *qts, const char *capability)
{
    QDict *rsp = qtest_qmp_assert_success_ref(qts,
        "{'execute': 'query-migrate-parameters'}");
    QList *caps;
    const QListEntry *e;
    QDict *caps_rsp;

    g_assert_cmpint(qdict_get_int(rsp, "max-bandwidth"), ==, 128 * MiB);
    g_assert_cmpint(qdict_get_int(rsp, "downtime-limit"), ==, 300);
    qobject_unref(rsp);

    caps_rsp = qtest_qmp(qts, "{'execute': 'query-migrate-capabilities'}");
    caps = qdict_get_qlist(caps_rsp, "return");
    QLIST_FOREACH_ENTRY(caps, e) {
        QDict *cap = qobject_to(QDict, qlist_entry_obj(e));
        const char *name = qdict_get_str(cap, "capability");

        g_assert_cmpint(qdict_get_bool(cap, "state"), ==,
                        capability && g_str_equal(name, capability));
    }
    qobject_unref(caps_rsp);
}

/* The guest is on the destination, as both sides say. */
void pipeline_assert_moved(PipelineScene *s)
{
    QDict *rsp;

    pipeline_wait_run_state(s->dst, "running");
    g_assert_true(pipeline_has_run_state(s->src, "postmigrate"));
    pipeline_wait_for_guest(s, "dst");
    rsp = pipeline_query(s->dst);
    g_assert_cmpstr(qdict_get_str(rsp, "stage"), ==, "completed");
    pipeline_assert_blackout(rsp, pipeline_destination_parts);
    qobject_unref(rsp);
    pipeline_assert_settings(s->dst, NULL);
}

void pipeline_set_capability(QTestState *qts, const char *name)
{
    qtest_qmp_assert_success(qts, "{'execute': 'migrate-set-capabilities', "
        "'arguments': {'capabilities': [{'capability': %s, 'state': true}]}}",
        name);
}

char *pipeline_memory(PipelineScene *s, QTestState *qts)
{
    g_autofree char *path = g_strdup_printf("%s/memory", s->dir);
    char *data;
    size_t len;

    qtest_qmp_assert_success(qts, "{'execute': 'pmemsave', 'arguments': "
                             "{'val': 0, 'size': %d, 'filename': %s}}",
                             PIPELINE_GUEST_MB * (int)MiB, path);
    g_assert_true(g_file_get_contents(path, &data, &len, NULL));
    g_assert_cmpint(len, ==, PIPELINE_GUEST_MB * MiB);
    unlink(path);
    return data;
}
