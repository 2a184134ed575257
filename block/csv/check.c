/*
 * Cluster shared volume: check and repair, entry points
 *
 * Shared records are repaired by compare-and-write, as everybody changes
 * them.  A disk is repaired by its owner, which is us for the time being: it
 * is claimed, so that whoever had it before and is thought dead has a lower
 * epoch, and let go in the end with a journal that is to be looked through.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "check-int.h"

/* How often a disk that others write is looked at before it is bad. */
#define CSV_CHECK_TRIES         5
#define CSV_CHECK_PAUSE_NS      (20 * SCALE_MS)
/* Findings that are compared between two looks; the rest is counted. */
#define CSV_CHECK_KEEP          1000

bool csv_check_may_fix(const CsvCheckup *c, CsvFindingKind kind)
{
    switch (kind) {
    case CSV_FINDING_ERROR:
        return c->fix & BDRV_FIX_ERRORS;
    case CSV_FINDING_LEAK:
        return c->fix & BDRV_FIX_LEAKS;
    default:
        return false;
    }
}

static void csv_check_count(CsvCheckup *c, CsvFindingKind kind, bool fixed)
{
    switch (kind) {
    case CSV_FINDING_ERROR:
        c->res->corruptions += !fixed;
        c->res->corruptions_fixed += fixed;
        break;
    case CSV_FINDING_LEAK:
        c->res->leaks += !fixed;
        c->res->leaks_fixed += fixed;
        break;
    default:
        c->res->check_errors++;
    }
}

static void csv_check_print(CsvFindingKind kind, bool fixed, const char *text)
{
    fprintf(stderr, "%s %s\n", fixed ? "Repaired:" :
            kind == CSV_FINDING_LEAK ? "Leaked" : "ERROR", text);
}

void csv_check_found(CsvCheckup *c, CsvFindingKind kind, bool fixed,
                     const char *fmt, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    if (!c->found) {
        csv_check_print(kind, fixed, text);
        csv_check_count(c, kind, fixed);
    } else if (g_hash_table_size(c->found) < CSV_CHECK_KEEP) {
        g_hash_table_insert(c->found, g_steal_pointer(&text),
                            GINT_TO_POINTER(kind));
    } else {
        c->more++;
    }
}

static gboolean csv_check_not_in(gpointer key, gpointer value, gpointer other)
{
    return !g_hash_table_contains(other, key);
}

/* Report what was collected. */
static void csv_check_report(CsvCheckup *c, GHashTable *found)
{
    GHashTableIter it;
    gpointer text, kind;

    g_hash_table_iter_init(&it, found);
    while (g_hash_table_iter_next(&it, &text, &kind)) {
        csv_check_print(GPOINTER_TO_INT(kind), false, text);
        csv_check_count(c, GPOINTER_TO_INT(kind), false);
    }
    if (c->more) {
        fprintf(stderr, "ERROR and %" PRIu64 " more\n", c->more);
        c->res->corruptions += MIN(c->more, INT_MAX / 2);
    }
}

/*
 * Look until nothing is found, or so often that what was found each time is
 * no accident.
 */
static int coroutine_fn GRAPH_RDLOCK
csv_check_disk_quiet(CsvCheckup *c, CsvDiskRecord *rec, Error **errp)
{
    g_autoptr(GHashTable) stays = NULL;
    BdrvCheckResult *res = c->res;
    uint8_t raw[CSV_RECORD_SIZE];
    int tries, ret = 0;

    for (tries = 0; tries < CSV_CHECK_TRIES; tries++) {
        g_autoptr(GHashTable) found =
            g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        g_autofree CsvCheckDisk *d = g_new0(CsvCheckDisk, 1);
        BdrvCheckResult one = { 0 };

        if (tries) {
            qemu_co_sleep_ns(QEMU_CLOCK_REALTIME, CSV_CHECK_PAUSE_NS * tries);
            if (csv_check_disk_record(c, rec, raw, NULL) <= 0) {
                return 0;       /* it was deleted */
            }
        }
        *d = (CsvCheckDisk) { .c = c, .rec = rec };
        c->found = found;
        c->res = &one;
        c->more = 0;
        ret = csv_check_disk_walk(d, errp);
        c->found = NULL;
        c->res = res;
        if (ret < 0) {
            return ret;
        }
        if (stays) {
            g_hash_table_foreach_remove(stays, csv_check_not_in, found);
        } else {
            stays = g_steal_pointer(&found);
        }
        if (!g_hash_table_size(stays) || tries == CSV_CHECK_TRIES - 1) {
            res->bfi.total_clusters += one.bfi.total_clusters;
            res->bfi.allocated_clusters += one.bfi.allocated_clusters;
            res->bfi.fragmented_clusters += one.bfi.fragmented_clusters;
            res->image_end_offset = MAX(res->image_end_offset,
                                        one.image_end_offset);
            break;
        }
    }
    csv_check_report(c, stays);
    return 0;
}

int csv_check_disk_record(CsvCheckup *c, CsvDiskRecord *rec, uint8_t *raw,
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

/* Sealed and shared disks are used without an owner. */
static bool GRAPH_RDLOCK
csv_check_unused(CsvCheckup *c, const CsvDiskRecord *rec)
{
    CsvMemberRecord m;
    uint32_t slot;
    unsigned i;

    for (slot = 0; rec->flags && slot < c->vol->sb.member_slots; slot++) {
        if (csv_member_read(c->vol, c->file, slot, &m, NULL) < 0 ||
            csv_member_liveness(c->vol, c->file, &m, m.incarnation) ==
            CSV_LIVENESS_DEAD) {
            continue;
        }
        for (i = 0; i < CSV_MEMBER_USES; i++) {
            if ((m.use[i] & CSV_USE_SLOT) == rec->slot + 1) {
                g_autofree char *who = csv_member_describe(&m);

                fprintf(stderr, "Disk '%s' is not repaired: it is used by a "
                        "member (%s); close it there first\n", rec->name, who);
                return false;
            }
        }
    }
    return true;
}

/* Whether the owner in @rec stands in the way of a repair. */
static bool GRAPH_RDLOCK
csv_check_owner_gone(CsvCheckup *c, const CsvDiskRecord *rec)
{
    g_autofree char *who = NULL;
    CsvMemberRecord m;
    CsvLiveness liveness;

    if (rec->state == CSV_RECORD_FREE) {
        return true;
    }
    if (csv_member_read(c->vol, c->file, rec->owner, &m, NULL) < 0) {
        fprintf(stderr, "Disk '%s' is not repaired: the record of its owner, "
                "member %" PRIu32 ", is damaged; repair the volume first\n",
                rec->name, rec->owner);
        return false;
    }
    liveness = csv_member_liveness(c->vol, c->file, &m,
                                   rec->owner_incarnation);
    if (liveness == CSV_LIVENESS_DEAD) {
        return true;
    }
    who = csv_member_describe(&m);
    fprintf(stderr, "Disk '%s' is not repaired: it is owned by a member that "
            "%s (%s); close it there first\n", rec->name,
            liveness == CSV_LIVENESS_ALIVE ? "lives" : "cannot be seen from "
            "here", who);
    return false;
}

int csv_check_claim(CsvCheckup *c, CsvDiskRecord *rec, uint8_t *raw,
                    Error **errp)
{
    CsvDiskRecord new;
    CsvDisk *open;
    int ret;

    QLIST_FOREACH(open, &c->vol->disks, next) {
        if (open->owned && open->record.slot == rec->slot) {
            fprintf(stderr, "Disk '%s' is not repaired: it is open in this "
                    "process\n", rec->name);
            return 0;
        }
    }
    ret = csv_check_disk_record(c, rec, raw, errp);
    if (ret <= 0) {
        return ret;
    }
    if (!csv_check_owner_gone(c, rec) || !csv_check_unused(c, rec)) {
        return 0;
    }
    new = *rec;
    new.state = CSV_RECORD_OWNED;
    new.flags = 0;      /* a disk with an owner has none; see release */
    new.epoch++;
    new.owner = c->vol->me.slot;
    new.owner_incarnation = c->vol->me.incarnation;
    new.since = g_get_real_time() / G_USEC_PER_SEC;
    new.journal_sequence = 0;
    new.journal_page = 0;
    memset(&new.token, 0, sizeof(new.token));
    ret = csv_disk_swap(c->vol, c->file, &new, raw);
    if (ret == -EAGAIN) {
        fprintf(stderr, "Disk '%s' is not repaired: another member took "
                "it at the same time\n", rec->name);
        return 0;
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot claim disk '%s' of csv volume "
                         "'%s'", rec->name, csv_volume_label(c->vol));
        return ret;
    }
    *rec = new;
    return 1;
}

static int GRAPH_RDLOCK
csv_check_release(CsvCheckup *c, CsvDiskRecord *rec, uint32_t flags,
                  uint8_t *raw, Error **errp)
{
    int ret;

    rec->state = CSV_RECORD_FREE;
    rec->flags = flags;
    rec->since = g_get_real_time() / G_USEC_PER_SEC;
    ret = csv_disk_swap(c->vol, c->file, rec, raw);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot release disk '%s' of csv volume "
                         "'%s'", rec->name, csv_volume_label(c->vol));
    }
    return ret;
}

/* The disk is ours: look, repair if there is something, report. */
static int coroutine_fn GRAPH_RDLOCK
csv_check_disk_owned(CsvCheckup *c, const CsvDiskRecord *rec, Error **errp)
{
    g_autofree CsvCheckDisk *d = g_new0(CsvCheckDisk, 1);

    *d = (CsvCheckDisk) { .c = c, .rec = rec, .repair = true };
    return csv_check_disk_walk(d, errp);
}

/* True if a look at the disk finds something that @c->fix is for. */
static int coroutine_fn GRAPH_RDLOCK
csv_check_disk_needs(CsvCheckup *c, CsvDiskRecord *rec, Error **errp)
{
    g_autoptr(GHashTable) found =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autofree CsvCheckDisk *d = g_new0(CsvCheckDisk, 1);
    BdrvCheckResult *res = c->res, one = { 0 };
    GHashTableIter it;
    gpointer kind;
    bool errors = false, leaks = false;
    int ret;

    *d = (CsvCheckDisk) { .c = c, .rec = rec };
    c->found = found;
    c->res = &one;
    ret = csv_check_disk_walk(d, errp);
    c->found = NULL;
    c->res = res;
    if (ret < 0) {
        return ret;
    }
    g_hash_table_iter_init(&it, found);
    while (g_hash_table_iter_next(&it, NULL, &kind)) {
        errors |= GPOINTER_TO_INT(kind) == CSV_FINDING_ERROR;
        leaks |= GPOINTER_TO_INT(kind) == CSV_FINDING_LEAK;
    }
    /* A map with errors is not written anew for the sake of a leak. */
    return c->fix & BDRV_FIX_ERRORS ? errors || leaks : leaks && !errors;
}

static int coroutine_fn GRAPH_RDLOCK
csv_check_disk_repair(CsvCheckup *c, CsvDiskRecord *rec, uint8_t *raw,
                      Error **errp)
{
    uint32_t flags = rec->flags;
    int ret = csv_check_disk_needs(c, rec, errp), end;

    if (ret > 0) {
        ret = csv_check_claim(c, rec, raw, errp);
    }
    if (ret <= 0) {
        return ret < 0 ? ret : csv_check_disk_quiet(c, rec, errp);
    }
    ret = csv_check_disk_owned(c, rec, errp);
    end = csv_check_release(c, rec, flags, raw, ret < 0 ? NULL : errp);
    return ret < 0 ? ret : end;
}

static int coroutine_fn GRAPH_RDLOCK
csv_check_one(CsvCheckup *c, const CsvDiskRecord *in, const uint8_t *raw_in,
              Error **errp)
{
    CsvDiskRecord rec = *in;
    uint8_t raw[CSV_RECORD_SIZE];

    if (rec.state == CSV_RECORD_CREATING || rec.state == CSV_RECORD_DELETING) {
        return 0;       /* nothing in it counts; see csv_check_records() */
    }
    memcpy(raw, raw_in, sizeof(raw));
    return c->fix ? csv_check_disk_repair(c, &rec, raw, errp)
                  : csv_check_disk_quiet(c, &rec, errp);
}

int csv_check_disk(CsvVolume *vol, BdrvChild *file, const CsvDiskRecord *rec,
                   const uint8_t *raw, BdrvCheckResult *res,
                   BdrvCheckMode fix, Error **errp)
{
    CsvCheckup c = { .vol = vol, .file = file, .res = res, .fix = fix };
    int ret = fix ? csv_member_attach(vol, file, errp) : 0;

    if (ret < 0) {
        return ret;
    }
    ret = csv_check_one(&c, rec, raw, errp);
    if (fix) {
        csv_member_detach(vol, file);
    }
    return ret;
}

/* The volume is open, so one copy is good, and is vol->sb. */
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
                            "all' writes it anew from the other copy");
            error_free(err);
        }
    }
    /*
     * One that is older is what a crash between the two writes leaves, and
     * the next change makes it good.
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
        ret = csv_check_one(c, &rec, raw, errp);
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
    int ret = fix ? csv_member_attach(vol, file, errp) : 0;

    if (ret < 0) {
        return ret;
    }
    ret = csv_check_superblock(&c, errp);
    if (ret >= 0) {
        ret = csv_check_members(&c, errp);
    }
    if (ret >= 0) {
        ret = csv_check_records(&c, errp);
    }
    if (ret >= 0) {
        ret = csv_check_disks(&c, errp);
    }
    if (ret >= 0) {
        ret = csv_check_segments(&c, errp);
    }
    if (fix) {
        csv_member_detach(vol, file);
    }
    return ret;
}
