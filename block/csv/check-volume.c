/*
 * Cluster shared volume: check of what all members share
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "check-int.h"

/*
 * A new incarnation must never have been used; a damaged record does not say
 * which one was the last, but nobody joins that often.
 */
#define CSV_CHECK_INCARNATION   (1ULL << 32)

/* A member whose record cannot be read.  Its locks say whether it lives. */
static bool GRAPH_RDLOCK
csv_check_member_anew(CsvCheckup *c, const uint8_t *old, uint32_t slot)
{
    uint64_t offset = c->vol->sb.member_offset +
                      (uint64_t)slot * CSV_PAGE_SIZE;
    CsvMemberRecord rec = {
        .slot = slot,
        .state = CSV_MEMBER_UNUSED,
        .incarnation = CSV_CHECK_INCARNATION + g_get_real_time(),
    };
    uint8_t new[CSV_RECORD_SIZE];

    if (csv_member_slot_locked(c->file, slot)) {
        return false;
    }
    csv_member_encode(&rec, &c->vol->sb, new);
    return csv_record_swap(c->vol, c->file, offset, old, new) >= 0;
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
csv_check_member(CsvCheckup *c, const uint8_t *raw, uint32_t slot)
{
    CsvMemberRecord rec;
    Error *err = NULL;
    bool fixed;

    if (!csv_member_decode(raw, &c->vol->sb, slot, &rec, &err)) {
        fixed = csv_check_may_fix(c, CSV_FINDING_ERROR) &&
                csv_check_member_anew(c, raw, slot);
        csv_check_found(c, CSV_FINDING_ERROR, fixed, "%s%s",
                        error_get_pretty(err), fixed ? ", now unused" :
                        "; 'repair all' empties it if no member lives there");
        error_free(err);
        return;
    }
    /*
     * A process that was killed leaves its record; the next member takes the
     * place.  That is no fault, but who repairs may tidy up.
     */
    if (rec.state == CSV_MEMBER_ACTIVE &&
        csv_check_may_fix(c, CSV_FINDING_LEAK) &&
        csv_member_liveness(c->vol, c->file, &rec, rec.incarnation) ==
        CSV_LIVENESS_DEAD) {
        g_autofree char *who = csv_member_describe(&rec);

        fixed = csv_check_member_leave(c, raw, &rec);
        csv_check_found(c, CSV_FINDING_LEAK, fixed, "member record %" PRIu32
                        ": the member is dead (%s)%s", slot, who,
                        fixed ? "" : ", and its place cannot be freed");
    }
}

int csv_check_members(CsvCheckup *c, Error **errp)
{
    CsvTableIter it;
    int ret;

    csv_table_iter(&it, c->file, c->vol->sb.member_offset,
                   c->vol->sb.member_slots);
    while ((ret = csv_table_next(&it)) > 0) {
        csv_check_member(c, it.record, it.slot);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read the member table of csv "
                         "volume '%s'", csv_volume_label(c->vol));
    }
    return ret;
}

/* A disk whose making or deleting was cut short: finish it. */
static void GRAPH_RDLOCK
csv_check_unfinished(CsvCheckup *c, CsvDiskRecord *rec, uint8_t *raw)
{
    bool making = rec->state == CSV_RECORD_CREATING;
    g_autofree char *name = g_strdup(rec->name);
    uint32_t slot = rec->slot;
    CsvMemberRecord m;
    bool fixed = false;

    if (csv_member_read(c->vol, c->file, rec->owner, &m, NULL) < 0 ||
        csv_member_liveness(c->vol, c->file, &m, rec->owner_incarnation) !=
        CSV_LIVENESS_DEAD) {
        return;
    }
    if (csv_check_may_fix(c, CSV_FINDING_LEAK)) {
        fixed = csv_disk_erase(c->vol, c->file, rec, raw, NULL) >= 0;
    }
    csv_check_found(c, CSV_FINDING_LEAK, fixed, "disk record %" PRIu32
                    ": the %s of disk '%s' was cut short%s", slot,
                    making ? "making" : "deleting", name,
                    fixed ? ", it is deleted now"
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

int csv_check_records(CsvCheckup *c, Error **errp)
{
    g_autoptr(GHashTable) names =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    CsvTableIter it;
    CsvDiskRecord rec;
    int ret = csv_volume_refresh(c->vol, c->file, errp);

    if (ret < 0) {
        return ret;
    }
    csv_table_iter(&it, c->file, c->vol->sb.disk_offset,
                   c->vol->sb.disk_high);
    while ((ret = csv_table_next(&it)) > 0) {
        uint8_t raw[CSV_RECORD_SIZE];
        Error *err = NULL;

        memcpy(raw, it.record, sizeof(raw));
        if (!csv_disk_decode(raw, &c->vol->sb, it.slot, &rec, &err)) {
            csv_check_found(c, CSV_FINDING_ERROR, false, "%s; its segments "
                            "are kept, but what it said is lost",
                            error_get_pretty(err));
            error_free(err);
            continue;
        }
        switch (rec.state) {
        case CSV_RECORD_UNUSED:
            break;
        case CSV_RECORD_CREATING:
        case CSV_RECORD_DELETING:
            csv_check_unfinished(c, &rec, raw);
            break;
        default:
            csv_check_name(c, names, &rec);
        }
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read the disk table of csv "
                         "volume '%s'", csv_volume_label(c->vol));
    }
    return ret;
}

/*
 * Free the segments of @slot, which is unused.  Nobody may make a disk there
 * meanwhile, so for that time the slot is one that we are deleting.
 */
static bool GRAPH_RDLOCK
csv_check_segments_free(CsvCheckup *c, CsvDiskRecord *rec, uint8_t *raw)
{
    qemu_uuid_generate(&rec->uuid);
    snprintf(rec->name, sizeof(rec->name), "leaked-%" PRIu32, rec->slot);
    return csv_disk_erase(c->vol, c->file, rec, raw, NULL) >= 0;
}

/* Segments of disk @slot were seen: is there such a disk? */
static void GRAPH_RDLOCK
csv_check_segments_of(CsvCheckup *c, uint32_t slot, uint64_t index)
{
    CsvSegmentEntry entry[CSV_SEGMENTS_PER_PAGE];
    CsvDiskRecord rec;
    uint8_t raw[CSV_RECORD_SIZE], buf[CSV_RECORD_SIZE];
    uint64_t page;
    bool fixed = false;

    if (csv_disk_read(c->vol, c->file, slot, &rec, raw, NULL) < 0 ||
        rec.state != CSV_RECORD_UNUSED) {
        return;
    }
    /* The disk may have been deleted since the table was read. */
    page = index / CSV_SEGMENTS_PER_PAGE;
    if (csv_record_read(c->file, c->vol->sb.segment_offset +
                        page * CSV_PAGE_SIZE, buf) < 0 ||
        !csv_segments_decode(buf, &c->vol->sb, page, entry, NULL) ||
        entry[index % CSV_SEGMENTS_PER_PAGE].disk != slot) {
        return;
    }
    if (csv_check_may_fix(c, CSV_FINDING_LEAK)) {
        fixed = csv_check_segments_free(c, &rec, raw);
    }
    csv_check_found(c, CSV_FINDING_LEAK, fixed, "segment table: segment %"
                    PRIu64 " and maybe more belong to disk record %" PRIu32
                    ", where there is no disk%s", index, slot,
                    fixed ? "; they are free now"
                          : "; 'repair leaks' frees them");
}

int csv_check_segments(CsvCheckup *c, Error **errp)
{
    g_autofree unsigned long *seen = bitmap_new(c->vol->sb.disk_slots);
    CsvSegmentEntry entry[CSV_SEGMENTS_PER_PAGE];
    CsvTableIter it;
    unsigned i;
    int ret = csv_volume_refresh(c->vol, c->file, errp);

    if (ret < 0) {
        return ret;
    }
    csv_table_iter(&it, c->file, c->vol->sb.segment_offset,
                   csv_segment_pages(c->vol->sb.segment_count));
    while ((ret = csv_table_next(&it)) > 0) {
        Error *err = NULL;

        if (!csv_segments_decode(it.record, &c->vol->sb, it.slot, entry,
                                 &err)) {
            csv_check_found(c, CSV_FINDING_ERROR, false, "%s; segments %"
                            PRIu64 " to %" PRIu64 " and the disks in them "
                            "cannot be used; restore it from a copy",
                            error_get_pretty(err),
                            (uint64_t)it.slot * CSV_SEGMENTS_PER_PAGE,
                            (uint64_t)it.slot * CSV_SEGMENTS_PER_PAGE +
                            CSV_SEGMENTS_PER_PAGE - 1);
            error_free(err);
            continue;
        }
        for (i = 0; i < CSV_SEGMENTS_PER_PAGE; i++) {
            if (entry[i].disk >= 0 && !test_and_set_bit(entry[i].disk, seen)) {
                csv_check_segments_of(c, entry[i].disk, (uint64_t)it.slot *
                                      CSV_SEGMENTS_PER_PAGE + i);
            }
        }
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read the segment table of csv "
                         "volume '%s'", csv_volume_label(c->vol));
    }
    return ret;
}
