/*
 * Migration pipeline: write disks back before the guest stops
 *
 * When the guest stops, all disks are flushed, and the guest stands still
 * for as long as that takes.  So they are flushed in the background before,
 * again and again while switch-over is near: little is left then.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_QUIESCE_H
#define MIGRATION_PIPELINE_QUIESCE_H

/* Any thread; what earlier rounds took is forgotten. */
void migration_quiesce_reset(void);

/*
 * Migration thread: flush all disks in the background, unless a round of it
 * is under way or has ended a moment ago.
 */
void migration_quiesce(void);

/*
 * How long the last round took, in microseconds; -1 if none has ended since
 * the reset.  An error of a flush is not one here: it will come again when the
 * guest stops.  Any thread.
 */
int64_t migration_quiesce_time(void);

#endif /* MIGRATION_PIPELINE_QUIESCE_H */
