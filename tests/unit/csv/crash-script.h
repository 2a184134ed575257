/*
 * Crash tests of csv disks: short workloads, each for one rule
 *
 * Some rules matter in a few orders of requests only, which workloads by chance
 * hardly ever meet. Here these orders are written down.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_CSV_CRASH_SCRIPT_H
#define TESTS_UNIT_CSV_CRASH_SCRIPT_H

#include "crash-run.h"

/* Does the workload of this number exist?  Its name */
const char *crash_script_name(unsigned i);
/* The workload of a name, which exists */
CrashEpisode crash_script_episode(const char *name);
/* Do what the steps say. */
void crash_script_run(const CrashStep *step, unsigned steps,
                      const CrashDisks *disks);

#endif
