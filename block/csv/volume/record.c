/*
 * Cluster shared volume: shared records
 *
 * csv_record_swap() is the only way to change shared metadata.  All users have
 * the same pattern: read the record, decide, swap; start over if it changed
 * meanwhile.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/memalign.h"
#include "trace/trace-block_csv.h"
#include "volume.h"

/* Slots of a table that are read by one request. */
#define CSV_ITER_SLOTS 256

int csv_record_read(BdrvChild *file, uint64_t offset, uint8_t *buf)
{
    return bdrv_pread(file, offset, CSV_RECORD_SIZE, buf, 0);
}

/*
 * A swap failed with @error, and it is unknown whether the record was written.
 * No two records are equal, so if @new is there, the swap was made.
 */
static int GRAPH_RDLOCK
csv_record_settle(BdrvChild *file, uint64_t offset, const uint8_t *new,
                  int error)
{
    uint8_t buf[CSV_RECORD_SIZE];

    if (csv_record_read(file, offset, buf) < 0 ||
        memcmp(buf, new, sizeof(buf)) || bdrv_flush(file->bs) < 0) {
        return error;
    }
    return 0;
}

int csv_record_swap(CsvVolume *vol, BdrvChild *file, uint64_t offset,
                    const uint8_t *old, const uint8_t *new)
{
    uint8_t compare[CSV_PAGE_SIZE] = { 0 };
    uint8_t write[CSV_PAGE_SIZE] = { 0 };
    /* The unit may change when the node is reopened with O_DIRECT. */
    uint32_t block = MAX(CSV_RECORD_SIZE, file->bs->bl.compare_and_write);
    int ret;

    memcpy(compare, old, CSV_RECORD_SIZE);
    memcpy(write, new, CSV_RECORD_SIZE);
    ret = bdrv_compare_and_write(file, offset, MIN(block, CSV_PAGE_SIZE),
                                 compare, write,
                                 csv_break(CSV_BREAK_SWAP_NOT_FLUSHED)
                                 ? 0 : BDRV_REQ_FUA);
    if (ret < 0 && ret != -EILSEQ && ret != -ENOTSUP) {
        ret = csv_record_settle(file, offset, new, ret);
    }
    trace_csv_record_swap(vol, offset, ret);
    return ret == -EILSEQ ? -EAGAIN : ret;
}

void csv_table_iter(CsvTableIter *it, BdrvChild *file, uint64_t offset,
                    uint32_t slots)
{
    *it = (CsvTableIter) {
        .file = file,
        .offset = offset,
        .slots = slots,
        .slot = UINT32_MAX,
    };
}

void csv_table_end(CsvTableIter *it)
{
    qemu_vfree(it->buf);
    it->buf = NULL;
}

int csv_table_next(CsvTableIter *it)
{
    uint32_t slot = it->slot + 1;
    int ret;

    if (slot >= it->slots) {
        csv_table_end(it);
        return 0;
    }
    if (!it->buf) {
        it->buf = qemu_blockalign(it->file->bs,
                                  MIN(CSV_ITER_SLOTS, it->slots) *
                                  CSV_PAGE_SIZE);
    }
    if (slot >= it->first + it->have) {
        it->first = slot;
        it->have = MIN(CSV_ITER_SLOTS, it->slots - slot);
        ret = bdrv_pread(it->file,
                         it->offset + (uint64_t)slot * CSV_PAGE_SIZE,
                         (int64_t)it->have * CSV_PAGE_SIZE, it->buf, 0);
        if (ret < 0) {
            csv_table_end(it);
            return ret;
        }
    }
    it->slot = slot;
    it->record = it->buf + (slot - it->first) * CSV_PAGE_SIZE;
    return 1;
}

uint64_t csv_member_offset(const CsvVolume *vol, uint32_t slot)
{
    return vol->sb.member_offset + (uint64_t)slot * CSV_PAGE_SIZE;
}

int csv_member_read_raw(CsvVolume *vol, BdrvChild *file, uint32_t slot,
                        CsvMemberRecord *out, uint8_t *raw, Error **errp)
{
    ERRP_GUARD();
    int ret = csv_record_read(file, csv_member_offset(vol, slot), raw);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read member %" PRIu32 " of csv "
                         "volume '%s'", slot, csv_volume_label(vol));
        return ret;
    }
    if (!csv_member_decode(raw, &vol->sb, slot, out, errp)) {
        error_prepend(errp, "csv volume '%s' is damaged: ",
                      csv_volume_label(vol));
        return -EINVAL;
    }
    return 0;
}

int csv_member_read(CsvVolume *vol, BdrvChild *file, uint32_t slot,
                    CsvMemberRecord *out, Error **errp)
{
    uint8_t raw[CSV_RECORD_SIZE];

    return csv_member_read_raw(vol, file, slot, out, raw, errp);
}

int csv_member_write(CsvVolume *vol, BdrvChild *file,
                     const CsvMemberRecord *me)
{
    uint8_t old[CSV_RECORD_SIZE], new[CSV_RECORD_SIZE];
    CsvMemberRecord now;
    int tries, err, ret = -EAGAIN;

    assert(vol->locked && me->slot == vol->me.slot);
    csv_member_encode(&vol->me, &vol->sb, old);
    csv_member_encode(me, &vol->sb, new);
    for (tries = 0; ret == -EAGAIN && tries < CSV_SWAP_TRIES; tries++) {
        ret = csv_record_swap(vol, file, csv_member_offset(vol, me->slot),
                              old, new);
        if (ret != -EAGAIN) {
            break;
        }
        /* A change that was reported as failed may have been made. */
        err = csv_record_read(file, csv_member_offset(vol, me->slot), old);
        if (err < 0) {
            return err;
        }
        if (!csv_member_decode(old, &vol->sb, me->slot, &now, NULL) ||
            now.state != CSV_MEMBER_ACTIVE ||
            now.incarnation != me->incarnation) {
            return -ESTALE;     /* another member has declared us dead */
        }
    }
    if (ret >= 0) {
        vol->me = *me;
    }
    return ret;
}

static uint64_t csv_disk_offset(const CsvVolume *vol, uint32_t slot)
{
    return vol->sb.disk_offset + (uint64_t)slot * CSV_PAGE_SIZE;
}

CsvDiskState csv_disk_state(CsvDiskRecordState state)
{
    switch (state) {
    case CSV_RECORD_CREATING:
        return CSV_DISK_STATE_CREATING;
    case CSV_RECORD_OWNED:
        return CSV_DISK_STATE_OWNED;
    case CSV_RECORD_HANDOVER:
        return CSV_DISK_STATE_HANDOVER;
    case CSV_RECORD_DELETING:
        return CSV_DISK_STATE_DELETING;
    default:
        return CSV_DISK_STATE_FREE;
    }
}

int csv_disk_read(CsvVolume *vol, BdrvChild *file, uint32_t slot,
                  CsvDiskRecord *out, uint8_t *raw, Error **errp)
{
    ERRP_GUARD();
    int ret = csv_record_read(file, csv_disk_offset(vol, slot), raw);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read disk record %" PRIu32
                         " of csv volume '%s'", slot, csv_volume_label(vol));
        return ret;
    }
    if (!csv_disk_decode(raw, &vol->sb, slot, out, errp)) {
        error_prepend(errp, "csv volume '%s' is damaged: ",
                      csv_volume_label(vol));
        return -EINVAL;
    }
    return 0;
}

/* Write @new to its slot if the bytes there still are @raw, and update @raw. */
static int GRAPH_RDLOCK
csv_disk_swap(CsvVolume *vol, BdrvChild *file, const CsvDiskRecord *new,
              uint8_t *raw)
{
    uint8_t buf[CSV_RECORD_SIZE];
    int ret;

    csv_disk_encode(new, &vol->sb, buf);
    ret = csv_record_swap(vol, file, csv_disk_offset(vol, new->slot), raw,
                          buf);
    if (ret >= 0) {
        memcpy(raw, buf, CSV_RECORD_SIZE);
    }
    return ret;
}

int csv_disk_replace(CsvVolume *vol, BdrvChild *file, const CsvDiskRecord *new,
                     uint8_t *raw)
{
    return csv_disk_swap(vol, file, new, raw);
}

#define FROM(state) (1U << CSV_RECORD_##state)

/* States in which only the member that the record names may change it. */
#define CSV_STATES_HELD (FROM(CREATING) | FROM(OWNED) | FROM(DELETING))

/*
 * The legal transitions, by the rules in docs/interop/csv.rst.  Whether a
 * member is dead, or a token is the right one, is checked by the caller.
 */
typedef struct CsvMoveRule {
    unsigned from;              /* states, a bit for each */
    unsigned to;                /* the same; if there are several: rec->state */
    bool ours;                  /* only the member in the record may do it */
    bool names_us;              /* the new record names this member */
    bool claims;                /* starts an epoch */
    bool token;                 /* uses rec->token */
    bool stays;                 /* state, time and token do not change */
} CsvMoveRule;

static const CsvMoveRule csv_moves[] = {
    [CSV_MOVE_RESERVE] = {
        .from = FROM(UNUSED), .to = FROM(CREATING), .names_us = true,
    },
    [CSV_MOVE_FURNISH] = {
        .from = FROM(CREATING), .to = FROM(CREATING), .ours = true,
        .stays = true,
    },
    [CSV_MOVE_COMPLETE] = {
        .from = FROM(CREATING), .to = FROM(FREE), .ours = true,
        .stays = true,
    },
    [CSV_MOVE_CLAIM] = {
        .from = FROM(FREE) | FROM(OWNED) | FROM(HANDOVER), .to = FROM(OWNED),
        .names_us = true, .claims = true,
    },
    [CSV_MOVE_RELEASE] = {
        .from = FROM(OWNED), .to = FROM(FREE), .ours = true,
    },
    [CSV_MOVE_OFFER] = {
        .from = FROM(OWNED), .to = FROM(HANDOVER), .ours = true,
        .token = true,
    },
    [CSV_MOVE_EDIT] = {
        .from = FROM(FREE) | FROM(OWNED) | FROM(HANDOVER),
        .to = FROM(FREE) | FROM(OWNED) | FROM(HANDOVER), .stays = true,
    },
    [CSV_MOVE_CONDEMN] = {
        .from = FROM(UNUSED) | FROM(CREATING) | FROM(FREE) | FROM(OWNED) |
                FROM(HANDOVER) | FROM(DELETING),
        .to = FROM(DELETING), .names_us = true,
    },
    [CSV_MOVE_SPARE] = {
        .from = FROM(DELETING),
        .to = FROM(CREATING) | FROM(FREE) | FROM(OWNED) | FROM(HANDOVER) |
              FROM(DELETING),
        .ours = true, .stays = true,
    },
    [CSV_MOVE_ERASE] = {
        .from = FROM(DELETING), .to = FROM(UNUSED), .ours = true,
    },
};

static bool csv_disk_names_us(const CsvVolume *vol, const CsvDiskRecord *rec)
{
    return rec->owner == vol->me.slot &&
           rec->owner_incarnation == vol->me.incarnation;
}

/* Fill in the fields of @rec that @move sets.  False: not legal from @was. */
static bool csv_disk_prepare(const CsvVolume *vol, CsvMove move,
                             const CsvDiskRecord *was, CsvDiskRecord *rec)
{
    const CsvMoveRule *m = &csv_moves[move];

    if (!(m->from & (1U << was->state)) ||
        (m->ours && !csv_disk_names_us(vol, was))) {
        return false;
    }
    if (is_power_of_2(m->to)) {
        rec->state = ctz32(m->to);
    }
    if (!(m->to & (1U << rec->state)) ||
        (m->stays && !m->ours && rec->state != was->state)) {
        return false;
    }
    if (m->names_us) {
        rec->owner = vol->me.slot;
        rec->owner_incarnation = vol->me.incarnation;
    }
    if (!m->stays && rec->state != CSV_RECORD_UNUSED) {
        rec->since = g_get_real_time() / G_USEC_PER_SEC;
    }
    if (!m->stays && !m->token) {
        memset(&rec->token, 0, sizeof(rec->token));
    }
    rec->epoch = was->epoch + m->claims;
    return true;
}

/*
 * @rec is a changed copy of @was, but @now is on the volume.  If @now is ours
 * in the same epoch, nobody else can have written it: an earlier change of ours
 * was reported as failed, but was made.  Copy the fields to @rec that the move
 * does not change.
 */
static bool csv_disk_resume(const CsvVolume *vol, const CsvDiskRecord *was,
                            const CsvDiskRecord *now, CsvDiskRecord *rec)
{
    if (!(CSV_STATES_HELD & (1U << was->state)) ||
        !csv_disk_names_us(vol, was) || !csv_disk_names_us(vol, now) ||
        now->state != was->state || now->epoch != was->epoch ||
        !qemu_uuid_is_equal(&now->uuid, &was->uuid)) {
        return false;
    }
    if (rec->size == was->size) {
        rec->size = now->size;
    }
    if (rec->flags == was->flags) {
        rec->flags = now->flags;
    }
    if (rec->first_segment == was->first_segment) {
        rec->first_segment = now->first_segment;
    }
    if (qemu_uuid_is_equal(&rec->backing, &was->backing)) {
        rec->backing = now->backing;
    }
    if (!strcmp(rec->name, was->name)) {
        memcpy(rec->name, now->name, sizeof(rec->name));
    }
    if (!strcmp(rec->description, was->description)) {
        memcpy(rec->description, now->description, sizeof(rec->description));
    }
    return true;
}

int csv_disk_move(CsvVolume *vol, BdrvChild *file, CsvMove move,
                  CsvDiskRecord *rec, uint8_t *raw)
{
    CsvDiskRecord was, now, want = *rec;
    int tries, ret = -EAGAIN;

    if (!csv_disk_decode(raw, &vol->sb, rec->slot, &was, NULL) ||
        !csv_disk_prepare(vol, move, &was, &want)) {
        return -EPERM;
    }
    for (tries = 0; ret == -EAGAIN && tries < CSV_SWAP_TRIES; tries++) {
        ret = csv_disk_swap(vol, file, &want, raw);
        if (ret == -EAGAIN) {
            uint8_t buf[CSV_RECORD_SIZE];

            int err = csv_disk_read(vol, file, rec->slot, &now, buf, NULL);

            if (err < 0) {
                return err;
            }
            if (!csv_disk_resume(vol, &was, &now, &want)) {
                return ret;
            }
            memcpy(raw, buf, sizeof(buf));
            was = now;
        }
    }
    if (ret >= 0) {
        *rec = want;
    }
    return ret;
}

int csv_disk_transit(CsvVolume *vol, BdrvChild *file, CsvMove move,
                     CsvDiskDecide *decide, void *opaque, CsvTransit *t,
                     Error **errp)
{
    uint32_t slot = t->rec.slot;
    QemuUUID uuid = t->rec.uuid;
    int tries, ret;

    t->file = file;
    for (tries = 0; tries < CSV_SWAP_TRIES; tries++) {
        ret = csv_disk_read(vol, file, slot, &t->was, t->raw, errp);
        if (ret < 0) {
            return ret;
        }
        if (!qemu_uuid_is_equal(&t->was.uuid, &uuid)) {
            error_setg(errp, "Disk '%s' of csv volume '%s' was deleted",
                       t->rec.name, csv_volume_label(vol));
            return -ENOENT;
        }
        t->rec = t->was;
        ret = decide(opaque, t, errp);
        if (ret < 0) {
            return ret;
        }
        ret = csv_disk_move(vol, file, move, &t->rec, t->raw);
        if (ret >= 0) {
            return ret;
        }
        if (ret != -EAGAIN) {
            t->open = ret != -EPERM;
            error_setg_errno(errp, -ret, "Cannot %s disk '%s' of csv volume "
                             "'%s'", t->doing, t->rec.name,
                             csv_volume_label(vol));
            return ret;
        }
    }
    error_setg(errp, "Disk '%s' of csv volume '%s' keeps changing; try "
               "again", t->rec.name, csv_volume_label(vol));
    return -EBUSY;
}
