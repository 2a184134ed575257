/*
 * Migration pipeline: how busy the host is
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/lockable.h"
#include "qemu/thread.h"
#include "qemu/timer.h"
#include "current.h"
#include "stall.h"

#define NONE            1000
/* Upper bound of the result */
#define MOST            64000
/* Minimum time between measurements, in microseconds, */
#define WINDOW          200000
/* and minimum run time, in nanoseconds; weight of a measurement */
#define LEAST_WORK      2000000
#define WEIGHT          0.5
/* Limit in percent: the host's pressure is only a hint for one process. */
#define PRESSURE_MOST   75

struct PipelineStall {
    QemuMutex lock;
    int64_t at;                 /* of the last measurement, in microseconds */
    uint64_t ran, waited;       /* total until then, in nanoseconds */
    double stall;               /* 0: not known yet */
};

PipelineStall *migration_stall_new(void)
{
    PipelineStall *st = g_new0(PipelineStall, 1);

    qemu_mutex_init(&st->lock);
    return st;
}

/*
 * Estimate from the share of time in which anything on the host waited for a
 * CPU in the last ten seconds; 0 if the kernel does not provide it
 */
static double stall_of_host(void)
{
    g_autofree char *text = NULL;
    double some;

    if (!g_file_get_contents("/proc/pressure/cpu", &text, NULL, NULL) ||
        sscanf(text, "some avg10=%lf", &some) != 1) {
        return 0;
    }
    return NONE / (1 - MIN(some, PRESSURE_MOST) / 100);
}

/* Total time that all threads of this process ran, and waited for a CPU */
static void stall_count(uint64_t *ran, uint64_t *waited)
{
    g_autoptr(GDir) dir = g_dir_open("/proc/self/task", 0, NULL);
    const char *tid;

    *ran = *waited = 0;
    while (dir && (tid = g_dir_read_name(dir))) {
        g_autofree char *path = g_strdup_printf("/proc/self/task/%s/schedstat",
                                                tid);
        g_autofree char *text = NULL;
        uint64_t r, w;

        /* The thread may have exited since. */
        if (g_file_get_contents(path, &text, NULL, NULL) &&
            sscanf(text, "%" SCNu64 " %" SCNu64, &r, &w) == 2) {
            *ran += r;
            *waited += w;
        }
    }
}

void migration_stall_begin(void)
{
    PipelineStall *st = migration_pipeline()->stall;

    QEMU_LOCK_GUARD(&st->lock);
    stall_count(&st->ran, &st->waited);
    st->at = qemu_clock_get_us(QEMU_CLOCK_REALTIME);
    st->stall = stall_of_host();
}

unsigned migration_stall(void)
{
    PipelineStall *st = migration_pipeline()->stall;
    int64_t now = qemu_clock_get_us(QEMU_CLOCK_REALTIME);
    uint64_t ran, waited;
    double new;

    QEMU_LOCK_GUARD(&st->lock);
    if (now - st->at >= WINDOW) {
        stall_count(&ran, &waited);
        /* A thread has exited, so the sum has shrunk: start over. */
        if (ran < st->ran || waited < st->waited) {
            st->ran = ran;
            st->waited = waited;
        } else if (ran - st->ran >= LEAST_WORK) {
            new = NONE * (1 + (double)(waited - st->waited) /
                              (ran - st->ran));
            st->stall = st->stall ? st->stall + WEIGHT * (new - st->stall)
                                  : new;
            st->ran = ran;
            st->waited = waited;
        }
        st->at = now;
    }
    return st->stall ? MIN(st->stall, MOST) : NONE;
}
