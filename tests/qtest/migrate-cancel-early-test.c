/*
 * A migration that is cancelled before it is connected
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "libqtest.h"
#include "qemu/cutils.h"
#include "qobject/qdict.h"

#define CLIENTS_MAX     8

/* A destination that is there, but accepts nobody */
typedef struct Busy {
    char *dir;
    char *uri;
    struct sockaddr_un addr;
    int listener;
    int clients[CLIENTS_MAX];
    unsigned n_clients;
} Busy;

static int busy_socket(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

    g_assert_cmpint(fd, >=, 0);
    return fd;
}

/* Connect to it until its queue is full, so that the next one has to wait. */
static void busy_begin(Busy *b)
{
    g_autofree char *path = NULL;
    int fd = -1;

    b->dir = g_dir_make_tmp("migrate-cancel-XXXXXX", NULL);
    path = g_strdup_printf("%s/socket", b->dir);
    b->uri = g_strdup_printf("unix:%s", path);
    b->addr.sun_family = AF_UNIX;
    pstrcpy(b->addr.sun_path, sizeof(b->addr.sun_path), path);
    b->listener = busy_socket();
    g_assert_cmpint(bind(b->listener, (struct sockaddr *)&b->addr,
                         sizeof(b->addr)), ==, 0);
    g_assert_cmpint(listen(b->listener, 0), ==, 0);
    for (;;) {
        fd = busy_socket();
        if (connect(fd, (struct sockaddr *)&b->addr, sizeof(b->addr)) < 0) {
            break;
        }
        g_assert_cmpuint(b->n_clients, <, CLIENTS_MAX);
        b->clients[b->n_clients++] = fd;
    }
    g_assert_cmpint(errno, ==, EAGAIN);
    close(fd);
}

/* Nobody is accepted any more, and who waits for it is told. */
static void busy_end(Busy *b)
{
    close(b->listener);
    while (b->n_clients) {
        close(b->clients[--b->n_clients]);
    }
    unlink(b->addr.sun_path);
    rmdir(b->dir);
    g_free(b->uri);
    g_free(b->dir);
}

static char *status(QTestState *qts)
{
    QDict *rsp = qtest_qmp(qts, "{'execute': 'query-migrate'}");
    char *s = g_strdup(qdict_get_try_str(qdict_get_qdict(rsp, "return"),
                                         "status") ?: "none");

    qobject_unref(rsp);
    return s;
}

static void wait_status(QTestState *qts, const char *wanted)
{
    for (unsigned i = 0; i < 3000; i++) {
        g_autofree char *now = status(qts);

        if (g_str_equal(now, wanted)) {
            return;
        }
        g_usleep(10 * 1000);
    }
    g_error("the migration is not '%s'", wanted);
}

/*
 * Until the attempt to connect has ended, it belongs to the migration that was
 * cancelled, and no other one may begin.
 */
static void test_cancel_early(void)
{
    QTestState *qts = qtest_init("-machine none -nodefaults");
    Busy b = { 0 };
    QDict *rsp;

    busy_begin(&b);
    qtest_qmp_assert_success(qts, "{'execute': 'migrate', 'arguments': "
                             "{'uri': %s}}", b.uri);
    wait_status(qts, "setup");
    qtest_qmp_assert_success(qts, "{'execute': 'migrate_cancel'}");
    wait_status(qts, "cancelling");

    rsp = qtest_qmp(qts, "{'execute': 'migrate', 'arguments': {'uri': %s}}",
                    b.uri);
    g_assert(qdict_haskey(rsp, "error"));
    qobject_unref(rsp);

    busy_end(&b);
    wait_status(qts, "cancelled");
    qtest_qmp_assert_success(qts, "{'execute': 'migrate', 'arguments': "
                             "{'uri': 'exec:cat > /dev/null'}}");
    wait_status(qts, "completed");
    qtest_quit(qts);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/migration/cancel/early", test_cancel_early);
    return g_test_run();
}
