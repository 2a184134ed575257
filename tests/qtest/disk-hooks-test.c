/*
 * Disk hot-plug: what has to wait, for hooks and for migrations
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "csv/disk-guest.h"

#define MACHINE     "-machine q35,disk-hotplug=on -nodefaults "
#define SPEC        "'id': 'd', " NULL_NODE("n")

static void hook_add(QTestState *qts, const char *name, const char *points,
                     unsigned timeout)
{
    g_autofree char *args = g_strdup_printf("{'execute': 'disk-hook-add', "
        "'arguments': {'name': '%s', 'points': [%s], 'timeout': %u}}", name,
        points, timeout);

    qtest_qmp_assert_success(qts, args, NULL);
}

/* The next question of a hook, which is about this; returns its token. */
static int64_t hook_asked(QTestState *qts, const char *hook, const char *point)
{
    QDict *event = qtest_qmp_eventwait_ref(qts, "DISK_HOOK");
    QDict *data = qdict_get_qdict(event, "data");
    int64_t token = qdict_get_int(data, "token");

    g_assert_cmpstr(qdict_get_str(data, "hook"), ==, hook);
    g_assert_cmpstr(qdict_get_str(data, "point"), ==, point);
    g_assert_cmpstr(qdict_get_str(data, "id"), ==, "d");
    g_assert_cmpstr(qdict_get_str(data, "node-name"), ==, "n");
    g_assert_cmpint(qdict_haskey(data, "spec"), ==,
                    g_str_equal(point, "before-attach"));
    qobject_unref(event);
    return token;
}

static void hook_says(QTestState *qts, int64_t token, bool allow,
                      const char *reason)
{
    qtest_qmp_assert_success(qts, "{'execute': 'disk-hook-answer', "
                             "'arguments': {'token': %" PRId64 ", "
                             "'allow': %i, 'reason': %s}}", token, allow,
                             reason);
}

static void hook_allows(QTestState *qts, const char *point)
{
    hook_says(qts, hook_asked(qts, "h", point), true, "");
}

#define ALL "'before-attach', 'after-attach', 'before-detach', 'after-detach'"

/* All points, one after the other; a hook can also be taken out. */
static void test_asked(void)
{
    QTestState *qts = qtest_init(MACHINE);
    unsigned before = disk_count_all(qts);
    QList *list;

    hook_add(qts, "h", ALL, 60000);
    disk_attach_waits(qts, SPEC);
    /* Nothing is made before it has answered, but the name is taken. */
    g_assert_cmpint(disk_count(qts, "query-named-block-nodes"), ==, 0);
    disk_refused(qts, "'id': 'd', " NULL_NODE("m"), "a device 'd' already");
    list = disk_query(qts, "query-disks");
    g_assert_cmpstr(qdict_get_str(qobject_to(QDict, qlist_peek(list)),
                                  "state"), ==, "waiting");
    qobject_unref(list);
    hook_allows(qts, "before-attach");
    hook_allows(qts, "after-attach");
    disk_attach_ends(qts, "d", "attached", NULL);

    disk_detach(qts, "d", "");
    disk_wait(qts, "d", "waiting", "a hook has to answer");
    hook_allows(qts, "before-detach");
    disk_wait(qts, "d", "removed", NULL);
    hook_asked(qts, "h", "after-detach");
    g_assert_cmpint(disk_count_all(qts), ==, before);

    disk_attach_waits(qts, SPEC);
    hook_asked(qts, "h", "before-attach");
    qtest_qmp_assert_success(qts, "{'execute': 'disk-hook-remove', "
                             "'arguments': {'name': 'h'}}");
    disk_attach_ends(qts, "d", "attached", NULL);
    qtest_quit(qts);
}

/* A no, or silence, leaves everything as it was. */
static void test_refuses(void)
{
    QTestState *qts = qtest_init(MACHINE);
    unsigned before = disk_count_all(qts);

    hook_add(qts, "h", ALL, 60000);
    disk_attach_waits(qts, SPEC);
    hook_says(qts, hook_asked(qts, "h", "before-attach"), false, "no LUN");
    disk_attach_ends(qts, "d", "refused", "hook 'h' does not allow it: no LUN");
    g_assert_cmpint(disk_count_all(qts), ==, before);

    disk_attach_waits(qts, SPEC);
    hook_allows(qts, "before-attach");
    hook_says(qts, hook_asked(qts, "h", "after-attach"), false, "no key");
    disk_attach_ends(qts, "d", "refused", "no key");
    hook_asked(qts, "h", "after-detach");
    g_assert_cmpint(disk_count_all(qts), ==, before);

    disk_attach_waits(qts, SPEC);
    hook_allows(qts, "before-attach");
    hook_allows(qts, "after-attach");
    disk_attach_ends(qts, "d", "attached", NULL);
    for (unsigned i = 0; i < 2; i++) {
        disk_detach(qts, "d", i ? ", 'mode': 'force'" : "");
        hook_says(qts, hook_asked(qts, "h", "before-detach"), false, "in use");
        disk_wait(qts, "d", "refused", "in use");
    }
    qtest_quit(qts);
}

static void test_silent(void)
{
    QTestState *qts = qtest_init(MACHINE);
    unsigned before = disk_count_all(qts);

    hook_add(qts, "quick", "'before-attach'", 60000);
    hook_add(qts, "slow", "'before-attach', 'before-detach'", 1500);
    disk_attach_waits(qts, SPEC);
    hook_says(qts, hook_asked(qts, "quick", "before-attach"), true, "");
    disk_attach_ends(qts, "d", "refused", "hook 'slow' has not answered");
    g_assert_cmpint(disk_count_all(qts), ==, before);
    /* It is too late now. */
    disk_error(qts, "disk-hook-answer", "'token': 2, 'allow': true",
               "nobody waits for an answer 2");
    qtest_quit(qts);
}

static void test_errors(void)
{
    QTestState *qts = qtest_init(MACHINE);

    disk_error(qts, "disk-hook-remove", "'name': 'h'", "no hook 'h'");
    disk_error(qts, "disk-hook-add", "'name': 'h', 'points': []",
               "must name at least one");
    disk_error(qts, "disk-hook-answer", "'token': 1, 'allow': true",
               "nobody waits");
    hook_add(qts, "h", ALL, 60000);
    disk_error(qts, "disk-hook-add", "'name': 'h', 'points': ['after-detach']",
               "a hook 'h' already");
    g_assert_cmpint(disk_count(qts, "query-disk-hooks"), ==, 1);
    /* What is known at once is said at once. */
    disk_refused(qts, NULL_NODE("n"), "must have an 'id'");
    disk_refused(qts, "'id': 'd', 'blockdev': {'driver': 'null-co'}",
                 "needs a 'node-name'");
    disk_refused(qts, SPEC ", 'uuid': 'x'", "must be a UUID");
    g_assert_null(qtest_qmp_event_ref(qts, "DISK_HOOK"));
    /* What is not, later. */
    disk_attach_waits(qts, "'id': 'd', 'blockdev': 'n'");
    hook_allows(qts, "before-attach");
    disk_attach_ends(qts, "d", "refused", "no block node 'n'");
    qtest_quit(qts);
}

/* Migrations */

static void migrate(QTestState *qts, const char *uri)
{
    qtest_qmp_assert_success(qts, "{'execute': 'migrate', "
                             "'arguments': {'uri': %s}}", uri);
}

static void migration_wait(QTestState *qts, const char *status)
{
    gint64 end = g_get_monotonic_time() + DISK_TIMEOUT_US;
    bool done;

    do {
        QDict *ret = qtest_qmp_assert_success_ref(qts,
            "{'execute': 'query-migrate'}");

        done = !g_strcmp0(qdict_get_try_str(ret, "status"), status);
        qobject_unref(ret);
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(DISK_ROUND_US);
    } while (!done);
}

/* An attach waits for the end of a migration, if it may. */
static void test_migration_waits(void)
{
    QTestState *qts = qtest_init(MACHINE "-m 64");

    qtest_qmp_assert_success(qts, "{'execute': 'migrate-set-parameters', "
                             "'arguments': {'max-bandwidth': 1024}}");
    migrate(qts, "exec:cat > /dev/null");
    migration_wait(qts, "active");
    disk_refused(qts, SPEC, "is being migrated");
    disk_attach_waits(qts, SPEC ", 'on-migration': 'wait', 'deadline': 50");
    disk_attach_ends(qts, "d", "timed-out", "still being migrated");
    disk_attach_waits(qts, SPEC ", 'on-migration': 'wait', 'deadline': 60000");
    qtest_qmp_assert_success(qts, "{'execute': 'migrate_cancel'}");
    disk_attach_ends(qts, "d", "attached", NULL);
    qtest_quit(qts);
}

static QTestState *destination(const GuestKind *kind, const char *uri)
{
    QTestState *qts = qtest_initf("-m 64 %s -incoming defer", kind->machine);

    qtest_qmp_assert_success(qts, "{'execute': 'migrate-incoming', "
                             "'arguments': {'uri': %s}}", uri);
    return qts;
}

/* Move the guest of @g; it goes on with what it does there. */
static QTestState *move(Guest *g)
{
    g_autofree char *dir = g_dir_make_tmp("disk-XXXXXX", NULL);
    g_autofree char *uri = g_strdup_printf("unix:%s/m", dir);
    QTestState *source = g->qts;

    g->qts = destination(g->kind, uri);
    disk_listen(g->qts);
    migrate(source, uri);
    migration_wait(source, "completed");
    migration_wait(g->qts, "completed");
    rmdir(dir);
    return source;
}

/* The guest was asked here, and lets go there. */
static void test_detach_moves(void)
{
    Guest *g = guest_start(guest_kind("acpi-virtio-blk"), "");
    QTestState *source;

    guest_attach(g, NULL_NODE("n"));
    disk_detach(g->qts, "d", "");
    guest_acpi_clear(g);
    disk_wait(g->qts, "d", "notified", NULL);
    source = move(g);
    disk_wait(source, "d", "cancelled", "the guest has gone to another host");
    disk_wait(g->qts, "d", "notified", NULL);
    guest_acpi_eject(g);
    disk_wait(g->qts, "d", "removed", NULL);
    g_assert_cmpint(disk_count_all(g->qts), <, disk_count_all(source));
    qtest_quit(source);
    guest_end(g);
}

/* It has not seen here that an address is empty, and sees it there. */
static void test_quarantine_moves(void)
{
    Guest *g = guest_start(guest_kind("acpi-virtio-blk"), "");
    QTestState *source;

    guest_attach(g, NULL_NODE("n"));
    disk_detach(g->qts, "d", ", 'mode': 'force'");
    disk_wait(g->qts, "d", "removed", NULL);
    g_assert_cmpint(disk_slots(g->qts, "p", "quarantined"), ==, 1);
    source = move(g);
    g_assert_cmpint(disk_slots(g->qts, "p", "quarantined"), ==, 1);
    guest_acpi_eject(g);
    g_assert_cmpint(disk_slots(g->qts, "p", "quarantined"), ==, 0);
    g_assert_cmpint(disk_slots(g->qts, "p", "free"), ==, 1);
    qtest_quit(source);
    guest_end(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!qtest_has_machine("q35") || !qtest_has_device("virtio-scsi-pci")) {
        g_test_message("no q35 machine or no virtio-scsi-pci device");
        return g_test_run();
    }
    qtest_add_func("/disk/hooks/asked", test_asked);
    qtest_add_func("/disk/hooks/refuses", test_refuses);
    qtest_add_func("/disk/hooks/silent", test_silent);
    qtest_add_func("/disk/hooks/errors", test_errors);
    qtest_add_func("/disk/migration/waits", test_migration_waits);
    qtest_add_func("/disk/migration/detach", test_detach_moves);
    qtest_add_func("/disk/migration/quarantine", test_quarantine_moves);
    return g_test_run();
}
