/*
 * A proxy between source and destination that loses the last message
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "qemu/bswap.h"
#include "qemu/cutils.h"
#include "proxy.h"

/* The last message of the return path */
#define RP_MSG_SHUT         1

static struct sockaddr_un unix_address(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };

    g_assert_cmpint(strlen(path), <, sizeof(addr.sun_path));
    pstrcpy(addr.sun_path, sizeof(addr.sun_path), path);
    return addr;
}

/* Pass on one message of the return path; false when it is the last one */
static bool proxy_return_path(int from, int to)
{
    uint16_t header[2];         /* type, length */
    uint8_t data[UINT16_MAX];
    uint16_t len;

    if (recv(from, header, sizeof(header), MSG_WAITALL) != sizeof(header) ||
        be16_to_cpu(header[0]) == RP_MSG_SHUT) {
        return false;
    }
    len = be16_to_cpu(header[1]);
    return recv(from, data, len, MSG_WAITALL) == len &&
        send(to, header, sizeof(header), MSG_NOSIGNAL) == sizeof(header) &&
        send(to, data, len, MSG_NOSIGNAL) == len;
}

static void *proxy_thread(void *opaque)
{
    Proxy *p = opaque;
    struct sockaddr_un to = unix_address(p->to);
    struct pollfd fds[2] = { { .events = POLLIN }, { .events = POLLIN } };
    uint8_t buf[64 * KiB];
    ssize_t len;

    fds[0].fd = accept(p->listen_fd, NULL, NULL);
    fds[1].fd = socket(AF_UNIX, SOCK_STREAM, 0);
    g_assert_cmpint(fds[0].fd, >=, 0);
    g_assert_cmpint(connect(fds[1].fd, (struct sockaddr *)&to, sizeof(to)),
                    ==, 0);

    while (!p->cut) {
        g_assert_cmpint(RETRY_ON_EINTR(poll(fds, 2, -1)), >, 0);
        if (fds[0].revents) {
            len = read(fds[0].fd, buf, sizeof(buf));
            if (len <= 0) {
                break;
            }
            g_assert_cmpint(send(fds[1].fd, buf, len, MSG_NOSIGNAL), ==, len);
        }
        if (fds[1].revents) {
            p->cut = !proxy_return_path(fds[1].fd, fds[0].fd);
        }
    }
    close(fds[0].fd);
    close(fds[1].fd);
    return NULL;
}

void proxy_start(Proxy *p, CsvScene *s)
{
    struct sockaddr_un addr;

    *p = (Proxy) {
        .path = g_strdup_printf("%s/proxy.sock", s->dir),
        .to = s->socket,
        .listen_fd = socket(AF_UNIX, SOCK_STREAM, 0),
    };
    addr = unix_address(p->path);
    g_assert_cmpint(bind(p->listen_fd, (struct sockaddr *)&addr,
                         sizeof(addr)), ==, 0);
    g_assert_cmpint(listen(p->listen_fd, 1), ==, 0);
    p->thread = g_thread_new("proxy", proxy_thread, p);
}

void proxy_wait(Proxy *p)
{
    g_thread_join(p->thread);
    close(p->listen_fd);
    unlink(p->path);
    g_free(p->path);
}
