/*
 * Disk hot-plug: a guest with an agent
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "agent-guest.h"
#include "libqos/malloc-pc.h"
#include "libqos/pci-pc.h"
#include "qapi/error.h"
#include "qemu/bswap.h"
#include "qemu/sockets.h"
#include "qobject/qjson.h"
#include "standard-headers/linux/virtio_console.h"

#define MACHINE     "-machine q35,disk-hotplug=on -nodefaults -m 64 "
#define SLOT        8
#define PORT        1
#define BUFFER_SIZE 4096
/* How long there must be nothing for silence */
#define SILENCE_US  (200 * 1000)

enum {
    CONTROL_IN = 2,
    CONTROL_OUT,
    PORT_IN,
    PORT_OUT,
};

/* The driver */

static void send_out(AgentGuest *g, unsigned queue, const void *data,
                     size_t len)
{
    uint64_t at = guest_alloc(&g->alloc, len);
    gint64 end = g_get_monotonic_time() + DISK_TIMEOUT_US;

    qtest_memwrite(g->qts, at, data, len);
    qvirtqueue_kick(g->qts, &g->dev->vdev, g->vq[queue],
                    qvirtqueue_add(g->qts, g->vq[queue], at, len, false,
                                   false));
    while (!qvirtqueue_get_buf(g->qts, g->vq[queue], NULL, NULL)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(DISK_ROUND_US);
    }
    guest_free(&g->alloc, at);
}

static void send_control(AgentGuest *g, uint32_t id, uint16_t event,
                         uint16_t value)
{
    struct virtio_console_control msg = {
        .id = cpu_to_le32(id),
        .event = cpu_to_le16(event),
        .value = cpu_to_le16(value),
    };

    send_out(g, CONTROL_OUT, &msg, sizeof(msg));
}

static void offer(AgentGuest *g, uint64_t buffer)
{
    uint32_t head = qvirtqueue_add(g->qts, g->vq[PORT_IN], buffer, BUFFER_SIZE,
                                   true, false);

    qvirtqueue_kick(g->qts, &g->dev->vdev, g->vq[PORT_IN], head);
}

static void boot(AgentGuest *g)
{
    QPCIAddress addr = { .devfn = QPCI_DEVFN(SLOT, 0) };
    QVirtioDevice *dev;

    g->dev = virtio_pci_new(g->bus, &addr);
    g_assert_nonnull(g->dev);
    dev = &g->dev->vdev;
    qvirtio_pci_device_enable(g->dev);
    qvirtio_start_device(dev);
    qvirtio_set_features(dev, qvirtio_get_features(dev) &
                         ~(QVIRTIO_F_BAD_FEATURE |
                           (1u << VIRTIO_RING_F_INDIRECT_DESC) |
                           (1u << VIRTIO_RING_F_EVENT_IDX)));
    for (unsigned i = 0; i < AGENT_QUEUES; i++) {
        g->vq[i] = qvirtqueue_setup(dev, &g->alloc, i);
    }
    qvirtio_set_driver_ok(dev);
    send_control(g, 0, VIRTIO_CONSOLE_DEVICE_READY, 1);
    send_control(g, PORT, VIRTIO_CONSOLE_PORT_READY, 1);
    for (unsigned i = 0; i < AGENT_BUFFERS; i++) {
        g->buffer[i] = guest_alloc(&g->alloc, BUFFER_SIZE);
        offer(g, g->buffer[i]);
    }
}

static QTestState *start(AgentGuest *g, const char *incoming)
{
    return qtest_initf(MACHINE "-chardev socket,id=qga,server=on,wait=off,"
                       "path=%s -device virtio-serial-pci,addr=%x "
                       "-device virtserialport,id=port,nr=%d,chardev=qga,"
                       "name=org.qemu.guest_agent.0 %s %s", g->socket, SLOT,
                       PORT, g->more, incoming);
}

AgentGuest *agent_guest_start(const char *more)
{
    AgentGuest *g = g_new0(AgentGuest, 1);
    g_autofree char *folder = g_dir_make_tmp("agent-XXXXXX", NULL);

    g->heard = g_string_new(NULL);
    g->more = g_strdup(more);
    g->socket = g_build_filename(folder, "qga", NULL);
    g->qts = start(g, "");
    pc_alloc_init(&g->alloc, g->qts, 0);
    g->bus = qpci_new_pc(g->qts, &g->alloc);
    disk_listen(g->qts);
    boot(g);
    return g;
}

void agent_guest_end(AgentGuest *g)
{
    g_autofree char *folder = g_path_get_dirname(g->socket);

    for (unsigned i = 0; i < AGENT_QUEUES; i++) {
        qvirtqueue_cleanup(g->dev->vdev.bus, g->vq[i], &g->alloc);
    }
    qos_object_destroy((QOSGraphObject *)g->dev);
    qpci_free_pc(g->bus);
    alloc_destroy(&g->alloc);
    qtest_quit(g->qts);
    unlink(g->socket);
    g_assert_cmpint(rmdir(folder), ==, 0);
    g_string_free(g->heard, true);
    g_free(g->more);
    g_free(g->socket);
    g_free(g);
}

void agent_guest_migrate(AgentGuest *g)
{
    g_autofree char *uri = g_strdup_printf("unix:%s.mig", g->socket);
    QTestState *dst = start(g, "-incoming defer");

    qtest_qmp_assert_success(dst, "{'execute': 'migrate-incoming', "
                             "'arguments': {'uri': %s}}", uri);
    qtest_qmp_assert_success(g->qts, "{'execute': 'migrate', "
                             "'arguments': {'uri': %s}}", uri);
    qtest_qmp_eventwait(dst, "RESUME");
    qtest_quit(g->qts);
    /* The driver is where its guest is. */
    g->qts = g->bus->qts = dst;
    disk_listen(dst);
    unlink(strchr(uri, ':') + 1);
}

void agent_guest_open(AgentGuest *g, bool open)
{
    send_control(g, PORT, VIRTIO_CONSOLE_PORT_OPEN, open);
}

int agent_guest_connect(AgentGuest *g)
{
    int fd = unix_connect(g->socket, &error_abort);

    /* QEMU takes it in its main loop, and so before a command. */
    disk_count(g->qts, "query-disks");
    return fd;
}

/* The agent */

void agent_guest_says(AgentGuest *g, const char *text)
{
    send_out(g, PORT_OUT, text, strlen(text));
}

static bool hear(AgentGuest *g)
{
    g_autofree char *data = NULL;
    uint32_t head, len;
    uint64_t at;

    if (!qvirtqueue_get_buf(g->qts, g->vq[PORT_IN], &head, &len)) {
        return false;
    }
    /* Heads are given out in order, and each has a buffer of its own. */
    at = g->buffer[head % AGENT_BUFFERS];
    data = g_malloc(len);
    qtest_memread(g->qts, at, data, len);
    g_string_append_len(g->heard, data, len);
    offer(g, at);
    return true;
}

static QDict *next_command(AgentGuest *g)
{
    gint64 end = g_get_monotonic_time() + DISK_TIMEOUT_US;
    const char *line, *sentinel;
    QDict *cmd;

    while (!memchr(g->heard->str, '\n', g->heard->len)) {
        if (!hear(g)) {
            g_assert_cmpint(g_get_monotonic_time(), <, end);
            g_usleep(DISK_ROUND_US);
        }
    }
    line = g->heard->str;
    *strchr(line, '\n') = 0;
    sentinel = strrchr(line, '\xff');
    cmd = qobject_to(QDict, qobject_from_json(sentinel ? sentinel + 1 : line,
                                              &error_abort));
    g_string_erase(g->heard, 0, strlen(line) + 1);
    return cmd;
}

QDict *agent_guest_hears(AgentGuest *g, const char *command)
{
    QDict *cmd = next_command(g);
    QDict *args = qdict_get_qdict(cmd, "arguments");

    g_assert_cmpstr(qdict_get_str(cmd, "execute"), ==, command);
    qobject_ref(args);
    qobject_unref(cmd);
    return args;
}

void agent_guest_syncs(AgentGuest *g)
{
    QDict *args = agent_guest_hears(g, "guest-sync-delimited");
    g_autofree char *text = g_strdup_printf("\xff{\"return\": %" PRId64 "}\n",
                                            qdict_get_int(args, "id"));

    qobject_unref(args);
    agent_guest_says(g, text);
}

bool agent_guest_is_silent(AgentGuest *g)
{
    gint64 end = g_get_monotonic_time() + SILENCE_US;

    while (g_get_monotonic_time() < end) {
        if (g->heard->len || hear(g)) {
            return false;
        }
        g_usleep(DISK_ROUND_US);
    }
    return true;
}
