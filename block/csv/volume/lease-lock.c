/*
 * Cluster shared volume: a byte-range lock as lease
 *
 * A member holds a byte-range lock that the kernel drops with the process.  A
 * slot has two bytes, used in turn by its incarnations, so that a process about
 * to join in the slot of a dead member is not mistaken for it.
 *
 * A free lock proves that a member is dead only if it was on this host: the
 * locks may not reach others.  Where locks may vanish, as on NFS, its process
 * must be gone as well, and a member makes sure now and then that it still has
 * its lock.
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

static bool csv_lock_renews(CsvVolume *vol)
{
    return vol->bs->bl.locks_may_vanish;
}

/*
 * Take the lock again in case it has vanished.  If our record has changed
 * meanwhile, somebody has noticed, and may have taken our disks.
 */
static int64_t GRAPH_RDLOCK csv_lock_renew(CsvVolume *vol, BdrvChild *file)
{
    CsvMemberRecord now;
    int ret = bdrv_liveness_lock(file->bs, csv_lock_id(vol->me.slot,
                                                       vol->me.incarnation),
                                 BDRV_LIVENESS_RENEW);
    int err = csv_member_read(vol, file, vol->me.slot, &now, NULL);

    if (err >= 0 && (now.state != CSV_MEMBER_ACTIVE ||
                     now.incarnation != vol->me.incarnation)) {
        return -ESTALE;
    }
    return ret < 0 || err < 0 ? -EIO : INT64_MAX;
}

static CsvLiveness GRAPH_RDLOCK
csv_lock_judge(CsvVolume *vol, BdrvChild *file, const CsvMemberRecord *rec,
               const CsvPeer *peer)
{
    CsvMemberRecord here;
    switch (bdrv_liveness_lock(file->bs,
                               csv_lock_id(rec->slot, rec->incarnation),
                               BDRV_LIVENESS_TEST)) {
    case -EBUSY:
        return CSV_LIVENESS_ALIVE;
    case 0:
        csv_host_fill(&here);
        return (file->bs->bl.locks_may_vanish
                ? csv_host_process_is_gone(&here, rec)
                : csv_host_is_here(&here, rec))
               ? CSV_LIVENESS_DEAD : CSV_LIVENESS_UNKNOWN;
    default:
        return CSV_LIVENESS_UNKNOWN;
    }
}

/* Where locks may vanish, nobody knows the process that has to be gone. */
static CsvLiveness GRAPH_RDLOCK
csv_lock_judge_slot(CsvVolume *vol, BdrvChild *file, uint32_t slot)
{
    int even = bdrv_liveness_lock(file->bs, csv_lock_id(slot, 0),
                                  BDRV_LIVENESS_TEST);
    int odd = bdrv_liveness_lock(file->bs, csv_lock_id(slot, 1),
                                 BDRV_LIVENESS_TEST);

    if (even == -EBUSY || odd == -EBUSY) {
        return CSV_LIVENESS_ALIVE;
    }
    return even || odd || file->bs->bl.locks_may_vanish
           ? CSV_LIVENESS_UNKNOWN : CSV_LIVENESS_DEAD;
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
    .renews     = csv_lock_renews,
    .renew      = csv_lock_renew,
    .judge      = csv_lock_judge,
    .judge_slot = csv_lock_judge_slot,
    .release    = csv_lock_release,
};
