/*
 * Cluster shared volume: QMP commands
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-csv.h"
#include "qapi/qapi-types-csv.h"
#include "qapi/qapi-visit-csv.h"
#include "qobject/qdict.h"
#include "system/block-backend.h"
#include "csv.h"

/* Nodes through which @uuid is reached. */
static void csv_add_node_names(CsvVolumeInfo *info, const QemuUUID *uuid)
{
    strList **tail = &info->node_names;
    CsvVolume *vol;

    for (vol = csv_volume_next(NULL); vol; vol = csv_volume_next(vol)) {
        if (!qemu_uuid_is_equal(&vol->sb.uuid, uuid)) {
            continue;
        }
        QAPI_LIST_APPEND(tail, g_strdup(bdrv_get_node_name(vol->bs)));
        if (vol->locked && !info->has_member) {
            info->has_member = true;
            info->member = vol->me.slot;
        }
    }
}

static strList *csv_disk_node_names(const QemuUUID *volume, uint32_t slot)
{
    strList *list = NULL, **tail = &list;
    CsvVolume *vol;
    CsvDisk *disk;

    for (vol = csv_volume_next(NULL); vol; vol = csv_volume_next(vol)) {
        if (!qemu_uuid_is_equal(&vol->sb.uuid, volume)) {
            continue;
        }
        QLIST_FOREACH(disk, &vol->disks, next) {
            if (disk->record.slot == slot) {
                QAPI_LIST_APPEND(tail, g_strdup(bdrv_get_node_name(disk->bs)));
            }
        }
    }
    return list;
}

static int GRAPH_RDLOCK
csv_query_members(CsvVolume *vol, BdrvChild *file, CsvMemberInfoList **list,
                  Error **errp)
{
    CsvMemberInfoList **tail = list;
    CsvMemberRecord rec;
    CsvTableIter it;
    int ret;

    csv_table_iter(&it, file, vol->sb.member_offset, vol->sb.member_slots);
    while ((ret = csv_table_next(&it)) > 0) {
        if (!csv_member_decode(it.record, &vol->sb, it.slot, &rec, errp)) {
            csv_table_end(&it);
            return -EINVAL;
        }
        if (rec.state == CSV_MEMBER_ACTIVE) {
            QAPI_LIST_APPEND(tail, csv_member_info(vol, file, &rec,
                                                   rec.incarnation));
        }
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read the member table of csv "
                         "volume '%s'", csv_volume_label(vol));
    }
    return ret;
}

static CsvDiskInfo * GRAPH_RDLOCK
csv_query_disk(CsvVolume *vol, BdrvChild *file, const CsvDiskRecord *rec,
               uint64_t segments)
{
    CsvDiskInfo *info = g_new0(CsvDiskInfo, 1);
    CsvMemberRecord owner;

    info->id = rec->slot;
    info->name = g_strdup(rec->name);
    info->uuid = qemu_uuid_unparse_strdup(&rec->uuid);
    info->description = g_strdup(rec->description);
    info->sealed = rec->flags & CSV_DISK_SEALED;
    info->shared = rec->flags & CSV_DISK_SHARED;
    info->size = rec->size;
    info->allocated = segments << vol->sb.segment_bits;
    info->state = csv_disk_state(rec->state);
    info->epoch = rec->epoch;
    info->since = rec->since;
    info->node_names = csv_disk_node_names(&vol->sb.uuid, rec->slot);
    if (rec->state != CSV_RECORD_FREE &&
        csv_member_read(vol, file, rec->owner, &owner, NULL) >= 0) {
        info->owner = csv_member_info(vol, file, &owner,
                                      rec->owner_incarnation);
    }
    return info;
}

static int GRAPH_RDLOCK
csv_query_disks(CsvVolume *vol, BdrvChild *file, const uint64_t *segments,
                CsvDiskInfoList **list, Error **errp)
{
    CsvDiskInfoList **tail = list;
    CsvDiskRecord rec;
    CsvTableIter it;
    int ret;

    csv_table_iter(&it, file, vol->sb.disk_offset, vol->sb.disk_high);
    while ((ret = csv_table_next(&it)) > 0) {
        if (!csv_disk_decode(it.record, &vol->sb, it.slot, &rec, errp)) {
            csv_table_end(&it);
            return -EINVAL;
        }
        if (rec.state != CSV_RECORD_UNUSED) {
            QAPI_LIST_APPEND(tail, csv_query_disk(vol, file, &rec,
                                                  segments[it.slot]));
        }
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read the disk table of csv "
                         "volume '%s'", csv_volume_label(vol));
    }
    return ret;
}

static CsvVolumeInfo * GRAPH_RDLOCK
csv_query_volume(CsvVolume *vol, BdrvChild *file, Error **errp)
{
    g_autoptr(CsvVolumeInfo) info = g_new0(CsvVolumeInfo, 1);
    g_autofree uint64_t *segments = g_new0(uint64_t, vol->sb.disk_slots);
    uint64_t free;

    if (csv_segments_count(vol, file, segments, &free, errp) < 0 ||
        csv_query_members(vol, file, &info->members, errp) < 0 ||
        csv_query_disks(vol, file, segments, &info->disks, errp) < 0) {
        return NULL;
    }
    info->name = g_strdup(vol->sb.name);
    info->uuid = qemu_uuid_unparse_strdup(&vol->sb.uuid);
    info->capacity = vol->sb.segment_count << vol->sb.segment_bits;
    info->free = free << vol->sb.segment_bits;
    info->segment_size = 1ULL << vol->sb.segment_bits;
    info->cluster_size = CSV_CLUSTER_SIZE;
    info->subcluster_size = CSV_SUBCLUSTER_SIZE;
    csv_add_node_names(info, &vol->sb.uuid);
    return g_steal_pointer(&info);
}

static CsvVolumeInfo *csv_query_child(BdrvChild *file, Error **errp)
{
    CsvVolumeInfo *info;
    CsvVolume *vol;

    GRAPH_RDLOCK_GUARD_MAINLOOP();

    vol = csv_volume_get(file, errp);
    if (!vol) {
        return NULL;
    }
    info = csv_query_volume(vol, file, errp);
    csv_volume_put(vol);
    return info;
}

/* No disk of the volume need be open: a BlockBackend of our own reaches it. */
static CsvVolumeInfo *csv_query_node(BlockDriverState *bs, Error **errp)
{
    CsvVolumeInfo *info;
    BlockBackend *blk = blk_new_with_bs(bs, BLK_PERM_CONSISTENT_READ,
                                        BLK_PERM_ALL, errp);

    if (!blk) {
        return NULL;
    }
    info = csv_query_child(csv_blk_child(blk), errp);
    blk_unref(blk);
    return info;
}

/* The first open volume with the UUID of @vol stands for all of them. */
static bool csv_is_first(CsvVolume *vol)
{
    CsvVolume *other = csv_volume_next(NULL);

    while (!qemu_uuid_is_equal(&other->sb.uuid, &vol->sb.uuid)) {
        other = csv_volume_next(other);
    }
    return other == vol;
}

CsvVolumeInfoList *qmp_query_csv_volumes(const char *node_name, Error **errp)
{
    g_autoptr(CsvVolumeInfoList) list = NULL;
    CsvVolumeInfoList **tail = &list;
    g_autoptr(GPtrArray) nodes = g_ptr_array_new();
    CsvVolume *vol;
    guint i;

    if (node_name) {
        BlockDriverState *bs = bdrv_lookup_bs(NULL, node_name, errp);

        if (!bs) {
            return NULL;
        }
        g_ptr_array_add(nodes, bs);
    } else {
        for (vol = csv_volume_next(NULL); vol; vol = csv_volume_next(vol)) {
            if (csv_is_first(vol)) {
                g_ptr_array_add(nodes, vol->bs);
            }
        }
    }
    for (i = 0; i < nodes->len; i++) {
        CsvVolumeInfo *info = csv_query_node(g_ptr_array_index(nodes, i),
                                             errp);

        if (!info) {
            return NULL;
        }
        QAPI_LIST_APPEND(tail, info);
    }
    return g_steal_pointer(&list);
}

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

/*
 * What a command does with a volume: @arg is the command's.  Attached, and the
 * graph is locked.
 */
typedef int CsvCommand(CsvVolume *vol, BdrvChild *file, const char *disk,
                       const void *arg, Error **errp);

static void csv_run_child(BdrvChild *file, CsvCommand *fn, const char *disk,
                          const void *arg, Error **errp)
{
    CsvVolume *vol;

    GRAPH_RDLOCK_GUARD_MAINLOOP();

    vol = csv_volume_get(file, errp);
    if (!vol) {
        return;
    }
    if (csv_member_attach(vol, file, errp) >= 0) {
        fn(vol, file, disk, arg, errp);
        csv_member_detach(vol, file);
    }
    csv_volume_put(vol);
}

static void csv_run(const char *volume, CsvCommand *fn, const char *disk,
                    const void *arg, Error **errp)
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
    csv_run_child(csv_blk_child(blk), fn, disk, arg, errp);
    blk_unref(blk);
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
    full = csv_use_is_full(disk_bs->opaque);
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
