/*
 * Migration pipeline: how fast the link is, as the kernel sees it
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "io/channel-socket.h"
#include "io/channel-tls.h"
#include "qemu/bswap.h"
#include "qemu/units.h"
#include "link.h"

#ifdef CONFIG_LINUX
#include <netinet/tcp.h>

/* Maximum unsent bytes, half a multifd packet */
#define UNSENT          (256 * KiB)

/*
 * Offsets in struct tcp_info of Linux 4.10 and later.  libc's struct is
 * shorter, and conflicts with the kernel's header.
 */
#define APP_LIMITED     7           /* bit 0 of this byte */
#define MIN_RTT         148         /* 32 bits; all ones: unknown */
#define DELIVERY_RATE   160         /* 64 bits */
#define BUSY_TIME       168         /* 64 bits; microseconds with data unsent */
#define RWND_LIMITED    176         /* 64 bits; part of it with a full window */
#define INFO_SIZE       184

/* The socket below @ioc, or NULL */
static QIOChannelSocket *link_socket(QIOChannel *ioc)
{
    QIOChannelTLS *tls = (QIOChannelTLS *)
        object_dynamic_cast(OBJECT(ioc), TYPE_QIO_CHANNEL_TLS);

    return (QIOChannelSocket *)
        object_dynamic_cast(OBJECT(tls ? tls->master : ioc),
                            TYPE_QIO_CHANNEL_SOCKET);
}

/* Fill @info, of INFO_SIZE bytes; false if @ioc is no TCP connection. */
static bool link_info(QIOChannel *ioc, uint8_t *info)
{
    QIOChannelSocket *sioc = link_socket(ioc);
    socklen_t len = INFO_SIZE;

    return sioc &&
           getsockopt(sioc->fd, IPPROTO_TCP, TCP_INFO, info, &len) == 0 &&
           len == INFO_SIZE;
}

int64_t migration_link_round_trip(QIOChannel *ioc)
{
    uint8_t info[INFO_SIZE] = { 0 };
    uint32_t time;

    if (!link_info(ioc, info)) {
        return 0;
    }
    time = ldl_he_p(info + MIN_RTT);
    return time == UINT32_MAX ? 0 : time;
}

double migration_link_rate_at_least(QIOChannel *ioc)
{
    uint8_t info[INFO_SIZE] = { 0 };

    return link_info(ioc, info) ? ldq_he_p(info + DELIVERY_RATE) : 0;
}

double migration_link_rate(QIOChannel *ioc)
{
    uint8_t info[INFO_SIZE] = { 0 };

    /* If the window is always full, the receiver is the bottleneck. */
    if (!link_info(ioc, info) ||
        ldq_he_p(info + RWND_LIMITED) > ldq_he_p(info + BUSY_TIME) / 2 ||
        info[APP_LIMITED] & (HOST_BIG_ENDIAN ? 0x80 : 0x01)) {
        return 0;
    }
    return ldq_he_p(info + DELIVERY_RATE);
}

void migration_link_bound(QIOChannel *ioc)
{
    QIOChannelSocket *sioc = link_socket(ioc);
    int unsent = UNSENT;

    if (sioc) {
        setsockopt(sioc->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent,
                   sizeof(unsent));
    }
}

#else

int64_t migration_link_round_trip(QIOChannel *ioc)
{
    return 0;
}

double migration_link_rate_at_least(QIOChannel *ioc)
{
    return 0;
}

double migration_link_rate(QIOChannel *ioc)
{
    return 0;
}

void migration_link_bound(QIOChannel *ioc)
{
}

#endif
