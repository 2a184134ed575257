/*
 * Commands that change volumes and disks: success, and each error
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "csv/csv-vm.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"

#define SEGMENT (8 * MiB)

/* Two processes that know a volume with two disks, of 16 MiB, as "vol". */
typedef struct Pair {
    char *dir;
    char *path;
    QTestState *a, *b;
} Pair;

static QTestState *start(const char *path)
{
    return qtest_initf("-machine none -nodefaults -blockdev "
                       "driver=file,node-name=vol,filename=%s", path);
}

static void begin(Pair *p, const char *options)
{
    p->dir = g_dir_make_tmp("csv-command-XXXXXX", NULL);
    g_assert_nonnull(p->dir);
    p->path = g_strdup_printf("%s/vol.csv", p->dir);
    csv_qemu_img("create -q -f csv -o volume=vol1,segment_size=8M,disk=d0%s "
                 "%s 16M", options, p->path);
    csv_qemu_img("create -q -f csv -o disk=d1 %s 16M", p->path);
    p->a = start(p->path);
    p->b = start(p->path);
}

static void end(Pair *p)
{
    qtest_quit(p->a);
    qtest_quit(p->b);
    csv_qemu_img("check -q -f csv %s", p->path);
    unlink(p->path);
    rmdir(p->dir);
    g_free(p->path);
    g_free(p->dir);
}

static QDict *add(QTestState *qts, const char *disk)
{
    return qtest_qmp(qts, "{'execute': 'blockdev-add', 'arguments': {"
                     "'driver': 'csv', 'node-name': 'n', 'file': 'vol', "
                     "'discard': 'unmap', 'disk': %s}}", disk);
}

static void del(QTestState *qts)
{
    csv_expect(qtest_qmp(qts, "{'execute': 'blockdev-del', 'arguments': {"
                         "'node-name': 'n'}}"), NULL);
}

static QDict *disk_command(QTestState *qts, const char *command,
                           const char *disk)
{
    return qtest_qmp(qts, "{'execute': %s, 'arguments': {'volume': 'vol', "
                     "'disk': %s}}", command, disk);
}

static QDict *rename_disk(QTestState *qts, const char *disk, const char *name)
{
    return qtest_qmp(qts, "{'execute': 'csv-disk-rename', 'arguments': {"
                     "'volume': 'vol', 'disk': %s, 'new-name': %s}}", disk,
                     name);
}

static QDict *describe(QTestState *qts, const char *disk, const char *text)
{
    return qtest_qmp(qts, "{'execute': 'csv-disk-describe', 'arguments': {"
                     "'volume': 'vol', 'disk': %s, 'description': %s}}", disk,
                     text);
}

static QDict *query(QTestState *qts)
{
    QDict *rsp = qtest_qmp(qts, "{'execute': 'query-csv-volumes', "
                           "'arguments': {'node-name': 'vol'}}");
    QList *list = qdict_get_qlist(rsp, "return");
    QDict *volume;

    g_assert_nonnull(list);
    volume = qobject_ref(qobject_to(QDict, qlist_peek(list)));
    qobject_unref(rsp);
    return volume;
}

/* A copy of what @key of @disk is; NULL if there is no such disk. */
static char *disk_text(QTestState *qts, const char *disk, const char *key)
{
    QDict *volume = query(qts);
    const QListEntry *entry;
    char *text = NULL;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(volume, "disks"), entry) {
        QDict *d = qobject_to(QDict, qlist_entry_obj(entry));

        if (g_str_equal(qdict_get_str(d, "name"), disk)) {
            text = g_strdup(qdict_get_str(d, key));
        }
    }
    qobject_unref(volume);
    return text;
}

static bool disk_flag(QTestState *qts, const char *key)
{
    QDict *volume = query(qts);
    QList *disks = qdict_get_qlist(volume, "disks");
    bool flag = qdict_get_bool(qobject_to(QDict, qlist_peek(disks)), key);

    qobject_unref(volume);
    return flag;
}

static int64_t capacity(QTestState *qts)
{
    QDict *volume = query(qts);
    int64_t bytes = qdict_get_int(volume, "capacity");

    qobject_unref(volume);
    return bytes;
}

static void test_rename(void)
{
    g_autofree char *uuid = NULL, *again = NULL;
    g_autofree char *none = NULL;
    Pair p;

    begin(&p, "");
    uuid = disk_text(p.a, "d0", "uuid");
    csv_expect(rename_disk(p.a, "d0", "vm1/root"), NULL);
    again = disk_text(p.b, "vm1/root", "uuid");
    g_assert_cmpstr(again, ==, uuid);
    none = disk_text(p.b, "d0", "uuid");
    g_assert_null(none);

    /* To itself; by its UUID; of one that is open here */
    csv_expect(rename_disk(p.a, "vm1/root", "vm1/root"), NULL);
    csv_expect(rename_disk(p.a, uuid, "x"), NULL);
    csv_expect(add(p.a, uuid), NULL);
    csv_expect(rename_disk(p.a, "x", "y"), NULL);

    csv_expect(rename_disk(p.b, "y", "z"), "is in use by another member");
    csv_expect(rename_disk(p.a, "y", "d1"), "has a disk 'd1' already");
    csv_expect(rename_disk(p.b, "d1", "y"), "has a disk 'y' already");
    csv_expect(rename_disk(p.a, "none", "z"), "has no disk 'none'");
    csv_expect(rename_disk(p.a, "d1", ""), "name");
    csv_expect(rename_disk(p.a, "d1", "a\tb"), "name");
    /* What was refused has left nothing behind, and the owner goes on. */
    del(p.a);
    csv_expect(rename_disk(p.b, "y", "z"), NULL);
    csv_expect(add(p.a, "z"), NULL);
    end(&p);
}

static void test_describe(void)
{
    g_autofree char *text = NULL, *mine = NULL;
    g_autofree char *l = g_strnfill(96, 'x');
    Pair p;

    begin(&p, "");
    csv_expect(describe(p.a, "d0", "mail server"), NULL);
    text = disk_text(p.b, "d0", "description");
    g_assert_cmpstr(text, ==, "mail server");
    csv_expect(add(p.a, "d0"), NULL);
    csv_expect(describe(p.a, "d0", ""), NULL);
    mine = disk_text(p.b, "d0", "description");
    g_assert_cmpstr(mine, ==, "");
    csv_expect(describe(p.b, "d0", "x"), "is in use by another member");
    csv_expect(describe(p.a, "none", "x"), "has no disk 'none'");
    csv_expect(describe(p.a, "d1", l), "description");
    csv_expect(describe(p.a, "d1", "a\nb"), "description");
    end(&p);
}

static int64_t allocated(QTestState *qts, const char *disk)
{
    QDict *volume = query(qts);
    const QListEntry *entry;
    int64_t bytes = -1;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(volume, "disks"), entry) {
        QDict *d = qobject_to(QDict, qlist_entry_obj(entry));

        if (g_str_equal(qdict_get_str(d, "name"), disk)) {
            bytes = qdict_get_int(d, "allocated");
        }
    }
    qobject_unref(volume);
    return bytes;
}

/* What a node tells of its disk: a list with one member, or none */
static QDict *node_info(QTestState *qts, const char *disk)
{
    QDict *volume = query(qts), *found = NULL;
    const QListEntry *entry;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(volume, "disks"), entry) {
        QDict *d = qobject_to(QDict, qlist_entry_obj(entry));
        QList *nodes = qdict_get_qlist(d, "nodes");

        if (g_str_equal(qdict_get_str(d, "name"), disk) &&
            !qlist_empty(nodes)) {
            g_assert_cmpint(qlist_size(nodes), ==, 1);
            found = qobject_ref(qobject_to(QDict, qlist_peek(nodes)));
        }
    }
    qobject_unref(volume);
    return found;
}

/* A number in @info, or in a @part of it */
static int64_t number(QDict *info, const char *part, const char *key)
{
    return qdict_get_int(part ? qdict_get_qdict(info, part) : info, key);
}

static void test_query(void)
{
    QDict *info;
    Pair p;

    begin(&p, "");
    g_assert_null(node_info(p.a, "d0"));
    csv_expect(add(p.a, "d0"), NULL);
    g_assert_null(node_info(p.a, "d1"));
    g_assert_null(node_info(p.b, "d0"));

    info = node_info(p.a, "d0");
    g_assert_cmpstr(qdict_get_str(info, "node-name"), ==, "n");
    g_assert_true(qdict_get_bool(info, "owned"));
    g_assert_cmpint(number(info, NULL, "used"), ==, 2 * MiB);
    g_assert_cmpint(number(info, NULL, "clusters"), ==, 0);
    g_assert_cmpint(number(info, "stats", "clusters-allocated"), ==, 0);
    g_assert_cmpint(number(info, "cache", "size"), ==, 0);
    g_assert_cmpint(number(info, "cache", "limit"), >, 0);
    qobject_unref(info);

    /* Three clusters, and one of tables; the last two in the wrong order */
    g_free(qtest_hmp(p.a, "qemu-io n \"write 0 4k\""));
    g_free(qtest_hmp(p.a, "qemu-io n \"write 4M 64k\""));
    g_free(qtest_hmp(p.a, "qemu-io n \"write 2M 64k\""));
    g_free(qtest_hmp(p.a, "qemu-io n flush"));
    info = node_info(p.a, "d0");
    g_assert_cmpint(number(info, NULL, "used"), ==, 5 * 2 * MiB);
    g_assert_cmpint(number(info, NULL, "clusters"), ==, 3);
    g_assert_cmpint(number(info, NULL, "fragmented"), ==, 2);
    g_assert_cmpint(number(info, "cache", "size"), >, 0);
    g_assert_cmpint(number(info, "journal", "used"), >, 0);
    g_assert_cmpint(number(info, "journal", "sequence"), >, 0);
    g_assert_cmpint(number(info, "stats", "clusters-allocated"), ==, 4);
    g_assert_cmpint(number(info, "stats", "segments-claimed"), >, 0);
    g_assert_cmpint(number(info, "stats", "commits"), ==, 1);
    /* Three entries of clusters, one of the table */
    g_assert_cmpint(number(info, "stats", "entries"), ==, 4);
    qobject_unref(info);

    g_free(qtest_hmp(p.a, "qemu-io n \"discard 0 6M\""));
    g_free(qtest_hmp(p.a, "qemu-io n flush"));
    info = node_info(p.a, "d0");
    g_assert_cmpint(number(info, NULL, "used"), ==, 2 * 2 * MiB);
    g_assert_cmpint(number(info, "stats", "clusters-freed"), ==, 3);
    g_assert_cmpint(number(info, "stats", "commits"), ==, 2);
    qobject_unref(info);
    csv_expect(qtest_qmp(p.a, "{'execute': 'query-csv-volumes', 'arguments': {"
                         "'node-name': 'none'}}"), "none");
    end(&p);
}

static QDict *grow(QTestState *qts, uint64_t size)
{
    return size ? qtest_qmp(qts, "{'execute': 'csv-volume-grow', 'arguments': "
                            "{'volume': 'vol', 'size': %" PRIu64 "}}", size)
                : qtest_qmp(qts, "{'execute': 'csv-volume-grow', 'arguments': "
                            "{'volume': 'vol'}}");
}

static QDict *grow_disk(QTestState *qts, uint64_t size)
{
    return qtest_qmp(qts, "{'execute': 'block_resize', 'arguments': {"
                     "'node-name': 'n', 'size': %" PRIu64 "}}", size);
}

/* Returns the error, to be freed, or NULL. */
static char *create(QTestState *qts, const char *name)
{
    csv_expect(qtest_qmp(qts, "{'execute': 'blockdev-create', 'arguments': {"
                         "'job-id': 'job', 'options': {'driver': 'csv', "
                         "'file': 'vol', 'disk': %s, 'size': 1048576}}}",
                         name), NULL);
    return csv_finish_job(qts, "job");
}

static void create_is_full(char *error)
{
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error, "is full"));
    g_free(error);
}

/* One member grows the volume, the other one that had no space goes on. */
static void test_grow(void)
{
    int64_t before, full;
    struct stat st;
    unsigned i;
    Pair p;

    begin(&p, ",volume_size=128M");
    before = capacity(p.a);
    g_assert_cmpint(stat(p.path, &st), ==, 0);

    csv_expect(add(p.b, "d1"), NULL);
    for (i = 2; i < before / SEGMENT + 1; i++) {
        g_autofree char *name = g_strdup_printf("disk-%u", i);
        char *error = create(p.b, name);

        if (error) {
            create_is_full(error);
            break;
        }
    }
    create_is_full(create(p.b, "more"));

    csv_expect(grow(p.a, st.st_size), "segments already");
    csv_expect(grow(p.a, 1), "segments already");
    csv_expect(grow(p.a, 0), "segments already");
    csv_expect(grow(p.a, 2 * PiB), "Parameter 'size' must be");
    csv_expect(grow(p.a, st.st_size + 2 * SEGMENT), NULL);
    full = capacity(p.a);
    g_assert_cmpint(full, ==, before + 2 * SEGMENT);
    /* A write finds the new space, as one that stopped a guest does. */
    g_assert_cmpint(allocated(p.a, "d1"), ==, SEGMENT);
    g_free(qtest_hmp(p.b, "qemu-io n \"write 0 8M\""));
    g_assert_cmpint(allocated(p.a, "d1"), >, SEGMENT);
    csv_expect(grow(p.a, st.st_size + 4 * SEGMENT), NULL);
    full = capacity(p.a);
    g_assert_null(create(p.b, "more"));
    g_assert_cmpint(capacity(p.b), ==, full);

    /* The storage has grown by itself. */
    g_assert_cmpint(truncate(p.path, st.st_size + 5 * SEGMENT), ==, 0);
    csv_expect(grow(p.b, 0), NULL);
    g_assert_cmpint(capacity(p.a), ==, before + 5 * SEGMENT);
    csv_expect(grow_disk(p.b, 32 * MiB), NULL);

    /* The table has an end. */
    csv_expect(grow(p.a, 1 * TiB), "can have");
    csv_expect(qtest_qmp(p.a, "{'execute': 'csv-volume-grow', 'arguments': {"
                         "'volume': 'none'}}"), "is neither");
    end(&p);
}

static void test_seal(void)
{
    Pair p;

    begin(&p, "");
    csv_expect(disk_command(p.a, "csv-disk-seal", "d0"), NULL);
    g_assert_true(disk_flag(p.b, "sealed"));
    csv_expect(add(p.a, "d0"), "is sealed");
    csv_expect(add(p.a, "d1"), NULL);
    csv_expect(disk_command(p.a, "csv-disk-seal", "d1"),
               "open for writing here");
    csv_expect(disk_command(p.b, "csv-disk-seal", "d1"), "by another member");
    csv_expect(disk_command(p.b, "csv-disk-seal", "d2"), "has no disk 'd2'");
    csv_expect(qtest_qmp(p.a, "{'execute': 'csv-disk-seal', 'arguments': {"
                         "'volume': 'no', 'disk': 'd0'}}"), "is neither");
    csv_expect(qtest_qmp(p.a, "{'execute': 'csv-disk-seal', 'arguments': {"
                         "'volume': 'vol', 'disk': 'd0', 'seal': false}}"),
               NULL);
    g_assert_false(disk_flag(p.b, "sealed"));
    end(&p);
}

static void test_share(void)
{
    Pair p;

    begin(&p, "");
    csv_expect(disk_command(p.a, "csv-disk-share", "d0"), "not all of it");
    csv_expect(disk_command(p.a, "csv-disk-share", "d2"), "has no disk 'd2'");
    csv_expect(qtest_qmp(p.a, "{'execute': 'csv-disk-share', 'arguments': {"
                         "'volume': 'no', 'disk': 'd0'}}"), "is neither");
    end(&p);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    if (have_qemu_img()) {
        qtest_add_func("csv/command/query", test_query);
        qtest_add_func("csv/command/rename", test_rename);
        qtest_add_func("csv/command/describe", test_describe);
        qtest_add_func("csv/command/grow", test_grow);
        qtest_add_func("csv/command/seal", test_seal);
        qtest_add_func("csv/command/share", test_share);
    }
    return g_test_run();
}
