/*
 * Migration pipeline: would this move work?
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_PREFLIGHT_H
#define MIGRATION_PIPELINE_PREFLIGHT_H

#include "qapi/qapi-types-pipeline.h"
#include "qapi/qapi-types-sockets.h"
#include "policy.h"

/*
 * Predict a migration: check this side, ask the destination at @addr, and
 * measure the link and the guest for a moment; without @addr, only this side
 * and the guest.  Nothing is changed.  To be freed by the caller.  Main thread,
 * in a coroutine.
 */
MigratePipelinePlan *coroutine_fn
migration_preflight_co(const PipelineGoal *goal, const SocketAddress *addr);

#endif /* MIGRATION_PIPELINE_PREFLIGHT_H */
