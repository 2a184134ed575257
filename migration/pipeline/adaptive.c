/*
 * Migration pipeline: multifd that compresses where that pays
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "io/channel.h"
#include "migration/migration.h"
#include "migration/migration-stats.h"
#include "migration/options.h"
#include "migration/ram.h"
#include "qapi/error.h"
#include "qemu/bswap.h"
#include "qemu/stats64.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "adaptive.h"
#include "choice.h"
#include "current.h"
#include "delta.h"
#include "link.h"
#include "stall.h"

/* No other method has these bits in this field. */
#define FLAG_DELTA      (3 << 1)
/*
 * Minimum cost of a page, in microseconds, for which a copy pays; copying takes
 * less than one.
 */
#define WORTH_COPY      10
/* Syncs after which pages are copied; one sync later they can be deltas. */
#define COPY_FROM       2
/*
 * Packets after which the kernel knows the link's rate, and after which an
 * unknown rate means that the link is not the limit.  Above a rate, in bytes
 * per second of one channel, measuring is better.
 */
#define ASK_LINK_AFTER  3
#define ASK_LINK_UNTIL  6
/* Times in a row that it must be slow: it also is if the receiver lags. */
#define ASK_LINK_TIMES  3
#define ASK_LINK_BELOW  200e6
/* The same if CPU time is short, which makes any link look slow */
#define ASK_BUSY_BELOW  25e6
/* Cost of work to others from which CPU time counts as short */
#define BUSY_FROM       1
/* Above this it is fast after all; some overestimates are transient. */
#define ASK_LINK_ABOVE  800e6
/* Maximum cost of a microsecond of work to others, in microseconds */
#define WORK_COSTS_MOST 3
/* Maximum size of all copies: a share of the guest's memory, and bytes */
#define COPY_SHARE      4
#define COPY_MOST       (1 * GiB)

/* State of a channel, private to its thread: its compress_data */
typedef struct AdaptiveChannel {
    void *zstd;                 /* what that method keeps there */
    PacketChoice choice;
    unsigned pauses;            /* seen at the last packet */
    unsigned slow;              /* packets in a row on a slow link */
    bool bound;                 /* unsent data is limited */
    uint8_t *buf;               /* of pages and their lengths */
} AdaptiveChannel;

struct PipelineAdaptive {
    /* written while multifd's threads do not run */
    bool on, delta;
    const MultiFDMethods *raw, *zstd;
    DeltaCopies *copies;        /* source; NULL: none are kept */

    unsigned pauses;            /* atomic */
    Stat64 pages[PACKET_METHODS];
    Stat64 rate[UINT8_MAX + 1];         /* bytes a second; 0: not known */
};

PipelineAdaptive *migration_adaptive_new(void)
{
    return g_new0(PipelineAdaptive, 1);
}

bool migration_adaptive_available(void)
{
#ifdef CONFIG_ZSTD
    return true;
#else
    return false;
#endif
}

void migration_adaptive_set(bool on, bool delta)
{
    PipelineAdaptive *a = migration_pipeline()->adaptive;

    a->on = on && migration_adaptive_available();
    a->delta = a->on && delta;
    for (unsigned i = 0; i < ARRAY_SIZE(a->rate); i++) {
        stat64_init(&a->rate[i], 0);
    }
    for (unsigned m = 0; m < PACKET_METHODS; m++) {
        stat64_init(&a->pages[m], 0);
    }
}

double migration_adaptive_link_rate(void)
{
    PipelineAdaptive *a = migration_pipeline()->adaptive;
    double rate = 0;

    for (int i = 0; a->on && i < migrate_multifd_channels(); i++) {
        double channel = stat64_get(&a->rate[i]);

        if (!channel) {
            return 0;
        }
        rate += channel;
    }
    return rate;
}

void migration_adaptive_paused(void)
{
    qatomic_inc(&migration_pipeline()->adaptive->pauses);
}

void migration_adaptive_stop(void)
{
    PipelineAdaptive *a = migration_pipeline()->adaptive;

    a->on = a->delta = false;
    g_clear_pointer(&a->copies, delta_copies_free);
}

void migration_adaptive_pages(uint64_t *raw, uint64_t *compressed,
                              uint64_t *deltas)
{
    PipelineAdaptive *a = migration_pipeline()->adaptive;

    *raw = stat64_get(&a->pages[PACKET_RAW]);
    *compressed = stat64_get(&a->pages[PACKET_ZSTD]);
    *deltas = stat64_get(&a->pages[PACKET_DELTA]);
}

static AdaptiveChannel *adaptive_channel_new(void *zstd)
{
    AdaptiveChannel *c = g_new0(AdaptiveChannel, 1);

    c->zstd = zstd;
    c->choice.fast = true;
    if (migration_pipeline()->adaptive->delta) {
        c->buf = g_malloc(DELTA_MOST(multifd_ram_page_count(),
                                     multifd_ram_page_size()));
    }
    return c;
}

/* Returns what zstd has to clean up. */
static void *adaptive_channel_free(AdaptiveChannel *c)
{
    void *zstd = c->zstd;

    g_free(c->buf);
    g_free(c);
    return zstd;
}

/*
 * All methods use p->iov; the raw one needs more of them.  Only zstd uses
 * p->compress_data, and finds its own there when it is called.
 */
static int adaptive_send_setup(MultiFDSendParams *p, Error **errp)
{
    PipelineAdaptive *a = migration_pipeline()->adaptive;
    int ret = a->zstd->send_setup(p, errp);

    if (ret) {
        return ret;
    }
    g_clear_pointer(&p->iov, g_free);
    p->compress_data = adaptive_channel_new(p->compress_data);
    if (!p->id && a->delta) {
        delta_copies_free(a->copies);
        a->copies = delta_copies_new(MIN(ram_bytes_total() / COPY_SHARE,
                                         COPY_MOST));
    }
    return a->raw->send_setup(p, errp);
}

static void adaptive_send_cleanup(MultiFDSendParams *p, Error **errp)
{
    /* There is none if the set-up failed, for this channel or before it. */
    if (p->compress_data) {
        p->compress_data = adaptive_channel_free(p->compress_data);
        migration_pipeline()->adaptive->zstd->send_cleanup(p, errp);
    }
}

/* Do copies of pages pay now? */
static bool adaptive_copies(const AdaptiveChannel *c)
{
    return migration_pipeline()->adaptive->delta &&
           c->choice.cost[PACKET_RAW] > WORTH_COPY &&
           stat64_get(&mig_stats.dirty_sync_count) >= COPY_FROM;
}

/* Number of available methods; deltas are the last one. */
static unsigned adaptive_methods(const AdaptiveChannel *c)
{
    return c->choice.best == PACKET_DELTA ||
           (adaptive_copies(c) &&
            stat64_get(&mig_stats.dirty_sync_count) > COPY_FROM) ?
           PACKET_METHODS : PACKET_DELTA;
}

/* Zero pages follow the normal ones. */
static void adaptive_forget_zeroes(const MultiFDPages_t *pages,
                                   DeltaShadow *shadow)
{
    for (unsigned i = pages->normal_num; i < pages->num; i++) {
        delta_forget(shadow, pages->offset[i]);
    }
}

/* A packet of deltas */
static int adaptive_prepare_delta(MultiFDSendParams *p, DeltaShadow *shadow)
{
    MultiFDPages_t *pages = &p->data->u.ram;
    AdaptiveChannel *c = p->compress_data;
    uint8_t *codes = c->buf, *at;

    if (multifd_send_prepare_common(p)) {
        at = codes + pages->normal_num * sizeof(uint16_t);
        for (unsigned i = 0; i < pages->normal_num; i++) {
            uint16_t code;

            at += delta_encode(shadow, pages->offset[i], at, &code);
            stw_be_p(codes + i * sizeof(code), code);
        }
        p->next_packet_size = at - codes;
        p->iov[p->iovs_num++] = (struct iovec) { codes, at - codes };
    }
    adaptive_forget_zeroes(pages, shadow);
    p->flags |= FLAG_DELTA;
    multifd_send_fill_packet(p);
    return 0;
}

/* A packet of raw or compressed pages */
static int adaptive_prepare_whole(MultiFDSendParams *p, PacketMethod m,
                                  Error **errp)
{
    PipelineAdaptive *a = migration_pipeline()->adaptive;
    AdaptiveChannel *c = p->compress_data;
    int ret;

    if (m == PACKET_RAW) {
        return a->raw->send_prepare(p, errp);
    }
    p->compress_data = c->zstd;
    ret = a->zstd->send_prepare(p, errp);
    p->compress_data = c;
    return ret;
}

/* The same from copies, so that what was sent is known */
static int adaptive_prepare_copied(MultiFDSendParams *p, DeltaShadow *shadow,
                                   PacketMethod m, Error **errp)
{
    MultiFDPages_t *pages = &p->data->u.ram;
    RAMBlock *block = pages->block;
    int ret;

    for (unsigned i = 0; i < pages->num; i++) {
        delta_copy(shadow, pages->offset[i]);
    }
    pages->block = delta_shadow_block(shadow);
    ret = adaptive_prepare_whole(p, m, errp);
    pages->block = block;
    adaptive_forget_zeroes(pages, shadow);
    return ret;
}

/* Asking the kernel about the link avoids many trials. */
static void adaptive_ask_link(MultiFDSendParams *p, AdaptiveChannel *c)
{
    PacketChoice *choice = &c->choice;
    size_t page = multifd_ram_page_size();
    double below = choice->work_costs < BUSY_FROM ? ASK_LINK_BELOW :
                                                    ASK_BUSY_BELOW;
    double rate;

    if ((choice->cost[PACKET_RAW] && !choice->told) ||
        choice->packets < ASK_LINK_AFTER) {
        return;
    }
    rate = migration_link_rate(p->c);
    stat64_set(&migration_pipeline()->adaptive->rate[p->id], rate);
    if (rate > 0 && rate < below) {
        if (++c->slow >= ASK_LINK_TIMES) {
            packet_choice_know_raw(choice, page * 1e6 / rate, page);
        }
        return;
    }
    c->slow = 0;
    if (choice->told ? rate > ASK_LINK_ABOVE :
        rate > 0 || choice->packets >= ASK_LINK_UNTIL) {
        packet_choice_know_raw(choice, 0, page);
    }
}

/*
 * Not in the first pass: there, unsent data does not add to the blackout, and
 * keeps the link busy while zero pages are skipped.
 */
static void adaptive_bound(MultiFDSendParams *p, AdaptiveChannel *c)
{
    if (!c->bound && stat64_get(&mig_stats.dirty_sync_count) > 1) {
        migration_link_bound(p->c);
        c->bound = true;
    }
}

/* The guest has stopped: no more trials. */
static bool adaptive_is_last(void)
{
    return qatomic_read(&migrate_get_current()->state) ==
           MIGRATION_STATUS_DEVICE;
}

/* While work waits for a CPU, other threads do, too. */
static double adaptive_work_costs(void)
{
    return MIN((migration_stall() - 1000) / 1000.0, WORK_COSTS_MOST);
}

/* Was there a pause since the last packet? */
static bool adaptive_was_paused(AdaptiveChannel *c)
{
    unsigned known = c->pauses;

    c->pauses = qatomic_read(&migration_pipeline()->adaptive->pauses);
    return c->pauses != known;
}

/* Prepare a packet by method @m */
static int adaptive_prepare(MultiFDSendParams *p, PacketMethod m,
                            Error **errp)
{
    PipelineAdaptive *a = migration_pipeline()->adaptive;
    AdaptiveChannel *c = p->compress_data;
    MultiFDPages_t *pages = &p->data->u.ram;
    DeltaShadow *shadow = NULL;

    if (a->copies) {
        shadow = delta_shadow(a->copies, pages->block, pages->offset,
                              pages->num,
                              m == PACKET_DELTA || adaptive_copies(c));
    }
    if (m == PACKET_DELTA && !shadow) {
        m = c->choice.cost[PACKET_ZSTD] < c->choice.cost[PACKET_RAW] ?
            PACKET_ZSTD : PACKET_RAW;
    }
    stat64_add(&a->pages[m], pages->num);
    if (m == PACKET_DELTA) {
        return adaptive_prepare_delta(p, shadow);
    }
    return shadow ? adaptive_prepare_copied(p, shadow, m, errp) :
                    adaptive_prepare_whole(p, m, errp);
}

static int adaptive_send_prepare(MultiFDSendParams *p, Error **errp)
{
    AdaptiveChannel *c = p->compress_data;
    MultiFDPages_t *pages = &p->data->u.ram;
    int64_t now = qemu_clock_get_us(QEMU_CLOCK_REALTIME);
    int ret;

    if (adaptive_was_paused(c)) {
        packet_choice_pause(&c->choice);
    }
    adaptive_bound(p, c);
    c->choice.last = adaptive_is_last();
    c->choice.work_costs = adaptive_work_costs();
    adaptive_ask_link(p, c);
    ret = adaptive_prepare(p, packet_choice_next(&c->choice, now,
                                                 adaptive_methods(c)), errp);
    packet_choice_sent(&c->choice, pages->normal_num, pages->num,
                       qemu_clock_get_us(QEMU_CLOCK_REALTIME) - now,
                       p->next_packet_size);
    return ret;
}

static int adaptive_recv_setup(MultiFDRecvParams *p, Error **errp)
{
    PipelineAdaptive *a = migration_pipeline()->adaptive;
    int ret = a->zstd->recv_setup(p, errp);

    if (ret) {
        /* zstd has freed what it points to. */
        p->compress_data = NULL;
        return ret;
    }
    p->compress_data = adaptive_channel_new(p->compress_data);
    return a->raw->recv_setup(p, errp);
}

static void adaptive_recv_cleanup(MultiFDRecvParams *p)
{
    PipelineAdaptive *a = migration_pipeline()->adaptive;

    /* There is none if the set-up failed, for this channel or before it. */
    if (p->compress_data) {
        p->compress_data = adaptive_channel_free(p->compress_data);
        a->raw->recv_cleanup(p);
        a->zstd->recv_cleanup(p);
    }
}

/* Decode the pages of a packet. */
static bool adaptive_unpack(MultiFDRecvParams *p, const uint8_t *codes,
                            size_t len)
{
    const uint8_t *at = codes + p->normal_num * sizeof(uint16_t);
    const uint8_t *end = codes + len;

    for (unsigned i = 0; i < p->normal_num; i++) {
        ssize_t took = delta_decode_page(lduw_be_p(codes + 2 * i), at,
                                         end - at, p->host + p->normal[i],
                                         multifd_ram_page_size());

        if (took < 0) {
            return false;
        }
        ramblock_recv_bitmap_set_offset(p->block, p->normal[i]);
        at += took;
    }
    return at == end;
}

static int adaptive_recv_delta(MultiFDRecvParams *p, Error **errp)
{
    AdaptiveChannel *c = p->compress_data;
    uint8_t *buf = c->buf;
    uint32_t len = p->next_packet_size;
    size_t least = p->normal_num * sizeof(uint16_t);
    int ret;

    multifd_recv_zero_page_process(p);
    if (!buf || len < least ||
        len > DELTA_MOST(p->normal_num, multifd_ram_page_size())) {
        error_setg(errp, "multifd %u: packet of %" PRIu32 " bytes for %"
                   PRIu32 " changed pages", p->id, len, p->normal_num);
        return -1;
    }
    ret = qio_channel_read_all(p->c, (char *)buf, len, errp);
    if (ret == 0 && !adaptive_unpack(p, buf, len)) {
        error_setg(errp, "multifd %u: damaged packet of changed pages", p->id);
        return -1;
    }
    return ret;
}

/* Each method refuses flags that are not its own. */
static int adaptive_recv(MultiFDRecvParams *p, Error **errp)
{
    PipelineAdaptive *a = migration_pipeline()->adaptive;
    AdaptiveChannel *c = p->compress_data;
    uint32_t kind = p->flags & MULTIFD_FLAG_COMPRESSION_MASK;
    int ret;

    if (kind == FLAG_DELTA) {
        return adaptive_recv_delta(p, errp);
    }
    if (kind != MULTIFD_FLAG_ZSTD) {
        return a->raw->recv(p, errp);
    }
    p->compress_data = c->zstd;
    ret = a->zstd->recv(p, errp);
    p->compress_data = c;
    return ret;
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
    PipelineAdaptive *a = migration_pipeline()->adaptive;

    if (!a->on) {
        return NULL;
    }
    a->raw = ops[MULTIFD_COMPRESSION_NONE];
    a->zstd = ops[MULTIFD_COMPRESSION_ZSTD];
    assert(a->raw && a->zstd);
    return &adaptive_ops;
}
