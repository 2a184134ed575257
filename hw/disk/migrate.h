/*
 * Disk hot-plug: disks that go with a guest
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_DISK_MIGRATE_H
#define HW_DISK_MIGRATE_H

#include "migration/vmstate.h"

/*
 * The list of the attached disks: a subsection of "configuration", which is the
 * first thing in a stream.  It is not there when no disk is attached.
 */
extern const VMStateDescription vmstate_disk_list;

#endif /* HW_DISK_MIGRATE_H */
