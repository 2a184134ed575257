/*
 * What comes next in the detach of a disk, for made-up guests and storage
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/disk/detach-policy.h"

#define BEGIN       1000
#define DEADLINE    2000
#define QUIET       200
#define REPEAT      300
#define RUNS        20000

typedef struct Run {
    DetachPolicy p;
    DetachSample s;
} Run;

/* A guest that can be asked, and storage that has nothing to do */
static Run begin(bool force)
{
    return (Run) {
        .p = {
            .force = force, .deadline_ms = DEADLINE, .quiet_ms = QUIET,
            .state = DISK_STATE_WAITING,
        },
        .s = { .now_ms = BEGIN, .can_ask = true, .repeat_ms = REPEAT },
    };
}

static void expect(Run *run, DetachAction action, DiskState state)
{
    g_assert_cmpint(detach_policy_step(&run->p, &run->s), ==, action);
    g_assert_cmpint(run->p.state, ==, state);
}

/* It is over like this, and says why. */
static void expect_end(Run *run, DiskState state, const char *why)
{
    expect(run, DETACH_WAIT, state);
    g_assert_true(detach_is_over(state));
    g_assert_nonnull(run->p.reason);
    g_assert_nonnull(strstr(run->p.reason, why));
}

/* The guest has been asked. */
static Run ask(void)
{
    Run run = begin(false);

    expect(&run, DETACH_ASK, DISK_STATE_REQUESTED);
    return run;
}

/* It has let go, and the first flush is under way. */
static Run let_go(void)
{
    Run run = ask();

    run.s.let_go = true;
    expect(&run, DETACH_FLUSH, DISK_STATE_DRAINING);
    run.s.flush = DETACH_FLUSH_RUNNING;
    expect(&run, DETACH_WAIT, DISK_STATE_DRAINING);
    return run;
}

static void test_graceful(void)
{
    Run run = ask();

    expect(&run, DETACH_WAIT, DISK_STATE_REQUESTED);
    run.s.noticed = true;
    expect(&run, DETACH_WAIT, DISK_STATE_NOTIFIED);
    run.s.underway = true;
    expect(&run, DETACH_WAIT, DISK_STATE_NOTIFIED);
    run.s.let_go = true;
    run.s.in_flight = 1;
    expect(&run, DETACH_WAIT, DISK_STATE_DRAINING);
    g_assert_nonnull(strstr(run.p.reason, "under way"));
    run.s.in_flight = 0;
    expect(&run, DETACH_FLUSH, DISK_STATE_DRAINING);
    run.s.flush = DETACH_FLUSH_RUNNING;
    expect(&run, DETACH_WAIT, DISK_STATE_DRAINING);
    run.s.flush = DETACH_FLUSH_DONE;
    /* As often as it could not be done, since other disks are busy. */
    expect(&run, DETACH_REMOVE, DISK_STATE_DRAINING);
    expect(&run, DETACH_REMOVE, DISK_STATE_DRAINING);
}

static void test_waits(void)
{
    Run run = begin(false);

    run.s.hooks = DETACH_ANSWER_PENDING;
    expect(&run, DETACH_WAIT, DISK_STATE_WAITING);
    g_assert_nonnull(strstr(run.p.reason, "hook"));
    run.s.hooks = DETACH_ANSWER_YES;
    run.s.held = true;
    expect(&run, DETACH_WAIT, DISK_STATE_WAITING);
    g_assert_nonnull(strstr(run.p.reason, "migrated"));
    run.s.held = false;
    run.s.agent = DETACH_ANSWER_PENDING;
    run.s.can_ask = false;
    expect(&run, DETACH_WAIT, DISK_STATE_WAITING);
    g_assert_nonnull(strstr(run.p.reason, "agent"));
    run.s.can_ask = true;
    expect(&run, DETACH_WAIT, DISK_STATE_WAITING);
    run.s.agent = DETACH_ANSWER_YES;
    run.s.can_ask = false;
    expect(&run, DETACH_WAIT, DISK_STATE_WAITING);
    g_assert_nonnull(strstr(run.p.reason, "busy"));
    run.s.can_ask = true;
    expect(&run, DETACH_ASK, DISK_STATE_REQUESTED);
    g_assert_null(run.p.reason);

    /* One that has let go already is not asked. */
    run = begin(false);
    run.s.let_go = true;
    run.s.can_ask = false;
    expect(&run, DETACH_FLUSH, DISK_STATE_DRAINING);

    /* A migration that began later, which nobody waits for by force, either */
    run = let_go();
    run.s.flush = DETACH_FLUSH_DONE;
    run.s.held = true;
    expect(&run, DETACH_WAIT, DISK_STATE_DRAINING);
    g_assert_nonnull(strstr(run.p.reason, "migrated"));
    run.s.held = false;
    expect(&run, DETACH_REMOVE, DISK_STATE_DRAINING);
    run = begin(true);
    run.s.held = true;
    expect(&run, DETACH_WAIT, DISK_STATE_WAITING);
    run.s.now_ms = DEADLINE;
    expect_end(&run, DISK_STATE_TIMED_OUT, "migrated");
}

static void test_refused(void)
{
    Run run = begin(false);

    run.s.hooks = DETACH_ANSWER_NO;
    expect_end(&run, DISK_STATE_REFUSED, "hook");
    run = begin(true);
    run.s.hooks = DETACH_ANSWER_NO;
    expect_end(&run, DISK_STATE_REFUSED, "hook");
    run = begin(false);
    run.s.agent = DETACH_ANSWER_NO;
    expect_end(&run, DISK_STATE_REFUSED, "agent");

    run = ask();
    run.s.noticed = true;
    run.s.refused = true;
    expect_end(&run, DISK_STATE_REFUSED, "keeps the disk");

    run = let_go();
    run.s.flush = DETACH_FLUSH_FAILED;
    expect_end(&run, DISK_STATE_REFUSED, "'force'");
}

static void test_cancelled(void)
{
    Run run = begin(false);

    run.s.cancel = true;
    expect(&run, DETACH_WAIT, DISK_STATE_CANCELLED);
    g_assert_null(run.p.reason);

    run = ask();
    run.s.cancel = true;
    expect_end(&run, DISK_STATE_CANCELLED, "may still let go");
    run = ask();
    run.s.noticed = true;
    expect(&run, DETACH_WAIT, DISK_STATE_NOTIFIED);
    run.s.cancel = true;
    expect_end(&run, DISK_STATE_CANCELLED, "may still let go");

    /* Too late */
    run = ask();
    run.s.let_go = true;
    run.s.cancel = true;
    expect(&run, DETACH_FLUSH, DISK_STATE_DRAINING);
    run.s.flush = DETACH_FLUSH_DONE;
    expect(&run, DETACH_REMOVE, DISK_STATE_DRAINING);
}

static void test_moved(void)
{
    Run runs[] = { begin(false), begin(true), ask(), let_go() };

    for (unsigned i = 0; i < ARRAY_SIZE(runs); i++) {
        runs[i].s.moved = true;
        expect_end(&runs[i], DISK_STATE_CANCELLED, "another host");
    }
}

static void test_timed_out(void)
{
    Run run = begin(false);

    run.s.can_ask = false;
    run.s.now_ms = DEADLINE - 1;
    expect(&run, DETACH_WAIT, DISK_STATE_WAITING);
    run.s.now_ms = DEADLINE;
    expect_end(&run, DISK_STATE_TIMED_OUT, "busy");

    run = ask();
    run.s.now_ms = DEADLINE;
    expect_end(&run, DISK_STATE_TIMED_OUT, "has not looked");
    run = ask();
    run.s.noticed = true;
    run.s.now_ms = DEADLINE;
    expect_end(&run, DISK_STATE_TIMED_OUT, "in use?");

    run = let_go();
    run.s.now_ms = DEADLINE;
    expect_end(&run, DISK_STATE_TIMED_OUT, "the flush has not ended");
    run = let_go();
    run.s.in_flight = 1;
    run.s.now_ms = DEADLINE;
    expect_end(&run, DISK_STATE_TIMED_OUT, "requests have not ended");
    run = let_go();
    run.s.flush = DETACH_FLUSH_DONE;
    expect(&run, DETACH_REMOVE, DISK_STATE_DRAINING);
    run.s.now_ms = DEADLINE;
    expect_end(&run, DISK_STATE_TIMED_OUT, "other disks");

    /* It has let go at the last moment, or there was no time at all. */
    run = ask();
    run.s.let_go = true;
    run.s.now_ms = DEADLINE;
    expect_end(&run, DISK_STATE_TIMED_OUT, "no time left");
    run = begin(false);
    run.s.deaf = true;
    run.s.now_ms = DEADLINE;
    expect_end(&run, DISK_STATE_TIMED_OUT, "no time left");
}

/* Who cannot be asked must not write for a while. */
static void test_quiet(void)
{
    Run run = begin(false);

    run.s.deaf = true;
    expect(&run, DETACH_WAIT, DISK_STATE_DRAINING);
    g_assert_nonnull(strstr(run.p.reason, "quiet"));
    run.s.now_ms += QUIET - 1;
    expect(&run, DETACH_WAIT, DISK_STATE_DRAINING);
    run.s.writes++;
    expect(&run, DETACH_WAIT, DISK_STATE_DRAINING);
    run.s.now_ms += QUIET - 1;
    expect(&run, DETACH_WAIT, DISK_STATE_DRAINING);
    run.s.now_ms++;
    expect(&run, DETACH_FLUSH, DISK_STATE_DRAINING);

    /* It writes once more, which is flushed again when it is quiet again. */
    run.s.flush = DETACH_FLUSH_DONE;
    run.s.writes++;
    expect(&run, DETACH_WAIT, DISK_STATE_DRAINING);
    run.s.now_ms += QUIET;
    expect(&run, DETACH_FLUSH, DISK_STATE_DRAINING);
    expect(&run, DETACH_REMOVE, DISK_STATE_DRAINING);

    /* It has been reset after it was asked. */
    run = ask();
    run.s.deaf = true;
    run.s.can_ask = false;
    expect(&run, DETACH_WAIT, DISK_STATE_DRAINING);
    run.s.now_ms += QUIET;
    expect(&run, DETACH_FLUSH, DISK_STATE_DRAINING);

    /* It never is. */
    run = begin(false);
    run.s.deaf = true;
    for (; run.s.now_ms < DEADLINE; run.s.now_ms += QUIET / 2) {
        expect(&run, DETACH_WAIT, DISK_STATE_DRAINING);
        run.s.writes++;
    }
    expect_end(&run, DISK_STATE_TIMED_OUT, "quiet");
}

static void test_flush_again(void)
{
    Run run = let_go();

    run.s.writes++;
    run.s.flush = DETACH_FLUSH_DONE;
    expect(&run, DETACH_FLUSH, DISK_STATE_DRAINING);
    expect(&run, DETACH_REMOVE, DISK_STATE_DRAINING);
}

static void test_repeat(void)
{
    Run run = ask();

    /* Who has not looked yet will see it. */
    run.s.now_ms += REPEAT;
    expect(&run, DETACH_WAIT, DISK_STATE_REQUESTED);
    run.s.noticed = true;
    run.s.underway = true;
    expect(&run, DETACH_WAIT, DISK_STATE_NOTIFIED);
    run.s.underway = false;
    run.s.can_ask = false;
    expect(&run, DETACH_WAIT, DISK_STATE_NOTIFIED);
    run.s.can_ask = true;
    run.s.held = true;
    expect(&run, DETACH_WAIT, DISK_STATE_NOTIFIED);
    run.s.held = false;
    expect(&run, DETACH_ASK, DISK_STATE_REQUESTED);

    run.s.now_ms += REPEAT - 1;
    expect(&run, DETACH_WAIT, DISK_STATE_NOTIFIED);
    run.s.now_ms++;
    expect(&run, DETACH_ASK, DISK_STATE_REQUESTED);
    run.s.repeat_ms = INT64_MAX;
    run.s.now_ms = DEADLINE - 1;
    expect(&run, DETACH_WAIT, DISK_STATE_NOTIFIED);
}

static void test_force(void)
{
    Run run = begin(true);

    /* Whatever the guest does */
    run.s.refused = true;
    run.s.can_ask = false;
    expect(&run, DETACH_HIDE, DISK_STATE_DRAINING);
    expect(&run, DETACH_FLUSH, DISK_STATE_DRAINING);
    run.s.flush = DETACH_FLUSH_FAILED;
    expect(&run, DETACH_REMOVE, DISK_STATE_DRAINING);

    run = begin(true);
    run.s.in_flight = 1;
    expect(&run, DETACH_HIDE, DISK_STATE_DRAINING);
    expect(&run, DETACH_WAIT, DISK_STATE_DRAINING);
    run.s.cancel = true;
    run.s.in_flight = 0;
    expect(&run, DETACH_FLUSH, DISK_STATE_DRAINING);
}

static void expect_parked(Run *run)
{
    run->s.now_ms = DEADLINE;
    if (run->s.in_flight || run->s.flush == DETACH_FLUSH_RUNNING) {
        expect(run, DETACH_CANCEL_IN_FLIGHT, DISK_STATE_DRAINING);
    }
    expect(run, DETACH_WAIT, DISK_STATE_PARKED);
    g_assert_nonnull(run->p.reason);
    g_assert_false(detach_is_over(run->p.state));
}

static void test_parked(void)
{
    Run run = begin(true);

    run.s.in_flight = 2;
    expect(&run, DETACH_HIDE, DISK_STATE_DRAINING);
    run.s.now_ms = DEADLINE - 1;
    expect(&run, DETACH_WAIT, DISK_STATE_DRAINING);
    expect_parked(&run);
    run.s.now_ms += 1000 * DEADLINE;
    expect(&run, DETACH_WAIT, DISK_STATE_PARKED);
    run.s.in_flight = 0;
    expect(&run, DETACH_FLUSH, DISK_STATE_PARKED);
    run.s.flush = DETACH_FLUSH_RUNNING;
    expect(&run, DETACH_WAIT, DISK_STATE_PARKED);
    run.s.flush = DETACH_FLUSH_DONE;
    expect(&run, DETACH_REMOVE, DISK_STATE_PARKED);

    /* The flush hangs, or another disk does. */
    run = begin(true);
    expect(&run, DETACH_HIDE, DISK_STATE_DRAINING);
    expect(&run, DETACH_FLUSH, DISK_STATE_DRAINING);
    run.s.flush = DETACH_FLUSH_RUNNING;
    expect_parked(&run);
    run.s.flush = DETACH_FLUSH_DONE;
    expect(&run, DETACH_REMOVE, DISK_STATE_PARKED);
    run = begin(true);
    expect(&run, DETACH_HIDE, DISK_STATE_DRAINING);
    expect(&run, DETACH_FLUSH, DISK_STATE_DRAINING);
    run.s.flush = DETACH_FLUSH_DONE;
    expect(&run, DETACH_REMOVE, DISK_STATE_DRAINING);
    expect_parked(&run);
    expect(&run, DETACH_REMOVE, DISK_STATE_PARKED);
}

/* Random */

static bool often(unsigned percent)
{
    return g_test_rand_int_range(0, 100) < percent;
}

/* All at random, so that each order of events comes up. */
static void sample(Run *run, unsigned busy)
{
    DetachSample *s = &run->s;

    s->now_ms += g_test_rand_int_range(1, 60);
    s->cancel |= often(1);
    s->moved |= often(1) && often(20);
    s->held = often(10);
    s->hooks = often(95) ? DETACH_ANSWER_YES : often(90) ?
               DETACH_ANSWER_PENDING : DETACH_ANSWER_NO;
    s->agent = often(90) ? DETACH_ANSWER_YES : often(95) ?
               DETACH_ANSWER_PENDING : DETACH_ANSWER_NO;
    s->deaf = often(3);
    s->can_ask = often(70);
    s->noticed = often(40);
    s->underway = often(40);
    s->refused = often(2);
    s->let_go |= often(10);
    s->in_flight = often(busy) ? g_test_rand_int_range(1, 9) : 0;
    s->writes += often(10);
    if (s->flush == DETACH_FLUSH_RUNNING && !often(busy)) {
        s->flush = often(90) ? DETACH_FLUSH_DONE : DETACH_FLUSH_FAILED;
    }
}

/* What @action needs, and what it must not do, in the sample that it is of */
static void check_action(const Run *run, DiskState before, DetachAction action,
                         bool *hidden)
{
    const DetachPolicy *p = &run->p;
    const DetachSample *s = &run->s;

    switch (action) {
    case DETACH_WAIT:
        break;
    case DETACH_ASK:
        g_assert_true(s->can_ask && !p->force && !s->held && !s->let_go);
        g_assert_true(before != DISK_STATE_WAITING ||
                      (s->hooks == DETACH_ANSWER_YES &&
                       s->agent == DETACH_ANSWER_YES));
        break;
    case DETACH_HIDE:
        g_assert_true(p->force && !*hidden);
        *hidden = true;
        break;
    case DETACH_CANCEL_IN_FLIGHT:
        g_assert_true(p->force && s->now_ms >= p->deadline_ms);
        break;
    case DETACH_FLUSH:
        g_assert_true(!s->in_flight && s->flush != DETACH_FLUSH_RUNNING);
        g_assert_true(*hidden == p->force);
        break;
    case DETACH_REMOVE:
        g_assert_true(!s->in_flight && !s->held && !s->moved);
        g_assert_true(s->flush == DETACH_FLUSH_DONE ||
                      (p->force && s->flush == DETACH_FLUSH_FAILED));
        g_assert_true(*hidden == p->force);
        break;
    }
    g_assert_true(before != DISK_STATE_PARKED || s->moved ||
                  p->state == DISK_STATE_PARKED);
    g_assert_true(before != DISK_STATE_DRAINING || s->moved ||
                  p->state != DISK_STATE_CANCELLED);
}

/* From the deadline on: a step to hide, one to cancel, and one to end it */
#define LATE_STEPS  3

static DiskState run_random(void)
{
    Run run = begin(often(50));
    unsigned late = 0, busy = often(50) ? 5 : 97, still = often(80) ? 50 : 0;
    bool hidden = false;

    while (!detach_is_over(run.p.state)) {
        DiskState before = run.p.state;
        DetachAction action;

        sample(&run, before == DISK_STATE_PARKED ? 50 : busy);
        action = detach_policy_step(&run.p, &run.s);
        check_action(&run, before, action, &hidden);
        if (action == DETACH_FLUSH) {
            run.s.flush = DETACH_FLUSH_RUNNING;
        }
        if (action == DETACH_REMOVE &&
            often(before == DISK_STATE_PARKED ? 50 : still)) {
            run.p.state = DISK_STATE_REMOVED;
        }
        late += run.s.now_ms >= run.p.deadline_ms;
        g_assert_true(late < LATE_STEPS || detach_is_over(run.p.state) ||
                      (run.p.force && run.p.state == DISK_STATE_PARKED));
    }
    g_assert_true(run.p.reason || run.p.state == DISK_STATE_REMOVED ||
                  run.p.state == DISK_STATE_CANCELLED);
    return run.p.state;
}

static void test_random(void)
{
    unsigned ends[DISK_STATE__MAX] = { 0 };

    for (unsigned i = 0; i < RUNS; i++) {
        ends[run_random()]++;
    }
    /* Or this has tried too little */
    for (unsigned i = 0; i < DISK_STATE__MAX; i++) {
        g_assert_true(!detach_is_over(i) || ends[i] > RUNS / 100);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/disk/detach/graceful", test_graceful);
    g_test_add_func("/disk/detach/waits", test_waits);
    g_test_add_func("/disk/detach/refused", test_refused);
    g_test_add_func("/disk/detach/cancelled", test_cancelled);
    g_test_add_func("/disk/detach/moved", test_moved);
    g_test_add_func("/disk/detach/timed-out", test_timed_out);
    g_test_add_func("/disk/detach/quiet", test_quiet);
    g_test_add_func("/disk/detach/flush-again", test_flush_again);
    g_test_add_func("/disk/detach/repeat", test_repeat);
    g_test_add_func("/disk/detach/force", test_force);
    g_test_add_func("/disk/detach/parked", test_parked);
    g_test_add_func("/disk/detach/random", test_random);
    return g_test_run();
}
