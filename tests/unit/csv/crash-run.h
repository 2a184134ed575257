/*
 * Crash tests of csv disks: from a workload to all that a power loss leaves
 *
 * A workload runs once, on a device that keeps a trace. Then each event of the
 * trace is a place to crash at: states that a power loss may leave there are
 * made; in each, new members open the disks and every sector is looked at. Now
 * and then they work on, and crash again.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_CSV_CRASH_RUN_H
#define TESTS_UNIT_CSV_CRASH_RUN_H

#include "crash-work.h"

typedef struct CrashStep CrashStep;

/* An opening of the disks, and crashes in it */
typedef struct CrashEpisode {
    CrashPlan plan;
    CrashWork work;
    const CrashStep *script;    /* of crash-script.c, in place of .ops */
    unsigned steps;
    unsigned random;        /* random choices for each state */
    bool single;            /* lose each sector alone */
    bool whole;             /* lose each write alone */
    bool late;              /* an owner is thought dead, and still writes */
    bool check;             /* with the driver's check, in the end */
} CrashEpisode;

typedef struct CrashStats {
    unsigned workloads;
    unsigned points;
    unsigned checks;        /* states in which the driver's check ran */
} CrashStats;

extern CrashStats crash_stats;
/* Bytes that the device does not tear; CSV_CRASH_BLOCK */
extern unsigned crash_block;

/*
 * The workload of a seed: odd ones are long and parallel, even ones short.
 * Seeds that are CRASH_KINDS apart make workloads of one kind.
 */
#define CRASH_KINDS 120
CrashEpisode crash_episode(unsigned seed);
/* One in which an owner that is thought dead still writes to its journal */
CrashEpisode crash_late_episode(unsigned seed);
/* Run it on a new volume.  What went wrong, or NULL; to be freed. */
char *crash_run(const CrashEpisode *episode);
/* A number from the environment */
unsigned crash_env(const char *name, unsigned otherwise);

#endif
