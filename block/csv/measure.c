/*
 * Cluster shared volume: required size of a volume
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-types-block-core.h"
#include "qapi/util.h"
#include "qemu/option.h"
#include "block/block-io.h"
#include "driver.h"

/* Number of clusters of @in_bs that are not zero; or -errno with @errp set. */
static int64_t csv_measure_data(BlockDriverState *in_bs, int64_t size,
                                Error **errp)
{
    int64_t offset, bytes, last = -1, clusters = 0;

    for (offset = 0; offset < size; offset += bytes) {
        int ret = bdrv_block_status_above(in_bs, NULL, offset, size - offset,
                                          &bytes, NULL, NULL);
        int64_t from = offset >> CSV_CLUSTER_BITS, to;

        if (ret < 0) {
            error_setg_errno(errp, -ret, "Cannot get the block status of node "
                             "'%s'", bdrv_get_node_name(in_bs));
            return ret;
        }
        if (ret & BDRV_BLOCK_ZERO || !(ret & BDRV_BLOCK_DATA)) {
            continue;
        }
        to = (offset + bytes - 1) >> CSV_CLUSTER_BITS;
        clusters += to - MAX(from, last + 1) + 1;
        last = to;
    }
    return clusters;
}

/* Size of a volume with one disk of @size bytes and @data clusters of data. */
static uint64_t csv_measure_volume(uint64_t size, uint64_t data)
{
    uint64_t clusters = DIV_ROUND_UP(size, CSV_CLUSTER_SIZE);
    uint64_t tables = MIN(data, DIV_ROUND_UP(clusters, CSV_L2_ENTRIES));

    return csv_volume_bytes(size, 1 + data +
                            DIV_ROUND_UP(tables, CSV_L2_PER_CLUSTER));
}

BlockMeasureInfo *csv_measure(QemuOpts *opts, BlockDriverState *in_bs,
                              Error **errp)
{
    uint64_t size = qemu_opt_get_size_del(opts, BLOCK_OPT_SIZE, 0);
    g_autofree char *backing = qemu_opt_get_del(opts, BLOCK_OPT_BACKING_FILE);
    g_autofree char *prealloc = qemu_opt_get_del(opts, BLOCK_OPT_PREALLOC);
    BlockMeasureInfo *info;
    Error *err = NULL;
    int mode = qapi_enum_parse(&PreallocMode_lookup, prealloc,
                               PREALLOC_MODE_OFF, &err);
    int64_t data = 0;

    if (err) {
        error_propagate(errp, err);
        return NULL;
    }

    if (in_bs) {
        int64_t length = bdrv_getlength(in_bs);

        if (length < 0) {
            error_setg_errno(errp, -length, "Cannot find the size of node "
                             "'%s'", bdrv_get_node_name(in_bs));
            return NULL;
        }
        size = length;
    }
    if (size > CSV_MAX_DISK_SIZE) {
        error_setg(errp, "A csv disk has at most %" PRIu64 " bytes",
                   (uint64_t)CSV_MAX_DISK_SIZE);
        return NULL;
    }
    if (in_bs && !backing) {
        data = csv_measure_data(in_bs, size, errp);
        if (data < 0) {
            return NULL;
        }
    }
    /* It is unknown which clusters are equal in the backing image. */
    if ((in_bs && backing) || mode != PREALLOC_MODE_OFF) {
        data = DIV_ROUND_UP(size, CSV_CLUSTER_SIZE);
    }
    info = g_new0(BlockMeasureInfo, 1);
    info->required = csv_measure_volume(size, data);
    info->fully_allocated =
        csv_measure_volume(size, DIV_ROUND_UP(size, CSV_CLUSTER_SIZE));
    return info;
}
