/*
 * Cluster shared volume: the block driver
 *
 * A csv node is one disk of a volume; the node below it holds the volume.
 * Opening a disk for writing makes the process a member of the volume and the
 * owner of the disk; closing or inactivating the node releases the disk.  So
 * the volume itself enforces the rule of the block layer that only the process
 * in which an image is active writes it.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/util.h"
#include "qemu/error-report.h"
#include "qemu/memalign.h"
#include "qemu/module.h"
#include "qemu/option.h"
#include "block/csv.h"
#include "block/csv/check/check.h"
#include "driver.h"
#include "open.h"
#include "trace/trace-block_csv.h"

static QemuOptsList csv_runtime_opts = {
    .name = "csv",
    .head = QTAILQ_HEAD_INITIALIZER(csv_runtime_opts.head),
    .desc = {
        {
            .name = CSV_OPT_DISK,
            .type = QEMU_OPT_STRING,
            .help = "Name of the disk in the volume",
        },
        {
            .name = CSV_OPT_FORCE_TAKEOVER,
            .type = QEMU_OPT_BOOL,
            .help = "Take the disk from an owner that cannot be seen",
        },
        {
            .name = CSV_OPT_CACHE_SIZE,
            .type = QEMU_OPT_SIZE,
            .help = "Bytes of the disk's map that are kept in memory",
        },
        {
            .name = CSV_OPT_MAKING,
            .type = QEMU_OPT_STRING,
            .help = "For use by the driver itself",
        },
        { /* end of list */ }
    },
};

static int csv_probe_image(const uint8_t *buf, int bytes,
                           const char *filename)
{
    return csv_probe(buf, bytes) ? 100 : 0;
}

static int csv_absorb_options(CsvDisk *disk, QDict *options, Error **errp)
{
    g_autoptr(QemuOpts) opts =
        qemu_opts_create(&csv_runtime_opts, NULL, 0, &error_abort);
    g_autofree char *making = NULL;

    if (!qemu_opts_absorb_qdict(opts, options, errp)) {
        return -EINVAL;
    }
    disk->name = qemu_opt_get_del(opts, CSV_OPT_DISK);
    disk->force_takeover = qemu_opt_get_bool_del(opts, CSV_OPT_FORCE_TAKEOVER,
                                                 false);
    disk->cache_size = qemu_opt_get_size_del(opts, CSV_OPT_CACHE_SIZE,
                                             CSV_DEFAULT_CACHE_SIZE);
    making = qemu_opt_get_del(opts, CSV_OPT_MAKING);
    if (making && qemu_uuid_parse(making, &disk->made) < 0) {
        error_setg(errp, "'%s' is not a UUID", making);
        return -EINVAL;
    }
    return 0;
}

static void csv_disk_init(CsvDisk *disk, BlockDriverState *bs)
{
    unsigned i;

    disk->bs = bs;
    disk->segments = g_array_new(false, false, sizeof(CsvSegment));
    disk->freed = g_array_new(false, false, sizeof(CsvDiscard));
    disk->discards = g_array_new(false, false, sizeof(CsvDiscard));
    disk->cached = g_array_new(false, false, sizeof(uint32_t));
    disk->doubtful = g_array_new(false, false, sizeof(uint32_t));
    qemu_mutex_init(&disk->map_lock);
    qemu_co_mutex_init(&disk->load_lock);
    QLIST_INIT(&disk->loading);
    for (i = 0; i < CSV_PLACE_LOCKS; i++) {
        qemu_co_mutex_init(&disk->place_lock[i]);
    }
    qemu_co_mutex_init(&disk->make_lock);
    qemu_co_mutex_init(&disk->scan_lock);
    qemu_co_mutex_init(&disk->claim_lock);
    qemu_mutex_init(&disk->alloc_lock);
    qemu_co_mutex_init(&disk->flush_lock);
    QLIST_INIT(&disk->allocating);
}

/* Free everything in @disk, which must not be owned any more. */
static void GRAPH_RDLOCK
csv_disk_clear(CsvDisk *disk)
{
    assert(!disk->owned);
    csv_adjust_stop(disk);
    csv_map_drop(disk);
    csv_segments_drop(disk);
    g_array_free(disk->segments, true);
    g_array_free(disk->freed, true);
    g_array_free(disk->discards, true);
    g_array_free(disk->cached, true);
    g_array_free(disk->doubtful, true);
    if (disk->attached) {
        csv_disk_detach(disk);
    }
    disk->bs->file->frozen = false;
    if (disk->volume) {
        QLIST_REMOVE(disk, next);
        csv_volume_put(disk->volume);
        disk->volume = NULL;
    }
    qemu_mutex_destroy(&disk->map_lock);
    qemu_mutex_destroy(&disk->alloc_lock);
    g_free(disk->name);
}

/*
 * The state of a volume belongs to the node below, which also holds its locks.
 * So while the disk is open no other node may replace it, neither by a reopen
 * nor by a job that inserts a filter.
 */
static bool GRAPH_RDLOCK csv_pin_file(BlockDriverState *bs, Error **errp)
{
    BlockDriverState *file = bs->file->bs;

    if (file->never_freeze ||
        (file->drv && !strcmp(file->drv->format_name, "copy-before-write"))) {
        error_setg(errp, "Node '%s' belongs to a job, which will remove it; "
                   "open the csv volume on the node below",
                   bdrv_get_node_name(file));
        return false;
    }
    bs->file->frozen = true;
    return true;
}

static int csv_open(BlockDriverState *bs, QDict *options, int flags,
                    Error **errp)
{
    CsvDisk *disk = bs->opaque;
    int ret = bdrv_open_file_child(NULL, options, "file", bs, errp);

    if (ret < 0) {
        return ret;
    }
    GRAPH_RDLOCK_GUARD_MAINLOOP();

    bs->supported_zero_flags = BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK;
    bs->supported_truncate_flags = BDRV_REQ_ZERO_WRITE;
    csv_disk_init(disk, bs);
    ret = csv_absorb_options(disk, options, errp);
    if (ret >= 0) {
        ret = csv_pin_file(bs, errp) ? csv_open_disk(disk, flags, errp)
                                     : -EBUSY;
    }
    if (ret < 0) {
        csv_disk_clear(disk);
    } else if (!disk->name) {
        disk->name = g_strdup(disk->record.name);
    }
    return MIN(ret, 0);
}

/* The block layer has tried to flush the disk before. */
static void csv_close(BlockDriverState *bs)
{
    CsvDisk *disk = bs->opaque;
    Error *err = NULL;

    GRAPH_RDLOCK_GUARD_MAINLOOP();

    if (disk->owned) {
        int ret = bdrv_flush(bs);

        if (ret < 0) {
            error_report("Cannot flush disk '%s' of csv volume '%s': %s; what "
                         "was written since the last flush is lost",
                         disk->record.name, csv_volume_label(disk->volume),
                         strerror(-ret));
        }
        if (csv_disk_let_go(disk, NULL, &err) < 0) {
            error_report_err(err);
            disk->owned = false;
        }
    }
    csv_disk_clear(disk);
}

static int GRAPH_RDLOCK csv_inactivate(BlockDriverState *bs)
{
    CsvDisk *disk = bs->opaque;
    QemuUUID token = csv_handover_token();
    Error *err = NULL;
    int ret = 0;

    if (disk->owned) {
        ret = bdrv_flush(bs);
        if (ret < 0) {
            error_report("Cannot release disk '%s' of csv volume '%s': its "
                         "flush failed: %s", disk->record.name,
                         csv_volume_label(disk->volume), strerror(-ret));
        } else {
            ret = csv_disk_let_go(disk, qemu_uuid_is_null(&token) ? NULL
                                                                  : &token,
                                  &err);
            if (ret < 0) {
                error_report_err(err);
            }
        }
    }
    disk->leaving = false;      /* the node's permissions are refreshed next */
    if (ret >= 0 && disk->attached) {
        csv_leave_soon(disk->volume);
    }
    trace_csv_inactivate(bs, ret);
    return ret;
}

static void coroutine_fn GRAPH_RDLOCK
csv_co_invalidate_cache(BlockDriverState *bs, Error **errp)
{
    CsvDisk *disk = bs->opaque;
    QemuUUID token = csv_handover_token();
    int ret;

    if (disk->owned) {
        return;
    }
    if (bdrv_is_read_only(bs)) {
        ret = csv_disk_begin_read(disk, errp);
    } else {
        ret = csv_disk_activate(disk, qemu_uuid_is_null(&token) ? NULL
                                                                : &token,
                                errp);
    }
    trace_csv_activate(bs, ret);
}

static void csv_child_perm(BlockDriverState *bs, BdrvChild *c,
                           BdrvChildRole role,
                           BlockReopenQueue *reopen_queue,
                           uint64_t perm, uint64_t shared,
                           uint64_t *nperm, uint64_t *nshared)
{
    CsvDisk *disk = bs->opaque;

    bdrv_default_perms(bs, c, role, reopen_queue, perm, shared, nperm,
                       nshared);
    if (role & BDRV_CHILD_COW) {
        return;
    }
    if (disk->claiming_node || disk->leaving || disk->owned ||
        (disk->use && !(bs->open_flags & BDRV_O_INACTIVE))) {
        *nperm |= BLK_PERM_WRITE | BLK_PERM_RESIZE;
    }
    /* The volume is shared; its records say which member writes what. */
    *nshared = BLK_PERM_ALL;
}

static void csv_refresh_limits(BlockDriverState *bs, Error **errp)
{
    bs->bl.pwrite_zeroes_alignment = CSV_SUBCLUSTER_SIZE;
    bs->bl.pdiscard_alignment = CSV_SUBCLUSTER_SIZE;
}

static int64_t coroutine_fn csv_co_getlength(BlockDriverState *bs)
{
    CsvDisk *disk = bs->opaque;

    return disk->record.size;
}

static int coroutine_fn csv_co_get_info(BlockDriverState *bs,
                                        BlockDriverInfo *bdi)
{
    bdi->cluster_size = CSV_SUBCLUSTER_SIZE;
    return 0;
}

static int coroutine_fn GRAPH_RDLOCK
csv_co_check(BlockDriverState *bs, BdrvCheckResult *res, BdrvCheckMode fix)
{
    CsvDisk *disk = bs->opaque;
    CsvVolume *vol = disk->volume;
    Error *err = NULL;
    int ret = disk->whole
              ? csv_check_volume(vol, bs->file, res, fix, &err)
              : csv_check_disk(vol, bs->file, &disk->record, res, fix, &err);

    if (ret < 0) {
        error_report_err(err);
        res->check_errors++;
    }
    return ret;
}

static int64_t coroutine_fn
csv_co_get_allocated_file_size(BlockDriverState *bs)
{
    return csv_disk_used(bs->opaque);
}

static ImageInfoSpecific *csv_get_specific_info(BlockDriverState *bs,
                                                Error **errp)
{
    CsvDisk *disk = bs->opaque;
    ImageInfoSpecific *info = g_new0(ImageInfoSpecific, 1);
    ImageInfoSpecificCsv *csv = g_new0(ImageInfoSpecificCsv, 1);

    csv->volume = g_strdup(disk->volume->sb.name);
    csv->volume_uuid = qemu_uuid_unparse_strdup(&disk->volume->sb.uuid);
    csv->disk = g_strdup(disk->record.name);
    csv->uuid = qemu_uuid_unparse_strdup(&disk->record.uuid);
    if (disk->record.description[0]) {
        csv->description = g_strdup(disk->record.description);
    }
    csv->state = csv_disk_state(disk->record.state);
    csv->epoch = disk->record.epoch;
    csv->segment_size = 1ULL << disk->volume->sb.segment_bits;
    csv->segments = disk->segments->len;

    info->type = IMAGE_INFO_SPECIFIC_KIND_CSV;
    info->u.csv.data = csv;
    return info;
}

static const char *const csv_strong_runtime_opts[] = {
    CSV_OPT_DISK,
    NULL
};

static BlockDriver bdrv_csv = {
    .format_name                    = "csv",
    .instance_size                  = sizeof(CsvDisk),
    .is_format                      = true,
    .supports_backing               = true,
    .create_opts                    = &csv_create_opts,
    .amend_opts                     = &csv_amend_opts,
    .strong_runtime_opts            = csv_strong_runtime_opts,

    .bdrv_probe                     = csv_probe_image,
    .bdrv_open                      = csv_open,
    .bdrv_close                     = csv_close,
    .bdrv_reopen_prepare            = csv_reopen_prepare,
    .bdrv_reopen_commit_post        = csv_reopen_commit_post,
    .bdrv_reopen_abort              = csv_reopen_abort,
    .bdrv_child_perm                = csv_child_perm,
    .bdrv_inactivate                = csv_inactivate,
    .bdrv_co_invalidate_cache       = csv_co_invalidate_cache,
    .bdrv_refresh_limits            = csv_refresh_limits,

    .bdrv_co_create                 = csv_co_create,
    .bdrv_co_create_opts            = csv_co_create_opts,
    .bdrv_has_zero_init             = bdrv_has_zero_init_1,
    .bdrv_amend_options             = csv_amend,

    .bdrv_co_preadv_part            = csv_co_preadv_part,
    .bdrv_co_pwritev_part           = csv_co_pwritev_part,
    .bdrv_co_pwrite_zeroes          = csv_co_pwrite_zeroes,
    .bdrv_co_pdiscard               = csv_co_pdiscard,
    .bdrv_co_change_backing_file    = csv_co_change_backing_file,
    .bdrv_co_flush                  = csv_co_flush,
    .bdrv_co_block_status           = csv_co_block_status,
    .bdrv_co_truncate               = csv_co_truncate,

    .bdrv_co_getlength              = csv_co_getlength,
    .bdrv_co_check                  = csv_co_check,
    .bdrv_measure                   = csv_measure,
    .bdrv_co_can_store_new_dirty_bitmap = csv_co_can_store_new_dirty_bitmap,
    .bdrv_co_get_info               = csv_co_get_info,
    .bdrv_co_get_allocated_file_size = csv_co_get_allocated_file_size,
    .bdrv_get_specific_info         = csv_get_specific_info,
};

bool csv_node_uuid(BlockDriverState *bs, QemuUUID *uuid)
{
    CsvDisk *disk = bs->opaque;

    if (bs->drv == &bdrv_csv) {
        *uuid = disk->record.uuid;
    }
    return bs->drv == &bdrv_csv;
}

static void csv_init(void)
{
    bdrv_register(&bdrv_csv);
}

block_init(csv_init);
