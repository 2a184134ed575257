/*
 * Migration pipeline: multifd that compresses where that pays
 *
 * The flags of a multifd packet tell its compression method.  With QEMU's own
 * methods it is the same for all packets; here choice.h chooses it for each.
 * Both sides must have negotiated this (hello.h).
 *
 * Whether it is used is in MigrationState, as multifd's other settings for both
 * sides.  The state of a channel is its compress_data.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_ADAPTIVE_H
#define MIGRATION_PIPELINE_ADAPTIVE_H

#include "migration/multifd.h"

typedef struct PipelineAdaptive PipelineAdaptive;

/* For MigrationPipeline */
PipelineAdaptive *migration_adaptive_new(void);

/* Whether this build supports it.  Main thread. */
bool migration_adaptive_available(void);

/*
 * Both sides, main thread: whether to use it from the next set-up of multifd
 * on, and if so, whether with deltas (delta.h)
 */
void migration_adaptive_set(bool on, bool delta);

/*
 * Bytes per second of all channels together, as last reported to each by the
 * kernel; 0 if unknown for one of them.  Any thread.
 */
double migration_adaptive_link_rate(void);

/*
 * Sending was paused to let the destination catch up; this time must not count
 * for the choice.  Any thread.
 */
void migration_adaptive_paused(void);

/*
 * The methods for multifd to use in place of those in @ops, which is indexed by
 * MultiFDCompression; NULL to use @ops.
 */
const MultiFDMethods *migration_adaptive_ops(const MultiFDMethods **ops);

/* Stop using it, but keep the counts of pages.  Main thread. */
void migration_adaptive_stop(void);

/* Pages sent by each method, since migration_adaptive_set().  Any thread. */
void migration_adaptive_pages(uint64_t *raw, uint64_t *compressed,
                              uint64_t *deltas);

#endif /* MIGRATION_PIPELINE_ADAPTIVE_H */
