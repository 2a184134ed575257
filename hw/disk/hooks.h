/*
 * Disk hot-plug: hooks for an external manager
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

/* A call of all hooks for one event */
typedef struct DiskHookRound DiskHookRound;

/*
 * Call all hooks for @point of disk @id.  @spec describes the disk, or is NULL
 * if it is already attached.  NULL: there are no such hooks.
 */
DiskHookRound *disk_hooks_ask(DiskHookPoint point, const char *id,
                              const char *node, const DiskSpec *spec);

/*
 * The combined answer of all hooks; DETACH_ANSWER_YES for NULL.  With
 * DETACH_ANSWER_NO, @why is set to the reason, to be freed.
 */
DetachAnswer disk_hooks_answer(DiskHookRound *round, char **why);

/* True: there is a hook for @point. */
bool disk_hooks_want(DiskHookPoint point);

/* Ignore further answers; NULL is fine. */
void disk_hooks_free(DiskHookRound *round);

#endif /* HW_DISK_HOOKS_H */
