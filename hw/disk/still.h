/*
 * Disk hot-plug: whether the block graph can be changed now
 *
 * A change of the block graph waits, in the main loop, until no node has a
 * request in flight.  A hung request of any disk makes all of QEMU hang.  So
 * check first.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_DISK_STILL_H
#define HW_DISK_STILL_H

/*
 * True: there are no requests in flight, so a change that begins now will not
 * wait.  New requests are held during the check, for at most 50 ms.  Otherwise
 * false and an error that names the node.
 *
 * Main thread, BQL held, in no coroutine.
 */
bool disk_graph_is_still(Error **errp);

#endif /* HW_DISK_STILL_H */
