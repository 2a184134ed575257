/*
 * The QMP interface of cluster shared volumes
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "csv/csv-vm.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"

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

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    qtest_add_func("csv/query/none", test_query_none);
    if (have_qemu_img()) {
        qtest_add_func("csv/query/owner", test_query_owner);
    }

    return g_test_run();
}
