/*
 * Crash tests of csv disks: from a workload to all that a power loss leaves
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/bitmap.h"
#include "qemu/units.h"
#include "crash-script.h"

#define MAX_CRASHES     2       /* one after the other */
#define RING_PAGES      448
#define LATE_RECORDS    3

CrashStats crash_stats;
unsigned crash_block = SIM_SECTOR;

/* Lose write number @c of those that are pending.  False: no such choice */
static bool lose_write(const SimTrace *trace, unsigned long *keep, unsigned n,
                       unsigned c)
{
    unsigned nr = 0;

    for (unsigned i = 0; i < n; i++) {
        nr += i && sim_walk_writer(trace, i) != sim_walk_writer(trace, i - 1);
        if (nr == c) {
            clear_bit(i, keep);
        }
    }
    return nr && c <= nr;
}

/* Which of the pending sectors survive in choice @c; false: no such choice */
static bool choose(const SimTrace *trace, unsigned long *keep, unsigned c,
                   const CrashEpisode *e, uint64_t *seed)
{
    unsigned n = sim_walk_pending(trace);

    bitmap_zero(keep, n);
    if (c == 0) {
        return true;
    }
    if (!n) {
        return false;
    }
    bitmap_set(keep, 0, n);
    if (c == 1) {
        return true;
    }
    c -= 2;
    if (c < e->random) {
        unsigned limit = sim_random(seed) % (n + 1);

        for (unsigned i = 0; i < n; i++) {
            if (c % 2 ? i >= limit : sim_random(seed) & 1) {
                clear_bit(i, keep);
            }
        }
        return n > 1;
    }
    c -= e->random;
    if (e->whole) {
        return lose_write(trace, keep, n, c);
    }
    if (e->single && c < n && n > 1) {
        clear_bit(c, keep);
        return true;
    }
    return false;
}

static char *run_episode(const CrashEpisode *e, Model *model,
                         unsigned crashes);

/* The device is in a state after a crash.  Returns what is wrong, or NULL. */
static char *check_state(const CrashEpisode *e, Model *model,
                         unsigned crashes, uint64_t *seed)
{
    CrashEpisode next = {
        .plan = e->plan,
        .random = 1,
        .work = { .seed = sim_random(seed), .depth = 1 },
    };

    crash_stats.points++;
    /* What the crash left is gone when the disks have been used. */
    next.check = sim_random(seed) % 20 == 0;
    if (crashes < MAX_CRASHES && sim_random(seed) % 50 == 0) {
        next.work.ops = sim_random(seed) % 4;
    }
    return run_episode(&next, model, next.work.ops ? crashes : MAX_CRASHES);
}

/* All crashes that may come at event @i of @trace */
static char *check_event(const CrashEpisode *e, SimTrace *trace, unsigned i,
                         Model *model, unsigned crashes, uint64_t *seed)
{
    unsigned n = sim_walk_pending(trace);
    g_autofree unsigned long *keep = bitmap_new(n + 1);

    for (unsigned c = 0; choose(trace, keep, c, e, seed); c++) {
        Model *copy = model_copy(model);
        size_t mark = sim_mark();
        g_autofree char *why = NULL;

        sim_walk_crash(trace, keep, crash_block / SIM_SECTOR);
        why = check_state(e, copy, crashes, seed);
        sim_undo(mark);
        model_free(copy);
        if (why) {
            return g_strdup_printf("crash at event %u of %u, choice %u of %u "
                                   "pending sectors:\n    %s", i,
                                   sim_trace_length(trace), c, n, why);
        }
    }
    return NULL;
}

typedef enum WriteKind {
    WRITE_DATA,
    WRITE_RECORD,       /* of a journal */
    WRITE_OTHER,
} WriteKind;

static WriteKind write_kind(const SimEvent *event)
{
    if (!event->data || memcmp(event->data, "CSV", 3)) {
        return WRITE_DATA;
    }
    return event->data[3] == 'J' ? WRITE_RECORD : WRITE_OTHER;
}

/*
 * The owner is thought dead at event @i, but goes on a while: another member
 * takes the disk, and has read its journal when some more records come in, with
 * the data they stand for.  They are of one sector, so that the first record of
 * the new owner replaces one of them whole.
 */
static char *check_late(const CrashEpisode *e, SimTrace *trace, unsigned i,
                        Model *model, unsigned crashes, uint64_t *seed)
{
    CrashEpisode next = {
        .plan = e->plan,
        .random = 2,
        .work = { .seed = sim_random(seed), .depth = 1, .ops = 3 },
    };
    g_autofree unsigned long *keep = bitmap_new(sim_walk_pending(trace) + 1);
    Model *copy = model_copy(model);
    unsigned records = 0, last = i;
    size_t mark = sim_mark();
    char *why = NULL;

    for (unsigned k = i + 1; k < sim_trace_length(trace); k++) {
        const SimEvent *event = sim_trace_event(trace, k);

        if (event->kind == SIM_NOTE) {
            const ModelNote *note = event->note;

            /* What it has begun may be there; nothing more is promised. */
            if (note->kind == MODEL_BEGIN) {
                model_note(copy, note);
            }
        } else if (event->kind == SIM_WRITE) {
            WriteKind kind = write_kind(event);

            if (kind == WRITE_OTHER || records == LATE_RECORDS) {
                break;
            }
            records += kind == WRITE_RECORD;
            last = kind == WRITE_RECORD ? k : last;
        }
    }
    if (records) {
        bitmap_set(keep, 0, sim_walk_pending(trace));
        sim_walk_crash(trace, keep, 1);
        sim_device_late(trace, i + 1, last);
        crash_stats.points++;
        why = run_episode(&next, copy, crashes);
        sim_device_late(NULL, 0, 0);
        sim_undo(mark);
    }
    model_free(copy);
    return why;
}

/* @pinned: @model from the moment on when the disks were looked at */
static char *check_trace(const CrashEpisode *e, SimTrace *trace, Model *model,
                         Model *pinned, unsigned crashes)
{
    uint64_t seed = e->work.seed ^ 0x5555;
    size_t mark = sim_mark();
    char *why = NULL;

    for (unsigned i = 0; !why && i < sim_trace_length(trace); i++) {
        const SimEvent *event = sim_trace_event(trace, i);
        const ModelNote *note = event->kind == SIM_NOTE ? event->note : NULL;

        if (note && note->kind == MODEL_OPENED) {
            model = pinned;
        } else if (note) {
            model_note(model, note);
        }
        if (!sim_walk_step(trace, i) && (!note || note->kind == MODEL_BEGIN)) {
            continue;
        }
        why = e->late ? check_late(e, trace, i, model, crashes, &seed)
                      : check_event(e, trace, i, model, crashes, &seed);
    }
    sim_undo(mark);
    return why;
}

/* Look at the disks, work on them, and close them. */
static char *use_disks(const CrashEpisode *e, CrashDisks *disks, Model *model,
                       bool trace)
{
    char *why = crash_verify(disks, model);

    if (!why && e->work.warm_up) {
        crash_warm_up(&e->plan, disks, e->work.warm_up, model);
    }
    if (trace && e->work.warm_up) {
        sim_trace_start();
    }
    if (trace) {
        ModelNote *note = g_new0(ModelNote, 1);

        note->kind = MODEL_OPENED;
        sim_trace_note(note);
    }
    if (!why && e->script) {
        crash_script_run(e->script, e->steps, disks);
    } else if (!why && e->work.ops) {
        crash_work(&e->plan, &e->work, disks);
    }
    crash_close(disks);
    if (!why && e->check) {
        crash_stats.checks++;
        why = crash_check();
    }
    return why;
}

/*
 * Open the disks, compare them with @model, work, close them; and then, as
 * long as there are fewer than MAX_CRASHES @crashes, crash at each event.
 */
static char *run_episode(const CrashEpisode *e, Model *model,
                         unsigned crashes)
{
    bool trace = crashes < MAX_CRASHES;
    Model *pinned = trace ? model_copy(model) : model;
    SimTrace *done = NULL;
    size_t mark = sim_mark();
    CrashDisks disks;
    Error *err = NULL;
    char *why;

    if (trace && !e->work.warm_up) {
        sim_trace_start();
    }
    if (crash_open(&e->plan, &disks, &err)) {
        why = use_disks(e, &disks, pinned, trace);
    } else {
        why = g_strdup(error_get_pretty(err));
        error_free(err);
    }
    if (trace) {
        done = sim_trace_stop();
    }
    if (done) {
        sim_trace_rewind(done);
        if (!why) {
            why = check_trace(e, done, model, pinned, crashes + 1);
        }
        sim_trace_free(done);
    }
    sim_undo(mark);
    if (trace) {
        model_free(pinned);
    }
    return why;
}

char *crash_run(const CrashEpisode *e)
{
    Model *model = model_new();
    char *why;

    crash_format(&e->plan, model);
    why = run_episode(e, model, 0);
    sim_device_free();
    model_free(model);
    crash_stats.workloads++;
    return why;
}

CrashEpisode crash_episode(unsigned n)
{
    /* One disk in four has its places in four tables, and memory for two. */
    bool many = n % 2, tables = n / 2 % 4 == 1, two = n / 2 % 4 == 3;
    bool wide = n % 24 == 9, resize = n % 5 == 0 && !tables && !wide;

    return (CrashEpisode) {
        .plan = {
            .disks = two ? 2 : 1,
            .backing = n / 2 % 4 == 2,
            .cache_size = tables ? 0 : MiB,
            .apart = tables ? 10 * (GiB / SIM_SECTOR) : 0,
            .unmap = n % 3 == 0,
            .resize = resize,
            .wide = wide,
            .churn = n % 6 == 3 && !wide,
            .race = many,
        },
        .work = {
            .seed = n,
            .ops = many ? 40 : 6,
            .depth = many ? 1 + n / 2 % CRASH_DEPTH : 1,
            .warm_up = n % 24 == 1 || wide ? RING_PAGES - n / 24 % 8 : 0,
            .move = n % 6 == 1 ? CRASH_HANDOVER :
                    n % 6 == 4 ? CRASH_RELEASE : CRASH_STAY,
            .faults = {
                .delay = many ? n % 7 == 2 ? 80 : 30 : 0,
                .fail_write = n % 8 == 7 ? 200 : 0,
                .fail_flush = n % 8 == 5 ? 500 : n % 24 == 3 ? 2000 : 0,
            },
        },
        .random = wide ? 8 : many ? 3 : 4,
        .single = !many,
    };
}

CrashEpisode crash_late_episode(unsigned n)
{
    return (CrashEpisode) {
        .plan = { .disks = 1, .cache_size = MiB, .keep = true },
        .work = { .seed = n, .ops = 12, .depth = 1 },
        .late = true,
    };
}

unsigned crash_env(const char *name, unsigned otherwise)
{
    const char *s = getenv(name);

    return s ? atoi(s) : otherwise;
}
