/*
 * The greeting of the migration pipeline on the wire
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/bswap.h"
#include "migration/pipeline/hello.h"

static const HelloMessage example = {
    .type = HELLO_GO, .features = HELLO_MULTIFD, .required = 0x8000000000000001,
    .channels = 4, .page_size = 4096,
};

/* Every byte of the format, as docs/interop/migration-pipeline.rst has it */
static void test_format(void)
{
    static const uint8_t want[] = {
        'Q', 'P', 'I', 'P', 0, 2, 0, 50,
        0, 0, 0, 0, 0, 0, 0, 1,
        0x80, 0, 0, 0, 0, 0, 0, 1,
        0, 0, 0, 4, 0, 0, 16, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    };
    g_autoptr(GByteArray) bytes = migration_hello_encode(&example, "hi");

    g_assert_cmpmem(bytes->data, sizeof(want), want, sizeof(want));
    g_assert_cmpint(bytes->len, ==, 50);
    g_assert_cmpmem(bytes->data + 48, 2, "hi", 2);
}

static void test_round(void)
{
    g_autoptr(GByteArray) bytes = migration_hello_encode(&example, "why \xff");
    g_autofree char *text = NULL;
    HelloMessage m;

    g_assert_cmpint(migration_hello_length(bytes->data, &error_abort), ==,
                    bytes->len);
    g_assert_true(migration_hello_decode(bytes->data, bytes->len, &m, &text,
                                         &error_abort));
    g_assert_cmpint(m.type, ==, HELLO_GO);
    g_assert_cmphex(m.features, ==, HELLO_MULTIFD);
    g_assert_cmphex(m.required, ==, 0x8000000000000001);
    g_assert_cmpint(m.channels, ==, 4);
    g_assert_cmpint(m.page_size, ==, 4096);
    /* What is no UTF-8 is made to be. */
    g_assert_cmpstr(text, ==, "why \xef\xbf\xbd");
}

/* A text that is too long is cut. */
static void test_long(void)
{
    g_autofree char *text = g_strnfill(3 * HELLO_TEXT_MAX, 'x');
    g_autoptr(GByteArray) bytes = migration_hello_encode(&example, text);

    g_assert_cmpint(bytes->len, ==, sizeof(HelloMessage) + HELLO_TEXT_MAX);
    g_assert_cmpint(migration_hello_length(bytes->data, &error_abort), ==,
                    bytes->len);
}

static void test_length(void)
{
    static const unsigned bad[] = { 0, 47, 1073, 65535 };
    g_autoptr(GByteArray) bytes = migration_hello_encode(&example, NULL);
    Error *err = NULL;

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        stw_be_p(bytes->data + 6, bad[i]);
        g_assert_cmpint(migration_hello_length(bytes->data, &err), ==, 0);
        error_free_or_abort(&err);
    }
    bytes->data[0]++;
    g_assert_cmpint(migration_hello_length(bytes->data, &err), ==, 0);
    error_free_or_abort(&err);
}

/* No bit can change unnoticed. */
static void test_damage(void)
{
    g_autoptr(GByteArray) bytes = migration_hello_encode(&example, "text");

    for (unsigned bit = 0; bit < bytes->len * 8; bit++) {
        g_autofree char *text = NULL;
        Error *err = NULL;
        HelloMessage m;

        bytes->data[bit / 8] ^= 1 << bit % 8;
        g_assert_false(migration_hello_decode(bytes->data, bytes->len, &m,
                                              &text, &err));
        error_free_or_abort(&err);
        bytes->data[bit / 8] ^= 1 << bit % 8;
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pipeline/hello/format", test_format);
    g_test_add_func("/pipeline/hello/round", test_round);
    g_test_add_func("/pipeline/hello/long", test_long);
    g_test_add_func("/pipeline/hello/length", test_length);
    g_test_add_func("/pipeline/hello/damage", test_damage);
    return g_test_run();
}
