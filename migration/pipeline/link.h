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
 * Bytes per second that the link of @ioc delivers when saturated; 0 if unknown,
 * if the receiver is the bottleneck, or if this is not a TCP connection.  The
 * kernel knows it from acknowledgements (tcp(7), TCP_INFO), long before the
 * socket's buffer is full and writes block.  Any thread.
 */
double migration_link_rate(QIOChannel *ioc);

/*
 * The same from the most recent data, even if that did not saturate the link.
 * This is a lower bound then.
 */
double migration_link_rate_at_least(QIOChannel *ioc);

/*
 * The round-trip time on the wire, in microseconds: the kernel's minimum, which
 * does not include waiting for a CPU on either side.  0 if unknown.  Any
 * thread.
 */
int64_t migration_link_round_trip(QIOChannel *ioc);

/*
 * Limit how much unsent data of @ioc the kernel buffers: buffered data arrives
 * no earlier, but can no longer be left out, and is not seen by any estimate.
 * No effect if this is not a TCP connection.  Any thread.
 */
void migration_link_bound(QIOChannel *ioc);

#endif /* MIGRATION_PIPELINE_LINK_H */
