/*
 * Cluster shared volume: ownership of a disk
 *
 * docs/interop/csv.rst has the states of a disk record, and who may change it.
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
 * Do we own the disk by a claim or release whose outcome is unknown
 * (disk->unsure)?  Then nobody else has changed the record since.
 */
static bool csv_disk_still_ours(const CsvDisk *disk, const CsvDiskRecord *rec)
{
    return rec->state == CSV_RECORD_OWNED && disk->unsure &&
           rec->epoch == disk->unsure && csv_disk_is_ours(disk->volume, rec);
}

/* Has the disk had no owner since it was released with @token? */
static bool csv_disk_is_offered(const CsvDiskRecord *rec,
                                const QemuUUID *token)
{
    return token && rec->state == CSV_RECORD_HANDOVER &&
           qemu_uuid_is_equal(token, &rec->token);
}

/*
 * A token means that the guest's memory depends on the content of the disk.
 * They match only if nobody owned the disk in between, so only a hand-over with
 * that token is accepted; not even a free disk is.
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

    if (csv_disk_is_offered(rec, token)) {
        *reason = csv_disk_is_ours(vol, rec) ? CSV_OWNERSHIP_REASON_RECLAIM
                                             : CSV_OWNERSHIP_REASON_ACCEPT;
        return 0;
    }
    if (disk->handed_over && disk->record.epoch != rec->epoch) {
        disk->record = *rec;
        disk->lost = true;
        csv_disk_event(disk, CSV_OWNERSHIP_REASON_LOST);
    }
    if (rec->state == CSV_RECORD_OWNED) {
        csv_disk_owner(vol, disk->bs->file, rec, &who);
        error_setg(errp, "Disk '%s' of csv volume '%s' is owned by another "
                   "member since %s (%s): the guest runs there, or did",
                   rec->name, csv_volume_label(vol), since, who);
    } else {
        error_setg(errp, "Disk '%s' of csv volume '%s' is not part of this "
                   "hand-over; another member released it at %s, so the "
                   "guest's memory here does not match it", rec->name,
                   csv_volume_label(vol), since);
    }
    error_append_hint(errp, "This process cannot run the guest.  If no other "
                      "does, quit this one and start the guest again.\n");
    return -EBUSY;
}

/* Does @rec permit us to become the owner, and why? */
static int GRAPH_RDLOCK
csv_disk_decide_state(CsvDisk *disk, const CsvDiskRecord *rec,
                      const QemuUUID *token, CsvOwnershipReason *reason,
                      Error **errp)
{
    CsvVolume *vol = disk->volume;
    BdrvChild *file = disk->bs->file;

    if (rec->flags & CSV_DISK_SEALED) {
        error_setg(errp, "Disk '%s' of csv volume '%s' is sealed: it can only "
                   "be opened read-only", rec->name, csv_volume_label(vol));
        return -EACCES;
    }
    if (rec->flags & CSV_DISK_SHARED) {
        error_setg(errp, "Disk '%s' of csv volume '%s' is shared now; "
                   "open it again", rec->name, csv_volume_label(vol));
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
        error_setg(errp, "Disk '%s' of csv volume '%s' is being created or "
                   "deleted", disk->record.name, csv_volume_label(vol));
        return -EBUSY;
    }
}

/* May we become the owner of the disk in @rec, and why? */
static int GRAPH_RDLOCK
csv_disk_decide(CsvDisk *disk, const CsvDiskRecord *rec, const QemuUUID *token,
                CsvOwnershipReason *reason, Error **errp)
{
    int ret = csv_disk_decide_state(disk, rec, token, reason, errp);

    if (ret >= 0 && disk->lost && !csv_disk_is_offered(rec, token)) {
        error_setg(errp, "Disk '%s' of csv volume '%s' was taken by another "
                   "member while node '%s' had it open, so the guest's "
                   "state here no longer matches it; close the node, and open "
                   "the disk again", rec->name, csv_volume_label(disk->volume),
                   bdrv_get_node_name(disk->bs));
        return -ESTALE;
    }
    return ret;
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

typedef struct CsvClaimant {
    CsvDisk *disk;
    const QemuUUID *token;
    CsvOwnershipReason reason;
} CsvClaimant;

static int GRAPH_RDLOCK
csv_disk_claim_decide(void *opaque, CsvTransit *t, Error **errp)
{
    CsvClaimant *c = opaque;

    return csv_disk_decide(c->disk, &t->was, c->token, &c->reason, errp);
}

int csv_disk_claim(CsvDisk *disk, const QemuUUID *token, CsvDiskRecord *was,
                   Error **errp)
{
    CsvVolume *vol = disk->volume;
    CsvClaimant c = { .disk = disk, .token = token };
    CsvTransit t = { .doing = "claim", .rec = disk->record };
    int ret;

    assert(vol->locked && !disk->owned);
    ret = csv_disk_transit(vol, disk->bs->file, CSV_MOVE_CLAIM,
                           csv_disk_claim_decide, &c, &t, errp);
    *was = t.was;
    if (ret < 0) {
        if (t.open) {
            disk->unsure = t.was.epoch + 1;
        }
        return ret;
    }
    disk->record = t.rec;
    memcpy(disk->raw, t.raw, sizeof(t.raw));
    disk->owned = true;
    disk->lost = false;
    disk->handed_over = false;
    disk->unsure = 0;
    disk->give_back = false;
    csv_disk_event(disk, c.reason);
    return 0;
}

/* The record is no longer what we wrote: report the new owner. */
static int GRAPH_RDLOCK
csv_disk_lost(CsvDisk *disk, Error **errp)
{
    CsvVolume *vol = disk->volume;
    g_autofree char *who = NULL;
    CsvDiskRecord rec;
    uint8_t raw[CSV_RECORD_SIZE];
    int ret;

    disk->owned = false;
    disk->lost = true;
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

/* Make @move on the record of a disk that we own. */
static int GRAPH_RDLOCK
csv_disk_move_owned(CsvDisk *disk, CsvMove move, const CsvDiskRecord *to,
                    const char *doing, Error **errp)
{
    CsvDiskRecord rec = *to;
    int ret = csv_disk_move(disk->volume, disk->bs->file, move, &rec,
                            disk->raw);

    if (ret == -EAGAIN) {
        return csv_disk_lost(disk, errp);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot %s disk '%s' of csv volume '%s'",
                         doing, to->name, csv_volume_label(disk->volume));
        return ret;
    }
    disk->record = rec;
    return 0;
}

int csv_disk_confirm(CsvDisk *disk, Error **errp)
{
    CsvDiskRecord rec;
    int ret = csv_disk_reread(disk, &rec, errp);

    if (ret < 0) {
        return ret;
    }
    if (rec.epoch == disk->record.epoch &&
        qemu_uuid_is_equal(&rec.uuid, &disk->record.uuid) &&
        csv_disk_is_ours(disk->volume, &rec)) {
        return 0;
    }
    return csv_disk_lost(disk, errp);
}

int csv_disk_change(CsvDisk *disk, const CsvDiskRecord *rec, const char *doing,
                    Error **errp)
{
    return csv_disk_move_owned(disk, CSV_MOVE_EDIT, rec, doing, errp);
}

/* Is it certain that a failed change of the record was not made? */
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
    if (token) {
        rec.token = *token;
    }
    ret = csv_disk_move_owned(disk, token ? CSV_MOVE_OFFER : CSV_MOVE_RELEASE,
                              &rec, "release", errp);
    if (ret < 0) {
        /*
         * The disk may be released already.  So it must not be written without
         * another claim: the next owner may trust the journal position in the
         * record, and would not replay what we write now.
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
    rec.journal_sequence = 0;           /* unknown: scan the ring */
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
