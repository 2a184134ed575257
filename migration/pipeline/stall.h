/*
 * Migration pipeline: how busy the host is
 *
 * If there are more runnable threads than CPUs, work takes longer by the time
 * it waits for a CPU.  The kernel counts both run and wait time for each thread
 * (/proc/PID/task/TID/schedstat), so no trial is needed.  Until these have
 * grown enough, the pressure of the whole host is used (/proc/pressure/cpu).
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_STALL_H
#define MIGRATION_PIPELINE_STALL_H

typedef struct PipelineStall PipelineStall;

/* For MigrationPipeline */
PipelineStall *migration_stall_new(void);

/* Start measuring.  Any thread. */
void migration_stall_begin(void);

/*
 * How long work of this process took in the last second or so, in permille of
 * the time on an idle host: at least 1000; also 1000 if the kernel does not
 * count.  Any thread.
 */
unsigned migration_stall(void);

#endif /* MIGRATION_PIPELINE_STALL_H */
