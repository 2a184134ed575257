/*
 * The QMP interface of cluster shared volumes
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "csv/csv-vm.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "qobject/qstring.h"
#include "qemu/uuid.h"

/* The only volume there is */
static QDict *query_volume(QTestState *qts)
{
    QDict *rsp = qtest_qmp(qts, "{'execute': 'query-csv-volumes'}");
    QList *volumes = qdict_get_qlist(rsp, "return");
    QDict *volume;

    g_assert_nonnull(volumes);
    g_assert_cmpint(qlist_size(volumes), ==, 1);
    volume = qobject_to(QDict, qlist_peek(volumes));
    qobject_ref(volume);
    qobject_unref(rsp);
    return volume;
}

static QDict *disk_of(QDict *volume, const char *name)
{
    const QListEntry *entry;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(volume, "disks"), entry) {
        QDict *disk = qobject_to(QDict, qlist_entry_obj(entry));

        if (g_str_equal(qdict_get_str(disk, "name"), name)) {
            return disk;
        }
    }
    g_assert_not_reached();
}

static void add_disk(QTestState *qts, CsvScene *s, const char *disk)
{
    qtest_qmp_assert_success(qts,
        "{'execute': 'blockdev-add', 'arguments': {"
        " 'driver': 'csv', 'node-name': %s, 'disk': %s,"
        " 'file': {'driver': 'file', 'filename': %s}}}",
        disk, disk, s->volume);
}

/* The node "vol", through which several disks can be opened */
static void add_volume(QTestState *qts, CsvScene *s)
{
    qtest_qmp_assert_success(qts,
        "{'execute': 'blockdev-add', 'arguments': {"
        " 'driver': 'file', 'node-name': 'vol', 'filename': %s}}",
        s->volume);
}

static QDict *try_add(QTestState *qts, const char *node, const char *disk,
                      bool read_only)
{
    return qtest_qmp(qts,
        "{'execute': 'blockdev-add', 'arguments': {"
        " 'driver': 'csv', 'node-name': %s, 'disk': %s, 'file': 'vol',"
        " 'read-only': %i}}", node, disk, read_only);
}

static void add(QTestState *qts, const char *node, const char *disk,
                bool read_only)
{
    QDict *rsp = try_add(qts, node, disk, read_only);

    g_assert_true(qdict_haskey(rsp, "return"));
    qobject_unref(rsp);
}

static void del(QTestState *qts, const char *node)
{
    qtest_qmp_assert_success(qts, "{'execute': 'blockdev-del',"
                             " 'arguments': {'node-name': %s}}", node);
}

/* The error of @rsp has all words of @want, which ends with NULL; frees @rsp */
static void expect_error(QDict *rsp, const char *const *want)
{
    const char *text;

    g_assert_true(qdict_haskey(rsp, "error"));
    text = qdict_get_str(qdict_get_qdict(rsp, "error"), "desc");
    for (; *want; want++) {
        if (!strstr(text, *want)) {
            g_test_message("'%s' is not in: %s", *want, text);
            g_test_fail();
        }
    }
    qobject_unref(rsp);
}

#define EXPECT_ERROR(rsp, ...) \
    expect_error(rsp, (const char *const[]) { __VA_ARGS__, NULL })

static QDict *try_delete(QTestState *qts, const char *volume, const char *disk)
{
    return qtest_qmp(qts, "{'execute': 'csv-disk-delete',"
                     " 'arguments': {'volume': %s, 'disk': %s}}",
                     volume, disk);
}

static void expect_event(QTestState *qts, const char *disk, const char *state,
                         const char *reason, int64_t epoch, const char *node)
{
    QDict *event = qtest_qmp_eventwait_ref(qts, "CSV_DISK_OWNERSHIP");
    QDict *data = qdict_get_qdict(event, "data");

    g_assert_cmpstr(qdict_get_str(data, "volume"), ==, "vol1");
    g_assert_cmpstr(qdict_get_str(data, "disk"), ==, disk);
    g_assert_cmpstr(qdict_get_str(data, "state"), ==, state);
    g_assert_cmpstr(qdict_get_str(data, "reason"), ==, reason);
    g_assert_cmpint(qdict_get_int(data, "epoch"), ==, epoch);
    g_assert_cmpstr(qdict_get_str(data, "node-name"), ==, node);
    qobject_unref(event);
}

static void create(QTestState *qts, QDict *options)
{
    QDict *rsp;

    qtest_qmp_assert_success(qts, "{'execute': 'blockdev-create',"
                             " 'arguments': {'job-id': 'create',"
                             " 'options': %p}}", options);
    for (;;) {
        QDict *job, *event = qtest_qmp_eventwait_ref(qts, "JOB_STATUS_CHANGE");
        bool done;

        job = qdict_get_qdict(event, "data");
        done = g_str_equal(qdict_get_str(job, "status"), "concluded");
        qobject_unref(event);
        if (done) {
            break;
        }
    }
    rsp = qtest_qmp(qts, "{'execute': 'query-jobs'}");
    g_assert_false(qdict_haskey(qobject_to(QDict, qlist_peek(
                       qdict_get_qlist(rsp, "return"))), "error"));
    qobject_unref(rsp);
    qtest_qmp_assert_success(qts, "{'execute': 'job-dismiss',"
                             " 'arguments': {'id': 'create'}}");
}

/* No volume: nothing to say, and no error */
static void test_query_none(void)
{
    QTestState *qts = qtest_init("-machine none");
    QDict *rsp = qtest_qmp(qts, "{'execute': 'query-csv-volumes'}");

    g_assert_true(qlist_empty(qdict_get_qlist(rsp, "return")));
    qobject_unref(rsp);
    qtest_quit(qts);
}

/* A disk has an owner from blockdev-add to blockdev-del */
static void test_query_owner(void)
{
    CsvScene s;
    QTestState *qts;
    QDict *volume, *disk, *owner;

    csv_scene_init(&s, 2);
    qts = qtest_init("-machine none");
    add_disk(qts, &s, "disk0");

    volume = query_volume(qts);
    g_assert_cmpstr(qdict_get_str(volume, "name"), ==, "vol1");
    g_assert_cmpint(qdict_get_int(volume, "free"), <=,
                    qdict_get_int(volume, "capacity"));
    g_assert_cmpint(qlist_size(qdict_get_qlist(volume, "disks")), ==, 2);
    g_assert_cmpint(qlist_size(qdict_get_qlist(volume, "members")), ==, 1);

    disk = disk_of(volume, "disk0");
    owner = qdict_get_qdict(disk, "owner");
    g_assert_cmpstr(qdict_get_str(disk, "state"), ==, "owned");
    g_assert_cmpint(qdict_get_int(disk, "size"), ==, CSV_DISK_MB * MiB);
    g_assert_cmpint(qdict_get_int(owner, "pid"), ==, qtest_pid(qts));
    g_assert_cmpstr(qdict_get_str(owner, "liveness"), ==, "alive");
    g_assert_cmpint(qdict_get_int(owner, "id"), ==,
                    qdict_get_int(volume, "member"));

    disk = disk_of(volume, "disk1");
    g_assert_cmpstr(qdict_get_str(disk, "state"), ==, "free");
    g_assert_false(qdict_haskey(disk, "owner"));
    qobject_unref(volume);

    add_disk(qts, &s, "disk1");
    qtest_qmp_assert_success(qts, "{'execute': 'blockdev-del',"
                             " 'arguments': {'node-name': 'disk0'}}");
    volume = query_volume(qts);
    g_assert_cmpstr(qdict_get_str(disk_of(volume, "disk0"), "state"),
                    ==, "free");
    g_assert_cmpstr(qdict_get_str(disk_of(volume, "disk1"), "state"),
                    ==, "owned");
    qobject_unref(volume);

    qtest_quit(qts);
    csv_scene_cleanup(&s);
}

static void check_uuid(const char *text)
{
    QemuUUID uuid;

    g_assert_cmpint(qemu_uuid_parse(text, &uuid), ==, 0);
    g_assert_false(qemu_uuid_is_null(&uuid));
}

static void check_now(int64_t seconds)
{
    int64_t now = g_get_real_time() / G_USEC_PER_SEC;

    g_assert_cmpint(seconds, <=, now);
    g_assert_cmpint(seconds, >, now - 600);
}

static void check_nodes(QDict *of, const char *only)
{
    QList *nodes = qdict_get_qlist(of, "node-names");

    if (!only) {
        g_assert_true(qlist_empty(nodes));
        return;
    }
    g_assert_cmpint(qlist_size(nodes), ==, 1);
    g_assert_cmpstr(qstring_get_str(qobject_to(QString, qlist_peek(nodes))),
                    ==, only);
}

/* Each field of query-csv-volumes */
static void test_query_fields(void)
{
    CsvScene s;
    QTestState *qts;
    QDict *volume, *disk, *member;
    int64_t segment;

    csv_scene_init(&s, 1);
    qts = qtest_init("-machine none");
    add_volume(qts, &s);

    /* Without a disk the process has the volume only if it is asked for. */
    volume = qtest_qmp(qts, "{'execute': 'query-csv-volumes'}");
    g_assert_true(qlist_empty(qdict_get_qlist(volume, "return")));
    qobject_unref(volume);
    volume = qtest_qmp(qts, "{'execute': 'query-csv-volumes',"
                       " 'arguments': {'node-name': 'vol'}}");
    member = qobject_to(QDict, qlist_peek(qdict_get_qlist(volume, "return")));
    g_assert_cmpstr(qdict_get_str(member, "name"), ==, "vol1");
    g_assert_false(qdict_haskey(member, "member"));
    g_assert_true(qlist_empty(qdict_get_qlist(member, "members")));
    qobject_unref(volume);

    add(qts, "d0", "disk0", false);
    volume = query_volume(qts);
    segment = qdict_get_int(volume, "segment-size");
    check_uuid(qdict_get_str(volume, "uuid"));
    check_nodes(volume, "vol");
    g_assert_cmpint(segment, >=, 8 * MiB);
    g_assert_cmpint(qdict_get_int(volume, "cluster-size"), ==, 2 * MiB);
    g_assert_cmpint(qdict_get_int(volume, "subcluster-size"), ==, 64 * KiB);
    g_assert_cmpint(qdict_get_int(volume, "capacity") % segment, ==, 0);
    g_assert_cmpint(qdict_get_int(volume, "free"), ==,
                    qdict_get_int(volume, "capacity") - segment);

    member = qobject_to(QDict, qlist_peek(qdict_get_qlist(volume, "members")));
    g_assert_cmpint(qdict_get_int(member, "id"), ==, 0);
    g_assert_cmpint(qdict_get_int(member, "incarnation"), >=, 1);
    g_assert_cmpstr(qdict_get_str(member, "host"), ==, g_get_host_name());
    g_assert_cmpint(qdict_get_int(member, "pid"), ==, qtest_pid(qts));
    g_assert_cmpstr(qdict_get_str(member, "liveness"), ==, "alive");
    check_now(qdict_get_int(member, "since"));

    disk = disk_of(volume, "disk0");
    check_uuid(qdict_get_str(disk, "uuid"));
    check_nodes(disk, "d0");
    check_now(qdict_get_int(disk, "since"));
    g_assert_cmpint(qdict_get_int(disk, "id"), ==, 0);
    g_assert_cmpint(qdict_get_int(disk, "allocated"), ==, segment);
    g_assert_cmpint(qdict_get_int(disk, "epoch"), ==, 1);
    qobject_unref(volume);

    EXPECT_ERROR(qtest_qmp(qts, "{'execute': 'query-csv-volumes',"
                           " 'arguments': {'node-name': 'none'}}"), "none");
    EXPECT_ERROR(qtest_qmp(qts, "{'execute': 'query-csv-volumes',"
                           " 'arguments': {'node-name': 'd0'}}"),
                 "'d0'", "superblock", "magic");
    qtest_quit(qts);
    csv_scene_cleanup(&s);
}

/* A volume and disks by blockdev-create, all through one node */
static void test_create(void)
{
    CsvScene s;
    QTestState *qts;
    QDict *volume;

    csv_scene_init(&s, 1);
    qts = qtest_init("-machine none");
    add_volume(qts, &s);
    create(qts, qdict_from_jsonf_nofail(
        "{'driver': 'csv', 'file': 'vol', 'size': 0, 'volume': 'vol1',"
        " 'volume-size': %" PRId64 ", 'segment-size': %" PRId64 "}",
        (int64_t)(200 * MiB), (int64_t)(16 * MiB)));
    create(qts, qdict_from_jsonf_nofail(
        "{'driver': 'csv', 'file': 'vol', 'size': %" PRId64 ", 'disk': 'x'}",
        (int64_t)(30 * MiB)));
    add(qts, "dx", "x", false);
    /* And another one while the first is open */
    create(qts, qdict_from_jsonf_nofail(
        "{'driver': 'csv', 'file': 'vol', 'size': %" PRId64 ", 'disk': 'y'}",
        (int64_t)(40 * MiB)));

    volume = query_volume(qts);
    g_assert_cmpint(qdict_get_int(volume, "segment-size"), ==, 16 * MiB);
    g_assert_cmpint(qdict_get_int(volume, "capacity"), <=, 200 * MiB);
    g_assert_cmpint(qdict_get_int(volume, "capacity"), >, 150 * MiB);
    g_assert_cmpint(qdict_get_int(disk_of(volume, "x"), "size"), ==,
                    30 * MiB);
    g_assert_cmpint(qdict_get_int(disk_of(volume, "y"), "size"), ==,
                    40 * MiB);
    g_assert_cmpint(qdict_get_int(volume, "capacity") -
                    qdict_get_int(volume, "free"), ==, 32 * MiB);
    qobject_unref(volume);
    qtest_quit(qts);
    csv_scene_cleanup(&s);
}

/* What one process does twice with a disk, and the events of it */
static void test_open_twice(void)
{
    CsvScene s;
    QTestState *qts;
    QDict *volume;

    csv_scene_init(&s, 2);
    qts = qtest_init("-machine none");
    add_volume(qts, &s);
    add(qts, "d0", "disk0", false);
    expect_event(qts, "disk0", "owned", "claim", 1, "d0");
    EXPECT_ERROR(try_add(qts, "again", "disk0", false),
                 "'disk0'", "'vol1'", "already open", "this process");
    EXPECT_ERROR(try_add(qts, "none", "disk9", false), "'disk9'", "'vol1'");
    add(qts, "r0", "disk0", true);
    volume = query_volume(qts);
    g_assert_cmpint(qlist_size(qdict_get_qlist(disk_of(volume, "disk0"),
                                               "node-names")), ==, 2);
    qobject_unref(volume);

    add(qts, "d1", "disk1", false);
    expect_event(qts, "disk1", "owned", "claim", 1, "d1");
    del(qts, "d0");
    expect_event(qts, "disk0", "free", "release", 1, "d0");
    add(qts, "again", "disk0", false);
    expect_event(qts, "disk0", "owned", "claim", 2, "again");
    qtest_quit(qts);
    csv_scene_cleanup(&s);
}

/* Another process: whom its errors name, and what a kill leaves behind */
static void test_other_process(void)
{
    CsvScene s;
    CsvVm *one;
    QTestState *two;
    g_autofree char *pid = NULL, *host = NULL;
    QDict *volume, *disk;

    csv_scene_init(&s, 2);
    one = csv_vm_start(&s, "");
    two = qtest_init("-machine none");
    pid = g_strdup_printf("pid %d,", one->pid);
    host = g_strdup_printf("host %s,", g_get_host_name());
    add_volume(two, &s);
    EXPECT_ERROR(try_add(two, "d0", "disk0", false), "'disk0'", "'vol1'",
                 "owned", host, pid, "member 0", "since", "UTC");
    EXPECT_ERROR(try_delete(two, "vol", "disk0"), "'disk0'", "'vol1'", host,
                 pid, "member 0");
    add(two, "r0", "disk0", true);
    csv_qemu_img("create -q -f csv -o disk=mine %s 1M", s.volume);
    add(two, "mine", "mine", false);
    expect_event(two, "mine", "owned", "claim", 1, "mine");
    volume = query_volume(two);
    /* The other one has a node, and so a member, for each of its disks. */
    g_assert_cmpint(qdict_get_int(volume, "member"), ==, 2);
    g_assert_cmpint(qlist_size(qdict_get_qlist(volume, "members")), ==, 3);
    disk = disk_of(volume, "disk0");
    g_assert_cmpint(qdict_get_int(qdict_get_qdict(disk, "owner"), "pid"), ==,
                    one->pid);
    check_nodes(disk, "r0");
    qobject_unref(volume);

    csv_vm_kill(one);
    volume = query_volume(two);
    disk = qdict_get_qdict(disk_of(volume, "disk0"), "owner");
    g_assert_cmpstr(qdict_get_str(disk, "liveness"), ==, "dead");
    qobject_unref(volume);
    add(two, "d0", "disk0", false);
    expect_event(two, "disk0", "owned", "takeover", 2, "d0");
    qtest_quit(two);
    csv_scene_cleanup(&s);
}

static void test_delete(void)
{
    CsvScene s;
    QTestState *qts;
    QDict *volume;
    g_autofree char *uuid = NULL;
    int64_t all;

    csv_scene_init(&s, 3);
    qts = qtest_init("-machine none");
    add_volume(qts, &s);
    EXPECT_ERROR(try_delete(qts, "vol1", "disk0"), "'vol1'", "neither");
    EXPECT_ERROR(try_delete(qts, "vol", "disk9"), "'vol1'", "'disk9'");
    add(qts, "d0", "disk0", false);
    EXPECT_ERROR(try_delete(qts, "vol", "disk0"), "'disk0'", "'d0'");

    volume = query_volume(qts);
    all = qdict_get_int(volume, "free");
    uuid = g_strdup(qdict_get_str(volume, "uuid"));
    qobject_unref(volume);
    qobject_unref(try_delete(qts, "vol1", "disk1"));
    qobject_unref(try_delete(qts, uuid, "disk2"));
    volume = query_volume(qts);
    g_assert_cmpint(qlist_size(qdict_get_qlist(volume, "disks")), ==, 1);
    g_assert_cmpint(qdict_get_int(volume, "free"), ==,
                    all + 2 * qdict_get_int(volume, "segment-size"));
    qobject_unref(volume);

    /* By node the disk may be the last one, and the volume not open. */
    del(qts, "d0");
    qobject_unref(try_delete(qts, "vol", "disk0"));
    EXPECT_ERROR(try_delete(qts, "vol", "disk0"), "'disk0'");
    qtest_quit(qts);
    csv_scene_cleanup(&s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    qtest_add_func("csv/query/none", test_query_none);
    if (have_qemu_img()) {
        qtest_add_func("csv/query/owner", test_query_owner);
        qtest_add_func("csv/query/fields", test_query_fields);
        qtest_add_func("csv/create", test_create);
        qtest_add_func("csv/open-twice", test_open_twice);
        qtest_add_func("csv/other-process", test_other_process);
        qtest_add_func("csv/delete", test_delete);
    }

    return g_test_run();
}
