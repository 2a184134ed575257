/*
 * Cluster shared volume: a byte-range lock as lease
 *
 * A member holds a byte-range lock that the kernel drops with the process.  A
 * slot has two bytes, used in turn by its incarnations, so that a process about
 * to join in the slot of a dead member is not mistaken for it.
 *
 * A free lock proves that a member is dead only if it was on this host: the
 * locks may not reach others.  On a network file system not even that is
 * certain, since a client can lose its locks and live on.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "lease.h"

/* The lock of the member in @slot with @incarnation. */
static uint64_t csv_lock_id(uint32_t slot, uint64_t incarnation)
{
    return 2 * (uint64_t)slot + (incarnation & 1);
}

static int GRAPH_RDLOCK
csv_lock_probe(CsvVolume *vol, BdrvChild *file, Error **errp)
{
    return 0;   /* acquiring it has the better error message */
}

static int GRAPH_RDLOCK
csv_lock_acquire(CsvVolume *vol, BdrvChild *file, const CsvMemberRecord *rec,
                 Error **errp)
{
    int ret = bdrv_liveness_lock(file->bs,
                                 csv_lock_id(rec->slot, rec->incarnation),
                                 BDRV_LIVENESS_ACQUIRE);

    if (ret < 0 && ret != -EBUSY) {
        error_setg_errno(errp, -ret, "Cannot lock a member's place in csv "
                         "volume '%s': node '%s' must be on a file or host "
                         "device with byte-range locks that can be opened for "
                         "writing", csv_volume_label(vol),
                         bdrv_get_node_name(file->bs));
    }
    return ret;
}

static CsvLiveness GRAPH_RDLOCK
csv_lock_judge(CsvVolume *vol, BdrvChild *file, const CsvMemberRecord *rec,
               const CsvPeer *peer)
{
    switch (bdrv_liveness_lock(file->bs,
                               csv_lock_id(rec->slot, rec->incarnation),
                               BDRV_LIVENESS_TEST)) {
    case -EBUSY:
        return CSV_LIVENESS_ALIVE;
    case 0:
        return csv_host_is_here(rec) ? CSV_LIVENESS_DEAD
                                     : CSV_LIVENESS_UNKNOWN;
    default:
        return CSV_LIVENESS_UNKNOWN;
    }
}

static bool GRAPH_RDLOCK
csv_lock_held(CsvVolume *vol, BdrvChild *file, uint32_t slot)
{
    return bdrv_liveness_lock(file->bs, csv_lock_id(slot, 0),
                              BDRV_LIVENESS_TEST) ||
           bdrv_liveness_lock(file->bs, csv_lock_id(slot, 1),
                              BDRV_LIVENESS_TEST);
}

static void GRAPH_RDLOCK
csv_lock_release(CsvVolume *vol, const CsvMemberRecord *rec)
{
    bdrv_liveness_lock(vol->bs, csv_lock_id(rec->slot, rec->incarnation),
                       BDRV_LIVENESS_RELEASE);
}

const CsvLeaseOps csv_lease_lock = {
    .name       = "lock",
    .kind       = CSV_LIVENESS_BY_LOCK,
    .caps       = CSV_LEASE_REACHES_HOSTS,
    .probe      = csv_lock_probe,
    .acquire    = csv_lock_acquire,
    .judge      = csv_lock_judge,
    .held       = csv_lock_held,
    .release    = csv_lock_release,
};
