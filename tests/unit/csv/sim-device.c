/*
 * A block device in memory, for crash tests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include <sys/mman.h>
#include "block/block_int.h"
#include "qapi/error.h"
#include "qemu/bitmap.h"
#include "qemu/coroutine.h"
#include "qemu/module.h"
#include "qemu/units.h"
#include "sim-device.h"

typedef struct SimUndo {
    uint64_t sector;
    uint8_t old[SIM_SECTOR];
} SimUndo;

/* A sector in the cache */
typedef struct SimPending {
    unsigned event;
    unsigned nr;        /* in the event */
} SimPending;

struct SimTrace {
    size_t start;       /* mark */
    GArray *events;     /* of SimEvent */
    GArray *pending;    /* of SimPending, oldest first */
};

static struct {
    uint8_t *mem;
    uint64_t size;
    unsigned long *used;    /* a bit for each SIM_CHUNK that was written */
    GArray *undo;       /* of SimUndo */
    SimTrace *trace;    /* or NULL */
    SimFaults faults;
    uint64_t seed;
    bool hold;          /* the next write */
    bool hide_swap;     /* the next compare-and-write */
    bool hide_read;     /* the next read */
    Coroutine *held;    /* its writer, or NULL */
    GHashTable *locks;  /* number to node */
    struct {
        SimTrace *trace;        /* or NULL */
        unsigned first, last;   /* events */
    } late;
} dev;

#define SIM_CHUNK (64 * KiB)

static const uint8_t zero_sector[SIM_SECTOR];

uint64_t sim_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static bool sim_chance(unsigned n, unsigned of)
{
    return n && sim_random(&dev.seed) % of < n;
}

void sim_device_new(uint64_t size)
{
    g_assert(!dev.mem);
    dev.size = size;
    dev.mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    g_assert(dev.mem != MAP_FAILED);
    dev.used = bitmap_new(DIV_ROUND_UP(size, SIM_CHUNK));
    dev.undo = g_array_new(false, false, sizeof(SimUndo));
    dev.locks = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free,
                                      NULL);
    dev.faults = (SimFaults) { 0 };
}

void sim_device_free(void)
{
    g_assert(!dev.trace);
    g_assert_cmpint(g_hash_table_size(dev.locks), ==, 0);
    munmap(dev.mem, dev.size);
    dev.mem = NULL;
    g_free(dev.used);
    g_array_free(dev.undo, true);
    g_hash_table_destroy(dev.locks);
}

void sim_device_faults(const SimFaults *faults, uint64_t seed)
{
    dev.faults = *faults;
    dev.seed = seed;
}

void sim_device_hold(void)
{
    g_assert(!dev.hold && !dev.held);
    dev.hold = true;
}

void sim_device_let_go(void)
{
    g_assert(dev.held);
    aio_co_wake(g_steal_pointer(&dev.held));
}

size_t sim_mark(void)
{
    return dev.undo->len;
}

void sim_undo(size_t mark)
{
    g_assert(!dev.trace);
    while (dev.undo->len > mark) {
        SimUndo *u = &g_array_index(dev.undo, SimUndo, dev.undo->len - 1);

        memcpy(dev.mem + u->sector * SIM_SECTOR, u->old, SIM_SECTOR);
        g_array_set_size(dev.undo, dev.undo->len - 1);
    }
}

static void sim_store(uint64_t sector, const uint8_t *data)
{
    uint8_t *p = dev.mem + sector * SIM_SECTOR;
    SimUndo *u;

    if (!memcmp(p, data, SIM_SECTOR)) {
        return;
    }
    g_array_set_size(dev.undo, dev.undo->len + 1);
    u = &g_array_index(dev.undo, SimUndo, dev.undo->len - 1);
    u->sector = sector;
    memcpy(u->old, p, SIM_SECTOR);
    memcpy(p, data, SIM_SECTOR);
    set_bit(sector * SIM_SECTOR / SIM_CHUNK, dev.used);
}

void sim_peek(uint64_t offset, void *buf, size_t bytes)
{
    g_assert(offset + bytes <= dev.size);
    memcpy(buf, dev.mem + offset, bytes);
}

void sim_poke(uint64_t offset, const void *buf, size_t bytes)
{
    g_assert(!dev.trace && offset + bytes <= dev.size);
    for (size_t i = 0; i < bytes; i += SIM_SECTOR) {
        sim_store((offset + i) / SIM_SECTOR, (const uint8_t *)buf + i);
    }
}

static SimEvent *sim_event(const SimTrace *trace, unsigned i)
{
    return &g_array_index(trace->events, SimEvent, i);
}

/* Returns the event's index */
static unsigned sim_trace_add(SimEventKind kind, unsigned index)
{
    SimEvent e = { .kind = kind, .index = index };

    if (!dev.trace) {
        return 0;
    }
    g_array_append_val(dev.trace->events, e);
    return dev.trace->events->len - 1;
}

void sim_trace_start(void)
{
    g_assert(!dev.trace);
    dev.trace = g_new0(SimTrace, 1);
    dev.trace->start = sim_mark();
    dev.trace->events = g_array_new(false, false, sizeof(SimEvent));
    dev.trace->pending = g_array_new(false, false, sizeof(SimPending));
}

SimTrace *sim_trace_stop(void)
{
    return g_steal_pointer(&dev.trace);
}

void sim_trace_free(SimTrace *trace)
{
    for (unsigned i = 0; i < trace->events->len; i++) {
        g_free(sim_event(trace, i)->data);
        g_free(sim_event(trace, i)->note);
    }
    g_array_free(trace->events, true);
    g_array_free(trace->pending, true);
    g_free(trace);
}

void sim_trace_rewind(const SimTrace *trace)
{
    sim_undo(trace->start);
}

void sim_trace_note(void *note)
{
    unsigned i = sim_trace_add(SIM_NOTE, 0);

    if (dev.trace) {
        sim_event(dev.trace, i)->note = note;
    } else {
        g_free(note);
    }
}

unsigned sim_trace_length(const SimTrace *trace)
{
    return trace->events->len;
}

const SimEvent *sim_trace_event(const SimTrace *trace, unsigned i)
{
    return sim_event(trace, i);
}

static const uint8_t *sim_event_data(const SimEvent *e, unsigned nr)
{
    return e->data ? e->data + (size_t)nr * SIM_SECTOR : zero_sector;
}

/* Of a sector that is durable, what was written before is gone. */
static void sim_walk_forget(SimTrace *trace, GHashTable *durable)
{
    unsigned out = 0;

    for (unsigned i = 0; i < trace->pending->len; i++) {
        SimPending p = g_array_index(trace->pending, SimPending, i);
        uint64_t sector = sim_event(trace, p.event)->sector + p.nr;
        gpointer by = g_hash_table_lookup(durable, GSIZE_TO_POINTER(sector));

        if (p.event >= GPOINTER_TO_UINT(by)) {
            g_array_index(trace->pending, SimPending, out++) = p;
        }
    }
    g_array_set_size(trace->pending, out);
}

/* What was done when flush @begin began is durable; the rest stays. */
static bool sim_walk_flush(SimTrace *trace, unsigned begin)
{
    g_autoptr(GHashTable) durable = g_hash_table_new(NULL, NULL);
    unsigned out = 0;

    for (unsigned i = 0; i < trace->pending->len; i++) {
        SimPending p = g_array_index(trace->pending, SimPending, i);
        SimEvent *e = sim_event(trace, p.event);

        if (e->done && e->index < begin) {
            sim_store(e->sector + p.nr, sim_event_data(e, p.nr));
            g_hash_table_insert(durable, GSIZE_TO_POINTER(e->sector + p.nr),
                                GUINT_TO_POINTER(p.event));
        } else {
            g_array_index(trace->pending, SimPending, out++) = p;
        }
    }
    g_array_set_size(trace->pending, out);
    if (out) {
        sim_walk_forget(trace, durable);
    }
    return g_hash_table_size(durable);
}

bool sim_walk_step(SimTrace *trace, unsigned i)
{
    SimEvent *e = sim_event(trace, i);

    switch (e->kind) {
    case SIM_WRITE:
        for (unsigned nr = 0; nr < e->sectors; nr++) {
            SimPending p = { i, nr };

            g_array_append_val(trace->pending, p);
        }
        return true;
    case SIM_WRITE_DONE:
        sim_event(trace, e->index)->done = true;
        sim_event(trace, e->index)->index = i;
        return false;
    case SIM_FLUSH_DONE:
        return sim_walk_flush(trace, e->index);
    case SIM_NOTE:
    case SIM_FLUSH:
        return false;
    }
    g_assert_not_reached();
}

unsigned sim_walk_pending(const SimTrace *trace)
{
    return trace->pending->len;
}

unsigned sim_walk_writer(const SimTrace *trace, unsigned pending)
{
    return g_array_index(trace->pending, SimPending, pending).event;
}

void sim_walk_crash(SimTrace *trace, const unsigned long *keep,
                    unsigned block)
{
    unsigned event = UINT_MAX;
    uint64_t page = 0;
    bool kept = false;

    for (unsigned i = 0; i < trace->pending->len; i++) {
        SimPending *p = &g_array_index(trace->pending, SimPending, i);
        SimEvent *e = sim_event(trace, p->event);
        uint64_t here = (e->sector + p->nr) / block;

        if (p->event != event || here != page) {
            kept = test_bit(i, keep);
        }
        event = p->event;
        page = here;
        if (kept) {
            sim_store(e->sector + p->nr, sim_event_data(e, p->nr));
        }
    }
}

/* Let others run before us, by chance. */
static void coroutine_fn sim_delay(void)
{
    while (sim_chance(dev.faults.delay, 100)) {
        aio_co_schedule(qemu_get_current_aio_context(), qemu_coroutine_self());
        qemu_coroutine_yield();
    }
}

/* On the way until sim_device_let_go(), if it is to be */
static void coroutine_fn sim_stay(void)
{
    if (dev.hold) {
        dev.hold = false;
        dev.held = qemu_coroutine_self();
        qemu_coroutine_yield();
    }
}

/* It gets into the cache.  Returns its index; takes over its data. */
static unsigned sim_put(const SimEvent *e)
{
    for (unsigned nr = 0; nr < e->sectors; nr++) {
        sim_store(e->sector + nr, sim_event_data(e, nr));
    }
    if (!dev.trace) {
        g_free(e->data);
        return 0;
    }
    g_array_append_val(dev.trace->events, *e);
    return dev.trace->events->len - 1;
}

/* @data: NULL for zeroes; taken over */
static int coroutine_fn sim_write(uint64_t offset, uint64_t bytes,
                                  uint8_t *data, bool at_once)
{
    unsigned sectors = bytes / SIM_SECTOR;
    bool fail = sim_chance(dev.faults.fail_write, 10000);
    SimEvent e = {
        .kind = SIM_WRITE,
        .sector = offset / SIM_SECTOR,
        .sectors = fail ? sim_random(&dev.seed) % (sectors + 1) : sectors,
        .data = data,
    };
    unsigned index;

    if (offset + bytes > dev.size) {
        g_free(data);
        return -ENOSPC;
    }
    if (!at_once) {
        sim_delay();
        sim_stay();
    }
    index = sim_put(&e);
    sim_delay();
    sim_trace_add(SIM_WRITE_DONE, index);
    return fail ? -EIO : 0;
}

void sim_device_late(SimTrace *trace, unsigned first, unsigned last)
{
    dev.late.trace = trace;
    dev.late.first = first;
    dev.late.last = last;
}

/* Event @i of a trace happens once more, now. */
static void sim_again(const SimTrace *trace, unsigned i)
{
    const SimEvent *e = sim_event(trace, i);
    SimEvent copy = { .kind = SIM_WRITE, .sector = e->sector,
                      .sectors = e->sectors };

    if (e->kind == SIM_WRITE) {
        if (e->data) {
            copy.data = g_memdup2(e->data, (size_t)e->sectors * SIM_SECTOR);
        }
        sim_trace_add(SIM_WRITE_DONE, sim_put(&copy));
    } else if (e->kind == SIM_FLUSH_DONE) {
        sim_trace_add(SIM_FLUSH_DONE, sim_trace_add(SIM_FLUSH, 0));
    }
}

/* What somebody else has on its way arrives behind a read of its place. */
static void sim_arrive(uint64_t sector, uint64_t sectors)
{
    SimTrace *trace = dev.late.trace;
    SimEvent *last = trace ? sim_event(trace, dev.late.last) : NULL;

    if (!last || last->sector < sector || last->sector >= sector + sectors) {
        return;
    }
    dev.late.trace = NULL;
    for (unsigned i = dev.late.first; i <= dev.late.last; i++) {
        sim_again(trace, i);
    }
}

static int coroutine_fn
sim_co_pwritev(BlockDriverState *bs, int64_t offset, int64_t bytes,
               QEMUIOVector *qiov, BdrvRequestFlags flags)
{
    uint8_t *data = g_malloc(bytes);

    qemu_iovec_to_buf(qiov, 0, data, bytes);
    return sim_write(offset, bytes, data, false);
}

static int coroutine_fn
sim_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                     BdrvRequestFlags flags)
{
    return sim_write(offset, bytes, NULL, false);
}

static int coroutine_fn
sim_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    return sim_write(offset, bytes, NULL, false);
}

static int coroutine_fn
sim_co_preadv(BlockDriverState *bs, int64_t offset, int64_t bytes,
              QEMUIOVector *qiov, BdrvRequestFlags flags)
{
    g_assert(offset + bytes <= dev.size);
    if (dev.hide_read) {
        dev.hide_read = false;
        return -EIO;
    }
    sim_delay();
    qemu_iovec_from_buf(qiov, 0, dev.mem + offset, bytes);
    sim_arrive(offset / SIM_SECTOR, bytes / SIM_SECTOR);
    sim_delay();
    return 0;
}

/* Memory that was never written is not read, so that it takes no space. */
static bool sim_is_zero(int64_t offset)
{
    return !test_bit(offset / SIM_CHUNK, dev.used) ||
           buffer_is_zero(dev.mem + offset, SIM_SECTOR);
}

/* What was never written, or zeroed since, is a hole. */
static int coroutine_fn
sim_co_block_status(BlockDriverState *bs, bool want_zero, int64_t offset,
                    int64_t bytes, int64_t *pnum, int64_t *map,
                    BlockDriverState **file)
{
    bool zero = sim_is_zero(offset);
    int64_t n = SIM_SECTOR;

    while (n < bytes && sim_is_zero(offset + n) == zero) {
        n += SIM_SECTOR;
    }
    *pnum = n;
    return zero ? BDRV_BLOCK_ZERO : BDRV_BLOCK_DATA;
}

static int coroutine_fn sim_co_flush(BlockDriverState *bs)
{
    unsigned begin = sim_trace_add(SIM_FLUSH, 0);

    sim_delay();
    if (sim_chance(dev.faults.fail_flush, 10000)) {
        return -EIO;
    }
    if (!dev.faults.lie_flush) {
        sim_trace_add(SIM_FLUSH_DONE, begin);
    }
    sim_delay();
    return 0;
}

static int coroutine_fn
sim_co_compare_and_write(BlockDriverState *bs, int64_t offset, int64_t bytes,
                         const void *compare, const void *write)
{
    if (offset + bytes > dev.size) {
        return -ENOSPC;
    }
    sim_delay();
    if (memcmp(dev.mem + offset, compare, bytes)) {
        return -EILSEQ;
    }
    if (dev.hide_swap) {
        dev.hide_swap = false;
        dev.hide_read = true;
        sim_write(offset, bytes, g_memdup2(write, bytes), true);
        return -EIO;
    }
    return sim_write(offset, bytes, g_memdup2(write, bytes), true);
}

void sim_device_hide_swap(void)
{
    dev.hide_swap = true;
}

void sim_device_drop_locks(void)
{
    g_hash_table_remove_all(dev.locks);
}

static int coroutine_fn
sim_co_liveness_lock(BlockDriverState *bs, uint64_t id, BdrvLivenessOp op)
{
    void *holder = g_hash_table_lookup(dev.locks, &id);

    switch (op) {
    case BDRV_LIVENESS_ACQUIRE:
        if (holder) {
            return -EBUSY;
        }
        g_hash_table_insert(dev.locks, g_memdup2(&id, sizeof(id)), bs);
        return 0;
    case BDRV_LIVENESS_RELEASE:
        if (holder == bs) {
            g_hash_table_remove(dev.locks, &id);
        }
        return 0;
    case BDRV_LIVENESS_TEST:
        return holder ? -EBUSY : 0;
    case BDRV_LIVENESS_RENEW:
        if (holder && holder != bs) {
            return -EBUSY;
        }
        g_hash_table_insert(dev.locks, g_memdup2(&id, sizeof(id)), bs);
        return 0;
    }
    g_assert_not_reached();
}

static gboolean sim_lock_is_of(gpointer key, gpointer value, gpointer opaque)
{
    return value == opaque;
}

static int sim_open(BlockDriverState *bs, QDict *options, int flags,
                    Error **errp)
{
    bs->supported_zero_flags = BDRV_REQ_MAY_UNMAP;
    return 0;
}

static void sim_refresh_limits(BlockDriverState *bs, Error **errp)
{
    bs->bl.compare_and_write = SIM_SECTOR;
    bs->bl.lock_scope = BDRV_LOCK_SCOPE_ALL;
    bs->bl.locks_may_vanish = dev.faults.may_vanish;
}

static void sim_close(BlockDriverState *bs)
{
    g_hash_table_foreach_remove(dev.locks, sim_lock_is_of, bs);
}

static int64_t coroutine_fn sim_co_getlength(BlockDriverState *bs)
{
    return dev.size;
}

static int coroutine_fn
sim_co_truncate(BlockDriverState *bs, int64_t offset, bool exact,
                PreallocMode prealloc, BdrvRequestFlags flags, Error **errp)
{
    if (offset > dev.size || (exact && offset != dev.size)) {
        error_setg(errp, "the device keeps its size");
        return -ENOTSUP;
    }
    return 0;
}

static BlockDriver bdrv_sim = {
    .format_name                = "csv-sim",
    .protocol_name              = "csv-sim",
    .bdrv_open                  = sim_open,
    .bdrv_close                 = sim_close,
    .bdrv_co_getlength          = sim_co_getlength,
    .bdrv_co_truncate           = sim_co_truncate,
    .bdrv_co_preadv             = sim_co_preadv,
    .bdrv_co_pwritev            = sim_co_pwritev,
    .bdrv_co_pwrite_zeroes      = sim_co_pwrite_zeroes,
    .bdrv_co_pdiscard           = sim_co_pdiscard,
    .bdrv_co_block_status       = sim_co_block_status,
    .bdrv_co_flush_to_disk      = sim_co_flush,
    .bdrv_refresh_limits        = sim_refresh_limits,
    .bdrv_co_compare_and_write  = sim_co_compare_and_write,
    .bdrv_co_liveness_lock      = sim_co_liveness_lock,
};

static void sim_init(void)
{
    bdrv_register(&bdrv_sim);
}

block_init(sim_init);
