/*
 * Cluster shared volume: hand-over of all disks of a virtual machine
 *
 * A virtual machine may have several disks, and each is claimed by a separate
 * compare-and-write.  Both sides claim in the same order, by volume and disk
 * UUID, and stop at the first disk that they do not get.  So the side that gets
 * the first disk gets all of them.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/timer.h"
#include "block/csv.h"
#include "driver.h"
#include "open.h"

/* Period of attempts to release disks after a failed hand-over. */
#define CSV_GIVE_BACK_MS        500

static QemuUUID csv_token;
static QEMUTimer *csv_give_back_timer;

void csv_handover_set_token(const QemuUUID *token)
{
    GLOBAL_STATE_CODE();
    csv_token = token ? *token : (QemuUUID) { 0 };
}

QemuUUID csv_handover_token(void)
{
    return csv_token;
}

static gint csv_handover_order(gconstpointer a, gconstpointer b)
{
    const CsvDisk *x = *(CsvDisk **)a, *y = *(CsvDisk **)b;
    int by_volume = memcmp(x->volume->sb.uuid.data, y->volume->sb.uuid.data,
                           sizeof(x->volume->sb.uuid.data));

    return by_volume ?: memcmp(x->record.uuid.data, y->record.uuid.data,
                               sizeof(x->record.uuid.data));
}

/*
 * The disks that take part in a hand-over, in the order of claims: those that
 * are writable, and those that were released with a token and became read-only
 * since, below a snapshot.  The guest needs the content of the latter, too.
 */
static GPtrArray *csv_handover_disks(void)
{
    GPtrArray *disks = g_ptr_array_new();
    CsvVolume *vol;
    CsvDisk *disk;

    for (vol = csv_volume_next(NULL); vol; vol = csv_volume_next(vol)) {
        QLIST_FOREACH(disk, &vol->disks, next) {
            if (!bdrv_is_read_only(disk->bs) || disk->handed_over) {
                g_ptr_array_add(disks, disk);
            }
        }
    }
    g_ptr_array_sort(disks, csv_handover_order);
    return disks;
}

void csv_handover_begin(void)
{
    g_autoptr(GPtrArray) disks = NULL;
    guint i;

    GLOBAL_STATE_CODE();
    GRAPH_RDLOCK_GUARD_MAINLOOP();

    disks = csv_handover_disks();
    for (i = 0; i < disks->len; i++) {
        CsvDisk *disk = g_ptr_array_index(disks, i);

        if (disk->owned) {
            qemu_uuid_generate(&csv_token);
            return;
        }
    }
}

bool csv_handover_needed(void)
{
    g_autoptr(GPtrArray) disks = NULL;

    GLOBAL_STATE_CODE();
    GRAPH_RDLOCK_GUARD_MAINLOOP();

    disks = csv_handover_disks();
    return disks->len > 0;
}

bool csv_first_disk(const char **name, QemuUUID *uuid,
                    BlockDriverState **volume)
{
    g_autoptr(GPtrArray) disks = NULL;
    CsvDisk *first = NULL;

    GLOBAL_STATE_CODE();
    GRAPH_RDLOCK_GUARD_MAINLOOP();

    disks = csv_handover_disks();
    for (guint i = 0; i < disks->len; i++) {
        CsvDisk *disk = g_ptr_array_index(disks, i);

        if (!first || strcmp(disk->record.name, first->record.name) < 0) {
            first = disk;
        }
    }
    if (first) {
        *name = first->record.name;
        *uuid = first->record.uuid;
        *volume = first->bs->file->bs;
    }
    return first;
}

/*
 * Activate an inactive node.  A node can be active although its disk was
 * released, if inactivating another disk failed: then claim the disk.
 */
static int GRAPH_RDLOCK csv_handover_claim_one(CsvDisk *disk, Error **errp)
{
    ERRP_GUARD();
    QemuUUID token = csv_token;
    bool read_only = bdrv_is_read_only(disk->bs);
    int ret = 0;

    if (disk->bs->open_flags & BDRV_O_INACTIVE) {
        ret = bdrv_activate(disk->bs, errp);
        if (!read_only) {
            return ret;
        }
    }
    if (ret >= 0) {
        ret = csv_reopen_take(disk, qemu_uuid_is_null(&token) ? NULL : &token,
                              errp);
    }
    if (ret < 0 && read_only) {
        error_prepend(errp, "Cannot claim disk '%s' of csv volume '%s' again, "
                      "which is below a snapshot now and was released for "
                      "a migration: ", disk->record.name,
                      csv_volume_label(disk->volume));
    }
    return ret;
}

static int GRAPH_RDLOCK csv_handover_let_go(CsvDisk *disk, Error **errp)
{
    QemuUUID uuid = csv_token;
    const QemuUUID *token = qemu_uuid_is_null(&uuid) ? NULL : &uuid;

    if (!disk->owned) {
        return csv_disk_release_unsure(disk, token);
    }
    /* An inactive node owns its disk if the node's activation failed. */
    return bdrv_is_read_only(disk->bs) ||
           disk->bs->open_flags & BDRV_O_INACTIVE
           ? csv_reopen_let_go(disk, token, errp)
           : bdrv_inactivate(disk->bs, errp);
}

static void csv_handover_give_back_soon(void)
{
    timer_mod(csv_give_back_timer, CSV_GIVE_BACK_MS +
              qemu_clock_get_ms(QEMU_CLOCK_REALTIME));
}

/*
 * Retry to release disks of a failed hand-over: the other side waits for them,
 * and cannot know that the guest never ran here.
 */
static void csv_handover_give_back(void *opaque)
{
    g_autoptr(GPtrArray) disks = NULL;
    bool again = false;

    GRAPH_RDLOCK_GUARD_MAINLOOP();

    disks = csv_handover_disks();
    for (guint i = disks->len; i-- > 0; ) {
        CsvDisk *disk = g_ptr_array_index(disks, i);

        if (disk->give_back) {
            disk->give_back = csv_handover_let_go(disk, NULL) < 0;
            again |= disk->give_back;
        }
    }
    if (again) {
        csv_handover_give_back_soon();
    }
}

static void csv_handover_give_back_later(CsvDisk *disk)
{
    disk->give_back = true;
    if (!csv_give_back_timer) {
        csv_give_back_timer = timer_new_ms(QEMU_CLOCK_REALTIME,
                                           csv_handover_give_back, NULL);
    }
    csv_handover_give_back_soon();
}

static void GRAPH_RDLOCK csv_handover_undo_one(CsvDisk *disk)
{
    Error *err = NULL;
    int ret = csv_handover_let_go(disk, &err);

    if (ret < 0) {
        csv_handover_give_back_later(disk);
        error_prepend(&err, "Cannot release disk '%s' of csv volume '%s' after "
                      "a failed hand-over, will retry: ", disk->record.name,
                      csv_volume_label(disk->volume));
        error_report_err(err);
    }
}

/* Release a read-only disk: after the hand-over it needs no owner. */
static void GRAPH_RDLOCK csv_handover_free_one(CsvDisk *disk)
{
    Error *err = NULL;

    if (disk->owned && bdrv_is_read_only(disk->bs) &&
        csv_reopen_let_go(disk, NULL, &err) < 0) {
        error_report_err(err);
    }
}

/* Claim disks that are not ours yet, and add them to @done. */
static bool GRAPH_RDLOCK csv_handover_claim_disks(GPtrArray *done,
                                                  Error **errp)
{
    g_autoptr(GPtrArray) disks = csv_handover_disks();

    for (guint i = 0; i < disks->len; i++) {
        CsvDisk *disk = g_ptr_array_index(disks, i);

        if (disk->owned) {
            continue;
        }
        if (csv_handover_claim_one(disk, errp) < 0) {
            if (disk->owned) {
                /* The claim succeeded, but not the activation of the node. */
                csv_handover_undo_one(disk);
            } else if (disk->unsure) {
                csv_handover_give_back_later(disk);
            }
            return false;
        }
        g_ptr_array_add(done, disk);
    }
    return true;
}

/* The hand-over succeeded: cancel pending releases of earlier failures. */
static void GRAPH_RDLOCK csv_handover_keep_all(void)
{
    g_autoptr(GPtrArray) disks = csv_handover_disks();

    for (guint i = 0; i < disks->len; i++) {
        CsvDisk *disk = g_ptr_array_index(disks, i);

        disk->give_back = false;
    }
}

bool csv_handover_claim_then(CsvHandoverThen *then, Error **errp)
{
    g_autoptr(GPtrArray) done = g_ptr_array_new();
    guint i;

    GLOBAL_STATE_CODE();
    GRAPH_RDLOCK_GUARD_MAINLOOP();

    if (!csv_handover_claim_disks(done, errp) || (then && !then(errp))) {
        for (i = done->len; i-- > 0; ) {
            csv_handover_undo_one(g_ptr_array_index(done, i));
        }
        return false;
    }
    for (i = 0; i < done->len; i++) {
        csv_handover_free_one(g_ptr_array_index(done, i));
    }
    csv_handover_keep_all();
    csv_handover_set_token(NULL);
    return true;
}

bool csv_handover_claim(Error **errp)
{
    return csv_handover_claim_then(NULL, errp);
}

CsvHandoverOutcome csv_handover_outcome(Error **errp)
{
    g_autoptr(GPtrArray) disks = NULL;
    guint i;

    GLOBAL_STATE_CODE();
    GRAPH_RDLOCK_GUARD_MAINLOOP();

    disks = csv_handover_disks();
    for (i = 0; i < disks->len; i++) {
        CsvDisk *disk = g_ptr_array_index(disks, i);
        CsvDiskRecord rec;

        if (disk->owned || !disk->handed_over) {
            continue;
        }
        if (csv_disk_reread(disk, &rec, errp) < 0) {
            return CSV_HANDOVER_UNKNOWN;
        }
        if (rec.state != CSV_RECORD_HANDOVER ||
            !qemu_uuid_is_equal(&rec.token, &csv_token)) {
            return CSV_HANDOVER_THEIRS;
        }
    }
    return CSV_HANDOVER_OURS;
}
