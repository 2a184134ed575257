/*
 * Disk hot-plug: detach, while there are requests
 *
 * What hangs does so until the test lets it go on.  That commands are answered
 * meanwhile shows that QEMU does not wait for it.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "csv/disk-guest.h"

#define FORCE       ", 'mode': 'force'"
#define SHORT       ", 'deadline': 200"
#define PLACES      256
/* Rounds of that: a leak of SLACK_KB in the last ones of the few is seen. */
#define FEW_ROUNDS  6
#define MANY_ROUNDS 24
#define SLACK_KB    2048

/* It lets go without having shown that it knows, so that is not told. */
static void let_go(Guest *g)
{
    if (g->kind->goes_late) {
        guest_acpi_eject(g);
    } else {
        g->kind->let_go(g);
    }
}

/* It is told that "d" has been taken away; then the place is free. */
static void is_told(Guest *g)
{
    g_assert_cmpint(disk_slots(g->qts, g->kind->place, "quarantined"), ==, 1);
    if (g->gpe && !g->port) {
        g->kind->let_go(g);
    } else {
        g->kind->knows(g);
    }
    g_assert_cmpint(disk_slots(g->qts, g->kind->place, "quarantined"), ==, 0);
}

static void assert_removed(Guest *g, unsigned all, bool flushed)
{
    g_assert_cmpint(disk_detach_get(g->qts, "d", "flushed"), ==, flushed);
    g_assert_cmpint(disk_detach_get(g->qts, "d", "in-flight"), ==, 0);
    g_assert_cmpint(disk_count_all(g->qts), ==, all);
}

/* "d", on a node "n", with a request that hangs */
static void attach_and_hang(Guest *g)
{
    guest_attach(g, DEBUG_NODE("n", ""));
    guest_block(g, "pwritev");
    guest_write(g);
}

/* The guest lets go before its requests have ended. */
static void test_in_flight(const void *opaque)
{
    Guest *g = guest_start(opaque, "");
    unsigned all = disk_count_all(g->qts);

    attach_and_hang(g);
    disk_detach(g->qts, "d", "");
    let_go(g);
    disk_wait(g->qts, "d", "draining", "requests are under way");
    g_assert_cmpint(disk_detach_get(g->qts, "d", "in-flight"), ==, 1);
    disk_error(g->qts, "disk-detach-cancel", "'id': 'd'", "too late");
    guest_unblock(g);
    disk_wait(g->qts, "d", "removed", NULL);
    disk_assert_told(g->qts, "d", "requested draining removed");
    assert_removed(g, all, true);

    g->kind->knows(g);
    guest_attach(g, SLOW_NODE("n", 50));
    guest_write(g);
    guest_write(g);
    disk_detach(g->qts, "d", "");
    let_go(g);
    disk_wait(g->qts, "d", "removed", NULL);
    assert_removed(g, all, true);
    guest_end(g);
}

/* They do not end in time: the disk stays, and the next detach ends it. */
static void test_late(const void *opaque)
{
    Guest *g = guest_start(opaque, "");
    unsigned all = disk_count_all(g->qts);
    bool gone = g->kind->goes_late;

    attach_and_hang(g);
    disk_detach(g->qts, "d", SHORT);
    let_go(g);
    disk_wait(g->qts, "d", "timed-out", "'force' parks the disk");
    disk_assert_told(g->qts, "d", "requested draining timed-out");
    g_assert_cmpint(disk_count(g->qts, "query-disks"), ==, 1);

    /* It is not asked again for what it has done. */
    disk_detach(g->qts, "d", "");
    if (!gone) {
        let_go(g);
    }
    guest_unblock(g);
    disk_wait(g->qts, "d", "removed", NULL);
    disk_assert_told(g->qts, "d", gone ? "draining removed" :
                                  "requested draining removed");
    assert_removed(g, all, true);
    guest_end(g);
}

/* Storage that answers: nothing is lost, and the guest is told. */
static void test_force(const void *opaque)
{
    Guest *g = guest_start(opaque, "");
    unsigned all = disk_count_all(g->qts);

    guest_attach(g, SLOW_NODE("n", 20));
    guest_write(g);
    disk_detach(g->qts, "d", FORCE);
    disk_detach_error(g->qts, "d", "", "already, and is now 'draining'");
    disk_detach_error(g->qts, "d", FORCE, "already, and is now 'draining'");
    disk_error(g->qts, "disk-detach-cancel", "'id': 'd'", "too late");
    disk_wait(g->qts, "d", "removed", NULL);
    disk_assert_told(g->qts, "d", "draining removed");
    g_assert_cmpint(disk_detach_get(g->qts, "d", "asked"), ==, 0);
    g_assert_cmpint(disk_detach_get(g->qts, "d", "aborted"), ==, 0);
    assert_removed(g, all, true);
    is_told(g);
    guest_end(g);
}

/* QEMU does all that does not need the storage that hangs. */
static void assert_answers(Guest *g)
{
    g_assert_cmpint(disk_count(g->qts, "query-disks"), ==, 1);
    disk_count(g->qts, "query-block");
    disk_count(g->qts, "query-disk-slots");
    disk_count_all(g->qts);
    disk_refused(g->qts, NULL_NODE("other"), "requests of block node 'n' do "
                 "not end");
    g_assert_cmpint(disk_count(g->qts, "query-disks"), ==, 1);
}

/* Storage that does not answer: the disk is parked until it does. */
static void test_parked(const void *opaque)
{
    Guest *g = guest_start(opaque, "");
    unsigned all = disk_count_all(g->qts);

    attach_and_hang(g);
    disk_detach(g->qts, "d", FORCE SHORT);
    disk_wait(g->qts, "d", "parked", NULL);
    disk_assert_told(g->qts, "d", "draining parked");
    g_assert_cmpint(disk_detach_get(g->qts, "d", "in-flight"), ==, 1);
    g_assert_cmpint(disk_detach_get(g->qts, "d", "aborted"), ==, 1);
    assert_answers(g);
    disk_error(g->qts, "disk-detach-cancel", "'id': 'd'", "too late");
    disk_detach_error(g->qts, "d", FORCE, "already, and is now 'parked'");
    disk_error(g->qts, "device_del", "'id': 'd'", "in the process of unplug");
    disk_error(g->qts, "migrate", "'uri': 'exec:cat >/dev/null'",
               g_str_equal(g->kind->bus, "nvme") ? "non-migratable" :
               "disk 'd' is being removed");

    guest_unblock(g);
    disk_wait(g->qts, "d", "removed", NULL);
    disk_assert_told(g->qts, "d", "removed");
    g_assert_cmpint(disk_detach_get(g->qts, "d", "aborted"), ==, 1);
    assert_removed(g, all, true);
    is_told(g);
    guest_attach(g, NULL_NODE("n"));
    guest_end(g);
}

/*
 * What comes to a PCI disk that is out of use already is held back, and fails
 * when the disk goes: were it to reach the storage, it could hang again.
 */
static void test_held_back(const void *opaque)
{
    Guest *g = guest_start(opaque, "");
    unsigned all = disk_count_all(g->qts);

    attach_and_hang(g);
    disk_detach(g->qts, "d", FORCE SHORT);
    guest_write(g);
    g_assert_cmpint(disk_detach_get(g->qts, "d", "in-flight"), ==, 1);
    disk_wait(g->qts, "d", "parked", NULL);
    g_assert_cmpint(disk_detach_get(g->qts, "d", "aborted"), ==, 1);
    assert_answers(g);
    guest_unblock(g);
    disk_wait(g->qts, "d", "removed", NULL);
    assert_removed(g, all, true);
    guest_end(g);
}

/* Nor does QEMU wait when the guest lets go of what is being forced out. */
static void test_parked_let_go(const void *opaque)
{
    Guest *g = guest_start(opaque, "");
    unsigned all = disk_count_all(g->qts);

    attach_and_hang(g);
    disk_detach(g->qts, "d", "");
    disk_detach(g->qts, "d", FORCE SHORT);
    disk_wait(g->qts, "d", "parked", NULL);
    let_go(g);
    assert_answers(g);
    disk_wait(g->qts, "d", "parked", NULL);
    guest_unblock(g);
    disk_wait(g->qts, "d", "removed", NULL);
    disk_assert_told(g->qts, "d",
                     "requested cancelled draining parked removed");
    assert_removed(g, all, true);
    guest_end(g);
}

/* Only the flush hangs. */
static void test_flush_hangs(const void *opaque)
{
    Guest *g = guest_start(opaque, "");
    unsigned all = disk_count_all(g->qts);

    guest_attach(g, DEBUG_NODE("n", ""));
    guest_write(g);
    guest_block(g, "flush_to_disk");
    disk_detach(g->qts, "d", FORCE SHORT);
    disk_wait(g->qts, "d", "parked", NULL);
    g_assert_cmpint(disk_detach_get(g->qts, "d", "in-flight"), ==, 0);
    g_assert_cmpint(disk_detach_get(g->qts, "d", "aborted"), ==, 0);
    assert_answers(g);
    guest_unblock(g);
    disk_wait(g->qts, "d", "removed", NULL);
    assert_removed(g, all, true);
    guest_end(g);
}

/* What was written cannot be kept: the disk stays, but for those who insist. */
static void test_flush_fails(const void *opaque)
{
    Guest *g = guest_start(opaque, "");
    unsigned all = disk_count_all(g->qts);

    guest_attach(g, DEBUG_NODE("n", ", 'inject-error': [{'event': 'none', "
                               "'iotype': 'flush', 'errno': 5}]"));
    guest_write(g);
    disk_detach(g->qts, "d", "");
    g->kind->let_go(g);
    disk_wait(g->qts, "d", "refused", "could not be flushed (Input/output "
              "error); 'force'");
    g_assert_cmpint(disk_detach_get(g->qts, "d", "flushed"), ==, 0);
    g_assert_cmpint(disk_count(g->qts, "query-disks"), ==, 1);
    disk_detach(g->qts, "d", FORCE);
    disk_wait(g->qts, "d", "removed", NULL);
    assert_removed(g, all, false);
    guest_end(g);
}

/* Who is impatient takes over. */
static void test_takes_over(const void *opaque)
{
    Guest *g = guest_start(opaque, "");
    unsigned all = disk_count_all(g->qts);

    guest_attach(g, NULL_NODE("n"));
    disk_detach(g->qts, "d", "");
    disk_detach(g->qts, "d", FORCE);
    disk_wait(g->qts, "d", "removed", NULL);
    disk_assert_told(g->qts, "d", "requested cancelled draining removed");
    g_assert_cmpint(disk_count(g->qts, "query-disk-detach"), ==, 2);
    assert_removed(g, all, true);
    guest_end(g);
}

/* QEMU ends while a disk is parked, or just when it is not any more. */
static void test_quit(const void *opaque)
{
    Guest *g = guest_start(opaque, "");

    guest_attach(g, SLOW_NODE("n", 300));
    guest_write(g);
    disk_detach(g->qts, "d", FORCE ", 'deadline': 20");
    disk_wait(g->qts, "d", "parked", NULL);
    guest_end(g);

    g = guest_start(opaque, "");
    attach_and_hang(g);
    disk_detach(g->qts, "d", FORCE ", 'deadline': 20");
    disk_wait(g->qts, "d", "parked", NULL);
    guest_unblock(g);
    guest_end(g);
}

/* One disk hangs; another one is detached as soon as it does not. */
static void test_other(void)
{
    Guest *g = guest_start(guest_kind("scsi"), "");
    unsigned all = disk_count_all(g->qts);
    QDict *other = disk_attached(g->qts, NULL_NODE("m") ", 'id': 'e'");

    qobject_unref(other);
    guest_scsi_expect(g, 0, VIRTIO_SCSI_EVT_RESET_RESCAN);
    guest_scsi_give(g);
    other = disk_attached(g->qts, DEBUG_NODE("n", "") ", 'id': 'd'");
    qobject_unref(other);
    guest_scsi_expect(g, 1, VIRTIO_SCSI_EVT_RESET_RESCAN);
    guest_scsi_give(g);
    guest_block(g, "pwritev");
    guest_write(g);

    disk_detach(g->qts, "e", "");
    guest_scsi_expect(g, 0, VIRTIO_SCSI_EVT_RESET_REMOVED);
    guest_scsi_give(g);
    disk_wait(g->qts, "e", "draining", "requests of block node 'n'");
    g_assert_cmpint(disk_detach_get(g->qts, "e", "flushed"), ==, 1);
    guest_unblock(g);
    disk_wait(g->qts, "e", "removed", NULL);
    disk_detach(g->qts, "d", FORCE);
    disk_wait(g->qts, "d", "removed", NULL);
    g_assert_cmpint(disk_count_all(g->qts), ==, all);
    guest_end(g);
}

/* Its requests are done in a thread of their own. */
static void test_iothread(void)
{
    Guest *g = guest_start(guest_kind("pc-virtio-blk"), "");
    unsigned all = disk_count_all(g->qts);

    for (unsigned i = 0; i < 2; i++) {
        guest_attach(g, SLOW_NODE("n", 100) ", 'iothread': 't', 'queues': 1");
        guest_blk_boot(g);
        guest_blk_write(g);
        if (i) {
            disk_detach(g->qts, "d", FORCE ", 'deadline': 20");
        } else {
            disk_detach(g->qts, "d", "");
            let_go(g);
        }
        disk_wait(g->qts, "d", "removed", NULL);
        assert_removed(g, all, true);
        guest_blk_end(g);
    }
    guest_end(g);
}

/* As many as there are places come, and all go again. */
static void come_and_go(QTestState *qts)
{
    for (unsigned i = 0; i < PLACES; i++) {
        g_autofree char *spec = g_strdup_printf("'id': 'd%u', 'blockdev': {"
            "'driver': 'null-co', 'node-name': 'n%u'}", i, i);

        qobject_unref(disk_attached(qts, spec));
    }
    for (unsigned i = 0; i < PLACES; i++) {
        g_autofree char *id = g_strdup_printf("d%u", i);

        disk_detach(qts, id, ", 'quiet': 0");
    }
    disk_wait_gone(qts, 0);
}

/*
 * Nothing grows.  What a process has in memory goes up and down by some MB
 * with what RCU has not freed yet and with holes in the heap, so one round may
 * well end above the first ones; a leak, though, never comes down again.
 */
static void test_many(void)
{
    QTestState *qts = qtest_init("-machine q35,disk-hotplug=on -nodefaults");
    unsigned all = disk_count_all(qts), files = disk_open_files(qts);
    unsigned most = 0, have = 0;

    for (unsigned round = 0; round < FEW_ROUNDS ||
         (have > most && round < MANY_ROUNDS); round++) {
        come_and_go(qts);
        g_assert_cmpint(disk_count_all(qts), ==, all);
        g_assert_cmpint(disk_open_files(qts), ==, files);
        have = disk_memory_kb(qts);
        if (round == 1) {
            most = have + SLACK_KB;
        }
        g_test_message("round %u: %u KiB", round, have);
    }
    g_assert_cmpint(have, <=, most);
    qtest_quit(qts);
}

static const struct {
    const char *name;
    void (*func)(const void *kind);
    bool busy;                  /* The guest lets go while it is at work. */
    bool pci;                   /* only for PCI disks */
} each[] = {
    { "in-flight", test_in_flight, true },
    { "late", test_late, true },
    { "force", test_force },
    { "parked", test_parked },
    { "held-back", test_held_back, .pci = true },
    { "parked-let-go", test_parked_let_go, true },
    { "flush-hangs", test_flush_hangs },
    { "flush-fails", test_flush_fails },
    { "takes-over", test_takes_over },
    { "quit", test_quit },
};

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (const GuestKind *kind = guest_kinds; kind->name; kind++) {
        for (unsigned i = 0; i < ARRAY_SIZE(each); i++) {
            g_autofree char *path = g_strdup_printf("/disk/io/%s/%s",
                                                    kind->name, each[i].name);

            if ((!each[i].busy || !kind->resets) &&
                (!each[i].pci || kind->goes_late)) {
                qtest_add_data_func(path, kind, each[i].func);
            }
        }
    }
    qtest_add_func("/disk/io/other", test_other);
    qtest_add_func("/disk/io/iothread", test_iothread);
    qtest_add_func("/disk/io/many", test_many);
    return g_test_run();
}
