/*
 * Disk hot-plug: does the storage respond?
 *
 * There is one thread for each file.  A hung thread is not started again; if it
 * returns during a later probe of the file, that is the answer.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block-global-state.h"
#include "block/block_int.h"
#include "probe.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-disk.h"
#include "qapi/qobject-output-visitor.h"
#include "qemu/cutils.h"
#include "qemu/lockable.h"
#include "qemu/memalign.h"
#include "qemu/thread.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "qobject/qstring.h"

#ifdef CONFIG_LINUX

#define PATIENCE_US     (50 * 1000)
/* Bytes to read; no storage has larger blocks */
#define PROBE_SIZE      4096

typedef struct Probe {
    char *path;
    bool answered;              /* protected by @lock */
} Probe;

static QemuMutex lock;
static QemuCond cond;
/* Probe by path, until the answer is used; main thread */
static GHashTable *probes;

static void __attribute__((constructor)) probe_construct(void)
{
    qemu_mutex_init(&lock);
    qemu_cond_init(&cond);
}

/* The probe */

/* O_DIRECT, to bypass the page cache */
static int probe_open(const char *path)
{
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_DIRECT);

    return fd < 0 && errno == EINVAL ?
           open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC) : fd;
}

static void *probe_thread(void *opaque)
{
    QEMU_AUTO_VFREE void *buf = qemu_memalign(PROBE_SIZE, PROBE_SIZE);
    Probe *p = opaque;
    int fd = probe_open(p->path);

    if (fd >= 0) {
        /* An error is found when the image is opened. */
        (void)!pread(fd, buf, PROBE_SIZE, 0);
        close(fd);
    }
    QEMU_LOCK_GUARD(&lock);
    p->answered = true;
    qemu_cond_signal(&cond);
    return NULL;
}

static void probe_free(void *opaque)
{
    Probe *p = opaque;

    g_free(p->path);
    g_free(p);
}

/* An old answer is obsolete, and is discarded. */
static bool probe_is_under_way(const char *path)
{
    Probe *p = g_hash_table_lookup(probes, path);
    bool answered = false;

    if (p) {
        WITH_QEMU_LOCK_GUARD(&lock) {
            answered = p->answered;
        }
    }
    if (answered) {
        g_hash_table_remove(probes, path);
    }
    return p && !answered;
}

static void probe_ask(const char *path)
{
    QemuThread thread;
    Probe *p;

    if (!probes) {
        probes = g_hash_table_new_full(g_str_hash, g_str_equal, NULL,
                                       probe_free);
    }
    if (probe_is_under_way(path)) {
        return;
    }
    p = g_new0(Probe, 1);
    p->path = g_strdup(path);
    g_hash_table_insert(probes, p->path, p);
    qemu_thread_create(&thread, "disk-probe", probe_thread, p,
                       QEMU_THREAD_DETACHED);
}

/* Wait until @end_us at most; true: it has answered, and is freed. */
static bool probe_wait(const char *path, int64_t end_us)
{
    Probe *p = g_hash_table_lookup(probes, path);

    if (p) {
        int64_t left_us = end_us - g_get_monotonic_time();

        QEMU_LOCK_GUARD(&lock);
        while (!p->answered && left_us > 0) {
            qemu_cond_timedwait(&cond, &lock, left_us / 1000 + 1);
            left_us = end_us - g_get_monotonic_time();
        }
    }
    return !probe_is_under_way(path);
}

/* The files to probe */

/* Closing a file drops all POSIX locks that this process holds on it. */
static bool path_can_be_asked(const char *path)
{
    return qemu_has_ofd_lock() && !g_str_has_prefix(path, "/dev/fdset/");
}

static void add_path(GPtrArray *paths, const char *path)
{
    strstart(path, "file:", &path);
    if (*path && path_can_be_asked(path)) {
        g_ptr_array_add(paths, g_strdup(path));
    }
}

static void GRAPH_RDLOCK add_paths_of_node(GPtrArray *paths,
                                           BlockDriverState *bs)
{
    const char *protocol = bs->drv ? bs->drv->protocol_name : NULL;
    BdrvChild *child;

    if (protocol && (g_str_equal(protocol, "file") ||
                     g_str_equal(protocol, "host_device"))) {
        add_path(paths, bs->filename);
    }
    QLIST_FOREACH(child, &bs->children, next) {
        add_paths_of_node(paths, child->bs);
    }
}

static void GRAPH_RDLOCK add_paths_of(GPtrArray *paths, const char *key,
                                      QObject *value)
{
    const char *text = qobject_type(value) == QTYPE_QSTRING ?
                       qstring_get_str(qobject_to(QString, value)) : NULL;
    QDict *dict = qobject_to(QDict, value);
    QList *list = qobject_to(QList, value);
    const QDictEntry *entry;
    const QListEntry *item;

    if (text) {
        BlockDriverState *bs = bdrv_find_node(text);

        if (g_str_equal(key, "filename")) {
            add_path(paths, text);
        } else if (bs) {
            add_paths_of_node(paths, bs);
        }
    }
    for (entry = dict ? qdict_first(dict) : NULL; entry;
         entry = qdict_next(dict, entry)) {
        add_paths_of(paths, qdict_entry_key(entry), qdict_entry_value(entry));
    }
    for (item = list ? qlist_first(list) : NULL; item;
         item = qlist_next(item)) {
        add_paths_of(paths, key, qlist_entry_obj(item));
    }
}

static GPtrArray *paths_of(const DiskSpec *spec)
{
    GPtrArray *paths = g_ptr_array_new_with_free_func(g_free);
    QObject *obj = NULL;
    Visitor *v = qobject_output_visitor_new(&obj);

    GRAPH_RDLOCK_GUARD_MAINLOOP();
    visit_type_DiskSpec(v, NULL, (DiskSpec **)&spec, &error_abort);
    visit_complete(v, &obj);
    visit_free(v);
    add_paths_of(paths, "", obj);
    qobject_unref(obj);
    return paths;
}

bool disk_storage_answers(const DiskSpec *spec, Error **errp)
{
    int64_t end_us = g_get_monotonic_time() + PATIENCE_US;
    g_autoptr(GPtrArray) paths = paths_of(spec);

    for (unsigned i = 0; i < paths->len; i++) {
        probe_ask(g_ptr_array_index(paths, i));
    }
    for (unsigned i = 0; i < paths->len; i++) {
        const char *path = g_ptr_array_index(paths, i);

        if (!probe_wait(path, end_us)) {
            error_setg(errp, "'%s' does not answer; try again when its storage "
                       "does", path);
            return false;
        }
    }
    return true;
}

#else

bool disk_storage_answers(const DiskSpec *spec, Error **errp)
{
    return true;
}

#endif
