/*
 * Volumes that were made to hurt
 *
 * What fuzzing does not come upon: chains of disks without an end, and a
 * volume that says it is as large as one can be. Each is refused with an
 * error that says why.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/units.h"
#include "csv-page.h"
#include "fuzz-volume.h"
#include "sim-device.h"
#include "sim-volume.h"

#define DISKS       5
/* Numbers of fuzz_init()'s disks, and of both copies of their headers */
#define TWO         1
#define TOP         2
#define COPY(disk, copy)    ((disk) + DISKS * (copy))

/* So many disks may be in a chain, and have room here. */
#define CHAIN_MAX       500
#define CHAIN_DEVICE    (8 * GiB)

static void expect_error(const char *disk, const char *want)
{
    static const int flags[] = { 0, BDRV_O_RDWR };
    size_t i;

    for (i = 0; i < ARRAY_SIZE(flags); i++) {
        Error *err = NULL;
        BlockBackend *blk = fuzz_open(disk, flags[i], &err);

        g_assert_null(blk);
        g_test_message("%s", error_get_pretty(err));
        g_assert_nonnull(strstr(error_get_pretty(err), want));
        error_free(err);
    }
}

/* Let the header of @disk name @base as its backing disk. */
static void set_backing(unsigned disk, unsigned base)
{
    const uint8_t feature = 1;
    uint8_t uuid[16];
    unsigned copy;

    fuzz_peek(FUZZ_DISK, base, 80, uuid, sizeof(uuid));
    fuzz_patch(FUZZ_DISK, disk, 120, uuid, sizeof(uuid));
    for (copy = 0; copy < 2; copy++) {
        fuzz_patch(FUZZ_HEADER, COPY(disk, copy), 104, uuid, sizeof(uuid));
        fuzz_patch(FUZZ_HEADER, COPY(disk, copy), 40, &feature, 1);
    }
}

static void test_loop_of_one(void)
{
    size_t mark = sim_mark();

    set_backing(TWO, TWO);
    expect_error("two", "is based on itself");
    expect_error("top", "is based on itself");
    sim_undo(mark);
}

static void test_loop_of_two(void)
{
    size_t mark = sim_mark();

    set_backing(TWO, TOP);
    expect_error("two", "is based on itself");
    expect_error("top", "is based on itself");
    sim_undo(mark);
}

static void put_superblock(unsigned at, unsigned bytes, uint64_t value)
{
    uint8_t buf[8];
    unsigned copy;

    page_put(buf, 0, bytes, value);
    for (copy = 0; copy < 2; copy++) {
        fuzz_patch(FUZZ_SUPERBLOCK, copy, at, buf, bytes);
    }
}

/* The largest tables that there can be, on a device that has no room. */
static void test_claims(void)
{
    size_t mark = sim_mark();

    put_superblock(108, 4, 65536);              /* disk_slots */
    put_superblock(112, 4, 65536);              /* disk_high */
    put_superblock(120, 8, 16777216);           /* segment_slots */
    put_superblock(144, 8, 16 * MiB);           /* disk_offset */
    put_superblock(152, 8, 512 * MiB);          /* segment_offset */
    put_superblock(160, 8, 2 * GiB);            /* data_offset */
    put_superblock(128, 8, 0);                  /* segment_count */
    expect_error("two", "field 'segment_count': the volume has at least");
    put_superblock(64, 8, 1);                   /* feature "grow" */
    expect_error("two", "field 'data_offset': the volume has at least");
    put_superblock(128, 8, 16777216);
    expect_error("two", "field 'data_offset': the volume has at least");
    put_superblock(64, 8, 0);
    expect_error("two", "field 'segment_count': the volume has at least");
    sim_undo(mark);
}

static char *chain_name(unsigned n)
{
    return g_strdup_printf("disk%u", n);
}

/* The longest chain can be opened, one more disk on top of it cannot. */
static void test_chain(void)
{
    BlockBackend *blk;
    unsigned n;

    fuzz_end();
    sim_device_new(CHAIN_DEVICE);
    for (n = 0; n <= CHAIN_MAX; n++) {
        g_autofree char *name = chain_name(n);
        g_autofree char *base = n ? chain_name(n - 1) : NULL;

        sim_disk_create(name, 1 * MiB, base, n ? 0 : CHAIN_DEVICE,
                        &error_abort);
        if (n == CHAIN_MAX - 1) {
            blk = fuzz_open(name, 0, &error_abort);
            blk_unref(blk);
        } else if (n == CHAIN_MAX) {
            expect_error(name, "chain of more than 500 disks");
        }
    }
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    fuzz_init();
    g_test_add_func("/csv/hostile/loop-of-one", test_loop_of_one);
    g_test_add_func("/csv/hostile/loop-of-two", test_loop_of_two);
    g_test_add_func("/csv/hostile/claims", test_claims);
    g_test_add_func("/csv/hostile/chain", test_chain);
    ret = g_test_run();
    fuzz_end();
    return ret;
}
