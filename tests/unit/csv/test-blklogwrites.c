/*
 * What blklogwrites logs of a compare-and-write
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block.h"
#include "block/block_int-common.h"
#include "system/block-backend.h"
#include "qapi/error.h"
#include "qemu/bswap.h"
#include "qemu/main-loop.h"

#define SECTOR      512
#define FLUSH       1

static char *folder;

static char *make_file(const char *name, size_t size)
{
    char *path = g_build_filename(folder, name, NULL);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, size), ==, 0);
    close(fd);
    return path;
}

static BlockBackend *open_logged(const char *image, const char *log)
{
    g_autofree char *filename = g_strdup_printf(
        "json:{'driver': 'blklogwrites',"
        " 'file': {'driver': 'file', 'filename': '%s'},"
        " 'log': {'driver': 'file', 'filename': '%s'}}", image, log);

    return blk_new_open(filename, NULL, NULL, BDRV_O_RDWR, &error_abort);
}

static int compare_and_write(BlockBackend *blk, int64_t offset, size_t bytes,
                             char compare, char write, BdrvRequestFlags flags)
{
    g_autofree char *compare_buf = g_malloc(bytes);
    g_autofree char *write_buf = g_malloc(bytes);

    memset(compare_buf, compare, bytes);
    memset(write_buf, write, bytes);
    return bdrv_compare_and_write((BdrvChild *)blk_root(blk), offset, bytes,
                                  compare_buf, write_buf, flags);
}

/* The log names what was written, and not what was not equal */
static void test_compare_and_write(void)
{
    static const struct {
        uint64_t sector, sectors, flags;
        char byte;
    } expected[] = {
        { 8, 1, 0, 'a' },
        { 16, 2, 0, 'b' },
        { 0, 0, FLUSH, 0 },     /* of BDRV_REQ_FUA */
    };
    g_autofree char *image = make_file("image", 64 * SECTOR);
    g_autofree char *log = make_file("log", 0);
    g_autofree char *buf = NULL;
    const char *at;
    BlockBackend *blk;
    gsize len;

    blk = open_logged(image, log);
    g_assert_cmpint(compare_and_write(blk, 4096, 512, 0, 'a', 0), ==, 0);
    g_assert_cmpint(compare_and_write(blk, 4096, 512, 0, 'c', 0), ==, -EILSEQ);
    g_assert_cmpint(compare_and_write(blk, 8192, 1024, 0, 'b', BDRV_REQ_FUA),
                    ==, 0);
    blk_unref(blk);

    g_assert_true(g_file_get_contents(log, &buf, &len, NULL));
    g_assert_cmpint(ldq_le_p(buf + 16), ==, ARRAY_SIZE(expected));
    at = buf + SECTOR;
    for (int i = 0; i < ARRAY_SIZE(expected); i++) {
        g_assert_cmpint(buf + len - at, >=,
                        (1 + expected[i].sectors) * SECTOR);
        g_assert_cmpint(ldq_le_p(at), ==, expected[i].sector);
        g_assert_cmpint(ldq_le_p(at + 8), ==, expected[i].sectors);
        g_assert_cmpint(ldq_le_p(at + 16), ==, expected[i].flags);
        at += SECTOR;
        for (int n = 0; n < expected[i].sectors * SECTOR; n++) {
            g_assert_cmpint(*at++, ==, expected[i].byte);
        }
    }
    g_assert_true(at == buf + len);
    unlink(image);
    unlink(log);
}

/* The lock is the image's: another opening of it, without a log, sees it */
static void test_liveness(void)
{
    g_autofree char *image = make_file("image", 64 * SECTOR);
    g_autofree char *log = make_file("log", 0);
    BlockBackend *blk = open_logged(image, log);
    BlockBackend *other = blk_new_open(image, NULL, NULL,
                                       BDRV_O_RDWR | BDRV_O_PROTOCOL,
                                       &error_abort);

    g_assert_cmpint(bdrv_liveness_lock(blk_bs(blk), 7, BDRV_LIVENESS_ACQUIRE),
                    ==, 0);
    g_assert_cmpint(bdrv_liveness_lock(blk_bs(other), 7, BDRV_LIVENESS_TEST),
                    ==, -EBUSY);
    blk_unref(blk);
    g_assert_cmpint(bdrv_liveness_lock(blk_bs(other), 7, BDRV_LIVENESS_TEST),
                    ==, 0);
    blk_unref(other);
    unlink(image);
    unlink(log);
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    qemu_init_main_loop(&error_abort);
    bdrv_init();
    folder = g_dir_make_tmp("test-blklogwrites-XXXXXX", NULL);
    g_assert_nonnull(folder);

    g_test_add_func("/blklogwrites/compare-and-write", test_compare_and_write);
    g_test_add_func("/blklogwrites/liveness", test_liveness);
    ret = g_test_run();

    rmdir(folder);
    g_free(folder);
    return ret;
}
