/*
 * Disk hot-plug: finding the guest agent
 *
 * The agent's port is connected to a socket for a manager.  While no manager is
 * connected, QEMU is: the character device gets one end of a socket pair, as if
 * it had accepted it.  So nothing is looked up by a name that may have changed,
 * and nothing blocks.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "agent-port.h"
#include "chardev/char-socket.h"
#include "hw/virtio/virtio-serial.h"
#include "migration/blocker.h"
#include "qapi/error.h"
#include "qemu/sockets.h"

#define PORT_NAME   "org.qemu.guest_agent.0"

typedef struct AgentPort {
    VirtIOSerialPort *port;     /* a reference */
    char *id;                   /* of the disk */
    QIOChannelSocket *peer;     /* used by the character device; a reference */
    Error *blocker;             /* of migrations */
} AgentPort;

/* One session at a time */
static AgentPort *in_use;

/* Finding the port */

static SocketChardev *port_socket(VirtIOSerialPort *port)
{
    g_autofree char *label = object_property_get_str(OBJECT(port), "chardev",
                                                     NULL);
    Chardev *chr = label ? qemu_chr_find(label) : NULL;

    return chr ? (SocketChardev *)object_dynamic_cast(OBJECT(chr),
                                                      TYPE_CHARDEV_SOCKET) :
                 NULL;
}

static bool port_is_open(VirtIOSerialPort *port)
{
    return qdev_is_realized(DEVICE(port)) && port->guest_connected;
}

/* True: it is a listening socket without TLS or another protocol on top. */
static bool socket_is_plain(const SocketChardev *s)
{
    return s->is_listen && !s->tls_creds && !s->is_telnet && !s->is_tn3270 &&
           !s->is_websock;
}

typedef struct PortSearch {
    VirtIOSerialPort *port;     /* NULL: none was found */
    DiskAgentOutcome outcome;
} PortSearch;

static int port_look(Object *obj, void *opaque)
{
    PortSearch *search = opaque;
    VirtIOSerialPort *port;
    SocketChardev *s;

    port = (VirtIOSerialPort *)object_dynamic_cast(obj,
                                                   TYPE_VIRTIO_SERIAL_PORT);
    if (!port || g_strcmp0(port->name, PORT_NAME) || !port_is_open(port)) {
        return 0;
    }
    s = port_socket(port);
    if (!s || !socket_is_plain(s)) {
        return 0;
    }
    if (s->state != TCP_CHARDEV_STATE_DISCONNECTED) {
        search->outcome = DISK_AGENT_OUTCOME_BUSY;
        return 0;
    }
    search->port = port;
    return 1;
}

/* The channel */

static QIOChannel *port_open(void *opaque, Error **errp)
{
    AgentPort *p = opaque;
    SocketChardev *s = port_socket(p->port);
    QIOChannelSocket *sioc;
    int fds[2];

    if (!s || s->state != TCP_CHARDEV_STATE_DISCONNECTED) {
        error_setg(errp, "the agent has another client now");
        return NULL;
    }
    if (qemu_socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0) {
        error_setg_errno(errp, errno, "there is no way to the agent");
        return NULL;
    }
    sioc = qio_channel_socket_new_fd(fds[0], errp);
    if (!sioc) {
        close(fds[0]);
        close(fds[1]);
        return NULL;
    }
    if (qemu_chr_add_client(CHARDEV(s), fds[1]) < 0) {
        error_setg(errp, "the agent's port takes no client");
        close(fds[1]);
        object_unref(OBJECT(sioc));
        return NULL;
    }
    qio_channel_set_name(QIO_CHANNEL(sioc), "disk-agent");
    p->peer = s->sioc;
    if (p->peer) {
        object_ref(OBJECT(p->peer));
    }
    return QIO_CHANNEL(sioc);
}

/* The port is immediately free for the next client, ours or a manager. */
static void port_close(void *opaque)
{
    AgentPort *p = opaque;
    SocketChardev *s = port_socket(p->port);

    if (s && p->peer && s->sioc == p->peer) {
        CHARDEV_GET_CLASS(s)->chr_disconnect(CHARDEV(s));
    }
    if (p->peer) {
        object_unref(OBJECT(p->peer));
        p->peer = NULL;
    }
}

static bool port_is_lost(void *opaque)
{
    AgentPort *p = opaque;

    return !port_is_open(p->port);
}

/* A guest migrated between freeze and thaw would stay frozen. */
static bool port_hold(void *opaque, Error **errp)
{
    AgentPort *p = opaque;

    error_setg(&p->blocker, "file systems of disk '%s', which is being "
               "detached, are being written out; try again in a second", p->id);
    return migrate_add_blocker_internal(&p->blocker, errp) == 0;
}

static void port_release(void *opaque)
{
    AgentPort *p = opaque;

    migrate_del_blocker(&p->blocker);
}

static void port_free(void *opaque)
{
    AgentPort *p = opaque;

    in_use = NULL;
    object_unref(OBJECT(p->port));
    g_free(p->id);
    g_free(p);
}

static const DiskAgentOps port_ops = {
    .open = port_open,
    .close = port_close,
    .is_lost = port_is_lost,
    .hold = port_hold,
    .release = port_release,
    .free = port_free,
};

DiskAgentOutcome disk_agent_port_ask(const Disk *disk, DiskDetachAgent how,
                                     int64_t limit_ms, DiskAgent **agent)
{
    PortSearch search = { .outcome = DISK_AGENT_OUTCOME_NONE };
    DiskAgentTarget target = {
        .bus = disk->place.bus,
        .serial = disk->serial,
        .wwn = disk->wwn,
    };

    *agent = NULL;
    if (in_use) {
        return DISK_AGENT_OUTCOME_ASKED;
    }
    object_child_foreach_recursive(object_get_root(), port_look, &search);
    if (!search.port) {
        return search.outcome;
    }
    in_use = g_new0(AgentPort, 1);
    in_use->port = search.port;
    object_ref(OBJECT(search.port));
    in_use->id = g_strdup(disk->id);
    *agent = disk_agent_start(&port_ops, in_use, how, &target, limit_ms);
    return DISK_AGENT_OUTCOME_ASKED;
}
