/*
 * Migration pipeline: the greeting
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "exec/target_page.h"
#include "io/channel-socket.h"
#include "io/channel-tls.h"
#include "io/channel-wake.h"
#include "migration/channel.h"
#include "migration/migration.h"
#include "migration/misc.h"
#include "migration/options.h"
#include "migration/postcopy-ram.h"
#include "migration/tls.h"
#include "qapi/error.h"
#include "qemu/bswap.h"
#include "qemu/coroutine.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "system/runstate.h"
#include "adaptive.h"
#include "current.h"
#include "hello.h"
#include "history.h"
#include "incoming.h"
#include "link.h"
#include "pipeline.h"
#include "trace.h"

/* Time limit for a whole message, in milliseconds */
#define HELLO_TIMEOUT       10000
/* How often a waiting coroutine checks whether to stop, in milliseconds */
#define HELLO_LOOK          100
/* Maximum number of channels that we wait for; also upstream's limit */
#define HELLO_CHANNELS_MAX  255

/* A connection and its coroutine */
typedef struct Hello {
    QIOChannel *ioc;            /* a reference */
    QEMUTimer *timer;
    int64_t deadline;           /* in milliseconds; INT64_MAX: none */
    MigrationState *s;          /* source only */
    char *hostname;             /* source only */
    Error *err;                 /* source only: error of the greeting */
    void *listener;             /* destination only: its listener */
    bool go_on;                 /* destination only: the stream follows */
} Hello;

/* Destination, main thread */
struct PipelineHello {
    bool agreed;                /* negotiated settings apply */
    /* as the user had them */
    bool multifd, postcopy_ram;
    uint8_t channels;
};

PipelineHello *migration_hello_new(void)
{
    return g_new0(PipelineHello, 1);
}

/* Connections */

static int64_t hello_now(void)
{
    return qemu_clock_get_ms(QEMU_CLOCK_REALTIME);
}

static void hello_look(void *opaque)
{
    Hello *h = opaque;

    timer_mod(h->timer, hello_now() + HELLO_LOOK);
    if (hello_now() - HELLO_TIMEOUT >= h->deadline) {
        /* A coroutine that is blocked in a write checks no deadline. */
        qio_channel_shutdown(h->ioc, QIO_CHANNEL_SHUTDOWN_BOTH, NULL);
    }
    qio_channel_wake_read(h->ioc);
    qio_channel_wake_write(h->ioc);
}

/*
 * The end of the device state and the destination's reply are short.  During
 * the blackout they must not wait for a delayed acknowledgement of 40 ms.
 */
static void hello_hurry(QIOChannel *ioc)
{
    qio_channel_set_delay(ioc, false);
}

static Hello *hello_new(QIOChannel *ioc)
{
    Hello *h = g_new0(Hello, 1);

    h->ioc = ioc;
    object_ref(OBJECT(ioc));
    h->timer = timer_new_ms(QEMU_CLOCK_REALTIME, hello_look, h);
    timer_mod(h->timer, hello_now() + HELLO_LOOK);
    h->deadline = INT64_MAX;
    qio_channel_set_blocking(ioc, false, NULL);
    return h;
}

static void hello_free(Hello *h)
{
    timer_free(h->timer);
    object_unref(OBJECT(h->ioc));
    g_free(h->hostname);
    g_free(h);
}

/* Wait until there is something to read.  False on cancel or timeout. */
static bool coroutine_fn hello_co_wait(Hello *h, Error **errp)
{
    if (h->s && h->s->state != MIGRATION_STATUS_SETUP) {
        error_setg(errp, "the migration was cancelled");
        return false;
    }
    if (hello_now() >= h->deadline) {
        error_setg(errp, "no complete greeting came within %d seconds",
                   HELLO_TIMEOUT / 1000);
        return false;
    }
    qio_channel_yield(h->ioc, G_IO_IN);
    return true;
}

/* Read @len bytes; @flags as for qio_channel_readv_full(). */
static bool coroutine_fn hello_co_read(Hello *h, void *buf, size_t len,
                                       int flags, Error **errp)
{
    size_t have = 0;

    while (have < len) {
        struct iovec iov = { (char *)buf + have, len - have };
        ssize_t n = qio_channel_readv_full(h->ioc, &iov, 1, NULL, NULL, flags,
                                           errp);

        if (n == 0) {
            error_setg(errp, "the connection was closed");
            return false;
        }
        if (n < 0 && n != QIO_CHANNEL_ERR_BLOCK) {
            return false;
        }
        if (n > 0 && !(flags & QIO_CHANNEL_READ_FLAG_MSG_PEEK)) {
            have += n;
        } else if (n == len) {
            return true;
        } else if (n > 0) {
            /* Too few bytes to peek at: the channel stays readable, so poll. */
            h->deadline = MIN(h->deadline, hello_now() + HELLO_TIMEOUT);
            qemu_co_sleep_ns(QEMU_CLOCK_REALTIME, SCALE_MS);
            if (hello_now() >= h->deadline) {
                error_setg(errp, "no more than %zd bytes came", n);
                return false;
            }
        } else if (!hello_co_wait(h, errp)) {
            return false;
        }
    }
    return true;
}

static bool coroutine_fn hello_co_receive(Hello *h, HelloMessage *hello,
                                          char **text, Error **errp)
{
    uint8_t buf[sizeof(HelloMessage) + HELLO_TEXT_MAX];
    size_t len;

    h->deadline = hello_now() + HELLO_TIMEOUT;
    if (!hello_co_read(h, buf, HELLO_HEAD, 0, errp)) {
        return false;
    }
    len = migration_hello_length(buf, errp);
    return len &&
           hello_co_read(h, buf + HELLO_HEAD, len - HELLO_HEAD, 0, errp) &&
           migration_hello_decode(buf, len, hello, text, errp);
}

static bool coroutine_fn hello_co_send(Hello *h, HelloMessage *hello,
                                       const char *text, Error **errp)
{
    g_autoptr(GByteArray) bytes = NULL;

    hello->page_size = qemu_target_page_size();
    bytes = migration_hello_encode(hello, text);
    return qio_channel_write_all(h->ioc, (char *)bytes->data, bytes->len,
                                 errp) == 0;
}

/* Source */

static bool hello_is_yes(const HelloMessage *theirs, const char *text,
                         Error **errp)
{
    if (theirs->type == HELLO_YES) {
        return true;
    }
    error_setg(errp, "the destination refuses: %s",
               theirs->type == HELLO_NO ? text : "unknown answer");
    return false;
}

/*
 * Send HELLO_PROBE_BYTES.  Returns bytes per second until the last one has
 * arrived, or the kernel's rate if that is higher, since it does not depend on
 * the main loops; 0 and an error if they do not arrive.
 */
static double coroutine_fn hello_co_probe(Hello *h, Error **errp)
{
    g_autofree char *text = NULL, *zeroes = g_malloc0(MiB);
    int64_t begun = qemu_clock_get_us(QEMU_CLOCK_REALTIME);
    HelloMessage done;
    double rate;

    h->deadline = hello_now() + HELLO_TIMEOUT;
    for (size_t sent = 0; sent < HELLO_PROBE_BYTES; sent += MiB) {
        if (qio_channel_write_all(h->ioc, zeroes, MiB, errp) < 0) {
            return 0;
        }
    }
    if (!hello_co_receive(h, &done, &text, errp)) {
        return 0;
    }
    rate = HELLO_PROBE_BYTES * 1e6 /
           MAX(1, qemu_clock_get_us(QEMU_CLOCK_REALTIME) - begun);
    return MAX(rate, migration_link_rate_at_least(h->ioc));
}

static bool coroutine_fn hello_co_greet(Hello *h, Error **errp)
{
    g_autofree char *text = NULL;
    HelloMessage ours = { .type = HELLO_GO }, theirs;
    int64_t begun = qemu_clock_get_us(QEMU_CLOCK_REALTIME);

    migration_pipeline_offer(NULL, &ours.features, &ours.channels);
    if (!hello_co_send(h, &ours, NULL, errp) ||
        !hello_co_receive(h, &theirs, &text, errp)) {
        error_prepend(errp, "no answer to the pipeline's greeting: ");
        error_append_hint(errp, "A destination that knows no pipeline takes "
                          "only what 'migrate' sends.\n");
        return false;
    }
    if (!hello_is_yes(&theirs, text, errp)) {
        return false;
    }
    trace_migration_pipeline_hello(ours.features, theirs.features,
                                   theirs.channels,
                                   qemu_clock_get_us(QEMU_CLOCK_REALTIME) -
                                   begun);
    migration_history_round_trip(migration_link_round_trip(h->ioc));
    migration_pipeline_accepted(ours.features & theirs.features);
    return true;
}

static bool coroutine_fn hello_co_ask(Hello *h, const PipelineGoal *goal,
                                      HelloAnswer *answer, Error **errp)
{
    g_autofree char *text = NULL;
    HelloMessage ours = { .type = HELLO_ASK }, theirs;
    int64_t begun = qemu_clock_get_us(QEMU_CLOCK_REALTIME);

    migration_pipeline_offer(goal, &ours.features, &ours.channels);
    ours.features |= HELLO_PROBE;
    if (!hello_co_send(h, &ours, NULL, errp) ||
        !hello_co_receive(h, &theirs, &text, errp)) {
        error_prepend(errp, "the destination does not answer: ");
        return false;
    }
    if (!hello_is_yes(&theirs, text, errp)) {
        return false;
    }
    answer->features = ours.features & theirs.features;
    answer->round_trip = qemu_clock_get_us(QEMU_CLOCK_REALTIME) - begun;
    answer->wire = migration_link_round_trip(h->ioc);
    if (answer->features & HELLO_PROBE) {
        answer->bandwidth = hello_co_probe(h, errp);
        if (!answer->bandwidth) {
            error_prepend(errp, "the link cannot be measured: ");
            return false;
        }
    }
    return true;
}

bool coroutine_fn migration_hello_co_ask(QIOChannel *ioc,
                                         const PipelineGoal *goal,
                                         HelloAnswer *answer, Error **errp)
{
    Hello *h = hello_new(ioc);
    bool ok = hello_co_ask(h, goal, answer, errp);

    hello_free(h);
    return ok;
}

/* The next step queries the disks, which must not happen in a coroutine. */
static void hello_connect_bh(void *opaque)
{
    Hello *h = opaque;

    migration_pipeline_greeted();
    migration_channel_connect(h->s, h->ioc, h->hostname,
                              g_steal_pointer(&h->err));
    hello_free(h);
}

static void coroutine_fn hello_co_connect(void *opaque)
{
    Hello *h = opaque;

    if (!hello_co_greet(h, &h->err) && h->s->state != MIGRATION_STATUS_SETUP) {
        /* Cancelled: end as for a cancel right after connecting. */
        qio_channel_shutdown(h->ioc, QIO_CHANNEL_SHUTDOWN_BOTH, NULL);
        error_free(h->err);
        h->err = NULL;
    }
    aio_bh_schedule_oneshot(qemu_get_aio_context(), hello_connect_bh, h);
}

bool migration_hello_connect(MigrationState *s, QIOChannel *ioc,
                             const char *hostname, Error *error)
{
    Hello *h;

    /* After a cancel no other mode is tried. */
    migration_pipeline_reached(!error || s->state != MIGRATION_STATUS_SETUP);
    if (!error) {
        hello_hurry(ioc);
    }
    if (error || !migration_pipeline_greets(s) ||
        migrate_channel_requires_tls_upgrade(ioc) ||
        (!object_dynamic_cast(OBJECT(ioc), TYPE_QIO_CHANNEL_TLS) &&
         !object_dynamic_cast(OBJECT(ioc), TYPE_QIO_CHANNEL_SOCKET))) {
        return false;
    }
    h = hello_new(ioc);
    h->s = s;
    h->hostname = g_strdup(hostname);
    qemu_coroutine_enter(qemu_coroutine_create(hello_co_connect, h));
    return true;
}

/* Destination */

/* The subset of @features that we accept */
static uint64_t hello_accepts(uint64_t features, Error **errp)
{
    uint64_t accepts = features & (HELLO_MULTIFD | HELLO_POSTCOPY |
                                   HELLO_ADAPTIVE | HELLO_PROBE |
                                   HELLO_DELTA | HELLO_HISTORY);

    if (!(accepts & HELLO_MULTIFD) || !migration_adaptive_available()) {
        accepts &= ~HELLO_ADAPTIVE;
    }
    if (!(accepts & HELLO_ADAPTIVE)) {
        accepts &= ~HELLO_DELTA;
    }
    if (accepts & HELLO_POSTCOPY &&
        !postcopy_ram_supported_by_host(migration_incoming_get_current(),
                                        errp)) {
        accepts &= ~HELLO_POSTCOPY;
    }
    return accepts;
}

static bool hello_check(const HelloMessage *hello, uint64_t *accepts,
                        Error **errp)
{
    MigrationIncomingState *mis = migration_incoming_get_current();
    Error *err = NULL;

    if (hello->type != HELLO_ASK && hello->type != HELLO_GO) {
        error_setg(errp, "a message of type %u is no greeting", hello->type);
        return false;
    }
    if (!runstate_check(RUN_STATE_INMIGRATE) || mis->from_src_file ||
        mis->pipeline->hello->agreed) {
        error_setg(errp, "no migration is waited for, or one has begun");
        return false;
    }
    if (hello->page_size != qemu_target_page_size()) {
        error_setg(errp, "pages have %zu bytes here, not %u",
                   qemu_target_page_size(), hello->page_size);
        return false;
    }
    if (hello->features & HELLO_MULTIFD &&
        (!hello->channels || hello->channels > HELLO_CHANNELS_MAX)) {
        error_setg(errp, "%u channels, instead of 1 to %u", hello->channels,
                   HELLO_CHANNELS_MAX);
        return false;
    }
    *accepts = hello_accepts(hello->features, &err);
    if (hello->required & ~*accepts) {
        error_setg(errp, "features 0x%" PRIx64 " are missing%s%s",
                   hello->required & ~*accepts, err ? ": " : "",
                   err ? error_get_pretty(err) : "");
        error_free(err);
        return false;
    }
    error_free(err);
    return true;
}

static void hello_agree(uint64_t accepts, unsigned channels)
{
    PipelineHello *p = migration_pipeline_incoming()->hello;
    MigrationState *s = migrate_get_current();
    bool *caps = s->capabilities;

    p->agreed = true;
    p->multifd = caps[MIGRATION_CAPABILITY_MULTIFD];
    p->postcopy_ram = caps[MIGRATION_CAPABILITY_POSTCOPY_RAM];
    p->channels = s->parameters.multifd_channels;

    caps[MIGRATION_CAPABILITY_MULTIFD] = accepts & HELLO_MULTIFD;
    caps[MIGRATION_CAPABILITY_POSTCOPY_RAM] = accepts & HELLO_POSTCOPY;
    migration_adaptive_set(accepts & HELLO_ADAPTIVE, accepts & HELLO_DELTA);
    if (accepts & HELLO_MULTIFD) {
        s->parameters.multifd_channels = channels;
    }
}

void migration_hello_end(void)
{
    PipelineHello *p = migration_pipeline_incoming()->hello;
    MigrationState *s = migrate_get_current();

    if (p->agreed) {
        p->agreed = false;
        s->capabilities[MIGRATION_CAPABILITY_MULTIFD] = p->multifd;
        s->capabilities[MIGRATION_CAPABILITY_POSTCOPY_RAM] = p->postcopy_ram;
        s->parameters.multifd_channels = p->channels;
        migration_adaptive_set(false, false);
    }
}

/* Receive a probe of the link, and confirm it. */
static bool coroutine_fn hello_co_probed(Hello *h, HelloMessage *ours,
                                         Error **errp)
{
    g_autofree char *buf = g_malloc(MiB);

    h->deadline = hello_now() + HELLO_TIMEOUT;
    for (size_t have = 0; have < HELLO_PROBE_BYTES; have += MiB) {
        if (!hello_co_read(h, buf, MiB, 0, errp)) {
            return false;
        }
    }
    return hello_co_send(h, ours, NULL, errp);
}

/* True if the stream follows. */
static bool coroutine_fn hello_co_answer(Hello *h, Error **errp)
{
    g_autofree char *text = NULL;
    HelloMessage theirs, ours = { .type = HELLO_YES };
    Error *refusal = NULL;
    bool probe;

    if (!hello_co_receive(h, &theirs, &text, errp)) {
        return false;
    }
    if (!hello_check(&theirs, &ours.features, &refusal)) {
        ours.type = HELLO_NO;
        hello_co_send(h, &ours, error_get_pretty(refusal), NULL);
        error_propagate(errp, refusal);
        return false;
    }
    ours.channels = theirs.channels;
    if (theirs.type == HELLO_GO) {
        hello_agree(ours.features, theirs.channels);
    }
    probe = theirs.type == HELLO_ASK && ours.features & HELLO_PROBE;
    if (!hello_co_send(h, &ours, NULL, errp) ||
        (probe && !hello_co_probed(h, &ours, errp))) {
        migration_hello_end();
        return false;
    }
    return theirs.type == HELLO_GO;
}

/* Wait for the stream; the source may be gone. */
static bool coroutine_fn hello_co_stream(Hello *h, Error **errp)
{
    uint8_t byte;

    h->deadline = INT64_MAX;
    if (!hello_co_read(h, &byte, 1, QIO_CHANNEL_READ_FLAG_MSG_PEEK, errp)) {
        migration_hello_end();
        return false;
    }
    return true;
}

static void hello_accept_bh(void *opaque)
{
    Hello *h = opaque;
    MigrationIncomingState *mis = migration_incoming_get_current();

    if (mis->transport_data != h->listener || migration_has_all_channels()) {
        trace_migration_pipeline_hello_late();
    } else if (h->go_on) {
        qio_channel_set_blocking(h->ioc, true, NULL);
        migration_channel_process_incoming(h->ioc);
    }
    hello_free(h);
}

static void coroutine_fn hello_co_accept(void *opaque)
{
    Hello *h = opaque;
    Error *err = NULL;
    uint32_t magic = 0;

    h->go_on = true;
    if (!hello_co_read(h, &magic, sizeof(magic),
                       QIO_CHANNEL_READ_FLAG_MSG_PEEK, NULL)) {
        /* Upstream would block all else while it waits for the rest. */
        h->go_on = h->deadline == INT64_MAX;
    } else if (be32_to_cpu(magic) == HELLO_MAGIC) {
        h->go_on = hello_co_answer(h, &err) && hello_co_stream(h, &err);
        if (err) {
            warn_report_err(err);
        }
    }
    aio_bh_schedule_oneshot(qemu_get_aio_context(), hello_accept_bh, h);
}

void migration_hello_accept(QIOChannel *ioc)
{
    MigrationIncomingState *mis = migration_incoming_get_current();
    Hello *h;

    hello_hurry(ioc);
    /*
     * A recovering migration is past its greeting, if it had one, and its
     * listener may run in a monitor's thread.  The channel of postcopy-preempt
     * has nothing to peek at for a long time.
     */
    if (mis->state != MIGRATION_STATUS_SETUP || migrate_postcopy_preempt() ||
        migrate_channel_requires_tls_upgrade(ioc)) {
        migration_channel_process_incoming(ioc);
        return;
    }
    /*
     * A TLS channel can be peeked at only in a coroutine, as here: in
     * migration_ioc_process_incoming() that would block the other channels,
     * whose handshakes the source is waiting for.
     */
    if (object_dynamic_cast(OBJECT(ioc), TYPE_QIO_CHANNEL_TLS)) {
        qio_channel_set_feature(ioc, QIO_CHANNEL_FEATURE_READ_MSG_PEEK);
    }
    h = hello_new(ioc);
    h->listener = mis->transport_data;
    qemu_coroutine_enter(qemu_coroutine_create(hello_co_accept, h));
}
