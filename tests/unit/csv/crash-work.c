/*
 * Crash tests of csv disks: the volume, and what is done to it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#ifdef CONFIG_MALLOC_TRIM
#include <malloc.h>
#endif
#include "block/block.h"
#include "block/block_int.h"
#include "block/csv.h"
#include "qapi/error.h"
#include "qemu/coroutine.h"
#include "qemu/main-loop.h"
#include "qemu/units.h"
#include "qobject/qdict.h"
#include "crash-work.h"
#include "sim-volume.h"

#define DEVICE_SIZE     (64 * MiB)
#define DISK_SIZE       (64 * GiB)
#define VERIFY_MAX      (256 * KiB)
#define CLUSTER         CRASH_CLUSTER
#define SUBCLUSTER      CRASH_SUBCLUSTER

/*
 * Places are in these clusters: in the first sector of the map, and in
 * others.  All that is written of a cluster is near its start.
 */
static const unsigned clusters[] = { 0, 1, 40, 300, 2, 41, 301, 302 };
#define PLACE_SECTORS   (5 * SUBCLUSTER)
/* Clusters in which nothing but zeroes is written, all at once */
#define MANY_SECTOR     (5 * CLUSTER)
#define MANY_SECTORS    (20 * CLUSTER)
/* A disk that is resized ends in the last of the four. */
static const unsigned ends[] = { 130, 200, 256, 257, 383, 640 };

#define DRAWS           100

static unsigned next_op;

static void note(ModelNoteKind kind, unsigned op, bool fua, uint32_t value,
                 uint64_t sector, uint64_t sectors)
{
    ModelNote *n = g_new0(ModelNote, 1);

    *n = (ModelNote) { kind, op, fua, value, sector, sectors };
    sim_trace_note(n);
}

static uint64_t plan_place(const CrashPlan *plan, unsigned i)
{
    return clusters[i] * CLUSTER + i % 4 * plan->apart;
}

static unsigned plan_places(const CrashPlan *plan)
{
    return plan->disks > 1 || plan->wide ? 8 : 4;
}

static uint64_t plan_size(const CrashPlan *plan, unsigned end)
{
    return plan->resize ? plan_place(plan, 3) + ends[end]
                        : DISK_SIZE / SIM_SECTOR;
}

static QDict *disk_options(const CrashPlan *plan, const char *name)
{
    QDict *options = qdict_new();
    const char *discard = plan->unmap ? "unmap" : "ignore";

    qdict_put_str(options, "driver", "csv");
    qdict_put_str(options, "disk", name);
    qdict_put_int(options, "cache-size", plan->cache_size);
    qdict_put_str(options, "file.driver", "csv-sim");
    /* What is discarded becomes holes of the device, and is used again. */
    qdict_put_str(options, "discard", discard);
    qdict_put_str(options, "file.discard", discard);
    return options;
}

/* @flags: more than BDRV_O_RDWR */
static BlockBackend *open_disk(const CrashPlan *plan, const char *name,
                               int flags, Error **errp)
{
    BlockDriverState *bs = bdrv_open(NULL, NULL, disk_options(plan, name),
                                     BDRV_O_RDWR | flags, errp);
    BlockBackend *blk;

    if (!bs) {
        return NULL;
    }
    blk = blk_new(qemu_get_aio_context(), BLK_PERM_CONSISTENT_READ |
                  BLK_PERM_WRITE | BLK_PERM_RESIZE, BLK_PERM_ALL);
    blk_set_force_allow_inactivate(blk);
    blk_insert_bs(blk, bs, &error_abort);
    bdrv_unref(bs);
    return blk;
}

bool crash_open(const CrashPlan *plan, CrashDisks *disks, Error **errp)
{
    *disks = (CrashDisks) { { NULL } };
    for (unsigned i = 0; i < plan->disks; i++) {
        disks->blk[i] = open_disk(plan, i ? "disk1" : "disk0", 0, errp);
        if (!disks->blk[i]) {
            crash_close(disks);
            return false;
        }
    }
    return true;
}

/* What was written to a disk that is let go is durable. */
static void close_disk(CrashDisks *disks, unsigned nr, BlockBackend *next)
{
    unsigned op = next_op++;

    note(MODEL_FLUSH, op, false, 0, MODEL_KEY(nr, 0), 0);
    blk_unref(disks->blk[nr]);
    note(MODEL_FLUSH_DONE, op, false, 0, MODEL_KEY(nr, 0), 0);
    disks->blk[nr] = next;
}

void crash_close(CrashDisks *disks)
{
    for (unsigned i = 0; i < CRASH_DISKS; i++) {
        if (disks->blk[i]) {
            close_disk(disks, i, NULL);
        }
    }
}

/* Write what disk0 is to show of its backing disk, and the model knows. */
static void fill_base(const CrashPlan *plan, Model *model)
{
    BlockBackend *blk = open_disk(plan, "base", 0, &error_abort);
    const unsigned sectors = 2 * SUBCLUSTER + 77;
    g_autofree uint8_t *buf = g_malloc(sectors * SIM_SECTOR);

    for (unsigned i = 0; i < plan_places(plan); i++) {
        uint64_t at = MODEL_KEY(0, plan_place(plan, i));
        ModelNote n = { MODEL_BEGIN, next_op, true, next_op, at, sectors };

        next_op++;
        for (unsigned k = 0; k < sectors; k++) {
            model_fill(buf + k * SIM_SECTOR, at + k, n.value);
        }
        blk_pwrite(blk, MODEL_SECTOR(at) * SIM_SECTOR, sectors * SIM_SECTOR,
                   buf, 0);
        model_note(model, &n);
        n.kind = MODEL_DONE;
        model_note(model, &n);
    }
    blk_unref(blk);
}

/*
 * Each state is opened, and each opening reads the whole journal. By default
 * the memory for that comes fresh from the kernel each time, which takes ten
 * times as long as everything else.
 */
static void keep_memory(void)
{
#ifdef CONFIG_MALLOC_TRIM
    mallopt(M_MMAP_THRESHOLD, 32 * MiB);
    mallopt(M_TRIM_THRESHOLD, 256 * MiB);
#endif
}

void crash_init(void)
{
    keep_memory();
    bdrv_init();
    qemu_init_main_loop(&error_abort);
}

void crash_format(const CrashPlan *plan, Model *model)
{
    uint64_t size = plan_size(plan, 0) * SIM_SECTOR;

    next_op = 1;
    sim_device_new(DEVICE_SIZE);
    if (plan->backing) {
        sim_disk_create("base", DISK_SIZE, NULL, DEVICE_SIZE, &error_abort);
        fill_base(plan, model);
    }
    sim_disk_create("disk0", size, plan->backing ? "base" : NULL,
                    plan->backing ? 0 : DEVICE_SIZE, &error_abort);
    model_disk(model, 0, size / SIM_SECTOR);
    if (plan->disks > 1) {
        sim_disk_create("disk1", DISK_SIZE, NULL, 0, &error_abort);
        model_disk(model, 1, DISK_SIZE / SIM_SECTOR);
    }
}

static char *verify_data(BlockBackend *blk, Model *model, unsigned nr,
                         int64_t offset, int64_t *bytes)
{
    static uint8_t buf[VERIFY_MAX];
    char *why = NULL;
    int ret;

    *bytes = MIN(*bytes, VERIFY_MAX);
    ret = blk_pread(blk, offset, *bytes, buf, 0);
    if (ret < 0) {
        return g_strdup_printf("read at %" PRId64 ": %s", offset,
                               strerror(-ret));
    }
    for (int64_t i = 0; i < *bytes; i += SIM_SECTOR) {
        if (!model_check(model, MODEL_KEY(nr, (offset + i) / SIM_SECTOR),
                         buf + i, &why)) {
            break;
        }
    }
    return why;
}

static char *verify_disk(BlockBackend *blk, Model *model, unsigned nr)
{
    BlockDriverState *bs = blk_bs(blk);
    int64_t size = blk_getlength(blk), n;
    char *why = NULL;

    if (!model_check_size(model, nr, size / SIM_SECTOR, &why)) {
        return why;
    }
    for (int64_t offset = 0; !why && offset < size; offset += n) {
        int ret = bdrv_block_status_above(bs, NULL, offset, size - offset, &n,
                                          NULL, NULL);

        if (ret < 0) {
            return g_strdup_printf("block status at %" PRId64 ": %s", offset,
                                   strerror(-ret));
        }
        if (ret & BDRV_BLOCK_ZERO) {
            model_check_zero(model, MODEL_KEY(nr, offset / SIM_SECTOR),
                             n / SIM_SECTOR, &why);
        } else {
            why = verify_data(blk, model, nr, offset, &n);
        }
    }
    return why;
}

char *crash_verify(const CrashDisks *disks, Model *model)
{
    char *why = NULL;

    for (unsigned i = 0; !why && i < CRASH_DISKS; i++) {
        if (disks->blk[i]) {
            why = verify_disk(disks->blk[i], model, i);
        }
    }
    return why;
}

char *crash_check(void)
{
    QDict *options = qdict_new();
    BdrvCheckResult res = { 0 };
    Error *err = NULL;
    BlockDriverState *bs;
    char *why = NULL;
    int ret;

    qdict_put_str(options, "driver", "csv");
    qdict_put_str(options, "file.driver", "csv-sim");
    bs = bdrv_open(NULL, NULL, options, BDRV_O_CHECK, &err);
    if (!bs) {
        why = g_strdup_printf("check: %s", error_get_pretty(err));
        error_free(err);
        return why;
    }
    ret = bdrv_check(bs, &res, 0);
    bdrv_unref(bs);
    if (ret < 0 || res.corruptions || res.leaks || res.check_errors) {
        why = g_strdup_printf("the check found %d errors and %d leaks, %d "
                              "failures (%d)", res.corruptions, res.leaks,
                              res.check_errors, ret);
    }
    return why;
}

/* Write the first subcluster at a place. */
static void warm_up_place(BlockBackend *blk, uint64_t place, bool zero,
                          Model *model)
{
    const unsigned bytes = SUBCLUSTER * SIM_SECTOR;
    ModelNote n = {
        .op = next_op++,
        .fua = true,
        .sector = MODEL_KEY(0, place),
        .sectors = SUBCLUSTER,
    };
    g_autofree uint8_t *buf = g_malloc(bytes);

    n.value = zero ? 0 : n.op;
    for (unsigned k = 0; k < SUBCLUSTER; k++) {
        model_fill(buf + k * SIM_SECTOR, n.sector + k, n.value);
    }
    if (zero) {
        blk_pwrite_zeroes(blk, place * SIM_SECTOR, bytes, 0);
    } else {
        blk_pwrite(blk, place * SIM_SECTOR, bytes, buf, 0);
    }
    n.kind = MODEL_BEGIN;
    model_note(model, &n);
    n.kind = MODEL_DONE;
    model_note(model, &n);
}

void crash_warm_up(const CrashPlan *plan, const CrashDisks *disks,
                   unsigned flushes, Model *model)
{
    BlockBackend *blk = disks->blk[0];
    unsigned places = plan->wide ? plan_places(plan) : 1;

    for (unsigned i = 0; i < flushes; i++) {
        bool zero = i % 2;

        /* Each time something that the map has to say */
        for (unsigned k = 0; k < places; k++) {
            warm_up_place(blk, plan_place(plan, k), zero, model);
        }
        if (plan->wide && zero) {
            blk_pwrite_zeroes(blk, MANY_SECTOR * SIM_SECTOR,
                              MANY_SECTORS * SIM_SECTOR, 0);
        } else if (plan->wide) {
            blk_pdiscard(blk, MANY_SECTOR * SIM_SECTOR,
                         MANY_SECTORS * SIM_SECTOR, 0);
        }
        blk_flush(blk);
    }
}

/* The work: workers that share a number of requests */
typedef struct Work {
    const CrashPlan *plan;
    CrashDisks *disks;
    uint64_t seed;
    unsigned left;
    unsigned running;
    uint64_t size;          /* of disk0, or what it may become if less */
    unsigned end;           /* its number */
    struct {
        uint64_t sector, sectors;
    } busy[CRASH_DEPTH];
} Work;

typedef struct Worker {
    Work *work;
    unsigned nr;
} Worker;

static bool work_is_busy(Work *w, uint64_t sector, uint64_t sectors)
{
    for (unsigned i = 0; i < CRASH_DEPTH; i++) {
        if (sector < w->busy[i].sector + w->busy[i].sectors &&
            w->busy[i].sector < sector + sectors) {
            return true;
        }
    }
    return false;
}

typedef enum PlaceKind {
    PLACE_ANY,
    PLACE_SUBCLUSTER,
    PLACE_CLUSTER,      /* all that is ever written of one */
    PLACE_MANY,         /* clusters, for zeroes */
} PlaceKind;

static uint64_t work_draw(Work *w, PlaceKind kind, uint64_t *sectors)
{
    static const unsigned lengths[] = { 1, 1, 3, 8, 17, 128, 200, 256 };
    uint64_t r = sim_random(&w->seed);
    unsigned place = r % plan_places(w->plan);
    unsigned disk = (r >> 40) % w->plan->disks;
    uint64_t key = MODEL_KEY(disk, plan_place(w->plan, place));

    switch (kind) {
    case PLACE_CLUSTER:
        *sectors = PLACE_SECTORS;
        return key;
    case PLACE_MANY:
        *sectors = MANY_SECTORS;
        return MODEL_KEY(disk, MANY_SECTOR);
    case PLACE_SUBCLUSTER:
        *sectors = SUBCLUSTER;
        return key + (r >> 8) % 3 * SUBCLUSTER;
    case PLACE_ANY:
        *sectors = lengths[(r >> 16) % G_N_ELEMENTS(lengths)];
        return key + (r >> 8) % 3 * SUBCLUSTER + (r >> 24) % SUBCLUSTER;
    }
    g_assert_not_reached();
}

/*
 * A place near others, so that requests meet; not one that is written now.
 * False: there may be none.
 */
static bool work_place(Work *w, unsigned nr, PlaceKind kind, bool race)
{
    for (unsigned i = 0; i < DRAWS; i++) {
        uint64_t sectors, sector = work_draw(w, kind, &sectors);

        if (!MODEL_DISK(sector)) {
            if (sector >= w->size) {
                continue;
            }
            sectors = MIN(sectors, w->size - sector);
        }
        if (race || !work_is_busy(w, sector, sectors)) {
            w->busy[nr].sector = sector;
            w->busy[nr].sectors = sectors;
            return true;
        }
    }
    return false;
}

static int coroutine_fn put_values(BlockBackend *blk, const ModelNote *n)
{
    g_autofree uint8_t *buf = g_malloc(n->sectors * SIM_SECTOR);

    for (uint64_t i = 0; i < n->sectors; i++) {
        model_fill(buf + i * SIM_SECTOR, n->sector + i, n->value);
    }
    return blk_co_pwrite(blk, MODEL_SECTOR(n->sector) * SIM_SECTOR,
                         n->sectors * SIM_SECTOR, buf,
                         n->fua ? BDRV_REQ_FUA : 0);
}

void coroutine_fn crash_change(const CrashDisks *disks, CrashChange how,
                               uint64_t key, uint64_t sectors)
{
    BlockBackend *blk = disks->blk[MODEL_DISK(key)];
    int64_t offset = MODEL_SECTOR(key) * SIM_SECTOR;
    int64_t bytes = sectors * SIM_SECTOR;
    ModelNote n = {
        .op = next_op++,
        .fua = how == CRASH_WRITE_FUA,
        .sector = key,
        .sectors = sectors,
    };
    int ret;

    n.value = how == CRASH_WRITE || how == CRASH_WRITE_FUA ? n.op : 0;
    note(MODEL_BEGIN, n.op, n.fua, n.value, key, sectors);
    if (how == CRASH_DISCARD) {
        ret = blk_co_pdiscard(blk, offset, bytes, 0);
    } else if (!n.value) {
        ret = blk_co_pwrite_zeroes(blk, offset, bytes,
                                   how == CRASH_UNMAP ? BDRV_REQ_MAY_UNMAP
                                                      : 0);
    } else {
        ret = put_values(blk, &n);
    }
    note(ret >= 0 ? MODEL_DONE : MODEL_FAILED, n.op, n.fua, n.value, key,
         sectors);
}

void coroutine_fn crash_flush(const CrashDisks *disks, unsigned disk)
{
    unsigned op = next_op++;

    note(MODEL_FLUSH, op, false, 0, MODEL_KEY(disk, 0), 0);
    if (blk_co_flush(disks->blk[disk]) >= 0) {
        note(MODEL_FLUSH_DONE, op, false, 0, MODEL_KEY(disk, 0), 0);
    }
}

static void coroutine_fn work_write(Work *w, unsigned nr, uint64_t kind)
{
    const CrashPlan *plan = w->plan;
    bool zero = kind % 4 == 2 || ((plan->wide || plan->churn) && kind & 1);
    bool free = zero && (kind & 8 || plan->churn) && !plan->keep;
    bool fua = !zero && kind % 8 == 7 && !plan->wide;
    PlaceKind place = !zero ? PLACE_ANY :
                      plan->wide && kind & 16 ? PLACE_MANY :
                      free && (kind & 32 || plan->churn) ? PLACE_CLUSTER :
                      kind & 16 ? PLACE_SUBCLUSTER : PLACE_ANY;
    CrashChange how = fua ? CRASH_WRITE_FUA :
                      !zero ? CRASH_WRITE :
                      !free ? CRASH_ZERO :
                      place == PLACE_MANY ? CRASH_DISCARD : CRASH_UNMAP;

    if (work_place(w, nr, place, free && plan->race && kind & 64)) {
        crash_change(w->disks, how, w->busy[nr].sector, w->busy[nr].sectors);
        w->busy[nr].sectors = 0;
    }
}

/* Nothing is on its way to what comes or goes. */
static void coroutine_fn work_resize(Work *w, unsigned nr, uint64_t r)
{
    unsigned end = r % G_N_ELEMENTS(ends), op = next_op++;
    uint64_t old = plan_size(w->plan, w->end), new = plan_size(w->plan, end);
    uint64_t from = MIN(old, new);
    int ret;

    if (w->size != old || work_is_busy(w, from, CLUSTER)) {
        return;     /* it is about to change, or in use */
    }
    w->busy[nr].sector = w->size = from;
    w->busy[nr].sectors = CLUSTER;
    note(MODEL_SIZE, op, false, 0, 0, new);
    ret = blk_co_truncate(w->disks->blk[0], new * SIM_SECTOR, true,
                          PREALLOC_MODE_OFF, 0, NULL);
    note(ret >= 0 ? MODEL_SIZE_DONE : MODEL_FAILED, op, false, 0, 0, new);
    w->end = ret >= 0 ? end : w->end;
    w->size = ret >= 0 ? new : w->size;
    w->busy[nr].sectors = 0;
}

static void coroutine_fn work_entry(void *opaque)
{
    Worker *worker = opaque;
    Work *w = worker->work;
    unsigned flushes = w->plan->wide ? 8 : 5;

    while (w->left) {
        uint64_t r = sim_random(&w->seed);

        w->left--;
        if (r % flushes == 0) {
            crash_flush(w->disks, (r >> 8) % w->plan->disks);
        } else if (w->plan->resize && (r >> 4) % 6 == 0) {
            work_resize(w, worker->nr, r >> 8);
        } else {
            work_write(w, worker->nr, r >> 8);
        }
    }
    w->running--;
}

static void work_run(Work *w, unsigned ops, unsigned depth)
{
    Worker worker[CRASH_DEPTH];

    w->left = ops;
    w->running = depth;
    for (unsigned i = 0; i < depth; i++) {
        worker[i] = (Worker) { w, i };
        aio_co_enter(qemu_get_aio_context(),
                     qemu_coroutine_create(work_entry, &worker[i]));
    }
    while (w->running) {
        aio_poll(qemu_get_aio_context(), true);
    }
}

/* Another member gets disk0, with what was written to it. */
static void work_move(const CrashPlan *plan, CrashMove move,
                      CrashDisks *disks)
{
    BlockBackend *next;

    if (move == CRASH_RELEASE) {
        close_disk(disks, 0, NULL);
        disks->blk[0] = open_disk(plan, "disk0", 0, &error_abort);
        return;
    }
    next = open_disk(plan, "disk0", BDRV_O_INACTIVE, &error_abort);
    csv_handover_begin();
    bdrv_inactivate(blk_bs(disks->blk[0]), &error_abort);
    bdrv_graph_rdlock_main_loop();
    bdrv_activate(blk_bs(next), &error_abort);
    bdrv_graph_rdunlock_main_loop();
    csv_handover_set_token(NULL);
    close_disk(disks, 0, next);
}

void crash_work(const CrashPlan *plan, const CrashWork *work,
                CrashDisks *disks)
{
    unsigned ops = work->move ? work->ops / 2 : work->ops;
    Work w = { .plan = plan, .disks = disks, .seed = work->seed };

    w.size = blk_getlength(disks->blk[0]) / SIM_SECTOR;
    while (plan->resize && plan_size(plan, w.end) != w.size) {
        w.end++;
    }
    sim_device_faults(&work->faults, work->seed);
    work_run(&w, ops, work->depth);
    sim_device_faults(&(SimFaults) { 0 }, 0);
    if (work->move) {
        work_move(plan, work->move, disks);
        sim_device_faults(&work->faults, work->seed + 1);
        work_run(&w, work->ops - ops, work->depth);
        sim_device_faults(&(SimFaults) { 0 }, 0);
    }
}
