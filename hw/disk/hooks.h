/*
 * Disk hot-plug: hooks, for a manager outside that has something to do first
 *
 * All functions run in the main thread with the BQL held.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_DISK_HOOKS_H
#define HW_DISK_HOOKS_H

#include "detach-policy.h"
#include "qapi/qapi-types-disk-hooks.h"

/* What has been asked of the hooks, and not answered yet */
typedef struct DiskHookRound DiskHookRound;

/*
 * Ask all hooks that want to know of @point of disk @id, which is @spec, or is
 * attached already if that is NULL.  NULL: there are none.
 */
DiskHookRound *disk_hooks_ask(DiskHookPoint point, const char *id,
                              const char *node, const DiskSpec *spec);

/*
 * The answer of all that were asked; DETACH_ANSWER_YES for NULL.  With
 * DETACH_ANSWER_NO, the reason is put into @why, to be freed.
 */
DetachAnswer disk_hooks_answer(DiskHookRound *round, char **why);

/* True: a hook wants to know of @point. */
bool disk_hooks_want(DiskHookPoint point);

/* Nobody waits for the answers any more; NULL is fine. */
void disk_hooks_free(DiskHookRound *round);

#endif /* HW_DISK_HOOKS_H */
