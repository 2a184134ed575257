/*
 * Cluster shared volume: check and repair, entry points
 *
 * Shared records are repaired by compare-and-write, like any other change of
 * them.  To repair a disk, claim it, so that a former owner that was declared
 * dead has a lower epoch, and release it in the end, for the next owner to
 * replay.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "check-int.h"

static gboolean csv_check_not_in(gpointer key, gpointer value, gpointer other)
{
    return !g_hash_table_contains(other, key);
}

static void csv_check_add(BdrvCheckResult *sum, const BdrvCheckResult *one)
{
    sum->bfi.total_clusters += one->bfi.total_clusters;
    sum->bfi.allocated_clusters += one->bfi.allocated_clusters;
    sum->bfi.fragmented_clusters += one->bfi.fragmented_clusters;
    sum->image_end_offset = MAX(sum->image_end_offset, one->image_end_offset);
}

/* Read the record of the disk in @rec again.  1: it exists.  0: deleted. */
static int GRAPH_RDLOCK
csv_check_disk_record(CsvCheckup *c, CsvDiskRecord *rec, uint8_t *raw,
                      Error **errp)
{
    QemuUUID uuid = rec->uuid;
    uint32_t slot = rec->slot;
    int ret = csv_record_read(c->file, c->vol->sb.disk_offset +
                              (uint64_t)slot * CSV_PAGE_SIZE, raw);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read disk record %" PRIu32
                         " of csv volume '%s'", slot,
                         csv_volume_label(c->vol));
        return ret;
    }
    return csv_disk_decode(raw, &c->vol->sb, slot, rec, NULL) &&
           qemu_uuid_is_equal(&rec->uuid, &uuid) &&
           rec->state != CSV_RECORD_UNUSED;
}

/* Before another attempt: pause, and read again what may have changed. */
static int coroutine_fn GRAPH_RDLOCK
csv_check_again(CsvCheckup *c, CsvDiskRecord *rec, int tries, Error **errp)
{
    uint8_t raw[CSV_RECORD_SIZE];
    int ret;

    qemu_co_sleep_ns(QEMU_CLOCK_REALTIME, CSV_CHECK_PAUSE_NS * tries);
    ret = csv_check_claimed_read(c, errp);
    return ret < 0 ? ret : csv_check_disk_record(c, rec, raw, errp);
}

/*
 * Check the disk without repair, until an attempt finds nothing.  Report
 * findings that occurred in every attempt.
 */
static int coroutine_fn GRAPH_RDLOCK
csv_check_disk_quiet(CsvCheckup *c, CsvDiskRecord *rec, Error **errp)
{
    g_autoptr(GHashTable) stays = NULL;
    int tries, ret;

    for (tries = 0; tries < CSV_CHECK_TRIES; tries++) {
        g_autoptr(GHashTable) found =
            g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        g_autoptr(CsvCheckDisk) d = csv_check_disk_new(c, rec);
        BdrvCheckResult one = { 0 };

        ret = tries ? csv_check_again(c, rec, tries, errp) : 1;
        if (ret <= 0) {
            return ret;     /* 0: it was deleted */
        }
        ret = csv_check_inspect(d, found, &one, errp);
        if (ret < 0) {
            return ret;
        }
        if (stays) {
            g_hash_table_foreach_remove(stays, csv_check_not_in, found);
        } else {
            stays = g_steal_pointer(&found);
        }
        if (!g_hash_table_size(stays) || tries == CSV_CHECK_TRIES - 1) {
            csv_check_add(c->res, &one);
            break;
        }
    }
    csv_check_report(c, stays);
    return 0;
}

/* May the disk be claimed for a repair?  -ECANCELED: no; reported why. */
static int GRAPH_RDLOCK
csv_check_decide(void *opaque, CsvTransit *t, Error **errp)
{
    CsvCheckup *c = opaque;
    CsvDiskRecord *rec = &t->rec;
    Error *err = NULL;
    int ret = 0;

    if (rec->state != CSV_RECORD_FREE) {
        ret = csv_disk_may_take(c->vol, c->file, rec, false, "owned", &err);
    }
    if (ret >= 0 && rec->flags) {
        ret = csv_use_check_none(c->vol, c->file, rec, &err);
    }
    if (ret < 0) {
        error_reportf_err(err, "Cannot repair disk '%s': ", rec->name);
        return -ECANCELED;
    }
    rec->flags = 0;     /* until csv_check_release() */
    rec->journal_sequence = 0;
    rec->journal_page = 0;
    return 0;
}

/*
 * Claim the disk in t->rec.  1: done, and t->rec is updated.  0: another user
 * has it, which is reported, or it was deleted.  The caller is attached.
 */
static int GRAPH_RDLOCK
csv_check_claim(CsvCheckup *c, CsvTransit *t, Error **errp)
{
    ERRP_GUARD();
    CsvDisk *open;
    int ret;

    QLIST_FOREACH(open, &c->vol->disks, next) {
        if (open->owned && open->record.slot == t->rec.slot) {
            fprintf(stderr, "Cannot repair disk '%s': it is open in this "
                    "process; close it first\n", t->rec.name);
            return 0;
        }
    }
    ret = csv_disk_transit(c->vol, c->file, CSV_MOVE_CLAIM, csv_check_decide,
                           c, t, errp);
    if (ret == -ENOENT) {
        error_free(*errp);
        *errp = NULL;
    }
    return ret == -ENOENT || ret == -ECANCELED ? 0 : ret < 0 ? ret : 1;
}

static int GRAPH_RDLOCK
csv_check_release(CsvCheckup *c, CsvTransit *t, uint32_t flags, Error **errp)
{
    int ret;

    t->rec.flags = flags;
    ret = csv_disk_move(c->vol, c->file, CSV_MOVE_RELEASE, &t->rec, t->raw);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot release disk '%s' of csv volume "
                         "'%s'", t->rec.name, csv_volume_label(c->vol));
    }
    return ret;
}

/* Check, repair and report a disk that we own. */
static int coroutine_fn GRAPH_RDLOCK
csv_check_disk_owned(CsvCheckup *c, const CsvDiskRecord *rec, Error **errp)
{
    g_autoptr(CsvCheckDisk) d = csv_check_disk_new(c, rec);
    int ret = csv_check_claimed_read(c, errp);

    d->repair = true;
    return ret < 0 ? ret : csv_check_disk_walk(d, errp);
}

/* Does the disk have anything that @c->fix permits to repair? */
static int coroutine_fn GRAPH_RDLOCK
csv_check_disk_needs(CsvCheckup *c, CsvDiskRecord *rec, Error **errp)
{
    g_autoptr(GHashTable) found =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(CsvCheckDisk) d = csv_check_disk_new(c, rec);
    BdrvCheckResult one = { 0 };
    GHashTableIter it;
    gpointer kind;
    bool errors = false, leaks = false;
    int ret = csv_check_inspect(d, found, &one, errp);

    if (ret < 0) {
        return ret;
    }
    g_hash_table_iter_init(&it, found);
    while (g_hash_table_iter_next(&it, NULL, &kind)) {
        errors |= GPOINTER_TO_INT(kind) == CSV_FINDING_ERROR;
        leaks |= GPOINTER_TO_INT(kind) == CSV_FINDING_LEAK;
    }
    /* A map with errors is not rewritten just to repair leaks. */
    return c->fix & BDRV_FIX_ERRORS ? errors || leaks : leaks && !errors;
}

static int coroutine_fn GRAPH_RDLOCK
csv_check_disk_repair(CsvCheckup *c, CsvDiskRecord *rec, Error **errp)
{
    CsvTransit t = { .doing = "claim", .rec = *rec };
    int ret = csv_check_disk_needs(c, rec, errp), end;

    if (ret > 0) {
        ret = csv_check_claim(c, &t, errp);
    }
    if (ret <= 0) {
        return ret < 0 ? ret : csv_check_disk_quiet(c, rec, errp);
    }
    *rec = t.rec;
    ret = csv_check_disk_owned(c, rec, errp);
    end = csv_check_release(c, &t, t.was.flags, ret < 0 ? NULL : errp);
    return ret < 0 ? ret : end;
}

static int coroutine_fn GRAPH_RDLOCK
csv_check_one(CsvCheckup *c, const CsvDiskRecord *in, Error **errp)
{
    CsvDiskRecord rec = *in;

    if (rec.state == CSV_RECORD_CREATING || rec.state == CSV_RECORD_DELETING) {
        return 0;       /* its content is not valid (yet) */
    }
    return c->fix ? csv_check_disk_repair(c, &rec, errp)
                  : csv_check_disk_quiet(c, &rec, errp);
}

static void csv_check_page_clear(gpointer page)
{
    g_free(((CsvCheckPage *)page)->why);
}

/* Join the volume to repair.  csv_check_end() must follow, even on failure. */
static int coroutine_fn GRAPH_RDLOCK
csv_check_begin(CsvCheckup *c, Error **errp)
{
    int ret;

    c->claimed = g_array_new(false, false, sizeof(CsvCheckEntry));
    c->damaged = g_array_new(false, false, sizeof(CsvCheckPage));
    g_array_set_clear_func(c->damaged, csv_check_page_clear);
    if (c->fix) {
        ret = csv_member_attach(c->vol, c->file, errp);
        if (ret < 0) {
            c->fix = 0;
            return ret;
        }
    }
    return csv_check_claimed_read(c, errp);
}

static void coroutine_fn GRAPH_RDLOCK csv_check_end(CsvCheckup *c)
{
    if (c->fix) {
        csv_member_detach(c->vol, c->file);
    }
    g_array_free(c->claimed, true);
    g_array_free(c->damaged, true);
}

int csv_check_disk(CsvVolume *vol, BdrvChild *file, const CsvDiskRecord *rec,
                   BdrvCheckResult *res, BdrvCheckMode fix, Error **errp)
{
    CsvCheckup c = { .vol = vol, .file = file, .res = res, .fix = fix };
    int ret = csv_check_begin(&c, errp);
    guint i;

    for (i = 0; ret >= 0 && i < c.damaged->len; i++) {
        csv_check_found(&c, CSV_FINDING_ERROR, false, "%s; no disk can be "
                        "opened; check the volume, without naming a disk, to "
                        "repair it",
                        g_array_index(c.damaged, CsvCheckPage, i).why);
    }
    if (ret >= 0) {
        ret = csv_check_one(&c, rec, errp);
    }
    csv_check_end(&c);
    return ret;
}

/* One copy is intact, as the volume could be opened; it is in vol->sb. */
static int GRAPH_RDLOCK csv_check_superblock(CsvCheckup *c, Error **errp)
{
    CsvSuperblock sb[2];
    uint8_t raw[2][CSV_RECORD_SIZE];
    bool good[2];
    unsigned i;

    for (i = 0; i < 2; i++) {
        Error *err = NULL;
        int ret = csv_record_read(c->file, i ? CSV_SB_COPY_1 : CSV_SB_COPY_0,
                                  raw[i]);

        if (ret < 0) {
            error_setg_errno(errp, -ret, "Cannot read the superblock of csv "
                             "volume '%s'", csv_volume_label(c->vol));
            return ret;
        }
        good[i] = csv_superblock_decode(raw[i], i, &sb[i], &err);
        if (!good[i]) {
            bool fixed = false;

            if (c->fix & BDRV_FIX_ERRORS) {
                sb[i] = c->vol->sb;
                fixed = csv_superblock_swap(c->vol, c->file, &sb[i],
                                            NULL) >= 0;
            }
            csv_check_found(c, CSV_FINDING_ERROR, fixed, "%s%s",
                            error_get_pretty(err), fixed ? "" : "; 'repair "
                            "all' rewrites it from the other copy");
            error_free(err);
        }
    }
    /*
     * An older copy is not an error: a crash between the two writes leaves it,
     * and the next change updates it.
     */
    return 0;
}

static int coroutine_fn GRAPH_RDLOCK
csv_check_disks(CsvCheckup *c, Error **errp)
{
    CsvTableIter it;
    CsvDiskRecord rec;
    int ret;

    csv_table_iter(&it, c->file, c->vol->sb.disk_offset,
                   c->vol->sb.disk_high);
    while ((ret = csv_table_next(&it)) > 0) {
        uint8_t raw[CSV_RECORD_SIZE];

        if (!csv_disk_decode(it.record, &c->vol->sb, it.slot, &rec, NULL) ||
            rec.state == CSV_RECORD_UNUSED) {
            continue;
        }
        memcpy(raw, it.record, sizeof(raw));
        csv_check_unfinished(c, &rec, raw);
        ret = csv_check_one(c, &rec, errp);
        if (ret < 0) {
            csv_table_end(&it);
            return ret;
        }
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read the disk table of csv "
                         "volume '%s'", csv_volume_label(c->vol));
    }
    return ret;
}

int csv_check_volume(CsvVolume *vol, BdrvChild *file, BdrvCheckResult *res,
                     BdrvCheckMode fix, Error **errp)
{
    CsvCheckup c = { .vol = vol, .file = file, .res = res, .fix = fix };
    int ret = csv_check_begin(&c, errp);

    if (ret >= 0) {
        ret = csv_check_superblock(&c, errp);
    }
    if (ret >= 0) {
        ret = csv_check_members(&c, errp);
    }
    if (ret >= 0) {
        ret = csv_check_records(&c, errp);
    }
    if (ret >= 0) {
        ret = csv_check_pages(&c, errp);
    }
    if (ret >= 0) {
        ret = csv_check_disks(&c, errp);
    }
    if (ret >= 0) {
        csv_check_segments(&c);
    }
    csv_check_end(&c);
    return ret;
}
