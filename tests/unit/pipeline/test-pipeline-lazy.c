/*
 * What an UFFDIO_COPY has done
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/pipeline/lazy.h"

#define PAGE    4096
#define LEN     (16 * PAGE)

static void test_placed(void)
{
    g_assert_cmpint(lazy_placed(0, LEN, LEN, PAGE), ==, LEN);
    /* Somebody else was faster: only this page is known to be there. */
    g_assert_cmpint(lazy_placed(-EEXIST, -EEXIST, LEN, PAGE), ==, PAGE);
    g_assert_cmpint(lazy_placed(-EAGAIN, -EAGAIN, LEN, PAGE), ==, 0);
    /* Some were placed before that. */
    g_assert_cmpint(lazy_placed(-EEXIST, 3 * PAGE, LEN, PAGE), ==, 3 * PAGE);
    g_assert_cmpint(lazy_placed(-EAGAIN, 3 * PAGE, LEN, PAGE), ==, 3 * PAGE);
    g_assert_cmpint(lazy_placed(-ENOMEM, 3 * PAGE, LEN, PAGE), ==, 3 * PAGE);
}

/* A page that could not be placed is missing, whatever the reason. */
static void test_failed(void)
{
    static const int reasons[] = { ENOMEM, ENOENT, ENOSPC, ESRCH, EINVAL,
                                   EFAULT };

    for (unsigned i = 0; i < ARRAY_SIZE(reasons); i++) {
        g_assert_cmpint(lazy_placed(-reasons[i], -reasons[i], LEN, PAGE), ==,
                        -reasons[i]);
        g_assert_cmpint(lazy_placed(-reasons[i], 0, LEN, PAGE), ==,
                        -reasons[i]);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pipeline/lazy/placed", test_placed);
    g_test_add_func("/pipeline/lazy/failed", test_failed);
    return g_test_run();
}
