/*
 * Disk hot-plug: places that exist from the start
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_DISK_PROVISION_H
#define HW_DISK_PROVISION_H

#include "qom/object.h"

/* Give all machines the property 'disk-hotplug'. */
void disk_provision_class_init(ObjectClass *oc);

/*
 * Add the controller if the property is set, after the devices of the command
 * line, which may have chosen their addresses.  Exits on errors.
 */
void disk_provision(void);

#endif /* HW_DISK_PROVISION_H */
