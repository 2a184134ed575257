/*
 * Disk hot-plug: detach, and the guest's agent
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "csv/agent-guest.h"
#include "qapi/error.h"

#define UNMOUNT     ", 'agent': 'unmount'"
/* A third of that is for the agent. */
#define HURRY       ", 'deadline': 900"
#define FREEZE      "guest-fsfreeze-freeze-list"
#define THAW        "guest-fsfreeze-thaw"

static void attach(QTestState *qts, const char *id)
{
    g_autofree char *spec = g_strdup_printf("'id': '%s', 'bus': 'scsi', "
        "'blockdev': {'driver': 'null-co', 'node-name': 'n%s'}", id, id);

    qobject_unref(disk_attached(qts, spec));
}

/* What has come of asking the agent, if that is over, and why */
static void assert_agent(QTestState *qts, const char *id, const char *outcome,
                         const char *why)
{
    QDict *info = disk_detach_info(qts, id);

    g_assert_cmpstr(qdict_get_try_str(info, "agent"), ==, outcome);
    g_assert_cmpint(qdict_haskey(info, "agent-error"), ==, why != NULL);
    if (why) {
        g_test_message("%s", qdict_get_str(info, "agent-error"));
        g_assert_nonnull(strstr(qdict_get_str(info, "agent-error"), why));
    }
    qobject_unref(info);
}

static void cancel(QTestState *qts, const char *id)
{
    qtest_qmp_assert_success(qts, "{'execute': 'disk-detach-cancel', "
                             "'arguments': {'id': %s}}", id);
}

/* The agent says where @id is mounted. */
static void says_mounted(AgentGuest *g, const char *id, const char *path)
{
    QList *list = disk_query(g->qts, "query-disks");
    const QListEntry *e;

    QLIST_FOREACH_ENTRY(list, e) {
        QDict *disk = qobject_to(QDict, qlist_entry_obj(e));

        if (g_str_equal(qdict_get_str(disk, "id"), id)) {
            g_autofree char *text = g_strdup_printf("{\"return\": [{"
                "\"name\": \"sda\", \"mountpoint\": \"%s\", \"disk\": ["
                "{\"serial\": \"0QEMU_QEMU_HARDDISK_%s\"}]}]}\n", path,
                qdict_get_str(disk, "serial"));

            agent_guest_says(g, text);
        }
    }
    qobject_unref(list);
}

/* The agent of this guest is there, and disk 'd' is being detached. */
static AgentGuest *agent_guest_detaching(const char *more)
{
    AgentGuest *g = agent_guest_start("");

    agent_guest_open(g, true);
    attach(g->qts, "d");
    disk_detach(g->qts, "d", more);
    return g;
}

/* From the first word to the place where @id is mounted */
static void begins(AgentGuest *g, const char *id)
{
    agent_guest_syncs(g);
    g_assert_null(agent_guest_hears(g, "guest-get-fsinfo"));
    says_mounted(g, id, "/hot");
}

static void hears_freeze(AgentGuest *g)
{
    QDict *args = agent_guest_hears(g, FREEZE);
    QList *list = qdict_get_qlist(args, "mountpoints");

    g_assert_cmpint(qlist_size(list), ==, 1);
    qobject_unref(args);
}

static void thaws(AgentGuest *g)
{
    agent_guest_syncs(g);
    g_assert_null(agent_guest_hears(g, THAW));
    agent_guest_says(g, "{\"return\": 1}\n");
}

/* A program of the guest ends like that. */
static void executes(AgentGuest *g, const char *status)
{
    QDict *args = agent_guest_hears(g, "guest-exec");

    g_assert_cmpstr(qdict_get_str(args, "path"), ==, "umount");
    qobject_unref(args);
    agent_guest_says(g, "{\"return\": {\"pid\": 9}}\n");
    args = agent_guest_hears(g, "guest-exec-status");
    g_assert_cmpint(qdict_get_int(args, "pid"), ==, 9);
    qobject_unref(args);
    agent_guest_says(g, status);
}

static void test_none(void)
{
    QTestState *qts = qtest_init("-machine q35,disk-hotplug=on -nodefaults");

    attach(qts, "d");
    disk_detach_error(qts, "d", ", 'mode': 'force', 'agent': 'write-out'",
                      "'force' does not ask the guest");
    disk_detach_error(qts, "d", ", 'mode': 'force'" UNMOUNT,
                      "'force' does not ask the guest");
    disk_detach(qts, "d", UNMOUNT);
    disk_wait(qts, "d", "refused", "the guest has no agent that listens; "
              "unmount what is on the disk in the guest");
    assert_agent(qts, "d", "none", NULL);
    disk_detach(qts, "d", ", 'agent': 'off'");
    disk_wait(qts, "d", "removed", NULL);
    assert_agent(qts, "d", NULL, NULL);
    attach(qts, "d");
    disk_detach(qts, "d", "");
    disk_wait(qts, "d", "removed", NULL);
    assert_agent(qts, "d", "none", NULL);
    attach(qts, "d");
    disk_detach(qts, "d", ", 'mode': 'force', 'agent': 'off'");
    disk_wait(qts, "d", "removed", NULL);
    assert_agent(qts, "d", NULL, NULL);
    qtest_quit(qts);
}

/* The guest has not opened the port, or has closed it. */
static void test_closed(void)
{
    AgentGuest *g = agent_guest_start("");

    attach(g->qts, "d");
    disk_detach(g->qts, "d", UNMOUNT);
    disk_wait(g->qts, "d", "refused", "no agent");
    agent_guest_open(g, true);
    agent_guest_open(g, false);
    disk_detach(g->qts, "d", "");
    disk_wait(g->qts, "d", "removed", NULL);
    assert_agent(g->qts, "d", "none", NULL);
    g_assert_true(agent_guest_is_silent(g));
    agent_guest_end(g);
}

/* A manager who is connected notices nothing. */
static void test_busy(void)
{
    AgentGuest *g = agent_guest_start("");
    char buf[16] = "";
    int fd;

    agent_guest_open(g, true);
    fd = agent_guest_connect(g);
    attach(g->qts, "d");
    disk_detach(g->qts, "d", UNMOUNT);
    disk_wait(g->qts, "d", "refused", "the guest's agent has another client");
    disk_detach(g->qts, "d", "");
    disk_wait(g->qts, "d", "removed", NULL);
    assert_agent(g->qts, "d", "busy", NULL);
    g_assert_true(agent_guest_is_silent(g));
    agent_guest_says(g, "hello");
    g_assert_cmpint(recv(fd, buf, sizeof(buf), 0), ==, 5);
    g_assert_cmpstr(buf, ==, "hello");
    close(fd);
    agent_guest_end(g);
}

static void test_write_out(void)
{
    AgentGuest *g = agent_guest_detaching("");
    char buf[16] = "";
    int fd;

    disk_wait(g->qts, "d", "waiting", "the guest's agent has to answer");
    assert_agent(g->qts, "d", "asked", NULL);
    begins(g, "d");
    hears_freeze(g);
    agent_guest_says(g, "{\"return\": 1}\n");
    thaws(g);
    disk_wait(g->qts, "d", "removed", NULL);
    assert_agent(g->qts, "d", "written-out", NULL);
    disk_assert_told(g->qts, "d", "draining removed");

    /* Now a manager may come, and hears what is new only. */
    fd = agent_guest_connect(g);
    agent_guest_says(g, "hello");
    g_assert_cmpint(recv(fd, buf, sizeof(buf), 0), ==, 5);
    close(fd);
    agent_guest_end(g);
}

/* An agent that does not run, or goes away, holds nothing up. */
static void test_silent(void)
{
    AgentGuest *g = agent_guest_start("");

    agent_guest_open(g, true);
    attach(g->qts, "d");
    disk_detach(g->qts, "d", UNMOUNT HURRY);
    disk_wait(g->qts, "d", "refused", "the agent has not answered in time");
    disk_detach(g->qts, "d", HURRY);
    disk_wait(g->qts, "d", "removed", NULL);
    assert_agent(g->qts, "d", "failed", "has not answered in time");

    attach(g->qts, "d");
    disk_detach(g->qts, "d", "");
    disk_wait(g->qts, "d", "waiting", "agent");
    agent_guest_open(g, false);
    disk_wait(g->qts, "d", "removed", NULL);
    assert_agent(g->qts, "d", "failed", "has closed its agent's port");
    agent_guest_end(g);
}

static void test_reset(void)
{
    AgentGuest *g = agent_guest_detaching("");

    begins(g, "d");
    hears_freeze(g);
    qtest_system_reset(g->qts);
    disk_wait(g->qts, "d", "removed", NULL);
    assert_agent(g->qts, "d", "failed", "has closed its agent's port");
    agent_guest_end(g);
}

/* The port goes, and with it the way to the agent. */
static void test_unplug(void)
{
    AgentGuest *g = agent_guest_detaching("");

    disk_wait(g->qts, "d", "waiting", "agent");
    qtest_qmp_device_del(g->qts, "port");
    disk_wait(g->qts, "d", "removed", NULL);
    assert_agent(g->qts, "d", "failed", "has closed its agent's port");
    qtest_qmp_assert_success(g->qts, "{'execute': 'chardev-remove', "
                             "'arguments': {'id': 'qga'}}");
    agent_guest_end(g);
}

static void test_unmount(void)
{
    AgentGuest *g = agent_guest_detaching(UNMOUNT);

    begins(g, "d");
    executes(g, "{\"return\": {\"exited\": true, \"exitcode\": 32, "
             "\"err-data\": \"YnVzeQo=\"}}\n");
    disk_wait(g->qts, "d", "refused",
              "'/hot' could not be unmounted: busy; unmount what is on");
    assert_agent(g->qts, "d", "failed", "could not be unmounted: busy");
    disk_detach(g->qts, "d", UNMOUNT);
    begins(g, "d");
    executes(g, "{\"return\": {\"exited\": true, \"exitcode\": 0}}\n");
    disk_wait(g->qts, "d", "removed", NULL);
    assert_agent(g->qts, "d", "unmounted", NULL);
    agent_guest_end(g);
}

/* Until the thaw, the guest does not move; it comes whatever happens. */
static void test_cancel(void)
{
    AgentGuest *g = agent_guest_detaching("");
    QDict *rsp;

    qobject_unref(agent_guest_hears(g, "guest-sync-delimited"));
    cancel(g->qts, "d");
    disk_wait(g->qts, "d", "cancelled", NULL);
    assert_agent(g->qts, "d", NULL, NULL);
    disk_detach(g->qts, "d", "");
    begins(g, "d");
    hears_freeze(g);
    cancel(g->qts, "d");
    disk_wait(g->qts, "d", "cancelled", NULL);
    rsp = qtest_qmp(g->qts, "{'execute': 'migrate', 'arguments': "
                    "{'uri': 'exec:cat >/dev/null'}}");
    g_assert_nonnull(strstr(qdict_get_str(qdict_get_qdict(rsp, "error"),
                                          "desc"), "are being written out"));
    qobject_unref(rsp);
    thaws(g);
    g_assert_true(agent_guest_is_silent(g));
    qtest_qmp_assert_success(g->qts, "{'execute': 'migrate', 'arguments': "
                             "{'uri': 'exec:cat >/dev/null'}}");
    qtest_qmp_eventwait(g->qts, "STOP");
    agent_guest_end(g);
}

static void test_force(void)
{
    AgentGuest *g = agent_guest_detaching("");

    begins(g, "d");
    hears_freeze(g);
    disk_detach(g->qts, "d", ", 'mode': 'force'");
    disk_wait(g->qts, "d", "removed", NULL);
    assert_agent(g->qts, "d", NULL, NULL);
    thaws(g);
    agent_guest_end(g);
}

/* One after the other */
static void test_several(void)
{
    AgentGuest *g = agent_guest_start("");

    agent_guest_open(g, true);
    attach(g->qts, "d");
    attach(g->qts, "e");
    disk_detach(g->qts, "d", "");
    disk_detach(g->qts, "e", UNMOUNT);
    begins(g, "d");
    hears_freeze(g);
    assert_agent(g->qts, "e", "asked", NULL);
    agent_guest_says(g, "{\"return\": 1}\n");
    thaws(g);
    begins(g, "e");
    executes(g, "{\"return\": {\"exited\": true, \"exitcode\": 0}}\n");
    disk_wait(g->qts, "d", "removed", NULL);
    disk_wait(g->qts, "e", "removed", NULL);
    assert_agent(g->qts, "d", "written-out", NULL);
    assert_agent(g->qts, "e", "unmounted", NULL);
    agent_guest_end(g);
}

/* While the guest moves it is not asked; then it begins again. */
static void test_migration(void)
{
    AgentGuest *g = agent_guest_detaching("");

    agent_guest_syncs(g);
    g_assert_null(agent_guest_hears(g, "guest-get-fsinfo"));
    qtest_qmp_assert_success(g->qts, "{'execute': 'migrate-set-parameters', "
                             "'arguments': {'max-bandwidth': 4096}}");
    qtest_qmp_assert_success(g->qts, "{'execute': 'migrate', 'arguments': "
                             "{'uri': 'exec:cat >/dev/null'}}");
    disk_wait(g->qts, "d", "waiting", "the guest is being migrated");
    assert_agent(g->qts, "d", NULL, NULL);
    g_assert_true(agent_guest_is_silent(g));
    qtest_qmp_assert_success(g->qts, "{'execute': 'migrate_cancel'}");
    begins(g, "d");
    hears_freeze(g);
    agent_guest_says(g, "{\"return\": 1}\n");
    thaws(g);
    disk_wait(g->qts, "d", "removed", NULL);
    agent_guest_end(g);
}

/* The destination asks from the beginning. */
static void test_destination(void)
{
    AgentGuest *g = agent_guest_detaching(UNMOUNT);

    agent_guest_syncs(g);
    g_assert_null(agent_guest_hears(g, "guest-get-fsinfo"));
    agent_guest_migrate(g);
    disk_wait(g->qts, "d", "waiting", "the guest's agent has to answer");
    begins(g, "d");
    executes(g, "{\"return\": {\"exited\": true, \"exitcode\": 0}}\n");
    disk_wait(g->qts, "d", "removed", NULL);
    assert_agent(g->qts, "d", "unmounted", NULL);
    agent_guest_end(g);
}

/* QEMU ends while the agent is asked. */
static void test_quit(void)
{
    AgentGuest *g = agent_guest_detaching("");

    begins(g, "d");
    hears_freeze(g);
    agent_guest_end(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/disk/agent/none", test_none);
    qtest_add_func("/disk/agent/closed", test_closed);
    qtest_add_func("/disk/agent/busy", test_busy);
    qtest_add_func("/disk/agent/write-out", test_write_out);
    qtest_add_func("/disk/agent/silent", test_silent);
    qtest_add_func("/disk/agent/reset", test_reset);
    qtest_add_func("/disk/agent/unplug", test_unplug);
    qtest_add_func("/disk/agent/unmount", test_unmount);
    qtest_add_func("/disk/agent/cancel", test_cancel);
    qtest_add_func("/disk/agent/force", test_force);
    qtest_add_func("/disk/agent/several", test_several);
    qtest_add_func("/disk/agent/migration", test_migration);
    qtest_add_func("/disk/agent/destination", test_destination);
    qtest_add_func("/disk/agent/quit", test_quit);
    return g_test_run();
}
