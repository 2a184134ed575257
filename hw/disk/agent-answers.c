/*
 * Disk hot-plug: parsing the answers of a guest agent
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "agent-answers.h"
#include "identity.h"
#include "qapi/error.h"
#include "qobject/qbool.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "qobject/qnum.h"

/* Maximum number of bytes shown of a text from the guest */
#define TEXT_MAX    200

char *agent_text(const char *text)
{
    g_autofree char *begin = g_strndup(text, TEXT_MAX);
    char *valid = g_utf8_make_valid(begin, -1);

    for (char *p = valid; *p; p++) {
        if (g_ascii_iscntrl(*p)) {
            *p = ' ';
        }
    }
    return g_strchomp(valid);
}

static void set_not_understood(Error **errp, const char *name)
{
    error_setg(errp, "the agent's answer to '%s' was not understood", name);
}

/* Answers in general */

static QDict *line_parse(const char *line, size_t len)
{
    QObject *obj = memchr(line, 0, len) ? NULL : qobject_from_json(line, NULL);
    QDict *dict = qobject_to(QDict, obj);

    if (!dict) {
        qobject_unref(obj);
    }
    return dict;
}

static const char *answer_error(QDict *answer)
{
    QDict *err = qobject_to(QDict, qdict_get(answer, "error"));

    return err ? qdict_get_try_str(err, "desc") : NULL;
}

QObject *agent_answer_parse(const char *name, const char *line, size_t len,
                            Error **errp)
{
    g_autoptr(QDict) answer = line_parse(line, len);
    const char *why = answer ? answer_error(answer) : NULL;
    QObject *ret = answer ? qdict_get(answer, "return") : NULL;

    if (why) {
        g_autofree char *text = agent_text(why);

        error_setg(errp, "the agent's answer to '%s' was: %s", name, text);
        return NULL;
    }
    if (!ret) {
        set_not_understood(errp, name);
    }
    return qobject_ref(ret);
}

bool agent_answer_is_good(const char *name, const char *line, size_t len,
                          Error **errp)
{
    QObject *ret = agent_answer_parse(name, line, len, errp);
    bool ok = ret;

    qobject_unref(ret);
    return ok;
}

static bool get_int(QObject *obj, int64_t *number)
{
    QNum *num = qobject_to(QNum, obj);

    return num && qnum_get_try_int(num, number);
}

bool agent_answer_is_number(const char *line, size_t len, int64_t number)
{
    g_autoptr(QDict) answer = line_parse(line, len);
    int64_t got;

    return answer && get_int(qdict_get(answer, "return"), &got) &&
           got == number;
}

/* Mount points of a disk */

void agent_mounts_free(AgentMounts *mounts)
{
    g_ptr_array_unref(mounts->paths);
    g_free(mounts);
}

static bool is_on_disk(QDict *fs, const DiskAgentTarget *target)
{
    QList *disks = qobject_to(QList, qdict_get(fs, "disk"));
    const QListEntry *e;

    if (!disks) {
        return false;
    }
    QLIST_FOREACH_ENTRY(disks, e) {
        QDict *disk = qobject_to(QDict, qlist_entry_obj(e));
        const char *serial = disk ? qdict_get_try_str(disk, "serial") : NULL;

        if (serial && disk_guest_serial_is(serial, target->bus, target->serial,
                                           target->wwn)) {
            return true;
        }
    }
    return false;
}

/* Add @fs if it is on @target. */
static bool mounts_add(AgentMounts *mounts, GHashTable *devices, QDict *fs,
                       const DiskAgentTarget *target, Error **errp)
{
    const char *path = fs ? qdict_get_try_str(fs, "mountpoint") : NULL;

    if (!path) {
        set_not_understood(errp, "guest-get-fsinfo");
        return false;
    }
    if (!is_on_disk(fs, target)) {
        return true;
    }
    if (mounts->paths->len == DISK_AGENT_MOUNTS_MAX) {
        error_setg(errp, "more than %d file systems of the disk are mounted",
                   DISK_AGENT_MOUNTS_MAX);
        return false;
    }
    g_ptr_array_add(mounts->paths, g_strdup(path));
    g_hash_table_add(devices,
                     g_strdup(qdict_get_try_str(fs, "name") ?: path));
    return true;
}

AgentMounts *agent_answer_mounts(QObject *ret, const DiskAgentTarget *target,
                                 Error **errp)
{
    g_autoptr(GHashTable) devices = g_hash_table_new_full(g_str_hash,
                                                          g_str_equal, g_free,
                                                          NULL);
    g_autoptr(AgentMounts) mounts = g_new0(AgentMounts, 1);
    QList *list = qobject_to(QList, ret);
    bool ok = list;
    const QListEntry *e;

    mounts->paths = g_ptr_array_new_with_free_func(g_free);
    if (ret && !list) {
        set_not_understood(errp, "guest-get-fsinfo");
    }
    for (e = list ? qlist_first(list) : NULL; ok && e; e = qlist_next(e)) {
        ok = mounts_add(mounts, devices,
                        qobject_to(QDict, qlist_entry_obj(e)), target, errp);
    }
    mounts->devices = g_hash_table_size(devices);
    qobject_unref(ret);
    return ok ? g_steal_pointer(&mounts) : NULL;
}

static gint longer_first(gconstpointer a, gconstpointer b)
{
    size_t len_a = strlen(*(char **)a), len_b = strlen(*(char **)b);

    return len_a < len_b ? 1 : len_a > len_b ? -1 : 0;
}

void agent_mounts_deepest_first(AgentMounts *mounts)
{
    g_ptr_array_sort(mounts->paths, longer_first);
}

/* Answers to commands */

bool agent_answer_frozen(QObject *ret, unsigned devices, Error **errp)
{
    int64_t n;
    bool ok = get_int(ret, &n);

    if (ret && !ok) {
        set_not_understood(errp, "guest-fsfreeze-freeze-list");
    } else if (ok && n < devices) {
        error_setg(errp, "of %u file systems, the agent has written out "
                   "%" PRId64, devices, n);
        ok = false;
    }
    qobject_unref(ret);
    return ok;
}

bool agent_answer_pid(QObject *ret, int64_t *pid, Error **errp)
{
    QDict *dict = qobject_to(QDict, ret);
    bool ok = dict && get_int(qdict_get(dict, "pid"), pid);

    if (ret && !ok) {
        set_not_understood(errp, "guest-exec");
    }
    qobject_unref(ret);
    return ok;
}

/* Output of a program, to be freed */
static char *output_of(QDict *status)
{
    const char *base64 = qdict_get_try_str(status, "err-data") ?:
                         qdict_get_try_str(status, "out-data") ?: "";
    g_autofree char *text = NULL;
    g_autofree guchar *data = NULL;
    gsize len;

    data = g_base64_decode(base64, &len);
    text = g_strndup((char *)data, len);
    return *text ? agent_text(text) : g_strdup("it does not say why");
}

static bool status_exited(QDict *status, bool *exited, Error **errp)
{
    QBool *has = status ? qobject_to(QBool, qdict_get(status, "exited")) : NULL;
    g_autofree char *said = NULL;
    int64_t code;

    if (!has) {
        set_not_understood(errp, "guest-exec-status");
        return false;
    }
    *exited = qbool_get_bool(has);
    /* A program that was killed by a signal has no exit code. */
    if (!*exited || (get_int(qdict_get(status, "exitcode"), &code) && !code)) {
        return true;
    }
    said = output_of(status);
    error_setg(errp, "%s", said);
    return false;
}

bool agent_answer_exited(QObject *ret, bool *exited, Error **errp)
{
    bool ok = ret && status_exited(qobject_to(QDict, ret), exited, errp);

    qobject_unref(ret);
    return ok;
}
