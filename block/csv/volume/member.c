/*
 * Cluster shared volume: members, and which of them are alive
 *
 * A member is one opening of the volume for writing.  It has a lease (see
 * lease.h), and a record in its slot that says who it is.  The order is: lease,
 * then record; and on the way out record, then lease.
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
#include "lease.h"
#include "qemu/main-loop.h"
#include "trace/trace-block_csv.h"

/*
 * A slot's incarnations must not repeat.  A damaged record does not say what
 * the last one was, but a slot is not used that often.
 */
#define CSV_MEMBER_INCARNATION  (1ULL << 32)

bool csv_member_is_me(const CsvVolume *vol, uint32_t slot,
                      uint64_t incarnation)
{
    return vol->locked && vol->me.slot == slot &&
           vol->me.incarnation == incarnation;
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
    return csv_lease_judge(vol, file, rec);
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
            if (csv_lease_judge_slot(vol, file, slot) != CSV_LIVENESS_DEAD) {
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
    rec->liveness = vol->lease->kind;
    rec->since = g_get_real_time() / G_USEC_PER_SEC;
    csv_host_fill(rec);
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

/* Join in @slot.  1: done.  0: the slot is not ours to take.  Else -errno. */
static int GRAPH_RDLOCK
csv_member_take(CsvVolume *vol, BdrvChild *file, uint32_t slot, Error **errp)
{
    uint8_t old[CSV_RECORD_SIZE];
    CsvMemberRecord was, rec;
    int ret = csv_record_read(file, csv_member_offset(vol, slot), old);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read member %" PRIu32 " of csv "
                         "volume '%s'", slot, csv_volume_label(vol));
        return ret;
    }
    if (!csv_member_decode(old, &vol->sb, slot, &was, NULL)) {
        return 0;   /* damaged: for 'check', and not for us to overwrite */
    }
    rec = was;
    rec.incarnation++;
    ret = vol->lease->acquire(vol, file, &rec, errp);
    if (ret < 0) {
        return ret == -EBUSY ? 0 : ret;
    }
    ret = 0;
    if (csv_member_liveness(vol, file, &was, was.incarnation) ==
        CSV_LIVENESS_DEAD) {
        ret = csv_member_enter(vol, file, &rec, old, errp);
    }
    if (ret <= 0) {
        vol->lease->release(vol, &rec);
    }
    return ret;
}

/*
 * On some storage the locks behind compare-and-write reach this host only.
 * Then members of two hosts would change a record at once and not notice, so
 * a member looks for others after it wrote its record: of two that join at the
 * same time, at least one sees the other, or that its own record is gone.
 */
static bool GRAPH_RDLOCK
csv_member_alone(CsvVolume *vol, BdrvChild *file, Error **errp)
{
    CsvMemberRecord rec, here;
    uint32_t slot;

    if (file->bs->bl.lock_scope == BDRV_LOCK_SCOPE_ALL) {
        return true;
    }
    csv_host_fill(&here);
    for (slot = 0; slot < vol->sb.member_slots; slot++) {
        if (csv_member_read(vol, file, slot, &rec, errp) < 0) {
            return false;
        }
        if (rec.state == CSV_MEMBER_ACTIVE && !csv_host_is_here(&here, &rec)) {
            g_autofree char *who = csv_member_describe(&rec);

            error_setg(errp, "csv volume '%s' is in use by another host (%s), "
                       "but the locks of node '%s' reach one host only; put "
                       "the volume on a file system with locks that reach all "
                       "hosts", csv_volume_label(vol), who,
                       bdrv_get_node_name(file->bs));
            return false;
        }
    }
    return true;
}

/* Is the slot of that record free, as far as this host sees by itself? */
static bool csv_member_slot_looks_free(CsvVolume *vol,
                                       const CsvMemberRecord *here,
                                       const uint8_t *record, uint32_t slot)
{
    CsvMemberRecord rec;

    return csv_member_decode(record, &vol->sb, slot, &rec, NULL) &&
           (rec.state != CSV_MEMBER_ACTIVE ||
            csv_host_process_is_gone(here, &rec));
}

void csv_member_look(CsvVolume *vol, BdrvChild *file)
{
    CsvMemberRecord here;
    CsvTableIter it;

    csv_host_fill(&here);
    csv_table_iter(&it, file, vol->sb.member_offset, vol->sb.member_slots);
    while (csv_table_next(&it) > 0) {
        if (csv_member_slot_looks_free(vol, &here, it.record, it.slot)) {
            vol->slot_hint = it.slot;
            csv_table_end(&it);
            return;
        }
    }
}

/* Join in the slot of the hint, if it still looks free. */
static int GRAPH_RDLOCK
csv_member_take_hint(CsvVolume *vol, BdrvChild *file, Error **errp)
{
    uint8_t record[CSV_RECORD_SIZE];
    CsvMemberRecord here;

    assert(vol->slot_hint < vol->sb.member_slots);
    csv_host_fill(&here);
    if (csv_record_read(file, csv_member_offset(vol, vol->slot_hint),
                        record) < 0 ||
        !csv_member_slot_looks_free(vol, &here, record, vol->slot_hint)) {
        return 0;
    }
    return csv_member_take(vol, file, vol->slot_hint, errp);
}

/*
 * Join in the first slot that can be taken; with @quick, in the first one that
 * looks free, so that members that are alive cost no request each: a migration
 * joins during its blackout.  1: done.  0: there is none.
 */
static int GRAPH_RDLOCK csv_member_find_slot(CsvVolume *vol, BdrvChild *file,
                                             bool quick, Error **errp)
{
    CsvMemberRecord here;
    CsvTableIter it;
    int ret;

    csv_host_fill(&here);
    csv_table_iter(&it, file, vol->sb.member_offset, vol->sb.member_slots);
    while ((ret = csv_table_next(&it)) > 0) {
        if (quick &&
            !csv_member_slot_looks_free(vol, &here, it.record, it.slot)) {
            continue;
        }
        ret = csv_member_take(vol, file, it.slot, errp);
        if (ret) {
            csv_table_end(&it);
            return ret;
        }
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read the member table of csv "
                         "volume '%s'", csv_volume_label(vol));
    }
    return ret;
}

static int GRAPH_RDLOCK
csv_member_join(CsvVolume *vol, BdrvChild *file, Error **errp)
{
    int ret;

    vol->lease = csv_lease_choose(vol, file, errp);
    if (!vol->lease) {
        return -ENOTSUP;
    }
    ret = csv_member_take_hint(vol, file, errp);
    if (ret == 0) {
        ret = csv_member_find_slot(vol, file, true, errp);
    }
    if (ret == 0) {
        ret = csv_member_find_slot(vol, file, false, errp);
    }
    if (ret < 0) {
        return ret;
    }
    if (ret == 0) {
        error_setg(errp, "csv volume '%s' has no room for another member: all "
                   "%" PRIu32 " slots belong to members that are alive or may "
                   "be; close one, or declare one dead with "
                   "csv-member-evict", csv_volume_label(vol),
                   vol->sb.member_slots);
        return -EUSERS;
    }
    vol->locked = true;
    csv_gate_reset(vol);
    csv_lease_start(vol, file);
    trace_csv_member_join(vol, vol->me.slot, vol->me.incarnation);
    return 0;
}

/* Leave the volume.  @file may be NULL: then the record stays as it is. */
static void GRAPH_RDLOCK csv_member_leave(CsvVolume *vol, BdrvChild *file)
{
    CsvMemberRecord rec = vol->me;
    int ret = 0;

    csv_lease_stop(vol);
    if (file) {
        rec.state = CSV_MEMBER_UNUSED;
        memset(rec.use, 0, sizeof(rec.use));
        ret = csv_member_write(vol, file, &rec);
    }
    vol->lease->release(vol, &rec);
    vol->locked = false;
    vol->slot_hint = rec.slot;
    trace_csv_member_leave(vol, rec.slot, ret);
}

/* A function to call under member_lock, and its arguments. */
typedef struct CsvMemberCall CsvMemberCall;
typedef int CsvMemberFn(CsvMemberCall *c);

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

    bdrv_graph_co_rdlock();
    csv_member_call_co(c);
    bdrv_graph_co_rdunlock();
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
    ret = csv_member_alone(vol, file, errp) ? 0 : -EBUSY;
    if (ret >= 0) {
        ret = csv_superblock_clear(vol, file, errp);
    }
    if (ret < 0) {
        csv_member_leave(vol, file);
    }
    return ret;
}

static int GRAPH_RDLOCK csv_member_do_attach(CsvMemberCall *c)
{
    CsvVolume *vol = c->vol;
    int ret = vol->locked ? 0 : csv_member_begin(vol, c->file, c->errp);

    if (ret < 0) {
        return ret;
    }
    if (csv_gate_is_cut(&vol->gate)) {
        error_setg(c->errp, "This process is no longer a member of csv volume "
                   "'%s': its lease was lost; close all disks that it has "
                   "open on node '%s', and open them again",
                   csv_volume_label(vol), bdrv_get_node_name(vol->bs));
        return -ESTALE;
    }
    vol->attached++;
    g_ptr_array_add(vol->ways, c->file);
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
    if (ret == -ESTALE) {
        csv_gate_cut(c->vol);       /* we were evicted */
    }
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

/* May the member in @rec be declared dead? */
static int GRAPH_RDLOCK
csv_member_may_evict(CsvVolume *vol, BdrvChild *file,
                     const CsvMemberRecord *rec, uint64_t incarnation,
                     Error **errp)
{
    if (rec->state != CSV_MEMBER_ACTIVE || rec->incarnation != incarnation) {
        error_setg(errp, "csv volume '%s' has no member %" PRIu32 " with "
                   "incarnation %" PRIu64 " (any more); see "
                   "query-csv-volumes", csv_volume_label(vol), rec->slot,
                   incarnation);
        return -ENOENT;
    }
    if (csv_member_liveness(vol, file, rec, incarnation) ==
        CSV_LIVENESS_ALIVE) {
        g_autofree char *who = csv_member_describe(rec);

        error_setg(errp, "The member of csv volume '%s' is alive (%s); end "
                   "that process, or close the volume's disks there",
                   csv_volume_label(vol), who);
        return -EBUSY;
    }
    return 0;
}

int csv_member_replace(CsvVolume *vol, BdrvChild *file, uint32_t slot,
                       CsvMemberRecordState state, const uint8_t *old)
{
    CsvMemberRecord rec = {
        .slot = slot,
        .state = state,
        .incarnation = CSV_MEMBER_INCARNATION + g_get_real_time(),
    };
    uint8_t new[CSV_RECORD_SIZE];

    csv_member_encode(&rec, &vol->sb, new);
    return csv_record_swap(vol, file, csv_member_offset(vol, slot), old, new);
}

/* As csv_member_evict(), for a member with the damaged record @old. */
static int GRAPH_RDLOCK
csv_member_evict_damaged(CsvVolume *vol, BdrvChild *file, uint32_t slot,
                         const uint8_t *old, Error **errp)
{
    int ret;

    if (csv_lease_judge_slot(vol, file, slot) == CSV_LIVENESS_ALIVE) {
        error_setg(errp, "Member %" PRIu32 " of csv volume '%s', whose record "
                   "is damaged, is alive; end that process, or close the "
                   "volume's disks there", slot, csv_volume_label(vol));
        return -EBUSY;
    }
    ret = csv_member_replace(vol, file, slot, CSV_MEMBER_FENCED, old);
    trace_csv_member_evict(vol, slot, 0, ret);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot evict member %" PRIu32 " of csv "
                         "volume '%s', whose record is damaged", slot,
                         csv_volume_label(vol));
    }
    return ret;
}

int csv_member_evict(CsvVolume *vol, BdrvChild *file, uint32_t slot,
                     uint64_t incarnation, Error **errp)
{
    uint8_t old[CSV_RECORD_SIZE], new[CSV_RECORD_SIZE];
    CsvMemberRecord rec;
    Error *err = NULL;
    int ret;

    if (slot >= vol->sb.member_slots) {
        error_setg(errp, "csv volume '%s' has members 0 to %" PRIu32 " only",
                   csv_volume_label(vol), vol->sb.member_slots - 1);
        return -EINVAL;
    }
    ret = csv_member_read_raw(vol, file, slot, &rec, old, &err);
    if (ret == -EINVAL && !incarnation) {
        error_free(err);
        return csv_member_evict_damaged(vol, file, slot, old, errp);
    }
    error_propagate(errp, err);
    if (ret >= 0) {
        ret = csv_member_may_evict(vol, file, &rec, incarnation, errp);
    }
    if (ret < 0) {
        return ret;
    }
    rec.state = CSV_MEMBER_FENCED;
    memset(rec.use, 0, sizeof(rec.use));
    csv_member_encode(&rec, &vol->sb, new);
    ret = csv_record_swap(vol, file, csv_member_offset(vol, slot), old, new);
    trace_csv_member_evict(vol, slot, incarnation, ret);
    if (ret == -EAGAIN) {
        error_setg(errp, "Member %" PRIu32 " of csv volume '%s' was not "
                   "evicted: its record has just changed, so it is alive",
                   slot, csv_volume_label(vol));
    } else if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot evict member %" PRIu32 " of csv "
                         "volume '%s'", slot, csv_volume_label(vol));
    }
    return ret;
}

static int GRAPH_RDLOCK csv_member_do_detach(CsvMemberCall *c)
{
    CsvVolume *vol = c->vol;
    bool attached = g_ptr_array_remove(vol->ways, c->file);

    assert(attached && vol->attached > 0);
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
