/*
 * Disk hot-plug: what the guest agent does before a disk is detached
 *
 * A session is a coroutine in the main thread.  A timer checks whether it must
 * end, and wakes it up then.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "agent.h"
#include "agent-answers.h"
#include "io/channel-wake.h"
#include "qapi/error.h"
#include "qemu/coroutine.h"
#include "qemu/error-report.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"

/* How often to check whether the session must end */
#define TICK_MS     25
/* How often to ask whether a program in the guest has ended */
#define POLL_NS     (50 * SCALE_MS)
#define READ_SIZE   (16 * KiB)
/* Sent before answers; it also makes the agent discard a partial command. */
#define SENTINEL    '\xff'

struct DiskAgent {
    const DiskAgentOps *ops;
    void *opaque;
    DiskDetachAgent how;
    DiskAgentTarget target;     /* owns its serial number */
    int64_t limit_ms;           /* a point in time */

    DiskAgentOutcome outcome;
    char *why;
    bool left;                  /* abandoned by the caller */
    bool ended;

    /* private to the coroutine and its timer */
    QIOChannel *ioc;            /* NULL: there is none */
    QEMUTimer *timer;
    int64_t end_ms;             /* deadline of the current step */
    bool thawing;               /* which is never cancelled */
    bool reading, writing;
    GByteArray *in;             /* read, but not parsed */
    size_t scanned;             /* part of that without an end of a line */
    size_t total;               /* bytes read in the session */
    bool refused;               /* the last command returned an error */
};

static int64_t now_ms(void)
{
    return qemu_clock_get_ms(QEMU_CLOCK_REALTIME);
}

/* The end of a session */

static bool agent_may_go_on(DiskAgent *a, Error **errp)
{
    if (a->ops->is_lost(a->opaque)) {
        error_setg(errp, "the guest has closed its agent's port");
        return false;
    }
    if (a->left && !a->thawing) {
        error_setg(errp, "the agent is not needed any more");
        return false;
    }
    if (now_ms() >= a->end_ms) {
        error_setg(errp, "the agent has not answered in time");
        return false;
    }
    return true;
}

static void agent_tick(void *opaque)
{
    DiskAgent *a = opaque;

    timer_mod(a->timer, now_ms() + TICK_MS);
    if (agent_may_go_on(a, NULL)) {
        return;
    }
    /* A read can continue later; a partial command cannot. */
    if (a->reading) {
        qio_channel_wake_read(a->ioc);
    } else if (a->writing) {
        qio_channel_shutdown(a->ioc, QIO_CHANNEL_SHUTDOWN_BOTH, NULL);
        qio_channel_wake_write(a->ioc);
    }
}

/* The channel */

static bool agent_open(DiskAgent *a, Error **errp)
{
    a->ioc = a->ops->open(a->opaque, errp);
    if (!a->ioc) {
        return false;
    }
    g_byte_array_set_size(a->in, 0);
    a->scanned = 0;
    return qio_channel_set_blocking(a->ioc, false, errp) == 0;
}

static void agent_close(DiskAgent *a)
{
    if (a->ioc) {
        a->ops->close(a->opaque);
        qio_channel_close(a->ioc, NULL);
        object_unref(OBJECT(a->ioc));
        a->ioc = NULL;
    }
}

static bool coroutine_fn agent_write(DiskAgent *a, const char *text,
                                     size_t len, Error **errp)
{
    g_autoptr(Error) err = NULL;
    int ret;

    if (!agent_may_go_on(a, errp)) {
        return false;
    }
    a->writing = true;
    ret = qio_channel_write_all(a->ioc, text, len, &err);
    a->writing = false;
    if (ret < 0 && agent_may_go_on(a, errp)) {
        error_propagate(errp, g_steal_pointer(&err));
    }
    return ret == 0;
}

/* Wait for more to be read. */
static bool coroutine_fn agent_fill(DiskAgent *a, Error **errp)
{
    char buf[READ_SIZE];
    ssize_t n;

    do {
        if (!agent_may_go_on(a, errp)) {
            return false;
        }
        /* Always yield, so that a flood of input does not block others. */
        a->reading = true;
        qio_channel_yield(a->ioc, G_IO_IN);
        a->reading = false;
        n = qio_channel_read(a->ioc, buf, sizeof(buf), errp);
    } while (n == QIO_CHANNEL_ERR_BLOCK);
    if (n <= 0) {
        if (n == 0) {
            error_setg(errp, "the connection to the agent has ended");
        }
        return false;
    }
    a->total += n;
    if (a->total > DISK_AGENT_SESSION_MAX) {
        error_setg(errp, "the agent sends without end");
        return false;
    }
    g_byte_array_append(a->in, (uint8_t *)buf, n);
    return true;
}

/* The next line without its end, to be freed; *@len has its length. */
static char *coroutine_fn agent_read_line(DiskAgent *a, size_t *len,
                                          Error **errp)
{
    uint8_t *end;
    char *line;

    for (;;) {
        end = memchr(a->in->data + a->scanned, '\n', a->in->len - a->scanned);
        if (end) {
            break;
        }
        a->scanned = a->in->len;
        if (a->scanned > DISK_AGENT_ANSWER_MAX) {
            error_setg(errp, "an answer of the agent is too long");
            return NULL;
        }
        if (!agent_fill(a, errp)) {
            return NULL;
        }
    }
    *len = end - a->in->data;
    line = g_strndup((char *)a->in->data, *len);
    g_byte_array_remove_range(a->in, 0, *len + 1);
    a->scanned = 0;
    return line;
}

/* Commands */

static bool coroutine_fn agent_send(DiskAgent *a, const char *name,
                                    QDict *args, Error **errp)
{
    g_autoptr(QDict) cmd = qdict_new();
    g_autoptr(GString) text = NULL;

    qdict_put_str(cmd, "execute", name);
    if (args) {
        qdict_put(cmd, "arguments", args);
    }
    text = qobject_to_json(QOBJECT(cmd));
    g_string_append_c(text, '\n');
    return agent_write(a, text->str, text->len, errp);
}

/* Execute @name; returns its result, a reference; takes @args, or NULL. */
static QObject *coroutine_fn agent_execute(DiskAgent *a, const char *name,
                                           QDict *args, Error **errp)
{
    g_autofree char *line = NULL;
    QObject *ret;
    size_t len;

    a->refused = false;
    if (!agent_send(a, name, args, errp)) {
        return NULL;
    }
    line = agent_read_line(a, &len, errp);
    ret = line ? agent_answer_parse(name, line, len, errp) : NULL;
    a->refused = line && !ret;
    return ret;
}

/* The part after the last sentinel; NULL if there is none */
static const char *after_sentinel(const char *line, size_t len)
{
    while (len && line[len - 1] != SENTINEL) {
        len--;
    }
    return len ? line + len : NULL;
}

/*
 * Discard answers to earlier commands: a previous client may have left before
 * its answers arrived.
 */
static bool coroutine_fn agent_sync_with(DiskAgent *a, int64_t id, Error **errp)
{
    bool found = false;

    while (!found) {
        g_autofree char *line = NULL;
        const char *text;
        size_t len;

        line = agent_read_line(a, &len, errp);
        if (!line) {
            return false;
        }
        text = after_sentinel(line, len);
        found = text && agent_answer_is_number(text, line + len - text, id);
    }
    return true;
}

static bool coroutine_fn agent_send_sync(DiskAgent *a, int64_t *id,
                                         Error **errp)
{
    QDict *args = qdict_new();
    const char sentinel = SENTINEL;

    *id = g_random_int_range(0, INT32_MAX);
    qdict_put_int(args, "id", *id);
    if (!agent_write(a, &sentinel, 1, errp)) {
        qobject_unref(args);
        return false;
    }
    return agent_send(a, "guest-sync-delimited", args, errp);
}

static bool coroutine_fn agent_sync(DiskAgent *a, Error **errp)
{
    int64_t id;

    a->end_ms = MIN(a->limit_ms, now_ms() + DISK_AGENT_SYNC_MS);
    if (!agent_send_sync(a, &id, errp) || !agent_sync_with(a, id, errp)) {
        return false;
    }
    a->end_ms = a->limit_ms;
    return true;
}

/* Write-back: freezing a file system writes all of it to the disk. */

/* All earlier input, including late answers, is discarded. */
static bool coroutine_fn agent_try_thaw(DiskAgent *a, Error **errp)
{
    g_autofree char *line = NULL;
    size_t len;
    int64_t id;

    if (!a->ioc && !agent_open(a, errp)) {
        return false;
    }
    if (!agent_send_sync(a, &id, errp) ||
        !agent_send(a, "guest-fsfreeze-thaw", NULL, errp) ||
        !agent_sync_with(a, id, errp)) {
        return false;
    }
    line = agent_read_line(a, &len, errp);
    return line && agent_answer_is_good("guest-fsfreeze-thaw", line, len, errp);
}

static bool coroutine_fn agent_thaw(DiskAgent *a, Error **errp)
{
    bool ok;

    a->thawing = true;
    a->end_ms = now_ms() + DISK_AGENT_THAW_MS;
    a->total = 0;
    ok = agent_try_thaw(a, NULL);
    if (!ok) {
        agent_close(a);
        ok = agent_try_thaw(a, errp);
    }
    a->thawing = false;
    return ok;
}

static bool coroutine_fn agent_freeze(DiskAgent *a, const AgentMounts *mounts,
                                      Error **errp)
{
    QDict *args = qdict_new();
    QList *list = qlist_new();

    for (unsigned i = 0; i < mounts->paths->len; i++) {
        qlist_append_str(list, g_ptr_array_index(mounts->paths, i));
    }
    qdict_put(args, "mountpoints", list);
    return agent_answer_frozen(agent_execute(a, "guest-fsfreeze-freeze-list",
                                             args, errp),
                               mounts->devices, errp);
}

/* Freeze, and always thaw: a failed freeze may be late, or partly done. */
static bool coroutine_fn agent_freeze_thaw(DiskAgent *a,
                                           const AgentMounts *mounts,
                                           Error **errp)
{
    ERRP_GUARD();
    g_autoptr(Error) err = NULL;
    bool ok = agent_freeze(a, mounts, errp);
    bool refused = a->refused;

    if (agent_thaw(a, &err) || refused) {
        return ok;
    }
    error_free(*errp);
    *errp = g_steal_pointer(&err);
    error_prepend(errp, "the guest's file systems may be frozen still, and "
                  "'guest-fsfreeze-thaw' thaws them: ");
    if (a->left || a->outcome != DISK_AGENT_OUTCOME_ASKED) {
        /* The session may be abandoned, so report it here. */
        warn_report("%s", error_get_pretty(*errp));
    }
    return false;
}

static bool coroutine_fn agent_write_out(DiskAgent *a,
                                         const AgentMounts *mounts,
                                         Error **errp)
{
    bool ok;

    if (!agent_may_go_on(a, errp) || !a->ops->hold(a->opaque, errp)) {
        return false;
    }
    ok = agent_freeze_thaw(a, mounts, errp);
    a->ops->release(a->opaque);
    return ok;
}

/* Unmounting */

/* Wait for a program in the guest; on failure, the error has its output. */
static bool coroutine_fn agent_wait_exit(DiskAgent *a, int64_t pid,
                                         Error **errp)
{
    for (;;) {
        QDict *args = qdict_new();
        bool exited;

        qdict_put_int(args, "pid", pid);
        if (!agent_answer_exited(agent_execute(a, "guest-exec-status", args,
                                               errp), &exited, errp)) {
            return false;
        }
        if (exited) {
            return true;
        }
        qemu_co_sleep_ns(QEMU_CLOCK_REALTIME, POLL_NS);
    }
}

static bool coroutine_fn agent_umount(DiskAgent *a, const char *path,
                                      Error **errp)
{
    QDict *args = qdict_new();
    QList *list = qlist_new();
    int64_t pid;

    qlist_append_str(list, path);
    qdict_put_str(args, "path", "umount");
    qdict_put(args, "arg", list);
    qdict_put_bool(args, "capture-output", true);
    return agent_answer_pid(agent_execute(a, "guest-exec", args, errp), &pid,
                            errp) &&
           agent_wait_exit(a, pid, errp);
}

static bool coroutine_fn agent_unmount(DiskAgent *a, AgentMounts *mounts,
                                       Error **errp)
{
    ERRP_GUARD();
    g_autoptr(GString) done = g_string_new(NULL);

    agent_mounts_deepest_first(mounts);
    for (unsigned i = 0; i < mounts->paths->len; i++) {
        const char *path = g_ptr_array_index(mounts->paths, i);
        g_autofree char *shown = agent_text(path);

        if (!agent_umount(a, path, errp)) {
            error_prepend(errp, "'%s' could not be unmounted: ", shown);
            break;
        }
        g_string_append_printf(done, "%s'%s'", i ? ", " : "", shown);
    }
    if (*errp && done->len) {
        error_prepend(errp, "%s: unmounted, and not mounted again; ",
                      done->str);
    }
    return !*errp;
}

/* The session */

static DiskAgentOutcome coroutine_fn agent_session(DiskAgent *a, Error **errp)
{
    g_autoptr(AgentMounts) mounts = NULL;

    if (!agent_open(a, errp) || !agent_sync(a, errp)) {
        return DISK_AGENT_OUTCOME_FAILED;
    }
    mounts = agent_answer_mounts(agent_execute(a, "guest-get-fsinfo", NULL,
                                               errp), &a->target, errp);
    if (!mounts) {
        return DISK_AGENT_OUTCOME_FAILED;
    }
    if (!mounts->paths->len) {
        return DISK_AGENT_OUTCOME_NOT_MOUNTED;
    }
    if (a->how == DISK_DETACH_AGENT_UNMOUNT) {
        return agent_unmount(a, mounts, errp) ? DISK_AGENT_OUTCOME_UNMOUNTED :
                                                DISK_AGENT_OUTCOME_FAILED;
    }
    return agent_write_out(a, mounts, errp) ? DISK_AGENT_OUTCOME_WRITTEN_OUT :
                                              DISK_AGENT_OUTCOME_FAILED;
}

static void agent_free(DiskAgent *a)
{
    a->ops->free(a->opaque);
    timer_free(a->timer);
    g_byte_array_unref(a->in);
    g_free((char *)a->target.serial);
    g_free(a->why);
    g_free(a);
}

static void agent_failed(DiskAgent *a, const char *why)
{
    a->outcome = DISK_AGENT_OUTCOME_FAILED;
    a->why = g_strdup(why);
}

static void coroutine_fn agent_entry(void *opaque)
{
    DiskAgent *a = opaque;
    g_autoptr(Error) err = NULL;
    DiskAgentOutcome outcome;

    outcome = agent_session(a, &err);
    agent_close(a);
    timer_del(a->timer);
    if (a->outcome == DISK_AGENT_OUTCOME_ASKED) {
        if (outcome == DISK_AGENT_OUTCOME_FAILED) {
            agent_failed(a, error_get_pretty(err));
        } else {
            a->outcome = outcome;
        }
    }
    a->ended = true;
    if (a->left) {
        agent_free(a);
    }
}

DiskAgent *disk_agent_start(const DiskAgentOps *ops, void *opaque,
                            DiskDetachAgent how, const DiskAgentTarget *target,
                            int64_t limit_ms)
{
    DiskAgent *a = g_new0(DiskAgent, 1);

    a->ops = ops;
    a->opaque = opaque;
    a->how = how;
    a->target = *target;
    a->target.serial = g_strdup(target->serial);
    a->limit_ms = a->end_ms = now_ms() + limit_ms;
    a->outcome = DISK_AGENT_OUTCOME_ASKED;
    a->in = g_byte_array_sized_new(READ_SIZE);
    a->timer = timer_new_ms(QEMU_CLOCK_REALTIME, agent_tick, a);
    timer_mod(a->timer, now_ms() + TICK_MS);
    qemu_coroutine_enter(qemu_coroutine_create(agent_entry, a));
    return a;
}

DiskAgentOutcome disk_agent_outcome(DiskAgent *a, const char **why)
{
    /* The session may still be waiting for the thaw. */
    if (a->outcome == DISK_AGENT_OUTCOME_ASKED && now_ms() >= a->limit_ms) {
        agent_failed(a, "the agent has not answered in time");
    }
    *why = a->why;
    return a->outcome;
}

void disk_agent_leave(DiskAgent *a)
{
    a->left = true;
    if (a->ended) {
        agent_free(a);
    }
}
