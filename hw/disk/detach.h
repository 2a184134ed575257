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
 * Unlink the detach from @disk, which has lost its device and is about to be
 * released and freed.  Returns the argument for detach_gone() afterwards, or
 * NULL if @disk was not being detached.
 */
Detach *detach_leave(Disk *disk);

/* Remove @disk again by force, without calling hooks. */
void disk_roll_back(Disk *disk);

/* The disk of @d has been released and freed. */
void detach_gone(Detach *d);

/* True: there are detaches that must be sent to a destination. */
bool detach_any(void);

/* Save these detaches into the member detaches of @list. */
void detach_save(DiskManifest *list);

/* Continue detaches started by the source; an error if they are invalid. */
bool detach_load(const DiskManifest *list, Error **errp);

#endif /* HW_DISK_DETACH_H */
