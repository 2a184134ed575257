/*
 * Disk hot-plug: creating the image
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/aio-wait.h"
#include "create.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-block-core.h"
#include "qemu/job.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"

/* How long disk_create_ends_soon() may wait, in milliseconds */
#define SOON_MS     50

static char *create_job_name(const char *id)
{
    return g_strdup_printf("%s.create", id);
}

/* NULL: it was dismissed by somebody else.  Job lock held. */
static Job *create_job_locked(const char *id)
{
    g_autofree char *name = create_job_name(id);

    return job_get_locked(name);
}

bool disk_create_begin(const char *id, BlockdevCreateOptions *options,
                       Error **errp)
{
    ERRP_GUARD();
    g_autofree char *name = create_job_name(id);

    qmp_blockdev_create(name, options, errp);
    return !*errp;
}

bool disk_create_has_ended(const char *id)
{
    Job *job;

    JOB_LOCK_GUARD();
    job = create_job_locked(id);
    return !job || job->status == JOB_STATUS_CONCLUDED;
}

static void create_soon_is_over(void *opaque)
{
    bool *over = opaque;

    *over = true;
}

bool disk_create_ends_soon(const char *id)
{
    bool over = false;
    QEMUTimer *timer = aio_timer_new(qemu_get_aio_context(),
                                     QEMU_CLOCK_REALTIME, SCALE_MS,
                                     create_soon_is_over, &over);

    timer_mod(timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + SOON_MS);
    AIO_WAIT_WHILE(NULL, !over && !disk_create_has_ended(id));
    timer_free(timer);
    return disk_create_has_ended(id);
}

bool disk_create_end(const char *id, Error **errp)
{
    Job *job;
    int ret;

    JOB_LOCK_GUARD();
    job = create_job_locked(id);
    if (!job) {
        error_setg(errp, "job '%s.create', which makes the image, was "
                   "dismissed by somebody else: attach the disk without "
                   "'create'", id);
        return false;
    }
    ret = job->ret;
    if (ret < 0) {
        error_setg(errp, "%s", job->err ? error_get_pretty(job->err) :
                                          strerror(-ret));
    }
    job_dismiss_locked(&job, NULL);
    return ret >= 0;
}
