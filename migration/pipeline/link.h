/*
 * Migration pipeline: how fast the link is, as the kernel sees it
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_LINK_H
#define MIGRATION_PIPELINE_LINK_H

#include "io/channel.h"

/*
 * Bytes a second that arrive at the other end of @ioc, while we send as much as
 * it takes; 0 if that is not known, if it is the other end that does not take
 * more, or if this is no TCP connection.  The kernel knows it from
 * acknowledgements (tcp(7), TCP_INFO), long before the socket's buffer is full
 * and writes begin to wait.  Any thread.
 */
double migration_link_rate(QIOChannel *ioc);

/*
 * The same from what was sent last, also if that was too little to fill the
 * link all the time.  Then it may take more.
 */
double migration_link_rate_at_least(QIOChannel *ioc);

/*
 * The round trip on the wire, in microseconds: what the kernel has seen at
 * least, without the time in which either side waits for a CPU.  0 if that is
 * not known.  Any thread.
 */
int64_t migration_link_round_trip(QIOChannel *ioc);

/*
 * Have writes to @ioc wait while much of it is still to be sent: what waits in
 * the kernel is as late as what was not written, but cannot be left out any
 * more, and nobody knows of it.  Nothing happens if this is no TCP connection.
 * Any thread.
 */
void migration_link_bound(QIOChannel *ioc);

#endif /* MIGRATION_PIPELINE_LINK_H */
