/*
 * Migration pipeline: tell the network where the guest is
 *
 * Switches learn from packets on which port an address is.  A guest that has
 * moved is announced repeatedly: immediately, then at growing intervals for
 * more than ten seconds, as set by the migration parameters announce-*.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_ANNOUNCE_H
#define MIGRATION_PIPELINE_ANNOUNCE_H

#include "net/net.h"

/*
 * The link of @nc, a NIC or its peer, has come up: earlier announcements did
 * not get through.  Main thread.
 */
void migration_announce_link_up(NetClientState *nc);

/*
 * The guest resumes here, after a destination may have announced it.  Main
 * thread.
 */
void migration_announce_back(void);

#endif /* MIGRATION_PIPELINE_ANNOUNCE_H */
