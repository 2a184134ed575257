/*
 * Cluster shared volume: who takes part, and who is alive
 *
 * A member is one opening of the volume for writing.  It holds a lock that
 * the kernel drops with the process, and a record in its slot that tells
 * people who it is.  The order is: lock, then record; and on the way out
 * record, then lock.  So a record that says "active" while nobody holds the
 * lock is that of a member that died, at least as far as this host's locks
 * can tell.
 *
 * A slot has two bytes to lock, used in turn by its incarnations.  So whoever
 * is about to join in the place of a dead member does not look like it.
 *
 * Joining, leaving and changes of our record yield; member_lock keeps them
 * apart.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "block/aio-wait.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "volume.h"
#include "trace/trace-block_csv.h"

static uint64_t csv_member_offset(const CsvVolume *vol, uint32_t slot)
{
    return vol->sb.member_offset + (uint64_t)slot * CSV_PAGE_SIZE;
}

/* The lock of the member in @slot with @incarnation. */
static uint64_t csv_member_lock_id(uint32_t slot, uint64_t incarnation)
{
    return 2 * (uint64_t)slot + (incarnation & 1);
}

/* An ID from a file of 32 hexadecimal digits, with dashes or without. */
static QemuUUID csv_read_id(const char *path)
{
    g_autofree char *text = NULL;
    QemuUUID id = { 0 };
    unsigned i, n = 0;

    if (!g_file_get_contents(path, &text, NULL, NULL)) {
        return id;
    }
    for (i = 0; text[i] && n < 2 * sizeof(id.data); i++) {
        if (g_ascii_isxdigit(text[i])) {
            id.data[n / 2] <<= 4;
            id.data[n / 2] |= g_ascii_xdigit_value(text[i]);
            n++;
        }
    }
    return n == 2 * sizeof(id.data) ? id : (QemuUUID) { 0 };
}

/* Who we are: host and boot. */
static void csv_member_set_host(CsvMemberRecord *rec)
{
    rec->host_id = csv_read_id("/etc/machine-id");
    rec->boot_id = csv_read_id("/proc/sys/kernel/random/boot_id");
    pstrcpy(rec->host, sizeof(rec->host), g_get_host_name());
    if (!g_utf8_validate(rec->host, -1, NULL)) {
        pstrcpy(rec->host, sizeof(rec->host), "unnamed");
    }
}

/*
 * Is a member without its lock gone for sure?  In this boot of this host the
 * kernel drops a lock with the process only.  Nobody lives on from an earlier
 * boot either; there the name is asked as well, because copied machines may
 * share an ID.
 */
static bool csv_same_host(const CsvMemberRecord *rec)
{
    CsvMemberRecord here;

    csv_member_set_host(&here);
    if (!qemu_uuid_is_null(&here.boot_id) &&
        qemu_uuid_is_equal(&here.boot_id, &rec->boot_id)) {
        return true;
    }
    return !qemu_uuid_is_null(&here.host_id) &&
           qemu_uuid_is_equal(&here.host_id, &rec->host_id) &&
           !strcmp(here.host, rec->host);
}

int csv_member_read(CsvVolume *vol, BdrvChild *file, uint32_t slot,
                    CsvMemberRecord *out, Error **errp)
{
    ERRP_GUARD();
    uint8_t buf[CSV_RECORD_SIZE];
    int ret = csv_record_read(file, csv_member_offset(vol, slot), buf);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read member %" PRIu32 " of csv "
                         "volume '%s'", slot, csv_volume_label(vol));
        return ret;
    }
    if (!csv_member_decode(buf, &vol->sb, slot, out, errp)) {
        error_prepend(errp, "csv volume '%s' is damaged: ",
                      csv_volume_label(vol));
        return -EINVAL;
    }
    return 0;
}

bool csv_member_is_me(const CsvVolume *vol, uint32_t slot,
                      uint64_t incarnation)
{
    return vol->locked && vol->me.slot == slot &&
           vol->me.incarnation == incarnation;
}

bool csv_member_slot_locked(BdrvChild *file, uint32_t slot)
{
    return bdrv_liveness_lock(file->bs, csv_member_lock_id(slot, 0),
                              BDRV_LIVENESS_TEST) ||
           bdrv_liveness_lock(file->bs, csv_member_lock_id(slot, 1),
                              BDRV_LIVENESS_TEST);
}

CsvLiveness csv_member_liveness(CsvVolume *vol, BdrvChild *file,
                                const CsvMemberRecord *rec,
                                uint64_t incarnation)
{
    if (csv_member_is_me(vol, rec->slot, incarnation)) {
        return CSV_LIVENESS_ALIVE;
    }
    if (rec->state != CSV_MEMBER_ACTIVE || rec->incarnation != incarnation) {
        return CSV_LIVENESS_DEAD;
    }
    if (rec->liveness != CSV_LIVENESS_BY_LOCK) {
        return CSV_LIVENESS_UNKNOWN;
    }
    switch (bdrv_liveness_lock(file->bs,
                               csv_member_lock_id(rec->slot, incarnation),
                               BDRV_LIVENESS_TEST)) {
    case -EBUSY:
        return CSV_LIVENESS_ALIVE;
    case 0:
        return csv_same_host(rec) ? CSV_LIVENESS_DEAD : CSV_LIVENESS_UNKNOWN;
    default:
        return CSV_LIVENESS_UNKNOWN;
    }
}

char *csv_member_describe(const CsvMemberRecord *rec)
{
    g_autoptr(GDateTime) since = g_date_time_new_from_unix_utc(rec->since);
    g_autofree char *when =
        since ? g_date_time_format(since, "%Y-%m-%d %H:%M:%S UTC") : NULL;

    return g_strdup_printf("host %s, pid %" PRIu32 ", member %" PRIu32
                           ", joined %s", rec->host, rec->pid, rec->slot,
                           when ?: "at an unknown time");
}

bool csv_member_other(CsvVolume *vol, BdrvChild *file, char **who)
{
    CsvMemberRecord rec;
    uint32_t slot;

    for (slot = 0; slot < vol->sb.member_slots; slot++) {
        if (csv_member_read(vol, file, slot, &rec, NULL) < 0) {
            if (csv_member_slot_locked(file, slot)) {
                *who = g_strdup_printf("member %" PRIu32 ", whose record is "
                                       "damaged", slot);
                return true;
            }
        } else if (!csv_member_is_me(vol, slot, rec.incarnation) &&
                   csv_member_liveness(vol, file, &rec, rec.incarnation) !=
                   CSV_LIVENESS_DEAD) {
            *who = csv_member_describe(&rec);
            return true;
        }
    }
    return false;
}

CsvMemberInfo *csv_member_info(CsvVolume *vol, BdrvChild *file,
                               const CsvMemberRecord *rec,
                               uint64_t incarnation)
{
    CsvMemberInfo *info = g_new0(CsvMemberInfo, 1);

    info->id = rec->slot;
    info->incarnation = incarnation;
    info->host = g_strdup(rec->host);
    info->pid = rec->pid;
    info->since = rec->since;
    info->liveness = csv_member_liveness(vol, file, rec, incarnation);
    return info;
}

/* Write our record into its slot in place of @old.  1: done.  0: it changed. */
static int GRAPH_RDLOCK
csv_member_enter(CsvVolume *vol, BdrvChild *file, CsvMemberRecord *rec,
                 const uint8_t *old, Error **errp)
{
    uint8_t new[CSV_RECORD_SIZE];
    int ret;

    rec->state = CSV_MEMBER_ACTIVE;
    rec->liveness = CSV_LIVENESS_BY_LOCK;
    rec->since = g_get_real_time() / G_USEC_PER_SEC;
    rec->pid = getpid();
    csv_member_set_host(rec);
    memset(rec->use, 0, sizeof(rec->use));
    csv_member_encode(rec, &vol->sb, new);

    ret = csv_record_swap(vol, file, csv_member_offset(vol, rec->slot), old,
                          new);
    if (ret == -EAGAIN) {
        return 0;
    }
    if (ret == -ENOTSUP) {
        error_setg(errp, "The storage below node '%s' offers no "
                   "compare-and-write, which a csv volume needs to be "
                   "written; use a file, or a host device with "
                   "cache.direct=on", bdrv_get_node_name(file->bs));
        return ret;
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot join csv volume '%s' on node "
                         "'%s'", csv_volume_label(vol),
                         bdrv_get_node_name(file->bs));
        return ret;
    }
    vol->me = *rec;
    return 1;
}

/* May we follow the member in @rec, whose successor's lock we hold? */
static bool GRAPH_RDLOCK
csv_member_is_gone(BdrvChild *file, const CsvMemberRecord *rec)
{
    return rec->state == CSV_MEMBER_UNUSED ||
           (csv_same_host(rec) &&
            !bdrv_liveness_lock(file->bs,
                                csv_member_lock_id(rec->slot,
                                                   rec->incarnation),
                                BDRV_LIVENESS_TEST));
}

/* Join in @slot.  1: done.  0: the slot is not ours to take.  Else -errno. */
static int GRAPH_RDLOCK
csv_member_take(CsvVolume *vol, BdrvChild *file, uint32_t slot, Error **errp)
{
    uint8_t old[CSV_RECORD_SIZE];
    CsvMemberRecord rec;
    uint64_t lock;
    int ret = csv_record_read(file, csv_member_offset(vol, slot), old);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read member %" PRIu32 " of csv "
                         "volume '%s'", slot, csv_volume_label(vol));
        return ret;
    }
    if (!csv_member_decode(old, &vol->sb, slot, &rec, NULL)) {
        return 0;   /* damaged: for 'check', and not for us to overwrite */
    }
    lock = csv_member_lock_id(slot, rec.incarnation + 1);
    ret = bdrv_liveness_lock(file->bs, lock, BDRV_LIVENESS_ACQUIRE);
    if (ret == -EBUSY) {
        return 0;
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot lock a member's place in csv "
                         "volume '%s': node '%s' must be on a file or host "
                         "device with byte-range locks that can be opened for "
                         "writing", csv_volume_label(vol),
                         bdrv_get_node_name(file->bs));
        return ret;
    }
    ret = 0;
    if (csv_member_is_gone(file, &rec)) {
        rec.incarnation++;
        ret = csv_member_enter(vol, file, &rec, old, errp);
    }
    if (ret <= 0) {
        bdrv_liveness_lock(file->bs, lock, BDRV_LIVENESS_RELEASE);
    }
    return ret;
}

/*
 * On a block device the locks behind compare-and-write reach this host only.
 * Then members of two hosts would change a record at once and not notice, so
 * a member looks for others after it wrote its record: of two that come at
 * the same time at least one sees the other, or that its record is gone.
 */
static bool GRAPH_RDLOCK
csv_member_alone(CsvVolume *vol, BdrvChild *file, Error **errp)
{
    BlockDriverState *bs = file->bs;
    CsvMemberRecord rec;
    uint32_t slot;

    while (bdrv_primary_bs(bs)) {
        bs = bdrv_primary_bs(bs);
    }
    if (strcmp(bs->drv->format_name, "host_device")) {
        return true;
    }
    for (slot = 0; slot < vol->sb.member_slots; slot++) {
        if (csv_member_read(vol, file, slot, &rec, errp) < 0) {
            return false;
        }
        if (rec.state == CSV_MEMBER_ACTIVE && !csv_same_host(&rec)) {
            g_autofree char *who = csv_member_describe(&rec);

            error_setg(errp, "csv volume '%s' on a host device is in use by "
                       "another host (%s); the locks of a host device reach "
                       "one host only, so put the volume on a shared file "
                       "system", csv_volume_label(vol), who);
            return false;
        }
    }
    return true;
}

static int GRAPH_RDLOCK
csv_member_join(CsvVolume *vol, BdrvChild *file, Error **errp)
{
    uint32_t slot;
    int ret;

    for (slot = 0; slot < vol->sb.member_slots; slot++) {
        ret = csv_member_take(vol, file, slot, errp);
        if (ret > 0) {
            vol->locked = true;
            trace_csv_member_join(vol, slot, vol->me.incarnation);
            return 0;
        }
        if (ret < 0) {
            return ret;
        }
    }
    error_setg(errp, "csv volume '%s' has no room for another member: all "
               "%" PRIu32 " places are taken by members that live or may live",
               csv_volume_label(vol), vol->sb.member_slots);
    return -EUSERS;
}

/*
 * Replace our own record, and vol->me, by @me.  -ESTALE: the record is not ours
 * any more.
 */
static int GRAPH_RDLOCK
csv_member_write(CsvVolume *vol, BdrvChild *file, const CsvMemberRecord *me)
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
        /* Perhaps a change of ours landed that was reported as failed. */
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

/* Leave the volume.  @file may be NULL: then the record stays as it is. */
static void GRAPH_RDLOCK csv_member_leave(CsvVolume *vol, BdrvChild *file)
{
    CsvMemberRecord rec = vol->me;
    int ret = 0;

    if (file) {
        rec.state = CSV_MEMBER_UNUSED;
        memset(rec.use, 0, sizeof(rec.use));
        ret = csv_member_write(vol, file, &rec);
    }
    bdrv_liveness_lock(vol->bs, csv_member_lock_id(rec.slot, rec.incarnation),
                       BDRV_LIVENESS_RELEASE);
    vol->locked = false;
    trace_csv_member_leave(vol, rec.slot, ret);
}

/* A function to call under member_lock, and its arguments. */
typedef struct CsvMemberCall CsvMemberCall;
typedef int GRAPH_RDLOCK_PTR CsvMemberFn(CsvMemberCall *c);

struct CsvMemberCall {
    CsvMemberFn *fn;
    CsvVolume *vol;
    BdrvChild *file;
    CsvMemberEdit *edit;
    void *opaque;
    Error **errp;
    int ret;
    bool done;
};

static void coroutine_fn GRAPH_RDLOCK csv_member_call_co(CsvMemberCall *c)
{
    QEMU_LOCK_GUARD(&c->vol->member_lock);
    c->ret = c->fn(c);
}

static void coroutine_fn csv_member_call_entry(void *opaque)
{
    CsvMemberCall *c = opaque;

    WITH_GRAPH_RDLOCK_GUARD() {
        csv_member_call_co(c);
    }
    c->done = true;
    aio_wait_kick();
}

/* A CoMutex needs a coroutine. */
static int coroutine_mixed_fn GRAPH_RDLOCK csv_member_call(CsvMemberCall *c)
{
    if (qemu_in_coroutine()) {
        csv_member_call_co(c);
    } else {
        aio_co_enter(qemu_get_aio_context(),
                     qemu_coroutine_create(csv_member_call_entry, c));
        AIO_WAIT_WHILE_UNLOCKED(NULL, !c->done);
    }
    return c->ret;
}

/* Join, and make sure that this member may stay. */
static int GRAPH_RDLOCK
csv_member_begin(CsvVolume *vol, BdrvChild *file, Error **errp)
{
    int ret = csv_member_join(vol, file, errp);

    if (ret < 0) {
        return ret;
    }
    if (!csv_member_alone(vol, file, errp)) {
        csv_member_leave(vol, file);
        return -EBUSY;
    }
    return 0;
}

static int GRAPH_RDLOCK csv_member_do_attach(CsvMemberCall *c)
{
    CsvVolume *vol = c->vol;
    int ret = vol->locked ? 0 : csv_member_begin(vol, c->file, c->errp);

    if (ret < 0) {
        return ret;
    }
    vol->attached++;
    return 0;
}

int csv_member_attach(CsvVolume *vol, BdrvChild *file, Error **errp)
{
    CsvMemberCall c = {
        .fn = csv_member_do_attach, .vol = vol, .file = file, .errp = errp,
    };

    return csv_member_call(&c);
}

static int GRAPH_RDLOCK csv_member_do_change(CsvMemberCall *c)
{
    CsvMemberRecord me = c->vol->me;
    int ret = c->edit(&me, c->opaque, c->errp);

    if (ret <= 0) {
        return ret;
    }
    ret = csv_member_write(c->vol, c->file, &me);
    if (ret < 0) {
        error_setg_errno(c->errp, -ret, "Cannot change the record of this "
                         "process in csv volume '%s'",
                         csv_volume_label(c->vol));
    }
    return ret;
}

int csv_member_change(CsvVolume *vol, BdrvChild *file, CsvMemberEdit *edit,
                      void *opaque, Error **errp)
{
    CsvMemberCall c = {
        .fn = csv_member_do_change, .vol = vol, .file = file, .edit = edit,
        .opaque = opaque, .errp = errp,
    };

    return csv_member_call(&c);
}

static int GRAPH_RDLOCK csv_member_do_detach(CsvMemberCall *c)
{
    CsvVolume *vol = c->vol;

    assert(vol->attached > 0);
    if (--vol->attached == 0) {
        csv_member_leave(vol, csv_may_write(c->file) ? c->file : NULL);
    }
    return 0;
}

void csv_member_detach(CsvVolume *vol, BdrvChild *file)
{
    CsvMemberCall c = {
        .fn = csv_member_do_detach, .vol = vol, .file = file,
    };

    csv_member_call(&c);
}
