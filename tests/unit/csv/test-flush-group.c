/*
 * Flushes that come while one is under way share the next one
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block_int.h"
#include "qapi/error.h"
#include "qemu/coroutine.h"
#include "qemu/main-loop.h"
#include "qemu/units.h"
#include "system/block-backend.h"

#define FLUSHES 8

static struct {
    unsigned flushes;
    int result;             /* of the flushes that end from now on */
    Coroutine *held;        /* the flush that is under way */
} storage;

static int coroutine_fn held_co_flush_to_disk(BlockDriverState *bs)
{
    storage.flushes++;
    g_assert(!storage.held);
    storage.held = qemu_coroutine_self();
    qemu_coroutine_yield();
    return storage.result;
}

static int coroutine_fn held_co_pwritev(BlockDriverState *bs, int64_t offset,
                                        int64_t bytes, QEMUIOVector *qiov,
                                        BdrvRequestFlags flags)
{
    return 0;
}

static int64_t coroutine_fn held_co_getlength(BlockDriverState *bs)
{
    return 64 * KiB;
}

static BlockDriver bdrv_held = {
    .format_name            = "held",
    .bdrv_co_getlength      = held_co_getlength,
    .bdrv_co_pwritev        = held_co_pwritev,
    .bdrv_co_flush_to_disk  = held_co_flush_to_disk,
};

static void let_one_go(void)
{
    Coroutine *co = g_steal_pointer(&storage.held);

    g_assert(co);
    aio_co_wake(co);
    while (aio_poll(qemu_get_aio_context(), false)) {
        /* whatever follows */
    }
}

static void ended(void *opaque, int ret)
{
    *(int *)opaque = ret;
}

static void writing(BlockBackend *blk)
{
    uint8_t buf[512] = { 0 };

    g_assert_cmpint(blk_pwrite(blk, 0, sizeof(buf), buf, 0), ==, 0);
}

static BlockBackend *begin(int *ret)
{
    BlockDriverState *bs;
    BlockBackend *blk;
    unsigned i;

    memset(&storage, 0, sizeof(storage));
    bs = bdrv_new_open_driver(&bdrv_held, "held", BDRV_O_RDWR, &error_abort);
    blk = blk_new(qemu_get_aio_context(), BLK_PERM_ALL, BLK_PERM_ALL);
    blk_insert_bs(blk, bs, &error_abort);
    bdrv_unref(bs);
    for (i = 0; i < FLUSHES; i++) {
        ret[i] = -EINPROGRESS;
        writing(blk);
        blk_aio_flush(blk, ended, &ret[i]);
    }
    g_assert_cmpuint(storage.flushes, ==, 1);
    return blk;
}

static void end(BlockBackend *blk)
{
    g_assert(!storage.held);
    blk_unref(blk);
}

static void test_shared(void)
{
    int ret[FLUSHES];
    BlockBackend *blk = begin(ret);
    unsigned i;

    /* It began before the others were asked for: they must not end with it. */
    let_one_go();
    g_assert_cmpint(ret[0], ==, 0);
    for (i = 1; i < FLUSHES; i++) {
        g_assert_cmpint(ret[i], ==, -EINPROGRESS);
    }
    g_assert_cmpuint(storage.flushes, ==, 2);
    let_one_go();
    for (i = 1; i < FLUSHES; i++) {
        g_assert_cmpint(ret[i], ==, 0);
    }
    g_assert_cmpuint(storage.flushes, ==, 2);
    end(blk);
}

static void test_failed(void)
{
    int ret[FLUSHES];
    BlockBackend *blk = begin(ret);
    unsigned i;

    let_one_go();
    storage.result = -EIO;
    let_one_go();
    /* A failure is told to one; the others are not served by it. */
    g_assert_cmpint(ret[1], ==, -EIO);
    for (i = 2; i < FLUSHES; i++) {
        g_assert_cmpint(ret[i], ==, -EINPROGRESS);
    }
    storage.result = 0;
    let_one_go();
    for (i = 2; i < FLUSHES; i++) {
        g_assert_cmpint(ret[i], ==, 0);
    }
    g_assert_cmpuint(storage.flushes, ==, 3);
    end(blk);
}

/* What was written while a flush was under way needs another one. */
static void test_later_write(void)
{
    int ret[FLUSHES], late = -EINPROGRESS;
    BlockBackend *blk = begin(ret);

    let_one_go();
    writing(blk);
    blk_aio_flush(blk, ended, &late);
    let_one_go();
    g_assert_cmpint(ret[FLUSHES - 1], ==, 0);
    g_assert_cmpint(late, ==, -EINPROGRESS);
    g_assert_cmpuint(storage.flushes, ==, 3);
    let_one_go();
    g_assert_cmpint(late, ==, 0);
    end(blk);
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/csv/flush-group/shared", test_shared);
    g_test_add_func("/csv/flush-group/failed", test_failed);
    g_test_add_func("/csv/flush-group/later-write", test_later_write);
    return g_test_run();
}
