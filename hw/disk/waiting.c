/*
 * Disk hot-plug: attaches that have to wait
 *
 * An attach may wait for a hook, the end of a migration, requests that block
 * changes of the block graph, storage that does not respond, or the creation of
 * its image; a timer polls for these.
 *
 *   before-attach --> ready --> create --> ready --> after-attach --> attached
 *          \             \         \           \            \
 *           `-------------`---------`-----------`------------`-------> refused,
 *                                                                   timed-out
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "attach.h"
#include "create.h"
#include "detach.h"
#include "hooks.h"
#include "migration/misc.h"
#include "probe.h"
#include "qapi/clone-visitor.h"
#include "qapi/error.h"
#include "qapi/qapi-events-disk.h"
#include "qapi/qapi-visit-disk.h"
#include "qemu/timer.h"
#include "still.h"
#include "system/runstate.h"
#include "waiting.h"

#define LOOK_MS     10
/* Pause before holding other disks' requests again */
#define PEACE_MS    200

typedef struct Waiting {
    DiskSpec *spec;
    DiskName name;              /* reserved until it is attached */
    char *node;
    int64_t deadline_ms;
    int64_t peace_ms;           /* time of the next attempt, ... */
    Error *disturbed;           /* because of this error */
    bool creating;              /* the image, by its job */
    DiskHookRound *before, *after;
    bool attached;              /* or tried: waiting for after-attach */
    QTAILQ_ENTRY(Waiting) next;
} Waiting;

static QTAILQ_HEAD(, Waiting) all = QTAILQ_HEAD_INITIALIZER(all);
static QEMUTimer *timer;

static int64_t now_ms(void)
{
    return qemu_clock_get_ms(QEMU_CLOCK_REALTIME);
}

static void waiting_set_deadline(Waiting *w)
{
    w->deadline_ms = now_ms() +
                     (w->spec->has_deadline ? w->spec->deadline : 0);
}

static DiskInfo *waiting_info(const Waiting *w)
{
    DiskInfo *info = g_new0(DiskInfo, 1);

    info->id = g_strdup(w->spec->id);
    info->state = DISK_STATE_WAITING;
    info->bus = w->spec->has_bus ? w->spec->bus : DISK_BUS_AUTO;
    info->node_name = g_strdup(w->node);
    info->place = g_strdup("");
    return info;
}

void disk_waiting_infos(DiskInfoList **tail)
{
    Waiting *w;

    QTAILQ_FOREACH(w, &all, next) {
        if (!w->attached) {
            QAPI_LIST_APPEND(tail, waiting_info(w));
        }
    }
}

/* The end */

static void waiting_free(Waiting *w)
{
    QTAILQ_REMOVE(&all, w, next);
    disk_name_release(&w->name);
    disk_hooks_free(w->before);
    disk_hooks_free(w->after);
    qapi_free_DiskSpec(w->spec);
    error_free(w->disturbed);
    g_free(w->node);
    g_free(w);
}

static void waiting_over(Waiting *w, DiskState state, const char *reason)
{
    Disk *disk = state == DISK_STATE_ATTACHED ? disk_find(w->spec->id) : NULL;
    g_autoptr(DiskInfo) info = disk ? disk_info(disk) : NULL;

    qapi_event_send_disk_attach_status(w->spec->id, state, reason, info);
    waiting_free(w);
}

/* A hook has refused a disk that is already attached. */
static void waiting_roll_back(Waiting *w, const char *why)
{
    Disk *disk = disk_find(w->spec->id);

    if (disk) {
        disk_roll_back(disk);
    }
    waiting_over(w, DISK_STATE_REFUSED, why);
}

/* Actions */

static void waiting_attach(Waiting *w)
{
    Error *err = NULL;

    w->attached = true;
    disk_name_release(&w->name);
    if (!disk_attach_at(w->spec, NULL, &err)) {
        waiting_over(w, DISK_STATE_REFUSED, error_get_pretty(err));
        error_free(err);
        return;
    }
    w->after = disk_hooks_ask(DISK_HOOK_POINT_AFTER_ATTACH, w->spec->id,
                              w->node, NULL);
}

/* Create the image.  The deadline starts when it is there. */
static void waiting_create(Waiting *w)
{
    Error *err = NULL;

    if (!w->creating) {
        w->creating = disk_create_begin(w->spec->id, w->spec->create, &err);
    } else if (!disk_create_has_ended(w->spec->id)) {
        return;
    } else {
        w->creating = false;
        if (disk_create_end(w->spec->id, &err)) {
            g_clear_pointer(&w->spec->create, qapi_free_BlockdevCreateOptions);
            waiting_set_deadline(w);
        }
    }
    if (err) {
        waiting_over(w, DISK_STATE_REFUSED, error_get_pretty(err));
        error_free(err);
    }
}

/* True: it has ended. */
static bool waiting_answered(Waiting *w, DiskHookRound *round,
                             DetachAnswer *answer)
{
    g_autofree char *why = NULL;

    *answer = disk_hooks_answer(round, &why);
    if (*answer != DETACH_ANSWER_NO) {
        return false;
    }
    if (w->attached) {
        waiting_roll_back(w, why);
    } else {
        waiting_over(w, DISK_STATE_REFUSED, why);
    }
    return true;
}

/* True: only hooks are left to wait for. */
static bool waiting_is_ready(Waiting *w, Error **errp)
{
    if (migration_is_running()) {
        error_setg(errp, "the guest is still being migrated");
        return false;
    }
    if (now_ms() < w->peace_ms) {
        error_propagate(errp, error_copy(w->disturbed));
        return false;
    }
    error_free(w->disturbed);
    w->disturbed = NULL;
    if (!disk_graph_is_still(&w->disturbed) ||
        !disk_storage_answers(w->spec, &w->disturbed)) {
        w->peace_ms = now_ms() + PEACE_MS;
        error_propagate(errp, error_copy(w->disturbed));
        return false;
    }
    return true;
}

static void waiting_step(Waiting *w)
{
    Error *err = NULL;
    DetachAnswer answer;

    if (waiting_answered(w, w->attached ? w->after : w->before, &answer) ||
        answer == DETACH_ANSWER_PENDING) {
        return;
    }
    if (w->attached) {
        waiting_over(w, DISK_STATE_ATTACHED, NULL);
    } else if (w->creating) {
        waiting_create(w);
    } else if (runstate_check(RUN_STATE_POSTMIGRATE)) {
        waiting_over(w, DISK_STATE_REFUSED, "the guest has gone to another "
                     "host: attach the disk there");
    } else if (waiting_is_ready(w, &err)) {
        if (w->spec->create) {
            waiting_create(w);
        } else {
            waiting_attach(w);
        }
    } else if (now_ms() >= w->deadline_ms) {
        waiting_over(w, DISK_STATE_TIMED_OUT, error_get_pretty(err));
    }
    error_free(err);
}

static void waiting_tick(void *opaque)
{
    Waiting *w, *next;

    QTAILQ_FOREACH_SAFE(w, &all, next, next) {
        waiting_step(w);
    }
    if (!QTAILQ_EMPTY(&all)) {
        timer_mod(timer, now_ms() + LOOK_MS);
    }
}

DiskInfo *disk_attach_waiting(const DiskSpec *spec, bool creating,
                              Error **errp)
{
    Waiting *w;

    if (!spec->id) {
        error_setg(errp, "the disk must have an 'id', since it has to wait: "
                   "events will call it by that");
        return NULL;
    }
    if (!timer) {
        timer = timer_new_ms(QEMU_CLOCK_REALTIME, waiting_tick, NULL);
    }
    w = g_new0(Waiting, 1);
    w->spec = QAPI_CLONE(DiskSpec, spec);
    w->node = disk_spec_node(spec);
    disk_name_reserve(&w->name, spec->id);
    w->creating = creating;
    waiting_set_deadline(w);
    QTAILQ_INSERT_TAIL(&all, w, next);
    w->before = disk_hooks_ask(DISK_HOOK_POINT_BEFORE_ATTACH, spec->id,
                               w->node, spec);
    timer_mod(timer, now_ms() + LOOK_MS);
    return waiting_info(w);
}
