/*
 * Cluster shared volume: who owns a disk
 *
 * Every change here is: read a record, decide, compare-and-write it; when the
 * record changed meanwhile, begin again.  The states and who may change what
 * are drawn in docs/interop/csv.rst.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-events-csv.h"
#include "qemu/cutils.h"
#include "qemu/timer.h"
#include "disk.h"
#include "trace/trace-block_csv.h"

static void csv_disk_event(CsvDisk *disk, CsvOwnershipReason reason)
{
    trace_csv_disk_ownership(disk->record.name, disk->record.state,
                             disk->record.epoch, reason);
    qapi_event_send_csv_disk_ownership(csv_volume_label(disk->volume),
                                       disk->record.name,
                                       bdrv_get_node_name(disk->bs),
                                       csv_disk_state(disk->record.state),
                                       disk->record.epoch, reason);
}

int csv_disk_reread(CsvDisk *disk, CsvDiskRecord *out, Error **errp)
{
    uint8_t raw[CSV_RECORD_SIZE];

    return csv_disk_read(disk->volume, disk->bs->file, disk->record.slot, out,
                         raw, errp);
}

static bool csv_disk_is_ours(const CsvVolume *vol, const CsvDiskRecord *rec)
{
    return csv_member_is_me(vol, rec->owner, rec->owner_incarnation);
}

/*
 * What we wrote, or tried to, when it was never known whether we had: nobody
 * else has changed the record since then.
 */
static bool csv_disk_still_ours(const CsvDisk *disk, const CsvDiskRecord *rec)
{
    return rec->state == CSV_RECORD_OWNED && disk->unsure &&
           rec->epoch == disk->unsure && csv_disk_is_ours(disk->volume, rec);
}

/*
 * With a token, the memory of a virtual machine is about to meet its disk
 * again.  They fit only if nobody had the disk in between, so nothing but
 * the hand-over with that token will do, not even a free disk.
 */
static int GRAPH_RDLOCK
csv_disk_decide_token(CsvDisk *disk, const CsvDiskRecord *rec,
                      const QemuUUID *token, CsvOwnershipReason *reason,
                      Error **errp)
{
    ERRP_GUARD();
    CsvVolume *vol = disk->volume;
    g_autofree char *who = NULL;
    g_autofree char *since = csv_time(rec->since);

    if (rec->state == CSV_RECORD_HANDOVER &&
        qemu_uuid_is_equal(token, &rec->token)) {
        *reason = csv_disk_is_ours(vol, rec) ? CSV_OWNERSHIP_REASON_RECLAIM
                                             : CSV_OWNERSHIP_REASON_ACCEPT;
        return 0;
    }
    if (disk->handed_over && disk->record.epoch != rec->epoch) {
        disk->record = *rec;
        csv_disk_event(disk, CSV_OWNERSHIP_REASON_LOST);
    }
    if (rec->state == CSV_RECORD_OWNED) {
        csv_disk_owner(vol, disk->bs->file, rec, &who);
        error_setg(errp, "Disk '%s' of csv volume '%s' is owned by another "
                   "member since %s (%s): the guest runs there, or did",
                   rec->name, csv_volume_label(vol), since, who);
    } else {
        error_setg(errp, "Disk '%s' of csv volume '%s' is not part of this "
                   "hand-over; it was let go by somebody else at %s, and the "
                   "guest's memory here does not fit to it", rec->name,
                   csv_volume_label(vol), since);
    }
    error_append_hint(errp, "This process cannot run the guest.  If no other "
                      "does, quit this one and start the guest anew.\n");
    return -EBUSY;
}

/* Find out whether, and why, we may become the owner of @rec. */
static int GRAPH_RDLOCK
csv_disk_decide(CsvDisk *disk, const CsvDiskRecord *rec, const QemuUUID *token,
                CsvOwnershipReason *reason, Error **errp)
{
    CsvVolume *vol = disk->volume;
    BdrvChild *file = disk->bs->file;

    if (rec->flags & CSV_DISK_SEALED) {
        error_setg(errp, "Disk '%s' of csv volume '%s' is sealed: it can only "
                   "be opened read-only", rec->name, csv_volume_label(vol));
        return -EACCES;
    }
    if (rec->flags & CSV_DISK_SHARED) {
        error_setg(errp, "Disk '%s' of csv volume '%s' has become a shared "
                   "one; open it anew", rec->name, csv_volume_label(vol));
        return -EACCES;
    }
    if (csv_disk_still_ours(disk, rec)) {
        *reason = CSV_OWNERSHIP_REASON_RECLAIM;
        return 0;
    }
    if (token) {
        return csv_disk_decide_token(disk, rec, token, reason, errp);
    }
    switch (rec->state) {
    case CSV_RECORD_FREE:
        *reason = CSV_OWNERSHIP_REASON_CLAIM;
        return 0;
    case CSV_RECORD_HANDOVER:
        *reason = CSV_OWNERSHIP_REASON_TAKEOVER;
        return csv_disk_may_take(vol, file, rec, disk->force_takeover,
                                 "being handed over", errp);
    case CSV_RECORD_OWNED:
        if (csv_disk_is_ours(vol, rec)) {
            error_setg(errp, "Disk '%s' of csv volume '%s' is already open "
                       "for writing in this process", rec->name,
                       csv_volume_label(vol));
            return -EBUSY;
        }
        *reason = CSV_OWNERSHIP_REASON_TAKEOVER;
        return csv_disk_may_take(vol, file, rec, disk->force_takeover,
                                 "owned", errp);
    default:
        error_setg(errp, "Disk '%s' of csv volume '%s' is being made or "
                   "deleted", disk->record.name, csv_volume_label(vol));
        return -EBUSY;
    }
}

int csv_disk_may_claim(CsvDisk *disk, Error **errp)
{
    CsvOwnershipReason reason;
    CsvDiskRecord rec;
    int ret = csv_disk_reread(disk, &rec, errp);

    if (ret < 0 || rec.flags & CSV_DISK_SHARED) {
        return ret;
    }
    return csv_disk_decide(disk, &rec, NULL, &reason, errp);
}

int csv_disk_claim(CsvDisk *disk, const QemuUUID *token, CsvDiskRecord *was,
                   Error **errp)
{
    CsvVolume *vol = disk->volume;
    BdrvChild *file = disk->bs->file;
    CsvOwnershipReason reason;
    CsvDiskRecord rec;
    int tries, ret;

    assert(vol->locked && !disk->owned);
    for (tries = 0; tries < CSV_SWAP_TRIES; tries++) {
        uint8_t raw[CSV_RECORD_SIZE];

        ret = csv_disk_read(vol, file, disk->record.slot, &rec, raw, errp);
        if (ret < 0) {
            return ret;
        }
        if (!qemu_uuid_is_equal(&rec.uuid, &disk->record.uuid)) {
            error_setg(errp, "Disk '%s' of csv volume '%s' was deleted",
                       disk->record.name, csv_volume_label(vol));
            return -ENOENT;
        }
        ret = csv_disk_decide(disk, &rec, token, &reason, errp);
        if (ret < 0) {
            return ret;
        }
        *was = rec;
        rec.state = CSV_RECORD_OWNED;
        rec.epoch++;
        rec.owner = vol->me.slot;
        rec.owner_incarnation = vol->me.incarnation;
        rec.since = g_get_real_time() / G_USEC_PER_SEC;
        memset(&rec.token, 0, sizeof(rec.token));
        ret = csv_disk_swap(vol, file, &rec, raw);
        if (ret == -EAGAIN) {
            continue;
        }
        if (ret < 0) {
            disk->unsure = rec.epoch;
            error_setg_errno(errp, -ret, "Cannot claim disk '%s' of csv "
                             "volume '%s'", rec.name, csv_volume_label(vol));
            return ret;
        }
        disk->record = rec;
        memcpy(disk->raw, raw, sizeof(raw));
        disk->owned = true;
        disk->handed_over = false;
        disk->unsure = 0;
        disk->give_back = false;
        csv_disk_event(disk, reason);
        return 0;
    }
    error_setg(errp, "Disk '%s' of csv volume '%s' changes all the time; try "
               "again", disk->record.name, csv_volume_label(vol));
    return -EBUSY;
}

/* Our own record is not what we wrote: say who has the disk now. */
static int GRAPH_RDLOCK
csv_disk_lost(CsvDisk *disk, Error **errp)
{
    CsvVolume *vol = disk->volume;
    g_autofree char *who = NULL;
    CsvDiskRecord rec;
    uint8_t raw[CSV_RECORD_SIZE];
    int ret;

    disk->owned = false;
    ret = csv_disk_read(vol, disk->bs->file, disk->record.slot, &rec, raw,
                        errp);
    if (ret < 0) {
        return ret;
    }
    csv_disk_owner(vol, disk->bs->file, &rec, &who);
    error_setg(errp, "Disk '%s' of csv volume '%s' was taken in epoch %" PRIu64
               " by another member (%s)", disk->record.name,
               csv_volume_label(vol), rec.epoch, who);
    disk->record = rec;
    csv_disk_event(disk, CSV_OWNERSHIP_REASON_LOST);
    return -ESTALE;
}

int csv_disk_change(CsvDisk *disk, const CsvDiskRecord *rec, const char *doing,
                    Error **errp)
{
    int ret = csv_disk_swap(disk->volume, disk->bs->file, rec, disk->raw);

    if (ret == -EAGAIN) {
        return csv_disk_lost(disk, errp);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot %s disk '%s' of csv volume '%s'",
                         doing, rec->name, csv_volume_label(disk->volume));
        return ret;
    }
    disk->record = *rec;
    return 0;
}

/* Is the record what it was before a change of it failed, for certain? */
static bool GRAPH_RDLOCK csv_disk_is_unchanged(CsvDisk *disk)
{
    uint8_t raw[CSV_RECORD_SIZE];
    CsvDiskRecord rec;

    return csv_disk_read(disk->volume, disk->bs->file, disk->record.slot, &rec,
                         raw, NULL) >= 0 &&
           !memcmp(raw, disk->raw, sizeof(raw));
}

int csv_disk_release(CsvDisk *disk, const QemuUUID *token, Error **errp)
{
    CsvDiskRecord rec = disk->record;
    int ret;

    assert(disk->owned && rec.state == CSV_RECORD_OWNED);
    rec.state = token ? CSV_RECORD_HANDOVER : CSV_RECORD_FREE;
    rec.since = g_get_real_time() / G_USEC_PER_SEC;
    if (token) {
        rec.token = *token;
    }
    ret = csv_disk_change(disk, &rec, "release", errp);
    if (ret < 0) {
        /*
         * Perhaps it is released, and if not, nobody but us can know: without
         * a claim it must not be written, or who replays the journal later
         * would stop where the record says.
         */
        if (disk->owned && !csv_disk_is_unchanged(disk)) {
            disk->owned = false;
            disk->handed_over = token;
            disk->unsure = rec.epoch;
        }
        return ret;
    }
    disk->owned = false;
    disk->unsure = 0;
    disk->handed_over = token;
    csv_disk_event(disk, token ? CSV_OWNERSHIP_REASON_HANDOVER
                               : CSV_OWNERSHIP_REASON_RELEASE);
    return 0;
}

int csv_disk_release_unsure(CsvDisk *disk, const QemuUUID *token)
{
    uint8_t raw[CSV_RECORD_SIZE];
    CsvDiskRecord rec;
    int ret = csv_disk_read(disk->volume, disk->bs->file, disk->record.slot,
                            &rec, raw, NULL);

    if (ret < 0 || !csv_disk_still_ours(disk, &rec)) {
        return ret;
    }
    rec.journal_sequence = 0;           /* We never got to look at it. */
    disk->record = rec;
    memcpy(disk->raw, raw, sizeof(raw));
    disk->owned = true;
    ret = csv_disk_release(disk, token, NULL);
    disk->owned = false;
    return ret;
}

int csv_disk_set_size(CsvDisk *disk, uint64_t size, Error **errp)
{
    CsvDiskRecord rec = disk->record;

    assert(disk->owned);
    rec.size = size;
    return csv_disk_change(disk, &rec, "resize", errp);
}

int csv_disk_set_backing(CsvDisk *disk, const QemuUUID *backing, Error **errp)
{
    CsvDiskRecord rec = disk->record;

    assert(disk->owned);
    rec.backing = *backing;
    return csv_disk_change(disk, &rec, "change the backing disk of", errp);
}
