/*
 * Migration pipeline: what a blackout takes besides memory
 *
 * A blackout is memory, and parts that do not depend on memory: the CPUs stop,
 * disks change hands, devices are loaded.  What these take is known from the
 * guest's blackouts before: their times travel with the guest, for each QEMU
 * sees no more than one arrival and one departure of it.
 *
 * What happens at the same time counts once.  The source saves the devices'
 * state and sends it when a buffer is full, or at the end, and the destination
 * loads it from then on; so one follows the other for all but very large
 * states, and the prediction of these is too long rather than too short.
 *
 * An estimate is the median of the blackouts that are known.  Each counts for
 * less the older it is, so that it is not believed for ever.  Where nothing is
 * known there is a guess, scaled by how busy the host is (stall.h).
 *
 * Pure functions, like those of estimate.h.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_COSTS_H
#define MIGRATION_PIPELINE_COSTS_H

typedef enum PipelineCostPart {
    PIPELINE_COST_STOP,
    PIPELINE_COST_RELEASE,
    PIPELINE_COST_DEVICE_STATE,
    PIPELINE_COST_LOAD,
    PIPELINE_COST_CLAIM,
    PIPELINE_COST_START,
    PIPELINE_COSTS,
} PipelineCostPart;

/* Blackouts that are remembered */
#define PIPELINE_HISTORY    8
/* No part is believed to take longer than that, in microseconds. */
#define PIPELINE_COST_MOST  60000000

/* One blackout.  In memory and in the stream (docs/interop) */
typedef struct PipelineRow {
    uint32_t time[PIPELINE_COSTS];  /* microseconds */
    uint32_t age;               /* seconds, at the time of the last ageing */
} PipelineRow;

/* Oldest first.  All zeroes is a history that knows nothing. */
typedef struct PipelineHistory {
    uint32_t rows;              /* at most PIPELINE_HISTORY */
    PipelineRow row[PIPELINE_HISTORY];
} PipelineHistory;

/* An estimate, in microseconds */
typedef struct PipelineCosts {
    int64_t time[PIPELINE_COSTS];
    int64_t total;              /* the sum of these */
    int64_t spread;             /* the blackout may well be so much longer */
    unsigned rows;              /* that it is made from; 0: a guess */
    unsigned age;               /* of the latest one, in seconds */
} PipelineCosts;

/* @row has just been seen; the oldest one goes when there is no room. */
void pipeline_history_add(PipelineHistory *h, const PipelineRow *row);

/* @seconds have passed. */
void pipeline_history_age(PipelineHistory *h, unsigned seconds);

/* Is it one that pipeline_history_add() can have made? */
bool pipeline_history_valid(const PipelineHistory *h);

/*
 * What the next blackout takes.  For a guess: work takes @stall permille of
 * what it takes on an idle host; @disks change hands in a volume.
 */
PipelineCosts pipeline_costs(const PipelineHistory *h, unsigned stall,
                             bool disks);

#endif /* MIGRATION_PIPELINE_COSTS_H */
