/*
 * Disk hot-plug: what comes next in a detach
 *
 * Pure: what is seen goes in, what is to be done comes out, so that each order
 * of events can be tried without a guest.
 *
 *   waiting --> requested --> notified --> draining --> removed
 *                                             \--> parked --> removed
 * each but the last two may end as refused, timed-out or cancelled.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_DISK_DETACH_POLICY_H
#define HW_DISK_DETACH_POLICY_H

#include "qapi/qapi-types-disk.h"

typedef enum DetachAnswer {
    DETACH_ANSWER_YES,          /* or nobody was asked */
    DETACH_ANSWER_PENDING,
    DETACH_ANSWER_NO,
} DetachAnswer;

typedef enum DetachFlush {
    DETACH_FLUSH_NONE,
    DETACH_FLUSH_RUNNING,
    DETACH_FLUSH_DONE,
    DETACH_FLUSH_FAILED,
} DetachFlush;

/* What is seen at @now_ms */
typedef struct DetachSample {
    int64_t now_ms;             /* of a clock that does not go back */
    bool cancel;                /* the user wants the disk to stay */
    DetachAnswer hooks;         /* of those who may forbid it */
    DetachAnswer agent;         /* of the guest's, when the hooks said yes */
    bool held;                  /* a migration: nothing may go now */
    bool moved;                 /* the guest is on another host now */

    /* the guest */
    bool deaf;                  /* there is nobody to ask */
    bool can_ask;               /* a request would be taken now */
    bool noticed;               /* it has seen the request */
    bool underway;              /* and is doing something about it */
    bool refused;               /* and keeps the disk */
    bool let_go;
    int64_t repeat_ms;          /* when a request without effect was lost */

    /* the disk */
    unsigned in_flight;         /* requests of the guest */
    uint64_t writes;            /* so many were done */
    DetachFlush flush;          /* what became of the last one */
} DetachSample;

typedef enum DetachAction {
    DETACH_WAIT,
    DETACH_ASK,                 /* ask the guest */
    DETACH_HIDE,                /* let no new request in */
    DETACH_CANCEL_IN_FLIGHT,    /* end what can be ended */
    DETACH_FLUSH,
    DETACH_REMOVE,              /* if the block graph is still */
} DetachAction;

typedef struct DetachPolicy {
    /* set at the beginning */
    bool force;
    int64_t deadline_ms;        /* not a time span: when */
    int64_t quiet_ms;           /* without a write: who is deaf is quiet */

    /* read only */
    DiskState state;            /* DISK_STATE_WAITING at the beginning */
    const char *reason;         /* why it is so, and the way out, or NULL */

    /* private */
    int64_t asked_ms;
    bool hidden, cancelled;
    int64_t still_ms;           /* since when there was no write; 0: not yet */
    uint64_t writes;            /* as many then */
    uint64_t flushed;           /* as many when the flush began */
    bool flushing;
} DetachPolicy;

/* True: @state is the last one that a detach has, but for parked. */
static inline bool detach_is_over(DiskState state)
{
    return state == DISK_STATE_REMOVED || state == DISK_STATE_REFUSED ||
           state == DISK_STATE_TIMED_OUT || state == DISK_STATE_CANCELLED;
}

/*
 * What to do next; it counts as done, but for DETACH_REMOVE, which is told
 * again until it could be done.  The caller then sets the state removed.  Not
 * to be called when it is over.
 */
DetachAction detach_policy_step(DetachPolicy *p, const DetachSample *s);

#endif /* HW_DISK_DETACH_POLICY_H */
