/*
 * Crash tests of csv disks: the volume, and what is done to it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_CSV_CRASH_WORK_H
#define TESTS_UNIT_CSV_CRASH_WORK_H

#include "crash-model.h"
#include "sim-device.h"
#include "system/block-backend.h"

#define CRASH_DEPTH     8       /* requests at once, at most */
#define CRASH_DISKS     2
#define CRASH_CLUSTER   4096    /* sectors */
#define CRASH_SUBCLUSTER 128

/* How a disk goes from one opening to another in the midst of the work */
typedef enum CrashMove {
    CRASH_STAY,
    CRASH_RELEASE,      /* closed, and opened again */
    CRASH_HANDOVER,     /* let go to one member, by a token */
} CrashMove;

/* How the volume of a workload is made and used */
typedef struct CrashPlan {
    unsigned disks;         /* disk0, disk1: each opened by its own member */
    bool backing;           /* disk0 is an overlay of a disk that is full */
    uint64_t cache_size;    /* of the map */
    uint64_t apart;         /* sectors from one place to the next, more */
    bool unmap;             /* discards reach the device */
    bool resize;            /* disk0 changes its size */
    bool wide;              /* many clusters change before a flush */
    bool churn;             /* clusters come and go */
    bool race;              /* discards meet writes */
    bool keep;              /* nothing is freed */
} CrashPlan;

/* The disks while they are open; those the plan has none of are NULL. */
typedef struct CrashDisks {
    BlockBackend *blk[CRASH_DISKS];
} CrashDisks;

/* How sectors get another content */
typedef enum CrashChange {
    CRASH_WRITE,
    CRASH_WRITE_FUA,
    CRASH_ZERO,
    CRASH_UNMAP,        /* zeroes, and the place is free */
    CRASH_DISCARD,
} CrashChange;

/* What is done between opening and closing */
typedef struct CrashWork {
    uint64_t seed;
    unsigned ops;
    unsigned depth;         /* requests at once */
    unsigned warm_up;       /* flushes before the trace begins */
    CrashMove move;         /* of disk0 */
    SimFaults faults;
} CrashWork;

/* What a program of crash tests begins with */
void crash_init(void);
/* Make a volume on the device, and say in @model what it holds. */
void crash_format(const CrashPlan *plan, Model *model);
/* Open all disks.  False with @errp, and then none is open. */
bool crash_open(const CrashPlan *plan, CrashDisks *disks, Error **errp);
void crash_close(CrashDisks *disks);
/* Compare all that is in the disks with @model.  What is wrong, or NULL. */
char *crash_verify(const CrashDisks *disks, Model *model);
/* Let the driver's check look at the volume, which nobody has open. */
char *crash_check(void);
/* Fill the journal with so many records, each flushed.  No trace. */
void crash_warm_up(const CrashPlan *plan, const CrashDisks *disks,
                   unsigned flushes, Model *model);
/* One request, which is noted in the trace.  @key: a MODEL_KEY() */
void coroutine_fn crash_change(const CrashDisks *disks, CrashChange how,
                               uint64_t key, uint64_t sectors);
void coroutine_fn crash_flush(const CrashDisks *disks, unsigned disk);
/* Do it; all that is done is noted in the trace. */
void crash_work(const CrashPlan *plan, const CrashWork *work,
                CrashDisks *disks);

#endif
