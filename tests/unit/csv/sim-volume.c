/*
 * Volumes on the block device in memory
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block.h"
#include "block/block_int.h"
#include "qapi/error.h"
#include "qapi/qapi-types-block-core.h"
#include "qemu/coroutine.h"
#include "qemu/main-loop.h"
#include "qemu/units.h"
#include "qobject/qdict.h"
#include "sim-device.h"
#include "sim-volume.h"

#define PAIR_DEVICE_SIZE (256 * MiB)

typedef struct Create {
    BlockdevCreateOptions opts;
    Error **errp;
    bool done;
} Create;

static void coroutine_fn create_entry(void *opaque)
{
    Create *c = opaque;

    bdrv_find_format("csv")->bdrv_co_create(&c->opts, c->errp);
    c->done = true;
}

void sim_disk_create(const char *disk, uint64_t size, const char *backing,
                     uint64_t volume, Error **errp)
{
    QDict *options = qdict_new();
    BlockdevRef ref = { .type = QTYPE_QSTRING };
    Create c = {
        .opts = {
            .driver = BLOCKDEV_DRIVER_CSV,
            .u.csv = {
                .file = &ref,
                .size = size,
                .disk = (char *)disk,
                .backing_disk = (char *)backing,
                .volume = (char *)(volume ? "vol" : NULL),
                .has_volume_size = volume,
                .volume_size = volume,
                .has_segment_size = volume,
                .segment_size = SIM_SEGMENT_SIZE,
            },
        },
        .errp = errp,
    };
    BlockDriverState *bs;

    qdict_put_str(options, "driver", "csv-sim");
    bs = bdrv_open(NULL, NULL, options, BDRV_O_RDWR | BDRV_O_RESIZE,
                   &error_abort);
    ref.u.reference = (char *)bdrv_get_node_name(bs);
    aio_co_enter(qemu_get_aio_context(),
                 qemu_coroutine_create(create_entry, &c));
    while (!c.done) {
        aio_poll(qemu_get_aio_context(), true);
    }
    bdrv_unref(bs);
}

BlockDriverState *sim_node_open(const char *node)
{
    QDict *options = qdict_new();

    qdict_put_str(options, "driver", "csv-sim");
    qdict_put_str(options, "node-name", node);
    return bdrv_open(NULL, NULL, options, BDRV_O_RDWR | BDRV_O_RESIZE,
                     &error_abort);
}

void sim_pair_start(void)
{
    sim_device_new(PAIR_DEVICE_SIZE);
    sim_disk_create("one", SIM_DISK_SIZE, NULL, PAIR_DEVICE_SIZE,
                    &error_abort);
    sim_disk_create("two", SIM_DISK_SIZE, NULL, 0, &error_abort);
    sim_node_open("a");
    sim_node_open("b");
}

void sim_pair_stop(void)
{
    bdrv_unref(bdrv_lookup_bs("a", "a", NULL));
    bdrv_unref(bdrv_lookup_bs("b", "b", NULL));
    sim_device_free();
}

BlockBackend *sim_disk_open(const char *node, const char *disk)
{
    QDict *options = qdict_new();

    qdict_put_str(options, "driver", "csv");
    qdict_put_str(options, "disk", disk);
    qdict_put_str(options, "file", node);
    return blk_new_open(NULL, NULL, options, BDRV_O_RDWR | BDRV_O_UNMAP,
                        &error_abort);
}
