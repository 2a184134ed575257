/*
 * What the migration pipeline decides, on made-up guests and links
 *
 * A guest dirties a working set at a rate, a link takes pages at a rate; both
 * may change while the migration runs.  The simulation steps through time,
 * does what the policy says, and knows what the blackout would really be.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <math.h>
#include "migration/pipeline/policy.h"

#define MS 1000
#define S  1000000
#define STEP (5 * MS)

/* A guest and its link at one time.  Pages, and pages a second. */
typedef struct Moment {
    double working_set;
    double dirties;
    double link;
    double hot;                 /* pages that are dirty at each sync */
    double hot_link;            /* as fast as they get through */
} Moment;

typedef struct World {
    const char *name;
    Moment (*at)(int64_t now, GRand *rand);
    PipelineGoal goal;
    int64_t fixed;
    int64_t (*fixed_at)(int64_t now, GRand *rand);  /* in place of that */
    int64_t spread;
    int64_t ready;              /* when the disks are */
    unsigned ends;              /* actions that are right, one bit each */
    double most_sent;           /* in multiples of all pages; 0: whatever */
    int64_t least_time, most_time;      /* 0: whatever */
    bool no_throttle;
} World;

#define ENDS(x) (1U << MIGRATE_PIPELINE_ACTION_ ## x)
#define PAGES (512 * 256)       /* 512 MiB */

typedef struct Run {
    const World *world;
    PipelinePolicy policy;
    PipelineSample s;
    double left, done;
    int64_t promised;           /* what the policy predicted last */
    double real;                /* blackout */
    int64_t said_fixed;         /* when the policy said so first; or -1 */
} Run;

static Moment run_guest(Run *run, GRand *rand)
{
    Moment m = run->world->at(run->s.now, rand);

    m.dirties *= 1 - run->policy.throttle / 100.0;
    return m;
}

static int64_t run_fixed(const Run *run, GRand *rand)
{
    const World *w = run->world;

    return w->fixed_at ? w->fixed_at(run->s.now, rand) : w->fixed;
}

/*
 * Pages dirtied since the last sync; kept apart from those left, since the
 * policy does not know them before it looks.
 */
static void run_dirty(double *dirty, const Moment *m, double seconds)
{
    double room = MAX(0, m->working_set - *dirty);

    if (m->working_set > 0) {
        *dirty += room * (1 - exp(-m->dirties * seconds / m->working_set));
    }
}

static void run_sync(Run *run, const Moment *m, double *dirty)
{
    run->s.syncs++;
    run->s.now += MS;
    run->s.sync_time += MS;
    run->left = MIN(PAGES, run->left + *dirty);
    *dirty = 0;
    /* Those left from before are dirtied, too, and need not be sent. */
    run->left = MAX(run->left, m->hot);
    run->s.pages_hot = run->policy.put_off && run->s.syncs > 2 ? m->hot : 0;
    run->s.pages_left = run->left;
}

/* Pages that are sent in @seconds */
static double run_send(const Run *run, const Moment *m, double seconds)
{
    /* A difference takes a copy first, which the second pass makes. */
    bool whole = run->s.syncs <= 2;

    return MIN(run->left - run->s.pages_hot,
               (m->hot && !whole ? m->hot_link : m->link) * seconds);
}

static MigratePipelineAction run_world(Run *run, const World *w, unsigned seed)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    double dirty = 0;

    *run = (Run) { .world = w, .left = PAGES, .said_fixed = -1 };
    pipeline_policy_init(&run->policy, &w->goal);
    run->s.syncs = 1;
    run->s.spread = w->spread;
    for (;;) {
        Moment m = run_guest(run, rand);
        bool rests = run->s.now < run->policy.rest_until;
        double sent = rests ? 0 : run_send(run, &m, (double)STEP / S);
        MigratePipelineAction action;

        g_assert_cmpint(run->s.now, <, 600LL * S);
        run_dirty(&dirty, &m, (double)STEP / S);
        run->s.now += STEP;
        run->s.sync_time += rests ? STEP : 0;
        run->left -= sent;
        run->done += sent;
        run->s.pages_done = run->done;
        run->s.pages_left = run->left;
        run->s.ready = run->s.now >= w->ready;
        run->s.fixed = run_fixed(run, rand);
        do {
            action = pipeline_policy_step(&run->policy, &run->s);
            run->promised = run->policy.predicted;
            if (action == MIGRATE_PIPELINE_ACTION_SYNC) {
                run_sync(run, &m, &dirty);
            }
        } while (action == MIGRATE_PIPELINE_ACTION_SYNC);
        if (run->policy.why == MIGRATE_PIPELINE_REASON_FIXED &&
            run->said_fixed < 0) {
            run->said_fixed = run->s.now;
        }
        if (action >= MIGRATE_PIPELINE_ACTION_SWITCH_OVER) {
            m = run_guest(run, rand);
            run->real = run->s.fixed + (run->left + dirty) /
                                   (m.hot ? m.hot_link : m.link) * S;
            return action;
        }
    }
}

/* Guests */

static Moment idle(int64_t now, GRand *rand)
{
    return (Moment) { 500, 200, 300000 };
}

/* 99 MiB for ever, over a fast link and over 1 Gbit/s */
static Moment hot_fast(int64_t now, GRand *rand)
{
    return (Moment) { 99 * 256, 400000, 300000 };
}

static Moment hot_slow(int64_t now, GRand *rand)
{
    return (Moment) { 99 * 256, 400000, 28000 };
}

/* Most of the memory, over and over */
static Moment all_hot(int64_t now, GRand *rand)
{
    return (Moment) { g_rand_double_range(rand, 30000, 130000), 4000000,
                      300000 };
}

static Moment warm(int64_t now, GRand *rand)
{
    return (Moment) { 60000, 15000, 28000 };
}

/* Two seconds of work, four of rest */
static Moment bursty(int64_t now, GRand *rand)
{
    return (Moment) { 50000, now / (2 * S) % 3 ? 500 : 200000, 28000 };
}

/* Begins to write when the migration is under way, and ends after a while */
static Moment phase(int64_t now, GRand *rand)
{
    return (Moment) { 80000, now > 6 * S && now < 25 * S ? 100000 : 1000,
                      28000 };
}

/* The link falls to a tenth */
static Moment collapse(int64_t now, GRand *rand)
{
    return (Moment) { 3000, 4000, now > 4 * S ? 2800 : 28000 };
}

static Moment noise(int64_t now, GRand *rand)
{
    return (Moment) { 20000, g_rand_double_range(rand, 1000, 40000),
                      g_rand_double_range(rand, 15000, 30000) };
}

/* Always the same pages, few enough for the promise */
static Moment same(int64_t now, GRand *rand)
{
    return (Moment) { 500, 200, 28000, 6000, 28000 };
}

/* Too many for it, unless one sees that they get through as differences */
static Moment same_bytes(int64_t now, GRand *rand)
{
    return (Moment) { 500, 200, 28000, 99 * 256, 250000 };
}

static Moment same_many(int64_t now, GRand *rand)
{
    return (Moment) { 500, 200, 28000, 99 * 256, 28000 };
}

static Moment dead_link(int64_t now, GRand *rand)
{
    return (Moment) { 1000, 100, now > 2 * S ? 0.001 : 28000 };
}

/* What a blackout takes without memory, of promises of 100 ms */

static int64_t fixed_falls(int64_t now, GRand *rand)
{
    return now < 1000 * MS ? 130 * MS : 60 * MS;
}

static int64_t fixed_falls_late(int64_t now, GRand *rand)
{
    return now < 10 * S ? 130 * MS : 60 * MS;
}

/* Measured anew all the time, and each time something else */
static int64_t fixed_varies(int64_t now, GRand *rand)
{
    return g_rand_int_range(rand, 70 * MS, 130 * MS);
}

#define GOAL(ms, ...) { .max_blackout = (ms) * MS, .ram_pages = PAGES, \
                        __VA_ARGS__ }

static const World worlds[] = {
    { "idle", idle, GOAL(300), 10 * MS, .ends = ENDS(SWITCH_OVER),
      .most_sent = 1.1 },
    { "hot-fast", hot_fast, GOAL(300), 10 * MS, .ends = ENDS(SWITCH_OVER),
      .most_sent = 2 },
    { "hot-fast-20ms", hot_fast, GOAL(20), 10 * MS, .ends = ENDS(GIVE_UP),
      .most_sent = 3.2 },
    { "hot-fast-20ms-throttle", hot_fast,
      GOAL(20, .throttle_max = 99), 5 * MS, .ends = ENDS(SWITCH_OVER),
      .most_sent = 3.2 },
    { "hot-slow-deadline", hot_slow, GOAL(300, .deadline = 30 * S), 10 * MS,
      .ends = ENDS(GIVE_UP), .most_sent = 3.3 },
    { "hot-slow-throttle", hot_slow, GOAL(300, .throttle_max = 99), 10 * MS,
      .ends = ENDS(SWITCH_OVER), .most_sent = 3.2 },
    /* What may be sent in vain is used up when the top rung is reached. */
    { "all-hot-deadline-50", all_hot, GOAL(2, .deadline = 20 * S,
      .throttle_max = 50), 1 * MS, .ends = ENDS(GIVE_UP) },
    { "all-hot-deadline-80", all_hot, GOAL(2, .deadline = 20 * S,
      .throttle_max = 80), 1 * MS, .ends = ENDS(GIVE_UP) },
    { "all-hot-deadline-99", all_hot, GOAL(2, .deadline = 20 * S,
      .throttle_max = 99), 1 * MS,
      .ends = ENDS(GIVE_UP) | ENDS(SWITCH_OVER) },
    { "hot-slow-postcopy", hot_slow, GOAL(300, .postcopy = true), 10 * MS,
      .ends = ENDS(POSTCOPY), .most_sent = 3.2 },
    { "same", same, GOAL(300), 10 * MS, .ends = ENDS(SWITCH_OVER),
      .most_sent = 1.1 },
    { "same-bytes", same_bytes, GOAL(300), 10 * MS,
      .ends = ENDS(SWITCH_OVER), .most_sent = 1.8 },
    { "same-many", same_many, GOAL(300, .deadline = 30 * S), 10 * MS,
      .ends = ENDS(GIVE_UP), .most_sent = 3.3 },
    { "same-many-postcopy", same_many, GOAL(300, .postcopy = true), 10 * MS,
      .ends = ENDS(POSTCOPY), .most_sent = 3.2 },
    { "warm", warm, GOAL(300), 10 * MS, .ends = ENDS(SWITCH_OVER) },
    { "bursty", bursty, GOAL(300, .deadline = 60 * S), 10 * MS,
      .ends = ENDS(SWITCH_OVER) },
    { "phase", phase, GOAL(300, .deadline = 60 * S), 10 * MS,
      .ends = ENDS(SWITCH_OVER) },
    { "collapse", collapse, GOAL(300, .deadline = 60 * S), 10 * MS,
      .ends = ENDS(SWITCH_OVER) | ENDS(GIVE_UP) },
    { "noise", noise, GOAL(500, .deadline = 120 * S, .throttle_max = 80),
      10 * MS, .ends = ENDS(SWITCH_OVER) },
    { "dead-link", dead_link, GOAL(300, .deadline = 20 * S), 10 * MS,
      .ends = ENDS(SWITCH_OVER) | ENDS(GIVE_UP) },
    { "fixed-above-promise", idle, GOAL(20, .deadline = 20 * S), 30 * MS,
      .ends = ENDS(GIVE_UP) },
    { "fixed-above-promise-no-deadline", idle, GOAL(20), 30 * MS,
      .ends = ENDS(GIVE_UP), .most_sent = 1.1 },
    { "fixed", idle, GOAL(100), 130 * MS, .ends = ENDS(GIVE_UP),
      .most_time = 4 * S, .most_sent = 1.1 },
    { "fixed-postcopy", idle, GOAL(100, .postcopy = true), 130 * MS,
      .ends = ENDS(GIVE_UP), .most_time = 4 * S, .most_sent = 1.1 },
    { "fixed-throttle", idle, GOAL(100, .throttle_max = 99), 130 * MS,
      .ends = ENDS(GIVE_UP), .most_time = 4 * S, .most_sent = 1.1,
      .no_throttle = true },
    { "fixed-margin", idle, GOAL(100, .margin = 40 * MS), 130 * MS,
      .ends = ENDS(SWITCH_OVER), .most_time = 4 * S, .most_sent = 1.1 },
    { "fixed-deadline", idle, GOAL(100, .deadline = 20 * S), 130 * MS,
      .ends = ENDS(GIVE_UP), .least_time = 20 * S },
    { "fixed-hot", hot_slow, GOAL(100), 130 * MS, .ends = ENDS(GIVE_UP),
      .most_time = 7 * S, .most_sent = 1.4 },
    { "fixed-hot-deadline", all_hot, GOAL(2, .deadline = 20 * S,
      .throttle_max = 99), 12 * MS, .ends = ENDS(GIVE_UP), .most_sent = 5 },
    /* The first pass takes 0.4 s, so that it is seen at the floor. */
    { "fixed-falls", idle, GOAL(100), .fixed_at = fixed_falls,
      .ends = ENDS(SWITCH_OVER), .least_time = 1 * S, .most_time = 2 * S },
    { "fixed-falls-deadline", idle, GOAL(100, .deadline = 20 * S),
      .fixed_at = fixed_falls_late, .ends = ENDS(SWITCH_OVER),
      .least_time = 10 * S, .most_time = 13 * S, .most_sent = 1.5 },
    { "fixed-spread", idle, GOAL(100), 80 * MS, .spread = 40 * MS,
      .ends = ENDS(SWITCH_OVER), .most_time = 4 * S, .most_sent = 1.1 },
    { "fixed-spread-deadline", idle, GOAL(100, .deadline = 20 * S), 80 * MS,
      .spread = 40 * MS, .ends = ENDS(SWITCH_OVER), .least_time = 20 * S,
      .most_sent = 2 },
    { "fixed-varies", idle, GOAL(100), .fixed_at = fixed_varies,
      .spread = 30 * MS, .ends = ENDS(SWITCH_OVER), .most_time = 4 * S },
    { "slow-disk", idle, GOAL(300), 10 * MS, .ready = 5 * S,
      .ends = ENDS(SWITCH_OVER), .most_sent = 1.1 },
    { "dead-disk", idle, GOAL(300), 10 * MS, .ready = INT64_MAX,
      .ends = ENDS(GIVE_UP), .most_sent = 1.2 },
    { "dead-disk-deadline", idle, GOAL(300, .deadline = 20 * S), 10 * MS,
      .ready = INT64_MAX, .ends = ENDS(GIVE_UP), .most_sent = 1.1 },
    { "quick-hot-slow", hot_slow, GOAL(300, .quick = true), 10 * MS,
      .ends = ENDS(SWITCH_OVER), .most_sent = 3.2 },
    { "quick-fixed-above-promise", idle, GOAL(20, .quick = true), 30 * MS,
      .ends = ENDS(SWITCH_OVER), .most_sent = 1.1 },
    { "quick-dead-disk", idle, GOAL(300, .quick = true), 10 * MS,
      .ready = INT64_MAX, .ends = ENDS(SWITCH_OVER), .most_sent = 1.2 },
    { "quick-dead-link", dead_link, GOAL(300, .quick = true,
      .deadline = 20 * S), 10 * MS, .ends = ENDS(GIVE_UP) },
};

static void test_world(const void *opaque)
{
    const World *w = opaque;
    unsigned seed;

    for (seed = 1; seed <= 50; seed++) {
        Run run;
        MigratePipelineAction end = run_world(&run, w, seed);

        g_test_message("%s, seed %u: action %d, reason %d after %.1f s, "
                       "%.2f times the memory sent, throttled to %u %%, "
                       "predicted %.1f ms, real %.1f ms", w->name, seed, end,
                       run.policy.why, run.s.now / 1e6, run.done / PAGES,
                       run.policy.throttle, run.promised / 1e3,
                       run.real / 1e3);
        g_assert_true(w->ends & (1U << end));
        if (end == MIGRATE_PIPELINE_ACTION_SWITCH_OVER && !w->goal.quick) {
            int64_t most = w->goal.max_blackout + w->goal.margin;

            g_assert_cmpint(run.promised, <=, most);
            g_assert_cmpint(run.s.now, >=, w->ready);
            g_assert_cmpfloat(run.real, <=, 1.2 * most);
        }
        g_assert_cmpint(run.s.now, >=, w->least_time);
        if (w->most_time) {
            g_assert_cmpint(run.s.now, <=, w->most_time);
        }
        if (w->no_throttle) {
            g_assert_cmpint(run.policy.throttle, ==, 0);
        }
        /* It is said at once, and not only in the end. */
        if (w->fixed > w->goal.max_blackout + w->goal.margin &&
            !w->goal.quick) {
            g_assert_cmpint(run.said_fixed, >=, 0);
            g_assert_cmpint(run.said_fixed, <=, STEP);
        }
        if (w->goal.deadline) {
            g_assert_cmpint(run.s.now, <=, w->goal.deadline + S);
        }
        if (w->most_sent) {
            g_assert_cmpfloat(run.done / PAGES, <=, w->most_sent);
        }
        g_assert_cmpint(run.policy.throttle, <=, w->goal.throttle_max);
    }
}

/*
 * Memory took @time to be sent, and @left pages are dirty: the policy's answer
 * when the link takes so many pages a second.
 */
static MigratePipelineReason after_first_pass(int64_t time, uint64_t left,
                                              double link_rate)
{
    const PipelineGoal goal = GOAL(300);
    PipelinePolicy p;
    PipelineSample s = { .syncs = 1, .pages_left = PAGES, .fixed = 10 * MS,
                         .link_rate = link_rate, .ready = true };
    MigratePipelineAction action;

    pipeline_policy_init(&p, &goal);
    action = pipeline_policy_step(&p, &s);
    g_assert_cmpint(action, ==, MIGRATE_PIPELINE_ACTION_GO_ON);
    g_assert_cmpint(p.why, ==, MIGRATE_PIPELINE_REASON_FIRST_PASS);
    g_assert_cmpint(p.worst, ==, INT64_MAX);
    s.now = time;
    s.pages_done = PAGES;
    s.pages_left = 0;
    action = pipeline_policy_step(&p, &s);
    g_assert_cmpint(action, ==, MIGRATE_PIPELINE_ACTION_SYNC);
    s.syncs++;
    s.pages_left = left;
    action = pipeline_policy_step(&p, &s);
    g_assert_cmpint(action, ==, p.why == MIGRATE_PIPELINE_REASON_PROMISE ?
                                MIGRATE_PIPELINE_ACTION_SWITCH_OVER :
                                MIGRATE_PIPELINE_ACTION_GO_ON);
    return p.why;
}

/* A pass that is not needed takes a small part of the time. */
static void test_polish(void)
{
    for (int64_t time = S / 2; time < 3 * S; time += S / 10) {
        g_assert_cmpint(after_first_pass(time, PAGES / 12, 0), ==,
                        MIGRATE_PIPELINE_REASON_SHORTER);
        g_assert_cmpint(after_first_pass(time, PAGES / 3, 0), !=,
                        MIGRATE_PIPELINE_REASON_SHORTER);
        /* too little to be worth it */
        g_assert_cmpint(after_first_pass(time, PAGES / 2000, 0), ==,
                        MIGRATE_PIPELINE_REASON_PROMISE);
    }
}

/* What the guest changes may not compress as the rest does. */
static void test_link(void)
{
    const unsigned left = PAGES / 12;

    g_assert_cmpint(after_first_pass(S, left, 0), !=,
                    MIGRATE_PIPELINE_REASON_CONVERGES);
    g_assert_cmpint(after_first_pass(S, left, 2 * PAGES), !=,
                    MIGRATE_PIPELINE_REASON_CONVERGES);
    g_assert_cmpint(after_first_pass(S, left, PAGES / 3.4), !=,
                    MIGRATE_PIPELINE_REASON_CONVERGES);
    g_assert_cmpint(after_first_pass(S, left, PAGES / 3.6), ==,
                    MIGRATE_PIPELINE_REASON_CONVERGES);
}

int main(int argc, char **argv)
{
    unsigned i;

    g_test_init(&argc, &argv, NULL);
    for (i = 0; i < ARRAY_SIZE(worlds); i++) {
        g_autofree char *path = g_strdup_printf("/pipeline/policy/%s",
                                                worlds[i].name);

        g_test_add_data_func(path, &worlds[i], test_world);
    }
    g_test_add_func("/pipeline/policy/polish", test_polish);
    g_test_add_func("/pipeline/policy/link", test_link);
    return g_test_run();
}
