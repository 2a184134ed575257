/*
 * Crash tests of csv disks on a simulated device
 *
 * A workload runs once, on a device that keeps a trace. Then the test walks
 * over the trace and makes, after each event, states that a power loss may
 * leave; in each, a new member opens the disk and every sector is looked at.
 * Now and then it works on, and crashes again.
 *
 *   test-csv-crash --tap -k           all, with the seeds 1 to CSV_CRASH_SEEDS
 *   CSV_CRASH_SEED=n test-csv-crash   the workload of one seed
 *   CSV_CRASH_BLOCK=4096              do not tear within 4096 bytes
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block.h"
#include "block/block_int.h"
#include "qapi/error.h"
#include "qapi/qapi-types-block-core.h"
#include "qemu/bitmap.h"
#include "qemu/coroutine.h"
#include "qemu/main-loop.h"
#include "qemu/memalign.h"
#include "qemu/units.h"
#include "qobject/qdict.h"
#include "system/block-backend.h"
#include "crash-model.h"
#include "sim-device.h"

#define DEVICE_SIZE     (64 * MiB)
#define DISK_SIZE       (64 * GiB)
#define VERIFY_MAX      (256 * KiB)
#define MAX_DEPTH       8
#define MAX_CRASHES     2       /* one after the other */

typedef struct Episode {
    uint64_t seed;
    unsigned ops;
    unsigned depth;         /* requests at once */
    unsigned random;        /* random choices for each state */
    bool single;            /* lose each sector alone */
    SimFaults faults;       /* while it works */
} Episode;

/* How the disk is used in the workload that runs */
static struct {
    uint64_t cache_size;
    uint64_t apart;         /* sectors from one place to the next, more */
} layout;

static struct {
    unsigned workloads;
    unsigned points;
} stats;

static unsigned next_op = 1;
static bool unmap;          /* discards reach the device */
static unsigned block = SIM_SECTOR; /* bytes that the device does not tear */

static BlockBackend *open_disk(Error **errp)
{
    QDict *options = qdict_new();
    BlockDriverState *bs;
    BlockBackend *blk;

    qdict_put_str(options, "driver", "csv");
    qdict_put_int(options, "cache-size", layout.cache_size);
    qdict_put_str(options, "file.driver", "csv-sim");
    /* What is discarded becomes holes of the device, and is used again. */
    qdict_put_str(options, "discard", unmap ? "unmap" : "ignore");
    qdict_put_str(options, "file.discard", unmap ? "unmap" : "ignore");
    bs = bdrv_open(NULL, NULL, options, BDRV_O_RDWR, errp);
    if (!bs) {
        return NULL;
    }
    blk = blk_new(qemu_get_aio_context(),
                  BLK_PERM_CONSISTENT_READ | BLK_PERM_WRITE, BLK_PERM_ALL);
    blk_insert_bs(blk, bs, &error_abort);
    bdrv_unref(bs);
    return blk;
}

typedef struct Format {
    BlockDriverState *bs;
    bool done;
} Format;

static void coroutine_fn format_entry(void *opaque)
{
    Format *format = opaque;
    BlockdevRef ref = {
        .type = QTYPE_QSTRING,
        .u.reference = (char *)bdrv_get_node_name(format->bs),
    };
    BlockdevCreateOptions opts = {
        .driver = BLOCKDEV_DRIVER_CSV,
        .u.csv = {
            .file = &ref, .size = DISK_SIZE, .disk = (char *)"disk0",
            .volume = (char *)"vol", .has_volume_size = true,
            .volume_size = DEVICE_SIZE, .has_segment_size = true,
            .segment_size = 8 * MiB,
        },
    };

    bdrv_find_format("csv")->bdrv_co_create(&opts, &error_abort);
    format->done = true;
}

static void format_volume(void)
{
    QDict *options = qdict_new();
    Format format = { 0 };

    qdict_put_str(options, "driver", "csv-sim");
    format.bs = bdrv_open(NULL, NULL, options, BDRV_O_RDWR | BDRV_O_RESIZE,
                          &error_abort);
    aio_co_enter(qemu_get_aio_context(),
                 qemu_coroutine_create(format_entry, &format));
    while (!format.done) {
        aio_poll(qemu_get_aio_context(), true);
    }
    bdrv_unref(format.bs);
}

/* Compare the disk with the model.  What is wrong, or NULL. */
static char *verify(BlockBackend *blk, Model *model)
{
    BlockDriverState *bs = blk_bs(blk);
    int64_t size = blk_getlength(blk), offset = 0, n;
    g_autofree uint8_t *buf = g_malloc(VERIFY_MAX);
    char *why = NULL;

    if (size != DISK_SIZE) {
        return g_strdup_printf("the disk has %" PRId64 " bytes", size);
    }
    for (; offset < size; offset += n) {
        int ret;

        ret = bdrv_block_status(bs, offset, size - offset, &n, NULL, NULL);
        if (ret < 0) {
            return g_strdup_printf("block status at %" PRId64 ": %s", offset,
                                   strerror(-ret));
        }
        if (ret & BDRV_BLOCK_ZERO) {
            if (!model_check_zero(model, offset / SIM_SECTOR, n / SIM_SECTOR,
                                  &why)) {
                return why;
            }
            continue;
        }
        n = MIN(n, VERIFY_MAX);
        ret = blk_pread(blk, offset, n, buf, 0);
        if (ret < 0) {
            return g_strdup_printf("read at %" PRId64 ": %s", offset,
                                   strerror(-ret));
        }
        for (int64_t i = 0; i < n; i += SIM_SECTOR) {
            if (!model_check(model, (offset + i) / SIM_SECTOR, buf + i,
                             &why)) {
                return why;
            }
        }
    }
    return NULL;
}

/* The workload: workers that share a number of requests */
typedef struct Work {
    BlockBackend *blk;
    uint64_t seed;
    unsigned left;
    unsigned running;
    struct {
        uint64_t sector, sectors;
    } busy[MAX_DEPTH];
} Work;

typedef struct Worker {
    Work *work;
    unsigned nr;
} Worker;

static void note(ModelNoteKind kind, unsigned op, bool fua, uint32_t value,
                 uint64_t sector, uint64_t sectors)
{
    ModelNote *n = g_new0(ModelNote, 1);

    *n = (ModelNote) { kind, op, fua, value, sector, sectors };
    sim_trace_note(n);
}

static bool work_is_busy(Work *w, uint64_t sector, uint64_t sectors)
{
    for (unsigned i = 0; i < MAX_DEPTH; i++) {
        if (sector < w->busy[i].sector + w->busy[i].sectors &&
            w->busy[i].sector < sector + sectors) {
            return true;
        }
    }
    return false;
}

/* A place near others, so that requests meet; not one that is written now */
static void work_place(Work *w, unsigned nr, bool aligned)
{
    /* In the first sector of the map, and in others */
    static const unsigned clusters[] = { 0, 1, 40, 300 };
    static const unsigned lengths[] = { 1, 1, 3, 8, 17, 128, 200, 256 };
    uint64_t sector, sectors;

    do {
        uint64_t r = sim_random(&w->seed);

        sector = clusters[r % 4] * 4096 + ((r >> 8) % 3) * 128 +
                 r % 4 * layout.apart;
        sectors = aligned ? 128 : lengths[(r >> 16) % G_N_ELEMENTS(lengths)];
        sector += aligned ? 0 : (r >> 24) % 128;
    } while (work_is_busy(w, sector, sectors));
    w->busy[nr].sector = sector;
    w->busy[nr].sectors = sectors;
}

static void coroutine_fn work_write(Work *w, unsigned nr, uint64_t kind)
{
    bool fua = kind % 8 == 7, zero = kind % 4 == 2, unmap = kind & 8;
    unsigned op = next_op++;
    uint32_t value = zero ? 0 : op;
    g_autofree uint8_t *buf = NULL;
    uint64_t sector, sectors;
    int ret;

    work_place(w, nr, zero && (kind & 16));
    sector = w->busy[nr].sector;
    sectors = w->busy[nr].sectors;
    note(MODEL_BEGIN, op, fua, value, sector, sectors);
    if (zero) {
        ret = blk_co_pwrite_zeroes(w->blk, sector * SIM_SECTOR,
                                   sectors * SIM_SECTOR,
                                   unmap ? BDRV_REQ_MAY_UNMAP : 0);
    } else {
        buf = g_malloc(sectors * SIM_SECTOR);
        for (uint64_t i = 0; i < sectors; i++) {
            model_fill(buf + i * SIM_SECTOR, sector + i, value);
        }
        ret = blk_co_pwrite(w->blk, sector * SIM_SECTOR, sectors * SIM_SECTOR,
                            buf, fua ? BDRV_REQ_FUA : 0);
    }
    if (ret >= 0) {
        note(MODEL_DONE, op, fua, value, sector, sectors);
    }
    w->busy[nr].sectors = 0;
}

static void coroutine_fn work_entry(void *opaque)
{
    Worker *worker = opaque;
    Work *w = worker->work;

    while (w->left) {
        uint64_t r = sim_random(&w->seed);

        w->left--;
        if (r % 5 == 0) {
            unsigned op = next_op++;

            note(MODEL_FLUSH, op, false, 0, 0, 0);
            if (blk_co_flush(w->blk) >= 0) {
                note(MODEL_FLUSH_DONE, op, false, 0, 0, 0);
            }
        } else {
            work_write(w, worker->nr, r >> 8);
        }
    }
    w->running--;
}

static void run_work(BlockBackend *blk, const Episode *e)
{
    Work w = { .blk = blk, .seed = e->seed, .left = e->ops,
               .running = e->depth };
    Worker worker[MAX_DEPTH];

    sim_device_faults(&e->faults, e->seed);
    for (unsigned i = 0; i < e->depth; i++) {
        worker[i] = (Worker) { &w, i };
        aio_co_enter(qemu_get_aio_context(),
                     qemu_coroutine_create(work_entry, &worker[i]));
    }
    while (w.running) {
        aio_poll(qemu_get_aio_context(), true);
    }
    sim_device_faults(&(SimFaults) { 0 }, 0);
}

/* Which of the pending sectors survive in choice @c; false: no such choice */
static bool choose(unsigned long *keep, unsigned n, unsigned c,
                   const Episode *e, uint64_t *seed)
{
    bitmap_zero(keep, n);
    if (c == 0) {
        return true;
    }
    if (!n) {
        return false;
    }
    bitmap_set(keep, 0, n);
    if (c == 1) {
        return true;
    }
    c -= 2;
    if (c < e->random) {
        unsigned limit = sim_random(seed) % (n + 1);

        for (unsigned i = 0; i < n; i++) {
            if (c % 2 ? i >= limit : sim_random(seed) & 1) {
                clear_bit(i, keep);
            }
        }
        return n > 1;
    }
    c -= e->random;
    if (e->single && c < n && n > 1) {
        clear_bit(c, keep);
        return true;
    }
    return false;
}

static char *run_episode(const Episode *e, Model *model, unsigned crashes);

/* The device is in a state after a crash.  Returns what is wrong, or NULL. */
static char *check_state(const Episode *e, Model *model, unsigned crashes,
                         uint64_t *seed)
{
    Episode next = {
        .seed = sim_random(seed),
        .random = 1,
        .depth = 1,
    };

    stats.points++;
    if (crashes < MAX_CRASHES && sim_random(seed) % 50 == 0) {
        next.ops = sim_random(seed) % 4;
    }
    return run_episode(&next, model, next.ops ? crashes : MAX_CRASHES);
}

/* All crashes that may come at event @i of @trace */
static char *check_event(const Episode *e, SimTrace *trace, unsigned i,
                         Model *model, unsigned crashes, uint64_t *seed)
{
    unsigned n = sim_walk_pending(trace);
    g_autofree unsigned long *keep = bitmap_new(n + 1);

    for (unsigned c = 0; choose(keep, n, c, e, seed); c++) {
        g_autoptr(GString) s = NULL;
        Model *copy = model_copy(model);
        size_t mark = sim_mark();
        char *why;

        sim_walk_crash(trace, keep, block / SIM_SECTOR);
        why = check_state(e, copy, crashes, seed);
        sim_undo(mark);
        model_free(copy);
        if (why) {
            s = g_string_new(NULL);
            g_string_printf(s, "crash at event %u of %u, choice %u of %u "
                            "pending sectors:\n    %s", i,
                            sim_trace_length(trace), c, n, why);
            g_free(why);
            return g_strdup(s->str);
        }
    }
    return NULL;
}

static char *check_trace(const Episode *e, SimTrace *trace, Model *model,
                         unsigned crashes)
{
    uint64_t seed = e->seed ^ 0x5555;
    size_t mark = sim_mark();
    char *why = NULL;

    for (unsigned i = 0; !why && i < sim_trace_length(trace); i++) {
        const SimEvent *event = sim_trace_event(trace, i);

        if (event->kind == SIM_NOTE) {
            model_note(model, event->note);
        }
        if (sim_walk_step(trace, i) ||
            (event->kind == SIM_NOTE &&
             ((ModelNote *)event->note)->kind != MODEL_BEGIN)) {
            why = check_event(e, trace, i, model, crashes, &seed);
        }
    }
    sim_undo(mark);
    return why;
}

/*
 * Open the disk, compare it with @model, work, close it; and then, as long as
 * there are fewer than MAX_CRASHES @crashes, crash at each event of it.
 */
static char *run_episode(const Episode *e, Model *model, unsigned crashes)
{
    bool trace = crashes < MAX_CRASHES;
    size_t mark = sim_mark();
    SimTrace *done = NULL;
    Error *err = NULL;
    BlockBackend *blk;
    char *why;

    if (trace) {
        sim_trace_start();
    }
    blk = open_disk(&err);
    if (blk) {
        why = verify(blk, model);
        if (!why) {
            run_work(blk, e);
        }
        blk_unref(blk);
    } else {
        why = g_strdup(error_get_pretty(err));
        error_free(err);
    }
    if (trace) {
        done = sim_trace_stop();
    }
    sim_undo(mark);
    if (done) {
        if (!why) {
            why = check_trace(e, done, model, crashes + 1);
        }
        sim_trace_free(done);
    }
    return why;
}

/* One workload on a new volume.  What went wrong, or NULL; to be freed. */
static char *run_workload(const Episode *e)
{
    Model *model = model_new();
    char *why;

    next_op = 1;
    sim_device_new(DEVICE_SIZE);
    format_volume();
    why = run_episode(e, model, 0);
    sim_device_free();
    model_free(model);
    stats.workloads++;
    return why;
}

/* One disk in four has its places in four tables, and memory for two. */
static void layout_of_seed(unsigned n)
{
    bool tables = n / 2 % 4 == 1;

    layout.cache_size = tables ? 0 : MiB;
    layout.apart = tables ? 10 * (GiB / SIM_SECTOR) : 0;
}

/* A device that forgets what it flushed must be noticed. */
static void test_lie(void)
{
    Episode e = {
        .seed = 4, .ops = 30, .depth = 1, .random = 2,
        .faults = { .lie_flush = true },
    };
    g_autofree char *why = NULL;

    layout_of_seed(e.seed);
    why = run_workload(&e);
    g_assert_nonnull(why);
    g_assert_nonnull(strstr(why, "crash at event"));
    g_test_message("noticed: %s", why);
}

static unsigned env_number(const char *name, unsigned otherwise)
{
    const char *s = getenv(name);

    return s ? atoi(s) : otherwise;
}

/* Much in parallel and long for odd seeds, short and exhaustive for even */
static void test_seeds(void)
{
    unsigned one = env_number("CSV_CRASH_SEED", 0);
    unsigned first = one ?: env_number("CSV_CRASH_FIRST", 1);
    unsigned last = one ?: first - 1 + env_number("CSV_CRASH_SEEDS", 60);
    int64_t start = g_get_monotonic_time();

    for (unsigned n = first; n <= last; n++) {
        Episode e = {
            .seed = n,
            .ops = n % 2 ? 40 : 6,
            .depth = n % 2 ? 1 + n / 2 % MAX_DEPTH : 1,
            .random = n % 2 ? 3 : 4,
            .single = n % 2 == 0,
            .faults = {
                .delay = n % 2 ? 30 : 0,
                .fail_write = n % 8 == 7 ? 200 : 0,
                .fail_flush = n % 8 == 5 ? 500 : 0,
            },
        };
        g_autofree char *why = NULL;

        unmap = n % 3 == 0;

        layout_of_seed(n);
        why = run_workload(&e);
        if (why) {
            g_test_message("seed %u: %s", n, why);
            g_test_message("again: CSV_CRASH_BLOCK=%u CSV_CRASH_SEED=%u "
                           "build/qemu/tests/unit/csv/test-csv-crash -k",
                           block, n);
            g_test_fail();
        }
        g_test_message("seed %u: %u crash points so far, %.1f s", n,
                       stats.points, (g_get_monotonic_time() - start) / 1e6);
    }
    g_test_message("workloads %u, crash points %u, seconds %.1f",
                   stats.workloads, stats.points,
                   (g_get_monotonic_time() - start) / 1e6);
}

int main(int argc, char **argv)
{
    block = MAX(SIM_SECTOR, env_number("CSV_CRASH_BLOCK", block));
    bdrv_init();
    qemu_init_main_loop(&error_abort);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/csv/crash/lie", test_lie);
    g_test_add_func("/csv/crash/seeds", test_seeds);
    return g_test_run();
}
