/*
 * Migration pipeline: tell the network where the guest is
 *
 * Switches learn from packets behind which port an address is.  A guest that
 * has moved is announced until they have: at once, then less and less often
 * for ten seconds and more, as the parameters announce-* of migrations say.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_ANNOUNCE_H
#define MIGRATION_PIPELINE_ANNOUNCE_H

#include "net/net.h"

/*
 * The link of @nc, a NIC or what one is connected to, has come up: what was
 * announced before did not get through.  Main thread.
 */
void migration_announce_link_up(NetClientState *nc);

/*
 * The guest goes on here, and a destination may have announced it as its own.
 * Main thread.
 */
void migration_announce_back(void);

#endif /* MIGRATION_PIPELINE_ANNOUNCE_H */
