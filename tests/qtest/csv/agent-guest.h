/*
 * Disk hot-plug: a guest with an agent
 *
 * It drives a virtio-serial port; what the agent says is up to the test.  It
 * does not listen to its virtio-scsi controller, so that a disk goes as soon as
 * it is quiet.
 *
 * Everything is asserted, as in disk-scene.h.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_AGENT_GUEST_H
#define TESTS_QTEST_AGENT_GUEST_H

#include "disk-scene.h"
#include "libqos/pci.h"
#include "libqos/virtio-pci.h"

/* Input and output of port 0, of the control messages, and of port 1 */
#define AGENT_QUEUES    6
#define AGENT_BUFFERS   8

typedef struct AgentGuest {
    QTestState *qts;
    QGuestAllocator alloc;
    QPCIBus *bus;
    QVirtioPCIDevice *dev;
    QVirtQueue *vq[AGENT_QUEUES];
    uint64_t buffer[AGENT_BUFFERS];
    GString *heard;             /* and not looked at yet */
    char *more;                 /* options of the machine */
    char *socket;               /* what the port leads to */
} AgentGuest;

/* Start a machine, with further options. */
AgentGuest *agent_guest_start(const char *more);
/* Ask QEMU to quit, and free @g. */
void agent_guest_end(AgentGuest *g);

/* Move the guest to another QEMU with the same options; it runs there. */
void agent_guest_migrate(AgentGuest *g);

/* The agent opens or closes its port. */
void agent_guest_open(AgentGuest *g, bool open);

/* Connect to the port as a manager does; returns the socket. */
int agent_guest_connect(AgentGuest *g);

/* The agent says this. */
void agent_guest_says(AgentGuest *g, const char *text);

/* The next command that it hears is this; returns its arguments, or NULL. */
QDict *agent_guest_hears(AgentGuest *g, const char *command);

/* It hears a sync, and answers. */
void agent_guest_syncs(AgentGuest *g);

/* True: it hears nothing for a while. */
bool agent_guest_is_silent(AgentGuest *g);

#endif /* TESTS_QTEST_AGENT_GUEST_H */
