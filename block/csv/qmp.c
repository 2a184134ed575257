/*
 * Cluster shared volume: QMP commands that change something
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-csv.h"
#include "qobject/qdict.h"
#include "system/block-backend.h"
#include "block/csv/disk/disk.h"

/* By name or UUID of an open volume, or by the node that holds one. */
static BlockDriverState *csv_find_volume(const char *volume, Error **errp)
{
    BlockDriverState *found = NULL;
    QemuUUID found_uuid;
    CsvVolume *vol;
    QemuUUID uuid;
    bool by_uuid = qemu_uuid_parse(volume, &uuid) == 0;

    for (vol = csv_volume_next(NULL); vol; vol = csv_volume_next(vol)) {
        if (by_uuid ? !qemu_uuid_is_equal(&uuid, &vol->sb.uuid)
                    : strcmp(volume, vol->sb.name)) {
            continue;
        }
        if (found && !qemu_uuid_is_equal(&found_uuid, &vol->sb.uuid)) {
            error_setg(errp, "More than one open csv volume has the name '%s';"
                       " use the UUID or the node name", volume);
            return NULL;
        }
        found = vol->bs;
        found_uuid = vol->sb.uuid;
    }
    if (!found) {
        found = bdrv_lookup_bs(NULL, volume, NULL);
    }
    if (!found) {
        error_setg(errp, "'%s' is neither an open csv volume nor the node of "
                   "one", volume);
    }
    return found;
}

/* What a command does with a volume: @arg is the command's.  Graph locked. */
typedef int CsvCommand(CsvVolume *vol, BdrvChild *file, const char *disk,
                       const void *arg, Error **errp);

static void csv_run_child(BdrvChild *file, bool attach, CsvCommand *fn,
                          const char *disk, const void *arg, Error **errp)
{
    CsvVolume *vol;

    GRAPH_RDLOCK_GUARD_MAINLOOP();

    vol = csv_volume_get(file, errp);
    if (!vol) {
        return;
    }
    if (!attach) {
        fn(vol, file, disk, arg, errp);
    } else if (csv_member_attach(vol, file, errp) >= 0) {
        fn(vol, file, disk, arg, errp);
        csv_member_detach(vol, file);
    }
    csv_volume_put(vol);
}

/* Call @fn for a volume, as a member of it if @attach. */
static void csv_run_as(const char *volume, bool attach, CsvCommand *fn,
                       const char *disk, const void *arg, Error **errp)
{
    BlockDriverState *bs = csv_find_volume(volume, errp);
    BlockBackend *blk;

    if (!bs) {
        return;
    }
    blk = blk_new_with_bs(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE,
                          BLK_PERM_ALL, errp);
    if (!blk) {
        return;
    }
    csv_run_child(csv_blk_child(blk), attach, fn, disk, arg, errp);
    blk_unref(blk);
}

static void csv_run(const char *volume, CsvCommand *fn, const char *disk,
                    const void *arg, Error **errp)
{
    csv_run_as(volume, true, fn, disk, arg, errp);
}

static int GRAPH_RDLOCK
csv_run_delete(CsvVolume *vol, BdrvChild *file, const char *disk,
               const void *arg, Error **errp)
{
    return csv_disk_delete(vol, file, disk, errp);
}

void qmp_csv_disk_delete(const char *volume, const char *disk, Error **errp)
{
    csv_run(volume, csv_run_delete, disk, NULL, errp);
}

static int GRAPH_RDLOCK
csv_run_rename(CsvVolume *vol, BdrvChild *file, const char *disk,
               const void *new_name, Error **errp)
{
    return csv_disk_rename(vol, file, disk, new_name, errp);
}

void qmp_csv_disk_rename(const char *volume, const char *disk,
                         const char *new_name, Error **errp)
{
    csv_run(volume, csv_run_rename, disk, new_name, errp);
}

static int GRAPH_RDLOCK
csv_run_describe(CsvVolume *vol, BdrvChild *file, const char *disk,
                 const void *text, Error **errp)
{
    return csv_disk_describe(vol, file, disk, text, errp);
}

void qmp_csv_disk_describe(const char *volume, const char *disk,
                           const char *description, Error **errp)
{
    csv_run(volume, csv_run_describe, disk, description, errp);
}

static int GRAPH_RDLOCK
csv_run_flags(CsvVolume *vol, BdrvChild *file, const char *disk,
              const void *flags, Error **errp)
{
    return csv_disk_set_flags(vol, file, disk, *(const uint32_t *)flags, errp);
}

void qmp_csv_disk_seal(const char *volume, const char *disk, bool has_seal,
                       bool seal, Error **errp)
{
    uint32_t flags = !has_seal || seal ? CSV_DISK_SEALED : 0;

    csv_run(volume, csv_run_flags, disk, &flags, errp);
}

/* A disk is shared only if no write can need space. */
static bool csv_check_full(BlockDriverState *bs, const char *disk,
                           Error **errp)
{
    QDict *options = qdict_new();
    BlockDriverState *disk_bs;
    bool full;

    qdict_put_str(options, "driver", "csv");
    qdict_put_str(options, "file", bdrv_get_node_name(bs));
    qdict_put_str(options, "disk", disk);
    disk_bs = bdrv_open(NULL, NULL, options, 0, errp);
    if (!disk_bs) {
        return false;
    }
    bdrv_graph_rdlock_main_loop();
    full = csv_map_is_full(disk_bs->opaque);
    bdrv_graph_rdunlock_main_loop();
    bdrv_unref(disk_bs);
    if (!full) {
        error_setg(errp, "Disk '%s' cannot be shared: not all of it is "
                   "allocated; make it with preallocation=full", disk);
    }
    return full;
}

void qmp_csv_disk_share(const char *volume, const char *disk, bool has_share,
                        bool share, Error **errp)
{
    uint32_t flags = !has_share || share ? CSV_DISK_SHARED : 0;
    BlockDriverState *bs = csv_find_volume(volume, errp);

    if (bs && (!flags || csv_check_full(bs, disk, errp))) {
        csv_run(volume, csv_run_flags, disk, &flags, errp);
    }
}

static int GRAPH_RDLOCK
csv_run_grow(CsvVolume *vol, BdrvChild *file, const char *disk,
             const void *size, Error **errp)
{
    return csv_volume_grow(vol, file, *(const uint64_t *)size, errp);
}

/* Make the node itself larger, if it is smaller than @size. */
static bool csv_enlarge(BlockDriverState *bs, uint64_t size, Error **errp)
{
    BlockBackend *blk;
    int64_t have;
    int ret = 0;

    blk = blk_new_with_bs(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_RESIZE,
                          BLK_PERM_ALL, errp);
    if (!blk) {
        return false;
    }
    have = blk_getlength(blk);
    if (have < 0) {
        error_setg_errno(errp, -have, "Cannot find the size of node '%s'",
                         bdrv_get_node_name(bs));
        ret = have;
    } else if (have < size) {
        ret = blk_truncate(blk, size, false, PREALLOC_MODE_OFF, 0, errp);
    }
    blk_unref(blk);
    return ret >= 0;
}

void qmp_csv_volume_grow(const char *volume, bool has_size, uint64_t size,
                         Error **errp)
{
    BlockDriverState *bs = csv_find_volume(volume, errp);

    if (!bs) {
        return;
    }
    if (has_size && (size == 0 || size > CSV_MAX_VOLUME_SIZE)) {
        error_setg(errp, "Parameter 'size' must be from 1 to %" PRIu64,
                   (uint64_t)CSV_MAX_VOLUME_SIZE);
        return;
    }
    size = has_size ? size : 0;
    if (!size || csv_enlarge(bs, size, errp)) {
        csv_run(volume, csv_run_grow, NULL, &size, errp);
    }
}

static int GRAPH_RDLOCK
csv_run_set_threshold(CsvVolume *vol, BdrvChild *file, const char *disk,
                      const void *threshold, Error **errp)
{
    if (vol->refs == 1) {
        error_setg(errp, "No disk of csv volume '%s' is open through node "
                   "'%s', so nothing here takes space; open one first",
                   csv_volume_label(vol), bdrv_get_node_name(vol->bs));
        return -EINVAL;
    }
    return csv_space_set_threshold(vol, file, *(const uint64_t *)threshold,
                                   errp);
}

void qmp_csv_volume_set_threshold(const char *volume, uint64_t threshold,
                                  Error **errp)
{
    csv_run(volume, csv_run_set_threshold, NULL, &threshold, errp);
}

static int GRAPH_RDLOCK
csv_run_evict(CsvVolume *vol, BdrvChild *file, const char *disk,
              const void *arg, Error **errp)
{
    const CsvMemberInfo *member = arg;

    return csv_member_evict(vol, file, member->id, member->incarnation, errp);
}

void qmp_csv_member_evict(const char *volume, uint32_t member,
                          uint64_t incarnation, Error **errp)
{
    const CsvMemberInfo which = { .id = member, .incarnation = incarnation };

    /* Perhaps no slot is free to become a member. */
    csv_run_as(volume, false, csv_run_evict, NULL, &which, errp);
}
