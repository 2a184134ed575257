/*
 * Disk hot-plug: what the guest's agent does before a disk goes
 *
 * One session with an agent that speaks the protocol of QEMU's guest agent,
 * over a channel.  What comes from there may have been made to do harm.
 *
 * All functions run in the main thread with the BQL held.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_DISK_AGENT_H
#define HW_DISK_AGENT_H

#include "agent-answers.h"
#include "io/channel.h"

/* An answer is not longer, and all that comes in a session, in bytes */
#define DISK_AGENT_ANSWER_MAX   MiB
#define DISK_AGENT_SESSION_MAX  (4 * MiB)
/* One that does not run does not answer: how long to wait for the first one */
#define DISK_AGENT_SYNC_MS      10000
/* How long to wait until what was frozen is thawed */
#define DISK_AGENT_THAW_MS      30000

typedef struct DiskAgent DiskAgent;

/* The way to the agent; called with @opaque, in a coroutine or in none. */
typedef struct DiskAgentOps {
    /*
     * A channel to the agent, a reference; NULL and an error if there is none
     * now.  Called once more when the channel has broken.
     */
    QIOChannel *(*open)(void *opaque, Error **errp);
    /* The channel is done with: once for each, while it is still open. */
    void (*close)(void *opaque);
    /* True: nobody is there any more who could answer. */
    bool (*is_lost)(void *opaque);
    /*
     * File systems of the guest are about to be frozen: it must not move until
     * release().  False and an error if it moves already.
     */
    bool (*hold)(void *opaque, Error **errp);
    void (*release)(void *opaque);
    /* The last call, which may be long after disk_agent_leave(). */
    void (*free)(void *opaque);
} DiskAgentOps;

/*
 * Have the file systems of @target written out or unmounted, within @limit_ms.
 * @how is not ``off``.  The session takes @opaque.
 */
DiskAgent *disk_agent_start(const DiskAgentOps *ops, void *opaque,
                            DiskDetachAgent how, const DiskAgentTarget *target,
                            int64_t limit_ms);

/*
 * DISK_AGENT_OUTCOME_ASKED until it is known, at the latest when @limit_ms have
 * passed.  With DISK_AGENT_OUTCOME_FAILED, *@why is the reason, which lives as
 * long as @a.
 */
DiskAgentOutcome disk_agent_outcome(DiskAgent *a, const char **why);

/*
 * Nobody wants to know the outcome any more; @a is not to be used again.  What
 * was begun is not finished, but what is frozen is thawed.
 */
void disk_agent_leave(DiskAgent *a);

#endif /* HW_DISK_AGENT_H */
