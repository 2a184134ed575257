/*
 * Migration pipeline: the state of the outgoing migration
 *
 * It belongs to MigrationState, and lives until the process ends.  QEMU has one
 * outgoing migration at a time, and each begins by resetting this, except for
 * the history.
 *
 * As upstream's capabilities and parameters, some of it is used in both
 * directions: whether multifd is adaptive, the history, the report, and the
 * sections of the stream.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_CURRENT_H
#define MIGRATION_PIPELINE_CURRENT_H

#include "migration/migration.h"
#include "qapi/qapi-types-pipeline.h"
#include "qemu/notify.h"
#include "qemu/thread.h"
#include "qemu/timer.h"
#include "policy.h"
#include "settings.h"

typedef struct MigrationPipeline {
    /* Each is private to the file with that name, whose header says how. */
    struct PipelineAdaptive *adaptive;
    struct PipelineHandover *handover;
    struct PipelineBlackouts *history;
    struct PipelineHot *hot;
    struct PipelineQuiesce *quiesce;
    struct PipelineReport *report;
    struct PipelineSave *save;              /* quick.c */
    struct PipelineStall *stall;
    struct PipelineSwitchover *switchover;

    /* The migration that the pipeline drives, or has driven */
    QemuMutex lock;             /* for these members */
    bool on;                    /* armed, and not ended */
    bool used;                  /* there is something to report */
    bool greets;                /* has yet to send a greeting */
    bool falls_back;            /* to another mode if this one fails */
    int64_t start_time;         /* of the migration; 0: not known yet */
    PipelinePolicy policy;
    PipelineSample sample;      /* the last one */
    GArray *decisions;          /* of MigratePipelineDecision */
    MigratePipelineDecision decision;
    bool decided;
    MigratePipelineStage stage;
    int64_t predicted;          /* blackout, at the switch-over; or 0 */

    /* main thread */
    NotifierWithReturn notifier;
    int64_t elapsed;            /* of a migration that has ended, in ms; or 0 */
    QEMUTimer *timer;           /* deadline, if the migration thread hangs */
    bool expired;               /* that timer has fired */
    QEMUBHFunc *unreached;      /* runs if no connection is made; or NULL */
    MigratePipelineWish *fallback;  /* arguments in mode auto, or NULL */
    PipelineSettings saved, set;    /* the user's; ours */
} MigrationPipeline;

/* Any thread, after migration_object_init() */
static inline MigrationPipeline *migration_pipeline(void)
{
    return migrate_get_current()->pipeline_current;
}

/* Does the pipeline drive this migration?  Any thread. */
bool migration_pipeline_drives(MigrationState *s);

/* Must this migration send a greeting; it has done so.  Main thread. */
bool migration_pipeline_greets(MigrationState *s);
void migration_pipeline_greeted(void);

/* Microseconds to milliseconds, rounded up, for the user */
static inline int64_t migration_pipeline_ms(int64_t us)
{
    return us / 1000 + (us % 1000 > 0);
}

#endif /* MIGRATION_PIPELINE_CURRENT_H */
