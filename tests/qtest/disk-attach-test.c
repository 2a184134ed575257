/*
 * Disk hot-plug: attach, and that nothing is left when that fails
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "csv/disk-scene.h"

#define MACHINE     "-machine q35,disk-hotplug=on -nodefaults "
#define PLACES      256

/* The ordinary way, which releases what disk-attach has made, too */
static void device_del(QTestState *qts, const char *id)
{
    qtest_qmp_assert_success(qts, "{'execute': 'device_del', "
                             "'arguments': {'id': %s}}", id);
}

static void detach(QTestState *qts, const char *id)
{
    unsigned had = disk_count(qts, "query-disks");

    device_del(qts, id);
    disk_wait_gone(qts, had - 1);
}

/* All that can be asked for; with the device all of it is gone. */
static void test_attach(void)
{
    QTestState *qts = qtest_init(MACHINE "-device pcie-root-port,id=p,"
                                 "chassis=1");
    unsigned before = disk_count_all(qts);
    QDict *disk;

    for (unsigned i = 0; i < 2; i++) {
        disk = disk_attached(qts, NULL_NODE("n") ", 'id': 'd', "
                             "'throttle': {'iops-total': 10}");
        g_assert_cmpstr(qdict_get_str(disk, "bus"), ==, "scsi");
        g_assert_cmpstr(qdict_get_str(disk, "place"), ==, "disks.0");
        g_assert_cmpint(qdict_get_int(disk, "address"), ==, 0);
        g_assert_cmpstr(qdict_get_str(disk, "state"), ==, "attached");
        g_assert_cmpstr(qdict_get_str(disk, "node-name"), ==, "n");
        qobject_unref(disk);
        detach(qts, "d");
        g_assert_cmpint(disk_count_all(qts), ==, before);
    }
    disk = disk_attached(qts, NULL_NODE("n") ", 'bus': 'virtio-blk', "
                         "'iothread': 't', 'queues': 2, 'serial': 'abc'");
    g_assert_cmpstr(qdict_get_str(disk, "place"), ==, "p");
    g_assert_cmpstr(qdict_get_str(disk, "guest-name"), ==,
                    "/dev/disk/by-id/virtio-abc");
    g_assert_cmpint(disk_count(qts, "query-iothreads"), ==, 1);
    /* The port is taken, and the controller is another bus. */
    disk_refused(qts, NULL_NODE("m") ", 'bus': 'nvme', 'id': 'e'",
                 "pci 'p' 0 of 1");
    qobject_unref(disk);
    qtest_quit(qts);
}

/* Each step fails once; nothing is left, and all names are free again. */
static void test_failures(void)
{
    static const struct {
        const char *spec, *why;
    } bad[] = {
        { "'blockdev': {'driver': 'null-co'}", "needs a 'node-name'" },
        { "'blockdev': 'none'", "no block node 'none'" },
        { "'blockdev': 'u', 'create': {'driver': 'file', 'filename': '/x', "
          "'size': 1}", "must say how" },
        { NULL_NODE("n") ", 'id': '1-2'", "must be an identifier" },
        { NULL_NODE("n") ", 'id': 'disks'", "a device 'disks' already" },
        { NULL_NODE("n") ", 'uuid': 'x'", "must be a UUID" },
        { NULL_NODE("n") ", 'serial': '123456789012345678901'",
          "1 to 20 characters" },
        { NULL_NODE("n") ", 'iothread': 't'", "'bus': 'virtio-blk'" },
        { NULL_NODE("n") ", 'throttle': {}, 'throttle-group': 'g'",
          "only one of" },
        { NULL_NODE("n") ", 'create': {'driver': 'file', "
          "'filename': '/nowhere/x', 'size': 1}", "must have an 'id'" },
        { NULL_NODE("n") ", 'id': 'd', 'create': {'driver': 'file', "
          "'filename': '/nowhere/x', 'size': 1}", "No such file" },
        { NULL_NODE("n") ", 'id': 'd', 'create': {'driver': 'blkdebug'}",
          "does not support" },
        { NULL_NODE("u"), "'u'" },
        { "'blockdev': {'driver': 'file', 'filename': '/nowhere/x', "
          "'node-name': 'n'}", "No such file" },
        { NULL_NODE("n") ", 'throttle': {'bps-total': 1, 'bps-read': 1}",
          "cannot be used at the same time" },
        { NULL_NODE("n") ", 'throttle-group': 'none'", "'none'" },
        { NULL_NODE("n") ", 'bus': 'virtio-blk', 'iothread': '1x'",
          "expects an identifier" },
        { NULL_NODE("n") ", 'bus': 'virtio-blk', 'iothread': 't'",
          "scsi 'disks.0' 256 of 256" },
        { NULL_NODE("n") ", 'throttle': {'iops-total': 9}, 'wwn': 1, "
          "'bus': 'nvme'", "no free place" },
        /* The device itself: somebody else writes to the node already. */
        { "'blockdev': 'u', 'id': 'd', 'throttle': {'iops-total': 9}",
          "write" },
    };
    QTestState *qts = qtest_init(MACHINE "-blockdev null-co,node-name=u "
                                 "-device virtio-blk-pci,drive=u");
    unsigned before = disk_count_all(qts);
    QDict *disk;

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        disk_refused(qts, bad[i].spec, bad[i].why);
        g_assert_cmpint(disk_count_all(qts), ==, before);
    }
    disk = disk_attached(qts, NULL_NODE("n") ", 'id': 'd', "
                         "'throttle': {'iops-total': 9}");
    qobject_unref(disk);
    qtest_quit(qts);
}

static void set_limit(QTestState *qts, int iops)
{
    qtest_qmp_assert_success(qts, "{'execute': 'qom-set', 'arguments': "
                             "{'path': '/objects/g', 'property': 'limits', "
                             "'value': {'iops-total': %d}}}", iops);
}

/*
 * An image that takes long to be made keeps nobody waiting but its disk: the
 * storage takes a request a second until the limit is lifted.
 */
static void test_create(void)
{
    g_autofree char *dir = g_dir_make_tmp("disk-create.XXXXXX", NULL);
    g_autofree char *path = g_strdup_printf("%s/x", dir);
    QTestState *qts;
    unsigned before;

    g_assert_true(g_file_set_contents(path, "", 0, NULL));
    qts = qtest_initf(MACHINE "-object throttle-group,id=g "
                      "-blockdev file,filename=%s,node-name=f "
                      "-blockdev throttle,throttle-group=g,file=f,node-name=t",
                      path);
    before = disk_count_all(qts);
    for (unsigned i = 0; i < 2; i++) {
        set_limit(qts, 1);
        disk_attach_waits(qts, "'id': 'd', 'create': {'driver': 'qcow2', "
                          "'file': 't', 'size': 268435456, "
                          "'preallocation': 'metadata'}, 'blockdev': "
                          "{'driver': 'qcow2', 'node-name': 'n', "
                          "'file': 't'}");
        g_assert_cmpint(disk_count(qts, "query-jobs"), ==, 1);
        g_assert_cmpint(disk_count(qts, "query-disks"), ==, 1);
        disk_refused(qts, NULL_NODE("m") ", 'id': 'd'", "'d' already");
        set_limit(qts, 0);
        disk_attach_ends(qts, "d", "attached", NULL);
        g_assert_cmpint(disk_count(qts, "query-jobs"), ==, 0);
        disk_detach(qts, "d", ", 'quiet': 0");
        disk_wait(qts, "d", "removed", NULL);
        g_assert_cmpint(disk_count_all(qts), ==, before);
    }

    /* It cannot be opened as something else: only the image stays. */
    set_limit(qts, 1);
    disk_attach_waits(qts, "'id': 'd', 'create': {'driver': 'qcow2', "
                      "'file': 't', 'size': 65536}, 'blockdev': "
                      "{'driver': 'csv', 'node-name': 'n', 'disk': 'x', "
                      "'file': 't'}");
    set_limit(qts, 0);
    disk_attach_ends(qts, "d", "refused", "volume");
    g_assert_cmpint(disk_count_all(qts), ==, before);
    qtest_quit(qts);
    unlink(path);
    rmdir(dir);
}

/* What would happen, and did not */
static void test_dry_run(void)
{
    QTestState *qts = qtest_init(MACHINE);
    unsigned before = disk_count_all(qts);
    QDict *plan = disk_attached(qts, NULL_NODE("n") ", 'dry-run': true");
    QDict *disk;

    g_assert_cmpstr(qdict_get_str(plan, "state"), ==, "planned");
    g_assert_cmpint(disk_count_all(qts), ==, before);
    disk = disk_attached(qts, NULL_NODE("n"));
    g_assert_cmpstr(qdict_get_str(plan, "guest-name"), ==,
                    qdict_get_str(disk, "guest-name"));
    g_assert_cmpstr(qdict_get_str(plan, "id"), ==, qdict_get_str(disk, "id"));
    qobject_unref(disk);
    qobject_unref(plan);

    plan = disk_attached(qts,
        "'blockdev': {'driver': 'file', 'node-name': 'm', "
        "'filename': '/nowhere/x'}, 'create': {'driver': 'file', "
        "'filename': '/nowhere/x', 'size': 1}, 'dry-run': true");
    g_assert_cmpint(qdict_get_int(plan, "address"), ==, 1);
    g_assert_false(qdict_haskey(plan, "uuid"));
    qobject_unref(plan);
    qtest_quit(qts);
}

/* A node that was there before is there afterwards. */
static void test_node(void)
{
    QTestState *qts = qtest_init(MACHINE "-blockdev null-co,node-name=n");
    QDict *disk = disk_attached(qts, "'blockdev': 'n', 'id': 'd', "
                                "'throttle': {'iops-total': 9}");

    g_assert_cmpint(disk_count(qts, "query-named-block-nodes"), ==, 2);
    detach(qts, "d");
    g_assert_cmpint(disk_count(qts, "query-named-block-nodes"), ==, 1);
    qobject_unref(disk);
    qtest_quit(qts);
}

/* Who it is does not depend on where or when. */
static void test_identity(void)
{
    static const char uuid[] = "6f1f64bb-7ba2-4ea4-8f0a-1c3b8f9d2a11";
    QTestState *qts = qtest_init(MACHINE);
    QDict *disk;

    for (unsigned i = 0; i < 2; i++) {
        g_autofree char *spec = g_strdup_printf("%s, 'uuid': '%s'",
                                                NULL_NODE("n"), uuid);

        disk = disk_attached(qts, spec);
        g_assert_cmpint(qdict_get_int(disk, "address"), ==, i);
        g_assert_cmpstr(qdict_get_str(disk, "uuid"), ==, uuid);
        g_assert_cmpstr(qdict_get_str(disk, "id"), ==, "disk-6f1f64bb7ba2");
        g_assert_cmpstr(qdict_get_str(disk, "serial"), ==,
                        "6f1f64bb7ba24ea48f0a");
        g_assert_cmpstr(qdict_get_str(disk, "guest-name"), ==,
                        "/dev/disk/by-id/wwn-0x36f1f64bb7ba24ea");
        qobject_unref(disk);
        /* The same disk twice would be two with one name. */
        disk_refused(qts, spec, "'n'");
        detach(qts, "disk-6f1f64bb7ba2");
        if (!i) {
            /* Somebody else has its place the next time. */
            disk = disk_attached(qts, NULL_NODE("other"));
            qobject_unref(disk);
        }
    }
    qtest_quit(qts);
}

/* As many as there are places, and then one more */
static void test_many(void)
{
    QTestState *qts = qtest_init(MACHINE);
    unsigned before = disk_count_all(qts), files = disk_open_files(qts);

    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < PLACES; i++) {
            g_autofree char *spec = g_strdup_printf("'id': 'd%u', 'blockdev': {"
                "'driver': 'null-co', 'node-name': 'n%u'}", i, i);
            QDict *disk = disk_attached(qts, spec);

            g_assert_cmpint(qdict_get_int(disk, "address"), ==, i);
            qobject_unref(disk);
        }
        disk_refused(qts, NULL_NODE("n"), "scsi 'disks.0' 0 of 256");
        for (unsigned i = 0; i < PLACES; i++) {
            g_autofree char *id = g_strdup_printf("d%u", i);

            device_del(qts, id);
        }
        disk_wait_gone(qts, 0);
        g_assert_cmpint(disk_count_all(qts), ==, before);
        g_assert_cmpint(disk_open_files(qts), ==, files);
    }
    qtest_quit(qts);
}

/* A machine that is not ready for it says what would help. */
static void test_no_place(void)
{
    QTestState *qts = qtest_init("-machine q35 -nodefaults");

    g_assert_cmpint(disk_count(qts, "query-disk-slots"), ==, 0);
    disk_refused(qts, NULL_NODE("n"), "no bus that takes hot-plug");
    qtest_quit(qts);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!qtest_has_machine("q35") || !qtest_has_device("virtio-scsi-pci")) {
        g_test_message("no q35 machine or no virtio-scsi-pci device");
        return g_test_run();
    }
    qtest_add_func("/disk/attach", test_attach);
    qtest_add_func("/disk/failures", test_failures);
    qtest_add_func("/disk/create", test_create);
    qtest_add_func("/disk/dry-run", test_dry_run);
    qtest_add_func("/disk/node", test_node);
    qtest_add_func("/disk/identity", test_identity);
    qtest_add_func("/disk/many", test_many);
    qtest_add_func("/disk/no-place", test_no_place);
    return g_test_run();
}
