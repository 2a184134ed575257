/*
 * Cluster shared volume: switching a node between read-only and writable
 *
 * A disk is claimed and released through the node of its volume.  That node is
 * often reopened together with the disk's: in a backing chain all images except
 * the topmost are read-only, and a block job makes one writable for some time.
 * So the disk is released when the reopen is prepared, and claimed then, too,
 * or after the commit if the volume is not writable before.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qobject/qdict.h"
#include "qemu/error-report.h"
#include "driver.h"
#include "open.h"

/* Does the reopen change the ownership?  Not of an inactive node. */
static bool csv_reopen_changes(BDRVReopenState *state, bool to_write)
{
    bool was = !bdrv_is_read_only(state->bs);
    bool will = state->flags & BDRV_O_RDWR;

    return was != will && will == to_write &&
           !(state->bs->open_flags & BDRV_O_INACTIVE);
}

/* Will the node of the volume be writable only after the commit? */
static bool GRAPH_RDLOCK csv_reopen_late(CsvDisk *disk)
{
    BlockDriverState *bs = disk->bs, *file = bs->file->bs;

    return bdrv_is_read_only(file) && file->inherits_from == bs;
}

/*
 * A reopen must not replace the node of the volume.  The block layer would
 * refuse that, too, but with a message that does not say why.
 */
static bool GRAPH_RDLOCK
csv_reopen_same_file(BDRVReopenState *state, Error **errp)
{
    CsvDisk *disk = state->bs->opaque;
    BlockDriverState *file = state->bs->file->bs;
    const char *name = qdict_get_try_str(state->options, "file");
    BlockDriverState *wanted = name ? bdrv_lookup_bs(NULL, name, NULL) : file;

    if (!wanted || wanted == file ||
        wanted == bdrv_skip_implicit_filters(file)) {
        return true;    /* an unknown node: the block layer refuses it */
    }
    error_setg(errp, "Disk '%s' is open on node '%s' as its csv volume, which "
               "'%s' cannot replace; close the disk (blockdev-del) and open it "
               "there", disk->record.name, bdrv_get_node_name(file), name);
    return false;
}

int csv_reopen_take(CsvDisk *disk, const QemuUUID *token, Error **errp)
{
    BlockDriverState *bs = disk->bs;
    int ret;

    disk->claiming_node = true;
    ret = bdrv_child_refresh_perms(bs, bs->file, errp);
    if (ret >= 0) {
        ret = csv_disk_activate(disk, token, errp);
    }
    disk->claiming_node = false;
    if (ret < 0) {
        bdrv_child_refresh_perms(bs, bs->file, NULL);
    }
    return ret;
}

int csv_reopen_let_go(CsvDisk *disk, const QemuUUID *token, Error **errp)
{
    int ret = disk->owned ? csv_disk_let_go(disk, token, errp) : 0;

    if (ret >= 0 && disk->attached) {
        csv_disk_detach(disk);
    }
    return ret;
}

int csv_reopen_prepare(BDRVReopenState *state, BlockReopenQueue *queue,
                       Error **errp)
{
    BlockDriverState *bs = state->bs;
    CsvDisk *disk = bs->opaque;
    int ret;

    GRAPH_RDLOCK_GUARD_MAINLOOP();

    if (!csv_reopen_same_file(state, errp)) {
        return -EINVAL;
    }
    if (csv_reopen_changes(state, true)) {
        /* If it is too early for a claim, check whether one is possible. */
        return csv_reopen_late(disk) ? csv_disk_may_claim(disk, errp)
                                     : csv_reopen_take(disk, NULL, errp);
    }
    if (!csv_reopen_changes(state, false)) {
        return 0;
    }
    ret = disk->owned ? bdrv_flush(bs) : 0;
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot flush disk '%s' of csv volume "
                         "'%s'", disk->record.name,
                         csv_volume_label(disk->volume));
        return ret;
    }
    return csv_reopen_let_go(disk, NULL, errp);
}

void csv_reopen_commit_post(BDRVReopenState *state)
{
    BlockDriverState *bs = state->bs;
    CsvDisk *disk = bs->opaque;
    Error *err = NULL;

    GRAPH_RDLOCK_GUARD_MAINLOOP();

    if (bs->open_flags & BDRV_O_INACTIVE) {
        return;
    }
    if (!bdrv_is_read_only(bs) && !disk->owned &&
        !(disk->use & CSV_USE_WRITE)) {
        csv_reopen_take(disk, NULL, &err);
    } else if (bdrv_is_read_only(bs) && disk->record.flags && !disk->use) {
        csv_disk_begin_read(disk, &err);
    }
    if (err) {
        /* Another member was faster; writes fail from now on. */
        error_report_err(err);
    }
}

void csv_reopen_abort(BDRVReopenState *state)
{
    CsvDisk *disk = state->bs->opaque;
    Error *err = NULL;

    GRAPH_RDLOCK_GUARD_MAINLOOP();

    if (csv_reopen_changes(state, true)) {
        csv_reopen_let_go(disk, NULL, &err);
    } else if (csv_reopen_changes(state, false)) {
        csv_reopen_take(disk, NULL, &err);
    }
    if (err) {
        error_report_err(err);
    }
}
