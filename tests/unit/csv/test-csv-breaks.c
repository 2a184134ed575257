/*
 * Does the crash simulation find what it is made for?
 *
 * The driver is built here with the wrong orders of format/breaks.h. Each must
 * be noticed by the workload of a seed that costs little, or by the script of
 * its name; test-csv-crash shows that the driver as it is has nothing to be
 * noticed by them.
 *
 *   test-csv-breaks --tap -k                     all
 *   CSV_CRASH_SEED=n test-csv-breaks -p /csv/breaks/NAME
 *                                                one, by another seed
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/csv/format/breaks.h"
#include "crash-script.h"

#define HOLDS "holds"
#define DAMAGED "is damaged"
#define FOREIGN " of sector "
#define SEEDS_TRIED 12

CsvBreak csv_broken;

typedef struct Break {
    const char *name;
    unsigned seed;      /* 0: the script of this name */
    const char *why;    /* part of what is said */
    bool late;          /* needs an owner that is thought dead */
} Break;

static const Break breaks[CSV_BREAK__MAX] = {
    [CSV_BREAK_ACK_BEFORE_RECORD] = { "ack-before-record", 5, HOLDS },
    [CSV_BREAK_RECORD_BEFORE_DATA] = { "record-before-data", 4, HOLDS },
    [CSV_BREAK_RECORD_NOT_FLUSHED] = { "record-not-flushed", 15, HOLDS },
    [CSV_BREAK_ZEROES_NOT_DURABLE] = { "zeroes-not-durable", 0, FOREIGN },
    [CSV_BREAK_ALWAYS_BLANK] = { "always-blank", 2, HOLDS },
    [CSV_BREAK_SWAP_NOT_FLUSHED] = { "swap-not-flushed", 3, "" },
    [CSV_BREAK_PAGES_BEFORE_DATA] = { "pages-before-data", 2, HOLDS },
    [CSV_BREAK_LEVEL1_BEFORE_LEVEL2] = { "level1-before-level2", 2, DAMAGED },
    [CSV_BREAK_TAIL_BEFORE_PAGES] = { "tail-before-pages", 2, HOLDS },
    [CSV_BREAK_TAIL_NOT_FLUSHED] = { "tail-not-flushed", 2, DAMAGED },
    [CSV_BREAK_RING_OVERRUN] = { "ring-overrun", 9, "is missing" },
    [CSV_BREAK_CHAIN_GOES_ON] = { "chain-goes-on", 245, "is missing" },
    [CSV_BREAK_SETTLE_WITHOUT_PAGES] = { "settle-without-pages", 3, HOLDS },
    [CSV_BREAK_NO_CRC] = { "no-crc", 9, HOLDS },
    [CSV_BREAK_NO_EPOCH] = { "no-epoch", 122, HOLDS, true },
    [CSV_BREAK_NO_OWN_RECORD] = { "no-own-record", 2, HOLDS, true },
    [CSV_BREAK_REUSE_EARLY] = { "reuse-early", 123, FOREIGN },
    [CSV_BREAK_SEGMENT_EARLY] = { "segment-early", 0, "is in no segment" },
    [CSV_BREAK_DISCARD_UNSEEN] = { "trim-unseen", 0, "holds zeroes" },
    [CSV_BREAK_NO_WAIT] = { "no-wait", 0, FOREIGN },
    [CSV_BREAK_NO_QUEUE] = { "no-line", 5, HOLDS },
    [CSV_BREAK_NO_FILL] = { "no-fill", 12, HOLDS },
    [CSV_BREAK_GROW_UNCLEARED] = { "grow-uncleared", 20, HOLDS },
    [CSV_BREAK_GROW_BEFORE_CLEAR] = { "grow-before-clear", 20, HOLDS },
};

/* What is noticed of @b in the workload of seed @n, or NULL */
static char *notice(const Break *b, unsigned n)
{
    CrashEpisode e = b->late ? crash_late_episode(n) :
                     n ? crash_episode(n) : crash_script_episode(b->name);
    char *why;

    crash_stats = (CrashStats) { 0 };
    csv_broken = b - breaks;
    why = crash_run(&e);
    csv_broken = CSV_BREAK_NONE;
    g_test_message("seed %u, %u crash points: %s", n, crash_stats.points,
                   why ?: "not noticed");
    return why;
}

/*
 * A change of the driver makes other crash points, so that the seed may miss:
 * then others of its kind are tried.
 */
static void test_break(const void *opaque)
{
    const Break *b = opaque;
    unsigned given = crash_env("CSV_CRASH_SEED", 0);
    unsigned n = given ?: b->seed, tries = n && !given ? SEEDS_TRIED : 1;
    g_autofree char *why = notice(b, n);

    while (!why && --tries) {
        n += CRASH_KINDS;
        why = notice(b, n);
    }
    if (!why || !strstr(why, b->why)) {
        g_test_message("again: CSV_CRASH_SEED=%u build/qemu/tests/unit/csv/"
                       "test-csv-breaks --tap -k -p /csv/breaks/%s", n,
                       b->name);
        g_test_fail();
    }
}

int main(int argc, char **argv)
{
    crash_init();
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = CSV_BREAK_NONE + 1; i < CSV_BREAK__MAX; i++) {
        g_autofree char *path = g_strdup_printf("/csv/breaks/%s",
                                                breaks[i].name);

        g_test_add_data_func(path, &breaks[i], test_break);
    }
    return g_test_run();
}
