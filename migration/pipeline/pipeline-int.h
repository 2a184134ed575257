/*
 * Migration pipeline: what its parts share
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_PIPELINE_INT_H
#define MIGRATION_PIPELINE_PIPELINE_INT_H

#include "qapi/qapi-types-migration.h"
#include "qemu/thread.h"
#include "qemu/timer.h"
#include "pipeline.h"

/* What the pipeline decides about, as the user had it */
typedef struct PipelineSettings {
    bool return_path, auto_converge, dirty_limit, postcopy_ram, multifd;
    bool mapped_ram, xbzrle, zero_copy;
    MultiFDCompression compression;
    uint64_t max_bandwidth, downtime_limit;
} PipelineSettings;

/* The migration that the pipeline drives, or has driven */
typedef struct Pipeline {
    QemuMutex lock;             /* protects what is not the main thread's */
    bool on;                    /* armed, and not ended */
    bool used;                  /* there is something to report */
    bool greets;                /* and has not done so */
    bool falls_back;            /* to another mode, when this one has failed */
    int64_t start_time;         /* of the migration; 0: not known yet */
    PipelinePolicy policy;
    PipelineSample sample;      /* the last one */
    GArray *decisions;          /* of MigratePipelineDecision */
    MigratePipelineDecision decision;
    bool decided;
    MigratePipelineStage stage;
    int64_t predicted;          /* blackout, at the switch-over; or 0 */

    /* main thread */
    int64_t elapsed;            /* of a migration that has ended, in ms; or 0 */
    QEMUTimer *timer;           /* for a deadline that nobody looks at */
    bool expired;               /* it has come to that */
    PipelineSettings saved, set;
} Pipeline;

extern Pipeline pipeline;

/* In milliseconds, as the user has them */
static inline int64_t migration_pipeline_ms(int64_t us)
{
    return us / 1000 + (us % 1000 > 0);
}

/* How far a migration has come, on the source or the destination */
MigratePipelineStage migration_pipeline_stage(MigrationStatus status,
                                              bool source);

#endif /* MIGRATION_PIPELINE_PIPELINE_INT_H */
