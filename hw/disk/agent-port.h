/*
 * Disk hot-plug: finding the guest agent
 *
 * All functions run in the main thread with the BQL held.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_DISK_AGENT_PORT_H
#define HW_DISK_AGENT_PORT_H

#include "agent.h"
#include "disk.h"

/*
 * Start a session with the agent for @disk, within @limit_ms.  @how is not
 * ``off``.
 *
 * DISK_AGENT_OUTCOME_ASKED: the session is *@agent, which the caller must
 * leave; if that is NULL, the agent is busy with another disk: call again
 * later.  DISK_AGENT_OUTCOME_NONE or DISK_AGENT_OUTCOME_BUSY: there is no
 * agent, or it has another client.
 */
DiskAgentOutcome disk_agent_port_ask(const Disk *disk, DiskDetachAgent how,
                                     int64_t limit_ms, DiskAgent **agent);

#endif /* HW_DISK_AGENT_PORT_H */
