/*
 * Migration pipeline: query-migrate-pipeline
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "exec/target_page.h"
#include "migration/migration.h"
#include "migration/migration-stats.h"
#include "qapi/clone-visitor.h"
#include "qapi/qapi-visit-pipeline.h"
#include "qemu/lockable.h"
#include "adaptive.h"
#include "current.h"
#include "history.h"
#include "info.h"
#include "lazy.h"
#include "quick.h"
#include "quiesce.h"
#include "report.h"

MigratePipelineStage migration_pipeline_stage(MigrationStatus status,
                                              bool source)
{
    MigrationPipeline *mp = migration_pipeline();

    switch (status) {
    case MIGRATION_STATUS_NONE:
        return MIGRATE_PIPELINE_STAGE_NONE;
    case MIGRATION_STATUS_SETUP:
    case MIGRATION_STATUS_WAIT_UNPLUG:
        return MIGRATE_PIPELINE_STAGE_SETUP;
    case MIGRATION_STATUS_COMPLETED:
    case MIGRATION_STATUS_COLO:
        return !source && migration_lazy_active() ?
               MIGRATE_PIPELINE_STAGE_POSTCOPY :
               MIGRATE_PIPELINE_STAGE_COMPLETED;
    case MIGRATION_STATUS_FAILED:
        return MIGRATE_PIPELINE_STAGE_FAILED;
    case MIGRATION_STATUS_CANCELLING:
    case MIGRATION_STATUS_CANCELLED:
        return source && mp->expired ? MIGRATE_PIPELINE_STAGE_FAILED :
                                       MIGRATE_PIPELINE_STAGE_CANCELLED;
    case MIGRATION_STATUS_PRE_SWITCHOVER:
    case MIGRATION_STATUS_DEVICE:
        return MIGRATE_PIPELINE_STAGE_SWITCH_OVER;
    case MIGRATION_STATUS_ACTIVE:
        return !source ? MIGRATE_PIPELINE_STAGE_RECEIVE :
               stat64_get(&mig_stats.dirty_sync_count) > 1 ?
               MIGRATE_PIPELINE_STAGE_CONVERGE : MIGRATE_PIPELINE_STAGE_BULK;
    default:
        return MIGRATE_PIPELINE_STAGE_POSTCOPY;
    }
}

static MigratePipelinePromise *pipeline_promise(const PipelineGoal *goal)
{
    MigratePipelinePromise *p = g_new0(MigratePipelinePromise, 1);

    p->max_blackout = goal->max_blackout / 1000;
    p->margin = goal->margin / 1000;
    p->has_deadline = goal->deadline;
    p->deadline = goal->deadline / 1000000;
    p->allow_throttle = goal->throttle_max;
    p->allow_postcopy = goal->postcopy;
    p->allow_compression = goal->compression;
    return p;
}

static MigratePipelineEstimate *pipeline_estimate(MigrationState *s)
{
    MigrationPipeline *mp = migration_pipeline();
    const PipelinePolicy *p = &mp->policy;
    const PipelineSample *sample = &mp->sample;
    const PipelineEstimate *e = &p->estimate;
    MigratePipelineEstimate *info = g_new0(MigratePipelineEstimate, 1);
    uint64_t budget = pipeline_estimate_pages(e, p->goal.max_blackout -
                                                 sample->fixed);

    info->page_rate = e->page_rate;
    info->dirty_rate = e->dirty_rate;
    info->bandwidth = s->mbps * 1000000 / 8;
    info->remaining = sample->pages_left * qemu_target_page_size();
    info->passes = p->passes;
    info->hot = sample->pages_hot * qemu_target_page_size();
    info->saved = sample->pages_saved;
    migration_adaptive_pages(&info->raw, &info->compressed, &info->changes);
    if (sample->pages_left <= budget) {
        info->has_time = true;
    } else if (e->page_rate >= e->dirty_rate + 1) {
        info->has_time = true;
        info->time = (sample->pages_left - budget) * 1000 /
                     (e->page_rate - e->dirty_rate);
    }
    info->has_blackout = mp->decided && p->predicted != INT64_MAX;
    info->blackout = migration_pipeline_ms(p->predicted);
    info->has_flush = migration_quiesce_time() >= 0;
    info->flush = migration_pipeline_ms(migration_quiesce_time());
    info->fixed = migration_pipeline_ms(sample->fixed);
    info->costs = migration_history_info();
    return info;
}

static MigratePipelinePrediction *pipeline_prediction(void)
{
    MigrationPipeline *mp = migration_pipeline();
    MigratePipelinePrediction *p = g_new0(MigratePipelinePrediction, 1);

    p->predicted = mp->predicted;
    p->seen = migration_report_total();
    p->error = p->predicted - p->seen;
    return p;
}

/* Called with the lock held */
static void pipeline_info_driven(MigratePipelineInfo *info, MigrationState *s)
{
    MigrationPipeline *mp = migration_pipeline();
    MigratePipelineDecisionList **tail = &info->decisions;

    info->has_mode = true;
    info->mode = mp->policy.goal.quick ? MIGRATE_PIPELINE_MODE_QUICK :
                                         MIGRATE_PIPELINE_MODE_LIVE;
    info->promise = pipeline_promise(&mp->policy.goal);
    info->estimate = pipeline_estimate(s);
    if (mp->decided) {
        info->decision = QAPI_CLONE(MigratePipelineDecision, &mp->decision);
    }
    for (unsigned i = 0; i < mp->decisions->len; i++) {
        MigratePipelineDecision *d =
            &g_array_index(mp->decisions, MigratePipelineDecision, i);

        QAPI_LIST_APPEND(tail, QAPI_CLONE(MigratePipelineDecision, d));
    }
    info->has_decisions = true;
    if (info->stage == MIGRATE_PIPELINE_STAGE_COMPLETED &&
        mp->predicted && info->blackout) {
        info->prediction = pipeline_prediction();
    }
}

MigratePipelineInfo *migration_pipeline_info(void)
{
    MigrationPipeline *mp = migration_pipeline();
    MigrationState *s = migrate_get_current();
    MigrationIncomingState *mis = migration_incoming_get_current();
    bool source = s->state != MIGRATION_STATUS_NONE;
    MigratePipelineInfo *info = g_new0(MigratePipelineInfo, 1);

    info->stage = migration_pipeline_stage(source ? s->state : mis->state,
                                           source);
    if (info->stage != MIGRATE_PIPELINE_STAGE_NONE) {
        info->blackout = migration_report_get();
    }
    info->state = migration_quick_info();
    if (source) {
        info->has_elapsed = true;
        info->elapsed = mp->elapsed ?:
            qemu_clock_get_ms(QEMU_CLOCK_REALTIME) - s->start_time;
    }
    WITH_QEMU_LOCK_GUARD(&s->error_mutex) {
        if (s->error) {
            info->error = g_strdup(error_get_pretty(s->error));
        }
    }
    WITH_QEMU_LOCK_GUARD(&mp->lock) {
        if (source && mp->used && mp->start_time == s->start_time) {
            pipeline_info_driven(info, s);
        }
    }
    return info;
}
