/*
 * Disk hot-plug: attach
 *
 * All functions run in the main thread with the BQL held, and in no coroutine.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_DISK_ATTACH_H
#define HW_DISK_ATTACH_H

#include "disk.h"

/*
 * Attach @spec's disk at @at, or at any free place if that is NULL, and add it
 * to the attached disks.  Its image exists: @spec->create is NULL.  On failure,
 * NULL, and nothing is left behind.
 */
Disk *disk_attach_at(const DiskSpec *spec, const DiskPlace *at, Error **errp);

/*
 * Dry run: what @spec's disk would be, to be freed; NULL and an error if it
 * could not be attached now.  Nothing is left behind.
 */
DiskInfo *disk_attach_try(const DiskSpec *spec, Error **errp);

/* Checks that need no waiting, before hooks are called */
bool disk_attach_check(const DiskSpec *spec, Error **errp);

/* Name of the node that @spec opens or names, to be freed; NULL if unnamed */
char *disk_spec_node(const DiskSpec *spec);

/* The type of a disk's device; not for DISK_BUS_AUTO */
const char *disk_driver(DiskBus bus);

/* The tree below @node as a string, which changes if the tree does */
char *disk_node_filename(const char *node);

#endif /* HW_DISK_ATTACH_H */
