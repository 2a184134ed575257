/*
 * Migration pipeline: one command, one promise
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/csv.h"
#include "exec/target_page.h"
#include "migration/migration.h"
#include "migration/migration-stats.h"
#include "migration/misc.h"
#include "migration/options.h"
#include "migration/ram.h"
#include "migration/savevm.h"
#include "qapi/error.h"
#include "qapi/qapi-events-pipeline.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "system/cpu-throttle.h"
#include "system/runstate.h"
#include "adaptive.h"
#include "announce.h"
#include "current.h"
#include "handover.h"
#include "hello.h"
#include "history.h"
#include "hot.h"
#include "info.h"
#include "pipeline.h"
#include "quick.h"
#include "quiesce.h"
#include "report.h"
#include "stall.h"
#include "switchover.h"
#include "trace.h"

/* Disks are flushed once memory takes at most this many times the promise. */
#define NEAR                4
/* Number of decisions to keep: the first and the last ones */
#define DECISIONS_FIRST     32
#define DECISIONS_LAST      32
/* How often a pause checks for a cancel, in microseconds */
#define REST_SLICE          10000
/* Delay after the deadline that means a hang, in milliseconds */
#define DEADLINE_GRACE      5000

/* Settings */

/* Restore the user's settings, except those changed meanwhile. */
static void pipeline_restore(MigrationState *s)
{
    MigrationPipeline *mp = migration_pipeline();
    PipelineSettings now = migration_settings_get(s);

    if (now.max_bandwidth != mp->set.max_bandwidth) {
        mp->saved.max_bandwidth = now.max_bandwidth;
    }
    if (now.downtime_limit != mp->set.downtime_limit) {
        mp->saved.downtime_limit = now.downtime_limit;
    }
    migration_settings_apply(s, &mp->saved);
}

/* Start and end */

static void pipeline_enter(MigratePipelineStage stage)
{
    MigrationPipeline *mp = migration_pipeline();

    WITH_QEMU_LOCK_GUARD(&mp->lock) {
        if (mp->stage == stage) {
            return;
        }
        mp->stage = stage;
    }
    qapi_event_send_migrate_pipeline_stage(stage);
}

/*
 * The policy checks the deadline, but not while connecting, nor when the
 * migration thread is stuck in a dead connection.
 */
static void pipeline_expire(void *opaque)
{
    MigrationPipeline *mp = migration_pipeline();
    MigrationState *s = opaque;
    Error *err = NULL;

    if (!migration_pipeline_drives(s) ||
        (s->state != MIGRATION_STATUS_SETUP &&
         s->state != MIGRATION_STATUS_ACTIVE)) {
        return;
    }
    error_setg(&err, "the migration pipeline gave up after the deadline: the "
               "destination does not accept data; check it and the link");
    migrate_set_error(s, err);
    error_free(err);
    mp->expired = true;
    migration_cancel();
}

static void pipeline_watch(int64_t deadline)
{
    MigrationPipeline *mp = migration_pipeline();

    mp->expired = false;
    if (deadline) {
        timer_mod(mp->timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) +
                             deadline / 1000 + DEADLINE_GRACE);
    } else {
        timer_del(mp->timer);
    }
}

void migration_pipeline_arm(const PipelineGoal *goal, uint64_t max_bandwidth,
                            bool greet, QEMUBHFunc *or_else)
{
    MigrationPipeline *mp = migration_pipeline();
    MigrationState *s = migrate_get_current();

    /* A migration cancelled before it connected has not ended yet. */
    migration_pipeline_disarm();

    mp->saved = migration_settings_get(s);
    mp->set = (PipelineSettings) {
        .return_path = true,
        .postcopy_ram = goal->postcopy,
        .multifd = mp->saved.multifd,
        .xbzrle = mp->saved.xbzrle,
        .zero_copy = mp->saved.zero_copy,
        .compression = mp->saved.compression,
        .max_bandwidth = max_bandwidth,
        .downtime_limit = goal->max_blackout / 1000,
    };
    if (goal->quick) {
        /* There is no return path, and pages have fixed offsets. */
        mp->set = (PipelineSettings) {
            .mapped_ram = true,
            .multifd = true,
            .compression = MULTIFD_COMPRESSION_NONE,
            .max_bandwidth = max_bandwidth,
            .downtime_limit = goal->max_blackout / 1000,
        };
    }
    migration_settings_apply(s, &mp->set);
    migration_report_reset();
    migration_history_begin(csv_handover_needed());
    migration_history_agreed(false);
    pipeline_watch(goal->deadline);
    mp->unreached = or_else;

    QEMU_LOCK_GUARD(&mp->lock);
    pipeline_policy_init(&mp->policy, goal);
    g_array_set_size(mp->decisions, 0);
    mp->decided = false;
    mp->predicted = 0;
    mp->sample = (PipelineSample) { 0 };
    mp->stage = MIGRATE_PIPELINE_STAGE_NONE;
    mp->start_time = 0;
    mp->greets = greet;
    mp->falls_back = false;
    mp->on = mp->used = true;
}

void migration_pipeline_disarm(void)
{
    MigrationPipeline *mp = migration_pipeline();
    bool was_on;

    mp->unreached = NULL;
    WITH_QEMU_LOCK_GUARD(&mp->lock) {
        was_on = mp->on;
        mp->on = mp->used = false;
    }
    if (was_on) {
        pipeline_restore(migrate_get_current());
        migration_adaptive_stop();
        migration_quick_end(false);
    }
}

void migration_pipeline_armed(MigrationState *s)
{
    MigrationPipeline *mp = migration_pipeline();

    QEMU_LOCK_GUARD(&mp->lock);
    if (mp->on) {
        mp->start_time = s->start_time;
    }
}

void migration_pipeline_offer(const PipelineGoal *goal, uint64_t *features,
                              uint32_t *channels)
{
    MigrationPipeline *mp = migration_pipeline();

    goal = goal ?: &mp->policy.goal;
    *features = HELLO_HISTORY;
    if (goal->postcopy) {
        *features |= HELLO_POSTCOPY;
    } else if (!migrate_xbzrle()) {
        *features |= HELLO_MULTIFD;
        *channels = migrate_multifd_channels();
        if (goal->compression && !migrate_zero_copy_send() &&
            migrate_multifd_compression() == MULTIFD_COMPRESSION_NONE) {
            *features |= HELLO_ADAPTIVE | HELLO_DELTA;
        }
    }
}

void migration_pipeline_accepted(uint64_t features)
{
    MigrationPipeline *mp = migration_pipeline();
    MigrationState *s = migrate_get_current();

    s->capabilities[MIGRATION_CAPABILITY_MULTIFD] = features & HELLO_MULTIFD;
    s->capabilities[MIGRATION_CAPABILITY_POSTCOPY_RAM] =
        features & HELLO_POSTCOPY;
    migration_adaptive_set(features & HELLO_ADAPTIVE, features & HELLO_DELTA);
    migration_history_agreed(features & HELLO_HISTORY);
    QEMU_LOCK_GUARD(&mp->lock);
    mp->policy.goal.postcopy = features & HELLO_POSTCOPY;
}

void migration_pipeline_reached(bool yes)
{
    MigrationPipeline *mp = migration_pipeline();
    QEMUBHFunc *how = g_steal_pointer(&mp->unreached);

    if (!yes && how) {
        mp->falls_back = true;
        aio_bh_schedule_oneshot(qemu_get_aio_context(), how, NULL);
    }
}

void migration_pipeline_failed(Error *err)
{
    MigrationState *s = migrate_get_current();
    g_autoptr(MigratePipelineInfo) info = NULL;

    WITH_QEMU_LOCK_GUARD(&s->error_mutex) {
        error_free(s->error);
        s->error = err;
    }
    pipeline_enter(MIGRATE_PIPELINE_STAGE_FAILED);
    info = migration_pipeline_info();
    qapi_event_send_migrate_pipeline_report(info);
}

/* A migration begins: does the pipeline drive it? */
static void pipeline_setup(MigrationState *s)
{
    MigrationPipeline *mp = migration_pipeline();
    bool ours;

    migration_pipeline_reset();
    migration_report_reset();
    migration_hot_reset();
    mp->elapsed = 0;
    migration_stall_begin();
    WITH_QEMU_LOCK_GUARD(&mp->lock) {
        ours = mp->on && (!mp->start_time ||
                          mp->start_time == s->start_time);
    }
    if (!ours && s->pipeline) {
        PipelineGoal goal = {
            .max_blackout = migrate_downtime_limit() * 1000,
            .throttle_max = migrate_auto_converge() ?
                            migrate_max_cpu_throttle() : 0,
            .ram_pages = ram_bytes_total() / qemu_target_page_size(),
        };

        /* The destination may not know the greeting. */
        migration_pipeline_arm(&goal, migrate_max_bandwidth(), false, NULL);
        /* With migrate, these stay as the user has set them. */
        s->capabilities[MIGRATION_CAPABILITY_POSTCOPY_RAM] =
            mp->saved.postcopy_ram;
        s->capabilities[MIGRATION_CAPABILITY_RETURN_PATH] =
            mp->saved.return_path;
        ours = true;
    }
    if (ours) {
        migration_pipeline_armed(s);
        pipeline_enter(MIGRATE_PIPELINE_STAGE_SETUP);
    } else {
        migration_pipeline_disarm();
    }
}

static void pipeline_ended(MigrationState *s, MigratePipelineStage stage)
{
    MigrationPipeline *mp = migration_pipeline();
    g_autoptr(MigratePipelineInfo) info = NULL;

    mp->elapsed = qemu_clock_get_ms(QEMU_CLOCK_REALTIME) - s->start_time;
    migration_hot_reset();
    if (!migration_pipeline_drives(s)) {
        return;
    }
    cpu_throttle_stop();
    pipeline_restore(s);
    migration_quick_end(stage == MIGRATE_PIPELINE_STAGE_COMPLETED);
    WITH_QEMU_LOCK_GUARD(&mp->lock) {
        mp->on = false;
    }
    if (mp->falls_back) {
        return;
    }
    pipeline_enter(stage);
    info = migration_pipeline_info();
    migration_adaptive_stop();
    qapi_event_send_migrate_pipeline_report(info);
}

static int pipeline_notify(NotifierWithReturn *notifier, MigrationEvent *event,
                           Error **errp)
{
    MigrationState *s = migrate_get_current();

    switch (event->type) {
    case MIG_EVENT_PRECOPY_SETUP:
        pipeline_setup(s);
        break;
    case MIG_EVENT_PRECOPY_DONE:
        /* This event also comes when postcopy begins. */
        if (s->state == MIGRATION_STATUS_COMPLETED) {
            pipeline_ended(s, MIGRATE_PIPELINE_STAGE_COMPLETED);
        }
        break;
    default:
        if (migration_report_end() && runstate_is_running()) {
            migration_announce_back();
        }
        pipeline_ended(s, migration_pipeline_stage(s->state, true));
        break;
    }
    return 0;
}

void migration_pipeline_init(MigrationState *s)
{
    MigrationPipeline *mp = g_new0(MigrationPipeline, 1);

    qemu_mutex_init(&mp->lock);
    mp->adaptive = migration_adaptive_new();
    mp->handover = migration_handover_new();
    mp->history = migration_history_new();
    mp->hot = migration_hot_new();
    mp->quiesce = migration_quiesce_new();
    mp->report = migration_report_new();
    mp->save = migration_quick_save_new();
    mp->stall = migration_stall_new();
    mp->switchover = migration_switchover_new();
    mp->decisions = g_array_new(false, false, sizeof(MigratePipelineDecision));
    mp->timer = timer_new_ms(QEMU_CLOCK_REALTIME, pipeline_expire, s);
    s->pipeline_current = mp;
    object_ref(OBJECT(s));
    migration_add_notifier(&mp->notifier, pipeline_notify);
}

/* Decisions */

/* Called with the lock held.  True if the decision has changed. */
static bool pipeline_record(MigratePipelineAction action)
{
    MigrationPipeline *mp = migration_pipeline();
    const PipelinePolicy *p = &mp->policy;
    const PipelineSample *s = &mp->sample;
    MigratePipelineDecision *d = &mp->decision;
    bool news = !mp->decided || d->action != action ||
                d->reason != p->why ||
                action == MIGRATE_PIPELINE_ACTION_THROTTLE;

    *d = (MigratePipelineDecision) {
        .time = s->now / 1000,
        .action = action,
        .reason = p->why,
        .passes = p->passes,
        .remaining = s->pages_left * qemu_target_page_size(),
        .throttle = p->throttle,
        .has_blackout = p->predicted != INT64_MAX,
        .blackout = migration_pipeline_ms(p->predicted),
        .fixed = migration_pipeline_ms(s->fixed),
    };
    if (action == MIGRATE_PIPELINE_ACTION_SWITCH_OVER && s->fixed) {
        mp->predicted = p->predicted;
    }
    mp->decided = true;
    if (!news) {
        return false;
    }
    if (mp->decisions->len >= DECISIONS_FIRST + DECISIONS_LAST) {
        g_array_remove_index(mp->decisions, DECISIONS_FIRST);
    }
    g_array_append_val(mp->decisions, *d);
    return true;
}

/* Ask the policy, and report its decision. */
static MigratePipelineAction pipeline_ask(MigrationState *s, uint64_t pending)
{
    MigrationPipeline *mp = migration_pipeline();
    PipelineSample sample = migration_pipeline_sample(s, pending);
    MigratePipelineAction action;
    MigratePipelineDecision d;
    bool near, news = false;

    WITH_QEMU_LOCK_GUARD(&mp->lock) {
        mp->sample = sample;
        action = pipeline_policy_step(&mp->policy, &sample);
        migration_hot_permit(mp->policy.put_off);
        near = (mp->policy.predicted - sample.fixed) / NEAR <
               mp->policy.goal.max_blackout + mp->policy.goal.margin;
        if (action != MIGRATE_PIPELINE_ACTION_SYNC) {
            news = pipeline_record(action);
            d = mp->decision;
        }
    }
    if (news) {
        trace_migration_pipeline_decision(MigratePipelineAction_str(d.action),
                                          MigratePipelineReason_str(d.reason),
                                          d.passes, d.remaining, d.blackout);
        qapi_event_send_migrate_pipeline_decision(
            d.time, d.action, d.reason, d.passes, d.remaining, d.throttle,
            d.has_blackout, d.blackout, d.fixed);
    }
    if (near && runstate_is_running()) {
        migration_quiesce();
    }
    return action;
}

/* The fixed part is too long: list its parts. */
static void pipeline_explain_fixed(Error **errp)
{
    MigrationPipeline *mp = migration_pipeline();
    const PipelinePolicy *p = &mp->policy;
    const PipelineSample *s = &mp->sample;
    g_autoptr(MigratePipelineCostList) costs = migration_history_info();
    g_autoptr(GString) parts = g_string_new(NULL);

    for (MigratePipelineCostList *c = costs; c; c = c->next) {
        g_string_append_printf(parts, "%s %.1f, ",
                               MigratePipelinePart_str(c->value->part),
                               c->value->time / 1000.0);
    }
    error_setg(errp, "the guest would stop for %" PRId64 " ms, %" PRId64 " ms "
               "are permitted, and %" PRId64 " ms are not memory (%sflush, "
               "last sync and wire %.1f ms): a 'max-blackout' of %" PRId64
               " ms would do, or 'margin', or less load on both hosts",
               migration_pipeline_ms(p->predicted),
               migration_pipeline_ms(p->goal.max_blackout + p->goal.margin),
               migration_pipeline_ms(s->fixed), parts->str,
               (s->fixed - migration_history_costs().total) / 1000.0,
               migration_pipeline_ms(p->worst));
}

/* Explain why the blackout would be too long, and what would help. */
static void pipeline_explain(Error **errp)
{
    ERRP_GUARD();
    MigrationPipeline *mp = migration_pipeline();
    const PipelinePolicy *p = &mp->policy;
    const PipelineSample *s = &mp->sample;

    if (p->worst <= p->goal.max_blackout && !s->ready) {
        error_setg(errp, "a disk has not been flushed in all that time, and "
                   "the guest would be stopped for that; check the storage of "
                   "its disks");
    } else if (p->worst == INT64_MAX) {
        error_setg(errp, "no memory gets through; check the link and the "
                   "destination");
    } else if (p->why == MIGRATE_PIPELINE_REASON_FIXED) {
        pipeline_explain_fixed(errp);
    } else {
        error_setg(errp, "the guest might stand still for %" PRId64 " ms, "
                   "permitted are %" PRId64 " ms: it changes %.0f pages a "
                   "second, %.0f get through; what helps is a longer "
                   "'max-blackout', 'allow-throttle' above %u, "
                   "'allow-postcopy' or a faster link",
                   migration_pipeline_ms(p->worst),
                   migration_pipeline_ms(p->goal.max_blackout),
                   p->estimate.dirty_rate, p->estimate.page_rate,
                   p->goal.throttle_max);
    }
    error_prepend(errp, "the migration pipeline gave up %s: ",
                  p->why == MIGRATE_PIPELINE_REASON_DEADLINE ?
                  "at the deadline" : "after enough was tried");
}

static void pipeline_give_up(MigrationState *s)
{
    MigrationPipeline *mp = migration_pipeline();
    Error *err = NULL;

    WITH_QEMU_LOCK_GUARD(&mp->lock) {
        pipeline_explain(&err);
    }
    migrate_set_error(s, err);
    error_free(err);
    migrate_set_state(&s->state, MIGRATION_STATUS_ACTIVE,
                      MIGRATION_STATUS_FAILED);
}

/* Act on the policy's decision. */
static uint64_t pipeline_act(MigrationState *s, MigratePipelineAction action)
{
    MigrationPipeline *mp = migration_pipeline();

    switch (action) {
    case MIGRATE_PIPELINE_ACTION_THROTTLE:
        bql_lock();
        cpu_throttle_set(mp->policy.throttle);
        bql_unlock();
        break;
    case MIGRATE_PIPELINE_ACTION_SWITCH_OVER:
        pipeline_enter(MIGRATE_PIPELINE_STAGE_SWITCH_OVER);
        return 0;
    case MIGRATE_PIPELINE_ACTION_POSTCOPY:
        pipeline_enter(MIGRATE_PIPELINE_STAGE_POSTCOPY);
        qatomic_set(&s->start_postcopy, true);
        break;
    case MIGRATE_PIPELINE_ACTION_GIVE_UP:
        pipeline_give_up(s);
        break;
    default:
        pipeline_enter(mp->policy.passes > 1 ?
                       MIGRATE_PIPELINE_STAGE_CONVERGE :
                       MIGRATE_PIPELINE_STAGE_BULK);
        break;
    }
    return UINT64_MAX;
}

/* Pause for as long as the policy wants, unless cancelled. */
static void pipeline_rest(MigrationState *s)
{
    MigrationPipeline *mp = migration_pipeline();
    int64_t until = mp->policy.rest_until + s->start_time * 1000;
    int64_t begun = qemu_clock_get_us(QEMU_CLOCK_REALTIME), now = begun;

    while (now < until && qatomic_read(&s->state) == MIGRATION_STATUS_ACTIVE) {
        g_usleep(MIN(REST_SLICE, until - now));
        now = qemu_clock_get_us(QEMU_CLOCK_REALTIME);
    }
    migration_pipeline_rested(now - begun);
}

/* Time until the deadline, in microseconds; negative after it */
static int64_t pipeline_time_left(void)
{
    MigrationPipeline *mp = migration_pipeline();
    int64_t deadline = mp->policy.goal.deadline;

    return deadline ? deadline - mp->sample.now : INT64_MAX;
}

/* Sync the dirty bitmap, and ask again. */
static MigratePipelineAction pipeline_sync(MigrationState *s)
{
    uint64_t must_precopy, can_postcopy;

    qemu_savevm_state_pending_exact(&must_precopy, &can_postcopy);
    return pipeline_ask(s, must_precopy + can_postcopy);
}

static uint64_t pipeline_step(MigrationState *s, uint64_t pending)
{
    MigratePipelineAction action = pipeline_ask(s, pending);

    if (action == MIGRATE_PIPELINE_ACTION_SYNC) {
        action = pipeline_sync(s);
    }
    if (action == MIGRATE_PIPELINE_ACTION_SWITCH_OVER &&
        runstate_is_running()) {
        migration_pipeline_settle(s, pipeline_time_left());
        action = pipeline_sync(s);
    }
    if (action == MIGRATE_PIPELINE_ACTION_GO_ON) {
        pipeline_rest(s);
    }
    return pipeline_act(s, action);
}

uint64_t migration_pipeline_decide(MigrationState *s, uint64_t pending)
{
    uint64_t answer;

    if (migration_in_postcopy()) {
        return pending;
    }
    if (!migration_pipeline_drives(s)) {
        return migration_pipeline_decide_plain(s, pending);
    }
    answer = pipeline_step(s, pending);
    if (!pending && answer) {
        g_usleep(PIPELINE_NAP);
    }
    return answer;
}
