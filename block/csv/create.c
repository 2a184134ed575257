/*
 * Cluster shared volume: formatting volumes, creating disks
 *
 * With option 'disk' but without 'volume', a disk is created in an existing
 * volume without changing its other content.  Otherwise a volume is formatted
 * and, if a size is given, a first disk is created in it.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-types-block-core.h"
#include "qapi/qapi-visit-block-core.h"
#include "qobject/qdict.h"
#include "qapi/qobject-input-visitor.h"
#include "block/qdict.h"
#include "qemu/cutils.h"
#include "qemu/memalign.h"
#include "qemu/option.h"
#include "system/block-backend.h"
#include "driver.h"

#define CSV_OPT_VOLUME          "volume"
#define CSV_OPT_VOLUME_SIZE     "volume_size"
#define CSV_OPT_SEGMENT_SIZE    "segment_size"

/* Smaller volumes get tables for fewer members and disks. */
#define CSV_SMALL_VOLUME        (64 * GiB)
#define CSV_SMALL_MEMBERS       64
#define CSV_SMALL_DISKS         1024
/* The default segment size is chosen for up to this many segments. */
#define CSV_DEFAULT_SEGMENTS    1024
#define CSV_DEFAULT_SEGMENT_BITS_MAX 30

QemuOptsList csv_create_opts = {
    .name = "csv-create-opts",
    .head = QTAILQ_HEAD_INITIALIZER(csv_create_opts.head),
    .desc = {
        {
            .name = BLOCK_OPT_SIZE,
            .type = QEMU_OPT_SIZE,
            .help = "Size of the disk; 0: make a volume without disk"
        },
        {
            .name = CSV_OPT_DISK,
            .type = QEMU_OPT_STRING,
            .help = "Name of the disk; without 'volume', it is added to the "
                    "volume that is there"
        },
        {
            .name = CSV_OPT_BACKING_DISK,
            .type = QEMU_OPT_STRING,
            .help = "Name of the disk of the same volume that this one is "
                    "based on"
        },
        {
            .name = BLOCK_OPT_BACKING_FILE,
            .type = QEMU_OPT_STRING,
            .help = "File name of a base image"
        },
        {
            .name = BLOCK_OPT_BACKING_FMT,
            .type = QEMU_OPT_STRING,
            .help = "Format of the base image"
        },
        {
            .name = BLOCK_OPT_PREALLOC,
            .type = QEMU_OPT_STRING,
            .help = "Preallocation mode of the disk (allowed values: off, "
                    "metadata, falloc, full)"
        },
        {
            .name = CSV_OPT_VOLUME,
            .type = QEMU_OPT_STRING,
            .help = "Name of the new volume"
        },
        {
            .name = CSV_OPT_VOLUME_SIZE,
            .type = QEMU_OPT_SIZE,
            .help = "Size of the new volume (default: what the disk needs, "
                    "and it grows)"
        },
        {
            .name = CSV_OPT_SEGMENT_SIZE,
            .type = QEMU_OPT_SIZE,
            .help = "Unit in which space is handed to disks, a power of two"
        },
        { /* end of list */ }
    }
};

/* Clusters of a fully allocated disk of @size bytes, with its metadata. */
static uint64_t csv_full_clusters(uint64_t size)
{
    uint64_t clusters = DIV_ROUND_UP(size, CSV_CLUSTER_SIZE);
    uint64_t tables = DIV_ROUND_UP(clusters, CSV_L2_ENTRIES);

    return 1 + DIV_ROUND_UP(tables, CSV_L2_PER_CLUSTER) + clusters;
}

static int csv_choose_segment_bits(const BlockdevCreateOptionsCsv *opts,
                                   uint64_t space, Error **errp)
{
    int bits = CSV_MIN_SEGMENT_BITS;

    if (opts->has_segment_size) {
        if (!is_power_of_2(opts->segment_size) ||
            opts->segment_size < 1ULL << CSV_MIN_SEGMENT_BITS ||
            opts->segment_size > 1ULL << CSV_MAX_SEGMENT_BITS) {
            error_setg(errp, "The segment size of a csv volume is a power of "
                       "two from 8 MiB to 64 GiB");
            return -EINVAL;
        }
        return ctz64(opts->segment_size);
    }
    while (bits < CSV_DEFAULT_SEGMENT_BITS_MAX &&
           space >> bits > CSV_DEFAULT_SEGMENTS) {
        bits++;
    }
    return bits;
}

/* Set all fields of @sb except uuid and name. */
static int csv_choose_layout(const BlockdevCreateOptionsCsv *opts,
                             CsvSuperblock *sb, Error **errp)
{
    uint64_t space = opts->has_volume_size ? opts->volume_size :
                     csv_full_clusters(opts->size) << CSV_CLUSTER_BITS;
    bool small = space < CSV_SMALL_VOLUME;
    uint64_t segments;
    int bits = csv_choose_segment_bits(opts, space, errp);

    if (bits < 0) {
        return bits;
    }
    segments = DIV_ROUND_UP(space, 1ULL << bits);
    sb->segment_bits = bits;
    sb->member_slots = small ? CSV_SMALL_MEMBERS : CSV_MAX_MEMBERS;
    sb->disk_slots = small ? CSV_SMALL_DISKS : CSV_MAX_DISKS;
    /* Large enough for the volume to grow: the table is sparse. */
    sb->segment_slots = MIN(MAX(segments * 64, 8192), CSV_MAX_SEGMENTS);
    sb->segment_slots = MIN(sb->segment_slots, CSV_MAX_VOLUME_SIZE >> bits);
    sb->member_offset = CSV_TABLES_OFFSET;
    sb->disk_offset = sb->member_offset +
                      (uint64_t)sb->member_slots * CSV_PAGE_SIZE;
    sb->segment_offset = sb->disk_offset +
                         (uint64_t)sb->disk_slots * CSV_PAGE_SIZE;
    sb->data_offset = ROUND_UP(sb->segment_offset +
                               csv_segment_pages(sb->segment_slots) *
                               CSV_PAGE_SIZE, CSV_CLUSTER_SIZE);
    if (opts->has_volume_size) {
        uint64_t least = csv_segment_start(sb, 1);

        if (space < least) {
            error_setg(errp, "A csv volume with segments of %" PRIu64
                       " bytes needs at least %" PRIu64 " bytes",
                       (uint64_t)1 << bits, least);
            return -EINVAL;
        }
        segments = (space - sb->data_offset) >> bits;
    } else {
        segments = MAX(segments, 1);
        sb->compatible |= CSV_COMPAT_GROW;
    }
    if (segments > sb->segment_slots ||
        segments > (CSV_MAX_VOLUME_SIZE - sb->data_offset) >> bits) {
        error_setg(errp, "A csv volume has at most %" PRIu64 " segments and %"
                   PRIu64 " bytes; use larger segments or fewer",
                   sb->segment_slots, (uint64_t)CSV_MAX_VOLUME_SIZE);
        return -EFBIG;
    }
    sb->segment_count = segments;
    return 0;
}

uint64_t csv_volume_bytes(uint64_t size, uint64_t clusters)
{
    const BlockdevCreateOptionsCsv opts = { .size = size };
    CsvSuperblock sb = { 0 };

    csv_choose_layout(&opts, &sb, &error_abort);
    return sb.data_offset + ROUND_UP(clusters << CSV_CLUSTER_BITS,
                                     1ULL << sb.segment_bits);
}

/* Fail if @file holds a volume that is in use. */
static int coroutine_fn GRAPH_RDLOCK
csv_check_unused(BdrvChild *file, Error **errp)
{
    CsvVolume *vol = csv_volume_get(file, NULL);
    g_autofree char *who = NULL;
    int ret = 0;

    if (!vol) {
        return 0;
    }
    if (vol->refs > 1) {
        error_setg(errp, "csv volume '%s' is open in this process",
                   csv_volume_label(vol));
        ret = -EBUSY;
    } else if (csv_member_other(vol, file, &who)) {
        error_setg(errp, "csv volume '%s' is in use (%s)",
                   csv_volume_label(vol), who);
        ret = -EBUSY;
    }
    csv_volume_put(vol);
    return ret;
}

/* Grow the node to the size of the volume, unless it is large enough. */
static int coroutine_fn GRAPH_RDLOCK
csv_provide_space(BdrvChild *file, CsvSuperblock *sb, Error **errp)
{
    uint64_t want = csv_segment_start(sb, sb->segment_count);
    int64_t have = bdrv_co_getlength(file->bs);

    if (have < 0) {
        error_setg_errno(errp, -have, "Cannot find the size of node '%s'",
                         bdrv_get_node_name(file->bs));
        return have;
    }
    if (have >= want) {
        if (sb->compatible & CSV_COMPAT_GROW && have > want) {
            /* A device cannot grow: use all of it. */
            sb->segment_count = MIN(sb->segment_slots,
                                    (have - sb->data_offset) >>
                                    sb->segment_bits);
            sb->compatible &= ~CSV_COMPAT_GROW;
        }
        return 0;
    }
    return bdrv_co_truncate(file, want, false, PREALLOC_MODE_OFF, 0, errp);
}

static int coroutine_fn GRAPH_RDLOCK
csv_write_superblock(BdrvChild *file, const CsvSuperblock *sb, unsigned copy)
{
    QEMU_AUTO_VFREE uint8_t *buf = qemu_blockalign0(file->bs, CSV_PAGE_SIZE);

    csv_superblock_encode(sb, copy, buf);
    return bdrv_co_pwrite(file, copy ? CSV_SB_COPY_1 : CSV_SB_COPY_0,
                          CSV_PAGE_SIZE, buf, BDRV_REQ_FUA);
}

static int coroutine_fn GRAPH_RDLOCK
csv_format(BdrvChild *file, const BlockdevCreateOptionsCsv *opts,
           Error **errp)
{
    CsvSuperblock sb = {
        .created = g_get_real_time() / G_USEC_PER_SEC,
        .generation = 1,
    };
    int ret;

    if (opts->volume) {
        if (strlen(opts->volume) > CSV_VOLUME_NAME_MAX ||
            !g_utf8_validate(opts->volume, -1, NULL)) {
            error_setg(errp, "The name of a csv volume has at most %d bytes "
                       "of UTF-8", CSV_VOLUME_NAME_MAX);
            return -EINVAL;
        }
        pstrcpy(sb.name, sizeof(sb.name), opts->volume);
    }
    qemu_uuid_generate(&sb.uuid);
    ret = csv_choose_layout(opts, &sb, errp);
    if (ret < 0) {
        return ret;
    }
    ret = csv_check_unused(file, errp);
    if (ret < 0) {
        return ret;
    }
    ret = csv_provide_space(file, &sb, errp);
    if (ret < 0) {
        return ret;
    }
    /* Clear the old superblock first, write the new one last. */
    ret = bdrv_co_pwrite_zeroes(file, 0, sb.data_offset, BDRV_REQ_MAY_UNMAP);
    if (ret >= 0) {
        ret = bdrv_co_flush(file->bs);
    }
    if (ret >= 0) {
        ret = csv_write_superblock(file, &sb, 1);
    }
    if (ret >= 0) {
        ret = csv_write_superblock(file, &sb, 0);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot format a csv volume on node '%s'",
                         bdrv_get_node_name(file->bs));
    }
    return ret;
}

/*
 * Join the volume and begin to create a disk in it.  On success
 * csv_add_disk_end() must follow.
 */
static int coroutine_fn GRAPH_RDLOCK
csv_add_disk_begin(CsvVolume *vol, BdrvChild *file,
                   const BlockdevCreateOptionsCsv *opts, CsvMaking *making,
                   Error **errp)
{
    uint64_t size = ROUND_UP(opts->size, BDRV_SECTOR_SIZE);
    CsvHeader header = { 0 };
    int ret = csv_member_attach(vol, file, errp);

    if (ret < 0) {
        return ret;
    }
    ret = csv_backing_create(vol, file, opts, &header, &size, errp);
    if (ret >= 0) {
        ret = csv_disk_make_begin(vol, file, opts->disk ?: CSV_DEFAULT_DISK,
                                  size, &header, making, errp);
    }
    if (ret < 0) {
        csv_member_detach(vol, file);
    }
    return ret;
}

static int coroutine_fn GRAPH_RDLOCK
csv_add_disk_end(CsvVolume *vol, BdrvChild *file, CsvMaking *making, int ret,
                 Error **errp)
{
    ret = csv_disk_make_end(vol, file, making, ret, errp);
    csv_member_detach(vol, file);
    return ret;
}

/* Preallocate a disk under creation, through a temporary node. */
static int coroutine_fn GRAPH_UNLOCKED
csv_preallocate_new(BlockBackend *blk, const CsvMaking *making,
                    PreallocMode mode, Error **errp)
{
    char uuid[UUID_STR_LEN];
    QDict *options = qdict_new();
    BlockBackend *disk;
    int ret;

    qemu_uuid_unparse(&making->rec.uuid, uuid);
    qdict_put_str(options, "driver", "csv");
    qdict_put_str(options, "file", bdrv_get_node_name(blk_bs(blk)));
    qdict_put_str(options, CSV_OPT_DISK, making->rec.name);
    qdict_put_str(options, CSV_OPT_MAKING, uuid);
    disk = blk_co_new_open(NULL, NULL, options, BDRV_O_RDWR | BDRV_O_RESIZE |
                           BDRV_O_NO_BACKING, errp);
    if (!disk) {
        return -EIO;
    }
    WITH_GRAPH_RDLOCK_GUARD() {
        ret = csv_preallocate(blk_bs(disk), 0, making->rec.size, mode, errp);
    }
    blk_co_unref(disk);
    return ret;
}

static int coroutine_fn GRAPH_UNLOCKED
csv_add_disk(BlockBackend *blk, const BlockdevCreateOptionsCsv *opts,
             Error **errp)
{
    ERRP_GUARD();
    BdrvChild *file = csv_blk_child(blk);
    CsvVolume *vol;
    CsvMaking making;
    int ret;

    WITH_GRAPH_RDLOCK_GUARD() {
        vol = csv_volume_get(file, errp);
        if (!vol) {
            error_append_hint(errp, "To format a volume, give it a name with "
                              "the option 'volume'.\n");
            return -EINVAL;
        }
        ret = csv_add_disk_begin(vol, file, opts, &making, errp);
    }
    if (ret >= 0) {
        if (opts->preallocation != PREALLOC_MODE_OFF) {
            ret = csv_preallocate_new(blk, &making, opts->preallocation, errp);
        }
        WITH_GRAPH_RDLOCK_GUARD() {
            ret = csv_add_disk_end(vol, file, &making, ret, errp);
        }
    }
    csv_volume_put(vol);
    return ret;
}

static bool csv_check_create_options(const BlockdevCreateOptionsCsv *opts,
                                     bool format, Error **errp)
{
    if (opts->disk && !csv_disk_name_check(opts->disk, errp)) {
        return false;
    }
    if (opts->size > CSV_MAX_DISK_SIZE) {
        error_setg(errp, "A csv disk has at most %" PRIu64 " bytes",
                   (uint64_t)CSV_MAX_DISK_SIZE);
        return false;
    }
    if (!format && (opts->has_volume_size || opts->has_segment_size)) {
        error_setg(errp, "The sizes of volume and segments can be given only "
                   "for a new volume; name it with the option 'volume'");
        return false;
    }
    if (opts->preallocation > PREALLOC_MODE_METADATA &&
        (opts->backing_disk || opts->backing_file)) {
        error_setg(errp, "A csv disk with a backing image can be preallocated "
                   "with 'metadata' only: data would hide what is below");
        return false;
    }
    return true;
}

static bool csv_wants_format(const BlockdevCreateOptionsCsv *opts)
{
    return opts->volume || !opts->disk;
}

static int coroutine_fn GRAPH_UNLOCKED
csv_create_on(BlockBackend *blk, const BlockdevCreateOptionsCsv *opts,
              bool format, Error **errp)
{
    int ret = 0;

    if (format) {
        GRAPH_RDLOCK_GUARD();

        ret = csv_format(csv_blk_child(blk), opts, errp);
    }
    if (ret >= 0 && (!format || opts->size || opts->disk)) {
        ret = csv_add_disk(blk, opts, errp);
    }
    return ret;
}

int coroutine_fn GRAPH_UNLOCKED
csv_co_create(BlockdevCreateOptions *create_options, Error **errp)
{
    BlockdevCreateOptionsCsv *opts = &create_options->u.csv;
    bool format = csv_wants_format(opts);
    BlockDriverState *bs;
    BlockBackend *blk;
    int ret = 0;

    assert(create_options->driver == BLOCKDEV_DRIVER_CSV);
    if (!csv_check_create_options(opts, format, errp)) {
        return -EINVAL;
    }
    bs = bdrv_co_open_blockdev_ref(opts->file, errp);
    if (!bs) {
        return -EIO;
    }
    blk = blk_co_new_with_bs(bs, BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE |
                             BLK_PERM_RESIZE, BLK_PERM_ALL, errp);
    if (!blk) {
        ret = -EPERM;
        goto out;
    }
    blk_set_allow_write_beyond_eof(blk, true);

    ret = csv_create_on(blk, opts, format, errp);
    blk_co_unref(blk);
out:
    bdrv_co_unref(bs);
    return ret;
}

/*
 * Creating a file truncates an existing one, so first check that it does not
 * hold a volume in use.
 */
static int coroutine_fn GRAPH_UNLOCKED
csv_check_unused_file(const char *filename, Error **errp)
{
    BlockDriverState *bs = bdrv_co_open(filename, NULL, NULL,
                                        BDRV_O_RDWR | BDRV_O_PROTOCOL, NULL);
    BlockBackend *blk;
    int ret = -EPERM;

    if (!bs) {
        return 0;       /* does not exist, or creating it will fail, too */
    }
    blk = blk_co_new_with_bs(bs, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL, errp);
    if (blk) {
        WITH_GRAPH_RDLOCK_GUARD() {
            ret = csv_check_unused(csv_blk_child(blk), errp);
        }
        blk_co_unref(blk);
    }
    bdrv_co_unref(bs);
    return ret;
}

int coroutine_fn GRAPH_UNLOCKED
csv_co_create_opts(BlockDriver *drv, const char *filename, QemuOpts *opts,
                   Error **errp)
{
    static const QDictRenames renames[] = {
        { CSV_OPT_VOLUME_SIZE, "volume-size" },
        { CSV_OPT_SEGMENT_SIZE, "segment-size" },
        { CSV_OPT_BACKING_DISK, "backing-disk" },
        { BLOCK_OPT_BACKING_FILE, "backing-file" },
        { BLOCK_OPT_BACKING_FMT, "backing-fmt" },
        { NULL, NULL },
    };
    BlockdevCreateOptions *create_options = NULL;
    BlockDriver *protocol = bdrv_find_protocol(filename, true, errp);
    BlockDriverState *bs = NULL;
    bool format = qemu_opt_get(opts, CSV_OPT_VOLUME) ||
                  !qemu_opt_get(opts, CSV_OPT_DISK);
    bool device;
    QDict *qdict;
    Visitor *v;
    int ret = -EINVAL;

    if (!protocol) {
        return -ENOENT;
    }
    device = !strcmp(protocol->format_name, "host_device");

    qdict = qemu_opts_to_qdict_filtered(opts, NULL, &csv_create_opts, true);
    if (!qdict_rename_keys(qdict, renames, errp)) {
        goto out;
    }
    if (format) {
        ret = csv_check_unused_file(filename, errp);
        if (ret < 0) {
            goto out;
        }
        ret = -EINVAL;
    }
    /* A device exists already, and must not be cleared while in use. */
    if (format && !device) {
        ret = bdrv_co_create_file(filename, opts, errp);
        if (ret < 0) {
            goto out;
        }
    }
    bs = bdrv_co_open(filename, NULL, NULL,
                      BDRV_O_RDWR | BDRV_O_RESIZE | BDRV_O_PROTOCOL |
                      (device ? BDRV_O_NOCACHE : 0), errp);
    if (!bs) {
        ret = -EIO;
        goto out;
    }
    qdict_put_str(qdict, "driver", "csv");
    qdict_put_str(qdict, "file", bs->node_name);
    ret = -EINVAL;
    v = qobject_input_visitor_new_flat_confused(qdict, errp);
    if (!v) {
        goto out;
    }
    visit_type_BlockdevCreateOptions(v, NULL, &create_options, errp);
    visit_free(v);
    if (create_options) {
        ret = csv_co_create(create_options, errp);
    }
out:
    qobject_unref(qdict);
    bdrv_co_unref(bs);
    qapi_free_BlockdevCreateOptions(create_options);
    return ret;
}
