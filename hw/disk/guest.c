/*
 * Disk hot-plug: asking the guest to release a disk
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block-global-state.h"
#include "block/block-io.h"
#include "guest.h"
#include "hw/acpi/acpi_dev_interface.h"
#include "hw/acpi/ich9.h"
#include "hw/acpi/pcihp.h"
#include "hw/acpi/piix4.h"
#include "hw/pci/pci_bridge.h"
#include "hw/pci/pci_bus.h"
#include "hw/pci/pcie_port.h"
#include "hw/scsi/scsi.h"
#include "hw/southbridge/ich9.h"
#include "hw/virtio/virtio-scsi.h"
#include "monitor/qdev.h"
#include "qapi/error.h"
#include "qemu/notify.h"
#include "system/runstate.h"

/* Linux blinks for five seconds, in which another press cancels. */
#define REPEAT_PCIE_MS  6000
/* Repeating a request while the guest is handling it does no harm. */
#define REPEAT_ACPI_MS  2000

/* A channel that guest commands cannot address */
#define HIDDEN_CHANNEL  1

BlockBackend *disk_blk(const Disk *disk)
{
    Object *backend = object_resolve_path_component(OBJECT(disk->dev),
                                                    "virtio-backend");

    return blk_by_dev(backend ? (void *)backend : (void *)disk->dev);
}

/* virtio-scsi */

static VirtIOSCSI *scsi_controller(BusState *qbus)
{
    Object *obj = OBJECT(qbus->parent);

    return (VirtIOSCSI *)object_dynamic_cast(obj, TYPE_VIRTIO_SCSI);
}

/* True: the driver supports hot-plug events. */
static bool scsi_listens(VirtIOSCSI *s)
{
    VirtIODevice *vdev = VIRTIO_DEVICE(s);

    return (vdev->status & VIRTIO_CONFIG_S_DRIVER_OK) &&
           virtio_vdev_has_feature(vdev, VIRTIO_SCSI_F_HOTPLUG);
}

/* True: all event buffers are available, so the driver has seen all events. */
static bool scsi_all_known(VirtIOSCSI *s)
{
    unsigned room, out;

    QEMU_LOCK_GUARD(&s->event_lock);
    virtqueue_get_avail_bytes(VIRTIO_SCSI_COMMON(s)->event_vq, &room, &out,
                              UINT_MAX, UINT_MAX);
    s->event_room = MAX(s->event_room, room);
    return room && room == s->event_room && !s->events_dropped;
}

static void scsi_look(Disk *disk, DetachSample *s)
{
    VirtIOSCSI *scsi = scsi_controller(disk->dev->parent_bus);

    s->deaf = !scsi || !scsi_listens(scsi);
    s->can_ask = !s->deaf && scsi_all_known(scsi);
    s->let_go = disk->guest.asked && s->can_ask;
    s->noticed = s->let_go;
}

static void scsi_ask(Disk *disk)
{
    SCSIDevice *sd = SCSI_DEVICE(disk->dev);
    VirtIOSCSIEventInfo info = {
        .event = VIRTIO_SCSI_T_TRANSPORT_RESET,
        .reason = VIRTIO_SCSI_EVT_RESET_REMOVED,
        .address = { .id = sd->id, .lun = sd->lun },
    };

    virtio_scsi_push_event(scsi_controller(disk->dev->parent_bus), &info);
}

/* PCI, by ACPI */

/* The slots of @bus, and whether an event for the guest is pending */
static AcpiPciHpPciStatus *acpi_slots(Object *handler, BusState *bus,
                                      bool *event)
{
    Object *obj;
    AcpiPciHpState *state;
    ACPIREGS *regs;
    uint64_t bsel;

    obj = object_dynamic_cast(handler, TYPE_ICH9_LPC_DEVICE);
    if (obj) {
        state = &((ICH9LPCState *)obj)->pm.acpi_pci_hotplug;
        regs = &((ICH9LPCState *)obj)->pm.acpi_regs;
    } else {
        obj = object_dynamic_cast(handler, TYPE_PIIX4_PM);
        if (!obj) {
            return NULL;
        }
        state = &((PIIX4PMState *)obj)->acpi_pci_hotplug;
        regs = &((PIIX4PMState *)obj)->ar;
    }
    bsel = object_property_get_uint(OBJECT(bus), ACPI_PCIHP_PROP_BSEL, NULL);
    if (bsel >= ACPI_PCIHP_MAX_HOTPLUG_BUS) {
        return NULL;
    }
    *event = regs->gpe.sts[0] & ACPI_PCI_HOTPLUG_STATUS;
    return &state->acpi_pcihp_pci_status[bsel];
}

/* PCI, by the button of a PCIe port */

static PCIDevice *pcie_port(Object *handler)
{
    return (PCIDevice *)object_dynamic_cast(handler, TYPE_PCIE_SLOT);
}

static void pcie_look(Disk *disk, PCIDevice *port, DetachSample *s)
{
    uint16_t ctl, sta, light;
    bool off;

    pcie_cap_slot_get(port, &ctl, &sta);
    light = ctl & PCI_EXP_SLTCTL_PIC;
    off = (ctl & PCI_EXP_SLTCTL_PCC) && light == PCI_EXP_SLTCTL_PWR_IND_OFF;
    s->underway = light == PCI_EXP_SLTCTL_PWR_IND_BLINK;
    s->can_ask = off || (!s->underway && !(sta & PCI_EXP_SLTSTA_ABP));
    s->noticed = disk->guest.asked && !(sta & PCI_EXP_SLTSTA_ABP);
    s->repeat_ms = REPEAT_PCIE_MS;
    disk->guest.blinked |= s->noticed && s->underway;
    s->refused = disk->guest.blinked && light == PCI_EXP_SLTCTL_PWR_IND_ON;
}

/*
 * Like a partially unplugged device: when the guest releases it, only
 * pending_deleted_event shows that, and the device stays.
 */
static bool pci_has_let_go(const Disk *disk)
{
    return PCI_DEVICE(disk->dev)->partially_hotplugged &&
           !disk->dev->pending_deleted_event;
}

static void pci_look(Disk *disk, DetachSample *s)
{
    Object *handler = OBJECT(qdev_get_hotplug_handler(disk->dev));
    PCIDevice *port = pcie_port(handler);
    bool event;

    s->can_ask = true;
    s->repeat_ms = INT64_MAX;
    if (port) {
        pcie_look(disk, port, s);
    } else if (acpi_slots(handler, disk->dev->parent_bus, &event)) {
        s->noticed = disk->guest.asked && !event;
        s->repeat_ms = REPEAT_ACPI_MS;
    }
    s->let_go = pci_has_let_go(disk);
}

static bool pci_ask(Disk *disk, Error **errp)
{
    ERRP_GUARD();
    PCIDevice *pdev = PCI_DEVICE(disk->dev);

    pdev->partially_hotplugged = true;
    qdev_unplug(disk->dev, errp);
    if (*errp) {
        pdev->partially_hotplugged = disk->dev->pending_deleted_event;
        return false;
    }
    return true;
}

static void pci_remove(Disk *disk)
{
    HotplugHandler *handler = qdev_get_hotplug_handler(disk->dev);
    PCIDevice *pdev = PCI_DEVICE(disk->dev);
    PCIDevice *port = pcie_port(OBJECT(handler));
    bool told = pci_has_let_go(disk);
    DeviceState *dev = disk->dev;

    pdev->partially_hotplugged = false;
    if (!told && port) {
        pcie_cap_slot_do_unplug(port);
        hotplug_event_notify(port);
        return;
    }
    if (!told) {
        /* The guest will find the slot empty, and acknowledge that. */
        qdev_unplug(dev, NULL);
    }
    hotplug_handler_unplug(handler, dev, &error_abort);
    object_unparent(OBJECT(dev));
}

/* All buses */

static bool is_scsi(const Disk *disk)
{
    return disk->place.bus == DISK_BUS_SCSI;
}

void disk_guest_prepare(BusState *qbus)
{
    VirtIOSCSI *scsi = scsi_controller(qbus);

    if (scsi && scsi_listens(scsi)) {
        scsi_all_known(scsi);
    }
}

void disk_guest_look(Disk *disk, DetachSample *s)
{
    if (is_scsi(disk)) {
        scsi_look(disk, s);
    } else {
        pci_look(disk, s);
    }
}

bool disk_guest_ask(Disk *disk, Error **errp)
{
    disk->guest.blinked = false;
    if (is_scsi(disk)) {
        scsi_ask(disk);
    } else if (!pci_ask(disk, errp)) {
        return false;
    }
    disk->guest.asked = true;
    return true;
}

void disk_guest_forget(Disk *disk)
{
    disk->guest.asked = false;
    if (!is_scsi(disk) && disk->dev->pending_deleted_event) {
        PCI_DEVICE(disk->dev)->partially_hotplugged = false;
    }
}

/* Nodes are closed next, and must have no references left. */
static void unhide_all(Notifier *notifier, void *data)
{
    Disk *disk;

    QTAILQ_FOREACH(disk, &disks, next) {
        disk_guest_unhide(disk);
    }
}

static void quiesce(Disk *disk)
{
    static Notifier shutdown = { .notify = unhide_all };

    if (!shutdown.node.le_prev) {
        qemu_register_shutdown_notifier(&shutdown);
    }
    disk->guest.quiesced = blk_bs(disk_blk(disk));
    bdrv_ref(disk->guest.quiesced);
    bdrv_do_drained_begin_quiesce(disk->guest.quiesced, NULL);
}

void disk_guest_hide(Disk *disk)
{
    DeviceState *dev = disk->dev;

    /* Neither 'device_del' nor the guest's release may wait for requests. */
    if (is_scsi(disk)) {
        qatomic_set(&SCSI_DEVICE(dev)->channel, HIDDEN_CHANNEL);
        dev->pending_deleted_event = true;
    } else {
        dev->pending_deleted_event = !pci_has_let_go(disk);
        PCI_DEVICE(dev)->partially_hotplugged = true;
        quiesce(disk);
    }
    dev->pending_deleted_expires_ms = 0;
}

void disk_guest_unhide(Disk *disk)
{
    if (disk->guest.quiesced) {
        bdrv_drained_end(disk->guest.quiesced);
        bdrv_unref(disk->guest.quiesced);
        disk->guest.quiesced = NULL;
    }
}

bool disk_guest_remove(Disk *disk)
{
    DeviceState *dev = disk->dev;

    if (disk->guest.quiesced) {
        /*
         * Requests submitted meanwhile must fail: if they vanished with the
         * device, the guest would wait for them forever.
         */
        blk_remove_bs(disk_blk(disk));
        disk_guest_unhide(disk);
        return false;
    }
    if (is_scsi(disk)) {
        hotplug_handler_unplug(qdev_get_hotplug_handler(dev), dev,
                               &error_abort);
        object_unparent(OBJECT(dev));
    } else {
        pci_remove(disk);
    }
    return true;
}

bool disk_guest_knows(BusState *qbus, unsigned address)
{
    VirtIOSCSI *scsi = scsi_controller(qbus);
    Object *handler = OBJECT(qbus->hotplug_handler);
    AcpiPciHpPciStatus *slots;
    PCIDevice *port;
    uint16_t ctl, sta;
    bool event;

    if (scsi) {
        return !scsi_listens(scsi) || scsi_all_known(scsi);
    }
    port = handler ? pcie_port(handler) : NULL;
    if (port) {
        pcie_cap_slot_get(port, &ctl, &sta);
        return !(sta & PCI_EXP_SLTSTA_PDC);
    }
    slots = handler ? acpi_slots(handler, qbus, &event) : NULL;
    return !slots || !(slots->down & (1U << address));
}

unsigned disk_guest_event_room(BusState *qbus)
{
    VirtIOSCSI *scsi = scsi_controller(qbus);

    return scsi ? scsi->event_room : 0;
}

bool disk_guest_set_event_room(BusState *qbus, unsigned bytes, Error **errp)
{
    VirtIOSCSI *scsi = scsi_controller(qbus);

    if (!scsi) {
        error_setg(errp, "bus '%s' is not that of a virtio-scsi controller",
                   qbus->name);
        return false;
    }
    scsi->event_room = bytes;
    return true;
}

void disk_guest_resume(Disk *disk, bool let_go)
{
    disk->guest.asked = true;
    if (!is_scsi(disk)) {
        PCI_DEVICE(disk->dev)->partially_hotplugged = true;
        disk->dev->pending_deleted_event = !let_go;
    }
}
