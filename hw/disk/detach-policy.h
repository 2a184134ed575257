/*
 * Disk hot-plug: state machine of a detach
 *
 * A pure function from observations to actions, so that every order of events
 * can be tested without a guest.
 *
 *   waiting --> requested --> notified --> draining --> removed
 *                                             \--> parked --> removed
 * All states but the last two may end as refused, timed-out or cancelled.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_DISK_DETACH_POLICY_H
#define HW_DISK_DETACH_POLICY_H

#include "qapi/qapi-types-disk.h"

typedef enum DetachAnswer {
    DETACH_ANSWER_YES,          /* or not asked */
    DETACH_ANSWER_PENDING,
    DETACH_ANSWER_NO,
} DetachAnswer;

typedef enum DetachFlush {
    DETACH_FLUSH_NONE,
    DETACH_FLUSH_RUNNING,
    DETACH_FLUSH_DONE,
    DETACH_FLUSH_FAILED,
} DetachFlush;

/* Observations at @now_ms */
typedef struct DetachSample {
    int64_t now_ms;             /* monotonic clock */
    bool cancel;                /* the user has cancelled the detach */
    DetachAnswer hooks;         /* of hooks, which may refuse */
    DetachAnswer agent;         /* of the guest agent, after the hooks */
    bool held;                  /* a migration: no disk may be removed now */
    bool moved;                 /* the guest is on another host now */

    /* the guest */
    bool deaf;                  /* it cannot be asked at all */
    bool can_ask;               /* it would accept a request now */
    bool noticed;               /* it has seen the request */
    bool underway;              /* and is handling it */
    bool refused;               /* and keeps the disk */
    bool let_go;                /* and has released the disk */
    int64_t repeat_ms;          /* after that, a request is lost */

    /* the disk */
    unsigned in_flight;         /* requests of the guest */
    uint64_t writes;            /* number of completed writes */
    DetachFlush flush;          /* state of the last flush */
} DetachSample;

typedef enum DetachAction {
    DETACH_WAIT,
    DETACH_ASK,                 /* ask the guest */
    DETACH_HIDE,                /* block new requests */
    DETACH_CANCEL_IN_FLIGHT,    /* cancel requests that can be cancelled */
    DETACH_FLUSH,
    DETACH_REMOVE,              /* if the block graph can be changed */
} DetachAction;

typedef struct DetachPolicy {
    /* set at the beginning */
    bool force;
    int64_t deadline_ms;        /* a point in time */
    int64_t quiet_ms;           /* a deaf guest without writes is quiet then */

    /* read only */
    DiskState state;            /* DISK_STATE_WAITING at the beginning */
    const char *reason;         /* for @state, and what would help; or NULL */

    /* private */
    int64_t asked_ms;
    bool hidden, cancelled;
    int64_t still_ms;           /* time of the last write; 0: unknown */
    uint64_t writes;            /* number of writes then */
    uint64_t flushed;           /* number of writes when the flush began */
    bool flushing;
} DetachPolicy;

/* True: @state is final; parked is not. */
static inline bool detach_is_over(DiskState state)
{
    return state == DISK_STATE_REMOVED || state == DISK_STATE_REFUSED ||
           state == DISK_STATE_TIMED_OUT || state == DISK_STATE_CANCELLED;
}

/*
 * Decide what to do next.  The policy assumes that it is done, except for
 * DETACH_REMOVE, which is repeated until it succeeds; the caller then sets the
 * state to removed.  Must not be called when the detach is over.
 */
DetachAction detach_policy_step(DetachPolicy *p, const DetachSample *s);

#endif /* HW_DISK_DETACH_POLICY_H */
