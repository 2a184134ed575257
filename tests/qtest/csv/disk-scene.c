/*
 * Disk hot-plug: what its qtests say to QEMU, and what they hear
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "disk-scene.h"
#include "qobject/qjson.h"

/* Any command */

static QDict *do_command(QTestState *qts, const char *command,
                         const char *args)
{
    g_autofree char *cmd = g_strdup_printf("{'execute': '%s', "
                                           "'arguments': {%s}}", command, args);

    return qtest_qmp(qts, cmd, NULL);
}

/* Frees @rsp */
static void assert_error(QDict *rsp, const char *why)
{
    const char *text;

    g_assert_true(qdict_haskey(rsp, "error"));
    text = qdict_get_str(qdict_get_qdict(rsp, "error"), "desc");
    if (!strstr(text, why)) {
        g_test_message("%s: not '%s'", text, why);
    }
    g_assert_nonnull(strstr(text, why));
    qobject_unref(rsp);
}

void disk_error(QTestState *qts, const char *command, const char *args,
                const char *why)
{
    assert_error(do_command(qts, command, args), why);
}

QList *disk_query(QTestState *qts, const char *command)
{
    QDict *rsp = qtest_qmp(qts, "{'execute': %s}", command);
    QList *list = qobject_ref(qdict_get_qlist(rsp, "return"));

    qobject_unref(rsp);
    return list;
}

unsigned disk_count(QTestState *qts, const char *command)
{
    QList *list = disk_query(qts, command);
    unsigned n = qlist_size(list);

    qobject_unref(list);
    return n;
}

void disk_hmp(QTestState *qts, const char *fmt, ...)
{
    g_autofree char *said = NULL;
    va_list ap;

    va_start(ap, fmt);
    said = qtest_vhmp(qts, fmt, ap);
    va_end(ap);
    g_assert_cmpstr(said, ==, "");
}

/* What there is */

static unsigned count_children(QTestState *qts, const char *path)
{
    QDict *rsp = qtest_qmp(qts, "{'execute': 'qom-list', "
                           "'arguments': {'path': %s}}", path);
    unsigned n = qlist_size(qdict_get_qlist(rsp, "return"));

    qobject_unref(rsp);
    return n;
}

unsigned disk_count_all(QTestState *qts)
{
    return disk_count(qts, "query-named-block-nodes") +
           disk_count(qts, "query-disks") +
           disk_count(qts, "query-iothreads") +
           count_children(qts, "/objects") +
           count_children(qts, "/machine/peripheral");
}

unsigned disk_open_files(QTestState *qts)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", qtest_pid(qts));
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    unsigned n = 0;

    while (g_dir_read_name(dir)) {
        n++;
    }
    return n;
}

unsigned disk_memory_kb(QTestState *qts)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/statm", qtest_pid(qts));
    g_autofree char *text = NULL;
    unsigned size, resident;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_cmpint(sscanf(text, "%u %u", &size, &resident), ==, 2);
    return resident * (qemu_real_host_page_size() / 1024);
}

unsigned disk_slots(QTestState *qts, const char *place, const char *what)
{
    QList *list = disk_query(qts, "query-disk-slots");
    const QListEntry *e;
    int n = -1;

    QLIST_FOREACH_ENTRY(list, e) {
        QDict *slots = qobject_to(QDict, qlist_entry_obj(e));

        if (g_str_equal(qdict_get_str(slots, "place"), place)) {
            n = qdict_get_int(slots, what);
        }
    }
    g_assert_cmpint(n, >=, 0);
    qobject_unref(list);
    return n;
}

/* Attach */

QDict *disk_attach(QTestState *qts, const char *spec)
{
    return do_command(qts, "disk-attach", spec);
}

QDict *disk_attached(QTestState *qts, const char *spec)
{
    QDict *rsp = disk_attach(qts, spec), *ret;

    g_assert_true(qdict_haskey(rsp, "return"));
    ret = qobject_ref(qdict_get_qdict(rsp, "return"));
    qobject_unref(rsp);
    return ret;
}

void disk_refused(QTestState *qts, const char *spec, const char *why)
{
    disk_error(qts, "disk-attach", spec, why);
}

void disk_attach_waits(QTestState *qts, const char *spec)
{
    QDict *disk = disk_attached(qts, spec);

    g_assert_cmpstr(qdict_get_str(disk, "state"), ==, "waiting");
    qobject_unref(disk);
}

void disk_attach_ends(QTestState *qts, const char *id, const char *state,
                      const char *reason)
{
    QDict *event = qtest_qmp_eventwait_ref(qts, "DISK_ATTACH_STATUS");
    QDict *data = qdict_get_qdict(event, "data");

    g_assert_cmpstr(qdict_get_str(data, "id"), ==, id);
    g_assert_cmpstr(qdict_get_str(data, "state"), ==, state);
    g_assert_cmpint(qdict_haskey(data, "info"), ==,
                    g_str_equal(state, "attached"));
    if (reason) {
        g_test_message("%s", qdict_get_str(data, "reason"));
        g_assert_nonnull(strstr(qdict_get_str(data, "reason"), reason));
    }
    qobject_unref(event);
}

/* Detach */

static char *detach_args(const char *id, const char *more)
{
    return g_strdup_printf("'id': '%s'%s", id, more);
}

void disk_detach(QTestState *qts, const char *id, const char *more)
{
    g_autofree char *args = detach_args(id, more);
    QDict *rsp = do_command(qts, "disk-detach", args);

    g_assert_true(qdict_haskey(rsp, "return"));
    g_assert_cmpstr(qdict_get_str(qdict_get_qdict(rsp, "return"), "id"), ==,
                    id);
    qobject_unref(rsp);
}

void disk_detach_error(QTestState *qts, const char *id, const char *more,
                       const char *why)
{
    g_autofree char *args = detach_args(id, more);

    disk_error(qts, "disk-detach", args, why);
}

QDict *disk_detach_info(QTestState *qts, const char *id)
{
    QList *list = disk_query(qts, "query-disk-detach");
    QDict *found = NULL;
    const QListEntry *e;

    QLIST_FOREACH_ENTRY(list, e) {
        QDict *info = qobject_to(QDict, qlist_entry_obj(e));

        if (g_str_equal(qdict_get_str(info, "id"), id)) {
            found = info;
        }
    }
    g_assert_nonnull(found);
    qobject_ref(found);
    qobject_unref(list);
    return found;
}

static int64_t info_get(QDict *info, const char *what)
{
    return qobject_type(qdict_get(info, what)) == QTYPE_QBOOL ?
           qdict_get_bool(info, what) : qdict_get_int(info, what);
}

int64_t disk_detach_get(QTestState *qts, const char *id, const char *what)
{
    QDict *info = disk_detach_info(qts, id);
    int64_t ret = info_get(info, what);

    qobject_unref(info);
    return ret;
}

/* Sleep a little; too often, and there is a message and the test fails. */
static void round_wait(gint64 end, QDict *info)
{
    if (g_get_monotonic_time() > end) {
        g_autoptr(GString) text = qobject_to_json(QOBJECT(info));

        g_test_message("it stays like this: %s", text->str);
        g_assert_not_reached();
    }
    g_usleep(DISK_ROUND_US);
}

static bool info_is(QDict *info, const char *state, const char *reason)
{
    return g_str_equal(qdict_get_str(info, "state"), state) &&
           (!reason || strstr(qdict_get_try_str(info, "reason") ?: "",
                              reason));
}

void disk_wait(QTestState *qts, const char *id, const char *state,
               const char *reason)
{
    gint64 end = g_get_monotonic_time() + DISK_TIMEOUT_US;
    bool done;

    do {
        QDict *info = disk_detach_info(qts, id);

        done = info_is(info, state, reason);
        if (!done) {
            round_wait(end, info);
        }
        qobject_unref(info);
    } while (!done);
}

void disk_wait_get(QTestState *qts, const char *id, const char *what,
                   int64_t least)
{
    gint64 end = g_get_monotonic_time() + DISK_TIMEOUT_US;
    bool done;

    do {
        QDict *info = disk_detach_info(qts, id);

        done = info_get(info, what) >= least;
        if (!done) {
            round_wait(end, info);
        }
        qobject_unref(info);
    } while (!done);
}

void disk_wait_gone(QTestState *qts, unsigned left)
{
    gint64 end = g_get_monotonic_time() + DISK_TIMEOUT_US;

    while (disk_count(qts, "query-disks") > left) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(DISK_ROUND_US);
    }
}

/* Events */

/* What was told of each disk that is called so */
static GHashTable *told;

static void told_free(gpointer text)
{
    g_string_free(text, true);
}

static bool told_event(QTestState *qts, const char *name, QDict *event,
                       void *opaque)
{
    QDict *info;
    const char *id;
    GString *text;

    if (!g_str_equal(name, "DISK_DETACH_STATUS")) {
        return false;
    }
    info = qdict_get_qdict(qdict_get_qdict(event, "data"), "info");
    id = qdict_get_str(info, "id");
    text = g_hash_table_lookup(told, id);
    if (!text) {
        text = g_string_new(NULL);
        g_hash_table_insert(told, g_strdup(id), text);
    }
    g_string_append_printf(text, "%s%s", text->len ? " " : "",
                           qdict_get_str(info, "state"));
    return true;
}

void disk_listen(QTestState *qts)
{
    if (told) {
        g_hash_table_unref(told);
    }
    told = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, told_free);
    qtest_qmp_set_event_callback(qts, told_event, NULL);
}

void disk_assert_told(QTestState *qts, const char *id, const char *states)
{
    GString *text;

    /* Events come before the answer. */
    disk_count(qts, "query-disks");
    text = g_hash_table_lookup(told, id);
    g_assert_cmpstr(text ? text->str : "", ==, states);
    g_hash_table_remove(told, id);
}
