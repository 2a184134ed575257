/*
 * Disk hot-plug: detach, as guests take part in it
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "csv/disk-guest.h"
#include "hw/pci/pci_regs.h"
#include "qemu/timer.h"

/* Nothing happens until it has passed; or something has to, before */
#define SHORT_MS    300
#define SHORT       ", 'deadline': " stringify(SHORT_MS)
#define ENOUGH      ", 'deadline': 1000"
#define KEPT        64

static void cancel(Guest *g)
{
    qtest_qmp_assert_success(g->qts, "{'execute': 'disk-detach-cancel', "
                             "'arguments': {'id': 'd'}}");
}

static void device_del(Guest *g)
{
    qtest_qmp_assert_success(g->qts, "{'execute': 'device_del', "
                             "'arguments': {'id': 'd'}}");
}

/* It is as usable as if nothing had been. */
static void assert_attached(Guest *g)
{
    QList *list = disk_query(g->qts, "query-disks");
    QDict *disk = qobject_to(QDict, qlist_peek(list));

    g_assert_cmpint(qlist_size(list), ==, 1);
    g_assert_cmpstr(qdict_get_str(disk, "id"), ==, "d");
    g_assert_cmpstr(qdict_get_str(disk, "state"), ==, "attached");
    qobject_unref(list);
}

/* The guest has been asked, and does what it should. */
static void let_go(Guest *g)
{
    g->kind->let_go(g);
    disk_wait(g->qts, "d", "removed", NULL);
    g->kind->knows(g);
}

/* The same, one step after the other, so that each is told */
static void let_go_slowly(Guest *g)
{
    if (g->kind->shows_notice) {
        g->kind->notice(g);
        disk_wait(g->qts, "d", "notified", NULL);
    }
    if (g->gpe && !g->port) {
        guest_acpi_eject(g);
    } else {
        g->kind->let_go(g);
    }
    disk_wait(g->qts, "d", "removed", NULL);
    g->kind->knows(g);
}

/* The guest lets go; disk and address are free for the next one. */
static void test_lets_go(const void *opaque)
{
    const GuestKind *kind = opaque;
    Guest *g = guest_start(kind, "");
    unsigned before = disk_count_all(g->qts);
    unsigned room = disk_slots(g->qts, kind->place, "free");

    for (unsigned i = 0; i < 3; i++) {
        guest_attach(g, NULL_NODE("n") ", 'throttle': {'iops-total': 9}");
        disk_detach(g->qts, "d", "");
        g_assert_cmpint(disk_count(g->qts, "query-disks"), ==, 1);
        let_go_slowly(g);
        disk_assert_told(g->qts, "d", kind->shows_notice ?
                         "requested notified draining removed" :
                         "requested draining removed");
        g_assert_cmpint(disk_detach_get(g->qts, "d", "asked"), ==, 1);
        g_assert_cmpint(disk_detach_get(g->qts, "d", "flushed"), ==, 1);
        g_assert_cmpint(disk_count_all(g->qts), ==, before);
        g_assert_cmpint(disk_slots(g->qts, kind->place, "free"), ==, room);
    }
    guest_end(g);
}

/* It does not look, or looks and does nothing; when it does, the disk goes. */
static void test_ignores(const void *opaque)
{
    const GuestKind *kind = opaque;
    Guest *g = guest_start(kind, "");
    unsigned before = disk_count_all(g->qts);
    QDict *info;

    guest_attach(g, NULL_NODE("n"));
    disk_detach(g->qts, "d", SHORT);
    disk_wait(g->qts, "d", "timed-out", "has not looked at the request");
    disk_assert_told(g->qts, "d", "requested timed-out");
    assert_attached(g);
    info = disk_detach_info(g->qts, "d");
    g_assert_cmpint(qdict_get_int(info, "elapsed"), >=, SHORT_MS);
    g_assert_false(qdict_haskey(info, "left"));
    qobject_unref(info);

    kind->let_go(g);
    if (!kind->goes_late) {
        assert_attached(g);
        disk_detach(g->qts, "d", "");
        kind->let_go(g);
    }
    disk_wait_gone(g->qts, 0);
    g_assert_cmpint(disk_count_all(g->qts), ==, before);
    guest_end(g);
}

static void test_notices(const void *opaque)
{
    const GuestKind *kind = opaque;
    Guest *g = guest_start(kind, "");

    guest_attach(g, NULL_NODE("n"));
    disk_detach(g->qts, "d", ENOUGH);
    kind->notice(g);
    disk_wait(g->qts, "d", "timed-out", "is the disk in use?");
    disk_assert_told(g->qts, "d", "requested notified timed-out");
    assert_attached(g);

    disk_detach(g->qts, "d", "");
    let_go_slowly(g);
    disk_assert_told(g->qts, "d", "requested notified draining removed");
    guest_end(g);
}

/* Before the guest has answered; the next one works, or the answer is late. */
static void test_cancel(const void *opaque)
{
    const GuestKind *kind = opaque;
    Guest *g = guest_start(kind, "");
    unsigned before = disk_count_all(g->qts);

    guest_attach(g, NULL_NODE("n"));
    disk_detach(g->qts, "d", "");
    kind->notice(g);
    cancel(g);
    disk_wait(g->qts, "d", "cancelled", "may still let go");
    disk_error(g->qts, "disk-detach-cancel", "'id': 'd'", "not being detached");
    assert_attached(g);
    if (!kind->shows_notice) {
        guest_scsi_give(g);
    }
    disk_detach(g->qts, "d", "");
    let_go(g);
    g_assert_cmpint(disk_count_all(g->qts), ==, before);

    guest_attach(g, NULL_NODE("n"));
    disk_detach(g->qts, "d", "");
    cancel(g);
    kind->let_go(g);
    if (kind->goes_late) {
        disk_wait_gone(g->qts, 0);
        g_assert_cmpint(disk_count_all(g->qts), ==, before);
    } else {
        assert_attached(g);
    }
    guest_end(g);
}

/* The guest has let go already, though nobody has looked yet. */
static void test_cancel_late(const void *opaque)
{
    const GuestKind *kind = opaque;
    Guest *g = guest_start(kind, "");

    for (unsigned i = 0; i < 3; i++) {
        guest_attach(g, DEBUG_NODE("n", ""));
        guest_block(g, "pwritev");
        guest_write(g);
        disk_detach(g->qts, "d", "");
        kind->let_go(g);
        disk_error(g->qts, "disk-detach-cancel", "'id': 'd'", "too late");
        disk_wait(g->qts, "d", "draining", NULL);
        disk_error(g->qts, "disk-detach-cancel", "'id': 'd'", "too late");
        guest_unblock(g);
        disk_wait(g->qts, "d", "removed", NULL);
        kind->knows(g);
    }
    guest_end(g);
}

/* The ordinary way, while it is being detached, and after a cancel */
static void test_device_del(const void *opaque)
{
    const GuestKind *kind = opaque;
    Guest *g = guest_start(kind, "");
    unsigned before = disk_count_all(g->qts);

    /* At time 0, QEMU takes all requests for new ones. */
    qtest_clock_step(g->qts, NANOSECONDS_PER_SECOND);
    guest_attach(g, NULL_NODE("n"));
    disk_detach(g->qts, "d", "");
    if (g->port) {
        disk_error(g->qts, "device_del", "'id': 'd'", "process of unplug");
    } else {
        device_del(g);
    }
    if (kind->goes_late) {
        kind->let_go(g);
    } else {
        kind->knows(g);
    }
    disk_wait_gone(g->qts, 0);
    disk_wait(g->qts, "d", "removed", NULL);
    g_assert_cmpint(disk_count_all(g->qts), ==, before);
    kind->knows(g);

    guest_attach(g, NULL_NODE("n"));
    disk_detach(g->qts, "d", "");
    kind->notice(g);
    cancel(g);
    qtest_clock_step(g->qts, 10 * NANOSECONDS_PER_SECOND);
    device_del(g);
    if (kind->goes_late) {
        kind->let_go(g);
    }
    disk_wait_gone(g->qts, 0);
    disk_wait(g->qts, "d", "cancelled", NULL);
    g_assert_cmpint(disk_count_all(g->qts), ==, before);
    guest_end(g);
}

/* Who is reset has forgotten the request, or has nothing to let go of. */
static void test_reset(const void *opaque)
{
    const GuestKind *kind = opaque;
    Guest *g = guest_start(kind, "");
    unsigned before = disk_count_all(g->qts);

    guest_attach(g, NULL_NODE("n"));
    disk_detach(g->qts, "d", ", 'quiet': 20");
    qtest_system_reset(g->qts);
    if (g->port) {
        disk_wait(g->qts, "d", "notified", NULL);
        kind->let_go(g);
    }
    disk_wait(g->qts, "d", "removed", NULL);
    g_assert_cmpint(disk_count_all(g->qts), ==, before);
    g_assert_cmpint(disk_slots(g->qts, kind->place, "quarantined"), ==,
                    g->port ? 1 : 0);
    qtest_system_reset(g->qts);
    g_assert_cmpint(disk_slots(g->qts, kind->place, "quarantined"), ==, 0);
    guest_end(g);
}

/* QEMU ends while something is under way. */
static void test_quit(const void *opaque)
{
    const GuestKind *kind = opaque;
    Guest *g = guest_start(kind, "");

    guest_attach(g, NULL_NODE("n"));
    disk_detach(g->qts, "d", "");
    guest_end(g);

    g = guest_start(kind, "");
    guest_attach(g, "'blockdev': {'driver': 'null-co', 'node-name': 'n', "
                 "'latency-ns': 300000000}");
    guest_write(g);
    disk_detach(g->qts, "d", "");
    kind->let_go(g);
    guest_end(g);
}

/* PCIe: only its light tells what the guest is at. */

static void test_port_refuses(void)
{
    Guest *g = guest_start(guest_kind("pcie-virtio-blk"), "");

    guest_attach(g, NULL_NODE("n"));
    disk_detach(g->qts, "d", "");
    g->kind->notice(g);
    guest_port_set(g, PCI_EXP_SLTCTL_PWR_IND_BLINK, true);
    disk_wait(g->qts, "d", "notified", NULL);
    guest_port_set(g, PCI_EXP_SLTCTL_PWR_IND_ON, true);
    disk_wait(g->qts, "d", "refused", "the guest keeps the disk");
    disk_assert_told(g->qts, "d", "requested notified refused");
    assert_attached(g);
    disk_detach(g->qts, "d", "");
    let_go(g);
    guest_end(g);
}

static void test_port_is_busy(void)
{
    Guest *g = guest_start(guest_kind("pcie-virtio-blk"), "");

    guest_attach(g, NULL_NODE("n"));
    guest_port_set(g, PCI_EXP_SLTCTL_PWR_IND_BLINK, true);
    disk_detach(g->qts, "d", SHORT);
    g_assert_cmpint(disk_detach_get(g->qts, "d", "asked"), ==, 0);
    disk_wait(g->qts, "d", "timed-out", "busy with the slot");
    disk_assert_told(g->qts, "d", "timed-out");

    disk_detach(g->qts, "d", "");
    disk_wait(g->qts, "d", "waiting", "busy with the slot");
    guest_port_set(g, PCI_EXP_SLTCTL_PWR_IND_ON, true);
    disk_wait(g->qts, "d", "requested", NULL);
    let_go(g);
    guest_end(g);
}

/* There is no driver, and the slot is off: nobody to ask. */
static void test_port_is_off(void)
{
    QTestState *qts = qtest_init(guest_kind("pcie-virtio-blk")->machine);
    QDict *disk = disk_attached(qts, NULL_NODE("n") ", 'id': 'd', "
                                "'bus': 'virtio-blk'");

    disk_listen(qts);
    qobject_unref(disk);
    disk_detach(qts, "d", "");
    disk_wait(qts, "d", "removed", NULL);
    disk_assert_told(qts, "d", "requested draining removed");
    qtest_quit(qts);
}

/* ACPI: a guest that was not up yet has lost the request. */
static void test_repeated(void)
{
    Guest *g = guest_start(guest_kind("acpi-virtio-blk"), "");

    guest_attach(g, NULL_NODE("n"));
    disk_detach(g->qts, "d", "");
    g_assert_cmpint(disk_detach_get(g->qts, "d", "asked"), ==, 1);
    g->kind->notice(g);
    disk_wait_get(g->qts, "d", "asked", 2);
    let_go_slowly(g);
    disk_assert_told(g->qts, "d", "requested notified requested notified "
                     "draining removed");
    guest_end(g);
}

/* Errors, and what is remembered */

static void test_errors(void)
{
    Guest *g = guest_start(guest_kind("acpi-virtio-blk"), "");

    disk_detach_error(g->qts, "d", "", "no disk 'd'");
    disk_detach_error(g->qts, "p", "", "no disk 'p'");
    disk_error(g->qts, "disk-detach-cancel", "'id': 'd'", "no disk 'd'");
    disk_error(g->qts, "disk-slot-release", "'place': 'p', 'address': 0",
               "not quarantined");
    disk_error(g->qts, "disk-slot-release", "'place': 'x', 'address': -1",
               "not quarantined");
    g_assert_cmpint(disk_count(g->qts, "query-disk-detach"), ==, 0);

    guest_attach(g, NULL_NODE("n"));
    disk_error(g->qts, "disk-detach-cancel", "'id': 'd'", "not being detached");
    disk_detach(g->qts, "d", "");
    disk_detach_error(g->qts, "d", "", "already, and is now 'requested'");
    g_assert_cmpint(disk_detach_get(g->qts, "d", "left"), <=, 30000);
    g_assert_cmpint(disk_count(g->qts, "query-disk-detach"), ==, 1);
    let_go(g);
    disk_detach_error(g->qts, "d", "", "no disk 'd'");
    guest_end(g);
}

static void test_remembered(void)
{
    Guest *g = guest_start(guest_kind("pc-virtio-blk"), "");

    guest_attach(g, NULL_NODE("n"));
    for (unsigned i = 0; i < KEPT + 3; i++) {
        disk_detach(g->qts, "d", "");
        cancel(g);
    }
    g_assert_cmpint(disk_count(g->qts, "query-disk-detach"), ==, KEPT);
    disk_detach(g->qts, "d", "");
    g_assert_cmpint(disk_count(g->qts, "query-disk-detach"), ==, KEPT + 1);
    let_go(g);
    g_assert_cmpint(disk_count(g->qts, "query-disk-detach"), ==, KEPT);
    guest_end(g);
}

static const struct {
    const char *name;
    void (*func)(const void *kind);
} all[] = {
    { "lets-go", test_lets_go },
    { "ignores", test_ignores },
    { "notices", test_notices },
    { "cancel", test_cancel },
    { "cancel-late", test_cancel_late },
    { "device-del", test_device_del },
    { "reset", test_reset },
    { "quit", test_quit },
};

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (const GuestKind *kind = guest_kinds; kind->name; kind++) {
        for (unsigned i = 0; i < ARRAY_SIZE(all); i++) {
            g_autofree char *path = g_strdup_printf("/disk/detach/%s/%s",
                                                    kind->name, all[i].name);

            if ((kind->shows_notice || all[i].func != test_notices) &&
                (!kind->resets || all[i].func != test_cancel_late)) {
                qtest_add_data_func(path, kind, all[i].func);
            }
        }
    }
    qtest_add_func("/disk/detach/port/refuses", test_port_refuses);
    qtest_add_func("/disk/detach/port/busy", test_port_is_busy);
    qtest_add_func("/disk/detach/port/off", test_port_is_off);
    qtest_add_func("/disk/detach/acpi/repeated", test_repeated);
    qtest_add_func("/disk/detach/errors", test_errors);
    qtest_add_func("/disk/detach/remembered", test_remembered);
    return g_test_run();
}
