/*
 * A volume on storage that does not answer: what else QEMU does meanwhile
 *
 * Nothing here measures time.  The storage answers when the test tells it to,
 * and the test tells it so through a human monitor, which is only served if
 * the main loop does not wait for that very storage.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "csv/csv-vm.h"
#include "qapi/error.h"
#include "qemu/sockets.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"

#define DISK    (16 * MiB)

typedef struct Stall {
    char *dir;
    char *path[2];              /* volumes; the first one can be stalled */
    char *monitor;
    QTestState *qts;
    FILE *hmp;
} Stall;

/* Have the human monitor execute @line, without an error. */
static void hmp(Stall *s, const char *line)
{
    g_autofree char *send = g_strdup_printf("%s\ninfo version\n", line);
    char text[1024];

    g_assert_cmpint(write(fileno(s->hmp), send, strlen(send)), ==,
                    strlen(send));
    do {
        g_assert_nonnull(fgets(text, sizeof(text), s->hmp));
        g_assert_null(strstr(text, "Error"));
    } while (!g_str_has_prefix(text, "10."));
}

/* The next read of the first volume waits for resume_at(). */
static void stall_at(Stall *s, char tag)
{
    g_autofree char *line = g_strdup_printf("qemu-io slow \"break read_aio "
                                            "%c\"", tag);

    hmp(s, line);
}

/* Nothing waits there any more, be it that the read has not come yet. */
static void resume_at(Stall *s, char tag)
{
    g_autofree char *line = g_strdup_printf("qemu-io slow \"remove_break "
                                            "%c\"", tag);

    hmp(s, line);
}

static void stall(Stall *s)
{
    stall_at(s, 'A');
}

static void resume(Stall *s)
{
    resume_at(s, 'A');
}

/* A disk of the other volume works. */
static void other_disk(Stall *s)
{
    hmp(s, "qemu-io other \"write -q -P 1 1M 64k\"");
    hmp(s, "qemu-io other \"read -q -P 1 1M 64k\"");
}

/* Is the disk of the first volume open? */
static void begin_with(Stall *s, bool open)
{
    const char *raw = open ? "file." : "";
    int i;

    s->dir = g_dir_make_tmp("csv-stall-XXXXXX", NULL);
    g_assert_nonnull(s->dir);
    s->monitor = g_strdup_printf("%s/monitor", s->dir);
    for (i = 0; i < 2; i++) {
        s->path[i] = g_strdup_printf("%s/vol%d.csv", s->dir, i);
        csv_qemu_img("create -q -f csv -o volume=vol%d,segment_size=8M,"
                     "disk=d0 %s %" PRIu64, i, s->path[i], (uint64_t)DISK);
    }
    /*
     * With -drive, "qemu-io" need not change the graph, which would wait.  It
     * would print to our own output.
     */
    s->qts = qtest_initf(
        "-machine none -nodefaults -monitor unix:%s,server=on,wait=off "
        "-drive if=none,id=slow,%s%sdriver=raw,%snode-name=vol,"
        "%sfile.driver=blkdebug,%sfile.image.driver=file,"
        "%sfile.image.filename=%s "
        "-drive driver=csv,if=none,id=other,disk=d0,"
        "file.driver=file,file.node-name=vol1,file.filename=%s > /dev/null",
        s->monitor, open ? "driver=csv,disk=d0," : "", raw, raw, raw, raw, raw,
        s->path[0], s->path[1]);
    s->hmp = fdopen(unix_connect(s->monitor, &error_abort), "r+");
    g_assert_nonnull(s->hmp);
}

static void begin(Stall *s)
{
    begin_with(s, false);
}

static void end(Stall *s)
{
    int i;

    fclose(s->hmp);
    qtest_quit(s->qts);
    for (i = 0; i < 2; i++) {
        csv_qemu_img("check -q -f csv %s", s->path[i]);
        unlink(s->path[i]);
        g_free(s->path[i]);
    }
    unlink(s->monitor);
    rmdir(s->dir);
    g_free(s->monitor);
    g_free(s->dir);
}

/* How many @what ("disks" or "members") the volume on node "vol" has */
static int count(QTestState *qts, const char *what)
{
    QDict *rsp = qtest_qmp(qts, "{'execute': 'query-csv-volumes', "
                           "'arguments': {'node-name': 'vol'}}");
    QList *list = qdict_get_qlist(rsp, "return");
    QDict *volume = qobject_to(QDict, qlist_peek(list));
    int n = qlist_size(qdict_get_qlist(volume, what));

    qobject_unref(rsp);
    return n;
}

static int count_disks(Stall *s)
{
    return count(s->qts, "disks");
}

/* The monitor serves commands of all kinds. */
static void monitor_works(Stall *s)
{
    csv_expect(qtest_qmp(s->qts, "{'execute': 'query-status'}"), NULL);
    csv_expect(qtest_qmp(s->qts, "{'execute': 'query-named-block-nodes'}"),
               NULL);
    csv_expect(qtest_qmp(s->qts, "{'execute': 'query-csv-volumes', "
                         "'arguments': {'node-name': 'vol1'}}"), NULL);
}

static void others_work(Stall *s)
{
    monitor_works(s);
    other_disk(s);
}

/* A job runs while its storage does not answer, and everything else works. */
static void job_stalls(Stall *s, const char *id)
{
    others_work(s);
    /* It does not stop in the middle, and does not fail either. */
    csv_expect(qtest_qmp(s->qts, "{'execute': 'job-cancel', "
                         "'arguments': {'id': %s}}", id), NULL);
    others_work(s);
    resume(s);
    g_assert_null(csv_finish_job(s->qts, id));
}

static void test_delete(void)
{
    Stall s;

    begin(&s);
    csv_expect(qtest_qmp(s.qts, "{'execute': 'csv-disk-delete', 'arguments': {"
                         "'volume': 'none', 'disk': 'd0', 'job-id': 'j'}}"),
               "is neither");
    stall(&s);
    csv_expect(qtest_qmp(s.qts, "{'execute': 'csv-disk-delete', 'arguments': {"
                         "'volume': 'vol', 'disk': 'd0', 'job-id': 'j'}}"),
               NULL);
    job_stalls(&s, "j");
    g_assert_cmpint(count_disks(&s), ==, 0);
    end(&s);
}

static void test_grow(void)
{
    Stall s;

    begin(&s);
    stall(&s);
    csv_expect(qtest_qmp(s.qts, "{'execute': 'csv-volume-grow', 'arguments': {"
                         "'volume': 'vol', 'size': %" PRIu64 ", "
                         "'job-id': 'j'}}", (uint64_t)1 * GiB), NULL);
    job_stalls(&s, "j");
    end(&s);
}

static void test_create(void)
{
    Stall s;

    begin(&s);
    stall(&s);
    csv_expect(qtest_qmp(s.qts, "{'execute': 'blockdev-create', 'arguments': {"
                         "'job-id': 'j', 'options': {'driver': 'csv', "
                         "'file': 'vol', 'disk': 'd1', 'size': %" PRIu64 ", "
                         "'preallocation': 'full'}}}", (uint64_t)DISK), NULL);
    others_work(&s);
    resume(&s);
    g_assert_null(csv_finish_job(s.qts, "j"));
    g_assert_cmpint(count_disks(&s), ==, 2);
    end(&s);
}

/* Query the first volume, which need not answer in time: ms, 0 is no limit. */
static bool query_answers(Stall *s, int timeout)
{
    QDict *rsp = qtest_qmp(s->qts, "{'execute': 'query-csv-volumes', "
                           "'arguments': {'node-name': 'vol', "
                           "'timeout': %d}}", timeout);
    bool answers = qdict_haskey(rsp, "return");

    qobject_unref(rsp);
    return answers;
}

/* A query that was given up has to end before there can be another one. */
static void query_ends(Stall *s)
{
    while (!query_answers(s, 0)) {
        g_usleep(1000);
    }
}

static void test_query(void)
{
    Stall s;

    begin(&s);
    stall(&s);
    csv_expect(qtest_qmp(s.qts, "{'execute': 'query-csv-volumes', "
                         "'arguments': {'node-name': 'vol', 'timeout': 1}}"),
               "has not answered in time");
    others_work(&s);
    csv_expect(qtest_qmp(s.qts, "{'execute': 'query-csv-volumes', "
                         "'arguments': {'node-name': 'vol', 'timeout': 1}}"),
               "has not answered an earlier query");
    resume(&s);
    query_ends(&s);
    g_assert_cmpint(count_disks(&s), ==, 1);
    end(&s);
}

/* A command that is no job: the monitor waits for it, and nothing else does. */
static void stall_command(Stall *s, const char *command)
{
    stall(s);
    qtest_qmp_send(s->qts, command, "");
    other_disk(s);
    resume(s);
    csv_expect(qtest_qmp_receive(s->qts), NULL);
}

static void test_commands(void)
{
    Stall s;

    begin(&s);
    stall_command(&s, "{'execute': 'query-csv-volumes', 'arguments': {"
                  "'node-name': 'vol', 'timeout': 0}}");
    stall_command(&s, "{'execute': 'csv-disk-describe', 'arguments': {"
                  "'volume': 'vol', 'disk': 'd0', 'description': 'x'}}");
    stall_command(&s, "{'execute': 'csv-disk-rename', 'arguments': {"
                  "'volume': 'vol', 'disk': 'd0', 'new-name': 'e'}}");
    stall_command(&s, "{'execute': 'csv-disk-seal', 'arguments': {"
                  "'volume': 'vol', 'disk': 'e'}}");
    stall_command(&s, "{'execute': 'csv-volume-grow', 'arguments': {"
                  "'volume': 'vol', 'size': 1073741824}}");
    stall_command(&s, "{'execute': 'csv-disk-delete', 'arguments': {"
                  "'volume': 'vol', 'disk': 'e'}}");
    g_assert_cmpint(count_disks(&s), ==, 0);
    end(&s);
}

static QTestState *start_target(Stall *s, const char *socket)
{
    return qtest_initf("-machine none -nodefaults -S -incoming unix:%s "
                       "-blockdev driver=csv,node-name=d0,disk=d0,"
                       "file.driver=file,file.node-name=vol,file.filename=%s",
                       socket, s->path[0]);
}

static void wait_for_status(QTestState *qts, const char *want)
{
    bool is;

    do {
        QDict *rsp = qtest_qmp(qts, "{'execute': 'query-status'}");

        is = g_str_equal(qdict_get_str(qdict_get_qdict(rsp, "return"),
                                       "status"), want);
        qobject_unref(rsp);
    } while (!is);
}

/* A source reads what has become of its disks now and then: that is stalled. */
static void stall_leaving(Stall *s)
{
    while (true) {
        stall(s);
        g_usleep(G_USEC_PER_SEC);
        if (query_answers(s, 1000)) {
            return;     /* so it was not the query that came first */
        }
        resume(s);
        query_ends(s);
    }
}

static void test_leave(void)
{
    g_autofree char *socket = NULL, *uri = NULL;
    QTestState *target;
    Stall s;

    begin_with(&s, true);
    socket = g_strdup_printf("%s/migrate", s.dir);
    uri = g_strdup_printf("unix:%s", socket);
    target = start_target(&s, socket);
    csv_expect(qtest_qmp(s.qts, "{'execute': 'migrate', 'arguments': {"
                         "'uri': %s}}", uri), NULL);
    wait_for_status(s.qts, "postmigrate");
    wait_for_status(target, "paused");
    g_assert_cmpint(count(target, "members"), ==, 1);

    /* It looks whether the destination has claimed the disk. */
    stall_leaving(&s);
    monitor_works(&s);
    csv_expect(qtest_qmp(target, "{'execute': 'cont'}"), NULL);
    g_assert_cmpint(count(target, "members"), ==, 2);
    monitor_works(&s);
    /* Now that it has, it looks again, with the volume's node active. */
    stall_at(&s, 'B');
    resume(&s);
    g_usleep(G_USEC_PER_SEC);
    monitor_works(&s);
    g_assert_cmpint(count(target, "members"), ==, 2);
    resume_at(&s, 'B');
    while (count(target, "members") == 2) {
        g_usleep(10 * 1000);
    }
    csv_expect(qtest_qmp(s.qts, "{'execute': 'cont'}"), "owned by another");
    monitor_works(&s);

    unlink(socket);
    qtest_quit(target);
    end(&s);
}

static QDict *set_active(QTestState *qts, const char *node, bool active)
{
    return qtest_qmp(qts, "{'execute': 'blockdev-set-active', 'arguments': {"
                     "'node-name': %s, 'active': %i}}", node, active);
}

/* The disk is closed while the process leaves the volume, or about to. */
static void test_leave_closed(void)
{
    Stall s;

    begin(&s);
    csv_expect(qtest_qmp(s.qts, "{'execute': 'blockdev-add', 'arguments': {"
                         "'driver': 'blkdebug', 'node-name': 'late', 'image': "
                         "{'driver': 'file', 'filename': %s}, "
                         "'inject-error': [{'event': 'none', 'errno': 0, "
                         "'iotype': 'write', 'delay-ns': 50000000}]}}",
                         s.path[0]), NULL);
    /* It begins to leave after half a second. */
    for (int ms = 400; ms <= 700; ms += 40) {
        csv_expect(set_active(s.qts, "late", true), NULL);
        csv_expect(qtest_qmp(s.qts, "{'execute': 'blockdev-add', 'arguments': "
                             "{'driver': 'csv', 'node-name': 'd0', "
                             "'file': 'late', 'disk': 'd0'}}"), NULL);
        csv_expect(set_active(s.qts, "d0", false), NULL);
        g_usleep(ms * 1000);
        csv_expect(qtest_qmp(s.qts, "{'execute': 'blockdev-del', 'arguments': "
                             "{'node-name': 'd0'}}"), NULL);
        monitor_works(&s);
    }
    end(&s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/csv/stall/create", test_create);
    qtest_add_func("/csv/stall/delete", test_delete);
    qtest_add_func("/csv/stall/grow", test_grow);
    qtest_add_func("/csv/stall/query", test_query);
    qtest_add_func("/csv/stall/commands", test_commands);
    qtest_add_func("/csv/stall/leave", test_leave);
    qtest_add_func("/csv/stall/leave-closed", test_leave_closed);
    return g_test_run();
}
