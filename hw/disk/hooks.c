/*
 * Disk hot-plug: hooks for an external manager
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hooks.h"
#include "qapi/clone-visitor.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-disk-hooks.h"
#include "qapi/qapi-events-disk-hooks.h"
#include "qapi/qapi-visit-disk-hooks.h"
#include "qemu/queue.h"
#include "qemu/timer.h"

#define TIMEOUT_MS  10000

typedef struct Hook {
    DiskHookInfo *info;
    QTAILQ_ENTRY(Hook) next;
} Hook;

/* One call of a hook */
typedef struct Question {
    int64_t token;
    char *hook;
    char *id;
    int64_t deadline_ms;
    DetachAnswer answer;
    char *why;
    DiskHookRound *round;
    QTAILQ_ENTRY(Question) next;
} Question;

struct DiskHookRound {
    unsigned questions;
};

static QTAILQ_HEAD(, Hook) hooks = QTAILQ_HEAD_INITIALIZER(hooks);
static QTAILQ_HEAD(, Question) questions = QTAILQ_HEAD_INITIALIZER(questions);
static int64_t last_token;

static Hook *hook_find(const char *name)
{
    Hook *hook;

    QTAILQ_FOREACH(hook, &hooks, next) {
        if (g_str_equal(hook->info->name, name)) {
            return hook;
        }
    }
    return NULL;
}

static bool hook_wants(const Hook *hook, DiskHookPoint point)
{
    for (DiskHookPointList *p = hook->info->points; p; p = p->next) {
        if (p->value == point) {
            return true;
        }
    }
    return false;
}

bool disk_hooks_want(DiskHookPoint point)
{
    Hook *hook;

    QTAILQ_FOREACH(hook, &hooks, next) {
        if (hook_wants(hook, point)) {
            return true;
        }
    }
    return false;
}

static void hook_ask(const Hook *hook, DiskHookPoint point, const char *id,
                     const char *node, const DiskSpec *spec,
                     DiskHookRound *round)
{
    Question *q = g_new0(Question, 1);

    q->token = ++last_token;
    q->hook = g_strdup(hook->info->name);
    q->id = g_strdup(id);
    q->deadline_ms = qemu_clock_get_ms(QEMU_CLOCK_REALTIME) +
                     hook->info->timeout;
    q->answer = DETACH_ANSWER_PENDING;
    q->round = round;
    round->questions++;
    QTAILQ_INSERT_TAIL(&questions, q, next);
    qapi_event_send_disk_hook(hook->info->name, q->token, point, id, node,
                              (DiskSpec *)spec);
}

static void question_free(Question *q)
{
    QTAILQ_REMOVE(&questions, q, next);
    g_free(q->hook);
    g_free(q->id);
    g_free(q->why);
    g_free(q);
}

DiskHookRound *disk_hooks_ask(DiskHookPoint point, const char *id,
                              const char *node, const DiskSpec *spec)
{
    DiskHookRound *round = NULL;
    Hook *hook;

    QTAILQ_FOREACH(hook, &hooks, next) {
        if (hook_wants(hook, point)) {
            round = round ?: g_new0(DiskHookRound, 1);
            hook_ask(hook, point, id, node, spec, round);
        }
    }
    return round;
}

/* A timeout is a refusal. */
static void question_expire(Question *q)
{
    if (q->answer == DETACH_ANSWER_PENDING &&
        qemu_clock_get_ms(QEMU_CLOCK_REALTIME) >= q->deadline_ms) {
        q->answer = DETACH_ANSWER_NO;
        q->why = g_strdup_printf("hook '%s' has not answered; "
                                 "'disk-hook-remove' takes it out", q->hook);
    }
}

DetachAnswer disk_hooks_answer(DiskHookRound *round, char **why)
{
    bool pending = false;
    Question *q;

    QTAILQ_FOREACH(q, &questions, next) {
        if (q->round != round) {
            continue;
        }
        question_expire(q);
        if (q->answer == DETACH_ANSWER_NO) {
            g_free(*why);
            *why = g_strdup(q->why);
            return DETACH_ANSWER_NO;
        }
        pending |= q->answer == DETACH_ANSWER_PENDING;
    }
    return pending ? DETACH_ANSWER_PENDING : DETACH_ANSWER_YES;
}

void disk_hooks_free(DiskHookRound *round)
{
    Question *q, *next;

    if (!round) {
        return;
    }
    QTAILQ_FOREACH_SAFE(q, &questions, next, next) {
        if (q->round == round) {
            question_free(q);
        }
    }
    g_free(round);
}

/* The commands */

void qmp_disk_hook_add(const char *name, DiskHookPointList *points,
                       bool has_timeout, uint32_t timeout, Error **errp)
{
    Hook *hook;

    if (hook_find(name)) {
        error_setg(errp, "there is a hook '%s' already", name);
        return;
    }
    if (!points) {
        error_setg(errp, "'points' of hook '%s' must name at least one", name);
        return;
    }
    hook = g_new0(Hook, 1);
    hook->info = g_new0(DiskHookInfo, 1);
    hook->info->name = g_strdup(name);
    hook->info->points = QAPI_CLONE(DiskHookPointList, points);
    hook->info->timeout = has_timeout ? timeout : TIMEOUT_MS;
    QTAILQ_INSERT_TAIL(&hooks, hook, next);
}

void qmp_disk_hook_remove(const char *name, Error **errp)
{
    Hook *hook = hook_find(name);
    Question *q;

    if (!hook) {
        error_setg(errp, "there is no hook '%s'", name);
        return;
    }
    /* Its unanswered calls count as allowed. */
    QTAILQ_FOREACH(q, &questions, next) {
        if (g_str_equal(q->hook, name) && q->answer == DETACH_ANSWER_PENDING) {
            q->answer = DETACH_ANSWER_YES;
        }
    }
    QTAILQ_REMOVE(&hooks, hook, next);
    qapi_free_DiskHookInfo(hook->info);
    g_free(hook);
}

void qmp_disk_hook_answer(int64_t token, bool allow, const char *reason,
                          Error **errp)
{
    Question *q;

    QTAILQ_FOREACH(q, &questions, next) {
        if (q->token == token && q->answer == DETACH_ANSWER_PENDING) {
            q->answer = allow ? DETACH_ANSWER_YES : DETACH_ANSWER_NO;
            q->why = allow ? NULL :
                     g_strdup_printf("hook '%s' does not allow it: %s", q->hook,
                                     reason ?: "it gives no reason");
            return;
        }
    }
    error_setg(errp, "nobody waits for an answer %" PRId64 "; it may have come "
               "too late", token);
}

DiskHookInfoList *qmp_query_disk_hooks(Error **errp)
{
    DiskHookInfoList *list = NULL, **tail = &list;
    Hook *hook;

    QTAILQ_FOREACH(hook, &hooks, next) {
        QAPI_LIST_APPEND(tail, QAPI_CLONE(DiskHookInfo, hook->info));
    }
    return list;
}
