/*
 * Compare-and-write of the block layer
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block.h"
#include "qapi/error.h"
#include "qobject/qdict.h"
#include "qemu/main-loop.h"
#include "qemu/thread.h"
#include "shared-image.h"

#define BLOCK_OFFSET    (64 * KiB)
#define PEERS           8
#define ROUNDS          250

/* Where file-posix locks the blocks, see block/file-posix.c */
#define LOCK_BLOCK_BASE (INT64_C(1) << 62)

/* What the racing processes count in one block */
typedef struct Counters {
    uint64_t total;
    uint64_t of_peer[PEERS];
} Counters;

/* Look at the file itself, whatever the nodes above it say */
static void check_file(int64_t offset, int64_t bytes, char expected)
{
    g_autofree char *buf = g_malloc(bytes);
    int fd = open(image, O_RDONLY);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(pread(fd, buf, bytes, offset), ==, bytes);
    close(fd);
    for (int64_t i = 0; i < bytes; i++) {
        g_assert_cmpint(buf[i], ==, expected);
    }
}

/* Count to ROUNDS in a block that others count in, too */
static void coroutine_mixed_fn count(BlockBackend *blk, unsigned self_nr)
{
    int64_t bytes = MAX(512, blk_bs(blk)->bl.request_alignment);
    g_autofree char *old_buf = g_malloc(bytes);
    g_autofree char *new_buf = g_malloc(bytes);
    Counters *new = (Counters *)new_buf;
    int ret;

    for (unsigned done = 0; done < ROUNDS; ) {
        ret = bdrv_pread(child_of(blk), BLOCK_OFFSET, bytes, old_buf, 0);
        g_assert_cmpint(ret, ==, 0);

        memcpy(new_buf, old_buf, bytes);
        new->total++;
        new->of_peer[self_nr]++;
        ret = bdrv_compare_and_write(child_of(blk), BLOCK_OFFSET, bytes,
                                     old_buf, new_buf, 0);
        if (ret == 0) {
            done++;
        } else {
            g_assert_cmpint(ret, ==, -EILSEQ);
        }
    }
}

/* All have counted to ROUNDS, and no step was lost */
static void check_counters(int64_t offset)
{
    Counters counters;
    int fd = open(image, O_RDONLY);

    g_assert_cmpint(pread(fd, &counters, sizeof(counters), offset),
                    ==, sizeof(counters));
    close(fd);
    g_assert_cmpint(counters.total, ==, PEERS * ROUNDS);
    for (int i = 0; i < PEERS; i++) {
        g_assert_cmpint(counters.of_peer[i], ==, ROUNDS);
    }
}

static int peer(const char *command, BlockBackend *blk, unsigned arg)
{
    g_assert_cmpstr(command, ==, "count");
    peer_barrier();
    count(blk, arg);
    return 0;
}

typedef struct RaceCase {
    const char *name;
    const char *json[2];        /* for peers with even and odd numbers */
    int64_t offset;             /* of the node in the image */
    bool direct;
} RaceCase;

static void test_race(const void *opaque)
{
    const RaceCase *c = opaque;
    pid_t pids[PEERS];
    int ready[2], go[2];
    char byte;

    fresh_image();
    if (c->direct && !have_o_direct()) {
        g_test_skip("the temporary folder's file system has no O_DIRECT");
        return;
    }

    g_assert_cmpint(pipe(ready), ==, 0);
    g_assert_cmpint(pipe(go), ==, 0);
    g_assert_cmpint(fcntl(go[1], F_SETFD, FD_CLOEXEC), ==, 0);
    for (int i = 0; i < PEERS; i++) {
        pids[i] = peer_start("count", c->json[i % 2], i, ready[1], go[0]);
    }
    close(ready[1]);
    close(go[0]);

    for (int i = 0; i < PEERS; i++) {
        g_assert_cmpint(RETRY_ON_EINTR(read(ready[0], &byte, 1)), ==, 1);
    }
    close(go[1]);
    for (int i = 0; i < PEERS; i++) {
        g_assert_cmpint(peer_wait(pids[i]), ==, 0);
    }
    close(ready[0]);

    check_counters(c->offset + BLOCK_OFFSET);
}

#define DIRECT "{'driver': 'file', 'filename': '%s', 'cache.direct': true}"
#define ALIGN_4K "{'driver': 'blkdebug', 'align': 4096, 'image': " PLAIN "}"
#define DIRECT_4K "{'driver': 'blkdebug', 'align': 4096, 'image': " DIRECT "}"

static const RaceCase race_cases[] = {
    { "buffered", { PLAIN, PLAIN }, 0, false },
    { "no-image-locking", {
        "{'driver': 'file', 'filename': '%s', 'locking': 'off'}", PLAIN,
    }, 0, false },
    { "direct", { DIRECT, DIRECT }, 0, true },
    { "direct-linux-aio", {
        "{'driver': 'file', 'filename': '%s', 'cache.direct': true,"
        " 'aio': 'native'}", DIRECT,
    }, 0, true },
    { "align-4k", { ALIGN_4K, ALIGN_4K }, 0, false },
    { "direct-align-4k", { DIRECT_4K, DIRECT_4K }, 0, true },
    { "512-against-4k", { PLAIN, ALIGN_4K }, 0, false },
    { "raw-offset", {
        "{'driver': 'raw', 'offset': 1048576, 'size': 1048576,"
        " 'file': " PLAIN "}",
        "{'driver': 'raw', 'offset': 1048576, 'file': " PLAIN "}",
    }, 1 * MiB, false },
    { "filters", {
        "{'driver': 'throttle', 'throttle-group': 'group', 'file': " PLAIN "}",
        "{'driver': 'copy-on-read', 'file': " PLAIN "}",
    }, 0, false },
};

static void test_miscompare(void)
{
    BlockBackend *blk;

    fresh_image();
    blk = open_image(PLAIN);

    g_assert_cmpint(compare_and_write(blk, 4096, 512, 0, 'a', 0), ==, 0);
    check_file(4096, 512, 'a');
    check_file(4096 + 512, 512, 0);
    check_file(4096 - 512, 512, 0);

    g_assert_cmpint(compare_and_write(blk, 4096, 512, 0, 'b', 0), ==, -EILSEQ);
    check_file(4096, 512, 'a');

    /* Differs in the second half only */
    g_assert_cmpint(compare_and_write(blk, 4096, 1024, 'a', 'b', 0),
                    ==, -EILSEQ);
    check_file(4096, 512, 'a');
    check_file(4096 + 512, 512, 0);

    g_assert_cmpint(compare_and_write(blk, 4096, 512, 'a', 'b',
                                      BDRV_REQ_FUA), ==, 0);
    check_file(4096, 512, 'b');

    blk_unref(blk);
}

static void test_bad_request(void)
{
    BlockBackend *blk;

    fresh_image();
    blk = open_image(ALIGN_4K);

    g_assert_cmpint(compare_and_write(blk, 0, 512, 0, 1, 0), ==, -EINVAL);
    g_assert_cmpint(compare_and_write(blk, 512, 4096, 0, 1, 0), ==, -EINVAL);
    g_assert_cmpint(compare_and_write(blk, 0, 8192, 0, 1, 0), ==, -EINVAL);
    g_assert_cmpint(compare_and_write(blk, 0, 0, 0, 1, 0), ==, -EINVAL);
    g_assert_cmpint(compare_and_write(blk, 0, 4096, 0, 1,
                                      BDRV_REQ_MAY_UNMAP), ==, -EINVAL);
    g_assert_cmpint(compare_and_write(blk, -4096, 4096, 0, 1, 0), ==, -EIO);
    g_assert_cmpint(compare_and_write(blk, IMAGE_SIZE, 4096, 0, 1, 0),
                    ==, -ENOSPC);
    blk_unref(blk);

    blk = open_image(PLAIN);
    g_assert_cmpint(compare_and_write(blk, 0, 768, 0, 1, 0), ==, -EINVAL);
    g_assert_cmpint(compare_and_write(blk, 256, 512, 0, 1, 0), ==, -EINVAL);
    blk_unref(blk);

    check_file(0, IMAGE_SIZE, 0);
}

/* Past the end of the file there are zeroes, and the file grows */
static void test_short_file(const void *json)
{
    BlockBackend *blk;
    int fd;

    fresh_image();
    if (strstr(json, "cache.direct") && !have_o_direct()) {
        g_test_skip("the temporary folder's file system has no O_DIRECT");
        return;
    }
    /* Somebody else makes it shorter while we have it open */
    blk = open_image(json);
    fd = open(image, O_RDWR);
    g_assert_cmpint(ftruncate(fd, 8192 + 512), ==, 0);
    close(fd);

    g_assert_cmpint(compare_and_write(blk, 8192, 4096, 1, 'a', 0),
                    ==, -EILSEQ);
    g_assert_cmpint(compare_and_write(blk, 8192, 4096, 0, 'a', 0), ==, 0);
    g_assert_cmpint(compare_and_write(blk, 12288, 4096, 0, 'b', 0), ==, 0);
    blk_unref(blk);

    check_file(8192, 4096, 'a');
    check_file(12288, 4096, 'b');
}

static void test_read_only(void)
{
    BlockBackend *blk;

    fresh_image();
    blk = open_flags(PLAIN, 0);
    g_assert_cmpint(compare_and_write(blk, 0, 512, 0, 1, 0), ==, -EPERM);
    blk_unref(blk);
    check_file(0, 512, 0);
}

static void test_not_supported(void)
{
    static const char *const nodes[] = {
        "{'driver': 'null-co', 'size': 1048576}",
        "{'driver': 'throttle', 'throttle-group': 'group',"
        " 'file': {'driver': 'null-co', 'size': 1048576}}",
        /* must write all in two places */
        "{'driver': 'blkverify', 'test': " PLAIN ","
        " 'raw': {'driver': 'null-co', 'size': 4194304}}",
    };

    fresh_image();
    for (int i = 0; i < ARRAY_SIZE(nodes); i++) {
        BlockBackend *blk = open_image(nodes[i]);

        g_assert_cmpint(compare_and_write(blk, 0, 512, 0, 1, 0), ==, -ENOTSUP);
        for (int op = BDRV_LIVENESS_ACQUIRE; op <= BDRV_LIVENESS_TEST; op++) {
            g_assert_cmpint(bdrv_liveness_lock(blk_bs(blk), 0, op),
                            ==, -ENOTSUP);
        }
        blk_unref(blk);
    }
}

static void test_raw_bounds(void)
{
    BlockBackend *blk;

    fresh_image();
    blk = open_image("{'driver': 'raw', 'offset': 1048576, 'size': 65536,"
                     " 'file': " PLAIN "}");
    g_assert_cmpint(compare_and_write(blk, 65536 - 512, 512, 0, 'a', 0), ==, 0);
    check_file(1 * MiB + 65536 - 512, 512, 'a');
    g_assert_cmpint(compare_and_write(blk, 65536, 512, 0, 'a', 0),
                    ==, -ENOSPC);
    check_file(1 * MiB + 65536, 512, 0);
    blk_unref(blk);

    /* A block that is none in the file below */
    blk = open_image("{'driver': 'raw', 'offset': 512, 'file': " PLAIN "}");
    g_assert_cmpint(compare_and_write(blk, 4096, 4096, 0, 'a', 0),
                    ==, -EINVAL);
    g_assert_cmpint(compare_and_write(blk, 4096, 512, 0, 'a', 0), ==, 0);
    check_file(4096 + 512, 512, 'a');
    blk_unref(blk);
}

/* FUA is a flush, also when nothing but this was written; and it may fail */
static void test_fua(void)
{
    static const struct {
        int error, ret;
    } cases[] = { { ENOSPC, -ENOSPC }, { EILSEQ, -EIO } };

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        g_autofree char *json = g_strdup_printf(
            "{'driver': 'blkdebug', 'image': " PLAIN ", 'inject-error': ["
            "{'event': 'none', 'iotype': 'flush', 'errno': %d}]}",
            "%s", cases[i].error);
        BlockBackend *blk;

        fresh_image();
        blk = open_image(json);
        g_assert_cmpint(compare_and_write(blk, 0, 512, 0, 'a', BDRV_REQ_FUA),
                        ==, cases[i].ret);
        g_assert_cmpint(compare_and_write(blk, 0, 512, 'a', 'b', 0), ==, 0);
        g_assert_cmpint(compare_and_write(blk, 0, 512, 'a', 'b',
                                          BDRV_REQ_FUA), ==, -EILSEQ);
        blk_unref(blk);
    }
}

/* A block that somebody else keeps locked */
static int lock_block(void)
{
    int fd = open(image, O_RDWR);

    g_assert_cmpint(qemu_lock_fd(fd, LOCK_BLOCK_BASE + 4096, 512, true), ==, 0);
    return fd;
}

static void *unlock_later(void *opaque)
{
    g_usleep(300 * 1000);
    check_file(4096, 512, 0);
    close(GPOINTER_TO_INT(opaque));
    return NULL;
}

typedef struct AsyncRequest {
    BlockBackend *blk;
    int64_t offset;
    int ret;
    bool done;
} AsyncRequest;

static void coroutine_fn async_entry(void *opaque)
{
    AsyncRequest *req = opaque;

    WITH_GRAPH_RDLOCK_GUARD() {
        req->ret = compare_and_write(req->blk, req->offset, 512, 0, 'a', 0);
    }
    req->done = true;
}

static void async_start(AsyncRequest *req)
{
    qemu_coroutine_enter(qemu_coroutine_create(async_entry, req));
}

/* A drain waits; other blocks of the same node do not */
static void test_busy_block(void)
{
    AsyncRequest req = { .offset = 4096 };
    AsyncRequest neighbour = { .offset = 4096 + 512 };
    QemuThread thread;
    BlockBackend *blk;

    fresh_image();
    blk = req.blk = neighbour.blk = open_image(PLAIN);

    qemu_thread_create(&thread, "unlock", unlock_later,
                       GINT_TO_POINTER(lock_block()), QEMU_THREAD_JOINABLE);
    async_start(&req);
    async_start(&neighbour);
    while (!neighbour.done) {
        aio_poll(qemu_get_aio_context(), true);
    }
    g_assert_cmpint(neighbour.ret, ==, 0);
    g_assert_false(req.done);

    bdrv_drained_begin(blk_bs(blk));
    g_assert_true(req.done);
    g_assert_cmpint(req.ret, ==, 0);
    bdrv_drained_end(blk_bs(blk));
    check_file(4096, 512, 'a');

    qemu_thread_join(&thread);
    blk_unref(blk);
}

static void test_timeout(void)
{
    BlockBackend *blk;
    int fd;

    if (!g_test_slow()) {
        g_test_skip("takes ten seconds, run with -m slow");
        return;
    }
    fresh_image();
    blk = open_image(PLAIN);
    fd = lock_block();
    g_assert_cmpint(compare_and_write(blk, 4096, 512, 0, 'a', 0),
                    ==, -ETIMEDOUT);
    check_file(4096, 512, 0);
    close(fd);
    g_assert_cmpint(compare_and_write(blk, 4096, 512, 0, 'a', 0), ==, 0);
    blk_unref(blk);
}

typedef struct Counting {
    BlockBackend *blk;
    int nr;
    int *running;
} Counting;

static void coroutine_fn count_entry(void *opaque)
{
    Counting *c = opaque;

    WITH_GRAPH_RDLOCK_GUARD() {
        count(c->blk, c->nr);
    }
    (*c->running)--;
}

/* The kernel does not keep requests of one node apart: we must */
static void test_one_process(void)
{
    BlockBackend *blk[2];
    Counting counting[PEERS];
    int running = PEERS;

    fresh_image();
    blk[0] = open_image(PLAIN);
    blk[1] = open_image(PLAIN);
    for (int i = 0; i < PEERS; i++) {
        counting[i] = (Counting) { blk[i / 4], i, &running };
        qemu_coroutine_enter(qemu_coroutine_create(count_entry,
                                                   &counting[i]));
    }
    while (running) {
        aio_poll(qemu_get_aio_context(), true);
    }
    blk_unref(blk[0]);
    blk_unref(blk[1]);
    check_counters(BLOCK_OFFSET);
}

static void check_limits(const char *json, uint32_t unit, BdrvLockScope scope)
{
    BlockBackend *blk = open_image(json);
    BlockLimits *bl = &blk_bs(blk)->bl;

    g_assert_cmpint(bl->compare_and_write, ==, unit);
    g_assert_cmpint(bl->lock_scope, ==, scope);
    blk_unref(blk);
}

/* What nodes offer is in their limits, also that of those below them */
static void test_limits(void)
{
    BdrvLockScope scope;
    BlockBackend *blk;

    fresh_image();
    blk = open_image(PLAIN);
    scope = blk_bs(blk)->bl.lock_scope;     /* as the file system has it */
    g_assert_cmpint(scope, >=, BDRV_LOCK_SCOPE_HOST);
    g_assert_cmpint(blk_bs(blk)->bl.compare_and_write, ==, 1);
    if (have_o_direct()) {
        QDict *options = qdict_new();

        qdict_put_bool(options, "cache.direct", true);
        bdrv_reopen(blk_bs(blk), options, true, &error_abort);
        g_assert_cmpint(blk_bs(blk)->bl.compare_and_write, ==,
                        blk_bs(blk)->bl.request_alignment);
    }
    blk_unref(blk);

    check_limits("{'driver': 'raw', 'offset': 512, 'file': " PLAIN "}", 1,
                 scope);
    check_limits("{'driver': 'blkdebug', 'align': 4096, 'image': " PLAIN "}",
                 4096, scope);
    check_limits("{'driver': 'raw', 'offset': 8192, 'file': {'driver':"
                 " 'blkdebug', 'align': 4096, 'image': " PLAIN "}}", 4096,
                 scope);
    check_limits("{'driver': 'raw', 'offset': 512, 'file': {'driver':"
                 " 'blkdebug', 'align': 4096, 'image': " PLAIN "}}", 0, scope);
    check_limits("{'driver': 'blkdebug', 'align': 8192, 'image': " PLAIN "}",
                 0, scope);
    check_limits("{'driver': 'null-co', 'size': 1048576}", 0,
                 BDRV_LOCK_SCOPE_NONE);
}

static void add_tests(void)
{
    for (int i = 0; i < ARRAY_SIZE(race_cases); i++) {
        g_autofree char *path = g_strdup_printf("/compare-and-write/race/%s",
                                                race_cases[i].name);

        g_test_add_data_func(path, &race_cases[i], test_race);
    }
    g_test_add_func("/compare-and-write/one-process", test_one_process);
    g_test_add_func("/compare-and-write/miscompare", test_miscompare);
    g_test_add_func("/compare-and-write/bad-request", test_bad_request);
    g_test_add_data_func("/compare-and-write/short-file/buffered",
                         PLAIN, test_short_file);
    g_test_add_data_func("/compare-and-write/short-file/direct",
                         DIRECT_4K, test_short_file);
    g_test_add_func("/compare-and-write/read-only", test_read_only);
    g_test_add_func("/compare-and-write/not-supported", test_not_supported);
    g_test_add_func("/compare-and-write/raw-bounds", test_raw_bounds);
    g_test_add_func("/compare-and-write/fua", test_fua);
    g_test_add_func("/compare-and-write/busy-block", test_busy_block);
    g_test_add_func("/compare-and-write/timeout", test_timeout);
    g_test_add_func("/compare-and-write/limits", test_limits);
}

int main(int argc, char **argv)
{
    return shared_image_main(argc, argv, peer, add_tests);
}
