/*
 * Cluster shared volume: creating and deleting disks
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/cutils.h"
#include "qemu/timer.h"
#include "disk.h"

/* How long to wait for a member that creates a disk of the same name: 10 s. */
#define CSV_NAME_TRIES      500
#define CSV_NAME_PAUSE_NS   (20 * SCALE_MS)

/* Fail if @rec is open in this process. */
static int csv_disk_check_closed(CsvVolume *vol, const CsvDiskRecord *rec,
                                 Error **errp)
{
    CsvDisk *open;

    QLIST_FOREACH(open, &vol->disks, next) {
        if (open->record.slot == rec->slot) {
            error_setg(errp, "Disk '%s' of csv volume '%s' is open here as "
                       "node '%s'; remove that first", rec->name,
                       csv_volume_label(vol), bdrv_get_node_name(open->bs));
            return -EBUSY;
        }
    }
    return 0;
}

/*
 * Fail if another disk is based on @rec, or if a member uses it.  Once @rec is
 * 'deleting', a member that makes an overlay or begins to use it after this
 * check finds it gone.
 */
static int GRAPH_RDLOCK
csv_disk_check_needed(CsvVolume *vol, BdrvChild *file,
                      const CsvDiskRecord *rec, Error **errp)
{
    CsvDiskRecord overlay;
    int ret = csv_disk_find_uuid(vol, file, &rec->uuid, true, &overlay, errp);

    if (ret > 0) {
        error_setg(errp, "Disk '%s' of csv volume '%s' is the backing disk of "
                   "'%s'; delete that first, or make it independent with "
                   "block-stream", rec->name, csv_volume_label(vol),
                   overlay.name);
        return -EBUSY;
    }
    return ret < 0 || !rec->flags ? ret
                                  : csv_use_check_none(vol, file, rec, errp);
}

/* The disk is needed: take back 'deleting', and restore what it @was. */
static void GRAPH_RDLOCK
csv_disk_spare(CsvVolume *vol, BdrvChild *file, const CsvDiskRecord *was,
               CsvDiskRecord *rec, uint8_t *raw)
{
    *rec = *was;
    if (rec->state == CSV_RECORD_DELETING &&
        rec->first_segment != CSV_NO_SEGMENT) {
        /* The member that began to delete it died before it freed anything. */
        rec->state = CSV_RECORD_FREE;
        rec->journal_sequence = 0;
        rec->journal_page = 0;
    }
    csv_disk_move(vol, file, CSV_MOVE_SPARE, rec, raw);
}

/*
 * Mark @rec such that its segments may be freed.  The first check is made
 * before anything changes, so that a crash leaves a disk that is needed as it
 * is.  The one that counts is made once @rec is 'deleting'; until then @rec
 * keeps its first segment, so that it can be restored.
 */
static int GRAPH_RDLOCK
csv_disk_condemn(CsvVolume *vol, BdrvChild *file, CsvDiskRecord *rec,
                 uint8_t *raw, Error **errp)
{
    CsvDiskRecord was = *rec;
    int ret = rec->state == CSV_RECORD_DELETING ? 0 :
              csv_disk_check_needed(vol, file, rec, errp);

    if (ret < 0) {
        return ret;
    }
    ret = csv_disk_move(vol, file, CSV_MOVE_CONDEMN, rec, raw);
    if (ret >= 0) {
        ret = csv_disk_check_needed(vol, file, rec, errp);
        if (ret < 0) {
            csv_disk_spare(vol, file, &was, rec, raw);
            return ret;
        }
        rec->first_segment = CSV_NO_SEGMENT;
        ret = csv_disk_move(vol, file, CSV_MOVE_CONDEMN, rec, raw);
    }
    if (ret == -EAGAIN) {
        error_setg(errp, "Disk '%s' of csv volume '%s' was not deleted: "
                   "another member changed it at the same time", was.name,
                   csv_volume_label(vol));
        return -EBUSY;
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot delete disk '%s' of csv volume "
                         "'%s'", was.name, csv_volume_label(vol));
    }
    return ret;
}

int csv_disk_erase(CsvVolume *vol, BdrvChild *file, CsvDiskRecord *rec,
                   uint8_t *raw, ProgressMeter *progress, Error **errp)
{
    g_autofree char *name = g_strdup(rec->name);
    int ret = csv_disk_condemn(vol, file, rec, raw, errp);

    if (ret < 0) {
        return ret;
    }
    /* Others will take for durable what its last owner discarded. */
    ret = bdrv_flush(file->bs);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot flush csv volume '%s'",
                         csv_volume_label(vol));
        return ret;
    }
    ret = csv_segments_free(vol, file, rec->slot, progress, errp);
    if (ret < 0) {
        return ret;
    }
    csv_space_inspect(vol, file);
    *rec = (CsvDiskRecord) { .slot = rec->slot };
    ret = csv_disk_move(vol, file, CSV_MOVE_ERASE, rec, raw);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot delete disk '%s' of csv volume "
                         "'%s'", name, csv_volume_label(vol));
    }
    return ret;
}

/*
 * Is a slot free, or does it hold a disk that a dead member has partly created
 * or deleted?  Then clean up, and @raw is the free record.  Returns 1, 0 or
 * -errno.
 */
static int GRAPH_RDLOCK
csv_disk_slot_usable(CsvVolume *vol, BdrvChild *file, CsvDiskRecord *rec,
                     uint8_t *raw, Error **errp)
{
    g_autofree char *who = NULL;
    Error *err = NULL;
    int ret;

    if (rec->state == CSV_RECORD_UNUSED) {
        return 1;
    }
    if (rec->state != CSV_RECORD_CREATING &&
        rec->state != CSV_RECORD_DELETING) {
        return 0;
    }
    if (csv_disk_owner(vol, file, rec, &who) != CSV_LIVENESS_DEAD) {
        return 0;
    }
    ret = csv_disk_erase(vol, file, rec, raw, NULL, &err);
    if (ret == -EBUSY) {
        error_free(err);    /* somebody else cleans up; there are other slots */
        return 0;
    }
    error_propagate(errp, err);
    return ret < 0 ? ret : 1;
}

/* Raise disk_high so that @slot is below it. */
static bool csv_disk_high_edit(CsvSuperblock *sb, uint64_t slot)
{
    if (slot < sb->disk_high) {
        return false;
    }
    /* In steps, so that making many disks changes it rarely. */
    sb->disk_high = MIN(sb->disk_slots, ROUND_UP(slot + 1, 16));
    return true;
}

/* Try to put @want into @slot.  1: done.  0: the slot is taken. */
static int GRAPH_RDLOCK
csv_disk_reserve_in(CsvVolume *vol, BdrvChild *file, uint32_t slot,
                    CsvDiskRecord *want, uint8_t *raw, Error **errp)
{
    CsvDiskRecord rec;
    int ret = csv_disk_read(vol, file, slot, &rec, raw, errp);

    if (ret < 0) {
        return ret;
    }
    ret = csv_disk_slot_usable(vol, file, &rec, raw, errp);
    if (ret <= 0) {
        return ret;
    }
    want->slot = slot;
    ret = csv_disk_move(vol, file, CSV_MOVE_RESERVE, want, raw);
    if (ret < 0 && ret != -EAGAIN) {
        error_setg_errno(errp, -ret, "Cannot write disk record %" PRIu32
                         " of csv volume '%s'", slot, csv_volume_label(vol));
        return ret;
    }
    return ret == 0;
}

/* Find a slot that can be reserved, first among those used before. */
static int GRAPH_RDLOCK
csv_disk_reserve(CsvVolume *vol, BdrvChild *file, CsvDiskRecord *want,
                 uint8_t *raw, Error **errp)
{
    CsvDiskRecord rec;
    CsvTableIter it;
    uint32_t slot;
    int ret = csv_volume_refresh(vol, file, errp);

    if (ret < 0) {
        return ret;
    }
    csv_table_iter(&it, file, vol->sb.disk_offset, vol->sb.disk_high);
    while ((ret = csv_table_next(&it)) > 0) {
        if (!csv_disk_decode(it.record, &vol->sb, it.slot, &rec, NULL) ||
            rec.state == CSV_RECORD_FREE || rec.state == CSV_RECORD_OWNED ||
            rec.state == CSV_RECORD_HANDOVER) {
            continue;
        }
        ret = csv_disk_reserve_in(vol, file, it.slot, want, raw, errp);
        if (ret) {
            csv_table_end(&it);
            return ret < 0 ? ret : 0;
        }
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read the disk table of csv "
                         "volume '%s'", csv_volume_label(vol));
        return ret;
    }
    for (slot = vol->sb.disk_high; slot < vol->sb.disk_slots; slot++) {
        ret = csv_superblock_change(vol, file, csv_disk_high_edit, slot,
                                    errp);
        if (ret == 0) {
            ret = csv_disk_reserve_in(vol, file, slot, want, raw, errp);
        }
        if (ret) {
            return ret < 0 ? ret : 0;
        }
    }
    error_setg(errp, "csv volume '%s' has no room for another disk: all %"
               PRIu32 " slots are in use; delete a disk",
               csv_volume_label(vol), vol->sb.disk_slots);
    return -ENOSPC;
}

/*
 * Look for other records with the name of @mine.  0: there is none.  -EEXIST:
 * one comes first.  -EAGAIN: one comes after, and may not know of us.
 */
static int GRAPH_RDLOCK
csv_disk_name_inspect(CsvVolume *vol, BdrvChild *file,
                      const CsvDiskRecord *mine, Error **errp)
{
    CsvTableIter it;
    CsvDiskRecord rec;
    bool later = false;
    int ret;

    csv_table_iter(&it, file, vol->sb.disk_offset, vol->sb.disk_high);
    while ((ret = csv_table_next(&it)) > 0) {
        g_autofree char *who = NULL;

        if (it.slot == mine->slot ||
            !csv_disk_decode(it.record, &vol->sb, it.slot, &rec, NULL) ||
            rec.state == CSV_RECORD_UNUSED ||
            rec.state == CSV_RECORD_DELETING || strcmp(rec.name, mine->name)) {
            continue;
        }
        if (rec.state == CSV_RECORD_CREATING) {
            if (csv_disk_owner(vol, file, &rec, &who) == CSV_LIVENESS_DEAD) {
                continue;
            }
            if (it.slot > mine->slot) {
                later = true;
                continue;
            }
        }
        csv_table_end(&it);
        error_setg(errp, "csv volume '%s' has a disk '%s' already",
                   csv_volume_label(vol), mine->name);
        return -EEXIST;
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read the disk table of csv "
                         "volume '%s'", csv_volume_label(vol));
        return ret;
    }
    return later ? -EAGAIN : 0;
}

/* Rule 4 of the format: one name, one record. */
static int coroutine_fn GRAPH_RDLOCK
csv_disk_name_settle(CsvVolume *vol, BdrvChild *file,
                     const CsvDiskRecord *mine, Error **errp)
{
    int tries, ret;

    for (tries = 0; tries < CSV_NAME_TRIES; tries++) {
        ret = csv_volume_refresh(vol, file, errp);
        if (ret < 0) {
            return ret;
        }
        ret = csv_disk_name_inspect(vol, file, mine, errp);
        if (ret != -EAGAIN) {
            return ret;
        }
        qemu_co_sleep_ns(QEMU_CLOCK_REALTIME, CSV_NAME_PAUSE_NS);
    }
    error_setg(errp, "Another member is creating disk '%s' in csv volume '%s', "
               "which does not complete; try again", mine->name,
               csv_volume_label(vol));
    return -EBUSY;
}

/* The parts of a disk, once its name is settled. */
static int GRAPH_RDLOCK
csv_disk_make_parts(CsvVolume *vol, BdrvChild *file, const CsvHeader *header,
                    CsvMaking *m, Error **errp)
{
    CsvClaim first = { .sequence = 0 };
    CsvDiskRecord base;
    int ret = 0;

    if (!qemu_uuid_is_null(&m->rec.backing)) {
        /* Now that our record holds it, is it still there? */
        ret = csv_disk_by_uuid(vol, file, &m->rec.backing, &base, errp);
    }
    if (ret >= 0) {
        ret = csv_segments_claim(vol, file, m->rec.slot, &first, 1, errp);
    }
    if (ret >= 0) {
        m->rec.first_segment = first.index;
        ret = csv_map_format(vol, file, &m->rec, header, errp);
    }
    if (ret >= 0) {
        /* With its first segment it can be opened, by us. */
        ret = csv_disk_move(vol, file, CSV_MOVE_FURNISH, &m->rec, m->raw);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Cannot write the record of disk "
                             "'%s' of csv volume '%s'", m->rec.name,
                             csv_volume_label(vol));
        }
    }
    return ret;
}

int coroutine_fn csv_disk_make_begin(CsvVolume *vol, BdrvChild *file,
                                     const char *name, uint64_t size,
                                     const CsvHeader *header,
                                     CsvMaking *m, Error **errp)
{
    int ret;

    assert(vol->locked);
    if (!csv_disk_name_check(name, errp)) {
        return -EINVAL;
    }
    if (size > CSV_MAX_DISK_SIZE || size % BDRV_SECTOR_SIZE) {
        error_setg(errp, "The size of a csv disk is a multiple of %llu of at "
                   "most %" PRIu64 " bytes", BDRV_SECTOR_SIZE,
                   (uint64_t)CSV_MAX_DISK_SIZE);
        return -EFBIG;
    }
    m->rec = (CsvDiskRecord) {
        .size = size,
        .first_segment = CSV_NO_SEGMENT,
        .backing = header->backing,
    };
    pstrcpy(m->rec.name, sizeof(m->rec.name), name);
    qemu_uuid_generate(&m->rec.uuid);
    ret = csv_disk_reserve(vol, file, &m->rec, m->raw, errp);
    if (ret < 0) {
        return ret;
    }
    ret = csv_disk_name_settle(vol, file, &m->rec, errp);
    if (ret >= 0) {
        ret = csv_disk_make_parts(vol, file, header, m, errp);
    }
    if (ret < 0) {
        csv_disk_erase(vol, file, &m->rec, m->raw, NULL, NULL);
    }
    return ret;
}

int csv_disk_make_end(CsvVolume *vol, BdrvChild *file, CsvMaking *m, int ret,
                      Error **errp)
{
    if (ret >= 0) {
        ret = csv_disk_move(vol, file, CSV_MOVE_COMPLETE, &m->rec, m->raw);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Cannot complete disk '%s' of csv "
                             "volume '%s'", m->rec.name,
                             csv_volume_label(vol));
        }
    }
    if (ret < 0) {
        csv_disk_erase(vol, file, &m->rec, m->raw, NULL, NULL);
    }
    return ret;
}

int csv_disk_delete(CsvVolume *vol, BdrvChild *file, const char *name,
                    ProgressMeter *progress, Error **errp)
{
    CsvDiskRecord rec;
    uint8_t raw[CSV_RECORD_SIZE];
    int ret;

    assert(vol->locked);
    ret = csv_disk_find(vol, file, name, &rec, raw, errp);
    if (ret >= 0) {
        ret = csv_disk_check_closed(vol, &rec, errp);
    }
    if (ret < 0) {
        return ret;
    }
    if (rec.state != CSV_RECORD_FREE) {
        ret = csv_disk_may_take(vol, file, &rec, false, "in use", errp);
        if (ret < 0) {
            return ret;
        }
    }
    return csv_disk_erase(vol, file, &rec, raw, progress, errp);
}

/* Write @rec, changed from @raw, of a disk that no other member owns. */
static int GRAPH_RDLOCK
csv_disk_edit(CsvVolume *vol, BdrvChild *file, CsvDiskRecord *rec,
              uint8_t *raw, const char *doing, Error **errp)
{
    CsvDisk *open;
    int ret = 0;

    QLIST_FOREACH(open, &vol->disks, next) {
        if (open->owned && open->record.slot == rec->slot) {
            bdrv_inc_in_flight(open->bs);   /* do not close it now */
            ret = csv_disk_change(open, rec, doing, errp);
            bdrv_dec_in_flight(open->bs);
            return ret;
        }
    }
    if (rec->state != CSV_RECORD_FREE) {
        ret = csv_disk_may_take(vol, file, rec, false, "in use", errp);
        if (ret < 0) {
            return ret;
        }
    }
    ret = csv_disk_move(vol, file, CSV_MOVE_EDIT, rec, raw);
    if (ret < 0) {
        error_setg_errno(errp, ret == -EAGAIN ? EBUSY : -ret, "Cannot %s disk "
                         "'%s' of csv volume '%s'", doing, rec->name,
                         csv_volume_label(vol));
    }
    return ret;
}

/*
 * The new name is reserved like that of a new disk, so that members that want
 * the same name notice each other.  The reservation ends when the disk has the
 * name, or when this member is dead.
 */
int csv_disk_rename(CsvVolume *vol, BdrvChild *file, const char *name,
                    const char *new_name, Error **errp)
{
    CsvDiskRecord rec, mine = { .first_segment = CSV_NO_SEGMENT };
    uint8_t raw[CSV_RECORD_SIZE], reserved[CSV_RECORD_SIZE];
    int ret;

    assert(vol->locked);
    if (!csv_disk_name_check(new_name, errp)) {
        return -EINVAL;
    }
    ret = csv_disk_find(vol, file, name, &rec, raw, errp);
    if (ret < 0 || !strcmp(rec.name, new_name)) {
        return ret;
    }
    if (rec.state == CSV_RECORD_CREATING) {
        error_setg(errp, "Disk '%s' of csv volume '%s' is not complete",
                   rec.name, csv_volume_label(vol));
        return -EBUSY;
    }
    pstrcpy(mine.name, sizeof(mine.name), new_name);
    qemu_uuid_generate(&mine.uuid);
    ret = csv_disk_reserve(vol, file, &mine, reserved, errp);
    if (ret < 0) {
        return ret;
    }
    ret = csv_disk_name_inspect(vol, file, &mine, errp);
    if (ret == -EAGAIN) {
        error_setg(errp, "Another member is creating disk '%s' in csv volume "
                   "'%s'; try again", new_name, csv_volume_label(vol));
        ret = -EBUSY;
    }
    if (ret >= 0) {
        pstrcpy(rec.name, sizeof(rec.name), new_name);
        ret = csv_disk_edit(vol, file, &rec, raw, "rename", errp);
    }
    /* If this fails, the reservation ends when we leave the volume. */
    csv_disk_erase(vol, file, &mine, reserved, NULL, NULL);
    return ret;
}

int csv_disk_describe(CsvVolume *vol, BdrvChild *file, const char *name,
                      const char *text, Error **errp)
{
    uint8_t raw[CSV_RECORD_SIZE];
    CsvDiskRecord rec;
    int ret;

    assert(vol->locked);
    if (!csv_description_check(text, errp)) {
        return -EINVAL;
    }
    ret = csv_disk_find(vol, file, name, &rec, raw, errp);
    if (ret < 0) {
        return ret;
    }
    memset(rec.description, 0, sizeof(rec.description));
    pstrcpy(rec.description, sizeof(rec.description), text);
    return csv_disk_edit(vol, file, &rec, raw, "describe", errp);
}
