/*
 * Cluster shared volume: check of members and disk records
 *
 * A damaged disk record can be rebuilt from the header in the disk's first
 * segment, which the segment table names; only the description and the flags
 * are lost.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/cutils.h"
#include "qemu/memalign.h"
#include "block/csv/volume/lease.h"
#include "check-int.h"

/* Replace the damaged record @raw of a member if that is dead for certain. */
static void GRAPH_RDLOCK
csv_check_member_damaged(CsvCheckup *c, uint8_t *raw, uint32_t slot,
                         const Error *why)
{
    CsvLiveness liveness = csv_lease_judge_slot(c->vol, c->file, slot);
    bool fixed = liveness == CSV_LIVENESS_DEAD &&
                 csv_check_may_fix(c, CSV_FINDING_ERROR) &&
                 csv_member_replace(c->vol, c->file, slot, CSV_MEMBER_UNUSED,
                                    raw) >= 0;

    csv_check_found(c, CSV_FINDING_ERROR, fixed, "%s%s",
                    error_get_pretty(why), fixed ? "; slot freed" :
                    liveness == CSV_LIVENESS_UNKNOWN ?
                    "; its member may be alive: if it certainly is not, "
                    "csv-member-evict with incarnation 0 frees the slot" :
                    "; 'repair all' frees the slot unless its member is "
                    "alive");
}

static bool GRAPH_RDLOCK
csv_check_member_leave(CsvCheckup *c, const uint8_t *old, CsvMemberRecord *rec)
{
    uint64_t offset = c->vol->sb.member_offset +
                      (uint64_t)rec->slot * CSV_PAGE_SIZE;
    uint8_t new[CSV_RECORD_SIZE];

    rec->state = CSV_MEMBER_UNUSED;
    memset(rec->use, 0, sizeof(rec->use));
    csv_member_encode(rec, &c->vol->sb, new);
    return csv_record_swap(c->vol, c->file, offset, old, new) >= 0;
}

static void GRAPH_RDLOCK
csv_check_member(CsvCheckup *c, uint8_t *raw, uint32_t slot)
{
    CsvMemberRecord rec;
    Error *err = NULL;
    bool fixed;

    if (!csv_member_decode(raw, &c->vol->sb, slot, &rec, NULL)) {
        csv_check_settle(c, c->vol->sb.member_offset +
                         (uint64_t)slot * CSV_PAGE_SIZE, raw);
    }
    if (!csv_member_decode(raw, &c->vol->sb, slot, &rec, &err)) {
        csv_check_member_damaged(c, raw, slot, err);
        error_free(err);
        return;
    }
    /*
     * A process that was killed leaves its record until another member takes
     * the slot.  That is not an error, but a repair may free the slot.
     */
    if (rec.state == CSV_MEMBER_ACTIVE &&
        csv_check_may_fix(c, CSV_FINDING_LEAK) &&
        csv_member_liveness(c->vol, c->file, &rec, rec.incarnation) ==
        CSV_LIVENESS_DEAD) {
        g_autofree char *who = csv_member_describe(&rec);

        fixed = csv_check_member_leave(c, raw, &rec);
        csv_check_found(c, CSV_FINDING_LEAK, fixed, "member record %" PRIu32
                        ": the member is dead (%s)%s", slot, who,
                        fixed ? "" : ", and its slot cannot be freed");
    }
}

int csv_check_members(CsvCheckup *c, Error **errp)
{
    CsvTableIter it;
    int ret;

    csv_table_iter(&it, c->file, c->vol->sb.member_offset,
                   c->vol->sb.member_slots);
    while ((ret = csv_table_next(&it)) > 0) {
        uint8_t raw[CSV_RECORD_SIZE];

        memcpy(raw, it.record, sizeof(raw));
        csv_check_member(c, raw, it.slot);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read the member table of csv "
                         "volume '%s'", csv_volume_label(c->vol));
    }
    return ret;
}

void csv_check_unfinished(CsvCheckup *c, CsvDiskRecord *rec, uint8_t *raw)
{
    bool making = rec->state == CSV_RECORD_CREATING;
    g_autofree char *name = g_strdup(rec->name);
    g_autofree char *who = NULL;
    uint32_t slot = rec->slot;
    bool fixed = false;

    if ((!making && rec->state != CSV_RECORD_DELETING) ||
        csv_disk_owner(c->vol, c->file, rec, &who) != CSV_LIVENESS_DEAD) {
        return;
    }
    if (csv_check_may_fix(c, CSV_FINDING_LEAK)) {
        fixed = csv_disk_erase(c->vol, c->file, rec, raw, NULL, NULL) >= 0;
    }
    csv_check_found(c, CSV_FINDING_LEAK, fixed, "disk record %" PRIu32
                    ": the %s of disk '%s' was interrupted%s", slot,
                    making ? "creation" : "deletion", name,
                    fixed ? "; it is deleted now"
                          : "; 'repair leaks' deletes it");
}

static void csv_check_name(CsvCheckup *c, GHashTable *names,
                           const CsvDiskRecord *rec)
{
    gpointer other;

    if (!g_hash_table_lookup_extended(names, rec->name, NULL, &other)) {
        g_hash_table_insert(names, g_strdup(rec->name),
                            GUINT_TO_POINTER(rec->slot));
        return;
    }
    csv_check_found(c, CSV_FINDING_ERROR, false, "disk records %u and %" PRIu32
                    ": field 'name': both are disk '%s'; rename one by its "
                    "UUID, or delete it", GPOINTER_TO_UINT(other), rec->slot,
                    rec->name);
}

/*
 * Find the header of the disk in @slot in segment @index.  1: found; *rec is
 * set from it.  0: it is not there.
 */
static int GRAPH_RDLOCK
csv_check_header_at(CsvCheckup *c, uint32_t slot, uint64_t index,
                    CsvDiskRecord *rec, CsvHeader *header, Error **errp)
{
    QEMU_AUTO_VFREE uint8_t *buf = qemu_blockalign(c->file->bs, CSV_PAGE_SIZE);
    CsvDiskRecord whose = { 0 }, other;
    CsvHeader h;
    int copy, ret, found = 0;

    for (copy = 0; copy < 2; copy++) {
        ret = bdrv_pread(c->file, csv_segment_start(&c->vol->sb, index) +
                         (copy ? CSV_HEADER_COPY_1 : CSV_HEADER_COPY_0),
                         CSV_PAGE_SIZE, buf, 0);
        if (ret < 0) {
            error_setg_errno(errp, -ret, "Cannot read segment %" PRIu64
                             " of csv volume '%s'", index,
                             csv_volume_label(c->vol));
            return ret;
        }
        csv_header_whose(buf, &whose);
        if (whose.slot == slot &&
            csv_header_decode(buf, &whose, copy, &h, NULL) &&
            (!found || h.generation > header->generation)) {
            *header = h;
            *rec = (CsvDiskRecord) {
                .slot = slot,
                .state = CSV_RECORD_FREE,
                .since = g_get_real_time() / G_USEC_PER_SEC,
                .uuid = whose.uuid,
                .first_segment = index,
                .backing = h.backing,
            };
            found = 1;
        }
    }
    if (found) {
        ret = csv_disk_find_uuid(c->vol, c->file, &rec->uuid, false, &other,
                                 errp);
        return ret < 0 ? ret : !ret;
    }
    return 0;
}

/*
 * The same, in the segments whose page of the table is damaged.  A deleted disk
 * may have left a header, too, so the header must be the only one.
 */
static int GRAPH_RDLOCK
csv_check_header_seek(CsvCheckup *c, uint32_t slot, CsvDiskRecord *rec,
                      CsvHeader *header, Error **errp)
{
    guint i, found = 0;

    for (i = 0; i < c->damaged->len; i++) {
        uint64_t s = g_array_index(c->damaged, CsvCheckPage, i).number *
                     CSV_SEGMENTS_PER_PAGE;
        uint64_t end = s + CSV_SEGMENTS_PER_PAGE;

        for (; s < end && csv_check_claim_lost(c, s); s++) {
            int ret = csv_check_header_at(c, slot, s, rec, header, errp);

            if (ret < 0) {
                return ret;
            }
            found += ret;
        }
    }
    return found == 1;
}

static int GRAPH_RDLOCK
csv_check_header_find(CsvCheckup *c, uint32_t slot, CsvDiskRecord *rec,
                      CsvHeader *header, Error **errp)
{
    guint n, i;
    const CsvCheckEntry *entry = csv_check_claimed_find(c, slot, &n);

    for (i = 0; i < n; i++) {
        if (!entry[i].sequence) {
            return csv_check_header_at(c, slot, entry[i].index, rec, header,
                                       errp);
        }
    }
    return csv_check_header_seek(c, slot, rec, header, errp);
}

/*
 * Set size and epoch of @rec from the header, the map and the journal: at least
 * the mapped size, and above the last epoch.
 */
static int GRAPH_RDLOCK
csv_check_record_measure(CsvCheckup *c, CsvDiskRecord *rec,
                         const CsvHeader *header, Error **errp)
{
    g_autoptr(GHashTable) found =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(CsvCheckDisk) d = csv_check_disk_new(c, rec);
    BdrvCheckResult one = { 0 };
    int ret;

    rec->size = CSV_MAX_DISK_SIZE;
    ret = csv_check_inspect(d, found, &one, errp);
    rec->epoch = d->epoch + 1;
    rec->size = d->mapped <= ROUND_UP(header->size, CSV_SUBCLUSTER_SIZE)
                ? header->size : MIN(d->mapped, CSV_MAX_DISK_SIZE);
    return ret;
}

static void csv_check_record_name(CsvDiskRecord *rec, const CsvHeader *header,
                                  GHashTable *names)
{
    pstrcpy(rec->name, sizeof(rec->name), header->name);
    if (!rec->name[0] || g_hash_table_contains(names, rec->name)) {
        snprintf(rec->name, sizeof(rec->name), "recovered-%" PRIu32,
                 rec->slot);
    }
    if (g_hash_table_contains(names, rec->name)) {
        qemu_uuid_unparse(&rec->uuid, rec->name);
    }
    g_hash_table_insert(names, g_strdup(rec->name),
                        GUINT_TO_POINTER(rec->slot));
}

/* Replace the damaged record with the bytes @raw by @rec. */
static bool GRAPH_RDLOCK
csv_check_record_anew(CsvCheckup *c, const CsvDiskRecord *rec, uint8_t *raw)
{
    g_autofree char *what = g_strdup_printf("disk record %" PRIu32, rec->slot);

    return csv_check_may_rebuild(c, what) &&
           csv_disk_replace(c->vol, c->file, rec, raw) >= 0;
}

static int GRAPH_RDLOCK
csv_check_record_recover(CsvCheckup *c, CsvDiskRecord *rec,
                         const CsvHeader *header, uint8_t *raw,
                         GHashTable *names, const char *why, Error **errp)
{
    int ret = csv_check_record_measure(c, rec, header, errp);
    bool fixed;

    if (ret < 0) {
        return ret;
    }
    csv_check_record_name(rec, header, names);
    fixed = csv_check_record_anew(c, rec, raw);
    c->records_bad += !fixed;
    csv_check_found(c, CSV_FINDING_ERROR, fixed, "%s; %s the header in "
                    "segment %" PRIu64 ": disk '%s' of %" PRIu64 " bytes; "
                    "%s its description and whether it was sealed or shared",
                    why, fixed ? "rebuilt from"
                    : "'repair all' rebuilds it from", rec->first_segment,
                    rec->name, rec->size, fixed ? "this lost" : "this loses");
    return 0;
}

/* There is no header to rebuild the record from: free the slot. */
static void GRAPH_RDLOCK
csv_check_record_empty(CsvCheckup *c, uint32_t slot, uint8_t *raw,
                       const char *why)
{
    CsvDiskRecord none = { .slot = slot };
    bool fixed = csv_check_record_anew(c, &none, raw);
    guint n;

    csv_check_claimed_find(c, slot, &n);
    c->records_bad += !fixed;
    csv_check_found(c, CSV_FINDING_ERROR, fixed, "%s, and there is no header "
                    "to rebuild it from; %s a disk of %u segments%s", why,
                    fixed ? "slot freed, which lost"
                          : "'repair all' frees the slot, which loses", n,
                    c->damaged->len ? ", or more" : "");
}

static int GRAPH_RDLOCK
csv_check_record_bad(CsvCheckup *c, uint32_t slot, GHashTable *names,
                     Error **errp)
{
    const CsvSuperblock *sb = &c->vol->sb;
    uint64_t offset = sb->disk_offset + (uint64_t)slot * CSV_PAGE_SIZE;
    g_autofree CsvHeader *header = g_new0(CsvHeader, 1);
    g_autofree char *text = NULL;
    uint8_t raw[CSV_RECORD_SIZE] = { 0 };
    CsvDiskRecord rec;
    Error *why = NULL;
    int ret;

    csv_check_settle(c, offset, raw);
    if (csv_disk_decode(raw, sb, slot, &rec, &why)) {
        return 0;       /* the first read caught a write half done */
    }
    text = g_strdup(error_get_pretty(why));
    error_free(why);
    if (!csv_disk_damaged(raw, sb, slot)) {
        c->records_bad++;
        csv_check_found(c, CSV_FINDING_ERROR, false, "%s; its checksum is "
                        "correct, so it is not repaired; use the version of "
                        "QEMU that wrote it", text);
        return 0;
    }
    ret = csv_check_header_find(c, slot, &rec, header, errp);
    if (ret > 0) {
        return csv_check_record_recover(c, &rec, header, raw, names, text,
                                        errp);
    }
    if (ret == 0) {
        csv_check_record_empty(c, slot, raw, text);
    }
    return ret;
}

/* Collect names of disks in @names, and slots with damaged records in @bad. */
static int GRAPH_RDLOCK
csv_check_records_read(CsvCheckup *c, GHashTable *names, GArray *bad,
                       Error **errp)
{
    CsvTableIter it;
    CsvDiskRecord rec;
    int ret = csv_volume_refresh(c->vol, c->file, errp);

    if (ret < 0) {
        return ret;
    }
    csv_table_iter(&it, c->file, c->vol->sb.disk_offset,
                   c->vol->sb.disk_high);
    while ((ret = csv_table_next(&it)) > 0) {
        if (!csv_disk_decode(it.record, &c->vol->sb, it.slot, &rec, NULL)) {
            g_array_append_val(bad, it.slot);
        } else if (rec.state != CSV_RECORD_UNUSED &&
                   rec.state != CSV_RECORD_CREATING &&
                   rec.state != CSV_RECORD_DELETING) {
            csv_check_name(c, names, &rec);
        }
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read the disk table of csv "
                         "volume '%s'", csv_volume_label(c->vol));
    }
    return ret;
}

int csv_check_records(CsvCheckup *c, Error **errp)
{
    g_autoptr(GHashTable) names =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GArray) bad = g_array_new(false, false, sizeof(uint32_t));
    int ret = csv_check_records_read(c, names, bad, errp);
    guint i;

    for (i = 0; ret >= 0 && i < bad->len; i++) {
        ret = csv_check_record_bad(c, g_array_index(bad, uint32_t, i), names,
                                   errp);
    }
    return ret;
}
