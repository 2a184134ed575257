/*
 * Raw, compressed or a difference: what is chosen, on made-up links and CPUs
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/pipeline/choice.h"

#define PAGES       128
#define PACKET      (PAGES * 4096.0)

/* Bytes a microsecond, which is MB a second */
typedef struct World {
    const char *name;
    double link, buffer, zstd, ratio;
    double producer;            /* what delivers pages; 0: is never late */
    PacketMethod best;
    double delta, delta_ratio;  /* 0: there is none; else from DELTA_FROM on */
} World;

#define DELTA_FROM  512

static const World worlds[] = {
    { "fast-link", 5000, 4e6, 400, 3, 0, PACKET_RAW },
    { "10-gbit", 1200, 4e6, 400, 3, 0, PACKET_RAW },
    { "1-gbit", 120, 4e6, 400, 3, 0, PACKET_ZSTD },
    { "1-gbit-small-buffer", 120, 2e5, 400, 30, 0, PACKET_ZSTD },
    { "1-gbit-zeroes", 120, 4e6, 2000, 100, 0, PACKET_ZSTD },
    { "200-mbit", 24, 4e6, 400, 30, 0, PACKET_ZSTD },
    { "incompressible", 120, 4e6, 400, 1, 0, PACKET_RAW },
    { "slow-cpu", 120, 4e6, 40, 3, 0, PACKET_RAW },
    { "nothing-to-do", 120, 4e6, 400, 3, 20, PACKET_RAW },
    { "few-bytes", 120, 4e6, 400, 1, 0, PACKET_DELTA, 1500, 50 },
    { "few-bytes-200-mbit", 24, 4e6, 400, 2, 0, PACKET_DELTA, 1500, 50 },
    { "few-bytes-fast-link", 5000, 4e6, 400, 1, 0, PACKET_RAW, 1500, 50 },
    { "all-is-new", 120, 4e6, 400, 3, 0, PACKET_ZSTD, 1500, 1 },
    { "all-is-noise", 120, 4e6, 400, 1, 0, PACKET_RAW, 1500, 1 },
};

/* A socket's buffer: full of what the link has not taken yet */
typedef struct Socket {
    double now, fill;
} Socket;

static void socket_send(Socket *s, const World *w, double bytes)
{
    double wait = MAX(0, s->fill + bytes - w->buffer) / w->link;

    s->fill += bytes;
    s->now += wait + bytes / 8000;          /* copied */
    s->fill = MAX(0, s->fill - wait * w->link);
}

static void socket_pass(Socket *s, const World *w, double time)
{
    s->now += time;
    s->fill = MAX(0, s->fill - time * w->link);
}

static void send_packet(Socket *s, const World *w, PacketMethod m,
                        PacketChoice *c)
{
    double speed = m == PACKET_ZSTD ? w->zstd :
                   m == PACKET_DELTA ? w->delta : 0;
    double ratio = m == PACKET_ZSTD ? w->ratio :
                   m == PACKET_DELTA ? w->delta_ratio : 1;
    double work = speed ? PACKET / speed : 0;

    packet_choice_sent(c, PAGES, PAGES, work, PACKET / ratio);
    socket_pass(s, w, work);
    socket_send(s, w, PACKET / ratio);
}

/* Megabytes of memory a second, if @fixed is used, or what is chosen (-1) */
static double run(const World *w, unsigned packets, int fixed,
                  unsigned *share, PacketChoice *c)
{
    Socket s = { 0 };
    double due = 0;

    memset(share, 0, PACKET_METHODS * sizeof(*share));
    for (unsigned i = 0; i < packets; i++) {
        bool delta = w->delta && i >= DELTA_FROM;
        PacketMethod m = packet_choice_next(c, s.now, delta ? 3 : 2);

        if (fixed >= 0) {
            m = fixed == PACKET_DELTA && !delta ? PACKET_RAW : fixed;
        }
        share[m]++;
        send_packet(&s, w, m, c);
        if (w->producer) {
            due += PACKET / w->producer;
            socket_pass(&s, w, MAX(0, due - s.now));
        }
    }
    return packets * PACKET / (s.now + s.fill / w->link);
}

/* The best method is used nearly always, and is nearly as fast as alone. */
static void test_world(const void *opaque)
{
    const World *w = opaque;
    const unsigned packets = 8192;      /* 4 GiB */
    unsigned share[PACKET_METHODS];
    PacketChoice c = { 0 };
    double best, mixed;

    best = MAX(run(w, packets, PACKET_RAW, share, &(PacketChoice) { 0 }),
               run(w, packets, PACKET_ZSTD, share, &(PacketChoice) { 0 }));
    if (w->delta) {
        best = MAX(best, run(w, packets, PACKET_DELTA, share,
                             &(PacketChoice) { 0 }));
    }
    mixed = run(w, packets, -1, share, &c);
    g_test_message("%s: best %.0f MB/s, mixed %.0f MB/s, raw %u, zstd %u, "
                   "delta %u", w->name, best, mixed, share[PACKET_RAW],
                   share[PACKET_ZSTD], share[PACKET_DELTA]);
    g_assert_cmpint(share[w->best], >, 0.9 * (packets - DELTA_FROM));
    g_assert_cmpfloat(mixed, >, 0.93 * best);
}

/* A link that gets slow is noticed, and one that gets fast again, too. */
static void test_change(void)
{
    unsigned share[PACKET_METHODS];
    PacketChoice c = { 0 };

    run(&worlds[0], 1024, -1, share, &c);
    g_assert_cmpint(c.best, ==, PACKET_RAW);
    c.sent = 0;
    run(&worlds[2], 4096, -1, share, &c);
    g_assert_cmpint(share[PACKET_ZSTD], >, 2048);
    c.sent = 0;
    run(&worlds[0], 16384, -1, share, &c);
    g_assert_cmpint(share[PACKET_RAW], >, 8192);
}

/* Where the link is known to be fast, nothing is compressed for long. */
static void test_fast(void)
{
    unsigned share[PACKET_METHODS];
    PacketChoice c = { .fast = true };

    run(&worlds[0], 200, -1, share, &c);
    g_assert_cmpint(share[PACKET_RAW], ==, 200);
    c.sent = 0;
    run(&worlds[0], 200, -1, share, &c);
    g_assert_cmpint(share[PACKET_ZSTD], >, 0);
    g_assert_cmpint(share[PACKET_RAW], >, 180);
}

/* A pause is not taken for a link that has become slow. */
static void test_pause(void)
{
    unsigned share[PACKET_METHODS];
    PacketChoice c = { 0 };
    double cost;

    run(&worlds[2], 1036, -1, share, &c);
    g_assert_cmpint(c.best, ==, PACKET_ZSTD);
    cost = c.cost[PACKET_ZSTD];
    packet_choice_pause(&c);
    g_assert_cmpint(packet_choice_next(&c, 100000000, 2), ==, PACKET_ZSTD);
    packet_choice_sent(&c, PAGES, PAGES, 1, 1);
    for (unsigned i = 1; i < 64; i++) {
        packet_choice_next(&c, 100000000 + i * cost * PAGES, 2);
        packet_choice_sent(&c, PAGES, PAGES, 1, 1);
    }
    g_assert_cmpint(c.best, ==, PACKET_ZSTD);
    g_assert_cmpfloat(c.cost[PACKET_ZSTD], <, cost * 1.1);
}

/* When each packet counts, all go the best way, and a trial ends at once. */
static void test_last(void)
{
    unsigned share[PACKET_METHODS];
    PacketChoice c = { 0 };

    run(&worlds[2], 1024, -1, share, &c);
    g_assert_cmpint(c.best, ==, PACKET_ZSTD);
    c.last = true;
    c.sent = 0;
    run(&worlds[2], 4096, -1, share, &c);
    g_assert_cmpint(share[PACKET_ZSTD], ==, 4096);

    c.last = false;
    c.sent = 0;
    for (int64_t now = 0; !c.trial; now += 1000) {
        g_assert_cmpint(now, <, 100000000);
        packet_choice_next(&c, now, 2);
        packet_choice_sent(&c, PAGES, PAGES, 1, 1);
    }
    c.last = true;
    c.sent = 0;
    run(&worlds[2], 64, -1, share, &c);
    g_assert_cmpint(share[PACKET_ZSTD], ==, 64);
}

/* What was said of the link was wrong. */
static void test_not_fast(void)
{
    unsigned share[PACKET_METHODS];
    PacketChoice c = { .fast = true };

    run(&worlds[5], 1024, -1, share, &c);
    g_assert_false(c.fast);
    g_assert_cmpint(share[PACKET_ZSTD], >, 900);

    /* It is not much slower than that: this takes longer to be seen. */
    c = (PacketChoice) { .fast = true };
    run(&worlds[2], 4096, -1, share, &c);
    g_assert_cmpint(share[PACKET_ZSTD], >, 3500);
}

#define WORK        500
#define SMALL       (PACKET / 2)

/* The time at which @n packets have taken @each, all sent as expected */
static int64_t send_some(PacketChoice *c, int64_t now, unsigned n, int64_t each,
                         PacketMethod expect)
{
    while (n--) {
        g_assert_cmpint(packet_choice_next(c, now, 2), ==, expect);
        packet_choice_sent(c, PAGES, PAGES, WORK,
                           expect == PACKET_RAW ? PACKET : SMALL);
        now += each;
    }
    return now;
}

/*
 * One packet that waits for a CPU does not make a fast link slow: all are raw.
 * When the next run is slow as well, it is the link.
 */
static void test_doubt(void)
{
    PacketChoice c = { .fast = true };
    int64_t now = send_some(&c, 0, 1, 60000, PACKET_RAW);

    send_some(&c, now, 200, 1000, PACKET_RAW);

    c = (PacketChoice) { .fast = true };
    now = send_some(&c, 0, 2, 60000, PACKET_RAW);
    send_some(&c, now, 1, 1000, PACKET_ZSTD);
}

/* The link is slow, as is said in time: to begin compressed was right. */
static void test_know_slow(void)
{
    PacketChoice c = { 0 };
    int64_t now = send_some(&c, 0, 4, 1000, PACKET_ZSTD);

    packet_choice_know_raw(&c, 100, 4096);
    /* It may take longer than that, as the link is not ours alone. */
    now = send_some(&c, now, 200, 200 * PAGES, PACKET_ZSTD);
    g_assert_cmpint(c.best, ==, PACKET_ZSTD);
    /* The link may change as long as it is told, and then no more. */
    packet_choice_know_raw(&c, 50, 4096);
    g_assert_cmpfloat(c.cost[PACKET_RAW], ==, 50);
    now = send_some(&c, now, 68, 200 * PAGES, PACKET_ZSTD);
    now = send_some(&c, now, 16, 300 * PAGES, PACKET_RAW);
    now = send_some(&c, now, 1, 200 * PAGES, PACKET_ZSTD);
    packet_choice_know_raw(&c, 50, 4096);
    g_assert_cmpfloat(c.cost[PACKET_RAW], ==, 300);
}

/* The link is fast after all: raw pages are measured. */
static void test_know_otherwise(void)
{
    PacketChoice c = { 0 };
    int64_t now = send_some(&c, 0, 4, 1000, PACKET_ZSTD);

    packet_choice_know_raw(&c, 100, 4096);
    now = send_some(&c, now, 21, 1000, PACKET_ZSTD);
    packet_choice_know_raw(&c, 0, 4096);
    now = send_some(&c, now, 100, 100, PACKET_RAW);
    g_assert_false(c.told);
}

/* What does not get smaller, or not in time, is not compressed. */
static void test_know_better(void)
{
    PacketChoice c = { 0 };

    packet_choice_next(&c, 0, 2);
    for (unsigned i = 0; i < 16; i++) {
        packet_choice_sent(&c, PAGES, PAGES, WORK, PACKET);
        packet_choice_next(&c, 1000 * i, 2);
        packet_choice_know_raw(&c, 100, 4096);
    }
    g_assert_cmpint(c.best, ==, PACKET_RAW);
    c = (PacketChoice) { 0 };
    packet_choice_next(&c, 0, 2);
    for (unsigned i = 0; i < 16; i++) {
        packet_choice_sent(&c, PAGES, PAGES, 200 * PAGES, SMALL);
        packet_choice_next(&c, 1000 * i, 2);
        packet_choice_know_raw(&c, 100, 4096);
    }
    g_assert_cmpint(c.best, ==, PACKET_RAW);
}

/* It is not: raw ones are measured first. */
static void test_know_fast(void)
{
    PacketChoice c = { 0 };
    int64_t now = send_some(&c, 0, 4, 1000, PACKET_ZSTD);

    packet_choice_know_raw(&c, 0, 4096);
    now = send_some(&c, now, 16, 100, PACKET_RAW);
    now = send_some(&c, now, 2, 1000, PACKET_ZSTD);
    /* which is so slow that it is enough */
    now = send_some(&c, now, 200, 100, PACKET_RAW);
    g_assert_cmpint(c.best, ==, PACKET_RAW);
}

/* Zeroes between say nothing of either way, whatever they take. */
static void test_zeroes(void)
{
    PacketChoice c = { 0 };
    int64_t now = send_some(&c, 0, 4, 1000, PACKET_ZSTD);

    packet_choice_know_raw(&c, 20, 4096);
    for (unsigned i = 0; i < 1000; i++) {
        g_assert_cmpint(packet_choice_next(&c, now, 2), ==, PACKET_ZSTD);
        packet_choice_sent(&c, 1, PAGES, WORK, 4096);
        now += 10000;
    }
    now = send_some(&c, now, 20, 1000, PACKET_ZSTD);
    g_assert_cmpint(c.best, ==, PACKET_ZSTD);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < ARRAY_SIZE(worlds); i++) {
        g_autofree char *path = g_strdup_printf("/pipeline/choice/%s",
                                                worlds[i].name);

        g_test_add_data_func(path, &worlds[i], test_world);
    }
    g_test_add_func("/pipeline/choice/change", test_change);
    g_test_add_func("/pipeline/choice/fast", test_fast);
    g_test_add_func("/pipeline/choice/not-fast", test_not_fast);
    g_test_add_func("/pipeline/choice/pause", test_pause);
    g_test_add_func("/pipeline/choice/last", test_last);
    g_test_add_func("/pipeline/choice/know-slow", test_know_slow);
    g_test_add_func("/pipeline/choice/know-otherwise", test_know_otherwise);
    g_test_add_func("/pipeline/choice/know-better", test_know_better);
    g_test_add_func("/pipeline/choice/doubt", test_doubt);
    g_test_add_func("/pipeline/choice/know-fast", test_know_fast);
    g_test_add_func("/pipeline/choice/zeroes", test_zeroes);
    return g_test_run();
}
