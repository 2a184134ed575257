/*
 * Migration pipeline: the blackout besides memory
 *
 * A blackout consists of memory, and parts that do not depend on memory:
 * stopping CPUs, handing over disks, loading devices.  Their durations are
 * known from the guest's previous blackouts; these migrate with the guest,
 * because each QEMU process sees only one arrival and one departure.
 *
 * Concurrent parts count once.  The source saves the device state and sends it
 * when a buffer is full, or at the end, and the destination loads it from then
 * on; so saving and loading are sequential for all but very large states, for
 * which the prediction is too long rather than too short.
 *
 * An estimate is the weighted median of the known blackouts; older ones have
 * less weight.  Without any there is a guess, scaled by how busy the host is
 * (stall.h).
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

/* Number of blackouts in a history */
#define PIPELINE_HISTORY    8
/* Upper bound for the time of a part, in microseconds */
#define PIPELINE_COST_MOST  60000000

/* One blackout.  In memory and in the stream (docs/interop) */
typedef struct PipelineRow {
    uint32_t time[PIPELINE_COSTS];  /* microseconds */
    uint32_t age;               /* seconds, at the last ageing */
} PipelineRow;

/* Oldest first.  All zeroes is an empty history. */
typedef struct PipelineHistory {
    uint32_t rows;              /* at most PIPELINE_HISTORY */
    PipelineRow row[PIPELINE_HISTORY];
} PipelineHistory;

/* An estimate, in microseconds */
typedef struct PipelineCosts {
    int64_t time[PIPELINE_COSTS];
    int64_t total;              /* the sum of these */
    int64_t spread;             /* by how much the total may be exceeded */
    unsigned rows;              /* number of rows it is based on; 0: a guess */
    unsigned age;               /* of the latest one, in seconds */
} PipelineCosts;

/* Add the latest blackout; drop the oldest one if there is no room. */
void pipeline_history_add(PipelineHistory *h, const PipelineRow *row);

/* Note that @seconds have passed. */
void pipeline_history_age(PipelineHistory *h, unsigned seconds);

/* Could this be the result of pipeline_history_add()? */
bool pipeline_history_valid(const PipelineHistory *h);

/*
 * Estimate the next blackout.  For a guess: @stall is the slowdown against an
 * idle host, in permille; @disks: disks are handed over in a volume.
 */
PipelineCosts pipeline_costs(const PipelineHistory *h, unsigned stall,
                             bool disks);

#endif /* MIGRATION_PIPELINE_COSTS_H */
