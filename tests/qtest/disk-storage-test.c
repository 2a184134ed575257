/*
 * Disk hot-plug: storage that does not answer when an image is to be opened
 *
 * It is a file of a storage daemon, by FUSE, and the daemon is stopped.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/prctl.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include "csv/disk-scene.h"

#define MACHINE     "-machine q35,disk-hotplug=on -nodefaults "
#define FUSE_MAGIC  0x65735546
#define SIZE        (1024 * 1024)

typedef struct Storage {
    char *dir, *image, *path;   /* @path is the file that hangs */
    GPid daemon;                /* 0: it has ended */
    QTestState *qts;
    char *file, *spec;          /* that is opened; of a disk 'd' on it */
} Storage;

static void make_file(const char *path)
{
    int fd = open(path, O_CREAT | O_RDWR, 0600);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, SIZE), ==, 0);
    close(fd);
}

static bool is_mounted(const char *path)
{
    struct statfs st;

    return statfs(path, &st) == 0 && st.f_type == FUSE_MAGIC;
}

/* A daemon that is stopped outlives no test that fails. */
static void end_with_test(void *opaque)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static void start_daemon(Storage *s)
{
    g_autofree char *node = g_strdup_printf("file,node-name=f,filename=%s",
                                            s->image);
    g_autofree char *export = g_strdup_printf("fuse,id=e,node-name=f,"
                                              "mountpoint=%s", s->path);
    const char *argv[] = {
        getenv("QTEST_QEMU_STORAGE_DAEMON_BINARY"),
        "--blockdev", node, "--export", export, NULL,
    };
    GError *err = NULL;

    g_spawn_async(NULL, (char **)argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD |
                  G_SPAWN_STDOUT_TO_DEV_NULL | G_SPAWN_STDERR_TO_DEV_NULL,
                  end_with_test, NULL, &s->daemon, &err);
    g_assert_no_error(err);
}

/* Also when the test has failed: QEMU could not end, nor the file go. */
static void end_daemon(void *opaque)
{
    Storage *s = opaque;

    kill(s->daemon, SIGCONT);
    kill(s->daemon, SIGTERM);
    waitpid(s->daemon, NULL, 0);
}

static void storage_end(Storage *s)
{
    if (s->qts) {
        qtest_quit(s->qts);
    }
    if (s->daemon) {
        qtest_remove_abrt_handler(s);
        end_daemon(s);
    }
    unlink(s->path);
    unlink(s->image);
    rmdir(s->dir);
    g_free(s->dir);
    g_free(s->image);
    g_free(s->path);
    g_free(s->file);
    g_free(s->spec);
}

/* False: this host cannot do that, and the test is skipped. */
static bool storage_begin(Storage *s)
{
    int64_t end = g_get_monotonic_time() + DISK_TIMEOUT_US;
    GError *err = NULL;

    s->dir = g_dir_make_tmp("disk-storage-XXXXXX", &err);
    g_assert_no_error(err);
    s->image = g_build_filename(s->dir, "image", NULL);
    s->path = g_build_filename(s->dir, "disk", NULL);
    make_file(s->image);
    make_file(s->path);
    start_daemon(s);
    while (!is_mounted(s->path)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        if (waitpid(s->daemon, NULL, WNOHANG) != 0) {
            g_test_skip("this host exports no files by FUSE");
            s->daemon = 0;
            return false;
        }
        g_usleep(DISK_ROUND_US);
    }
    s->qts = qtest_init(MACHINE);
    qtest_add_abrt_handler(end_daemon, s);
    s->file = g_strdup_printf("'driver': 'file', 'filename': '%s'", s->path);
    s->spec = g_strdup_printf("'id': 'd', 'blockdev': {'driver': 'raw', "
                              "'node-name': 'n', 'file': {%s}}", s->file);
    return true;
}

static void storage_stop(Storage *s)
{
    int status;

    kill(s->daemon, SIGSTOP);
    g_assert_cmpint(waitpid(s->daemon, &status, WUNTRACED), ==, s->daemon);
    g_assert_true(WIFSTOPPED(status));
}

static void storage_go_on(Storage *s)
{
    kill(s->daemon, SIGCONT);
}

/* Nothing is left of an attach that did not come about. */
static void expect_nothing(Storage *s)
{
    g_assert_cmpint(disk_count(s->qts, "query-disks"), ==, 0);
    g_assert_cmpint(disk_count(s->qts, "query-named-block-nodes"), ==, 0);
}

/* Sooner or later the storage answers in time. */
static void wait_attached(Storage *s)
{
    int64_t end = g_get_monotonic_time() + DISK_TIMEOUT_US;
    QDict *rsp = disk_attach(s->qts, s->spec);

    while (qdict_haskey(rsp, "error")) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        qobject_unref(rsp);
        g_usleep(DISK_ROUND_US);
        rsp = disk_attach(s->qts, s->spec);
    }
    qobject_unref(rsp);
    g_assert_cmpint(disk_count(s->qts, "query-disks"), ==, 1);
}

/* QEMU answers at once, and the disk is attached if it may wait. */
static void test_waits(void)
{
    Storage s = { };
    g_autofree char *waits = NULL, *tries = NULL;

    if (storage_begin(&s)) {
        storage_stop(&s);
        disk_refused(s.qts, s.spec, "does not answer");
        tries = g_strdup_printf("%s, 'dry-run': true", s.spec);
        disk_refused(s.qts, tries, "does not answer");
        expect_nothing(&s);

        waits = g_strdup_printf("%s, 'deadline': 60000", s.spec);
        disk_attach_waits(s.qts, waits);
        qtest_qmp_assert_success(s.qts, "{'execute': 'query-status'}");
        disk_refused(s.qts, s.spec, "a device 'd' already");
        storage_go_on(&s);
        disk_attach_ends(s.qts, "d", "attached", NULL);
        disk_detach(s.qts, "d", "");
        disk_wait(s.qts, "d", "removed", NULL);
        expect_nothing(&s);
    }
    storage_end(&s);
}

/* It does not answer by the deadline; the next attach is another one. */
static void test_deadline(void)
{
    Storage s = { };
    g_autofree char *waits = NULL;

    if (storage_begin(&s)) {
        storage_stop(&s);
        waits = g_strdup_printf("%s, 'deadline': 100", s.spec);
        disk_attach_waits(s.qts, waits);
        disk_attach_ends(s.qts, "d", "timed-out", s.path);
        expect_nothing(&s);
        storage_go_on(&s);
        wait_attached(&s);
    }
    storage_end(&s);
}

/* A node that is there already, and what is made in it */
static void test_node(void)
{
    Storage s = { };

    if (storage_begin(&s)) {
        qtest_qmp_assert_success(s.qts, "{'execute': 'blockdev-add', "
                                 "'arguments': {'driver': 'file', "
                                 "'node-name': 'f', 'filename': %s}}", s.path);
        storage_stop(&s);
        disk_refused(s.qts, "'id': 'd', 'blockdev': 'f'", "does not answer");
        disk_refused(s.qts, "'id': 'd', 'blockdev': {'driver': 'raw', "
                     "'node-name': 'n', 'file': 'f'}", "does not answer");
        disk_refused(s.qts, "'id': 'd', 'create': {'driver': 'qcow2', "
                     "'file': 'f', 'size': 65536}, 'blockdev': {'driver': "
                     "'qcow2', 'node-name': 'n', 'file': 'f'}",
                     "does not answer");
        storage_go_on(&s);
    }
    storage_end(&s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!qtest_has_machine("q35") || !qtest_has_device("virtio-scsi-pci") ||
        !getenv("QTEST_QEMU_STORAGE_DAEMON_BINARY")) {
        g_test_message("no q35, no virtio-scsi-pci, or no storage daemon");
        return g_test_run();
    }
    qtest_add_func("/disk/storage/waits", test_waits);
    qtest_add_func("/disk/storage/deadline", test_deadline);
    qtest_add_func("/disk/storage/node", test_node);
    return g_test_run();
}
