/*
 * Migration pipeline: what to do next
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "policy.h"

/* A pass must reduce what is left to this share to count as progress. */
#define PROGRESS            0.9
/* Passes without progress before the next rung; one if it is the same rung. */
#define STUCK_PASSES        3
/*
 * Passes that shorten a blackout within the promise: for how long, maximum
 * extra time as a fraction of the time so far, maximum share that a pass leaves
 */
#define POLISH_TIME         1000000
#define POLISH_PART         20
#define POLISH_GAIN         0.7
/* A pass ends when the rest of it takes this long, in microseconds. */
#define SYNC_AT             5000
/* Margin for the error of a prediction */
#define MARGIN              1.2
/* Throttling must make passes leave this share. */
#define SHRINK_TO           0.6
/* Without a deadline: limit of pages sent, in multiples of all pages */
#define SENT_ENOUGH         3
/* and of the time to wait when nothing else can be done, in microseconds */
#define WAITED_ENOUGH       60000000
/* Maximum blackout in quick migration, in microseconds */
#define QUICK_MOST          60000000
/* Minimum time of a pass, to see what the guest changes */
#define PASS_LEAST          20000
/* The upper bound for one pause, in microseconds */
#define REST_MAX            2000000
/* At the floor, memory takes at most this fraction of the fixed part. */
#define FLOOR_PART          8
/* Time, in microseconds, and number of samples before that counts */
#define FLOOR_TIME          1000000
#define FLOOR_LOOKS         10

void pipeline_policy_init(PipelinePolicy *p, const PipelineGoal *goal)
{
    *p = (PipelinePolicy) {
        .goal = *goal,
        .put_off = true,
        .best_left = UINT64_MAX,
        .within_since = -1,
        .waits_since = -1,
        .fixed_since = -1,
    };
}

/* A pass has ended: was there progress? */
static void policy_sync(PipelinePolicy *p, const PipelineSample *s)
{
    p->passes = s->syncs;
    if (s->pages_left < p->best_left * PROGRESS) {
        p->best_left = s->pages_left;
        p->stuck = 0;
    } else {
        p->stuck++;
    }
}

/* Pages that this pass has left to send, without deferred ones */
static uint64_t policy_pass_pages(const PipelineSample *s)
{
    return s->pages_left - MIN(s->pages_hot, s->pages_left);
}

static int64_t policy_pass_time(const PipelinePolicy *p,
                                const PipelineSample *s)
{
    return pipeline_estimate_time(&p->estimate, policy_pass_pages(s) * MARGIN);
}

static int64_t policy_add(int64_t a, int64_t b)
{
    return b > INT64_MAX - a ? INT64_MAX : a + b;
}

/*
 * Predict the blackout if switched over now, and its upper bound.  Only the
 * second pass shows how well the changed pages compress; until then assume that
 * they do not.
 */
static void policy_predict(PipelinePolicy *p, const PipelineSample *s)
{
    int64_t time = pipeline_estimate_time(&p->estimate, s->pages_left);
    int64_t worst = pipeline_estimate_time(&p->estimate,
                                           s->pages_left * MARGIN);

    if (s->syncs <= 2 && s->link_rate >= 1) {
        int64_t whole = s->pages_left / s->link_rate * 1000000;

        worst = MAX(worst, whole);
    }
    p->predicted = policy_add(s->fixed, time);
    p->worst = policy_add(s->fixed + s->spread, worst);
}

/* Limit for the blackout if nothing can shorten it */
static int64_t policy_most(const PipelinePolicy *p)
{
    return p->goal.max_blackout + p->goal.margin;
}

/* Is so little memory left that no pass can shorten the blackout? */
static bool policy_memory_is_little(const PipelinePolicy *p,
                                    const PipelineSample *s)
{
    return s->syncs > 1 && p->predicted != INT64_MAX &&
           p->predicted - s->fixed <= s->fixed / FLOOR_PART;
}

/* Take the next permitted rung; the top one is to wait. */
static MigratePipelineAction policy_climb(PipelinePolicy *p,
                                          const PipelineSample *s)
{
    p->why = MIGRATE_PIPELINE_REASON_STUCK;
    p->stuck = 0;
    p->best_left = UINT64_MAX;
    if (s->pages_hot) {
        p->put_off = false;
        return MIGRATE_PIPELINE_ACTION_GO_ON;
    }
    if (p->goal.quick) {
        return MIGRATE_PIPELINE_ACTION_SWITCH_OVER;
    }
    if (p->throttle < p->goal.throttle_max) {
        /*
         * Enough for a pass to dirty less than it sends, if the rates are known
         */
        double rate = p->estimate.dirty_rate / (1 - p->throttle / 100.0);
        double keep = rate > 0 ? SHRINK_TO * p->estimate.page_rate / rate : 0;
        unsigned want = keep < 1 ? 100 * (1 - keep) : 0;

        /* The dirty rate is too low: pages dirtied twice count once. */
        want = MAX(want, 100 - (100 - p->throttle) / 2);
        p->throttle = MIN(want, p->goal.throttle_max);
        return MIGRATE_PIPELINE_ACTION_THROTTLE;
    }
    if (p->goal.postcopy) {
        return MIGRATE_PIPELINE_ACTION_POSTCOPY;
    }
    p->why = MIGRATE_PIPELINE_REASON_MOMENT;
    p->top = true;
    return MIGRATE_PIPELINE_ACTION_GO_ON;
}

static bool policy_too_late(const PipelinePolicy *p, const PipelineSample *s)
{
    return p->goal.deadline && s->now >= p->goal.deadline;
}

/*
 * Within the promise: does another pass pay?  It moves the time for sending its
 * pages out of the blackout, and costs the time for those dirtied meanwhile.
 * It does not pay if most of the blackout is fixed.
 */
static bool policy_polish(PipelinePolicy *p, const PipelineSample *s)
{
    const PipelineEstimate *e = &p->estimate;
    double leaves = e->page_rate ? e->dirty_rate / e->page_rate : 1;
    int64_t pass = policy_pass_time(p, s);

    if (p->within_since < 0) {
        p->within_since = s->now;
    }
    return leaves < POLISH_GAIN && pass * leaves < s->now / POLISH_PART &&
           !p->stuck && pass > s->fixed &&
           s->now - p->within_since < POLISH_TIME &&
           !policy_too_late(p, s);
}

/* Pages that may still be sent without success */
static int64_t policy_budget(const PipelinePolicy *p, const PipelineSample *s)
{
    return SENT_ENOUGH * p->goal.ram_pages - (s->pages_done - s->pages_zero);
}

/*
 * Is it pointless to send more?  Not while only the disks are not ready; with a
 * deadline, only if it is waiting.
 */
static bool policy_enough(const PipelinePolicy *p, const PipelineSample *s)
{
    bool waits = p->why == MIGRATE_PIPELINE_REASON_MOMENT ||
                 p->why == MIGRATE_PIPELINE_REASON_FIXED;

    if (p->worst > p->goal.max_blackout && policy_budget(p, s) < 0 &&
        (waits || !p->goal.deadline)) {
        return true;
    }
    return !p->goal.deadline && p->waits_since >= 0 &&
           s->now - p->waits_since > WAITED_ENOUGH;
}

/* Pause before a pass, so that the budget lasts for the remaining time. */
static int64_t policy_rest(const PipelinePolicy *p, const PipelineSample *s)
{
    int64_t end = p->goal.deadline ?: p->waits_since + WAITED_ENOUGH;
    int64_t pass = policy_pass_time(p, s);
    int64_t budget = MAX(policy_budget(p, s), 0);
    int64_t passes = budget / (int64_t)MAX(1, policy_pass_pages(s)) + 1;
    int64_t rest = (end - s->now) / passes - pass;
    int64_t most = p->fixed_since >= 0 ? FLOOR_TIME / FLOOR_LOOKS : REST_MAX;

    return MIN(MAX(rest, 0), most);
}

/*
 * Not certain to be within the promise, but likely, and nothing can shorten the
 * blackout.
 */
static bool policy_at_floor(const PipelinePolicy *p, const PipelineSample *s)
{
    if (!s->ready || p->predicted > policy_most(p)) {
        return false;
    }
    return p->goal.deadline ? policy_too_late(p, s) :
           p->top || policy_memory_is_little(p, s) || policy_enough(p, s);
}

/* Is the fixed part persistently above the promise? */
static bool policy_is_fixed(PipelinePolicy *p, const PipelineSample *s)
{
    bool above = s->syncs > 1 && s->fixed > policy_most(p);
    bool floor = s->ready && policy_memory_is_little(p, s);

    if (p->goal.quick || p->goal.deadline || !(above || floor)) {
        p->fixed_since = -1;
        return false;
    }
    if (p->fixed_since < 0) {
        p->fixed_since = s->now;
    }
    return s->now - p->fixed_since >= FLOOR_TIME ||
           (above && policy_budget(p, s) < 0);
}

/* Must it end now, by any of the actions?  If so, @p->why is the reason. */
static bool policy_ends(PipelinePolicy *p, const PipelineSample *s)
{
    if (policy_is_fixed(p, s)) {
        p->why = MIGRATE_PIPELINE_REASON_FIXED;
        return true;
    }
    if (policy_too_late(p, s)) {
        p->why = MIGRATE_PIPELINE_REASON_DEADLINE;
        return true;
    }
    if (policy_enough(p, s)) {
        p->why = MIGRATE_PIPELINE_REASON_ENOUGH;
        return true;
    }
    return false;
}

/* Within a pass: sync when little is left. */
static MigratePipelineAction policy_within_pass(PipelinePolicy *p,
                                                const PipelineSample *s)
{
    if (policy_pass_time(p, s) <= SYNC_AT || policy_too_late(p, s)) {
        return MIGRATE_PIPELINE_ACTION_SYNC;
    }
    return MIGRATE_PIPELINE_ACTION_GO_ON;
}

/* Wait, if nothing else can be done. */
static void policy_wait(PipelinePolicy *p, const PipelineSample *s)
{
    switch (p->why) {
    case MIGRATE_PIPELINE_REASON_FIXED:
        if (s->syncs <= 1) {
            return;
        }
        break;
    case MIGRATE_PIPELINE_REASON_MOMENT:
    case MIGRATE_PIPELINE_REASON_PREPARING:
        break;
    default:
        p->waits_since = -1;
        return;
    }
    if (p->waits_since < 0) {
        p->waits_since = s->now;
    }
    if (p->why != MIGRATE_PIPELINE_REASON_PREPARING) {
        p->rest_until = s->now + policy_rest(p, s);
    }
}

/* After a sync that found the promise cannot be kept now */
static MigratePipelineAction policy_go_on(PipelinePolicy *p,
                                          const PipelineSample *s)
{
    bool little = policy_memory_is_little(p, s);

    if (!s->ready && p->predicted <= policy_most(p)) {
        p->why = MIGRATE_PIPELINE_REASON_PREPARING;
    } else if (little && p->predicted <= policy_most(p)) {
        p->why = MIGRATE_PIPELINE_REASON_MOMENT;
    } else if (!p->goal.quick && (little || s->fixed > policy_most(p))) {
        p->why = MIGRATE_PIPELINE_REASON_FIXED;
    } else if (p->stuck >= (p->throttle ? 1 : STUCK_PASSES)) {
        MigratePipelineAction action = policy_climb(p, s);

        if (action != MIGRATE_PIPELINE_ACTION_GO_ON) {
            return action;
        }
    } else {
        p->why = p->top ? MIGRATE_PIPELINE_REASON_MOMENT :
                 p->passes > 1 ? MIGRATE_PIPELINE_REASON_CONVERGES :
                                 MIGRATE_PIPELINE_REASON_FIRST_PASS;
    }
    policy_wait(p, s);
    if (s->pages_hot) {
        p->rest_until = MAX(p->rest_until,
                            s->now + PASS_LEAST - policy_pass_time(p, s));
    }
    return MIGRATE_PIPELINE_ACTION_GO_ON;
}

MigratePipelineAction pipeline_policy_step(PipelinePolicy *p,
                                           const PipelineSample *s)
{
    bool synced = pipeline_estimate_add(&p->estimate, s);

    policy_predict(p, s);
    if (!synced) {
        return policy_within_pass(p, s);
    }

    policy_sync(p, s);
    if (p->worst <= p->goal.max_blackout && s->ready) {
        bool polish = policy_polish(p, s);

        p->why = polish ? MIGRATE_PIPELINE_REASON_SHORTER
                        : MIGRATE_PIPELINE_REASON_PROMISE;
        return polish ? MIGRATE_PIPELINE_ACTION_GO_ON
                      : MIGRATE_PIPELINE_ACTION_SWITCH_OVER;
    }
    p->within_since = -1;
    if (policy_at_floor(p, s)) {
        p->why = MIGRATE_PIPELINE_REASON_FLOOR;
        return MIGRATE_PIPELINE_ACTION_SWITCH_OVER;
    }
    if (policy_ends(p, s)) {
        if (p->why == MIGRATE_PIPELINE_REASON_FIXED) {
            return MIGRATE_PIPELINE_ACTION_GIVE_UP;
        }
        return p->goal.quick && p->predicted < QUICK_MOST ?
                                  MIGRATE_PIPELINE_ACTION_SWITCH_OVER :
               p->goal.postcopy ? MIGRATE_PIPELINE_ACTION_POSTCOPY :
                                  MIGRATE_PIPELINE_ACTION_GIVE_UP;
    }
    return policy_go_on(p, s);
}
