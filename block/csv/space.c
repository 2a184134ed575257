/*
 * Cluster shared volume: how much of it is left, and who wants to know
 *
 * Space is counted in segments, by reading the segment table.  That is done
 * when somebody asks, by each open disk now and then (see holding.c), and, if
 * somebody wants to be told, when a disk of this process claims a segment or
 * one is freed here.  Segments are claimed ahead of need, so this is not in
 * the way of a guest's write, and the event comes before a write is refused.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-events-csv.h"
#include "csv.h"

/* Bytes that no disk has, and that the volume may grow by itself. */
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
csv_space_look_at(CsvVolume *vol, BdrvChild *file, Error **errp)
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
    return csv_space_look_at(vol, file, NULL);
}

void coroutine_mixed_fn csv_space_look(CsvVolume *vol, BdrvChild *file)
{
    /* If the volume cannot be read, whoever needs it will say so. */
    if (qatomic_read(&vol->threshold)) {
        csv_space_look_at(vol, file, NULL);
    }
}

int csv_space_set_threshold(CsvVolume *vol, BdrvChild *file, uint64_t free,
                            Error **errp)
{
    qatomic_set(&vol->threshold, free);
    qatomic_set(&vol->low, false);
    return csv_space_look_at(vol, file, errp);
}
