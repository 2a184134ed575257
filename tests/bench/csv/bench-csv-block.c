/*
 * What a request costs in the block layer
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Opens one image and keeps a fixed number of requests in flight on it, then
 * prints one line of JSON: requests, seconds, and CPU per request.  There is
 * no protocol and no guest in the way, so the driver's own cost is visible.
 */

#include "qemu/osdep.h"
#include <linux/perf_event.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include "block/block.h"
#include "block/qdict.h"
#include "tests/unit/iothread.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qemu/memalign.h"
#include "qemu/module.h"
#include "qemu/thread.h"
#include "qemu/units.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "system/block-backend.h"

#define MAX_THREADS 2

static struct {
    int64_t size;           /* of a request */
    int64_t unit;           /* no two requests of a pass are in one; 0: size */
    int64_t span;           /* the part of the image that is used */
    int64_t max_requests;   /* 0: until the time is up */
    int64_t max_ns;
    int depth;              /* per thread */
    int threads;            /* 0: in the main loop */
    int reads;              /* per cent of the requests */
    bool sequential;
    bool flush;             /* after each write */
    bool zeroes;            /* are what is written */
} opt = {
    .size = 4 * KiB, .span = 256 * MiB, .max_ns = NANOSECONDS_PER_SECOND,
    .depth = 1, .reads = 100,
};

static BlockBackend *blk;
static int64_t next_request;        /* atomic */
static int64_t done;                /* atomic */
static int in_flight;               /* atomic: coroutines that still run */
static int first_error;             /* atomic: 0 or -errno */
static int64_t end_ns;
static uint64_t multiplier;         /* odd, so coprime to a power of two */

/*
 * Place of request number @n.  Within one pass over the image no unit comes
 * twice, so that first writes are first writes; the order looks random as the
 * high bits of a product do.
 */
static int64_t place(uint64_t n)
{
    uint64_t slots = opt.span / opt.unit;
    uint64_t slot = n;

    if (!opt.sequential) {
        slot = (slot * multiplier) & (slots - 1);
        slot ^= slot >> (ctz64(slots) / 2 + 1);
    }
    return (slot & (slots - 1)) * opt.unit +
           (n * 7 % (opt.unit / opt.size)) * opt.size;
}

static int coroutine_fn one_request(uint64_t n, void *buf)
{
    int ret;

    /* a fixed mix that does not follow the places */
    if ((int)(((n * 2654435761u) >> 7) % 100) < opt.reads) {
        return blk_co_pread(blk, place(n), opt.size, buf, 0);
    }
    ret = blk_co_pwrite(blk, place(n), opt.size, buf, 0);
    if (ret >= 0 && opt.flush) {
        ret = blk_co_flush(blk);
    }
    return ret;
}

static void coroutine_fn worker(void *opaque)
{
    void *buf = blk_blockalign(blk, opt.size);
    int ret;

    memset(buf, opt.zeroes ? 0 : 0x5a, opt.size);
    while (!qatomic_read(&first_error)) {
        int64_t n = qatomic_fetch_inc(&next_request);

        if ((opt.max_requests && n >= opt.max_requests) ||
            get_clock() >= end_ns) {
            break;
        }
        ret = one_request(n, buf);
        if (ret < 0) {
            qatomic_set(&first_error, ret);
            break;
        }
        qatomic_inc(&done);
    }
    qemu_vfree(buf);
    qatomic_dec(&in_flight);
    aio_wait_kick();
}

/* Counts in all threads made after it; -1 where the machine has no counter */
static int open_counter(uint64_t config)
{
    struct perf_event_attr attr = {
        .type = PERF_TYPE_HARDWARE,
        .size = sizeof(attr),
        .config = config,
        .inherit = 1,
    };

    return syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
}

static int64_t read_counter(int fd)
{
    int64_t value;

    return fd >= 0 && read(fd, &value, sizeof(value)) == sizeof(value) ?
           value : -1;
}

static double cpu_seconds(void)
{
    struct rusage r;

    getrusage(RUSAGE_SELF, &r);
    return r.ru_utime.tv_sec + r.ru_stime.tv_sec +
           (r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

/* Memory that this process has, or -1 */
static int64_t memory_kib(void)
{
    g_autofree char *text = NULL;
    long pages;

    if (!g_file_get_contents("/proc/self/statm", &text, NULL, NULL) ||
        sscanf(text, "%*d %ld", &pages) != 1) {
        return -1;
    }
    return pages * (qemu_real_host_page_size() / KiB);
}

static void run(IOThread **threads)
{
    int contexts = MAX(opt.threads, 1);

    in_flight = contexts * opt.depth;
    end_ns = get_clock() + opt.max_ns;
    for (int i = 0; i < contexts; i++) {
        AioContext *ctx = opt.threads ? iothread_get_aio_context(threads[i]) :
                          qemu_get_aio_context();

        for (int j = 0; j < opt.depth; j++) {
            aio_co_schedule(ctx, qemu_coroutine_create(worker, NULL));
        }
    }
    AIO_WAIT_WHILE_UNLOCKED(NULL, qatomic_read(&in_flight) > 0);
}

static void usage(const char *self)
{
    fprintf(stderr,
            "Usage: %s [-b BYTES] [-u UNIT] [-s SPAN] [-n REQUESTS]\n"
            "       [-t MILLISECONDS] [-d DEPTH] [-j IOTHREADS]\n"
            "       [-r PERCENT_READ] [-S] [-f] [-z] [-x SEED] JSON_OPTIONS\n"
            "-u: at most one request in each UNIT, -S: sequential, -f: flush\n"
            "after each write, -z: write zeroes; SPAN / UNIT must be a power\n"
            "of two\n", self);
    exit(1);
}

static void parse(int argc, char **argv)
{
    int c;

    while ((c = getopt(argc, argv, "b:u:s:n:t:d:j:r:x:Sfz")) != -1) {
        switch (c) {
        case 'b':
            opt.size = atoll(optarg);
            break;
        case 'u':
            opt.unit = atoll(optarg);
            break;
        case 's':
            opt.span = atoll(optarg);
            break;
        case 'n':
            opt.max_requests = atoll(optarg);
            break;
        case 't':
            opt.max_ns = atoll(optarg) * SCALE_MS;
            break;
        case 'd':
            opt.depth = atoi(optarg);
            break;
        case 'j':
            opt.threads = atoi(optarg);
            break;
        case 'r':
            opt.reads = atoi(optarg);
            break;
        case 'x':
            multiplier = atoll(optarg);
            break;
        case 'S':
            opt.sequential = true;
            break;
        case 'f':
            opt.flush = true;
            break;
        case 'z':
            opt.zeroes = true;
            break;
        default:
            usage(argv[0]);
        }
    }
    opt.unit = opt.unit ?: opt.size;
    if (optind != argc - 1 || opt.size <= 0 || opt.unit % opt.size ||
        opt.span < opt.unit || !is_power_of_2(opt.span / opt.unit) ||
        opt.depth < 1 || opt.threads < 0 || opt.threads > MAX_THREADS) {
        usage(argv[0]);
    }
    multiplier = (multiplier * 0x9e3779b97f4a7c15ULL) | 1;
}

int main(int argc, char **argv)
{
    IOThread *threads[MAX_THREADS] = { };
    int cycles, instructions;
    int64_t start, opened, memory, begin, end, cycles0, instructions0, ops;
    double cpu, per;
    QDict *options;

    parse(argc, argv);
    cycles = open_counter(PERF_COUNT_HW_CPU_CYCLES);
    instructions = open_counter(PERF_COUNT_HW_INSTRUCTIONS);

    bdrv_init();
    module_call_init(MODULE_INIT_QOM);
    qemu_init_main_loop(&error_fatal);
    options = qobject_to(QDict, qobject_from_json(argv[optind], &error_fatal));
    if (!options) {
        usage(argv[0]);
    }
    qdict_flatten(options);
    memory = memory_kib();
    start = get_clock();
    blk = blk_new_open(NULL, NULL, options, BDRV_O_RDWR, &error_fatal);
    opened = get_clock();
    memory = memory_kib() - memory;
    for (int i = 0; i < opt.threads; i++) {
        threads[i] = iothread_new();
    }

    cpu = cpu_seconds();
    cycles0 = read_counter(cycles);
    instructions0 = read_counter(instructions);
    begin = get_clock();

    run(threads);
    end = get_clock();
    cpu = cpu_seconds() - cpu;

    ops = qatomic_read(&done);
    per = ops ? ops : 1;

    printf("{\"ops\": %" PRId64 ", \"seconds\": %.6f, \"open_ms\": %.3f, "
           "\"open_kib\": %" PRId64 ", \"cpu_us\": %.3f, \"cost_by\": \"%s\"",
           ops, (end - begin) / 1e9, (opened - start) / 1e6,
           memory, cpu * 1e6 / per,
           cycles >= 0 ? "cycles" : "cpu time");
    if (cycles >= 0) {
        printf(", \"cycles\": %.0f, \"instructions\": %.0f",
               (read_counter(cycles) - cycles0) / per,
               (read_counter(instructions) - instructions0) / per);
    }
    printf("}\n");

    /* A format may have work of its own under way in them. */
    blk_drain(blk);
    for (int i = 0; i < opt.threads; i++) {
        iothread_join(threads[i]);
    }
    blk_unref(blk);
    bdrv_close_all();
    if (first_error) {
        fprintf(stderr, "%s: a request failed: %s\n", argv[0],
                strerror(-first_error));
        return 1;
    }
    return 0;
}
