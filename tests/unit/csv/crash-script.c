/*
 * Crash tests of csv disks: short workloads, each for one rule
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/aio.h"
#include "qemu/coroutine.h"
#include "qemu/main-loop.h"
#include "qemu/units.h"
#include "crash-script.h"

typedef enum StepKind {
    STEP_WRITE,
    STEP_UNMAP,
    STEP_FLUSH,
    STEP_LET_GO,        /* what is held on its way to the device */
} StepKind;

struct CrashStep {
    StepKind kind;
    bool aside;         /* the next step does not wait for it */
    bool held;          /* ... and its write to the device is held */
    unsigned disk;
    unsigned cluster, clusters;     /* 0: one; else each of them */
    unsigned sector, sectors;       /* in the cluster */
};

#define WHOLE .sectors = CRASH_CLUSTER

/* A subcluster that is free, and written before the flush that frees it */
static const CrashStep trim_unseen[] = {
    { STEP_WRITE, .sectors = 2 * CRASH_SUBCLUSTER },
    { STEP_FLUSH },
    { STEP_UNMAP, .sectors = CRASH_SUBCLUSTER },
    { STEP_WRITE, .sector = 3, .sectors = 5 },
    { STEP_FLUSH },
};

/*
 * A write is on its way while its cluster is freed and goes to another one,
 * which must not get its bytes.
 */
static const CrashStep no_wait[] = {
    { STEP_WRITE, .sectors = 8 },
    { STEP_FLUSH },
    { STEP_WRITE, .aside = true, .held = true, .sectors = 8 },
    { STEP_UNMAP, .aside = true, WHOLE },
    { STEP_FLUSH },
    { STEP_WRITE, .cluster = 1, .sectors = 8 },
    { STEP_FLUSH },
    { STEP_LET_GO },
    { STEP_FLUSH },
};

/*
 * The second cluster gets the place of the first one. It counts as blank,
 * but the zeroes there are no older than the flush that is to make it durable.
 */
static const CrashStep zeroes_not_durable[] = {
    { STEP_WRITE, .sectors = CRASH_SUBCLUSTER },
    { STEP_FLUSH },
    { STEP_UNMAP, WHOLE },
    { STEP_FLUSH },
    { STEP_WRITE, .cluster = 1, .sector = 3, .sectors = 1 },
    { STEP_FLUSH },
};

/*
 * One disk fills two segments and begins a third. It frees all that is in the
 * last two, and gives the third back; the other disk grows and gets it.
 */
static const CrashStep segment_early[] = {
    { STEP_WRITE, .clusters = 8, .sectors = CRASH_SUBCLUSTER },
    { STEP_FLUSH },
    { STEP_UNMAP, .cluster = 2, .clusters = 6, WHOLE },
    { STEP_FLUSH },
    { STEP_WRITE, .disk = 1, .clusters = 4, .sector = 3, .sectors = 1 },
    { STEP_FLUSH, .disk = 1 },
};

#define SCRIPT(name, disks, steps) \
    { name, disks, steps, G_N_ELEMENTS(steps) }

static const struct {
    const char *name;
    unsigned disks;
    const CrashStep *steps;
    unsigned n;
} scripts[] = {
    SCRIPT("zeroes-not-durable", 1, zeroes_not_durable),
    SCRIPT("segment-early", 2, segment_early),
    SCRIPT("trim-unseen", 1, trim_unseen),
    SCRIPT("no-wait", 1, no_wait),
};

const char *crash_script_name(unsigned i)
{
    return i < G_N_ELEMENTS(scripts) ? scripts[i].name : NULL;
}

CrashEpisode crash_script_episode(const char *name)
{
    unsigned i = 0;

    while (!g_str_equal(scripts[i].name, name)) {
        g_assert(++i < G_N_ELEMENTS(scripts));
    }
    return (CrashEpisode) {
        .plan = {
            .disks = scripts[i].disks,
            .cache_size = MiB,
            .unmap = true,
        },
        .script = scripts[i].steps,
        .steps = scripts[i].n,
        .random = 2,
        .whole = true,
    };
}

/* A step that is under way */
typedef struct Running {
    const CrashStep *step;
    const CrashDisks *disks;
    unsigned *all;      /* how many are */
    bool done;
} Running;

static void coroutine_fn step_entry(void *opaque)
{
    Running *r = opaque;
    const CrashStep *step = r->step;

    if (step->kind == STEP_FLUSH) {
        crash_flush(r->disks, step->disk);
    } else {
        for (unsigned i = 0; i < MAX(step->clusters, 1); i++) {
            uint64_t cluster = step->cluster + i;

            crash_change(r->disks,
                         step->kind == STEP_UNMAP ? CRASH_UNMAP : CRASH_WRITE,
                         MODEL_KEY(step->disk,
                                   cluster * CRASH_CLUSTER + step->sector),
                         step->sectors);
        }
    }
    r->done = true;
    --*r->all;
}

void crash_script_run(const CrashStep *step, unsigned steps,
                      const CrashDisks *disks)
{
    g_autofree Running *running = g_new0(Running, steps);
    unsigned all = 0;

    for (unsigned i = 0; i < steps; i++, step++) {
        Running *r = &running[i];

        if (step->kind == STEP_LET_GO) {
            sim_device_let_go();
            while (all) {
                aio_poll(qemu_get_aio_context(), true);
            }
            continue;
        }
        if (step->held) {
            sim_device_hold();
        }
        *r = (Running) { step, disks, &all };
        all++;
        aio_co_enter(qemu_get_aio_context(),
                     qemu_coroutine_create(step_entry, r));
        while (!r->done && !step->aside) {
            aio_poll(qemu_get_aio_context(), true);
        }
    }
    g_assert(!all);
}
