/*
 * Disk hot-plug: detach, while the guest is migrated
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "csv/disk-guest.h"

#define FORCE       ", 'mode': 'force'"
#define WAIT        ", 'on-migration': 'wait'"
/* So slow that it does not end by itself */
#define BYTES_PER_S "4096"
#define MIGRATED    "the guest is being migrated"

static void migrate(Guest *g, const char *bandwidth)
{
    g_autofree char *cmd = g_strdup_printf(
        "{'execute': 'migrate-set-parameters', "
        "'arguments': {'max-bandwidth': %s}}", bandwidth);

    qtest_qmp_assert_success(g->qts, cmd, NULL);
    qtest_qmp_assert_success(g->qts, "{'execute': 'migrate', 'arguments': "
                             "{'uri': 'exec:cat >/dev/null'}}");
}

/* Wait until its status is, or is not, this. */
static void wait_migration(Guest *g, const char *status, bool is)
{
    gint64 end = g_get_monotonic_time() + DISK_TIMEOUT_US;
    bool done;

    do {
        QDict *info = qtest_qmp_assert_success_ref(g->qts,
                          "{'execute': 'query-migrate'}");

        done = g_str_equal(qdict_get_str(info, "status"), status) == is;
        qobject_unref(info);
        g_assert_cmpint(g_get_monotonic_time(), <, end);
    } while (!done);
}

static void cancel_migration(Guest *g)
{
    qtest_qmp_assert_success(g->qts, "{'execute': 'migrate_cancel'}");
    wait_migration(g, "cancelled", true);
}

static void test_fail(const void *opaque)
{
    Guest *g = guest_start(opaque, "");

    guest_attach(g, NULL_NODE("n"));
    migrate(g, BYTES_PER_S);
    disk_detach_error(g->qts, "d", "", MIGRATED);
    disk_detach_error(g->qts, "d", FORCE, MIGRATED);
    disk_detach_error(g->qts, "d", ", 'on-migration': 'fail'", MIGRATED);
    disk_refused(g->qts, NULL_NODE("m"), MIGRATED);
    g_assert_cmpint(disk_count(g->qts, "query-disk-detach"), ==, 0);
    cancel_migration(g);
    disk_detach(g->qts, "d", FORCE);
    disk_wait(g->qts, "d", "removed", NULL);
    migrate(g, BYTES_PER_S);
    cancel_migration(g);
    guest_end(g);
}

/* It has all the time, or less than the migration takes, or thinks better. */
static void test_wait(const void *opaque)
{
    Guest *g = guest_start(opaque, "");
    unsigned all = disk_count_all(g->qts);

    guest_attach(g, NULL_NODE("n"));
    migrate(g, BYTES_PER_S);
    disk_detach(g->qts, "d", WAIT ", 'deadline': 50");
    disk_wait(g->qts, "d", "timed-out", MIGRATED);
    disk_assert_told(g->qts, "d", "timed-out");
    disk_detach(g->qts, "d", WAIT FORCE ", 'deadline': 50");
    disk_wait(g->qts, "d", "timed-out", MIGRATED);
    disk_assert_told(g->qts, "d", "timed-out");

    disk_detach(g->qts, "d", WAIT);
    disk_wait(g->qts, "d", "waiting", MIGRATED);
    qtest_qmp_assert_success(g->qts, "{'execute': 'disk-detach-cancel', "
                             "'arguments': {'id': 'd'}}");
    disk_assert_told(g->qts, "d", "cancelled");

    disk_detach(g->qts, "d", WAIT);
    disk_wait(g->qts, "d", "waiting", MIGRATED);
    g_assert_cmpint(disk_detach_get(g->qts, "d", "asked"), ==, 0);
    cancel_migration(g);
    disk_wait(g->qts, "d", "requested", NULL);
    g->kind->let_go(g);
    disk_wait(g->qts, "d", "removed", NULL);
    g_assert_cmpint(disk_count_all(g->qts), ==, all);
    guest_end(g);
}

/* The guest is somewhere else then: there is nothing to be done here. */
static void test_moved(const void *opaque)
{
    Guest *g = guest_start(opaque, "");

    guest_attach(g, NULL_NODE("n"));
    migrate(g, BYTES_PER_S);
    disk_detach(g->qts, "d", WAIT);
    disk_wait(g->qts, "d", "waiting", MIGRATED);
    qtest_qmp_assert_success(g->qts, "{'execute': 'migrate-set-parameters', "
                             "'arguments': {'max-bandwidth': 1000000000}}");
    disk_wait(g->qts, "d", "cancelled", "another host");
    disk_assert_told(g->qts, "d", "cancelled");
    g_assert_cmpint(disk_count(g->qts, "query-disks"), ==, 1);
    guest_end(g);
}

/* It begins when the guest has been asked, which lets go meanwhile. */
static void test_begins(const void *opaque)
{
    Guest *g = guest_start(opaque, "");
    unsigned all = disk_count_all(g->qts);

    guest_attach(g, NULL_NODE("n"));
    disk_detach(g->qts, "d", "");
    migrate(g, BYTES_PER_S);
    g->kind->let_go(g);
    disk_wait(g->qts, "d", "draining", MIGRATED);
    g_assert_cmpint(disk_count(g->qts, "query-disks"), ==, 1);
    cancel_migration(g);
    disk_wait(g->qts, "d", "removed", NULL);
    g_assert_cmpint(disk_count_all(g->qts), ==, all);
    guest_end(g);
}

static const struct {
    const char *name;
    void (*func)(const void *kind);
} each[] = {
    { "fail", test_fail },
    { "wait", test_wait },
    { "moved", test_moved },
    { "begins", test_begins },
};

int main(int argc, char **argv)
{
    static const char *const kinds[] = {
        "scsi", "acpi-virtio-blk", "pcie-virtio-blk"
    };

    g_test_init(&argc, &argv, NULL);
    for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
        for (unsigned i = 0; i < ARRAY_SIZE(each); i++) {
            g_autofree char *path = g_strdup_printf("/disk/migration/%s/%s",
                                                    kinds[k], each[i].name);

            qtest_add_data_func(path, guest_kind(kinds[k]), each[i].func);
        }
    }
    return g_test_run();
}
