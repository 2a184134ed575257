/*
 * An image that several processes, and several nodes of one, have open at once
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/wait.h>
#include "block/block.h"
#include "block/throttle-groups.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qom/object_interfaces.h"
#include "shared-image.h"

static const char *self;
static char *tmp_dir;
char *image;

BlockBackend *open_flags(const char *json, int flags)
{
    g_autofree char *filename = NULL;
    const char *name = strstr(json, "%s");
    BlockDriverState *bs;
    BlockBackend *blk;
    uint64_t perm = BLK_PERM_CONSISTENT_READ;

    if (name) {
        filename = g_strdup_printf("json:%.*s%s%s", (int)(name - json), json,
                                   image, name + 2);
    } else {
        filename = g_strdup_printf("json:%s", json);
    }
    if (flags & BDRV_O_RDWR) {
        perm |= BLK_PERM_WRITE;
    }

    bs = bdrv_open(filename, NULL, NULL, flags, &error_abort);
    blk = blk_new(qemu_get_aio_context(), perm, BLK_PERM_ALL);
    blk_insert_bs(blk, bs, &error_abort);
    bdrv_unref(bs);
    return blk;
}

BlockBackend *open_image(const char *json)
{
    return open_flags(json, BDRV_O_RDWR);
}

BdrvChild *child_of(BlockBackend *blk)
{
    return (BdrvChild *)blk_root(blk);
}

int compare_and_write(BlockBackend *blk, int64_t offset, int64_t bytes,
                      char compare, char write, BdrvRequestFlags flags)
{
    /* Odd addresses, so that nobody relies on how buffers are aligned */
    g_autofree char *compare_buf = g_malloc(2 * BDRV_COMPARE_AND_WRITE_MAX + 1);
    g_autofree char *write_buf = g_malloc(2 * BDRV_COMPARE_AND_WRITE_MAX + 1);

    memset(compare_buf + 1, compare, 2 * BDRV_COMPARE_AND_WRITE_MAX);
    memset(write_buf + 1, write, 2 * BDRV_COMPARE_AND_WRITE_MAX);
    return bdrv_compare_and_write(child_of(blk), offset, bytes,
                                  compare_buf + 1, write_buf + 1, flags);
}

void fresh_image(void)
{
    int fd = open(image, O_RDWR | O_CREAT | O_TRUNC, 0600);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, IMAGE_SIZE), ==, 0);
    close(fd);
}

bool have_o_direct(void)
{
    int fd = open(image, O_RDWR | O_DIRECT);

    if (fd < 0) {
        return false;
    }
    close(fd);
    return true;
}

pid_t peer_start(const char *command, const char *json, unsigned arg,
                 int ready_fd, int go_fd)
{
    g_autofree char *arg_str = g_strdup_printf("%u", arg);
    pid_t pid = fork();

    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        if (ready_fd >= 0) {
            int ready = fcntl(ready_fd, F_DUPFD, 10);
            int go = fcntl(go_fd, F_DUPFD, 10);

            dup2(ready, 3);
            dup2(go, 4);
        }
        execl(self, self, "--peer", command, image, json, arg_str, NULL);
        _exit(99);
    }
    return pid;
}

int peer_wait(pid_t pid)
{
    int status;

    g_assert_cmpint(RETRY_ON_EINTR(waitpid(pid, &status, 0)), ==, pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

void peer_barrier(void)
{
    char c = 'r';

    g_assert_cmpint(write(3, &c, 1), ==, 1);
    g_assert_cmpint(RETRY_ON_EINTR(read(4, &c, 1)), ==, 0);
}

static int peer_main(char **argv, PeerFn *peer)
{
    BlockBackend *blk;
    int ret;

    image = argv[1];
    blk = open_image(argv[2]);
    ret = peer(argv[0], blk, atoi(argv[3]));
    blk_unref(blk);
    return ret;
}

int shared_image_main(int argc, char **argv, PeerFn *peer,
                      void (*add_tests)(void))
{
    int ret;

    self = argv[0];
    signal(SIGPIPE, SIG_IGN);
    bdrv_init();
    module_call_init(MODULE_INIT_QOM);
    qemu_init_main_loop(&error_abort);
    object_new_with_props(TYPE_THROTTLE_GROUP, object_get_objects_root(),
                          "group", &error_abort, NULL);

    if (argc == 6 && !strcmp(argv[1], "--peer")) {
        return peer_main(argv + 2, peer);
    }

    g_test_init(&argc, &argv, NULL);
    if (!qemu_has_ofd_lock()) {
        g_printerr("no OFD locks on this system\n");
        return 77;
    }

    tmp_dir = g_dir_make_tmp("test-shared-image.XXXXXX", NULL);
    g_assert_nonnull(tmp_dir);
    image = g_build_filename(tmp_dir, "image", NULL);

    add_tests();
    ret = g_test_run();

    unlink(image);
    rmdir(tmp_dir);
    g_free(image);
    g_free(tmp_dir);
    return ret;
}
