/*
 * Migration pipeline: multifd that compresses where that pays
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/migration.h"
#include "migration/options.h"
#include "qemu/stats64.h"
#include "qemu/timer.h"
#include "adaptive.h"
#include "choice.h"

static struct {
    bool on;
    const MultiFDMethods *raw, *zstd;
    Stat64 pages[PACKET_METHODS];
    /* of each channel; its thread's own, and the choice and iovs go with it */
    PacketChoice choice[UINT8_MAX + 1];
} adaptive;

bool migration_adaptive_available(void)
{
#ifdef CONFIG_ZSTD
    return true;
#else
    return false;
#endif
}

void migration_adaptive_set(bool on)
{
    adaptive.on = on && migration_adaptive_available();
    stat64_init(&adaptive.pages[PACKET_RAW], 0);
    stat64_init(&adaptive.pages[PACKET_ZSTD], 0);
}

void migration_adaptive_stop(void)
{
    adaptive.on = false;
}

void migration_adaptive_pages(uint64_t *raw, uint64_t *compressed)
{
    *raw = stat64_get(&adaptive.pages[PACKET_RAW]);
    *compressed = stat64_get(&adaptive.pages[PACKET_ZSTD]);
}

/*
 * Both methods use p->iov; the raw one needs more of them.  Only zstd uses
 * p->compress_data.
 */
static int adaptive_send_setup(MultiFDSendParams *p, Error **errp)
{
    int ret = adaptive.zstd->send_setup(p, errp);

    if (ret) {
        return ret;
    }
    g_clear_pointer(&p->iov, g_free);
    adaptive.choice[p->id] = (PacketChoice) { 0 };
    return adaptive.raw->send_setup(p, errp);
}

static void adaptive_send_cleanup(MultiFDSendParams *p, Error **errp)
{
    adaptive.zstd->send_cleanup(p, errp);
}

static int adaptive_send_prepare(MultiFDSendParams *p, Error **errp)
{
    unsigned pages = p->data->u.ram.num;
    int64_t now = qemu_clock_get_us(QEMU_CLOCK_REALTIME);
    PacketMethod m = packet_choice_next(&adaptive.choice[p->id], now, pages);

    stat64_add(&adaptive.pages[m], pages);
    return (m == PACKET_ZSTD ? adaptive.zstd : adaptive.raw)->send_prepare(p,
                                                                     errp);
}

static int adaptive_recv_setup(MultiFDRecvParams *p, Error **errp)
{
    int ret = adaptive.zstd->recv_setup(p, errp);

    return ret ?: adaptive.raw->recv_setup(p, errp);
}

static void adaptive_recv_cleanup(MultiFDRecvParams *p)
{
    adaptive.raw->recv_cleanup(p);
    adaptive.zstd->recv_cleanup(p);
}

/* Each method refuses flags that are not its own. */
static int adaptive_recv(MultiFDRecvParams *p, Error **errp)
{
    bool zstd = (p->flags & MULTIFD_FLAG_COMPRESSION_MASK) ==
                MULTIFD_FLAG_ZSTD;

    return (zstd ? adaptive.zstd : adaptive.raw)->recv(p, errp);
}

static const MultiFDMethods adaptive_ops = {
    .send_setup = adaptive_send_setup,
    .send_cleanup = adaptive_send_cleanup,
    .send_prepare = adaptive_send_prepare,
    .recv_setup = adaptive_recv_setup,
    .recv_cleanup = adaptive_recv_cleanup,
    .recv = adaptive_recv,
};

const MultiFDMethods *migration_adaptive_ops(const MultiFDMethods **ops)
{
    if (!adaptive.on) {
        return NULL;
    }
    adaptive.raw = ops[MULTIFD_COMPRESSION_NONE];
    adaptive.zstd = ops[MULTIFD_COMPRESSION_ZSTD];
    assert(adaptive.raw && adaptive.zstd);
    return &adaptive_ops;
}
