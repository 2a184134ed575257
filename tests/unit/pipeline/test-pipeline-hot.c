/*
 * Pages that are put off, on made-up guests
 *
 * A guest writes pages, a source sends those in a bitmap and syncs it now and
 * then, as QEMU does.  Whatever was put off in between, at the end everything
 * that the destination lacks must be in the bitmap.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bitmap.h"
#include "migration/pipeline/hot-set.h"

#define PAGES   5000    /* not a multiple of a word */

typedef struct Guest {
    uint32_t memory[PAGES];         /* what the pages hold */
    uint32_t sent[PAGES];           /* and at the destination */
    unsigned long *log;             /* written since the last sync */
    unsigned long *dirty;           /* the source's bitmap */
    uint64_t left;                  /* to be sent; its own count */
    uint64_t sends;
    HotSet *set;
    uint64_t hot;
    HotCount count;                 /* of the last sync */
} Guest;

static Guest *guest_new(void)
{
    Guest *g = g_new0(Guest, 1);

    g->log = bitmap_new(PAGES);
    g->dirty = bitmap_new(PAGES);
    g->set = hot_set_new(PAGES);
    return g;
}

static void guest_free(Guest *g)
{
    g_free(g->log);
    g_free(g->dirty);
    hot_set_free(g->set);
    g_free(g);
}

static void guest_write(Guest *g, unsigned page)
{
    g->memory[page]++;
    set_bit(page, g->log);
}

static void guest_write_many(Guest *g, unsigned first, unsigned n)
{
    for (unsigned i = first; i < first + n; i++) {
        guest_write(g, i);
    }
}

/* Send up to @n pages. */
static void guest_send(Guest *g, unsigned n)
{
    unsigned long page = 0;

    while (n-- && (page = find_next_bit(g->dirty, PAGES, page)) < PAGES) {
        clear_bit(page, g->dirty);
        g->sent[page] = g->memory[page];
        g->left--;
        g->sends++;
    }
}

/* What every sync does; the caller does the rest. */
static void guest_log(Guest *g)
{
    for (unsigned long page = find_first_bit(g->log, PAGES); page < PAGES;
         page = find_next_bit(g->log, PAGES, page + 1)) {
        g->left += !test_and_set_bit(page, g->dirty);
    }
    bitmap_zero(g->log, PAGES);
    g->count = (HotCount) { 0 };
    hot_set_count(g->set, g->dirty, &g->count);
    g->left -= g->count.both;
}

static void guest_check(const Guest *g)
{
    unsigned left = 0;

    for (unsigned i = 0; i < PAGES; i++) {
        bool put_off = g->set->put_off && test_bit(i, g->set->twice);
        bool dirty = test_bit(i, g->dirty);

        g_assert_false(put_off && dirty);
        if (g->memory[i] != g->sent[i]) {
            g_assert_true(put_off || dirty || test_bit(i, g->log));
        }
        left += put_off || dirty;
    }
    g_assert_cmpint(left, ==, g->left);
}

static void guest_sync(Guest *g)
{
    guest_log(g);
    g->hot = hot_set_sync(g->set, g->dirty, hot_count_likely(&g->count));
    guest_check(g);
}

static void guest_end(Guest *g)
{
    guest_log(g);
    hot_set_end(g->set, g->dirty);
    guest_check(g);
    g_assert_cmpint(g->left, ==, bitmap_count_one(g->dirty, PAGES));
    guest_send(g, PAGES);
    g_assert_cmpint(g->left, ==, 0);
    g_assert_cmpmem(g->memory, sizeof(g->memory), g->sent, sizeof(g->sent));
}

/* A thousand pages all the time, among others that are written once */
static void test_always(void)
{
    Guest *g = guest_new();

    for (unsigned i = 0; i < 10; i++) {
        guest_write_many(g, 100, 1000);
        guest_write_many(g, 2000 + 100 * i, 100);
        guest_sync(g);
        g_assert_cmpint(g->hot, ==, i ? 1000 : 0);
        guest_send(g, PAGES);
    }
    g_assert_cmpint(g->sends, ==, 1000 + 10 * 100);
    guest_end(g);
    g_assert_cmpint(g->sends, ==, 2 * 1000 + 10 * 100);
    guest_free(g);
}

/* What cools down is sent while the guest runs. */
static void test_cools(void)
{
    Guest *g = guest_new();

    for (unsigned i = 0; i < 4; i++) {
        guest_write_many(g, 100, 1000);
        guest_sync(g);
        guest_send(g, PAGES);
    }
    g_assert_cmpint(g->hot, ==, 1000);
    guest_write_many(g, 100, 950);
    guest_sync(g);
    g_assert_cmpint(g->hot, ==, 950);
    guest_send(g, PAGES);
    g_assert_cmpint(g->left, ==, 950);

    /* Half of it: a page that was dirty twice is no longer likely to be. */
    guest_write_many(g, 100, 500);
    guest_sync(g);
    g_assert_cmpint(g->hot, ==, 0);
    guest_send(g, PAGES);
    g_assert_cmpint(g->left, ==, 0);
    guest_sync(g);
    guest_end(g);
    guest_free(g);
}

/* Of random writes nothing is put off, nor of those that go round. */
static void test_unlikely(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);
    Guest *g = guest_new();

    for (unsigned i = 0; i < 50; i++) {
        for (unsigned j = 0; j < PAGES; j++) {
            guest_write(g, g_rand_int_range(rand, 0, PAGES));
        }
        guest_sync(g);
        g_assert_cmpint(g->hot, ==, 0);
        guest_send(g, PAGES);
    }
    for (unsigned i = 0; i < 50; i++) {
        guest_write_many(g, i % 5 * 1000, 1000);
        guest_sync(g);
        g_assert_cmpint(g->hot, ==, 0);
        guest_send(g, PAGES);
    }
    guest_end(g);
    guest_free(g);
}

/* A look so soon after another one changes nothing. */
static void test_soon(void)
{
    Guest *g = guest_new();

    for (unsigned i = 0; i < 4; i++) {
        guest_write_many(g, 100, 1000);
        guest_sync(g);
        guest_send(g, PAGES);
        guest_write_many(g, 500, 10);
        guest_log(g);
        hot_set_sync_again(g->set, g->dirty);
        guest_check(g);
    }
    g_assert_cmpint(g->hot, ==, 1000);
    guest_end(g);
    guest_free(g);
}

/* Whatever guest and source do, nothing is lost. */
static void test_random(void)
{
    for (unsigned seed = 1; seed <= 300; seed++) {
        g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
        unsigned hot = g_rand_int_range(rand, 0, 2000);
        Guest *g = guest_new();

        for (unsigned i = 0; i < 40; i++) {
            unsigned n = g_rand_int_range(rand, 0, 300);

            guest_write_many(g, 1000, g_rand_int_range(rand, 0, 4) ? hot : 0);
            while (n--) {
                guest_write(g, g_rand_int_range(rand, 0, PAGES));
            }
            guest_send(g, g_rand_int_range(rand, 0, PAGES));
            guest_write_many(g, 1000, hot / 2);
            switch (g_rand_int_range(rand, 0, 8)) {
            case 0:
                guest_log(g);
                hot_set_sync_again(g->set, g->dirty);
                guest_check(g);
                break;
            case 1:
                /* The user has stopped the guest, or not let it run on. */
                guest_end(g);
                break;
            case 2:
                /* Even against all likelihood */
                guest_log(g);
                hot_set_sync(g->set, g->dirty, g_rand_boolean(rand));
                guest_check(g);
                break;
            default:
                guest_sync(g);
                break;
            }
        }
        guest_end(g);
        guest_free(g);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pipeline/hot/always", test_always);
    g_test_add_func("/pipeline/hot/cools", test_cools);
    g_test_add_func("/pipeline/hot/unlikely", test_unlikely);
    g_test_add_func("/pipeline/hot/soon", test_soon);
    g_test_add_func("/pipeline/hot/random", test_random);
    return g_test_run();
}
