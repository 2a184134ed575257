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

/* Nothing is left of the disk of @d. */
void detach_gone(Detach *d);

#endif /* HW_DISK_DETACH_H */
