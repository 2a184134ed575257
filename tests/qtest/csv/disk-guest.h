/*
 * Disk hot-plug: guests, as far as they have to do with it
 *
 * One disk "d" at a time, of a guest that does what the test says: it takes
 * notice of a request, lets go, or does neither.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_DISK_GUEST_H
#define TESTS_QTEST_DISK_GUEST_H

#include "disk-scene.h"
#include "libqos/pci.h"
#include "libqos/virtio-pci.h"
#include "standard-headers/linux/virtio_scsi.h"

#define GUEST_SCSI_EVENTS   4
#define GUEST_SCSI_PLACE    "disks.0"

typedef struct GuestKind GuestKind;

typedef struct Guest {
    const GuestKind *kind;
    QTestState *qts;
    QGuestAllocator alloc;
    QPCIBus *bus;

    /* PCI: base addresses of registers, or the port and its slot registers */
    uint16_t gpe, acpi;
    QPCIDevice *port;
    uint8_t slot;

    /* virtio-blk */
    int address;                /* of "d" */
    QVirtioPCIDevice *blk;
    QVirtQueue *blk_vq;

    /* virtio-scsi */
    QVirtioPCIDevice *scsi;
    unsigned queues;
    QVirtQueue *vq[8];
    uint64_t event[GUEST_SCSI_EVENTS];
    uint32_t held[GUEST_SCSI_EVENTS];   /* buffers with an event, in order */
    unsigned n_held;
} Guest;

struct GuestKind {
    const char *name;
    const char *machine;        /* options of QEMU */
    const char *bus;            /* as disk-attach calls it */
    const char *place;          /* where the disk goes */
    const char *blk;            /* as qemu-io calls what the disk is on */
    bool shows_notice;          /* QEMU sees that it has taken notice. */
    bool goes_late;             /* When it lets go, the device goes as ever. */
    bool resets;                /* It resets the device first, which waits. */

    void (*boot)(Guest *g);     /* NULL: the test does that. */
    void (*plugged)(Guest *g);  /* It has found the disk. */
    void (*notice)(Guest *g);   /* It has seen the request. */
    void (*let_go)(Guest *g);   /* It has, and does what it is asked for. */
    void (*knows)(Guest *g);    /* It has seen that the disk is gone. */
};

/* All of them; the last one has no name. */
extern const GuestKind guest_kinds[];
/* One of them */
const GuestKind *guest_kind(const char *name);

/* Start a machine, with further options, and the guest's driver. */
Guest *guest_start(const GuestKind *kind, const char *more);
/* Ask QEMU to quit, and free @g. */
void guest_end(Guest *g);

/* Attach "d" on what @blockdev says, which is a member of a DiskSpec. */
void guest_attach(Guest *g, const char *blockdev);

/* A write of the guest to "d", which goes on when this returns */
void guest_write(Guest *g);
/* Requests at @event of the topmost blkdebug node wait until they may go on. */
void guest_block(Guest *g, const char *event);
void guest_unblock(Guest *g);

/* Of ACPI, one by one: clear what has told of it, or eject what is asked for */
void guest_acpi_clear(Guest *g);
void guest_acpi_eject(Guest *g);

/* Of a PCIe port: its light, as PCI_EXP_SLTCTL_PWR_IND_*, and its power */
void guest_port_set(Guest *g, uint16_t light, bool power);
/* Acknowledge these bits of its slot's status. */
void guest_port_clear(Guest *g, uint16_t status);

/*
 * Of virtio-blk, on the first PCI bus: a driver for "d" with one queue, and a
 * write that goes on when this returns.
 */
void guest_blk_boot(Guest *g);
void guest_blk_write(Guest *g);
/* The device is gone. */
void guest_blk_end(Guest *g);

/* Of virtio-scsi: with these features, but for ... */
void guest_scsi_boot(Guest *g, uint64_t without);
/* Wait for the next event, and keep its buffer. */
struct virtio_scsi_event guest_scsi_next(Guest *g);
/* It is about target @id, and has that reason. */
void guest_scsi_expect(Guest *g, unsigned id, uint32_t reason);
/* True: there is none. */
bool guest_scsi_is_silent(Guest *g);
/* Give the first of the buffers back that it keeps. */
void guest_scsi_give(Guest *g);
/* A WRITE(10) of one block of target @id; returns where its answer will be. */
uint64_t guest_scsi_write(Guest *g, unsigned id);

#endif /* TESTS_QTEST_DISK_GUEST_H */
