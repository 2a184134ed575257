/*
 * Disk hot-plug: detach
 *
 * A detach takes as long as the guest does, so nothing here blocks: a timer
 * polls the state, and does the next step according to detach-policy.c.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "agent-port.h"
#include "block/accounting.h"
#include "block/block-global-state.h"
#include "block/block-io.h"
#include "block/block_int.h"
#include "detach.h"
#include "guest.h"
#include "hooks.h"
#include "migration/blocker.h"
#include "migration/misc.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-disk.h"
#include "qapi/qapi-events-disk.h"
#include "qemu/timer.h"
#include "still.h"
#include "system/runstate.h"

#define DEADLINE_MS         30000
#define DEADLINE_FORCE_MS   5000
#define QUIET_MS            200
/* Poll intervals: while active, when it takes long, and while parked */
#define LOOK_MS             5
#define LOOK_LONG_MS        25
#define LOOK_PARKED_MS      100
#define LONG_MS             1000
/* Pause before holding other disks' requests again */
#define PEACE_MS            100
#define PEACE_MAX_MS        2000
/* Number of ended detaches to keep */
#define KEPT                64

struct Detach {
    char *id;
    char *node;
    Disk *disk;                 /* NULL when it is over */
    DetachPolicy policy;
    DiskState told;             /* in the last event */
    int64_t begun_ms;
    int64_t changed_ms;         /* time of the last change or the end */
    unsigned asked;             /* number of requests to the guest */
    unsigned aborted;           /* requests in flight when it was parked */
    bool cancel;
    bool removing;              /* the device is about to be freed */
    DetachFlush flush;
    int64_t peace_ms;           /* time of the next attempt */
    unsigned restless;          /* attempts that found requests */
    Error *blocker;             /* of migrations */
    DiskHookRound *hooks;       /* which may refuse; NULL: none */
    DiskDetachAgent agent_how;
    DiskAgent *agent;           /* NULL: no session */
    bool has_agent_outcome;
    DiskAgentOutcome agent_outcome;
    char *agent_error;          /* why, if that is 'failed' */
    char *why;                  /* in place of the policy's reason, or NULL */
    QTAILQ_ENTRY(Detach) next;
};

static QTAILQ_HEAD(, Detach) detaches = QTAILQ_HEAD_INITIALIZER(detaches);
static QEMUTimer *timer;

static int64_t now_ms(void)
{
    return qemu_clock_get_ms(QEMU_CLOCK_REALTIME);
}

/* Information for the user */

static unsigned detach_in_flight(const Detach *d)
{
    return d->disk && disk_has_device(d->disk) ?
           blk_in_flight(disk_blk(d->disk)) : 0;
}

static DiskDetachInfo *detach_info(const Detach *d)
{
    DiskDetachInfo *info = g_new0(DiskDetachInfo, 1);
    bool over = detach_is_over(d->policy.state);

    info->id = g_strdup(d->id);
    info->state = d->policy.state;
    info->mode = d->policy.force ? DISK_DETACH_MODE_FORCE :
                                   DISK_DETACH_MODE_GRACEFUL;
    info->asked = d->asked;
    info->in_flight = detach_in_flight(d);
    info->aborted = d->aborted;
    info->flushed = d->flush == DETACH_FLUSH_DONE;
    info->elapsed = (over ? d->changed_ms : now_ms()) - d->begun_ms;
    if (!over && d->policy.state != DISK_STATE_PARKED) {
        info->has_left = true;
        info->left = MAX(d->policy.deadline_ms - now_ms(), 0);
    }
    info->reason = g_strdup(d->why ?: d->policy.reason);
    info->has_agent = d->has_agent_outcome;
    info->agent = d->agent_outcome;
    info->agent_error = g_strdup(d->agent_error);
    return info;
}

static void detach_tell(Detach *d)
{
    g_autoptr(DiskDetachInfo) info = NULL;

    if (d->told == d->policy.state) {
        return;
    }
    d->told = d->policy.state;
    d->changed_ms = now_ms();
    info = detach_info(d);
    qapi_event_send_disk_detach_status(info);
}

/* The end */

static void detach_free(Detach *d)
{
    QTAILQ_REMOVE(&detaches, d, next);
    g_free(d->id);
    g_free(d->node);
    g_free(d->agent_error);
    g_free(d->why);
    g_free(d);
}

/* The last ones are kept for later queries. */
static void detach_forget_old(void)
{
    unsigned kept = 0;
    Detach *d, *prev;

    QTAILQ_FOREACH_REVERSE_SAFE(d, &detaches, next, prev) {
        if (detach_is_over(d->policy.state) &&
            d->flush != DETACH_FLUSH_RUNNING && kept++ >= KEPT) {
            detach_free(d);
        }
    }
}

/* Abandon the agent's session; keep its result. */
static void detach_leave_agent(Detach *d)
{
    g_clear_pointer(&d->agent, disk_agent_leave);
    if (d->agent_outcome == DISK_AGENT_OUTCOME_ASKED) {
        d->has_agent_outcome = false;
    }
}

/* The detach has ended, and the disk stays. */
static void detach_over(Detach *d)
{
    if (d->disk) {
        d->disk->state = DISK_STATE_ATTACHED;
        disk_guest_forget(d->disk);
        d->disk->detach = NULL;
        d->disk = NULL;
    }
    migrate_del_blocker(&d->blocker);
    g_clear_pointer(&d->hooks, disk_hooks_free);
    detach_leave_agent(d);
    detach_tell(d);
}

Detach *detach_leave(Disk *disk)
{
    Detach *d = disk->detach;

    if (d) {
        disk->detach = NULL;
        d->disk = NULL;
    }
    return d;
}

void detach_gone(Detach *d)
{
    d->policy.state = DISK_STATE_REMOVED;
    d->policy.reason = NULL;
    g_clear_pointer(&d->why, g_free);
    detach_over(d);
    /* A notification, for clean-up; a refusal is not possible any more. */
    disk_hooks_free(disk_hooks_ask(DISK_HOOK_POINT_AFTER_DETACH, d->id,
                                   d->node, NULL));
}

/* The guest agent */

static void detach_no_agent(Detach *d)
{
    g_free(d->why);
    d->why = g_strdup_printf("%s; unmount what is on the disk in the guest, or "
                             "detach it with 'agent': 'write-out' or 'off'",
        d->agent_outcome == DISK_AGENT_OUTCOME_NONE ?
        "the guest has no agent that listens" :
        d->agent_outcome == DISK_AGENT_OUTCOME_BUSY ?
        "the guest's agent has another client" : d->agent_error);
}

/* The agent's result; a failure is fatal only for unmounting. */
static DetachAnswer detach_judge_agent(Detach *d)
{
    switch (d->agent_outcome) {
    case DISK_AGENT_OUTCOME_ASKED:
        return DETACH_ANSWER_PENDING;
    case DISK_AGENT_OUTCOME_NONE:
    case DISK_AGENT_OUTCOME_BUSY:
    case DISK_AGENT_OUTCOME_FAILED:
        if (d->agent_how == DISK_DETACH_AGENT_UNMOUNT) {
            detach_no_agent(d);
            return DETACH_ANSWER_NO;
        }
        return DETACH_ANSWER_YES;
    default:
        return DETACH_ANSWER_YES;
    }
}

/* Start a session when the agent is free, or get its result. */
static void detach_look_agent(Detach *d)
{
    const char *why;

    if (!d->agent) {
        d->has_agent_outcome = true;
        d->agent_outcome = disk_agent_port_ask(d->disk, d->agent_how,
            MAX(d->policy.deadline_ms - now_ms(), 0) / 3, &d->agent);
    }
    if (d->agent) {
        d->agent_outcome = disk_agent_outcome(d->agent, &why);
        if (d->agent_outcome != DISK_AGENT_OUTCOME_ASKED) {
            d->agent_error = g_strdup(why);
            g_clear_pointer(&d->agent, disk_agent_leave);
        }
    }
}

/*
 * The last step before the guest itself is asked.  It is not done during a
 * migration; afterwards it starts over, on whichever host the guest runs.
 */
static DetachAnswer detach_ask_agent(Detach *d, const DetachSample *s)
{
    if (d->agent_how == DISK_DETACH_AGENT_OFF || s->cancel || s->moved ||
        d->policy.state != DISK_STATE_WAITING ||
        s->hooks != DETACH_ANSWER_YES) {
        return DETACH_ANSWER_YES;
    }
    if (s->held) {
        detach_leave_agent(d);
        return DETACH_ANSWER_YES;
    }
    if (!d->has_agent_outcome || d->agent_outcome == DISK_AGENT_OUTCOME_ASKED) {
        detach_look_agent(d);
    }
    return detach_judge_agent(d);
}

/* Observations and actions */

static void detach_look(Detach *d, DetachSample *s)
{
    BlockAcctStats *acct = blk_get_stats(disk_blk(d->disk));

    *s = (DetachSample) {
        .now_ms = now_ms(),
        .cancel = d->cancel,
        .hooks = disk_hooks_answer(d->hooks, &d->why),
        .held = migration_is_running() ||
                runstate_check(RUN_STATE_INMIGRATE),
        .moved = runstate_check(RUN_STATE_POSTMIGRATE),
        .in_flight = detach_in_flight(d),
        .flush = d->flush,
        .writes = acct->nr_ops[BLOCK_ACCT_WRITE] +
                  acct->nr_ops[BLOCK_ACCT_ZONE_APPEND] +
                  acct->nr_ops[BLOCK_ACCT_UNMAP],
    };
    disk_guest_look(d->disk, s);
    s->agent = detach_ask_agent(d, s);
}

static void detach_do_ask(Detach *d)
{
    Error *err = NULL;

    g_clear_pointer(&d->why, g_free);
    d->asked++;
    if (!disk_guest_ask(d->disk, &err)) {
        d->policy.state = DISK_STATE_REFUSED;
        d->why = g_strdup(error_get_pretty(err));
        error_free(err);
    }
}

/* A migration would wait for its requests. */
static void detach_do_hide(Detach *d)
{
    error_setg(&d->blocker, "disk '%s' is being removed; wait for its end",
               d->id);
    migrate_add_blocker_internal(&d->blocker, NULL);
    disk_guest_hide(d->disk);
}

static void detach_do_cancel_in_flight(Detach *d)
{
    BlockDriverState *bs = blk_bs(disk_blk(d->disk));

    while (bs) {
        bdrv_cancel_in_flight(bs);
        GRAPH_RDLOCK_GUARD_MAINLOOP();
        bs = bdrv_primary_bs(bs);
    }
}

static void detach_flushed(Detach *d, int ret)
{
    d->flush = ret < 0 ? DETACH_FLUSH_FAILED : DETACH_FLUSH_DONE;
    if (ret < 0 && d->disk && !d->policy.force) {
        g_free(d->why);
        d->why = g_strdup_printf("what was written could not be flushed (%s); "
                                 "'force' detaches all the same",
                                 strerror(-ret));
    }
}

/* Flush the node: the backend is blocked while the disk is hidden. */
typedef struct Flush {
    Detach *d;
    BlockDriverState *bs;       /* a reference */
    int ret;
} Flush;

static void flush_done(void *opaque)
{
    Flush *f = opaque;

    detach_flushed(f->d, f->ret);
    bdrv_unref(f->bs);
    g_free(f);
}

static void coroutine_fn flush_entry(void *opaque)
{
    Flush *f = opaque;

    WITH_GRAPH_RDLOCK_GUARD() {
        f->ret = bdrv_co_flush(f->bs);
    }
    aio_bh_schedule_oneshot(qemu_get_aio_context(), flush_done, f);
}

static void detach_do_flush(Detach *d)
{
    Flush *f = g_new0(Flush, 1);

    d->flush = DETACH_FLUSH_RUNNING;
    f->d = d;
    f->bs = blk_bs(disk_blk(d->disk));
    bdrv_ref(f->bs);
    aio_co_enter(bdrv_get_aio_context(f->bs),
                 qemu_coroutine_create(flush_entry, f));
}

static void detach_do_remove(Detach *d)
{
    Error *err = NULL;

    if (now_ms() < d->peace_ms) {
        return;
    }
    if (!disk_graph_is_still(&err)) {
        d->peace_ms = now_ms() + MIN(PEACE_MS << d->restless, PEACE_MAX_MS);
        d->restless = MIN(d->restless + 1, 8);
        g_free(d->why);
        d->why = g_strdup(error_get_pretty(err));
        error_free(err);
        return;
    }
    d->removing = disk_guest_remove(d->disk);
}

static void detach_do(Detach *d, DetachAction action)
{
    switch (action) {
    case DETACH_WAIT:
        break;
    case DETACH_ASK:
        detach_do_ask(d);
        break;
    case DETACH_HIDE:
        detach_do_hide(d);
        break;
    case DETACH_CANCEL_IN_FLIGHT:
        detach_do_cancel_in_flight(d);
        break;
    case DETACH_FLUSH:
        detach_do_flush(d);
        break;
    case DETACH_REMOVE:
        detach_do_remove(d);
        break;
    }
}

static void detach_step(Detach *d)
{
    DetachSample s;
    DetachAction action;

    detach_look(d, &s);
    action = detach_policy_step(&d->policy, &s);
    if (d->policy.state == DISK_STATE_PARKED && d->told != DISK_STATE_PARKED) {
        d->aborted = s.in_flight;
    }
    d->disk->state = d->policy.state;
    detach_do(d, action);
    if (detach_is_over(d->policy.state)) {
        detach_over(d);
    } else {
        detach_tell(d);
    }
}

/* The timer */

static int64_t detach_interval(const Detach *d)
{
    return d->policy.state == DISK_STATE_PARKED ? LOOK_PARKED_MS :
           now_ms() - d->changed_ms >= LONG_MS ? LOOK_LONG_MS : LOOK_MS;
}

static void detach_schedule(void)
{
    int64_t wait = INT64_MAX;
    Detach *d;

    QTAILQ_FOREACH(d, &detaches, next) {
        if (d->disk && !d->removing) {
            wait = MIN(wait, detach_interval(d));
        }
    }
    if (wait < INT64_MAX) {
        timer_mod(timer, now_ms() + wait);
    }
}

static void detach_tick(void *opaque)
{
    Detach *d, *next;

    QTAILQ_FOREACH_SAFE(d, &detaches, next, next) {
        if (d->disk && disk_has_device(d->disk) && !d->removing) {
            detach_step(d);
        }
    }
    detach_schedule();
}

/* The commands */

static Detach *detach_of(const char *id, Error **errp)
{
    Disk *disk = disk_find_plugged(id, errp);

    if (!disk) {
        return NULL;
    }
    if (!disk->detach) {
        error_setg(errp, "disk '%s' is not being detached", id);
    }
    return disk->detach;
}

static bool detach_check(Disk *disk, bool force, bool wait,
                         DiskDetachAgent agent, Error **errp)
{
    Detach *d = disk->detach;

    if (force && agent != DISK_DETACH_AGENT_OFF) {
        error_setg(errp, "'force' does not ask the guest, and not its agent");
        return false;
    }
    if (d && (d->policy.force || d->removing || !force)) {
        error_setg(errp, "disk '%s' is being detached already, and is now '%s'",
                   disk->id, DiskState_str(d->policy.state));
        return false;
    }
    if (migration_is_running() && !wait) {
        error_setg(errp, "the guest is being migrated: detach disk '%s' when "
                   "that is over, where the guest is then, or with "
                   "'on-migration': 'wait'", disk->id);
        return false;
    }
    return true;
}

static Detach *detach_new(Disk *disk, bool force, int64_t span_ms,
                          int64_t quiet_ms)
{
    Detach *d = g_new0(Detach, 1);

    if (!timer) {
        timer = timer_new_ms(QEMU_CLOCK_REALTIME, detach_tick, NULL);
    }
    d->id = g_strdup(disk->id);
    d->node = g_strdup(disk->node);
    d->disk = disk;
    d->begun_ms = d->changed_ms = now_ms();
    d->told = DISK_STATE_WAITING;
    d->agent_how = DISK_DETACH_AGENT_OFF;
    d->policy = (DetachPolicy) {
        .force = force,
        .deadline_ms = d->begun_ms + span_ms,
        .quiet_ms = quiet_ms,
        .state = DISK_STATE_WAITING,
    };
    disk->detach = d;
    QTAILQ_INSERT_TAIL(&detaches, d, next);
    return d;
}

static void detach_ask_hooks(Detach *d)
{
    d->hooks = disk_hooks_ask(DISK_HOOK_POINT_BEFORE_DETACH, d->id, d->node,
                              NULL);
}

void disk_roll_back(Disk *disk)
{
    if (!disk->detach) {
        detach_new(disk, true, DEADLINE_FORCE_MS, 0);
        detach_schedule();
    }
}

DiskDetachInfo *qmp_disk_detach(const char *id, bool has_mode,
                                DiskDetachMode mode, bool has_deadline,
                                uint32_t deadline, bool has_quiet,
                                uint32_t quiet, bool has_on_migration,
                                DiskOnMigration on_migration, bool has_agent,
                                DiskDetachAgent agent, Error **errp)
{
    Disk *disk = disk_find_plugged(id, errp);
    bool force = has_mode && mode == DISK_DETACH_MODE_FORCE;
    Detach *d;

    if (!has_agent) {
        agent = force ? DISK_DETACH_AGENT_OFF : DISK_DETACH_AGENT_WRITE_OUT;
    }

    if (!disk) {
        return NULL;
    }
    if (!detach_check(disk, force, has_on_migration &&
                      on_migration == DISK_ON_MIGRATION_WAIT, agent, errp)) {
        return NULL;
    }
    if (disk->detach) {
        disk->detach->policy.state = DISK_STATE_CANCELLED;
        disk->detach->policy.reason = "'force' has taken over";
        g_clear_pointer(&disk->detach->why, g_free);
        detach_over(disk->detach);
    }
    detach_forget_old();
    d = detach_new(disk, force, has_deadline ? deadline :
                   force ? DEADLINE_FORCE_MS : DEADLINE_MS,
                   has_quiet ? quiet : QUIET_MS);
    d->agent_how = agent;
    detach_ask_hooks(d);
    detach_step(d);
    detach_schedule();
    return detach_info(d);
}

static bool detach_is_late(const Detach *d)
{
    return d->policy.state == DISK_STATE_DRAINING ||
           d->policy.state == DISK_STATE_PARKED;
}

void qmp_disk_detach_cancel(const char *id, Error **errp)
{
    Detach *d = detach_of(id, errp);

    if (!d) {
        return;
    }
    if (!detach_is_late(d)) {
        /* The guest may have released the disk since the last step. */
        d->cancel = true;
        detach_step(d);
    }
    if (detach_is_late(d)) {
        error_setg(errp, "it is too late: disk '%s' is '%s'", id,
                   DiskState_str(d->policy.state));
    }
}

DiskDetachInfoList *qmp_query_disk_detach(Error **errp)
{
    DiskDetachInfoList *list = NULL, **tail = &list;
    Detach *d;

    detach_forget_old();
    QTAILQ_FOREACH(d, &detaches, next) {
        QAPI_LIST_APPEND(tail, detach_info(d));
    }
    return list;
}

/* Migration */

static bool detach_goes(const Detach *d)
{
    return d->disk && disk_has_device(d->disk) && !d->removing &&
           !d->policy.force && !detach_is_over(d->policy.state);
}

bool detach_any(void)
{
    Detach *d;

    QTAILQ_FOREACH(d, &detaches, next) {
        if (detach_goes(d)) {
            return true;
        }
    }
    return false;
}

void detach_save(DiskManifest *list)
{
    DiskDetachRecordList **tail = &list->detaches;
    Detach *d;

    QTAILQ_FOREACH(d, &detaches, next) {
        DetachSample s = { };
        DiskDetachRecord *r;

        if (!detach_goes(d)) {
            continue;
        }
        disk_guest_look(d->disk, &s);
        r = g_new0(DiskDetachRecord, 1);
        r->id = g_strdup(d->id);
        r->state = d->policy.state;
        r->has_let_go = r->let_go = s.let_go;
        r->left = MAX(d->policy.deadline_ms - now_ms(), 0);
        r->quiet = d->policy.quiet_ms;
        r->has_agent = d->policy.state == DISK_STATE_WAITING &&
                       d->agent_how != DISK_DETACH_AGENT_OFF;
        r->agent = d->agent_how;
        QAPI_LIST_APPEND(tail, r);
    }
    list->has_detaches = list->detaches;
}

static bool detach_resume(const DiskDetachRecord *r, Error **errp)
{
    Disk *disk = disk_find(r->id);
    Detach *d;

    if (!disk || !disk_has_device(disk) || disk->detach) {
        error_setg(errp, "disk '%s' is being detached, but is not here, or "
                   "twice", r->id);
        return false;
    }
    if (r->state < DISK_STATE_WAITING || r->state > DISK_STATE_DRAINING) {
        error_setg(errp, "the detach of disk '%s' cannot be '%s'", r->id,
                   DiskState_str(r->state));
        return false;
    }
    d = detach_new(disk, false, r->left, r->quiet);
    if (r->state == DISK_STATE_WAITING) {
        d->agent_how = r->has_agent ? r->agent : DISK_DETACH_AGENT_OFF;
        detach_ask_hooks(d);
    } else {
        disk_guest_resume(disk, r->let_go);
        d->asked = 1;
        d->policy.state = d->told = r->state;
        d->policy.asked_ms = now_ms();
    }
    return true;
}

bool detach_load(const DiskManifest *list, Error **errp)
{
    for (DiskDetachRecordList *e = list->detaches; e; e = e->next) {
        if (!detach_resume(e->value, errp)) {
            return false;
        }
    }
    detach_schedule();
    return true;
}
