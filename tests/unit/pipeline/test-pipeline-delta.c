/*
 * Pages of which only what has changed is sent
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "exec/ramlist.h"
#include "exec/target_page.h"
#include "migration/pipeline/delta.h"

#define PAGE    4096
#define PAGES   32
/* Fewer copies than pages */
#define COPIES  20

/* A guest with one block of memory */

RAMList ram_list;
static uint8_t guest[PAGES * PAGE], there[PAGES * PAGE];

const TargetPageBits target_page = {
    .decided = true, .bits = 12, .mask = -PAGE
};

bool qemu_ram_is_migratable(RAMBlock *block)
{
    return true;
}

static void fill(GRand *rand, uint8_t *buf, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        buf[i] = g_rand_int(rand);
    }
}

/* A page with @changes other bytes comes out as it was; returns its length. */
static size_t round_trip(GRand *rand, unsigned changes, bool known)
{
    uint8_t old[PAGE], new[PAGE], got[PAGE], packed[PAGE];
    uint16_t code;
    size_t len;

    fill(rand, old, PAGE);
    memcpy(new, old, PAGE);
    for (unsigned i = 0; i < changes; i++) {
        new[g_rand_int_range(rand, 0, PAGE)]++;
    }
    memcpy(got, old, PAGE);
    len = delta_encode_page(known ? old : NULL, new, PAGE, packed, &code);
    g_assert_cmpint(len, <=, PAGE);
    g_assert_cmpint(delta_decode_page(code, packed, len, got, PAGE), ==,
                    len);
    g_assert_cmpmem(got, PAGE, new, PAGE);
    /* And nothing but all of it will do. */
    if (len) {
        g_assert_cmpint(delta_decode_page(code, packed, len - 1, got, PAGE),
                        ==, -1);
    }
    return len;
}

static void test_round(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(g_test_rand_int());

    for (unsigned i = 0; i < 1000; i++) {
        g_assert_cmpint(round_trip(rand, 0, true), ==, 0);
        g_assert_cmpint(round_trip(rand, 1, true), <, 16);
        round_trip(rand, 1 << i % 13, true);
        g_assert_cmpint(round_trip(rand, 3, false), ==, PAGE);
    }
    g_assert_cmpint(round_trip(rand, 10 * PAGE, true), ==, PAGE);
}

/* Bytes from a liar: an error or a page, and nothing beside it is touched. */
static void test_hostile(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(g_test_rand_int());
    unsigned taken = 0;

    for (unsigned i = 0; i < 200000; i++) {
        uint8_t page[3 * PAGE], src[256];
        uint16_t code = g_rand_boolean(rand) ?
                        g_rand_int_range(rand, 0, sizeof(src) + 8) :
                        g_rand_int(rand);
        ssize_t took;

        memset(page, 0xa5, sizeof(page));
        fill(rand, src, sizeof(src));
        /* Short runs, so that some go on for a while */
        for (unsigned j = 0; j < sizeof(src); j++) {
            src[j] &= g_rand_boolean(rand) ? 0x0f : 0xff;
        }
        took = delta_decode_page(code, src, sizeof(src), page + PAGE, PAGE);
        g_assert_true(took == -1 || took == code);
        taken += took > 0;
        for (unsigned j = 0; j < PAGE; j++) {
            g_assert_cmphex(page[j], ==, 0xa5);
            g_assert_cmphex(page[2 * PAGE + j], ==, 0xa5);
        }
    }
    g_assert_cmpint(taken, >, 0);
}

static void send_delta(DeltaShadow *shadow, unsigned page)
{
    uint8_t packed[PAGE];
    uint16_t code;
    size_t len = delta_encode(shadow, page * PAGE, packed, &code);

    g_assert_cmpint(delta_decode_page(code, packed, len, there + page * PAGE,
                                      PAGE), ==, len);
}

/* Send a page in one of the ways that there are. */
static void send_page(GRand *rand, DeltaCopies *copies, RAMBlock *block,
                      unsigned page, unsigned *deltas)
{
    ram_addr_t offset = page * PAGE;
    bool zero = !g_rand_int_range(rand, 0, 8);
    DeltaShadow *shadow = delta_shadow(copies, block, &offset, 1,
                                       g_rand_int_range(rand, 0, 8));

    if (zero) {
        memset(guest + offset, 0, PAGE);
        memset(there + offset, 0, PAGE);
        if (shadow) {
            delta_forget(shadow, offset);
        }
    } else if (!shadow) {
        memcpy(there + offset, guest + offset, PAGE);
    } else if (g_rand_boolean(rand)) {
        delta_copy(shadow, offset);
        memcpy(there + offset, delta_shadow_block(shadow)->host + offset,
               PAGE);
    } else {
        send_delta(shadow, page);
        ++*deltas;
    }
}

/*
 * Bytes that change to and fro, in pages that are sent in all ways: what is
 * there is always what the guest has.
 */
static void test_shadow(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(g_test_rand_int());
    RAMBlock block = { .host = guest, .used_length = sizeof(guest) };
    DeltaCopies *copies;
    unsigned deltas = 0;

    QLIST_INSERT_HEAD_RCU(&ram_list.blocks, &block, next);
    copies = delta_copies_new(COPIES * PAGE);
    for (unsigned i = 0; i < 50000; i++) {
        unsigned page = g_rand_int_range(rand, 0, PAGES);

        guest[page * PAGE + g_rand_int_range(rand, 0, 4)] ^= 1;
        send_page(rand, copies, &block, page, &deltas);
        g_assert_cmpmem(there + page * PAGE, PAGE, guest + page * PAGE, PAGE);
    }
    g_assert_cmpint(deltas, >, 1000);
    delta_copies_free(copies);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pipeline/delta/round", test_round);
    g_test_add_func("/pipeline/delta/hostile", test_hostile);
    g_test_add_func("/pipeline/delta/shadow", test_shadow);
    return g_test_run();
}
