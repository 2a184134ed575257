/*
 * Unit tests of disk hot-plug: a guest's agent
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "fake-agent.h"
#include "io/channel-socket.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qemu/sockets.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "qobject/qstring.h"

/* Only for failures */
#define TIMEOUT_MS  8000

#define ONE_MOUNT   RETURN("[" FS("vda1", "/", "other") ", " \
                           FS("sda", "/hot", ID_SERIAL) "]")

/* The agent */

static void fake_hang_up(Fake *f)
{
    if (f->fd >= 0) {
        qemu_set_fd_handler(f->fd, NULL, NULL, NULL);
        close(f->fd);
        f->fd = -1;
    }
}

void fake_send(Fake *f, const char *text, size_t len)
{
    while (len && f->fd >= 0) {
        ssize_t n = send(f->fd, text, len, MSG_NOSIGNAL);

        if (n < 0) {
            fake_hang_up(f);
            return;
        }
        text += n;
        len -= n;
    }
}

static void fake_note(Fake *f, const char *name, QDict *args)
{
    QList *list = args ? qdict_get_qlist(args, "mountpoints") : NULL;
    const QListEntry *e;

    if (args && !list && qdict_haskey(args, "arg")) {
        g_assert_cmpstr(qdict_get_str(args, "path"), ==, "umount");
        g_assert_true(qdict_get_bool(args, "capture-output"));
        list = qdict_get_qlist(args, "arg");
    }
    g_string_append_printf(f->told, "%s%s", f->told->len ? " " : "",
                           name + strlen("guest-"));
    if (list) {
        QLIST_FOREACH_ENTRY(list, e) {
            g_string_append_printf(f->told, ":%s", qstring_get_str(
                qobject_to(QString, qlist_entry_obj(e))));
        }
    }
}

static const char *usual_answer(const char *name)
{
    return g_str_equal(name, "guest-get-fsinfo") ? ONE_MOUNT :
           g_str_equal(name, "guest-fsfreeze-freeze-list") ? RETURN("1") :
           g_str_equal(name, "guest-fsfreeze-thaw") ? RETURN("1") :
           g_str_equal(name, "guest-exec") ? RETURN("{\"pid\": 7}") :
           g_str_equal(name, "guest-exec-status") ?
           RETURN("{\"exited\": true, \"exitcode\": 0}") :
           ERROR("no such command");
}

static void fake_sync(Fake *f, QDict *args)
{
    g_autofree char *text = NULL;

    if (f->before_sync) {
        fake_send(f, f->before_sync, strlen(f->before_sync));
        f->before_sync = NULL;
    }
    text = g_strdup_printf("\xff{\"return\": %" PRId64 "}\n",
                           qdict_get_int(args, "id"));
    fake_send(f, text, strlen(text));
}

static void fake_answer(Fake *f, QDict *cmd)
{
    const char *name = qdict_get_str(cmd, "execute");
    QDict *args = qdict_get_qdict(cmd, "arguments");
    const char *answer = g_hash_table_lookup(f->answers, name);

    fake_note(f, name, args);
    if (!answer && g_str_equal(name, "guest-sync-delimited")) {
        fake_sync(f, args);
        return;
    }
    answer = answer ?: usual_answer(name);
    if (g_str_equal(answer, HANG_UP)) {
        fake_hang_up(f);
    } else {
        fake_send(f, answer, strlen(answer));
    }
}

static void fake_read(void *opaque)
{
    Fake *f = opaque;
    char buf[4096];
    ssize_t n = recv(f->fd, buf, sizeof(buf), 0);
    char *end;

    if (n <= 0) {
        fake_hang_up(f);
        return;
    }
    g_string_append_len(f->in, buf, n);
    while ((end = memchr(f->in->str, '\n', f->in->len))) {
        const char *line = f->in->str;
        QDict *cmd;

        *end = 0;
        /* The sentinel ends whatever came before. */
        line = strrchr(line, '\xff') ? strrchr(line, '\xff') + 1 : line;
        cmd = qobject_to(QDict, qobject_from_json(line, &error_abort));
        g_string_erase(f->in, 0, end + 1 - f->in->str);
        fake_answer(f, cmd);
        qobject_unref(cmd);
    }
}

/* The way to it */

static QIOChannel *fake_open(void *opaque, Error **errp)
{
    Fake *f = opaque;
    int fds[2];

    g_assert_cmpint(f->opened, ==, f->closed);
    if (f->opened == f->opens_max) {
        error_setg(errp, "nobody listens");
        return NULL;
    }
    f->opened++;
    fake_hang_up(f);
    g_assert_cmpint(qemu_socketpair(AF_UNIX, SOCK_STREAM, 0, fds), ==, 0);
    f->fd = fds[1];
    g_string_truncate(f->in, 0);
    qemu_set_fd_handler(f->fd, fake_read, NULL, f);
    return QIO_CHANNEL(qio_channel_socket_new_fd(fds[0], &error_abort));
}

static void fake_close(void *opaque)
{
    Fake *f = opaque;

    f->closed++;
    g_assert_cmpint(f->opened, ==, f->closed);
}

static bool fake_is_lost(void *opaque)
{
    Fake *f = opaque;

    return f->lost;
}

static bool fake_hold(void *opaque, Error **errp)
{
    Fake *f = opaque;

    if (!f->may_hold) {
        error_setg(errp, "the guest moves");
        return false;
    }
    f->held = true;
    return true;
}

static void fake_release(void *opaque)
{
    Fake *f = opaque;

    g_assert_true(f->held);
    f->held = false;
}

static void fake_free(void *opaque)
{
    Fake *f = opaque;

    g_assert_cmpint(f->opened, ==, f->closed);
    g_assert_false(f->held);
    f->freed++;
}

static const DiskAgentOps fake_ops = {
    .open = fake_open,
    .close = fake_close,
    .is_lost = fake_is_lost,
    .hold = fake_hold,
    .release = fake_release,
    .free = fake_free,
};

/* The session */

Fake *fake_new(void)
{
    Fake *f = g_new0(Fake, 1);

    f->fd = -1;
    f->in = g_string_new(NULL);
    f->told = g_string_new(NULL);
    f->answers = g_hash_table_new(g_str_hash, g_str_equal);
    f->opens_max = 2;
    f->may_hold = true;
    return f;
}

void fake_set(Fake *f, const char *name, const char *answer)
{
    g_hash_table_insert(f->answers, (void *)name, (void *)answer);
}

void fake_start(Fake *f, DiskDetachAgent how, int64_t limit_ms)
{
    DiskAgentTarget target = {
        .bus = DISK_BUS_SCSI, .serial = SERIAL, .wwn = WWN,
    };

    f->agent = disk_agent_start(&fake_ops, f, how, &target, limit_ms);
}

static int64_t now_ms(void)
{
    return qemu_clock_get_ms(QEMU_CLOCK_REALTIME);
}

static void run_until(int64_t end_ms)
{
    g_assert_cmpint(now_ms(), <, end_ms);
    main_loop_wait(false);
}

void fake_wait_told(Fake *f, const char *told)
{
    int64_t end_ms = now_ms() + TIMEOUT_MS;

    while (f->told->len < strlen(told)) {
        run_until(end_ms);
    }
    g_assert_cmpstr(f->told->str, ==, told);
}

void fake_expect(Fake *f, DiskAgentOutcome outcome, const char *why)
{
    int64_t end_ms = now_ms() + TIMEOUT_MS;
    const char *said = NULL;
    DiskAgentOutcome got;

    while ((got = disk_agent_outcome(f->agent, &said)) ==
           DISK_AGENT_OUTCOME_ASKED) {
        run_until(end_ms);
    }
    g_assert_cmpstr(DiskAgentOutcome_str(got), ==,
                    DiskAgentOutcome_str(outcome));
    if (why) {
        g_test_message("%s", said);
        g_assert_nonnull(strstr(said, why));
    }
}

void fake_wait_freed(Fake *f)
{
    int64_t end_ms = now_ms() + TIMEOUT_MS;

    while (!f->freed) {
        run_until(end_ms);
    }
    g_assert_cmpint(f->freed, ==, 1);
    f->agent = NULL;
}

void fake_end(Fake *f, const char *told)
{
    if (f->agent) {
        disk_agent_leave(f->agent);
        fake_wait_freed(f);
    }
    fake_hang_up(f);
    if (told) {
        g_assert_cmpstr(f->told->str, ==, told);
    }
    g_string_free(f->in, true);
    g_string_free(f->told, true);
    g_hash_table_unref(f->answers);
    g_free(f);
}
