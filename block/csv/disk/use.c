/*
 * Cluster shared volume: sealed and shared disks, which have no owner
 *
 * A sealed disk (a template) is read by any number of members.  A shared disk
 * is also written by them; it is fully allocated, so its metadata does not
 * change.  A member that uses such a disk first writes that to its member
 * record, and then reads the disk's record.  A member that unseals, unshares or
 * deletes the disk first changes the disk's record, and then reads all member
 * records.  So if both happen at once, at least one member notices the other.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "disk.h"
#include "trace/trace-block_csv.h"

/* The entry of @slot in our record, or the first free one; -1: none is free. */
static int csv_use_entry(const CsvMemberRecord *me, uint32_t slot)
{
    int i, free = -1;

    for (i = 0; i < CSV_MEMBER_USES; i++) {
        if (me->use[i] && csv_use_slot(me->use[i]) == slot) {
            return i;
        }
        if (!me->use[i] && free < 0) {
            free = i;
        }
    }
    return free;
}

/* The entry that all nodes of this process that use @slot need together. */
static uint32_t csv_use_wanted(const CsvVolume *vol, uint32_t slot)
{
    uint32_t use = 0;
    CsvDisk *disk;

    QLIST_FOREACH(disk, &vol->disks, next) {
        if (disk->use && csv_use_slot(disk->use) == slot) {
            use |= disk->use;
        }
    }
    return use;
}

typedef struct CsvUseEdit {
    CsvVolume *vol;
    uint32_t slot;
} CsvUseEdit;

static int csv_use_edit(CsvMemberRecord *me, void *opaque, Error **errp)
{
    CsvUseEdit *e = opaque;
    CsvVolume *vol = e->vol;
    uint32_t want = csv_use_wanted(vol, e->slot);
    int i = csv_use_entry(me, e->slot);

    if (i < 0) {
        error_setg(errp, "This process uses %d sealed or shared disks of csv "
                   "volume '%s', and no more is possible through node '%s'; "
                   "add another node for the volume", CSV_MEMBER_USES,
                   csv_volume_label(vol), bdrv_get_node_name(vol->bs));
        return -EUSERS;
    }
    if (me->use[i] == want) {
        return 0;
    }
    me->use[i] = want;
    return 1;
}

/* Update the entry of @slot in our record. */
static int GRAPH_RDLOCK
csv_use_settle(CsvVolume *vol, BdrvChild *file, uint32_t slot, Error **errp)
{
    CsvUseEdit e = { vol, slot };

    return csv_member_change(vol, file, csv_use_edit, &e, errp);
}

/* Others see our entry now.  Has the disk changed since we last read it? */
static int GRAPH_RDLOCK csv_use_confirm(CsvDisk *disk, Error **errp)
{
    CsvDiskRecord rec;
    int ret = csv_disk_reread(disk, &rec, errp);

    if (ret < 0) {
        return ret;
    }
    if (!qemu_uuid_is_equal(&rec.uuid, &disk->record.uuid) ||
        rec.flags != disk->record.flags || rec.state == CSV_RECORD_DELETING) {
        error_setg(errp, "Disk '%s' of csv volume '%s' has just been deleted, "
                   "or is no longer sealed or shared; open it again",
                   disk->record.name, csv_volume_label(disk->volume));
        return -ESTALE;
    }
    if (rec.state != CSV_RECORD_FREE) {
        ret = csv_disk_may_take(disk->volume, disk->bs->file, &rec, false,
                                "being changed", errp);
        if (ret < 0) {
            return ret;
        }
    }
    disk->record = rec;
    return 0;
}

int csv_use_enter(CsvDisk *disk, bool write, Error **errp)
{
    CsvVolume *vol = disk->volume;
    BdrvChild *file = disk->bs->file;
    uint32_t was = disk->use;
    int ret;

    assert(disk->attached && !disk->owned);
    disk->use = (disk->record.slot + 1) | (write ? CSV_USE_WRITE : 0);
    ret = csv_use_settle(vol, file, disk->record.slot, errp);
    if (ret >= 0) {
        ret = csv_use_confirm(disk, errp);
        if (ret < 0) {
            disk->use = was;
            csv_use_settle(vol, file, disk->record.slot, NULL);
        }
    } else {
        disk->use = was;
    }
    trace_csv_use(disk->record.name, write, ret);
    return ret;
}

void csv_use_leave(CsvDisk *disk)
{
    BdrvChild *file = disk->bs->file;

    disk->use = 0;
    if (csv_may_write(file)) {
        csv_use_settle(disk->volume, file, disk->record.slot, NULL);
    }
}

/* Is the disk in @rec open for writing in this process?  Sets @errp if so. */
static bool csv_use_written_here(CsvVolume *vol, const CsvDiskRecord *rec,
                                 Error **errp)
{
    CsvDisk *disk;

    QLIST_FOREACH(disk, &vol->disks, next) {
        if (disk->owned && disk->record.slot == rec->slot) {
            error_setg(errp, "Disk '%s' of csv volume '%s' is open for "
                       "writing here as node '%s'; remove that, or make it "
                       "read-only, first", rec->name, csv_volume_label(vol),
                       bdrv_get_node_name(disk->bs));
            return true;
        }
    }
    return false;
}

/* May the flags of the disk be changed, and the disk be claimed for that? */
static int GRAPH_RDLOCK
csv_use_decide(void *opaque, CsvTransit *t, Error **errp)
{
    CsvVolume *vol = opaque;
    CsvDiskRecord *rec = &t->rec;
    int ret = 0;

    if (csv_use_written_here(vol, rec, errp)) {
        return -EBUSY;
    }
    if (rec->state == CSV_RECORD_CREATING) {
        error_setg(errp, "Disk '%s' of csv volume '%s' is not complete",
                   rec->name, csv_volume_label(vol));
        return -EBUSY;
    }
    if (rec->state != CSV_RECORD_FREE) {
        ret = csv_disk_may_take(vol, t->file, rec, false, "in use", errp);
        if (ret >= 0 && !rec->flags) {
            rec->journal_sequence = 0;  /* the next reader scans the ring */
        }
    }
    return ret;
}

/*
 * Claim the disk with the old flags, so that no other member starts to use it,
 * and release it with the new ones.
 */
int csv_disk_set_flags(CsvVolume *vol, BdrvChild *file, const char *name,
                       uint32_t flags, Error **errp)
{
    CsvTransit t = { .doing = "change" };
    int ret, used;

    assert(vol->locked);
    ret = csv_disk_find(vol, file, name, &t.rec, t.raw, errp);
    if (ret < 0) {
        return ret;
    }
    if (t.rec.flags == flags && t.rec.state == CSV_RECORD_FREE) {
        return 0;
    }
    ret = csv_disk_transit(vol, file, CSV_MOVE_CLAIM, csv_use_decide, vol, &t,
                           errp);
    if (ret < 0) {
        return ret;
    }
    used = t.rec.flags ? csv_use_check_none(vol, file, &t.rec, errp) : 0;
    t.rec.flags = used < 0 ? t.rec.flags : flags;
    ret = csv_disk_move(vol, file, CSV_MOVE_RELEASE, &t.rec, t.raw);
    if (used < 0) {
        return used;
    }
    if (ret < 0) {
        error_setg_errno(errp, ret == -EAGAIN ? EBUSY : -ret, "Cannot change "
                         "disk '%s' of csv volume '%s'", name,
                         csv_volume_label(vol));
    }
    return ret;
}
