/*
 * Disk hot-plug: state machine of a detach
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "detach-policy.h"

static DetachAction detach_end(DetachPolicy *p, DiskState state,
                               const char *reason)
{
    assert(detach_is_over(state) || state == DISK_STATE_PARKED);
    p->state = state;
    p->reason = reason;
    return DETACH_WAIT;
}

static DetachAction detach_drain(DetachPolicy *p, const DetachSample *s);

static DetachAction detach_cancel(DetachPolicy *p)
{
    return detach_end(p, DISK_STATE_CANCELLED, p->asked_ms ?
                      "the guest was asked already, and may still let go" :
                      NULL);
}

static DetachAction detach_ask(DetachPolicy *p, const DetachSample *s)
{
    p->state = DISK_STATE_REQUESTED;
    p->asked_ms = s->now_ms;
    p->reason = NULL;
    return DETACH_ASK;
}

static DetachAction detach_begin(DetachPolicy *p, const DetachSample *s)
{
    if (s->cancel) {
        return detach_cancel(p);
    }
    if (s->hooks == DETACH_ANSWER_NO) {
        return detach_end(p, DISK_STATE_REFUSED, "a hook does not allow it");
    }
    if (s->agent == DETACH_ANSWER_NO) {
        return detach_end(p, DISK_STATE_REFUSED, "the guest's agent has not "
                          "unmounted it");
    }
    p->reason = s->hooks == DETACH_ANSWER_PENDING ? "a hook has to answer" :
                s->held ? "the guest is being migrated" :
                s->agent == DETACH_ANSWER_PENDING ?
                "the guest's agent has to answer" :
                !s->can_ask ? "the guest is busy with the slot" : NULL;
    if (s->hooks != DETACH_ANSWER_PENDING && !s->held &&
        s->agent != DETACH_ANSWER_PENDING) {
        if (p->force || s->let_go || s->deaf) {
            p->reason = NULL;
            return detach_drain(p, s);
        }
        if (s->can_ask) {
            return detach_ask(p, s);
        }
    }
    if (s->now_ms >= p->deadline_ms) {
        return detach_end(p, DISK_STATE_TIMED_OUT, p->reason);
    }
    return DETACH_WAIT;
}

static DetachAction detach_requested(DetachPolicy *p, const DetachSample *s)
{
    if (s->let_go || s->deaf) {
        return detach_drain(p, s);
    }
    if (s->cancel) {
        return detach_cancel(p);
    }
    if (s->refused) {
        return detach_end(p, DISK_STATE_REFUSED, "the guest keeps the disk");
    }
    if (s->now_ms >= p->deadline_ms) {
        return detach_end(p, DISK_STATE_TIMED_OUT, s->noticed ?
            "the guest knows of it, but has not let go; is the disk in use?" :
            "the guest has not looked at the request; is it running?");
    }
    if (s->noticed) {
        p->state = DISK_STATE_NOTIFIED;
        /* A request that it has seen but does not handle was lost. */
        if (!s->underway && s->can_ask && !s->held &&
            s->now_ms - p->asked_ms >= s->repeat_ms) {
            return detach_ask(p, s);
        }
    }
    return DETACH_WAIT;
}

/* True: it has released the disk, or has not written for long enough. */
static bool detach_is_quiet(DetachPolicy *p, const DetachSample *s)
{
    if (!p->still_ms || p->writes != s->writes) {
        p->still_ms = s->now_ms;
        p->writes = s->writes;
    }
    return p->force || s->let_go || s->now_ms - p->still_ms >= p->quiet_ms;
}

static DetachAction detach_late(DetachPolicy *p, const DetachSample *s)
{
    if (!p->force) {
        return detach_end(p, DISK_STATE_TIMED_OUT, s->in_flight ?
            "requests have not ended; 'force' parks the disk until they do" :
            s->flush == DETACH_FLUSH_RUNNING ?
            "the flush has not ended; 'force' parks the disk until it does" :
            p->reason ?: "there was no time left to flush what was written");
    }
    return detach_end(p, DISK_STATE_PARKED, "it goes when its requests end");
}

static DetachAction detach_flush(DetachPolicy *p, const DetachSample *s)
{
    p->flushing = true;
    p->flushed = s->writes;
    return DETACH_FLUSH;
}

static DetachAction detach_flushed(DetachPolicy *p, const DetachSample *s)
{
    if (s->flush == DETACH_FLUSH_FAILED && !p->force) {
        return detach_end(p, DISK_STATE_REFUSED, "what was written could not "
                          "be flushed; 'force' detaches all the same");
    }
    if (s->flush == DETACH_FLUSH_DONE && p->flushed != s->writes) {
        return detach_flush(p, s);
    }
    p->reason = s->held ? "the guest is being migrated" :
                "requests of other disks do not end";
    return s->held ? DETACH_WAIT : DETACH_REMOVE;
}

static DetachAction detach_drain(DetachPolicy *p, const DetachSample *s)
{
    if (p->state != DISK_STATE_PARKED) {
        p->state = DISK_STATE_DRAINING;
    }
    if (p->force && !p->hidden) {
        p->hidden = true;
        return DETACH_HIDE;
    }
    if (s->now_ms >= p->deadline_ms && p->state == DISK_STATE_DRAINING) {
        if (p->force && !p->cancelled &&
            (s->in_flight || s->flush == DETACH_FLUSH_RUNNING)) {
            p->cancelled = true;
            return DETACH_CANCEL_IN_FLIGHT;
        }
        return detach_late(p, s);
    }
    p->reason = NULL;
    if (!detach_is_quiet(p, s)) {
        p->reason = "the driver cannot be asked, and is not quiet yet";
    } else if (s->in_flight || s->flush == DETACH_FLUSH_RUNNING) {
        p->reason = "requests are under way";
    } else if (!p->flushing) {
        return detach_flush(p, s);
    } else {
        return detach_flushed(p, s);
    }
    return DETACH_WAIT;
}

DetachAction detach_policy_step(DetachPolicy *p, const DetachSample *s)
{
    if (s->moved) {
        return detach_end(p, DISK_STATE_CANCELLED, "the guest has gone to "
                          "another host, and the detach with it");
    }
    switch (p->state) {
    case DISK_STATE_WAITING:
        return detach_begin(p, s);
    case DISK_STATE_REQUESTED:
    case DISK_STATE_NOTIFIED:
        return detach_requested(p, s);
    case DISK_STATE_DRAINING:
    case DISK_STATE_PARKED:
        return detach_drain(p, s);
    default:
        g_assert_not_reached();
    }
}
