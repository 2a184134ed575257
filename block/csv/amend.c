/*
 * Cluster shared volume: qemu-img amend, refusal of dirty bitmaps
 *
 * Amend changes fields of the disk record, and evicts members that are dead.
 * Options that other commands change exist only for a message that names the
 * command.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/cutils.h"
#include "qemu/option.h"
#include "driver.h"

#define CSV_OPT_DESCRIPTION     "description"
#define CSV_OPT_EVICT           "evict"

QemuOptsList csv_amend_opts = {
    .name = "csv-amend-opts",
    .head = QTAILQ_HEAD_INITIALIZER(csv_amend_opts.head),
    .desc = {
        {
            .name = CSV_OPT_DISK,
            .type = QEMU_OPT_STRING,
            .help = "New name of the disk"
        },
        {
            .name = CSV_OPT_DESCRIPTION,
            .type = QEMU_OPT_STRING,
            .help = "Description of the disk, a text for people"
        },
        {
            .name = CSV_OPT_EVICT,
            .type = QEMU_OPT_STRING,
            .help = "MEMBER:INCARNATION of a member that is dead for certain"
        },
        {
            .name = BLOCK_OPT_SIZE,
            .type = QEMU_OPT_SIZE,
            .help = "Not changed here, but by 'qemu-img resize'"
        },
        {
            .name = BLOCK_OPT_BACKING_FILE,
            .type = QEMU_OPT_STRING,
            .help = "Not changed here, but by 'qemu-img rebase'"
        },
        {
            .name = BLOCK_OPT_BACKING_FMT,
            .type = QEMU_OPT_STRING,
            .help = "Not changed here, but by 'qemu-img rebase'"
        },
        {
            .name = CSV_OPT_BACKING_DISK,
            .type = QEMU_OPT_STRING,
            .help = "Not changed here, but by 'qemu-img rebase'"
        },
        { /* end of list */ }
    }
};

/* Parse "MEMBER:INCARNATION". */
static bool csv_amend_member(const char *text, uint32_t *slot,
                             uint64_t *incarnation, Error **errp)
{
    unsigned member;
    const char *end;

    if (qemu_strtoui(text, &end, 10, &member) < 0 || *end != ':' ||
        qemu_strtou64(end + 1, NULL, 10, incarnation) < 0) {
        error_setg(errp, "Option 'evict' must be MEMBER:INCARNATION, two "
                   "numbers as query-csv-volumes shows them");
        return false;
    }
    *slot = member;
    return true;
}

static bool csv_amend_check(CsvDisk *disk, QemuOpts *opts, Error **errp)
{
    static const struct {
        const char *option;
        const char *command;
    } others[] = {
        { BLOCK_OPT_SIZE, "qemu-img resize" },
        { BLOCK_OPT_BACKING_FILE, "qemu-img rebase" },
        { BLOCK_OPT_BACKING_FMT, "qemu-img rebase" },
        { CSV_OPT_BACKING_DISK, "qemu-img rebase" },
    };
    const char *name = qemu_opt_get(opts, CSV_OPT_DISK);
    const char *text = qemu_opt_get(opts, CSV_OPT_DESCRIPTION);
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(others); i++) {
        if (qemu_opt_get(opts, others[i].option)) {
            error_setg(errp, "Option '%s' of disk '%s' of csv volume '%s' "
                       "cannot be amended; use %s", others[i].option,
                       disk->record.name, csv_volume_label(disk->volume),
                       others[i].command);
            return false;
        }
    }
    return (!name || csv_disk_name_check(name, errp)) &&
           (!text || csv_description_check(text, errp));
}

int csv_amend(BlockDriverState *bs, QemuOpts *opts,
              BlockDriverAmendStatusCB *status, void *opaque, bool force,
              Error **errp)
{
    CsvDisk *disk = bs->opaque;
    const char *name = qemu_opt_get(opts, CSV_OPT_DISK);
    const char *text = qemu_opt_get(opts, CSV_OPT_DESCRIPTION);
    const char *evict = qemu_opt_get(opts, CSV_OPT_EVICT);
    uint64_t incarnation = 0;
    uint32_t member = 0;
    int ret = 0;

    if (!csv_amend_check(disk, opts, errp) ||
        (evict && !csv_amend_member(evict, &member, &incarnation, errp))) {
        return -EINVAL;
    }
    if (!disk->attached) {
        error_setg(errp, "Disk '%s' of csv volume '%s' is not open for "
                   "writing", disk->record.name,
                   csv_volume_label(disk->volume));
        return -EACCES;
    }
    if (evict) {
        ret = csv_member_evict(disk->volume, bs->file, member, incarnation,
                               errp);
    }
    if (ret >= 0 && name) {
        ret = csv_disk_rename(disk->volume, bs->file, disk->record.name, name,
                              errp);
    }
    if (ret >= 0 && text) {
        ret = csv_disk_describe(disk->volume, bs->file, disk->record.name,
                                text, errp);
    }
    return ret;
}

bool coroutine_fn
csv_co_can_store_new_dirty_bitmap(BlockDriverState *bs, const char *name,
                                  uint32_t granularity, Error **errp)
{
    ERRP_GUARD();
    CsvDisk *disk = bs->opaque;

    error_setg(errp, "Disk '%s' of csv volume '%s' cannot keep bitmap '%s': "
               "csv disks store no dirty bitmaps", disk->record.name,
               csv_volume_label(disk->volume), name);
    error_append_hint(errp, "Add it without 'persistent' and make a full "
                      "backup after each start, or add it to a qcow2 "
                      "overlay of the disk.\n");
    return false;
}
