/*
 * Disk hot-plug: places for disks
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "guest.h"
#include "hw/pci/pci.h"
#include "hw/pci/pci_bridge.h"
#include "hw/pci/pci_bus.h"
#include "hw/pci/pcie_port.h"
#include "hw/scsi/scsi.h"
#include "hw/virtio/virtio-scsi.h"
#include "qapi/error.h"
#include "qemu/bitmap.h"
#include "slots.h"

/* Targets of a virtio-scsi controller, or slots of a PCI bus */
#define PLACES_MAX      (VIRTIO_SCSI_MAX_TARGET + 1)

/* Information about a bus that disks can be plugged into */
typedef struct DiskRow {
    BusState *qbus;
    DiskBus bus;                /* DISK_BUS_VIRTIO_BLK: any PCI device */
    unsigned total;             /* number of places */
    DECLARE_BITMAP(taken, PLACES_MAX);
    DECLARE_BITMAP(quarantined, PLACES_MAX);    /* among those not taken */
} DiskRow;

typedef struct Quarantine {
    char *name;
    unsigned address;
} Quarantine;

static GArray *quarantine;      /* of Quarantine; NULL: none yet */

static int quarantine_find(const char *name, unsigned address)
{
    for (unsigned i = 0; quarantine && i < quarantine->len; i++) {
        Quarantine *q = &g_array_index(quarantine, Quarantine, i);

        if (q->address == address && g_str_equal(q->name, name)) {
            return i;
        }
    }
    return -1;
}

void disk_quarantine_begin(const char *name, unsigned address)
{
    Quarantine q = { g_strdup(name), address };

    if (quarantine_find(name, address) >= 0) {
        g_free(q.name);
        return;
    }
    if (!quarantine) {
        quarantine = g_array_new(false, false, sizeof(Quarantine));
    }
    g_array_append_val(quarantine, q);
}

bool disk_quarantine_end(const char *name, unsigned address)
{
    int i = quarantine_find(name, address);

    if (i < 0) {
        return false;
    }
    g_free(g_array_index(quarantine, Quarantine, i).name);
    g_array_remove_index_fast(quarantine, i);
    return true;
}

/* Rows */

static void row_take_scsi(DiskRow *row)
{
    BusChild *kid;

    row->total = SCSI_BUS(row->qbus)->info->max_target + 1;
    assert(row->total <= PLACES_MAX);
    RCU_READ_LOCK_GUARD();
    /* Include disks that are being removed: their targets are not free yet. */
    QTAILQ_FOREACH_RCU(kid, &row->qbus->children, sibling) {
        SCSIDevice *dev = SCSI_DEVICE(kid->child);

        if (dev->id < row->total) {
            set_bit(dev->id, row->taken);
        }
    }
}

static void row_take_pci(DiskRow *row)
{
    PCIBus *bus = PCI_BUS(row->qbus);
    uint32_t reserved = pci_bus_get_slot_reserved_mask(bus);

    /* A PCIe port has one slot; function 0 makes the others visible. */
    row->total = object_dynamic_cast(OBJECT(row->qbus->parent),
                                     TYPE_PCIE_SLOT) ? 1 : PCI_SLOT_MAX;
    for (unsigned slot = 0; slot < row->total; slot++) {
        bool taken = reserved & 1U << slot ||
                     PCI_DEVFN(slot, 0) < bus->devfn_min;

        for (unsigned fn = 0; fn < PCI_FUNC_MAX; fn++) {
            taken |= bus->devices[PCI_DEVFN(slot, fn)] != NULL;
        }
        if (taken) {
            set_bit(slot, row->taken);
        }
    }
}

/* A disk whose device is being freed is no longer on its bus. */
static void row_take_leaving(DiskRow *row)
{
    Disk *disk;

    QTAILQ_FOREACH(disk, &disks, next) {
        if (g_str_equal(disk->place.name, row->qbus->name)) {
            assert(disk->place.address < row->total);
            set_bit(disk->place.address, row->taken);
        }
    }
}

static bool row_is_possible(BusState *qbus, DiskBus *bus)
{
    if (!qbus->realized || !qbus->parent || !qbus_is_hotpluggable(qbus)) {
        return false;
    }
    if (object_dynamic_cast(OBJECT(qbus), TYPE_SCSI_BUS)) {
        *bus = DISK_BUS_SCSI;
        return object_dynamic_cast(OBJECT(qbus->parent),
                                   TYPE_VIRTIO_SCSI_COMMON);
    }
    if (object_dynamic_cast(OBJECT(qbus), TYPE_PCI_BUS)) {
        *bus = DISK_BUS_VIRTIO_BLK;
        return true;
    }
    return false;
}

/* End quarantines that the guest has acknowledged, or that are in use. */
static void row_quarantine(DiskRow *row)
{
    const char *name = row->qbus->name;

    for (unsigned i = 0; i < row->total; i++) {
        if (quarantine_find(name, i) < 0) {
            continue;
        }
        if (test_bit(i, row->taken) || disk_guest_knows(row->qbus, i)) {
            disk_quarantine_end(name, i);
        } else {
            set_bit(i, row->quarantined);
        }
    }
}

static int rows_add(Object *obj, void *opaque)
{
    GPtrArray *rows = opaque;
    BusState *qbus = (BusState *)object_dynamic_cast(obj, TYPE_BUS);
    DiskBus bus;
    DiskRow *row;

    if (!qbus || !row_is_possible(qbus, &bus)) {
        return 0;
    }
    row = g_new0(DiskRow, 1);
    row->qbus = qbus;
    row->bus = bus;
    if (bus == DISK_BUS_SCSI) {
        row_take_scsi(row);
    } else {
        row_take_pci(row);
    }
    row_take_leaving(row);
    disk_guest_prepare(qbus);
    row_quarantine(row);
    g_ptr_array_add(rows, row);
    return 0;
}

static int rows_order(const void *a, const void *b)
{
    const DiskRow *x = *(DiskRow *const *)a, *y = *(DiskRow *const *)b;

    return x->bus != y->bus ? (int)x->bus - (int)y->bus :
           strcmp(x->qbus->name, y->qbus->name);
}

/* SCSI first; then by name */
static GPtrArray *rows_get(void)
{
    GPtrArray *rows = g_ptr_array_new_with_free_func(g_free);

    object_child_foreach_recursive(object_get_root(), rows_add, rows);
    g_ptr_array_sort(rows, rows_order);
    return rows;
}

static unsigned row_free(const DiskRow *row)
{
    return row->total - bitmap_count_one(row->taken, row->total) -
           bitmap_count_one(row->quarantined, row->total);
}

DiskSlotsList *disk_slots(void)
{
    g_autoptr(GPtrArray) rows = rows_get();
    DiskSlotsList *list = NULL, **tail = &list;

    for (unsigned i = 0; i < rows->len; i++) {
        DiskRow *row = g_ptr_array_index(rows, i);
        DiskSlots *slots = g_new0(DiskSlots, 1);

        slots->place = g_strdup(row->qbus->name);
        slots->bus = row->bus;
        slots->total = row->total;
        slots->free = row_free(row);
        slots->quarantined = bitmap_count_one(row->quarantined, row->total);
        QAPI_LIST_APPEND(tail, slots);
    }
    return list;
}

/* Finding one */

static bool row_fits(const DiskRow *row, DiskBus bus)
{
    return bus == DISK_BUS_AUTO ||
           (row->bus == DISK_BUS_SCSI) == (bus == DISK_BUS_SCSI);
}

static void place_error(DiskBus bus, const GPtrArray *rows, Error **errp)
{
    g_autoptr(GString) s = g_string_new(NULL);
    unsigned other = 0;

    for (unsigned i = 0; i < rows->len; i++) {
        DiskRow *row = g_ptr_array_index(rows, i);
        unsigned quarantined = bitmap_count_one(row->quarantined, row->total);

        g_string_append_printf(s, "%s%s '%s' %u of %u", s->len ? ", " : "",
                               row->bus == DISK_BUS_SCSI ? "scsi" : "pci",
                               row->qbus->name, row_free(row), row->total);
        if (quarantined) {
            g_string_append_printf(s, " (%u wait for the guest to see that "
                                   "they are empty)", quarantined);
        }
        if (!row_fits(row, bus)) {
            other += row_free(row);
        }
    }
    error_setg(errp, "no free place for a disk on bus '%s'; free are: %s",
               DiskBus_str(bus), s->len ? s->str : "none, as there is no bus "
               "that takes hot-plug");
    error_append_hint(errp, other ?
                      "Another 'bus' has room, or let QEMU choose: 'auto'.\n" :
                      "Start QEMU with '-machine disk-hotplug=on' for 256 "
                      "places, or with a virtio-scsi-pci or pcie-root-port "
                      "device.\n");
}

bool disk_place_find(DiskBus bus, DiskPlace *place, Error **errp)
{
    ERRP_GUARD();
    g_autoptr(GPtrArray) rows = rows_get();

    for (unsigned i = 0; i < rows->len; i++) {
        DiskRow *row = g_ptr_array_index(rows, i);

        for (unsigned at = 0; at < row->total && row_fits(row, bus); at++) {
            if (!test_bit(at, row->taken) && !test_bit(at, row->quarantined)) {
                place->bus = bus == DISK_BUS_AUTO ? row->bus : bus;
                place->name = g_strdup(row->qbus->name);
                place->address = at;
                return true;
            }
        }
    }
    place_error(bus, rows, errp);
    return false;
}

static const DiskRow *row_find(const GPtrArray *rows, const char *name,
                               Error **errp)
{
    for (unsigned i = 0; i < rows->len; i++) {
        const DiskRow *row = g_ptr_array_index(rows, i);

        if (g_str_equal(row->qbus->name, name)) {
            return row;
        }
    }
    error_setg(errp, "there is no bus '%s' here that takes disks", name);
    return NULL;
}

bool disk_place_check(const DiskPlace *place, Error **errp)
{
    g_autoptr(GPtrArray) rows = rows_get();
    const DiskRow *row = row_find(rows, place->name, NULL);

    if (!row || !row_fits(row, place->bus)) {
        error_setg(errp, "there is no bus '%s' here that takes a disk on bus "
                   "'%s'", place->name, DiskBus_str(place->bus));
    } else if (place->address >= row->total) {
        error_setg(errp, "bus '%s' has no address %u", place->name,
                   place->address);
    } else if (test_bit(place->address, row->taken) ||
               test_bit(place->address, row->quarantined)) {
        error_setg(errp, "address %u of bus '%s' is taken", place->address,
                   place->name);
    } else {
        return true;
    }
    return false;
}

/* Migration */

void disk_slots_save(DiskManifest *list)
{
    g_autoptr(GPtrArray) rows = rows_get();
    DiskQuarantineList **to = &list->quarantine;
    DiskEventRoomList **room_to = &list->rooms;

    for (unsigned i = 0; quarantine && i < quarantine->len; i++) {
        Quarantine *q = &g_array_index(quarantine, Quarantine, i);
        DiskQuarantine *one = g_new0(DiskQuarantine, 1);

        one->place = g_strdup(q->name);
        one->address = q->address;
        QAPI_LIST_APPEND(to, one);
    }
    for (unsigned i = 0; i < rows->len; i++) {
        BusState *qbus = ((DiskRow *)g_ptr_array_index(rows, i))->qbus;
        DiskEventRoom *room;

        if (disk_guest_event_room(qbus)) {
            room = g_new0(DiskEventRoom, 1);
            room->place = g_strdup(qbus->name);
            room->bytes = disk_guest_event_room(qbus);
            QAPI_LIST_APPEND(room_to, room);
        }
    }
    list->has_quarantine = list->quarantine;
    list->has_rooms = list->rooms;
}

bool disk_slots_load(const DiskManifest *list, Error **errp)
{
    g_autoptr(GPtrArray) rows = rows_get();
    const DiskRow *row;

    for (DiskEventRoomList *e = list->rooms; e; e = e->next) {
        row = row_find(rows, e->value->place, errp);
        if (!row || !disk_guest_set_event_room(row->qbus, e->value->bytes,
                                               errp)) {
            return false;
        }
    }
    for (DiskQuarantineList *e = list->quarantine; e; e = e->next) {
        row = row_find(rows, e->value->place, errp);
        if (!row) {
            return false;
        }
        if (e->value->address >= row->total) {
            error_setg(errp, "bus '%s' has no address %u", e->value->place,
                       e->value->address);
            return false;
        }
        disk_quarantine_begin(e->value->place, e->value->address);
    }
    return true;
}

bool disk_slots_any_quarantine(void)
{
    return quarantine && quarantine->len;
}
