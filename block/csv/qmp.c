/*
 * Cluster shared volume: QMP commands that change something
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/aio-wait.h"
#include "block/csv.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-csv.h"
#include "qemu/job.h"
#include "qobject/qdict.h"
#include "system/block-backend.h"
#include "block/csv/disk/disk.h"
#include "way.h"

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

/* What a command does with a volume: @arg is the command's. */
typedef int coroutine_fn CsvCommand(CsvVolume *vol, BdrvChild *file,
                                    const char *disk, void *arg,
                                    Error **errp);

static int coroutine_fn csv_run_child(BdrvChild *file, bool attach,
                                      CsvCommand *fn, const char *disk,
                                      void *arg, Error **errp)
{
    CsvVolume *vol;
    int ret;

    GRAPH_RDLOCK_GUARD();

    vol = csv_volume_get(file, errp);
    if (!vol) {
        return -EINVAL;
    }
    if (!attach) {
        ret = fn(vol, file, disk, arg, errp);
    } else {
        ret = csv_member_attach(vol, file, errp);
        if (ret >= 0) {
            ret = fn(vol, file, disk, arg, errp);
            csv_member_detach(vol, file);
        }
    }
    csv_volume_put(vol);
    return ret;
}

/* Call @fn for the volume on @bs, as a member of it if @attach. */
static int coroutine_fn csv_run_on(BlockDriverState *bs, bool attach,
                                   CsvCommand *fn, const char *disk,
                                   void *arg, Error **errp)
{
    CsvWay way;
    int ret;

    if (!csv_way_open(&way, bs, true, errp)) {
        return -EPERM;
    }
    ret = csv_run_child(way.file, attach, fn, disk, arg, errp);
    csv_way_close(&way);
    return ret;
}

static int coroutine_fn csv_run(const char *volume, CsvCommand *fn,
                                const char *disk, void *arg, Error **errp)
{
    BlockDriverState *bs = csv_find_volume(volume, errp);

    return bs ? csv_run_on(bs, true, fn, disk, arg, errp) : -ENOENT;
}

static int coroutine_fn GRAPH_RDLOCK
csv_run_delete(CsvVolume *vol, BdrvChild *file, const char *disk,
               void *progress, Error **errp)
{
    return csv_disk_delete(vol, file, disk, progress, errp);
}

/* csv_delete_disk() */
typedef struct CsvDelete {
    BlockDriverState *volume;
    const char *disk;
    Error **errp;
    int ret;
    bool done;
} CsvDelete;

static void coroutine_fn csv_delete_entry(void *opaque)
{
    CsvDelete *d = opaque;

    d->ret = csv_run_on(d->volume, true, csv_run_delete, d->disk, NULL,
                        d->errp);
    d->done = true;
    aio_wait_kick();
}

bool csv_delete_disk(BlockDriverState *volume, const char *disk, Error **errp)
{
    CsvDelete d = { .volume = volume, .disk = disk, .errp = errp };

    GLOBAL_STATE_CODE();
    aio_co_enter(qemu_get_aio_context(),
                 qemu_coroutine_create(csv_delete_entry, &d));
    AIO_WAIT_WHILE_UNLOCKED(NULL, !d.done);
    return d.ret >= 0;
}

/* A command that takes long, as a job or without one */
typedef struct CsvJob {
    Job common;
    char *volume;
    char *disk;
    uint64_t size;
} CsvJob;

static void csv_job_free(Job *job)
{
    CsvJob *s = container_of(job, CsvJob, common);

    g_free(s->volume);
    g_free(s->disk);
}

/* A job that stopped halfway would leave a disk of no use: it completes. */
static bool csv_job_cancel(Job *job, bool force)
{
    return false;
}

static void csv_job_start(const JobDriver *driver, const char *id,
                          const char *volume, const char *disk, uint64_t size,
                          Error **errp)
{
    CsvJob *s;

    if (!csv_find_volume(volume, errp)) {
        return;
    }
    s = job_create(id, driver, NULL, qemu_get_aio_context(),
                   JOB_DEFAULT | JOB_MANUAL_DISMISS, NULL, NULL, errp);
    if (s) {
        s->volume = g_strdup(volume);
        s->disk = g_strdup(disk);
        s->size = size;
        job_start(&s->common);
    }
}

static int coroutine_fn csv_job_delete_run(Job *job, Error **errp)
{
    CsvJob *s = container_of(job, CsvJob, common);

    return csv_run(s->volume, csv_run_delete, s->disk, &job->progress, errp);
}

static const JobDriver csv_job_delete = {
    .instance_size = sizeof(CsvJob),
    .job_type      = JOB_TYPE_CSV_DISK_DELETE,
    .run           = csv_job_delete_run,
    .cancel        = csv_job_cancel,
    .free          = csv_job_free,
};

void coroutine_fn qmp_csv_disk_delete(const char *volume, const char *disk,
                                      const char *job_id, Error **errp)
{
    if (job_id) {
        csv_job_start(&csv_job_delete, job_id, volume, disk, 0, errp);
    } else {
        csv_run(volume, csv_run_delete, disk, NULL, errp);
    }
}

static int coroutine_fn GRAPH_RDLOCK
csv_run_rename(CsvVolume *vol, BdrvChild *file, const char *disk,
               void *new_name, Error **errp)
{
    return csv_disk_rename(vol, file, disk, new_name, errp);
}

void coroutine_fn qmp_csv_disk_rename(const char *volume, const char *disk,
                                      const char *new_name, Error **errp)
{
    csv_run(volume, csv_run_rename, disk, (void *)new_name, errp);
}

static int coroutine_fn GRAPH_RDLOCK
csv_run_describe(CsvVolume *vol, BdrvChild *file, const char *disk,
                 void *text, Error **errp)
{
    return csv_disk_describe(vol, file, disk, text, errp);
}

void coroutine_fn qmp_csv_disk_describe(const char *volume, const char *disk,
                                        const char *description, Error **errp)
{
    csv_run(volume, csv_run_describe, disk, (void *)description, errp);
}

static int coroutine_fn GRAPH_RDLOCK
csv_run_flags(CsvVolume *vol, BdrvChild *file, const char *disk,
              void *flags, Error **errp)
{
    return csv_disk_set_flags(vol, file, disk, *(uint32_t *)flags, errp);
}

void coroutine_fn qmp_csv_disk_seal(const char *volume, const char *disk,
                                    bool has_seal, bool seal, Error **errp)
{
    uint32_t flags = !has_seal || seal ? CSV_DISK_SEALED : 0;

    csv_run(volume, csv_run_flags, disk, &flags, errp);
}

/* A disk is shared only if no write can need space. */
static bool coroutine_fn csv_check_full(BlockDriverState *bs,
                                        const char *disk, Error **errp)
{
    QDict *options = qdict_new();
    BlockDriverState *disk_bs;
    bool full;

    qdict_put_str(options, "driver", "csv");
    qdict_put_str(options, "file", bdrv_get_node_name(bs));
    qdict_put_str(options, "disk", disk);
    disk_bs = bdrv_co_open(NULL, NULL, options, 0, errp);
    if (!disk_bs) {
        return false;
    }
    WITH_GRAPH_RDLOCK_GUARD() {
        full = csv_map_is_full(disk_bs->opaque);
    }
    bdrv_co_unref(disk_bs);
    if (!full) {
        error_setg(errp, "Disk '%s' cannot be shared: not all of it is "
                   "allocated; make it with preallocation=full", disk);
    }
    return full;
}

void coroutine_fn qmp_csv_disk_share(const char *volume, const char *disk,
                                     bool has_share, bool share,
                                     Error **errp)
{
    uint32_t flags = !has_share || share ? CSV_DISK_SHARED : 0;
    BlockDriverState *bs = csv_find_volume(volume, errp);

    if (bs && (!flags || csv_check_full(bs, disk, errp))) {
        csv_run(volume, csv_run_flags, disk, &flags, errp);
    }
}

static int coroutine_fn GRAPH_RDLOCK
csv_run_grow(CsvVolume *vol, BdrvChild *file, const char *disk, void *size,
             Error **errp)
{
    return csv_volume_grow(vol, file, *(uint64_t *)size, errp);
}

/* Make the node itself larger, if it is smaller than @size. */
static int coroutine_fn csv_enlarge(const char *volume, uint64_t size,
                                    Error **errp)
{
    BlockDriverState *bs = csv_find_volume(volume, errp);
    BlockBackend *blk;
    int64_t have;
    int ret = 0;

    if (!bs) {
        return -ENOENT;
    }
    bdrv_ref(bs);
    blk = blk_co_new_with_bs(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_RESIZE,
                             BLK_PERM_ALL, errp);
    bdrv_co_unref(bs);
    if (!blk) {
        return -EPERM;
    }
    have = blk_co_getlength(blk);
    if (have < 0) {
        error_setg_errno(errp, -have, "Cannot find the size of csv volume "
                         "'%s'", volume);
        ret = have;
    } else if (have < size) {
        ret = blk_co_truncate(blk, size, false, PREALLOC_MODE_OFF, 0, errp);
    }
    blk_co_unref(blk);
    return ret;
}

static int coroutine_fn csv_grow(const char *volume, uint64_t size,
                                 Error **errp)
{
    int ret = size ? csv_enlarge(volume, size, errp) : 0;

    return ret < 0 ? ret : csv_run(volume, csv_run_grow, NULL, &size, errp);
}

static int coroutine_fn csv_job_grow_run(Job *job, Error **errp)
{
    CsvJob *s = container_of(job, CsvJob, common);
    int ret;

    job_progress_set_remaining(job, 1);
    ret = csv_grow(s->volume, s->size, errp);
    job_progress_update(job, 1);
    return ret;
}

static const JobDriver csv_job_grow = {
    .instance_size = sizeof(CsvJob),
    .job_type      = JOB_TYPE_CSV_VOLUME_GROW,
    .run           = csv_job_grow_run,
    .cancel        = csv_job_cancel,
    .free          = csv_job_free,
};

void coroutine_fn qmp_csv_volume_grow(const char *volume, bool has_size,
                                      uint64_t size, const char *job_id,
                                      Error **errp)
{
    if (has_size && (size == 0 || size > CSV_MAX_VOLUME_SIZE)) {
        error_setg(errp, "Parameter 'size' must be from 1 to %" PRIu64,
                   (uint64_t)CSV_MAX_VOLUME_SIZE);
        return;
    }
    size = has_size ? size : 0;
    if (job_id) {
        csv_job_start(&csv_job_grow, job_id, volume, NULL, size, errp);
    } else {
        csv_grow(volume, size, errp);
    }
}

static int coroutine_fn GRAPH_RDLOCK
csv_run_set_threshold(CsvVolume *vol, BdrvChild *file, const char *disk,
                      void *threshold, Error **errp)
{
    if (vol->refs == 1) {
        error_setg(errp, "No disk of csv volume '%s' is open through node "
                   "'%s', so nothing here takes space; open one first",
                   csv_volume_label(vol), bdrv_get_node_name(vol->bs));
        return -EINVAL;
    }
    return csv_space_set_threshold(vol, file, *(uint64_t *)threshold,
                                   errp);
}

void coroutine_fn
qmp_csv_volume_set_threshold(const char *volume, uint64_t threshold,
                             Error **errp)
{
    csv_run(volume, csv_run_set_threshold, NULL, &threshold, errp);
}

static int coroutine_fn GRAPH_RDLOCK
csv_run_evict(CsvVolume *vol, BdrvChild *file, const char *disk,
              void *arg, Error **errp)
{
    const CsvMemberInfo *member = arg;

    return csv_member_evict(vol, file, member->id, member->incarnation, errp);
}

void coroutine_fn qmp_csv_member_evict(const char *volume, uint32_t member,
                                       uint64_t incarnation, Error **errp)
{
    CsvMemberInfo which = { .id = member, .incarnation = incarnation };
    BlockDriverState *bs = csv_find_volume(volume, errp);

    if (bs) {
        /* Perhaps no slot is free to become a member. */
        csv_run_on(bs, false, csv_run_evict, NULL, &which, errp);
    }
}
