/*
 * Migration pipeline: the guest runs while its memory is read
 *
 * One thread serves faults, two fill the rest: while one reads, the other
 * copies.  They start while the devices are still being loaded.  All place
 * pages with UFFDIO_COPY, which never overwrites, so they need no coordination.
 * Pages that are not in the state are zero, and are placed only when touched.
 *
 * No thread takes the BQL or needs the main loop, which may be the one that
 * waits for a page.
 *
 * If nearly all memory has been read, the guest waits for the rest, which takes
 * less time than the faults would.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <poll.h>
#include "exec/memory.h"
#include "exec/ramblock.h"
#include "exec/target_page.h"
#include "migration/blocker.h"
#include "migration/misc.h"
#include "migration/ram.h"
#include "qapi/error.h"
#include "qemu/bitmap.h"
#include "qemu/error-report.h"
#include "qemu/event_notifier.h"
#include "qemu/lockable.h"
#include "qemu/main-loop.h"
#include "qemu/memalign.h"
#include "qemu/rcu.h"
#include "qemu/thread.h"
#include "system/runstate.h"
#include "incoming.h"
#include "lazy.h"
#include "trace.h"

#ifdef CONFIG_LINUX
#include <sys/ioctl.h>
#include <linux/userfaultfd.h>
#include "qemu/userfaultfd.h"

/* Bytes to read around a faulting page, and in one go otherwise */
#define LAZY_AROUND     (64 * KiB)
#define LAZY_AHEAD      (1 * MiB)
/* Delay before a failed operation is retried, in microseconds */
#define LAZY_RETRY      100000
/* How often to check whether disks are still drained, in microseconds */
#define LAZY_DRAINED    500
#define LAZY_FILLERS    2
/* Maximum wait for all memory before the guest runs, in milliseconds */
#define LAZY_PATIENCE   50

typedef struct LazyBlock {
    uint8_t *host;
    uint64_t length, offset;    /* in bytes; position in the stream */
    unsigned long *bitmap;      /* pages that are in the state */
    long pages;
} LazyBlock;

struct PipelineLazy {
    bool active;                /* atomic; main thread */
    bool complete;              /* atomic: no more blocks come */
    bool quit;                  /* atomic: threads must exit */
    PipelineState *state;
    Error *blocker;
    void (*done)(void);
    int uffd;
    EventNotifier wake;         /* for the thread that serves faults */
    QemuThread answers, fills[LAZY_FILLERS];
    QemuSemaphore more;         /* for the threads that fill */
    QemuSemaphore full;         /* all memory has been read */
    QemuMutex lock;             /* for the members below, but not @info */
    GArray *blocks;             /* of LazyBlock; only grows */
    unsigned ready;             /* number of registered blocks */
    unsigned block;             /* next block and ... */
    long page;                  /* ... page to fill */
    unsigned filling;           /* number of threads still filling */
    int64_t begun;              /* start time, in microseconds; or 0 */
    LazyInfo info;              /* atomic */
};

PipelineLazy *migration_lazy_new(void)
{
    PipelineLazy *lazy = g_new0(PipelineLazy, 1);

    qemu_mutex_init(&lazy->lock);
    qemu_sem_init(&lazy->more, 0);
    qemu_sem_init(&lazy->full, 0);
    return lazy;
}

/* Placing pages */

static bool lazy_quits(PipelineLazy *lazy)
{
    return qatomic_read(&lazy->quit);
}

/* The guest cannot do without it: report the failure once, wait, try again. */
static void lazy_retry(PipelineLazy *lazy, bool *failed, int ret,
                       const char *what)
{
    qatomic_set(&lazy->info.error, ret);
    if (!*failed) {
        error_report("memory of the guest cannot be %s state '%s' (%s); it is "
                     "tried again, and the guest waits", what,
                     pipeline_state_name(lazy->state), strerror(-ret));
        *failed = true;
    }
    g_usleep(LAZY_RETRY);
}

static void lazy_retried(PipelineLazy *lazy, bool failed)
{
    if (failed) {
        qatomic_set(&lazy->info.error, 0);
    }
}

/*
 * Put @len bytes of @buf in place, where nothing is yet.  Never give up a page:
 * it would read as zeroes.
 */
static void lazy_place(PipelineLazy *lazy, uint8_t *host, const uint8_t *buf,
                       size_t len)
{
    size_t page = qemu_real_host_page_size();
    bool failed = false;

    while (len && !lazy_quits(lazy)) {
        struct uffdio_copy copy = {
            .dst = (uintptr_t)host, .src = (uintptr_t)buf, .len = len,
        };
        int ret = ioctl(lazy->uffd, UFFDIO_COPY, &copy) < 0 ? -errno : 0;
        int64_t done = lazy_placed(ret, copy.copy, len, page);

        if (done < 0) {
            lazy_retry(lazy, &failed, done, "filled in from");
            continue;
        }
        host += done;
        buf += done;
        len -= done;
    }
    lazy_retried(lazy, failed);
}

/* Number of consecutive pages from @from to @end that are in the state */
static long lazy_run(const LazyBlock *b, long from, long end)
{
    return find_next_zero_bit(b->bitmap, MIN(end, b->pages), from) - from;
}

/* Read @pages from @from on, and place them. */
static void lazy_fetch(PipelineLazy *lazy, const LazyBlock *b, long from,
                       long pages, uint8_t *buf)
{
    size_t page = qemu_real_host_page_size();
    struct iovec iov = { buf, pages * page };
    uint64_t at = pipeline_state_header(lazy->state)->stream + b->offset +
                  from * page;
    bool failed = false;
    int ret;

    while ((ret = pipeline_state_io(lazy->state, false, at, &iov, 1)) < 0) {
        if (lazy_quits(lazy)) {
            return;
        }
        lazy_retry(lazy, &failed, ret, "read from");
    }
    lazy_retried(lazy, failed);
    lazy_place(lazy, b->host + from * page, buf, pages * page);
}

/* The block of @addr */
static LazyBlock lazy_find(PipelineLazy *lazy, const uint8_t *addr)
{
    QEMU_LOCK_GUARD(&lazy->lock);
    for (unsigned i = 0; i < lazy->blocks->len; i++) {
        LazyBlock *b = &g_array_index(lazy->blocks, LazyBlock, i);

        if (addr >= b->host && addr < b->host + b->length) {
            return *b;
        }
    }
    g_assert_not_reached();
}

/* A thread is waiting for the page at @addr. */
static void lazy_answer(PipelineLazy *lazy, const uint8_t *addr, uint8_t *buf)
{
    size_t page = qemu_real_host_page_size();
    LazyBlock b = lazy_find(lazy, addr);
    long at = (addr - b.host) / page, around = LAZY_AROUND / page;
    long low = ROUND_DOWN(at, around), from = at;
    bool zero = at >= b.pages || !test_bit(at, b.bitmap);

    qatomic_inc(&lazy->info.faults);
    trace_migration_pipeline_lazy_fault((uintptr_t)addr, zero);
    if (zero) {
        memset(buf, 0, page);
        lazy_place(lazy, b.host + at * page, buf, page);
        return;
    }
    while (from > low && test_bit(from - 1, b.bitmap)) {
        from--;
    }
    lazy_fetch(lazy, &b, from, lazy_run(&b, from, low + around), buf);
}

static void *lazy_answers(void *opaque)
{
    PipelineLazy *lazy = opaque;
    QEMU_AUTO_VFREE uint8_t *buf = qemu_memalign(qemu_real_host_page_size(),
                                                 LAZY_AROUND);
    struct pollfd fds[] = {
        { .fd = lazy->uffd, .events = POLLIN },
        { .fd = event_notifier_get_fd(&lazy->wake), .events = POLLIN },
    };

    rcu_register_thread();
    while (!lazy_quits(lazy)) {
        struct uffd_msg msg;

        if (poll(fds, ARRAY_SIZE(fds), -1) > 0 && fds[0].revents &&
            uffd_read_events(lazy->uffd, &msg, 1) == 1 &&
            msg.event == UFFD_EVENT_PAGEFAULT) {
            lazy_answer(lazy, (uint8_t *)(uintptr_t)msg.arg.pagefault.address,
                        buf);
        }
    }
    rcu_unregister_thread();
    return NULL;
}

static void lazy_done_bh(void *opaque);

/*
 * Next pages to fill: @run pages of @b, from @from on.  False if there are none
 * for now.
 */
static bool lazy_next(PipelineLazy *lazy, LazyBlock *b, long *from, long *run)
{
    QEMU_LOCK_GUARD(&lazy->lock);
    for (; lazy->block < lazy->ready; lazy->block++, lazy->page = 0) {
        *b = g_array_index(lazy->blocks, LazyBlock, lazy->block);
        *from = find_next_bit(b->bitmap, b->pages, lazy->page);
        if (*from < b->pages) {
            *run = lazy_run(b, *from, *from +
                            LAZY_AHEAD / qemu_real_host_page_size());
            lazy->page = *from + *run;
            lazy->begun = lazy->begun ?: qemu_clock_get_us(QEMU_CLOCK_REALTIME);
            return true;
        }
    }
    return false;
}

/* A thread has nothing left to fill. */
static void lazy_filled(PipelineLazy *lazy)
{
    QEMU_LOCK_GUARD(&lazy->lock);
    if (!--lazy->filling && !lazy_quits(lazy)) {
        qemu_sem_post(&lazy->full);
        aio_bh_schedule_oneshot(qemu_get_aio_context(), lazy_done_bh, lazy);
    }
}

/*
 * bdrv_drain_all() waits for requests to the state, too.  Pause while disks are
 * drained; reads for page faults go on, as the drained disks may wait for them.
 */
static void lazy_let_drain(PipelineLazy *lazy)
{
    while (pipeline_state_is_drained(lazy->state) && !lazy_quits(lazy)) {
        g_usleep(LAZY_DRAINED);
    }
}

static void *lazy_fills(void *opaque)
{
    PipelineLazy *lazy = opaque;
    size_t page = qemu_real_host_page_size();
    QEMU_AUTO_VFREE uint8_t *buf = qemu_memalign(page, LAZY_AHEAD);

    rcu_register_thread();
    while (!lazy_quits(lazy)) {
        bool complete = qatomic_load_acquire(&lazy->complete);
        long from, run;
        LazyBlock b;

        lazy_let_drain(lazy);
        if (lazy_next(lazy, &b, &from, &run)) {
            lazy_fetch(lazy, &b, from, run, buf);
            qatomic_sub(&lazy->info.remaining, run * page);
        } else if (complete) {
            break;
        } else {
            qemu_sem_wait(&lazy->more);
        }
    }
    lazy_filled(lazy);
    rcu_unregister_thread();
    return NULL;
}

/* Will all memory be read soon?  All blocks are known. */
static bool lazy_is_near(PipelineLazy *lazy)
{
    uint64_t left = qatomic_read(&lazy->info.remaining), done;
    int64_t time;

    QEMU_LOCK_GUARD(&lazy->lock);
    done = qatomic_read(&lazy->info.total) - left;
    time = qemu_clock_get_us(QEMU_CLOCK_REALTIME) - lazy->begun;
    return !left || (lazy->begun && (double)left * time <
                                    (double)done * LAZY_PATIENCE * 1000);
}

/* Start and end */

static void lazy_wake_fillers(PipelineLazy *lazy)
{
    for (unsigned i = 0; i < LAZY_FILLERS; i++) {
        qemu_sem_post(&lazy->more);
    }
}

/* Does all of the guest's memory support missing pages? */
static bool lazy_is_possible(Error **errp)
{
    RAMBlock *block;

    if (qemu_target_page_size() != qemu_real_host_page_size()) {
        error_setg(errp, "pages of the guest are not those of the host");
        return false;
    }
    RCU_READ_LOCK_GUARD();
    RAMBLOCK_FOREACH_MIGRATABLE(block) {
        if (qemu_ram_is_shared(block) ||
            qemu_ram_pagesize(block) != qemu_real_host_page_size()) {
            error_setg(errp, "memory '%s' is shared, or has huge pages",
                       block->idstr);
            return false;
        }
    }
    return true;
}

/* Acquire what reading in the background needs from host and guest. */
static bool lazy_open(PipelineLazy *lazy, Error **errp)
{
    lazy->uffd = uffd_create_fd(0, true);
    if (lazy->uffd < 0) {
        error_setg(errp, "this host has no userfaultfd, or does not permit it");
        return false;
    }
    if (event_notifier_init(&lazy->wake, false) < 0) {
        error_setg(errp, "no event notifier");
        goto no_notifier;
    }
    if (ram_block_discard_require(true) < 0) {
        error_setg(errp, "a device of the guest has pinned its memory");
        goto no_discard;
    }
    error_setg(&lazy->blocker, "memory of the guest is still coming in from "
               "its state");
    if (migrate_add_blocker_internal(&lazy->blocker, errp) < 0) {
        goto no_blocker;
    }
    return true;

no_blocker:
    ram_block_discard_require(false);
no_discard:
    event_notifier_cleanup(&lazy->wake);
no_notifier:
    uffd_close_fd(lazy->uffd);
    return false;
}

static void lazy_close(PipelineLazy *lazy)
{
    migrate_del_blocker(&lazy->blocker);
    ram_block_discard_require(false);
    event_notifier_cleanup(&lazy->wake);
    uffd_close_fd(lazy->uffd);
}

bool migration_lazy_begin(PipelineState *state, void (*done)(void),
                          Error **errp)
{
    PipelineLazy *lazy = migration_pipeline_incoming()->lazy;

    if (!lazy_is_possible(errp) || !lazy_open(lazy, errp)) {
        return false;
    }
    lazy->state = pipeline_state_ref(state);
    lazy->done = done;
    lazy->blocks = g_array_new(false, false, sizeof(LazyBlock));
    lazy->info = (LazyInfo) { 0 };
    lazy->ready = lazy->block = lazy->page = 0;
    lazy->begun = 0;
    lazy->filling = LAZY_FILLERS;
    qemu_sem_timedwait(&lazy->full, 0);
    lazy->complete = false;
    lazy->quit = false;
    qatomic_set(&lazy->active, true);
    qemu_thread_create(&lazy->answers, "lazy-answer", lazy_answers, lazy,
                       QEMU_THREAD_JOINABLE);
    for (unsigned i = 0; i < LAZY_FILLERS; i++) {
        qemu_thread_create(&lazy->fills[i], "lazy-fill", lazy_fills, lazy,
                           QEMU_THREAD_JOINABLE);
    }
    return true;
}

bool migration_lazy_take(RAMBlock *block, const unsigned long *bitmap,
                         long pages)
{
    PipelineLazy *lazy = migration_pipeline_incoming()->lazy;
    size_t page = qemu_real_host_page_size();
    LazyBlock b = {
        .host = block->host,
        .length = ROUND_UP(block->used_length, page),
        .offset = block->pages_offset,
        .pages = pages,
    };

    if (!lazy->active || lazy->complete || pages < 0 ||
        pages * page != b.length ||
        ram_block_discard_range(block, 0, b.length) < 0) {
        return false;
    }
    b.bitmap = bitmap_new(pages);
    bitmap_copy(b.bitmap, bitmap, pages);
    WITH_QEMU_LOCK_GUARD(&lazy->lock) {
        g_array_append_val(lazy->blocks, b);
    }
    if (uffd_register_memory(lazy->uffd, b.host, b.length,
                             UFFDIO_REGISTER_MODE_MISSING, NULL) < 0) {
        WITH_QEMU_LOCK_GUARD(&lazy->lock) {
            g_array_set_size(lazy->blocks, lazy->blocks->len - 1);
        }
        g_free(b.bitmap);
        return false;
    }
    qatomic_add(&lazy->info.total, bitmap_count_one(bitmap, pages) * page);
    qatomic_add(&lazy->info.remaining, bitmap_count_one(bitmap, pages) * page);
    WITH_QEMU_LOCK_GUARD(&lazy->lock) {
        lazy->ready = lazy->blocks->len;
    }
    lazy_wake_fillers(lazy);
    return true;
}

void migration_lazy_complete(void)
{
    PipelineLazy *lazy = migration_pipeline_incoming()->lazy;

    if (lazy->active) {
        qatomic_store_release(&lazy->complete, true);
        lazy_wake_fillers(lazy);
        if (lazy_is_near(lazy)) {
            qemu_sem_timedwait(&lazy->full, LAZY_PATIENCE);
        }
    }
}

/* End all waits; pages missing now read as zeroes. */
static void lazy_stop(PipelineLazy *lazy)
{
    for (unsigned i = 0; i < lazy->blocks->len; i++) {
        LazyBlock *b = &g_array_index(lazy->blocks, LazyBlock, i);

        uffd_unregister_memory(lazy->uffd, b->host, b->length);
    }
    qatomic_set(&lazy->quit, true);
    event_notifier_set(&lazy->wake);
    lazy_wake_fillers(lazy);
    qemu_thread_join(&lazy->answers);
    for (unsigned i = 0; i < LAZY_FILLERS; i++) {
        qemu_thread_join(&lazy->fills[i]);
    }
    for (unsigned i = 0; i < lazy->blocks->len; i++) {
        g_free(g_array_index(lazy->blocks, LazyBlock, i).bitmap);
    }
    g_array_free(lazy->blocks, true);
    lazy_close(lazy);
    pipeline_state_unref(lazy->state);
    qatomic_set(&lazy->active, false);
}

static void lazy_done_bh(void *opaque)
{
    PipelineLazy *lazy = opaque;

    if (lazy->active) {
        lazy_stop(lazy);
        lazy->done();
    }
}

void migration_lazy_end(void)
{
    PipelineLazy *lazy = migration_pipeline_incoming()->lazy;

    if (lazy->active) {
        lazy_stop(lazy);
    }
}

bool migration_lazy_active(void)
{
    PipelineLazy *lazy = migration_pipeline_incoming()->lazy;

    return qatomic_read(&lazy->active);
}

bool migration_lazy_info(LazyInfo *info)
{
    PipelineLazy *lazy = migration_pipeline_incoming()->lazy;

    *info = (LazyInfo) {
        .total = qatomic_read(&lazy->info.total),
        .remaining = qatomic_read(&lazy->info.remaining),
        .faults = qatomic_read(&lazy->info.faults),
        .error = qatomic_read(&lazy->info.error),
    };
    return info->total;
}

#else

PipelineLazy *migration_lazy_new(void)
{
    return NULL;
}

bool migration_lazy_begin(PipelineState *state, void (*done)(void),
                          Error **errp)
{
    error_setg(errp, "this host has no userfaultfd");
    return false;
}

bool migration_lazy_take(RAMBlock *block, const unsigned long *bitmap,
                         long pages)
{
    return false;
}

void migration_lazy_complete(void)
{
}

void migration_lazy_end(void)
{
}

bool migration_lazy_active(void)
{
    return false;
}

bool migration_lazy_info(LazyInfo *info)
{
    return false;
}

#endif
