/*
 * Disk hot-plug: detach
 *
 * All functions run in the main thread with the BQL held, and in no coroutine.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_DISK_DETACH_H
#define HW_DISK_DETACH_H

#include "disk.h"

typedef struct Detach Detach;

/*
 * @disk, which has no device any more, is to be released, and then freed: take
 * leave of it.  Returns what detach_gone() is to be called with afterwards;
 * NULL if it was not being detached.
 */
Detach *detach_leave(Disk *disk);

/* Take @disk away again by force, whatever hooks think of that. */
void disk_roll_back(Disk *disk);

/* Nothing is left of the disk of @d. */
void detach_gone(Detach *d);

/* True: a detach is under way that a destination must know of. */
bool detach_any(void);

/* Those: the member detaches of @list */
void detach_save(DiskManifest *list);

/* Go on with what the source has begun; an error if it cannot be so. */
bool detach_load(const DiskManifest *list, Error **errp);

#endif /* HW_DISK_DETACH_H */
