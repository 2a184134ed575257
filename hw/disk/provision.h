/*
 * Disk hot-plug: places that are there from the beginning
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
 * After the devices of the command line were created, which may have chosen
 * their addresses: add what the property asks for.  Errors end QEMU.
 */
void disk_provision(void);

#endif /* HW_DISK_PROVISION_H */
