/*
 * Disk hot-plug: whether the block graph can be changed now
 *
 * A change of the block graph waits, in the main loop, until no request of any
 * node is under way.  One that hangs, of whatever disk, makes all of QEMU hang.
 * So look first.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_DISK_STILL_H
#define HW_DISK_STILL_H

/*
 * True: nothing is under way, so that a change that begins now will not wait.
 * Holds new requests back for as long as it looks, which is 50 ms at most.
 * False and an error that names who is to blame otherwise.
 *
 * Main thread, BQL held, in no coroutine.
 */
bool disk_graph_is_still(Error **errp);

#endif /* HW_DISK_STILL_H */
