/*
 * Cluster shared volume: the superblock, open volumes
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/memalign.h"
#include "system/block-backend.h"
#include "volume.h"
#include "trace/trace-block_csv.h"

static QLIST_HEAD(, CsvVolume) csv_volumes =
    QLIST_HEAD_INITIALIZER(csv_volumes);

BdrvChild *csv_volume_way(CsvVolume *vol)
{
    guint i;

    for (i = 0; i < vol->ways->len; i++) {
        if (csv_may_write(g_ptr_array_index(vol->ways, i))) {
            return g_ptr_array_index(vol->ways, i);
        }
    }
    return NULL;
}

bool csv_may_write(BdrvChild *file)
{
    return (file->perm & BLK_PERM_WRITE) &&
           !(file->bs->open_flags & BDRV_O_INACTIVE);
}

/*
 * Copy 0 is valid.  Copy 1 is used only if copy 0 is damaged, not if copy 0 is
 * intact but not usable by this program.  Copy 1 may be one generation older,
 * and then only lacks a slot or a segment that was about to be used.
 */
static int GRAPH_RDLOCK
csv_superblock_read(BdrvChild *file, CsvSuperblock *sb, Error **errp)
{
    uint8_t buf[CSV_RECORD_SIZE];
    Error *err = NULL;
    int ret;

    ret = csv_record_read(file, CSV_SB_COPY_0, buf);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read the superblock of the csv "
                         "volume on node '%s'", bdrv_get_node_name(file->bs));
        return ret;
    }
    if (csv_superblock_decode(buf, 0, sb, &err)) {
        return 0;
    }
    if (csv_superblock_damaged(buf) &&
        csv_record_read(file, CSV_SB_COPY_1, buf) >= 0 &&
        csv_superblock_decode(buf, 1, sb, NULL)) {
        warn_report("csv volume on node '%s': %s; its second copy is used",
                    bdrv_get_node_name(file->bs), error_get_pretty(err));
        error_free(err);
        return 0;
    }
    error_propagate_prepend(errp, err, "Node '%s' holds no usable csv volume: ",
                            bdrv_get_node_name(file->bs));
    return -EINVAL;
}

/*
 * Only these fields ever change.  Another thread may do the same at once; if
 * that mixes two versions, the next compare-and-write fails and reads them
 * again.
 */
static void csv_superblock_adopt(CsvVolume *vol, const CsvSuperblock *sb)
{
    if (sb->generation < qatomic_read(&vol->sb.generation)) {
        return;     /* another coroutine has changed it since @sb was read */
    }
    qatomic_set(&vol->sb.compatible, sb->compatible);
    qatomic_set(&vol->sb.autoclear, sb->autoclear);
    qatomic_set(&vol->sb.disk_high, sb->disk_high);
    qatomic_set(&vol->sb.segment_count, sb->segment_count);
    qatomic_set(&vol->sb.generation, sb->generation);
}

static bool csv_superblock_same_layout(const CsvSuperblock *a,
                                       const CsvSuperblock *b)
{
    return qemu_uuid_is_equal(&a->uuid, &b->uuid) &&
           a->segment_bits == b->segment_bits &&
           a->member_slots == b->member_slots &&
           a->disk_slots == b->disk_slots &&
           a->segment_slots == b->segment_slots &&
           a->member_offset == b->member_offset &&
           a->disk_offset == b->disk_offset &&
           a->segment_offset == b->segment_offset &&
           a->data_offset == b->data_offset;
}

int csv_volume_refresh(CsvVolume *vol, BdrvChild *file, Error **errp)
{
    CsvSuperblock sb;
    int ret = csv_superblock_read(file, &sb, errp);

    if (ret < 0) {
        return ret;
    }
    if (!csv_superblock_same_layout(&sb, &vol->sb)) {
        error_setg(errp, "The csv volume '%s' on node '%s' was replaced by "
                   "another; close its disks and open them again",
                   csv_volume_label(vol), bdrv_get_node_name(file->bs));
        return -ESTALE;
    }
    csv_superblock_adopt(vol, &sb);
    return 0;
}

/*
 * Read @copy into @buf, for the comparison.  Encoding vol->sb would not do,
 * because reserved bytes may be set, and a damaged copy has to be replaced.
 * -EAGAIN if the copy is intact but not of the generation before @generation;
 * copy 1 may also be older, or unusable.
 */
static int GRAPH_RDLOCK
csv_superblock_old(CsvVolume *vol, BdrvChild *file, unsigned copy,
                   uint64_t generation, uint8_t *buf)
{
    CsvSuperblock sb;
    int ret = csv_record_read(file, copy ? CSV_SB_COPY_1 : CSV_SB_COPY_0, buf);

    if (ret < 0 || csv_superblock_damaged(buf)) {
        return ret;
    }
    if (!csv_superblock_decode(buf, copy, &sb, NULL) ||
        !csv_superblock_same_layout(&sb, &vol->sb)) {
        return copy ? 0 : -EAGAIN;
    }
    return (copy ? sb.generation < generation
                 : sb.generation == generation - 1) ? 0 : -EAGAIN;
}

/*
 * sb->generation must be the generation on the volume; vol->sb may be newer by
 * now.  It is no error if copy 1 cannot be written, or if a later change has
 * written it already: it is only read if copy 0 is damaged.
 */
int csv_superblock_swap(CsvVolume *vol, BdrvChild *file, CsvSuperblock *sb,
                        Error **errp)
{
    uint8_t old[CSV_RECORD_SIZE], new[CSV_RECORD_SIZE];
    unsigned copy;
    int ret;

    sb->generation++;
    for (copy = 0; copy < 2; copy++) {
        uint64_t offset = copy ? CSV_SB_COPY_1 : CSV_SB_COPY_0;

        csv_superblock_encode(sb, copy, new);
        ret = csv_superblock_old(vol, file, copy, sb->generation, old);
        if (ret >= 0) {
            ret = csv_record_swap(vol, file, offset, old, new);
        }
        if (copy == 0 && ret < 0) {
            if (ret != -EAGAIN) {
                error_setg_errno(errp, -ret, "Cannot change the superblock of "
                                 "csv volume '%s'", csv_volume_label(vol));
            }
            return ret;
        }
    }
    csv_superblock_adopt(vol, sb);
    return 0;
}

int csv_superblock_change(CsvVolume *vol, BdrvChild *file,
                          CsvSuperblockEdit *edit, uint64_t arg, Error **errp)
{
    int tries, ret;

    for (tries = 0; tries < CSV_SWAP_TRIES; tries++) {
        CsvSuperblock sb = vol->sb;

        if (!edit(&sb, arg)) {
            return 0;
        }
        ret = csv_superblock_swap(vol, file, &sb, errp);
        if (ret != -EAGAIN) {
            return ret;
        }
        ret = csv_volume_refresh(vol, file, errp);
        if (ret < 0) {
            return ret;
        }
    }
    error_setg(errp, "The superblock of csv volume '%s' keeps changing; try "
               "again", csv_volume_label(vol));
    return -EBUSY;
}

static bool csv_superblock_clear_edit(CsvSuperblock *sb, uint64_t known)
{
    if (!(sb->autoclear & ~known)) {
        return false;
    }
    sb->autoclear &= known;
    return true;
}

int csv_superblock_clear(CsvVolume *vol, BdrvChild *file, Error **errp)
{
    return csv_superblock_change(vol, file, csv_superblock_clear_edit,
                                 CSV_AUTOCLEAR_KNOWN, errp);
}

int csv_refresh_length(BlockDriverState *bs)
{
    BlockDriverState *below = bdrv_primary_bs(bs);
    int ret = below ? csv_refresh_length(below) : 0;

    return ret < 0 ? ret : bdrv_refresh_total_sectors(bs, bs->total_sectors);
}

/* The missing part of a truncated volume would read as zeroes. */
static bool GRAPH_RDLOCK
csv_check_length(BdrvChild *file, const CsvSuperblock *sb, Error **errp)
{
    bool grows = sb->compatible & CSV_COMPAT_GROW;
    uint64_t want = csv_segment_start(sb, grows ? 0 : sb->segment_count);
    int64_t have = csv_refresh_length(file->bs);

    if (have >= 0) {
        have = bdrv_getlength(file->bs);
    }
    if (have < 0) {
        error_setg_errno(errp, -have, "Cannot find the size of node '%s'",
                         bdrv_get_node_name(file->bs));
        return false;
    }
    if (have < want) {
        error_setg(errp, "Node '%s' holds no usable csv volume: superblock: "
                   "field '%s': the volume has at least %" PRIu64 " bytes, "
                   "but the node only %" PRId64,
                   bdrv_get_node_name(file->bs),
                   grows ? "data_offset" : "segment_count", want, have);
        return false;
    }
    return true;
}

/* A reference to the volume on @bs, or NULL if it is not open. */
static CsvVolume *csv_volume_ref(BlockDriverState *bs)
{
    CsvVolume *vol;

    QLIST_FOREACH(vol, &csv_volumes, next) {
        if (vol->bs == bs) {
            vol->refs++;
            return vol;
        }
    }
    return NULL;
}

CsvVolume *csv_volume_get(BdrvChild *file, Error **errp)
{
    CsvVolume *vol = csv_volume_ref(file->bs);
    CsvSuperblock sb;

    if (vol) {
        return vol;
    }
    if (file->bs->bl.request_alignment > CSV_PAGE_SIZE) {
        error_setg(errp, "A csv volume needs blocks of at most %d bytes; node "
                   "'%s' has %" PRIu32, CSV_PAGE_SIZE,
                   bdrv_get_node_name(file->bs),
                   file->bs->bl.request_alignment);
        return NULL;
    }
    if (csv_superblock_read(file, &sb, errp) < 0 ||
        !csv_check_length(file, &sb, errp)) {
        return NULL;
    }
    vol = csv_volume_ref(file->bs);
    if (vol) {
        return vol;     /* opened while we read the superblock */
    }
    vol = g_new0(CsvVolume, 1);
    vol->bs = file->bs;
    vol->refs = 1;
    vol->sb = sb;
    qemu_uuid_unparse(&sb.uuid, vol->uuid);
    vol->ways = g_ptr_array_new();
    qemu_co_mutex_init(&vol->member_lock);
    csv_gate_init(&vol->gate);
    QLIST_INIT(&vol->disks);
    QLIST_INSERT_HEAD(&csv_volumes, vol, next);
    trace_csv_volume_open(vol, bdrv_get_node_name(vol->bs),
                          csv_volume_label(vol));
    return vol;
}

void csv_volume_put(CsvVolume *vol)
{
    assert(vol->refs > 0);
    if (--vol->refs) {
        return;
    }
    assert(vol->attached == 0);
    assert(QLIST_EMPTY(&vol->disks));
    trace_csv_volume_close(vol);
    assert(!vol->leave.running);
    QLIST_REMOVE(vol, next);
    timer_free(vol->leave.timer);
    csv_gate_destroy(&vol->gate);
    g_ptr_array_free(vol->ways, true);
    g_free(vol->peers);
    g_free(vol);
}

/* blk_root() returns a const pointer; the functions here do I/O through it. */
BdrvChild *csv_blk_child(BlockBackend *blk)
{
    return (BdrvChild *)blk_root(blk);
}

CsvVolume *csv_volume_next(CsvVolume *vol)
{
    return vol ? QLIST_NEXT(vol, next) : QLIST_FIRST(&csv_volumes);
}

uint64_t csv_volume_max_segments(const CsvSuperblock *sb)
{
    return MIN(sb->segment_slots,
               (CSV_MAX_VOLUME_SIZE - sb->data_offset) >> sb->segment_bits);
}
