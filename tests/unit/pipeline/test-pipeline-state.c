/*
 * The header of a guest's state
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "migration/pipeline/state.h"

#define DISK_SIZE   (8 * GiB)

static const StateHeader example = {
    .stream = STATE_STREAM,
    .memory = 0x123456789,
    .created = 1795600000,
    .disk.data = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 },
    .token.data = { 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
                    32 },
};

static char *why_not(const uint8_t *buf, uint64_t size)
{
    StateHeader header;
    Error *err = NULL;
    char *why;

    g_assert_false(pipeline_state_decode(buf, size, &header, &err));
    why = g_strdup(error_get_pretty(err));
    error_free(err);
    return why;
}

static void expect(const StateHeader *header, const char *want)
{
    uint8_t buf[STATE_HEADER_SIZE];
    g_autofree char *why = NULL;

    pipeline_state_encode(header, buf);
    why = why_not(buf, DISK_SIZE);
    g_assert_nonnull(strstr(why, want));
}

/* Every byte of the format, as docs/interop/migration-state.rst has it */
static void test_format(void)
{
    static const uint8_t want[80] = {
        'Q', 'P', 'S', 'T', 'A', 'T', 'E', 0,
        0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0x10, 0, 0, 0, 0, 0,
        0x89, 0x67, 0x45, 0x23, 1, 0, 0, 0,
        0x80, 0xae, 0x06, 0x6b, 0, 0, 0, 0,
        1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
        17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32,
    };
    uint8_t buf[STATE_HEADER_SIZE];

    pipeline_state_encode(&example, buf);
    g_assert_cmpmem(buf, sizeof(want), want, sizeof(want));
    for (unsigned i = sizeof(want); i < offsetof(StateHeader, crc); i++) {
        g_assert_cmpint(buf[i], ==, 0);
    }
}

static void test_round(void)
{
    StateHeader making = example, header;
    uint8_t buf[STATE_HEADER_SIZE];

    making.incompatible = STATE_MAKING;
    making.compatible = 0x8000000000000000;
    pipeline_state_encode(&making, buf);
    g_assert_true(pipeline_state_decode(buf, DISK_SIZE, &header,
                                        &error_abort));
    g_assert_cmphex(header.incompatible, ==, STATE_MAKING);
    g_assert_cmphex(header.compatible, ==, making.compatible);
    g_assert_cmpint(header.stream, ==, STATE_STREAM);
    g_assert_cmpint(header.memory, ==, example.memory);
    g_assert_cmpint(header.created, ==, example.created);
    g_assert_true(qemu_uuid_is_equal(&header.disk, &example.disk));
    g_assert_true(qemu_uuid_is_equal(&header.token, &example.token));
}

/* Each bit counts. */
static void test_flipped(void)
{
    uint8_t buf[STATE_HEADER_SIZE];

    pipeline_state_encode(&example, buf);
    for (unsigned bit = 0; bit < 8 * STATE_HEADER_SIZE; bit++) {
        g_autofree char *why = NULL;

        buf[bit / 8] ^= 1 << bit % 8;
        why = why_not(buf, DISK_SIZE);
        g_assert_nonnull(strstr(why, bit < 64 ? "not the state" : "damaged"));
        buf[bit / 8] ^= 1 << bit % 8;
    }
}

/* A good CRC, and values that make no sense */
static void test_values(void)
{
    StateHeader h = example;
    uint8_t zero[STATE_HEADER_SIZE] = { 0 };
    g_autofree char *why = why_not(zero, DISK_SIZE);

    g_assert_nonnull(strstr(why, "not the state"));
    h.incompatible = 2;
    expect(&h, "newer");
    h.incompatible = 0;
    h.stream = 0;
    expect(&h, "begin at 0");
    h.stream = STATE_STREAM + 512;
    expect(&h, "begin at");
    h.stream = DISK_SIZE;
    expect(&h, "begin at");
    h.stream = UINT64_MAX & ~(STATE_STREAM - 1);
    expect(&h, "begin at");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pipeline/state/format", test_format);
    g_test_add_func("/pipeline/state/round", test_round);
    g_test_add_func("/pipeline/state/flipped", test_flipped);
    g_test_add_func("/pipeline/state/values", test_values);
    return g_test_run();
}
