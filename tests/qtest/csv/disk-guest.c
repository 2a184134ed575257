/*
 * Disk hot-plug: guests, as far as they have to do with it
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "disk-guest.h"
#include "libqos/malloc-pc.h"
#include "libqos/pci-pc.h"
#include "hw/pci/pci_regs.h"
#include "qemu/bswap.h"
#include "standard-headers/linux/virtio_blk.h"

/* ACPI: docs/specs/acpi_pci_hotplug.rst and the chipsets' power management */

#define ACPI_DOWN           0x04
#define ACPI_EJECT          0x08
#define ACPI_SELECT         0x10
#define ACPI_BUSES          4
#define GPE_PCI_HOTPLUG     2

#define Q35_ACPI            0x0cc0
#define Q35_PM              0x0600
#define Q35_PM_GPE          0x20
#define Q35_LPC             QPCI_DEVFN(31, 0)
#define Q35_LPC_PMBASE      0x40
#define Q35_LPC_ACPI_CTRL   0x44
#define Q35_LPC_ACPI_EN     0x80
#define PC_ACPI             0xae00
#define PC_GPE              0xafe0

static void q35_boot(Guest *g)
{
    g->bus->config_writel(g->bus, Q35_LPC, Q35_LPC_PMBASE, Q35_PM | 1);
    g->bus->config_writeb(g->bus, Q35_LPC, Q35_LPC_ACPI_CTRL, Q35_LPC_ACPI_EN);
    g->gpe = Q35_PM + Q35_PM_GPE;
    g->acpi = Q35_ACPI;
}

static void pc_boot(Guest *g)
{
    g->gpe = PC_GPE;
    g->acpi = PC_ACPI;
}

void guest_acpi_clear(Guest *g)
{
    g_assert_true(qtest_inb(g->qts, g->gpe) & GPE_PCI_HOTPLUG);
    qtest_outb(g->qts, g->gpe, GPE_PCI_HOTPLUG);
    g_assert_false(qtest_inb(g->qts, g->gpe) & GPE_PCI_HOTPLUG);
}

void guest_acpi_eject(Guest *g)
{
    unsigned ejected = 0;

    for (unsigned bus = 0; bus < ACPI_BUSES; bus++) {
        uint32_t down;

        qtest_outl(g->qts, g->acpi + ACPI_SELECT, bus);
        down = qtest_inl(g->qts, g->acpi + ACPI_DOWN);
        if (down) {
            qtest_outl(g->qts, g->acpi + ACPI_EJECT, down);
            ejected++;
        }
    }
    g_assert_cmpint(ejected, ==, 1);
}

static void acpi_let_go(Guest *g)
{
    guest_acpi_clear(g);
    guest_acpi_eject(g);
}

static void acpi_knows(Guest *g)
{
}

/* PCIe */

static void port_boot(Guest *g)
{
    q35_boot(g);
    g->port = qpci_device_find(g->bus, QPCI_DEVFN(3, 0));
    g_assert_nonnull(g->port);
    g->slot = qpci_find_capability(g->port, PCI_CAP_ID_EXP, 0);
    g_assert_cmpint(g->slot, !=, 0);
}

void guest_port_set(Guest *g, uint16_t light, bool power)
{
    uint16_t ctl = qpci_config_readw(g->port, g->slot + PCI_EXP_SLTCTL);

    ctl &= ~(PCI_EXP_SLTCTL_PIC | PCI_EXP_SLTCTL_PCC);
    qpci_config_writew(g->port, g->slot + PCI_EXP_SLTCTL, ctl | light |
                       (power ? 0 : PCI_EXP_SLTCTL_PCC));
}

void guest_port_clear(Guest *g, uint16_t status)
{
    uint16_t sta = qpci_config_readw(g->port, g->slot + PCI_EXP_SLTSTA);

    g_assert_cmphex(sta & status, ==, status);
    qpci_config_writew(g->port, g->slot + PCI_EXP_SLTSTA, status);
}

static void port_plugged(Guest *g)
{
    guest_port_clear(g, PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_ABP);
    guest_port_set(g, PCI_EXP_SLTCTL_PWR_IND_ON, true);
}

static void port_notice(Guest *g)
{
    guest_port_clear(g, PCI_EXP_SLTSTA_ABP);
}

static void port_let_go(Guest *g)
{
    uint16_t sta = qpci_config_readw(g->port, g->slot + PCI_EXP_SLTSTA);

    if (sta & PCI_EXP_SLTSTA_ABP) {
        port_notice(g);
    }
    guest_port_set(g, PCI_EXP_SLTCTL_PWR_IND_BLINK, true);
    guest_port_set(g, PCI_EXP_SLTCTL_PWR_IND_OFF, false);
}

static void port_knows(Guest *g)
{
    guest_port_clear(g, PCI_EXP_SLTSTA_PDC);
}

/* virtio-blk */

#define SECTOR          512

/* Negotiate all features but these. */
static void virtio_start(QVirtioPCIDevice *pci, uint64_t without)
{
    QVirtioDevice *dev = &pci->vdev;
    uint64_t features;

    qvirtio_pci_device_enable(pci);
    qvirtio_start_device(dev);
    features = qvirtio_get_features(dev);
    g_assert_cmphex(features & without, ==, without);
    features &= ~(QVIRTIO_F_BAD_FEATURE | without |
                  (1u << VIRTIO_RING_F_INDIRECT_DESC) |
                  (1u << VIRTIO_RING_F_EVENT_IDX));
    qvirtio_set_features(dev, features);
}

void guest_blk_boot(Guest *g)
{
    QPCIAddress addr = { .devfn = QPCI_DEVFN(g->address, 0) };

    g->blk = virtio_pci_new(g->bus, &addr);
    g_assert_nonnull(g->blk);
    virtio_start(g->blk, 0);
    g->blk_vq = qvirtqueue_setup(&g->blk->vdev, &g->alloc, 0);
    qvirtio_set_driver_ok(&g->blk->vdev);
}

void guest_blk_write(Guest *g)
{
    struct virtio_blk_outhdr hdr = { .type = cpu_to_le32(VIRTIO_BLK_T_OUT) };
    uint64_t at = guest_alloc(&g->alloc, sizeof(hdr) + SECTOR + 1);
    uint32_t head;

    qtest_memwrite(g->qts, at, &hdr, sizeof(hdr));
    head = qvirtqueue_add(g->qts, g->blk_vq, at, sizeof(hdr), false, true);
    qvirtqueue_add(g->qts, g->blk_vq, at + sizeof(hdr), SECTOR, false, true);
    qvirtqueue_add(g->qts, g->blk_vq, at + sizeof(hdr) + SECTOR, 1, true,
                   false);
    qvirtqueue_kick(g->qts, &g->blk->vdev, g->blk_vq, head);
}

void guest_blk_end(Guest *g)
{
    qvirtqueue_cleanup(g->blk->vdev.bus, g->blk_vq, &g->alloc);
    qos_object_destroy((QOSGraphObject *)g->blk);
    g->blk = NULL;
}

/* virtio-scsi */

#define SCSI_SLOT       0x1e
#define SCSI_EVENT_VQ   1
#define SCSI_COMMAND_VQ 2

void guest_scsi_boot(Guest *g, uint64_t without)
{
    QPCIAddress addr = { .devfn = QPCI_DEVFN(SCSI_SLOT, 0) };
    QVirtioDevice *dev;

    g->scsi = virtio_pci_new(g->bus, &addr);
    g_assert_nonnull(g->scsi);
    dev = &g->scsi->vdev;
    virtio_start(g->scsi, without);
    g->queues = qvirtio_config_readl(dev, 0) + SCSI_COMMAND_VQ;
    g_assert_cmpint(g->queues, <=, ARRAY_SIZE(g->vq));
    for (unsigned i = 0; i < g->queues; i++) {
        g->vq[i] = qvirtqueue_setup(dev, &g->alloc, i);
    }
    qvirtio_set_driver_ok(dev);
    for (unsigned i = 0; i < GUEST_SCSI_EVENTS; i++) {
        g->event[i] = guest_alloc(&g->alloc, sizeof(struct virtio_scsi_event));
        qvirtqueue_kick(g->qts, dev, g->vq[SCSI_EVENT_VQ],
                        qvirtqueue_add(g->qts, g->vq[SCSI_EVENT_VQ],
                                       g->event[i],
                                       sizeof(struct virtio_scsi_event),
                                       true, false));
    }
}

static void scsi_boot(Guest *g)
{
    guest_scsi_boot(g, 0);
}

bool guest_scsi_is_silent(Guest *g)
{
    QVirtQueue *vq = g->vq[SCSI_EVENT_VQ];

    return qtest_readw(g->qts, vq->used + offsetof(struct vring_used, idx)) ==
           vq->last_used_idx;
}

struct virtio_scsi_event guest_scsi_next(Guest *g)
{
    gint64 end = g_get_monotonic_time() + DISK_TIMEOUT_US;
    struct virtio_scsi_event event;
    uint32_t head;

    while (!qvirtqueue_get_buf(g->qts, g->vq[SCSI_EVENT_VQ], &head, NULL)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(DISK_ROUND_US);
    }
    g_assert_cmpint(head, <, GUEST_SCSI_EVENTS);
    g->held[g->n_held++] = head;
    qtest_memread(g->qts, g->event[head], &event, sizeof(event));
    return event;
}

void guest_scsi_expect(Guest *g, unsigned id, uint32_t reason)
{
    struct virtio_scsi_event event = guest_scsi_next(g);

    g_assert_cmphex(le32_to_cpu(event.event), ==,
                    VIRTIO_SCSI_T_TRANSPORT_RESET);
    g_assert_cmphex(le32_to_cpu(event.reason), ==, reason);
    g_assert_cmpint(event.lun[0], ==, 1);
    g_assert_cmpint(event.lun[1], ==, id);
}

void guest_scsi_give(Guest *g)
{
    g_assert_cmpint(g->n_held, >, 0);
    qvirtqueue_kick(g->qts, &g->scsi->vdev, g->vq[SCSI_EVENT_VQ], g->held[0]);
    memmove(g->held, g->held + 1, --g->n_held * sizeof(g->held[0]));
}

static void scsi_plugged(Guest *g)
{
    guest_scsi_expect(g, 0, VIRTIO_SCSI_EVT_RESET_RESCAN);
    guest_scsi_give(g);
}

/* It keeps the buffer as long as it is at it. */
static void scsi_notice(Guest *g)
{
    guest_scsi_expect(g, 0, VIRTIO_SCSI_EVT_RESET_REMOVED);
}

static void scsi_let_go(Guest *g)
{
    if (!g->n_held) {
        scsi_notice(g);
    }
    guest_scsi_give(g);
}

static void scsi_knows(Guest *g)
{
    scsi_notice(g);
    guest_scsi_give(g);
}

uint64_t guest_scsi_write(Guest *g, unsigned id)
{
    struct virtio_scsi_cmd_req req = {
        .lun = { 1, id },
        .cdb = { 0x2a, [8] = 1 },       /* WRITE(10), one block */
    };
    QVirtQueue *vq = g->vq[SCSI_COMMAND_VQ];
    uint64_t at = guest_alloc(&g->alloc, sizeof(req));
    uint64_t data = guest_alloc(&g->alloc, SECTOR);
    uint64_t answer = guest_alloc(&g->alloc,
                                  sizeof(struct virtio_scsi_cmd_resp));
    uint32_t head;

    qtest_memwrite(g->qts, at, &req, sizeof(req));
    qtest_memset(g->qts, data, 0xaa, SECTOR);
    qtest_memset(g->qts, answer, 0xff, sizeof(struct virtio_scsi_cmd_resp));
    head = qvirtqueue_add(g->qts, vq, at, sizeof(req), false, true);
    qvirtqueue_add(g->qts, vq, data, SECTOR, false, true);
    qvirtqueue_add(g->qts, vq, answer, sizeof(struct virtio_scsi_cmd_resp),
                   true, false);
    qvirtqueue_kick(g->qts, &g->scsi->vdev, vq, head);
    return answer;
}

/* All of them */

#define Q35     "-machine q35 -nodefaults -device pcie-root-port,id=p,chassis=1"
#define PORT    Q35 ",addr=3 -global " \
                "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"
#define PC      "-machine pc -nodefaults"
#define SCSI    "-machine q35,disk-hotplug=on -nodefaults"

#define ACPI_GUEST  .shows_notice = true, .goes_late = true, \
                    .plugged = guest_acpi_clear, .notice = guest_acpi_clear, \
                    .let_go = acpi_let_go, .knows = acpi_knows
/* What has no power is reset. */
#define PORT_GUEST  .shows_notice = true, .goes_late = true, .resets = true, \
                    .boot = port_boot, .plugged = port_plugged, \
                    .notice = port_notice, .let_go = port_let_go, \
                    .knows = port_knows
#define VIRTIO_BLK  .bus = "virtio-blk", \
                    .blk = "/machine/peripheral/d/virtio-backend"
#define NVME        .bus = "nvme", .blk = "d"

const GuestKind guest_kinds[] = {
    { .name = "scsi", .machine = SCSI, .bus = "scsi", .blk = "d",
      .place = GUEST_SCSI_PLACE, .boot = scsi_boot, .plugged = scsi_plugged,
      .notice = scsi_notice, .let_go = scsi_let_go, .knows = scsi_knows },
    { .name = "acpi-virtio-blk", .machine = Q35, VIRTIO_BLK, .place = "p",
      .boot = q35_boot, ACPI_GUEST },
    { .name = "acpi-nvme", .machine = Q35, NVME, .place = "p",
      .boot = q35_boot, ACPI_GUEST },
    { .name = "pc-virtio-blk", .machine = PC, VIRTIO_BLK, .place = "pci.0",
      .boot = pc_boot, ACPI_GUEST },
    { .name = "pcie-virtio-blk", .machine = PORT, VIRTIO_BLK, .place = "p",
      PORT_GUEST },
    { .name = "pcie-nvme", .machine = PORT, NVME, .place = "p", PORT_GUEST },
    { }
};

const GuestKind *guest_kind(const char *name)
{
    const GuestKind *kind = guest_kinds;

    while (!g_str_equal(kind->name, name)) {
        kind++;
    }
    return kind;
}

Guest *guest_start(const GuestKind *kind, const char *more)
{
    Guest *g = g_new0(Guest, 1);

    g->kind = kind;
    g->qts = qtest_initf("-m 64 %s %s", kind->machine, more);
    pc_alloc_init(&g->alloc, g->qts, 0);
    g->bus = qpci_new_pc(g->qts, &g->alloc);
    disk_listen(g->qts);
    if (kind->boot) {
        kind->boot(g);
    }
    return g;
}

void guest_end(Guest *g)
{
    if (g->scsi) {
        for (unsigned i = 0; i < g->queues; i++) {
            qvirtqueue_cleanup(g->scsi->vdev.bus, g->vq[i], &g->alloc);
        }
        qos_object_destroy((QOSGraphObject *)g->scsi);
    }
    g_free(g->port);
    qpci_free_pc(g->bus);
    alloc_destroy(&g->alloc);
    qtest_quit(g->qts);
    g_free(g);
}

void guest_attach(Guest *g, const char *blockdev)
{
    g_autofree char *spec = g_strdup_printf("'id': 'd', 'bus': '%s', %s",
                                            g->kind->bus, blockdev);
    QDict *disk = disk_attached(g->qts, spec);

    g_assert_cmpstr(qdict_get_str(disk, "place"), ==, g->kind->place);
    g->address = qdict_get_int(disk, "address");
    qobject_unref(disk);
    g->kind->plugged(g);
}

/*
 * Not by its driver, but as if by the device: it comes in where the requests of
 * each driver do.
 */
void guest_write(Guest *g)
{
    disk_hmp(g->qts, "qemu-io -d %s \"aio_write -q 0 512\"", g->kind->blk);
}

void guest_block(Guest *g, const char *event)
{
    disk_hmp(g->qts, "qemu-io -d %s \"break %s x\"", g->kind->blk, event);
}

void guest_unblock(Guest *g)
{
    disk_hmp(g->qts, "qemu-io -d %s \"resume x\"", g->kind->blk);
}
