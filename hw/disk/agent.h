/*
 * Disk hot-plug: what the guest agent does before a disk is detached
 *
 * One session with an agent that speaks the protocol of QEMU's guest agent,
 * over a channel.  The agent may be malicious.
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

/* Maximum size of an answer, and of all answers in a session, in bytes */
#define DISK_AGENT_ANSWER_MAX   MiB
#define DISK_AGENT_SESSION_MAX  (4 * MiB)
/* How long to wait for the first answer: the agent may not be running */
#define DISK_AGENT_SYNC_MS      10000
/* How long to wait until frozen file systems are thawed */
#define DISK_AGENT_THAW_MS      30000

typedef struct DiskAgent DiskAgent;

/* Access to the agent; called with @opaque, in coroutine context or not */
typedef struct DiskAgentOps {
    /*
     * Open a channel to the agent: a reference; NULL and an error if there is
     * none now.  Called again if the channel breaks.
     */
    QIOChannel *(*open)(void *opaque, Error **errp);
    /* The channel is no longer used: once for each, before it is closed. */
    void (*close)(void *opaque);
    /* True: the agent is gone and will not answer. */
    bool (*is_lost)(void *opaque);
    /*
     * File systems of the guest are about to be frozen: block migration until
     * release().  False and an error if a migration has begun.
     */
    bool (*hold)(void *opaque, Error **errp);
    void (*release)(void *opaque);
    /* The last call, which may be long after disk_agent_leave(). */
    void (*free)(void *opaque);
} DiskAgentOps;

/*
 * Start to write back or unmount the file systems of @target, within @limit_ms.
 * @how is not ``off``.  The session takes ownership of @opaque.
 */
DiskAgent *disk_agent_start(const DiskAgentOps *ops, void *opaque,
                            DiskDetachAgent how, const DiskAgentTarget *target,
                            int64_t limit_ms);

/*
 * DISK_AGENT_OUTCOME_ASKED until the outcome is known, after @limit_ms at the
 * latest.  With DISK_AGENT_OUTCOME_FAILED, *@why is the reason, valid as long
 * as @a.
 */
DiskAgentOutcome disk_agent_outcome(DiskAgent *a, const char **why);

/*
 * Abandon the session; @a must not be used again.  The work is not completed,
 * but frozen file systems are thawed.
 */
void disk_agent_leave(DiskAgent *a);

#endif /* HW_DISK_AGENT_H */
