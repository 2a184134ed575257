/*
 * Crash tests of csv disks on a simulated device
 *
 *   test-csv-crash --tap -k           all; CSV_CRASH_SEEDS=n: n seeds of each
 *   test-csv-crash -p /csv/crash/odd  one half of them, the other is /even
 *   test-csv-crash -p /csv/crash/script   those that are written down
 *   CSV_CRASH_SEED=n test-csv-crash   the workload of one seed
 *   CSV_CRASH_BLOCK=4096              do not tear within 4096 bytes
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "crash-script.h"

/* A device that forgets what it flushed must be noticed. */
static void test_lie(void)
{
    CrashEpisode e = crash_episode(2);
    g_autofree char *why = NULL;

    e.work.faults = (SimFaults) { .lie_flush = true };
    why = crash_run(&e);
    g_assert_nonnull(why);
    g_assert_nonnull(strstr(why, "crash at event"));
    g_test_message("noticed: %s", why);
}

static void test_script(const void *name)
{
    CrashEpisode e = crash_script_episode(name);
    g_autofree char *why = NULL;

    crash_stats = (CrashStats) { 0 };
    why = crash_run(&e);
    g_test_message("crash points %u: %s", crash_stats.points,
                   why ?: "nothing wrong");
    if (why) {
        g_test_fail();
    }
}

typedef struct Family {
    const char *name;
    CrashEpisode (*episode)(unsigned seed);
    unsigned odd;           /* 1: odd seeds, 0: even ones */
    unsigned seeds;         /* up to this one, if not told otherwise */
} Family;

static const Family families[] = {
    { "/csv/crash/late", crash_late_episode, 0, 40 },
    { "/csv/crash/odd", crash_episode, 1, 60 },
    { "/csv/crash/even", crash_episode, 0, 24 },
};

static void run_seed(const Family *f, unsigned n)
{
    CrashEpisode e = f->episode(n);
    g_autofree char *why = crash_run(&e);

    if (why) {
        g_test_message("seed %u: %s", n, why);
        g_test_message("again: CSV_CRASH_BLOCK=%u CSV_CRASH_SEED=%u "
                       "build/qemu/tests/unit/csv/test-csv-crash --tap -k "
                       "-p %s", crash_block, n, f->name);
        g_test_fail();
    }
}

static void test_family(const void *opaque)
{
    const Family *f = opaque;
    unsigned one = crash_env("CSV_CRASH_SEED", 0);
    unsigned first = one ?: crash_env("CSV_CRASH_FIRST", 1);
    unsigned last = one ?: first - 1 + crash_env("CSV_CRASH_SEEDS", f->seeds);
    int64_t start = g_get_monotonic_time();

    crash_stats = (CrashStats) { 0 };
    for (unsigned n = first; n <= last; n++) {
        if (n % 2 == f->odd) {
            run_seed(f, n);
            g_test_message("seed %u: %u crash points so far, %.1f s", n,
                           crash_stats.points,
                           (g_get_monotonic_time() - start) / 1e6);
        }
    }
    g_test_message("workloads %u, crash points %u, checks %u, seconds %.1f",
                   crash_stats.workloads, crash_stats.points,
                   crash_stats.checks,
                   (g_get_monotonic_time() - start) / 1e6);
}

int main(int argc, char **argv)
{
    const char *name;

    crash_block = MAX(SIM_SECTOR, crash_env("CSV_CRASH_BLOCK", crash_block));
    crash_init();
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/csv/crash/lie", test_lie);
    for (unsigned i = 0; (name = crash_script_name(i)); i++) {
        g_autofree char *path = g_strdup_printf("/csv/crash/script/%s", name);

        g_test_add_data_func(path, name, test_script);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(families); i++) {
        g_test_add_data_func(families[i].name, &families[i], test_family);
    }
    return g_test_run();
}
