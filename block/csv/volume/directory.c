/*
 * Cluster shared volume: finding disks and their owners
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/cutils.h"
#include "volume.h"

CsvLiveness csv_disk_owner(CsvVolume *vol, BdrvChild *file,
                           const CsvDiskRecord *rec, char **why)
{
    CsvMemberRecord m;
    Error *err = NULL;

    if (csv_member_read(vol, file, rec->owner, &m, &err) < 0) {
        *why = g_strdup_printf("member %" PRIu32 " (%s)", rec->owner,
                               error_get_pretty(err));
        error_free(err);
        return CSV_LIVENESS_UNKNOWN;
    }
    *why = csv_member_describe(&m);
    return csv_member_liveness(vol, file, &m, rec->owner_incarnation);
}

char *csv_time(uint64_t t)
{
    g_autoptr(GDateTime) when = g_date_time_new_from_unix_utc(t);

    return when ? g_date_time_format(when, "%Y-%m-%d %H:%M:%S UTC")
                : g_strdup("an unknown time");
}

int csv_disk_may_take(CsvVolume *vol, BdrvChild *file,
                      const CsvDiskRecord *rec, bool force, const char *doing,
                      Error **errp)
{
    ERRP_GUARD();
    g_autofree char *who = NULL;
    g_autofree char *since = csv_time(rec->since);
    CsvLiveness liveness = csv_disk_owner(vol, file, rec, &who);

    switch (liveness) {
    case CSV_LIVENESS_DEAD:
        return 0;
    case CSV_LIVENESS_ALIVE:
        error_setg(errp, "Disk '%s' of csv volume '%s' is %s by another "
                   "member since %s (%s)", rec->name, csv_volume_label(vol),
                   doing, since, who);
        error_append_hint(errp, "Open it read-only, or close it there "
                          "first.\n");
        return -EBUSY;
    default:
        if (force) {
            return 0;
        }
        error_setg(errp, "Disk '%s' of csv volume '%s' is %s since %s by a "
                   "member that cannot be seen from here (%s)", rec->name,
                   csv_volume_label(vol), doing, since, who);
        error_append_hint(errp, "If that host is down or cut off from the "
                          "storage for certain, open the disk with "
                          "force-takeover=on.\n");
        return -EBUSY;
    }
}

/* Was its creation interrupted, so that nobody will complete it? */
static bool GRAPH_RDLOCK
csv_disk_is_wreck(CsvVolume *vol, BdrvChild *file, const CsvDiskRecord *rec)
{
    g_autofree char *who = NULL;

    return rec->state == CSV_RECORD_CREATING &&
           csv_disk_owner(vol, file, rec, &who) == CSV_LIVENESS_DEAD;
}

int csv_disk_find_uuid(CsvVolume *vol, BdrvChild *file, const QemuUUID *uuid,
                       bool overlay, CsvDiskRecord *out, Error **errp)
{
    CsvTableIter it;
    int ret = csv_volume_refresh(vol, file, errp);

    if (ret < 0) {
        return ret;
    }
    csv_table_iter(&it, file, vol->sb.disk_offset, vol->sb.disk_high);
    while ((ret = csv_table_next(&it)) > 0) {
        if (csv_disk_decode(it.record, &vol->sb, it.slot, out, NULL) &&
            out->state != CSV_RECORD_UNUSED &&
            out->state != CSV_RECORD_DELETING &&
            qemu_uuid_is_equal(uuid, overlay ? &out->backing : &out->uuid) &&
            !(overlay && csv_disk_is_wreck(vol, file, out))) {
            csv_table_end(&it);
            return 1;
        }
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read the disk table of csv "
                         "volume '%s'", csv_volume_label(vol));
    }
    return ret;
}

int csv_disk_by_uuid(CsvVolume *vol, BdrvChild *file, const QemuUUID *uuid,
                     CsvDiskRecord *out, Error **errp)
{
    int ret = csv_disk_find_uuid(vol, file, uuid, false, out, errp);

    if (ret == 0) {
        char text[UUID_STR_LEN];

        qemu_uuid_unparse(uuid, text);
        error_setg(errp, "csv volume '%s' has no disk with the UUID %s",
                   csv_volume_label(vol), text);
        ret = -ENOENT;
    }
    return ret;
}

int csv_disk_find(CsvVolume *vol, BdrvChild *file, const char *name,
                  CsvDiskRecord *out, uint8_t *raw, Error **errp)
{
    CsvTableIter it;
    CsvDiskRecord rec;
    QemuUUID uuid;
    Error *damage = NULL;
    unsigned found = 0;
    int ret = csv_volume_refresh(vol, file, errp);

    if (ret < 0) {
        return ret;
    }
    csv_table_iter(&it, file, vol->sb.disk_offset, vol->sb.disk_high);
    while ((ret = csv_table_next(&it)) > 0) {
        if (!csv_disk_decode(it.record, &vol->sb, it.slot, &rec,
                             damage ? NULL : &damage)) {
            continue;   /* a damaged record does not hide the others */
        }
        if (rec.state == CSV_RECORD_UNUSED ||
            rec.state == CSV_RECORD_DELETING ||
            (name && strcmp(rec.name, name))) {
            continue;
        }
        /* Prefer a complete disk to one of the same name under creation. */
        if (!found || rec.state != CSV_RECORD_CREATING) {
            *out = rec;
            memcpy(raw, it.record, CSV_RECORD_SIZE);
        }
        found++;
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read the disk table of csv "
                         "volume '%s'", csv_volume_label(vol));
    } else if (!found && damage) {
        error_propagate_prepend(errp, error_copy(damage),
                                "csv volume '%s' is damaged: ",
                                csv_volume_label(vol));
        ret = -EINVAL;
    } else if (!found && name && !qemu_uuid_parse(name, &uuid)) {
        ret = csv_disk_by_uuid(vol, file, &uuid, out, errp);
        if (ret >= 0) {
            ret = csv_disk_read(vol, file, out->slot, out, raw, errp);
        }
    } else if (!found && name) {
        error_setg(errp, "csv volume '%s' has no disk '%s'",
                   csv_volume_label(vol), name);
        ret = -ENOENT;
    } else if (!found) {
        error_setg(errp, "csv volume '%s' has no disk; make one with "
                   "qemu-img create -f csv -o disk=NAME",
                   csv_volume_label(vol));
        ret = -ENOENT;
    } else if (!name && found > 1) {
        error_setg(errp, "csv volume '%s' has more than one disk; say which "
                   "with the option 'disk'", csv_volume_label(vol));
        ret = -EINVAL;
    }
    error_free(damage);
    return ret;
}

static uint32_t csv_use_of(const CsvMemberRecord *rec, uint32_t slot)
{
    unsigned i;

    for (i = 0; i < CSV_MEMBER_USES; i++) {
        if (rec->use[i] && csv_use_slot(rec->use[i]) == slot) {
            return rec->use[i];
        }
    }
    return 0;
}

int csv_use_check_none(CsvVolume *vol, BdrvChild *file,
                       const CsvDiskRecord *disk, Error **errp)
{
    CsvMemberRecord rec;
    CsvTableIter it;
    int ret;

    csv_table_iter(&it, file, vol->sb.member_offset, vol->sb.member_slots);
    while ((ret = csv_table_next(&it)) > 0) {
        g_autofree char *who = NULL;
        uint32_t use;

        if (!csv_member_decode(it.record, &vol->sb, it.slot, &rec, NULL)) {
            continue;   /* what a damaged record says is unknown */
        }
        use = csv_use_of(&rec, disk->slot);
        if (!use || csv_member_liveness(vol, file, &rec, rec.incarnation) ==
            CSV_LIVENESS_DEAD) {
            continue;
        }
        csv_table_end(&it);
        who = csv_member_describe(&rec);
        error_setg(errp, "Disk '%s' of csv volume '%s' is %s by a member "
                   "(%s); close it there first", disk->name,
                   csv_volume_label(vol),
                   use & CSV_USE_WRITE ? "written" : "read", who);
        return -EBUSY;
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read the member table of csv "
                         "volume '%s'", csv_volume_label(vol));
    }
    return ret;
}
