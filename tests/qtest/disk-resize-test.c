/*
 * Disk hot-plug: resize, and whether the guest has noticed
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "csv/disk-scene.h"
#include "libqos/libqos.h"
#include "libqos/malloc-pc.h"
#include "libqos/pci-pc.h"
#include "libqos/virtio.h"
#include "libqos/virtio-pci.h"
#include "libqtest.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "qobject/qdict.h"
#include "scsi/constants.h"
#include "standard-headers/linux/virtio_scsi.h"

#define TIMEOUT_US      (20 * G_TIME_SPAN_SECOND)
#define CONTROLLER_SLOT 0x1e
#define SCSI_CONTROLQ   0
#define SCSI_REQUESTQ   2

/* For a guest that is going to notice, and for one that is not */
#define PATIENT         "'deadline': 20000"
#define IMPATIENT       "'deadline': 50"

/* A QEMU, its guest's drivers, and a disk of 1 MiB */
typedef struct Scene {
    QTestState *qts;
    QGuestAllocator alloc;
    QPCIBus *bus;
    char *image;
    unsigned slot;              /* of the disk's PCI device */
    /* While the guest has a driver */
    QVirtioPCIDevice *pci;
    QVirtioDevice *dev;
    QVirtQueue *vq;
    QVirtQueue *control;        /* of a SCSI controller */
} Scene;

/* The host's side */

/* What it answers, to be freed */
static QDict *attach(Scene *s, const char *more)
{
    g_autofree char *cmd = g_strdup_printf("{'execute': 'disk-attach', "
        "'arguments': {'id': 'd', 'blockdev': {'driver': 'file', "
        "'node-name': 'n', 'filename': %%s}, %s}}", more);

    return qtest_qmp_assert_success_ref(s->qts, cmd, s->image);
}

static void scene_open(Scene *s, const char *more)
{
    int fd = g_file_open_tmp("disk-resize.XXXXXX", &s->image, NULL);
    QDict *disk;

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, MiB), ==, 0);
    close(fd);
    s->qts = qtest_init("-machine pc,disk-hotplug=on -nodefaults -m 64");
    disk = attach(s, more);
    s->slot = g_str_equal(qdict_get_str(disk, "bus"), "scsi") ?
              CONTROLLER_SLOT : qdict_get_int(disk, "address");
    qobject_unref(disk);
    pc_alloc_init(&s->alloc, s->qts, 0);
    s->bus = qpci_new_pc(s->qts, &s->alloc);
    s->dev = NULL;
    s->control = NULL;
}

static void scene_close(Scene *s)
{
    if (s->dev) {
        qvirtio_reset(s->dev);
        if (s->control) {
            qvirtqueue_cleanup(s->dev->bus, s->control, &s->alloc);
        }
        qvirtqueue_cleanup(s->dev->bus, s->vq, &s->alloc);
        qvirtio_pci_device_disable(s->pci);
        qos_object_destroy((QOSGraphObject *)s->pci);
    }
    qpci_free_pc(s->bus);
    alloc_destroy(&s->alloc);
    qtest_quit(s->qts);
    unlink(s->image);
    g_free(s->image);
}

static char *resize_args(int64_t size, const char *more)
{
    return g_strdup_printf("'id': 'd', 'size': %" PRId64 "%s%s", size,
                           *more ? ", " : "", more);
}

static void resized(Scene *s, int64_t size, const char *more)
{
    g_autofree char *args = resize_args(size, more);
    g_autofree char *cmd = g_strdup_printf("{'execute': 'disk-resize', "
                                           "'arguments': {%s}}", args);

    qtest_qmp_assert_success(s->qts, cmd, NULL);
}

static void refused(Scene *s, int64_t size, const char *more, const char *why)
{
    g_autofree char *args = resize_args(size, more);

    disk_error(s->qts, "disk-resize", args, why);
}

/* Wait for the event; @reason: NULL if the guest was told */
static void outcome(Scene *s, int64_t size, const char *reason)
{
    QDict *event = qtest_qmp_eventwait_ref(s->qts, "DISK_RESIZED");
    QDict *data = qdict_get_qdict(event, "data");

    g_assert_cmpstr(qdict_get_str(data, "id"), ==, "d");
    g_assert_cmpint(qdict_get_int(data, "size"), ==, size);
    g_assert_cmpstr(qdict_get_try_str(data, "reason"), ==, reason);
    g_assert_true(qdict_get_bool(data, "told") == !reason);
    qobject_unref(event);
}

/* There is no event that was not waited for. */
static void quiet(Scene *s)
{
    qtest_qmp_assert_success(s->qts, "{'execute': 'query-status'}");
    g_assert_null(qtest_qmp_event_ref(s->qts, "DISK_RESIZED"));
}

/* The guest's side */

static void guest_find(Scene *s)
{
    QPCIAddress addr = { .devfn = QPCI_DEVFN(s->slot, 0) };
    uint64_t features;

    s->pci = virtio_pci_new(s->bus, &addr);
    g_assert_nonnull(s->pci);
    s->dev = &s->pci->vdev;
    qvirtio_pci_device_enable(s->pci);
    qvirtio_start_device(s->dev);
    features = qvirtio_get_features(s->dev);
    features &= ~(QVIRTIO_F_BAD_FEATURE |
                  (1u << VIRTIO_RING_F_INDIRECT_DESC) |
                  (1u << VIRTIO_RING_F_EVENT_IDX));
    qvirtio_set_features(s->dev, features);
}

static void guest_start(Scene *s, unsigned vq)
{
    s->vq = qvirtqueue_setup(s->dev, &s->alloc, vq);
    if (vq == SCSI_REQUESTQ) {
        s->control = qvirtqueue_setup(s->dev, &s->alloc, SCSI_CONTROLQ);
    }
    qvirtio_set_driver_ok(s->dev);
}

static uint64_t guest_capacity(Scene *s)
{
    return qvirtio_config_readq(s->dev, 0) * 512;
}

/* A request to the SCSI controller, and its answer */
static void guest_request(Scene *s, QVirtQueue *vq, const void *req,
                          size_t req_len, void *resp, size_t resp_len)
{
    uint64_t addr = guest_alloc(&s->alloc, req_len + resp_len);
    uint32_t head;

    qtest_memwrite(s->qts, addr, req, req_len);
    head = qvirtqueue_add(s->qts, vq, addr, req_len, false, true);
    qvirtqueue_add(s->qts, vq, addr + req_len, resp_len, true, false);
    qvirtqueue_kick(s->qts, s->dev, vq, head);
    qvirtio_wait_used_elem(s->qts, s->dev, vq, head, NULL, TIMEOUT_US);
    qtest_memread(s->qts, addr + req_len, resp, resp_len);
    guest_free(&s->alloc, addr);
}

/*
 * Send the SCSI disk a command that has no data, or whose data do not matter;
 * the unit attention that is its answer, or 0.
 */
static unsigned guest_command(Scene *s, uint8_t opcode)
{
    struct virtio_scsi_cmd_req req = { .lun = { 1, 0 }, .cdb = { opcode } };
    struct virtio_scsi_cmd_resp resp;

    guest_request(s, s->vq, &req, sizeof(req), &resp, sizeof(resp));
    g_assert_cmpint(resp.response, ==, VIRTIO_SCSI_S_OK);
    if (resp.status != CHECK_CONDITION) {
        return 0;
    }
    g_assert_cmphex(resp.sense[2], ==, UNIT_ATTENTION);
    return resp.sense[12] << 8 | resp.sense[13];
}

static void guest_reset(Scene *s)
{
    struct virtio_scsi_ctrl_tmf_req req = {
        .type = cpu_to_le32(VIRTIO_SCSI_T_TMF),
        .subtype = cpu_to_le32(VIRTIO_SCSI_T_TMF_LOGICAL_UNIT_RESET),
        .lun = { 1, 0 },
    };
    struct virtio_scsi_ctrl_tmf_resp resp;

    guest_request(s, s->control, &req, sizeof(req), &resp, sizeof(resp));
    g_assert_cmpint(resp.response, ==, VIRTIO_SCSI_S_OK);
}

#define RESET               0x2900
#define CAPACITY_CHANGED    0x2a09

/* The guest hears the interrupt, and reads. */
static void test_virtio_blk(const void *opaque)
{
    Scene s;

    scene_open(&s, opaque);
    guest_find(&s);
    guest_start(&s, 0);
    g_assert_cmpint(guest_capacity(&s), ==, MiB);
    resized(&s, 2 * MiB, PATIENT);
    qvirtio_wait_config_isr(s.dev, TIMEOUT_US);
    quiet(&s);
    g_assert_cmpint(guest_capacity(&s), ==, 2 * MiB);
    outcome(&s, 2 * MiB, NULL);

    resized(&s, MiB, PATIENT ", 'shrink': true");
    qvirtio_wait_config_isr(s.dev, TIMEOUT_US);
    g_assert_cmpint(guest_capacity(&s), ==, MiB);
    outcome(&s, MiB, NULL);
    /* It knows already. */
    resized(&s, MiB, PATIENT);
    outcome(&s, MiB, NULL);
    quiet(&s);
    scene_close(&s);
}

/* The guest has a driver, which takes no notice. */
static void test_deadline(void)
{
    Scene s;

    scene_open(&s, "'bus': 'virtio-blk'");
    guest_find(&s);
    g_assert_cmpint(guest_capacity(&s), ==, MiB);
    /* It has not started yet, but may rely on what it has read. */
    resized(&s, 2 * MiB, IMPATIENT);
    outcome(&s, 2 * MiB, "deadline");
    guest_start(&s, 0);
    resized(&s, 3 * MiB, IMPATIENT);
    outcome(&s, 3 * MiB, "deadline");
    /* That it does so now makes no other event. */
    g_assert_cmpint(guest_capacity(&s), ==, 3 * MiB);
    resized(&s, 4 * MiB, "'deadline': 0");
    outcome(&s, 4 * MiB, "deadline");
    quiet(&s);
    scene_close(&s);
}

static void test_superseded(void)
{
    Scene s;

    scene_open(&s, "'bus': 'virtio-blk'");
    guest_find(&s);
    guest_start(&s, 0);
    resized(&s, 2 * MiB, PATIENT);
    /* One that fails changes nothing. */
    refused(&s, INT64_MAX / MiB * MiB, PATIENT, "exceeds maximum");
    quiet(&s);
    resized(&s, 3 * MiB, PATIENT);
    outcome(&s, 2 * MiB, "superseded");
    g_assert_cmpint(guest_capacity(&s), ==, 3 * MiB);
    outcome(&s, 3 * MiB, NULL);
    quiet(&s);
    scene_close(&s);
}

/* Nobody listens: that is not waited for. */
static void test_no_driver(const void *opaque)
{
    Scene s;

    scene_open(&s, opaque);
    resized(&s, 2 * MiB, PATIENT);
    outcome(&s, 2 * MiB, "no-driver");
    guest_find(&s);
    guest_start(&s, 0);
    if (s.slot != CONTROLLER_SLOT) {
        resized(&s, 3 * MiB, PATIENT);
        quiet(&s);
        /* It goes while it is waited for. */
        qvirtio_reset(s.dev);
        outcome(&s, 3 * MiB, "no-driver");
    }
    scene_close(&s);
}

/* The guest gets the unit attention for its next command. */
static void test_scsi(const void *opaque)
{
    Scene s;

    scene_open(&s, opaque);
    guest_find(&s);
    guest_start(&s, SCSI_REQUESTQ);
    /* The controller has a driver; the disk has not been asked yet. */
    resized(&s, 2 * MiB, PATIENT);
    outcome(&s, 2 * MiB, "no-driver");
    g_assert_cmphex(guest_command(&s, TEST_UNIT_READY), ==, RESET);
    g_assert_cmphex(guest_command(&s, TEST_UNIT_READY), ==, 0);

    resized(&s, 3 * MiB, PATIENT);
    quiet(&s);
    g_assert_cmphex(guest_command(&s, TEST_UNIT_READY), ==, CAPACITY_CHANGED);
    outcome(&s, 3 * MiB, NULL);

    /* This command has its answer whatever has happened. */
    resized(&s, 4 * MiB, IMPATIENT);
    g_assert_cmphex(guest_command(&s, INQUIRY), ==, 0);
    outcome(&s, 4 * MiB, "deadline");

    /* What is fetched now was for both. */
    resized(&s, 5 * MiB, PATIENT);
    g_assert_cmphex(guest_command(&s, TEST_UNIT_READY), ==, CAPACITY_CHANGED);
    outcome(&s, 5 * MiB, NULL);

    /* A reset takes its place, whether it comes afterwards or before. */
    resized(&s, 6 * MiB, PATIENT);
    guest_reset(&s);
    outcome(&s, 6 * MiB, "no-driver");
    resized(&s, 7 * MiB, PATIENT);
    outcome(&s, 7 * MiB, "no-driver");
    g_assert_cmphex(guest_command(&s, TEST_UNIT_READY), ==, RESET);
    g_assert_cmphex(guest_command(&s, TEST_UNIT_READY), ==, 0);
    quiet(&s);
    scene_close(&s);
}

/* A disk that is detached meanwhile */
static void test_gone(void)
{
    Scene s;

    scene_open(&s, "'bus': 'scsi'");
    guest_find(&s);
    guest_start(&s, SCSI_REQUESTQ);
    g_assert_cmphex(guest_command(&s, TEST_UNIT_READY), ==, RESET);
    resized(&s, 2 * MiB, PATIENT);
    qtest_qmp_assert_success(s.qts, "{'execute': 'device_del', "
                             "'arguments': {'id': 'd'}}");
    outcome(&s, 2 * MiB, "gone");
    refused(&s, 3 * MiB, PATIENT, "no disk 'd'");
    quiet(&s);
    scene_close(&s);
}

/* What the guest sees is the overlay, not what was attached. */
static void test_overlay(void)
{
    g_autofree char *overlay = NULL;
    struct stat st;
    Scene s;

    if (!have_qemu_img()) {
        g_test_skip("no qemu-img");
        return;
    }
    scene_open(&s, "'bus': 'virtio-blk'");
    overlay = g_strdup_printf("%s.overlay", s.image);
    mkqcow2(overlay, 1);
    qtest_qmp_assert_success(s.qts, "{'execute': 'blockdev-add', 'arguments': "
                             "{'driver': 'qcow2', 'node-name': 'o', 'file': "
                             "{'driver': 'file', 'filename': %s}, "
                             "'backing': null}}", overlay);
    qtest_qmp_assert_success(s.qts, "{'execute': 'blockdev-snapshot', "
                             "'arguments': {'node': 'n', 'overlay': 'o'}}");
    guest_find(&s);
    guest_start(&s, 0);
    resized(&s, 2 * MiB, PATIENT);
    g_assert_cmpint(guest_capacity(&s), ==, 2 * MiB);
    outcome(&s, 2 * MiB, NULL);
    g_assert_cmpint(stat(s.image, &st), ==, 0);
    g_assert_cmpint(st.st_size, ==, MiB);
    scene_close(&s);
    unlink(overlay);
}

static void test_errors(void)
{
    QDict *rsp;
    Scene s;

    scene_open(&s, "'bus': 'virtio-blk', 'throttle': {'iops-total': 100}");
    rsp = qtest_qmp(s.qts, "{'execute': 'disk-resize', "
                    "'arguments': {'id': 'e', 'size': 512}}");
    g_assert_cmpstr(qdict_get_str(qdict_get_qdict(rsp, "error"), "desc"), ==,
                    "there is no disk 'e': 'query-disks' lists them");
    qobject_unref(rsp);
    refused(&s, 0, PATIENT, "multiple of 512");
    refused(&s, -512, PATIENT, "multiple of 512");
    refused(&s, MiB + 1, PATIENT, "multiple of 512");
    refused(&s, MiB - 512, PATIENT, "'shrink': true");
    refused(&s, MiB - 512, PATIENT ", 'shrink': false", "has 1048576 bytes");
    refused(&s, INT64_MAX / MiB * MiB, PATIENT, "exceeds maximum");

    disk_detach(s.qts, "d", "");
    refused(&s, 2 * MiB, PATIENT, "is being detached, and is now 'requested'");
    qtest_qmp_assert_success(s.qts, "{'execute': 'disk-detach-cancel', "
                             "'arguments': {'id': 'd'}}");

    /* The guest's memory takes a while. */
    qtest_qmp_assert_success(s.qts, "{'execute': 'migrate-set-parameters', "
                             "'arguments': {'max-bandwidth': 1000}}");
    qtest_qmp_assert_success(s.qts, "{'execute': 'migrate', 'arguments': "
                             "{'uri': 'exec:cat > /dev/null'}}");
    refused(&s, 2 * MiB, PATIENT, "being migrated");
    qtest_qmp_assert_success(s.qts, "{'execute': 'migrate_cancel'}");
    quiet(&s);
    scene_close(&s);
}

/* A controller that does not let its disk be resized */
static void test_nvme(void)
{
    Scene s;

    scene_open(&s, "'bus': 'nvme'");
    refused(&s, 2 * MiB, PATIENT, "on bus 'nvme'");
    scene_close(&s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!qtest_has_machine("pc") || !qtest_has_device("virtio-scsi-pci")) {
        g_test_message("no pc machine or no virtio-scsi-pci device");
        return g_test_run();
    }
    qtest_add_data_func("/disk/resize/virtio-blk",
                        "'bus': 'virtio-blk'", test_virtio_blk);
    qtest_add_data_func("/disk/resize/virtio-blk/iothread",
                        "'bus': 'virtio-blk', 'iothread': 't', "
                        "'throttle': {'iops-total': 100}", test_virtio_blk);
    qtest_add_data_func("/disk/resize/scsi", "'bus': 'scsi'", test_scsi);
    qtest_add_data_func("/disk/resize/scsi/throttle", "'bus': 'scsi', "
                        "'throttle': {'iops-total': 100}", test_scsi);
    qtest_add_data_func("/disk/resize/no-driver/virtio-blk",
                        "'bus': 'virtio-blk'", test_no_driver);
    qtest_add_data_func("/disk/resize/no-driver/scsi", "'bus': 'scsi'",
                        test_no_driver);
    qtest_add_func("/disk/resize/deadline", test_deadline);
    qtest_add_func("/disk/resize/superseded", test_superseded);
    qtest_add_func("/disk/resize/gone", test_gone);
    qtest_add_func("/disk/resize/overlay", test_overlay);
    qtest_add_func("/disk/resize/errors", test_errors);
    qtest_add_func("/disk/resize/nvme", test_nvme);
    return g_test_run();
}
