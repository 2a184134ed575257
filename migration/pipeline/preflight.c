/*
 * Migration pipeline: would this move work?
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/csv.h"
#include "exec/target_page.h"
#include "io/channel-socket.h"
#include "io/channel-tls.h"
#include "migration/migration.h"
#include "migration/misc.h"
#include "migration/options.h"
#include "migration/ram.h"
#include "migration/tls.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-migration.h"
#include "qemu/coroutine.h"
#include "qemu/main-loop.h"
#include "system/kvm.h"
#include "system/runstate.h"
#include "forecast.h"
#include "hello.h"
#include "history.h"
#include "pipeline.h"
#include "preflight.h"
#include "settings.h"
#include "stall.h"

/* How long to sample the guest's writes, in milliseconds */
#define LOOK_MIN        100
#define LOOK_MAX        1000
/* How often to check whether that is done */
#define LOOK_EVERY      (10 * SCALE_MS)
/* and how many times at most: five seconds more than needed */
#define LOOKS           (500 + LOOK_MAX / 10)
/* How long to wait for a connection, in milliseconds */
#define CONNECT_TIMEOUT 10000
/* Pages to sample in each GiB, if there is no better way */
#define LOOK_SAMPLES    4096

static void plan_obstacle(MigratePipelinePlan *plan, const char *text)
{
    QAPI_LIST_PREPEND(plan->obstacles, g_strdup(text));
}

static void plan_note(MigratePipelinePlan *plan, const char *text)
{
    QAPI_LIST_PREPEND(plan->notes, g_strdup(text));
}

/* Obstacles on this side; not in a coroutine, because it queries the disks */
static void plan_here(MigratePipelinePlan *plan, const PipelineGoal *goal)
{
    MigrationInfo *info = qmp_query_migrate(NULL);
    Error *err = NULL;
    BlockDriverState *volume;
    const char *disk;
    strList *reason;
    QemuUUID uuid;

    if (!migration_is_running()) {
        migration_history_begin(csv_handover_needed());
        migration_stall_begin();
    }
    for (reason = info->blocked_reasons; reason; reason = reason->next) {
        plan_obstacle(plan, reason->value);
    }
    qapi_free_MigrationInfo(info);
    if (!migration_settings_may_start(&err)) {
        plan_obstacle(plan, error_get_pretty(err));
        error_free(err);
    }
    if (runstate_check(RUN_STATE_INMIGRATE) ||
        runstate_check(RUN_STATE_POSTMIGRATE)) {
        plan_obstacle(plan, "the guest is not on this side");
    }
    if (goal->quick && !csv_first_disk(&disk, &uuid, &volume)) {
        plan_obstacle(plan, "no disk of the guest is in a cluster shared "
                      "volume, where its state could be");
    }
    plan_note(plan, csv_handover_needed() ?
              "the cluster shared volumes of the guest's disks decide which "
              "side runs it" :
              "no disk of the guest is in a cluster shared volume: which side "
              "runs it is decided by messages, and one that is lost can leave "
              "the guest stopped on both");
}

typedef struct Outside {
    Coroutine *co;
    MigratePipelinePlan *plan;
    const PipelineGoal *goal;
} Outside;

static void plan_here_bh(void *opaque)
{
    Outside *o = opaque;

    plan_here(o->plan, o->goal);
    aio_co_wake(o->co);
}

static void coroutine_fn plan_co_here(MigratePipelinePlan *plan,
                                      const PipelineGoal *goal)
{
    Outside o = { .co = qemu_coroutine_self(), .plan = plan, .goal = goal };

    aio_bh_schedule_oneshot(qemu_get_aio_context(), plan_here_bh, &o);
    qemu_coroutine_yield();
}

/* Shared by the waiting coroutine and the connecting task */
typedef struct Connect {
    unsigned refs;
    QIOChannelSocket *sioc;
    QIOChannelTLS *tls;         /* over it; NULL: none */
    const char *hostname;       /* valid while @co waits */
    Coroutine *co;              /* that waits; NULL: no longer */
    QEMUTimer *timer;
    bool done;
    Error *err;
} Connect;

static void connect_unref(void *opaque)
{
    Connect *c = opaque;

    if (!--c->refs) {
        object_unref(OBJECT(c->tls));
        object_unref(OBJECT(c->sioc));
        error_free(c->err);
        g_free(c);
    }
}

static void connect_wake(void *opaque)
{
    Connect *c = opaque;

    if (c->co) {
        aio_co_wake(g_steal_pointer(&c->co));
    }
}

static void connect_done(QIOTask *task, void *opaque)
{
    Connect *c = opaque;

    qio_task_propagate_error(task, &c->err);
    c->done = true;
    connect_wake(c);
}

static void connect_reached(QIOTask *task, void *opaque)
{
    Connect *c = opaque;

    if (c->co && migrate_tls() && !qio_task_propagate_error(task, &c->err)) {
        c->tls = migration_tls_client_create(QIO_CHANNEL(c->sioc), c->hostname,
                                             &c->err);
        if (c->tls) {
            c->refs++;
            qio_channel_tls_handshake(c->tls, connect_done, c, connect_unref,
                                      NULL);
            return;
        }
    }
    connect_done(task, c);
}

/* A reference to the connected channel, or NULL and an error */
static coroutine_fn QIOChannel *
plan_co_connect(const SocketAddress *addr, Error **errp)
{
    Connect *c = g_new0(Connect, 1);
    QIOChannel *ioc = NULL;

    c->refs = 2;
    c->sioc = qio_channel_socket_new();
    c->co = qemu_coroutine_self();
    if (addr->type == SOCKET_ADDRESS_TYPE_INET) {
        c->hostname = addr->u.inet.host;
    }
    c->timer = timer_new_ms(QEMU_CLOCK_REALTIME, connect_wake, c);
    timer_mod(c->timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) +
                        CONNECT_TIMEOUT);
    qio_channel_socket_connect_async(c->sioc, (SocketAddress *)addr,
                                     connect_reached, c, connect_unref, NULL);
    if (!c->done) {
        qemu_coroutine_yield();
    }
    timer_free(c->timer);
    c->co = NULL;
    if (!c->done) {
        error_setg(errp, "no connection to the destination within %d seconds",
                   CONNECT_TIMEOUT / 1000);
        if (c->tls) {
            qio_channel_shutdown(QIO_CHANNEL(c->sioc),
                                 QIO_CHANNEL_SHUTDOWN_BOTH, NULL);
        }
    } else if (c->err) {
        error_propagate(errp, g_steal_pointer(&c->err));
    } else {
        ioc = c->tls ? QIO_CHANNEL(c->tls) : QIO_CHANNEL(c->sioc);
        object_ref(OBJECT(ioc));
    }
    connect_unref(c);
    return ioc;
}

/* Ask the destination, and measure the link.  False if it refuses. */
static bool coroutine_fn plan_co_there(MigratePipelinePlan *plan,
                                       const PipelineGoal *goal,
                                       const SocketAddress *addr)
{
    HelloAnswer answer = { 0 };
    Error *err = NULL;
    QIOChannel *ioc;

    if (!addr) {
        plan_note(plan, goal->quick ?
                  "the guest's state goes through the volume of its first "
                  "disk, and nobody has to wait for it" :
                  "no destination was given: only this side was asked");
        return false;
    }
    ioc = plan_co_connect(addr, &err);
    if (ioc) {
        migration_hello_co_ask(ioc, goal, &answer, &err);
        object_unref(OBJECT(ioc));
    }
    if (err) {
        plan_obstacle(plan, error_get_pretty(err));
        error_free(err);
        return false;
    }
    plan->has_round_trip = plan->has_bandwidth = true;
    plan->round_trip = answer.round_trip;
    migration_history_round_trip(answer.wire);
    plan->bandwidth = answer.bandwidth;
    plan->multifd = answer.features & HELLO_MULTIFD;
    plan->postcopy = answer.features & HELLO_POSTCOPY;
    plan->compression = answer.features & HELLO_ADAPTIVE;
    if (goal->postcopy && !plan->postcopy) {
        plan_note(plan, "postcopy is permitted, and the destination cannot");
    }
    return true;
}

/* Pages that the guest dirties per second, each counted once; -1: unknown */
static double coroutine_fn plan_co_dirty_rate(const PipelineGoal *goal,
                                              MigratePipelinePlan *plan)
{
    int64_t time = MIN(MAX(goal->max_blackout / 1000, LOOK_MIN), LOOK_MAX);
    g_autoptr(DirtyRateInfo) info = NULL;
    Error *err = NULL;
    unsigned rounds = 0;

    if (!runstate_is_running()) {
        return 0;
    }
    /* Measuring by dirty bitmap works with KVM only. */
    if (kvm_enabled() && !kvm_dirty_ring_enabled()) {
        qmp_calc_dirty_rate(time, true, TIME_UNIT_MILLISECOND, false, 0, true,
                            DIRTY_RATE_MEASURE_MODE_DIRTY_BITMAP, &err);
    } else {
        qmp_calc_dirty_rate(time, true, TIME_UNIT_MILLISECOND,
                            true, LOOK_SAMPLES, true,
                            DIRTY_RATE_MEASURE_MODE_PAGE_SAMPLING, &err);
    }
    if (err) {
        plan_note(plan, error_get_pretty(err));
        error_free(err);
        return -1;
    }
    do {
        g_clear_pointer(&info, qapi_free_DirtyRateInfo);
        qemu_co_sleep_ns(QEMU_CLOCK_REALTIME, LOOK_EVERY);
        info = qmp_query_dirty_rate(false, 0, NULL);
        /* Its thread may not have started yet. */
    } while (info->status != DIRTY_RATE_STATUS_MEASURED && ++rounds < LOOKS);
    return info->has_dirty_rate ? (double)info->dirty_rate * MiB /
                                  qemu_target_page_size() : -1;
}

static void plan_forecast(MigratePipelinePlan *plan, const PipelineGoal *goal,
                          const PipelineCosts *costs, double dirty_rate)
{
    PipelineGoal g = *goal;
    PipelineModel m = {
        .pages = goal->ram_pages,
        .working_set = goal->ram_pages,
        .page_rate = plan->bandwidth / qemu_target_page_size(),
        .dirty_rate = dirty_rate,
    };
    PipelineForecast f;
    int64_t floor;

    g.postcopy = plan->postcopy;
    if (runstate_is_running()) {
        m.fixed = costs->total + migration_history_wire();
        m.spread = costs->spread;
    }
    f = pipeline_forecast(&g, &m);
    plan->has_action = plan->has_reason = true;
    plan->action = f.end;
    plan->reason = f.why;
    plan->has_throttle = true;
    plan->throttle = f.throttle;
    plan->has_time = true;
    plan->time = f.time / 1000;
    if (f.blackout != INT64_MAX) {
        plan->has_blackout = true;
        plan->blackout = DIV_ROUND_UP(f.blackout, 1000);
    }
    g.postcopy = false;
    floor = pipeline_forecast_floor(&g, &m);
    if (floor >= 0) {
        plan->has_floor = true;
        plan->floor = floor / 1000;
    }
    if (f.why == MIGRATE_PIPELINE_REASON_FIXED) {
        plan_note(plan, "what the blackout takes besides memory is above the "
                  "promise, see 'costs'; a 'max-blackout' of 'floor' would "
                  "help, or less load on both hosts");
    } else if (f.end == MIGRATE_PIPELINE_ACTION_GIVE_UP) {
        plan_note(plan, "the guest writes more than the link takes, if it goes "
                  "on like this; 'allow-throttle', 'allow-postcopy' or a "
                  "longer 'max-blackout' would help");
    }
}

MigratePipelinePlan *coroutine_fn
migration_preflight_co(const PipelineGoal *goal, const SocketAddress *addr)
{
    MigratePipelinePlan *plan = g_new0(MigratePipelinePlan, 1);
    PipelineCosts costs;
    bool asked;
    double dirty_rate;

    plan->memory = ram_bytes_total();
    plan_co_here(plan, goal);
    asked = plan_co_there(plan, goal, addr);
    dirty_rate = plan_co_dirty_rate(goal, plan);
    costs = migration_history_costs();
    plan->costs = migration_history_info();
    if (dirty_rate >= 0) {
        plan->has_dirty_rate = true;
        plan->dirty_rate = dirty_rate;
        if (asked) {
            plan_forecast(plan, goal, &costs, dirty_rate);
        }
    }
    plan->possible = !plan->obstacles;
    return plan;
}
