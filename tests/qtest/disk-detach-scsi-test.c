/*
 * Disk hot-plug: detach of SCSI disks, whose guests are told by events
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "csv/disk-guest.h"
#include "qemu/bswap.h"

#define FORCE           ", 'mode': 'force'"
#define PLACE           "'place': '" GUEST_SCSI_PLACE "', 'address': 0"
#define GOOD            0
#define CHECK_CONDITION 2

/* A machine whose guest has not started its driver yet */
static Guest *start(void)
{
    static GuestKind kind;

    kind = *guest_kind("scsi");
    kind.boot = NULL;
    kind.plugged = NULL;
    return guest_start(&kind, "");
}

/* Attach "d", or another disk; returns its target. */
static unsigned attach(Guest *g, const char *spec)
{
    QDict *disk = disk_attached(g->qts, spec);
    unsigned address = qdict_get_int(disk, "address");

    qobject_unref(disk);
    return address;
}

static void is_found(Guest *g, unsigned id)
{
    guest_scsi_expect(g, id, VIRTIO_SCSI_EVT_RESET_RESCAN);
    guest_scsi_give(g);
}

static void assert_quarantined(Guest *g, unsigned n)
{
    g_assert_cmpint(disk_slots(g->qts, GUEST_SCSI_PLACE, "quarantined"), ==, n);
}

/* What the guest is told, once that is there */
static struct virtio_scsi_cmd_resp answer(Guest *g, uint64_t at)
{
    gint64 end = g_get_monotonic_time() + DISK_TIMEOUT_US;
    struct virtio_scsi_cmd_resp resp;

    do {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        qtest_memread(g->qts, at, &resp, sizeof(resp));
    } while (resp.response == 0xff);
    return resp;
}

/* Write until the disk has nothing else to say. */
static void write_first(Guest *g)
{
    struct virtio_scsi_cmd_resp resp;

    do {
        resp = answer(g, guest_scsi_write(g, 0));
        g_assert_cmpint(resp.response, ==, VIRTIO_SCSI_S_OK);
    } while (resp.status == CHECK_CONDITION);
    g_assert_cmpint(resp.status, ==, GOOD);
}

/* There is nobody to ask, and nobody who could mistake one disk for another. */
static void test_no_driver(void)
{
    Guest *g = start();

    attach(g, "'id': 'd', " NULL_NODE("n"));
    disk_detach(g->qts, "d", ", 'quiet': 20");
    disk_wait(g->qts, "d", "removed", NULL);
    disk_assert_told(g->qts, "d", "draining removed");
    g_assert_cmpint(disk_detach_get(g->qts, "d", "asked"), ==, 0);
    assert_quarantined(g, 0);
    guest_end(g);
}

/* A driver that wants no events: it is not quiet yet. */
static void test_deaf(void)
{
    Guest *g = start();

    guest_scsi_boot(g, 1ull << VIRTIO_SCSI_F_HOTPLUG);
    attach(g, "'id': 'd', " NULL_NODE("n"));
    write_first(g);
    disk_detach(g->qts, "d", ", 'quiet': 20");
    disk_wait(g->qts, "d", "removed", NULL);
    disk_assert_told(g->qts, "d", "draining removed");
    g_assert_cmpint(disk_detach_get(g->qts, "d", "asked"), ==, 0);
    g_assert_cmpint(disk_detach_get(g->qts, "d", "flushed"), ==, 1);
    g_assert_true(guest_scsi_is_silent(g));
    assert_quarantined(g, 0);

    /* It was not, or not long enough. */
    attach(g, "'id': 'd', " NULL_NODE("n"));
    disk_detach(g->qts, "d", ", 'quiet': 60000, 'deadline': 200");
    disk_wait(g->qts, "d", "timed-out", "is not quiet yet");
    disk_assert_told(g->qts, "d", "draining timed-out");
    g_assert_cmpint(disk_count(g->qts, "query-disks"), ==, 1);
    guest_end(g);
}

/* As long as it writes, the disk stays. */
static void test_deaf_writes(void)
{
    Guest *g = start();
    g_autofree char *state = NULL;

    guest_scsi_boot(g, 1ull << VIRTIO_SCSI_F_HOTPLUG);
    attach(g, "'id': 'd', " NULL_NODE("n"));
    disk_detach(g->qts, "d", ", 'quiet': 1500, 'deadline': 2000");
    do {
        QDict *info = disk_detach_info(g->qts, "d");

        g_free(state);
        state = g_strdup(qdict_get_str(info, "state"));
        qobject_unref(info);
        if (g_str_equal(state, "draining")) {
            guest_write(g);
        }
        g_usleep(20 * DISK_ROUND_US);
    } while (g_str_equal(state, "draining"));
    g_assert_cmpstr(state, ==, "timed-out");
    guest_end(g);
}

/* The request that was under way is answered, and no other one is let in. */
static void test_requests(void)
{
    Guest *g = start();
    uint64_t under_way;

    guest_scsi_boot(g, 0);
    for (unsigned force = 0; force < 2; force++) {
        attach(g, "'id': 'd', " DEBUG_NODE("n", ""));
        is_found(g, 0);
        write_first(g);
        guest_block(g, "pwritev");
        under_way = guest_scsi_write(g, 0);
        if (force) {
            disk_detach(g->qts, "d", FORCE ", 'deadline': 100");
            disk_wait(g->qts, "d", "parked", NULL);
            g_assert_cmpint(disk_detach_get(g->qts, "d", "aborted"), ==, 1);
            g_assert_cmpint(answer(g, guest_scsi_write(g, 0)).response, ==,
                            VIRTIO_SCSI_S_BAD_TARGET);
        } else {
            disk_detach(g->qts, "d", "");
            g->kind->let_go(g);
            disk_wait(g->qts, "d", "draining", NULL);
            g_assert_cmpint(disk_detach_get(g->qts, "d", "in-flight"), ==, 1);
        }
        guest_unblock(g);
        g_assert_cmpint(answer(g, under_way).response, ==, VIRTIO_SCSI_S_OK);
        g_assert_cmpint(answer(g, under_way).status, ==, GOOD);
        disk_wait(g->qts, "d", "removed", NULL);
        g->kind->knows(g);
        g_assert_cmpint(answer(g, guest_scsi_write(g, 0)).response, ==,
                        VIRTIO_SCSI_S_BAD_TARGET);
    }
    guest_end(g);
}

/* Its buffers for events are in use, so it would not hear the request. */
static void test_busy(void)
{
    Guest *g = start();

    guest_scsi_boot(g, 0);
    attach(g, "'id': 'd', " NULL_NODE("n"));
    guest_scsi_next(g);
    disk_detach(g->qts, "d", ", 'deadline': 100");
    disk_wait(g->qts, "d", "timed-out", "busy with the slot");
    disk_detach(g->qts, "d", "");
    disk_wait(g->qts, "d", "waiting", "busy with the slot");
    guest_scsi_give(g);
    disk_wait(g->qts, "d", "requested", NULL);
    g->kind->let_go(g);
    disk_wait(g->qts, "d", "removed", NULL);
    disk_assert_told(g->qts, "d", "timed-out requested draining removed");
    guest_end(g);
}

/*
 * The address of a disk that is gone is not used until the guest knows, or
 * somebody says so, or the guest is reset.
 */
static void test_quarantine(void)
{
    Guest *g = start();
    unsigned all = disk_count_all(g->qts);

    guest_scsi_boot(g, 0);
    g_assert_cmpint(attach(g, "'id': 'd', " NULL_NODE("n")), ==, 0);
    is_found(g, 0);
    disk_detach(g->qts, "d", FORCE);
    disk_wait(g->qts, "d", "removed", NULL);
    g_assert_cmpint(disk_count_all(g->qts), ==, all);
    assert_quarantined(g, 1);
    g_assert_cmpint(disk_slots(g->qts, GUEST_SCSI_PLACE, "free"), ==, 255);
    g_assert_cmpint(attach(g, "'id': 'e', " NULL_NODE("m")), ==, 1);

    /* Of these, the first is that of the removal. */
    guest_scsi_expect(g, 0, VIRTIO_SCSI_EVT_RESET_REMOVED);
    guest_scsi_expect(g, 1, VIRTIO_SCSI_EVT_RESET_RESCAN);
    assert_quarantined(g, 1);
    guest_scsi_give(g);
    guest_scsi_give(g);
    assert_quarantined(g, 0);
    g_assert_cmpint(attach(g, "'id': 'd', " NULL_NODE("n")), ==, 0);
    is_found(g, 0);

    disk_detach(g->qts, "d", FORCE);
    disk_wait(g->qts, "d", "removed", NULL);
    disk_error(g->qts, "disk-slot-release", "'place': '" GUEST_SCSI_PLACE "', "
               "'address': 1", "not quarantined");
    qtest_qmp_assert_success(g->qts, "{'execute': 'disk-slot-release', "
                             "'arguments': {" PLACE "}}");
    disk_error(g->qts, "disk-slot-release", PLACE, "not quarantined");
    assert_quarantined(g, 0);
    g_assert_cmpint(attach(g, "'id': 'd', " NULL_NODE("n")), ==, 0);

    disk_detach(g->qts, "d", FORCE);
    disk_wait(g->qts, "d", "removed", NULL);
    assert_quarantined(g, 1);
    qtest_system_reset(g->qts);
    assert_quarantined(g, 0);
    g_assert_cmpint(attach(g, "'id': 'd', " NULL_NODE("n")), ==, 0);
    guest_end(g);
}

/* Nor is it while the disk is about to go, the ordinary way, say. */
static void test_quarantine_at_once(void)
{
    Guest *g = start();

    guest_scsi_boot(g, 0);
    attach(g, "'id': 'd', " NULL_NODE("n"));
    is_found(g, 0);
    qtest_qmp_assert_success(g->qts, "{'execute': 'device_del', "
                             "'arguments': {'id': 'd'}}");
    g_assert_cmpint(attach(g, "'id': 'e', " NULL_NODE("m")), ==, 1);
    disk_wait_gone(g->qts, 1);
    assert_quarantined(g, 1);
    guest_scsi_expect(g, 0, VIRTIO_SCSI_EVT_RESET_REMOVED);
    guest_scsi_expect(g, 1, VIRTIO_SCSI_EVT_RESET_RESCAN);
    guest_scsi_give(g);
    guest_scsi_give(g);
    assert_quarantined(g, 0);
    g_assert_cmpint(attach(g, "'id': 'd', " NULL_NODE("n")), ==, 0);
    guest_end(g);
}

/* Two at once: each of them waits for the other one's event, too. */
static void test_two(void)
{
    Guest *g = start();
    unsigned all = disk_count_all(g->qts);

    guest_scsi_boot(g, 0);
    attach(g, "'id': 'd', " NULL_NODE("n"));
    is_found(g, 0);
    attach(g, "'id': 'e', " NULL_NODE("m"));
    is_found(g, 1);
    disk_detach(g->qts, "d", "");
    disk_detach(g->qts, "e", "");
    disk_wait(g->qts, "e", "waiting", "busy with the slot");
    guest_scsi_expect(g, 0, VIRTIO_SCSI_EVT_RESET_REMOVED);
    guest_scsi_give(g);
    disk_wait(g->qts, "e", "requested", NULL);
    disk_wait(g->qts, "d", "removed", NULL);
    for (unsigned i = 0; i < 2; i++) {
        struct virtio_scsi_event event = guest_scsi_next(g);

        g_assert_cmphex(le32_to_cpu(event.reason), ==,
                        VIRTIO_SCSI_EVT_RESET_REMOVED);
        guest_scsi_give(g);
    }
    disk_wait(g->qts, "e", "removed", NULL);
    g_assert_cmpint(disk_count_all(g->qts), ==, all);
    guest_end(g);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/disk/scsi/no-driver", test_no_driver);
    qtest_add_func("/disk/scsi/deaf", test_deaf);
    qtest_add_func("/disk/scsi/deaf-writes", test_deaf_writes);
    qtest_add_func("/disk/scsi/requests", test_requests);
    qtest_add_func("/disk/scsi/busy", test_busy);
    qtest_add_func("/disk/scsi/quarantine", test_quarantine);
    qtest_add_func("/disk/scsi/quarantine-at-once", test_quarantine_at_once);
    qtest_add_func("/disk/scsi/two", test_two);
    return g_test_run();
}
