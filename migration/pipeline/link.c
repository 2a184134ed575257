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

/* Bytes that may wait to be sent, which is half a packet of multifd */
#define UNSENT          (256 * KiB)

/*
 * Where struct tcp_info of Linux 4.9 and later has what we want.  That of libc
 * ends before, and goes not with the kernel's header.
 */
#define APP_LIMITED     7           /* a bit, the first one of this byte */
#define DELIVERY_RATE   160         /* 64 bits */
#define INFO_SIZE       168

/* The socket below @ioc, or NULL */
static QIOChannelSocket *link_socket(QIOChannel *ioc)
{
    QIOChannelTLS *tls = (QIOChannelTLS *)
        object_dynamic_cast(OBJECT(ioc), TYPE_QIO_CHANNEL_TLS);

    return (QIOChannelSocket *)
        object_dynamic_cast(OBJECT(tls ? tls->master : ioc),
                            TYPE_QIO_CHANNEL_SOCKET);
}

double migration_link_rate(QIOChannel *ioc)
{
    QIOChannelSocket *sioc = link_socket(ioc);
    uint8_t info[INFO_SIZE] = { 0 };
    socklen_t len = sizeof(info);

    if (!sioc ||
        getsockopt(sioc->fd, IPPROTO_TCP, TCP_INFO, info, &len) < 0 ||
        len < INFO_SIZE ||
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

double migration_link_rate(QIOChannel *ioc)
{
    return 0;
}

void migration_link_bound(QIOChannel *ioc)
{
}

#endif
