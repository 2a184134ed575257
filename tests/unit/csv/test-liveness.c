/*
 * Liveness locks of the block layer
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block.h"
#include "qapi/error.h"
#include "qobject/qdict.h"
#include "shared-image.h"

#define LOCK(blk, id, op) \
    bdrv_liveness_lock(blk_bs(blk), id, BDRV_LIVENESS_##op)

static int peer(const char *command, BlockBackend *blk, unsigned arg)
{
    int ret;

    if (!strcmp(command, "hold")) {
        ret = LOCK(blk, arg, ACQUIRE);
        g_assert_cmpint(ret, ==, 0);
        peer_barrier();
    } else {
        g_assert_cmpstr(command, ==, "test");
        ret = LOCK(blk, arg, TEST);
    }
    return -ret;
}

/* What another process sees of the lock: 0 or -EBUSY */
static int test_from_peer(unsigned id)
{
    return -peer_wait(peer_start("test", PLAIN, id, -1, -1));
}

static void test_liveness_nodes(void)
{
    BlockBackend *a, *b;

    fresh_image();
    a = open_image(PLAIN);
    b = open_image("{'driver': 'raw', 'file': " PLAIN "}");

    g_assert_cmpint(LOCK(a, 7, TEST), ==, 0);
    g_assert_cmpint(LOCK(a, 7, RELEASE), ==, 0);
    g_assert_cmpint(LOCK(a, 7, ACQUIRE), ==, 0);
    g_assert_cmpint(LOCK(a, 7, ACQUIRE), ==, -EBUSY);
    g_assert_cmpint(LOCK(a, 7, TEST), ==, -EBUSY);
    g_assert_cmpint(LOCK(b, 7, TEST), ==, -EBUSY);
    g_assert_cmpint(LOCK(b, 7, ACQUIRE), ==, -EBUSY);
    g_assert_cmpint(test_from_peer(7), ==, -EBUSY);
    g_assert_cmpint(LOCK(a, 7, RENEW), ==, 0);
    g_assert_cmpint(LOCK(b, 7, RENEW), ==, -EBUSY);

    /* Not his */
    g_assert_cmpint(LOCK(b, 7, RELEASE), ==, 0);
    g_assert_cmpint(LOCK(b, 7, TEST), ==, -EBUSY);

    /* Others are free */
    g_assert_cmpint(LOCK(b, 6, TEST), ==, 0);
    g_assert_cmpint(LOCK(b, 8, ACQUIRE), ==, 0);
    g_assert_cmpint(LOCK(b, BDRV_LIVENESS_ID_MAX - 1, ACQUIRE), ==, 0);
    g_assert_cmpint(LOCK(a, 8, TEST), ==, -EBUSY);

    g_assert_cmpint(LOCK(a, 7, RELEASE), ==, 0);
    g_assert_cmpint(test_from_peer(7), ==, 0);
    g_assert_cmpint(LOCK(b, 7, ACQUIRE), ==, 0);

    /* Closing releases; compare-and-write shares no locks with them */
    g_assert_cmpint(compare_and_write(a, 0, 512, 0, 1, 0), ==, 0);
    blk_unref(b);
    g_assert_cmpint(LOCK(a, 7, TEST), ==, 0);
    g_assert_cmpint(LOCK(a, 8, TEST), ==, 0);
    g_assert_cmpint(LOCK(a, BDRV_LIVENESS_ID_MAX - 1, TEST), ==, 0);
    blk_unref(a);
}

/* Two images in one file have locks of their own */
static void test_liveness_parts(void)
{
    BlockBackend *a, *b;

    fresh_image();
    a = open_image("{'driver': 'raw', 'offset': 0, 'file': " PLAIN "}");
    b = open_image("{'driver': 'raw', 'offset': 1048576, 'file': " PLAIN "}");
    g_assert_cmpint(LOCK(a, 7, ACQUIRE), ==, 0);
    g_assert_cmpint(LOCK(b, 7, TEST), ==, 0);
    g_assert_cmpint(LOCK(b, 7, ACQUIRE), ==, 0);
    g_assert_cmpint(LOCK(a, 7, RELEASE), ==, 0);
    g_assert_cmpint(LOCK(a, 7, TEST), ==, 0);
    g_assert_cmpint(LOCK(b, 7, TEST), ==, -EBUSY);
    g_assert_cmpint(LOCK(a, 7 + MiB / BDRV_LIVENESS_PART, TEST), ==, -EBUSY);
    g_assert_cmpint(LOCK(b, BDRV_LIVENESS_ID_MAX - 1, TEST), ==, -EINVAL);
    blk_unref(a);
    blk_unref(b);
}

/* The holder of a lock that has vanished takes it again */
static void test_liveness_renew(void)
{
    BlockBackend *a, *b;

    fresh_image();
    a = open_image(PLAIN);
    b = open_image(PLAIN);
    g_assert_cmpint(LOCK(a, 7, RENEW), ==, 0);
    g_assert_cmpint(LOCK(a, 7, RENEW), ==, 0);
    g_assert_cmpint(LOCK(b, 7, TEST), ==, -EBUSY);
    g_assert_cmpint(LOCK(a, 7, RELEASE), ==, 0);
    g_assert_cmpint(LOCK(b, 7, ACQUIRE), ==, 0);
    g_assert_cmpint(LOCK(a, 7, RENEW), ==, -EBUSY);
    blk_unref(b);
    g_assert_cmpint(LOCK(a, 7, RENEW), ==, 0);
    g_assert_cmpint(test_from_peer(7), ==, -EBUSY);
    blk_unref(a);
}

static void test_liveness_killed(void)
{
    int ready[2], go[2];
    BlockBackend *blk;
    pid_t pid;
    char byte;

    fresh_image();
    blk = open_image(PLAIN);

    g_assert_cmpint(pipe(ready), ==, 0);
    g_assert_cmpint(pipe(go), ==, 0);
    pid = peer_start("hold", PLAIN, 3, ready[1], go[0]);
    g_assert_cmpint(RETRY_ON_EINTR(read(ready[0], &byte, 1)), ==, 1);
    g_assert_cmpint(LOCK(blk, 3, TEST), ==, -EBUSY);
    g_assert_cmpint(LOCK(blk, 3, ACQUIRE), ==, -EBUSY);

    g_assert_cmpint(kill(pid, SIGKILL), ==, 0);
    g_assert_cmpint(peer_wait(pid), ==, -SIGKILL);
    g_assert_cmpint(LOCK(blk, 3, TEST), ==, 0);
    g_assert_cmpint(LOCK(blk, 3, ACQUIRE), ==, 0);

    for (int i = 0; i < 2; i++) {
        close(ready[i]);
        close(go[i]);
    }
    blk_unref(blk);
}

static void test_liveness_reopen(void)
{
    BlockBackend *blk;
    QDict *options;

    fresh_image();
    blk = open_image(PLAIN);
    g_assert_cmpint(LOCK(blk, 3, ACQUIRE), ==, 0);

    if (have_o_direct()) {
        options = qdict_new();
        qdict_put_bool(options, "cache.direct", true);
        bdrv_reopen(blk_bs(blk), options, true, &error_abort);
        g_assert_cmpint(test_from_peer(3), ==, -EBUSY);
        g_assert_cmpint(LOCK(blk, 3, TEST), ==, -EBUSY);
    }

    blk_set_perm(blk, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL, &error_abort);
    bdrv_reopen_set_read_only(blk_bs(blk), true, &error_abort);
    g_assert_cmpint(test_from_peer(3), ==, -EBUSY);
    g_assert_cmpint(LOCK(blk, 3, TEST), ==, -EBUSY);
    g_assert_cmpint(LOCK(blk, 4, ACQUIRE), ==, 0);
    g_assert_cmpint(test_from_peer(4), ==, -EBUSY);

    bdrv_reopen_set_read_only(blk_bs(blk), false, &error_abort);
    g_assert_cmpint(test_from_peer(3), ==, -EBUSY);
    g_assert_cmpint(LOCK(blk, 3, RELEASE), ==, 0);
    g_assert_cmpint(test_from_peer(3), ==, 0);
    g_assert_cmpint(test_from_peer(4), ==, -EBUSY);
    blk_unref(blk);
    g_assert_cmpint(test_from_peer(4), ==, 0);
}

static void test_liveness_inactive(void)
{
    BlockBackend *blk;

    fresh_image();
    blk = open_image("{'driver': 'raw', 'file': {'driver': 'file',"
                     " 'filename': '%s', 'auto-read-only': true}}");
    blk_set_force_allow_inactivate(blk);
    g_assert_cmpint(LOCK(blk, 3, ACQUIRE), ==, 0);

    g_assert_cmpint(bdrv_inactivate_all(), ==, 0);
    g_assert_cmpint(test_from_peer(3), ==, -EBUSY);
    g_assert_cmpint(LOCK(blk, 3, TEST), ==, -EBUSY);
    g_assert_cmpint(LOCK(blk, 4, ACQUIRE), ==, 0);
    g_assert_cmpint(test_from_peer(4), ==, -EBUSY);
    g_assert_cmpint(LOCK(blk, 4, RELEASE), ==, 0);

    bdrv_activate_all(&error_abort);
    g_assert_cmpint(test_from_peer(3), ==, -EBUSY);
    g_assert_cmpint(test_from_peer(4), ==, 0);
    g_assert_cmpint(compare_and_write(blk, 4096, 512, 0, 1, 0), ==, 0);
    blk_unref(blk);
}

static void add_tests(void)
{
    g_test_add_func("/liveness/nodes", test_liveness_nodes);
    g_test_add_func("/liveness/parts", test_liveness_parts);
    g_test_add_func("/liveness/renew", test_liveness_renew);
    g_test_add_func("/liveness/killed", test_liveness_killed);
    g_test_add_func("/liveness/reopen", test_liveness_reopen);
    g_test_add_func("/liveness/inactive", test_liveness_inactive);
}

int main(int argc, char **argv)
{
    return shared_image_main(argc, argv, peer, add_tests);
}
