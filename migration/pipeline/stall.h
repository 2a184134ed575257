/*
 * Migration pipeline: how busy the host is
 *
 * When more wants to run than there are CPUs, each piece of work takes longer
 * by the time it waits for one.  The kernel counts both for each thread
 * (/proc/PID/task/TID/schedstat), so nothing has to be tried.  Until there is
 * something to count, the pressure of the whole host is taken
 * (/proc/pressure/cpu).
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_STALL_H
#define MIGRATION_PIPELINE_STALL_H

/* Measure from now on.  Any thread. */
void migration_stall_begin(void);

/*
 * What work of this process took since some time ago, the last second or so,
 * in permille of what it would have taken on an idle host: at least 1000.
 * 1000 as well if the kernel does not count.  Any thread.
 */
unsigned migration_stall(void);

#endif /* MIGRATION_PIPELINE_STALL_H */
