/*
 * Cluster shared volume: free space and its threshold
 *
 * Free space is counted in segments, by reading the segment table: for a query,
 * periodically by each open disk (see holding.c), and, if a threshold is set,
 * when this process claims or frees a segment.  Segments are claimed ahead of
 * need, so this does not delay a guest's write, and the event is sent before a
 * write fails.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-events-csv.h"
#include "volume.h"

/* Free bytes, including those by which the volume can still grow. */
static int coroutine_mixed_fn GRAPH_RDLOCK
csv_space_left(CsvVolume *vol, BdrvChild *file, uint64_t *left, Error **errp)
{
    uint64_t segments;
    int ret = csv_segments_count(vol, file, NULL, &segments, errp);

    if (ret < 0) {
        return ret;
    }
    if (vol->sb.compatible & CSV_COMPAT_GROW) {
        segments += csv_volume_max_segments(&vol->sb) - vol->sb.segment_count;
    }
    *left = segments << vol->sb.segment_bits;
    return 0;
}

static int coroutine_mixed_fn GRAPH_RDLOCK
csv_space_inspect_now(CsvVolume *vol, BdrvChild *file, Error **errp)
{
    uint64_t threshold = qatomic_read(&vol->threshold), left;
    int ret = csv_space_left(vol, file, &left, errp);
    bool low;

    if (ret < 0) {
        return ret;
    }
    low = left < threshold;
    if (!qatomic_xchg(&vol->low, low) && low) {
        qapi_event_send_csv_volume_threshold(
            csv_volume_label(vol), bdrv_get_node_name(vol->bs),
            vol->sb.segment_count << vol->sb.segment_bits, left, threshold);
    }
    return 0;
}

int coroutine_mixed_fn csv_space_count(CsvVolume *vol, BdrvChild *file)
{
    return csv_space_inspect_now(vol, file, NULL);
}

void coroutine_mixed_fn csv_space_inspect(CsvVolume *vol, BdrvChild *file)
{
    /* A read error is reported by the next operation that needs the volume. */
    if (qatomic_read(&vol->threshold)) {
        csv_space_inspect_now(vol, file, NULL);
    }
}

int csv_space_set_threshold(CsvVolume *vol, BdrvChild *file, uint64_t free,
                            Error **errp)
{
    qatomic_set(&vol->threshold, free);
    qatomic_set(&vol->low, false);
    return csv_space_inspect_now(vol, file, errp);
}

/* Raise the number of segments to @count.  It never decreases. */
static bool csv_volume_count_edit(CsvSuperblock *sb, uint64_t count)
{
    if (sb->segment_count >= count) {
        return false;
    }
    sb->segment_count = count;
    return true;
}

int csv_volume_grow(CsvVolume *vol, BdrvChild *file, uint64_t size,
                    Error **errp)
{
    const CsvSuperblock *sb = &vol->sb;
    uint64_t most, count;
    int64_t have;
    int ret = csv_volume_refresh(vol, file, errp);

    if (ret < 0) {
        return ret;
    }
    ret = csv_refresh_length(file->bs);
    have = ret < 0 ? ret : bdrv_getlength(file->bs);
    if (have < 0) {
        error_setg_errno(errp, -have, "Cannot find the size of node '%s'",
                         bdrv_get_node_name(file->bs));
        return have;
    }
    size = size ?: have;
    assert(size <= have);
    most = csv_volume_max_segments(sb);
    count = size < sb->data_offset ? 0 :
            (size - sb->data_offset) >> sb->segment_bits;
    if (count <= sb->segment_count) {
        error_setg(errp, "csv volume '%s' has %" PRIu64 " segments already, "
                   "and %" PRIu64 " bytes have room for %" PRIu64 "; one more "
                   "needs %" PRIu64 " bytes", csv_volume_label(vol),
                   sb->segment_count, size, count,
                   csv_segment_start(sb, sb->segment_count + 1));
        return -EINVAL;
    }
    if (count > most) {
        error_setg(errp, "csv volume '%s' can have %" PRIu64 " segments, %"
                   PRIu64 " bytes, at most; a volume made with larger "
                   "segments can have more", csv_volume_label(vol), most,
                   csv_segment_start(sb, most));
        return -EFBIG;
    }
    ret = csv_superblock_change(vol, file, csv_volume_count_edit, count, errp);
    if (ret >= 0) {
        csv_space_inspect(vol, file);
    }
    return ret;
}
