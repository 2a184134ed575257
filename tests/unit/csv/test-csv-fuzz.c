/*
 * Damaged cluster shared volumes
 *
 * A small volume with two disks is damaged in one place, opened, read,
 * written and closed, thousands of times.  Nothing may crash or hang, and an
 * error must say which structure and field is bad.  Damage that leaves CRCs
 * wrong must be found or do no harm: what can be read is what was written.
 *
 *   test-csv-fuzz [--seed=N] [--start=N] [--count=N]
 *
 * A failure prints the seed and the number of the damage; --start with that
 * number and --count=1 repeats it alone.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block.h"
#include "block/block_int-common.h"
#include "system/block-backend.h"
#include "monitor/monitor.h"
#include "qapi/error.h"
#include "qobject/qdict.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qemu/units.h"
#include "csv-page.h"

#define PAGE            4096
#define RDWR            (BDRV_O_RDWR | BDRV_O_RESIZE)
#define DATA_MAX        (3 * MiB)
#define WRITE_MAX       (200 * KiB)
#define SECONDS_EACH    60      /* more than this is a hang */

/* Without a sanitizer this is a check of the test itself. */
#define DEFAULT_COUNT   1000

static uint32_t seed = 20261123;
static uint32_t start;
static uint32_t count = DEFAULT_COUNT;

static char *tmp_dir;
static char *image;

/* The undamaged volume: pages that are not zero, and its length. */
typedef struct Page {
    uint64_t offset;
    bool metadata;
    uint8_t data[PAGE];
} Page;

static GArray *pages;
static uint64_t image_size;

typedef struct TestDisk {
    const char *name;
    uint64_t size;
    uint8_t *data;              /* all that is not zero is in the first MiBs */
    uint64_t data_size;
    uint64_t far;               /* and in one sector here */
} TestDisk;

static TestDisk disks[] = {
    { .name = "a", .size = 12 * MiB, .data_size = DATA_MAX, .far = 11 * MiB },
    /* Two level-2 tables. */
    { .name = "b", .size = 9 * GiB, .data_size = 1 * MiB,
      .far = 7936 * MiB + 3 * MiB + 512 },
};

typedef enum Kind {
    FIELD,          /* a value in a page, CRC made right again */
    BITS,
    BYTES,
    SWAP,           /* two pages change places, or one is written twice */
    ZERO,
    TRUNCATE,
} Kind;

/* For the message of a signal handler. */
static char position[64];

static void on_signal(int sig)
{
    static const char hang[] = "hangs: ";

    if (sig == SIGALRM) {
        (void)!write(STDERR_FILENO, hang, sizeof(hang) - 1);
    }
    (void)!write(STDERR_FILENO, position, strlen(position));
    /* The handler was for one time only. */
    abort();
}

/* Warnings of a damaged copy of the superblock come by the hundred. */
int error_vprintf(const char *fmt, va_list ap)
{
    return 0;
}

int error_vprintf_unless_qmp(const char *fmt, va_list ap)
{
    return 0;
}

static void write_image(const Page *page)
{
    int fd = open(image, O_RDWR | O_CREAT, 0600);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(pwrite(fd, page->data, PAGE, page->offset), ==, PAGE);
    close(fd);
}

static void restore_image(void)
{
    int fd = open(image, O_RDWR | O_CREAT | O_TRUNC, 0600);
    guint i;

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, image_size), ==, 0);
    for (i = 0; i < pages->len; i++) {
        Page *p = &g_array_index(pages, Page, i);

        g_assert_cmpint(pwrite(fd, p->data, PAGE, p->offset), ==, PAGE);
    }
    close(fd);
}

static void load_image(void)
{
    static const uint8_t zero[PAGE];
    int fd = open(image, O_RDONLY);
    Page p = { 0 };

    g_assert_cmpint(fd, >=, 0);
    pages = g_array_new(false, false, sizeof(Page));
    for (p.offset = 0; pread(fd, p.data, PAGE, p.offset) == PAGE;
         p.offset += PAGE) {
        if (memcmp(p.data, zero, PAGE)) {
            p.metadata = page_extent(p.data) || page_is_map(p.data);
            g_array_append_val(pages, p);
        }
    }
    image_size = p.offset;
    close(fd);
}

static BlockBackend *open_disk(const TestDisk *disk, int flags, Error **errp)
{
    QDict *options = qdict_new();

    qdict_put_str(options, "driver", "csv");
    qdict_put_str(options, "disk", disk->name);
    qdict_put_str(options, "file.driver", "file");
    qdict_put_str(options, "file.filename", image);
    /* What a power failure would lose does not matter here. */
    return blk_new_open(NULL, NULL, options, flags | BDRV_O_NO_FLUSH, errp);
}

static void make_image(void)
{
    size_t i, at;

    for (i = 0; i < ARRAY_SIZE(disks); i++) {
        TestDisk *d = &disks[i];
        g_autofree char *options =
            g_strdup_printf("disk=%s%s", d->name,
                            i ? "" : ",volume=fuzz,segment_size=8M");
        BlockBackend *blk;

        bdrv_img_create(image, "csv", NULL, NULL, options, d->size, 0, true,
                        &error_abort);
        d->data = g_malloc0(d->data_size);
        blk = open_disk(d, RDWR, &error_abort);
        /* Subclusters with and without data, and some that are zero. */
        for (at = 32 * KiB; at + 40 * KiB <= d->data_size;
             at += 192 * KiB) {
            memset(d->data + at, 'a' + i + at / MiB, 40 * KiB);
            g_assert_cmpint(blk_pwrite(blk, at, 40 * KiB, d->data + at, 0), ==,
                            0);
        }
        memset(d->data, 0, 128 * KiB);
        g_assert_cmpint(blk_pwrite_zeroes(blk, 0, 128 * KiB, 0), ==, 0);
        g_assert_cmpint(blk_pwrite(blk, d->far, 512, d->data + 200 * KiB, 0),
                        ==, 0);
        g_assert_cmpint(blk_flush(blk), ==, 0);
        blk_unref(blk);
    }
}

/* True if all that is in the disk can be read; @intact: and is right. */
static void read_disk(BlockBackend *blk, const TestDisk *d, bool intact)
{
    static uint8_t buf[DATA_MAX];
    int64_t offset, n, map, length = blk_getlength(blk);
    BlockDriverState *file;
    int ret;

    g_assert_cmpint(length, >=, 0);
    if (intact) {
        g_assert_cmpint(length, ==, d->size);
    }
    n = MIN(d->data_size, length);
    ret = blk_pread(blk, 0, n, buf, 0);
    if (ret >= 0 && intact) {
        g_assert_cmpmem(buf, n, d->data, n);
    }
    if (length >= d->far + 512) {
        ret = blk_pread(blk, d->far, 512, buf, 0);
        if (ret >= 0 && intact) {
            g_assert_cmpmem(buf, 512, d->data + 200 * KiB, 512);
        }
    }

    GRAPH_RDLOCK_GUARD_MAINLOOP();
    for (offset = 0; offset < length; offset += n) {
        ret = bdrv_block_status(blk_bs(blk), offset,
                                MIN(length - offset, 4 * GiB), &n, &map,
                                &file);
        if (ret < 0) {
            break;
        }
        g_assert_cmpint(n, >, 0);
    }
}

static void write_disk(BlockBackend *blk, GRand *rand)
{
    static uint8_t buf[WRITE_MAX], got[WRITE_MAX];
    int64_t length = blk_getlength(blk);
    int i;

    for (i = 0; i < 3; i++) {
        int64_t n = g_rand_int_range(rand, 1, WRITE_MAX);
        int64_t at = g_rand_double(rand) * MIN(length, 13 * MiB);

        n = MIN(n, length - at);
        if (n <= 0) {
            break;
        }
        memset(buf, 0x80 + i, n);
        if (blk_pwrite(blk, at, n, buf, 0) >= 0 &&
            blk_pread(blk, at, n, got, 0) >= 0) {
            g_assert_cmpmem(buf, n, got, n);
        }
    }
    blk_pwrite_zeroes(blk, 0, MIN(length, 64 * KiB), 0);
    blk_flush(blk);
    if (length < 1 * TiB && g_rand_boolean(rand)) {
        blk_truncate(blk, length + 1 * MiB, false, PREALLOC_MODE_OFF,
                     BDRV_REQ_ZERO_WRITE, NULL);
    }
}

/* An error must lead to the place of the damage, or to what it means. */
static void check_error(const char *text)
{
    static const char *const structures[] = {
        "superblock", "member record ", "disk record ", "segment table",
        "disk header ", "level-1 map sector ", "level-2 map sector ",
        "journal record ",
    };
    static const char *const others[] = {
        "has no disk '",            /* no record has this name now */
        "is owned",                 /* by a member made up by the damage */
        "being handed over",
        "is being created",
        "is sealed",
        "was deleted",
        "is not complete",
        "has no room for another member",
    };
    size_t i;

    if (strstr(text, "field '")) {
        for (i = 0; i < ARRAY_SIZE(structures); i++) {
            if (strstr(text, structures[i])) {
                return;
            }
        }
    }
    for (i = 0; i < ARRAY_SIZE(others); i++) {
        if (strstr(text, others[i])) {
            return;
        }
    }
    g_test_message("%s gives: %s", position, text);
    g_test_fail();
}

static Page *random_page(GRand *rand)
{
    for (;;) {
        Page *p = &g_array_index(pages, Page,
                                 g_rand_int_range(rand, 0, pages->len));

        if (p->metadata) {
            return p;
        }
    }
}

static uint64_t random_value(GRand *rand, const uint8_t *page, size_t at)
{
    uint64_t old = page_get(page, at, MIN(8, PAGE - at));

    switch (g_rand_int_range(rand, 0, 10)) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX;
    case 2:
        return old + 1;
    case 3:
        return old - 1;
    case 4:
        return 1ULL << g_rand_int_range(rand, 0, 64);
    case 5:
        return g_rand_int_range(rand, 0, 100);
    case 6:
        /* Something that is there. */
        return random_page(rand)->offset;
    case 7:
        return (uint64_t)g_rand_int_range(rand, 0, 20) << 21;
    case 8:
        return old ^ 1ULL << g_rand_int_range(rand, 0, 64);
    default:
        return (uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand);
    }
}

/* The UUID with which a map sector's CRC is right: that of its disk. */
static const uint8_t *sector_uuid(const uint8_t *sector)
{
    guint i;

    for (i = 0; i < pages->len; i++) {
        const Page *p = &g_array_index(pages, Page, i);

        if (!memcmp(p->data, "CSVH", 4) &&
            sector_crc32c(sector, p->data + 8) == page_get(sector, 4, 4)) {
            return p->data + 8;
        }
    }
    return NULL;
}

static void change_field(GRand *rand, Page *p)
{
    static const unsigned widths[] = { 1, 2, 4, 8 };
    bool map = page_is_map(p->data);
    /* The first sector of a map holds most of what there is. */
    uint8_t *data = p->data + (map && g_rand_boolean(rand) ?
                               512 * g_rand_int_range(rand, 0, 8) : 0);
    const uint8_t *uuid = map ? sector_uuid(data) : NULL;
    size_t extent = map ? 512 : MIN(page_extent(p->data), PAGE);
    /* Entries come first, so there is more to see in front. */
    size_t reach = g_rand_boolean(rand) ? MIN(extent, 256) : extent;
    unsigned bytes = widths[g_rand_int_range(rand, 0, 4)];
    size_t at = g_rand_int_range(rand, 8, reach);

    at = ROUND_DOWN(at, bytes);
    page_put(data, at, bytes, random_value(rand, data, at));
    if (uuid) {
        sector_reseal(data, uuid);
    } else if (!map) {
        page_reseal(data, extent);
    }
}

static void damage(GRand *rand, Kind kind)
{
    Page p = *random_page(rand), q = *random_page(rand);
    uint64_t at;
    int i, n;

    switch (kind) {
    case FIELD:
        n = g_rand_int_range(rand, 1, 4);
        for (i = 0; i < n; i++) {
            change_field(rand, &p);
        }
        break;
    case BITS:
        n = g_rand_int_range(rand, 1, 4);
        for (i = 0; i < n; i++) {
            p.data[g_rand_int_range(rand, 0, PAGE)] ^=
                1 << g_rand_int_range(rand, 0, 8);
        }
        break;
    case BYTES:
        n = g_rand_int_range(rand, 1, 64);
        i = g_rand_int_range(rand, 0, PAGE - n);
        while (n--) {
            p.data[i++] = g_rand_int(rand);
        }
        break;
    case SWAP:
        at = p.offset;
        p.offset = q.offset;
        if (g_rand_boolean(rand)) {
            q.offset = at;
            write_image(&q);
        } else if (g_rand_boolean(rand)) {
            /* Into a place that was never used: the next slot of a table. */
            p.offset = at + PAGE;
        }
        break;
    case ZERO:
        memset(p.data, 0, g_rand_boolean(rand) ? PAGE : 512);
        break;
    case TRUNCATE:
        at = g_rand_boolean(rand) ? p.offset
                                  : g_rand_double(rand) * image_size;
        g_assert_cmpint(truncate(image, at), ==, 0);
        return;
    }
    write_image(&p);
}

static void try_disk(const TestDisk *d, int flags, bool intact, GRand *rand)
{
    Error *err = NULL;
    BlockBackend *blk = open_disk(d, flags, &err);

    if (!blk) {
        check_error(error_get_pretty(err));
        error_free(err);
        return;
    }
    read_disk(blk, d, intact);
    if (flags & BDRV_O_RDWR) {
        write_disk(blk, rand);
    }
    blk_unref(blk);
}

static void one_damage(Kind kind, uint32_t number)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed + number);
    size_t i;

    snprintf(position, sizeof(position), "seed %u, damage %u, kind %d\n",
             seed, number, kind);
    alarm(SECONDS_EACH);
    restore_image();
    damage(rand, kind);
    for (i = 0; i < ARRAY_SIZE(disks); i++) {
        /* Two pages in exchange may be two whole records with other CRCs. */
        try_disk(&disks[i], 0, kind != FIELD, rand);
    }
    if (g_rand_boolean(rand)) {
        try_disk(&disks[g_rand_int_range(rand, 0, 2)], RDWR,
                 kind != FIELD, rand);
        /* What was written must not make it worse. */
        try_disk(&disks[0], 0, false, rand);
        try_disk(&disks[1], RDWR, false, rand);
    }
    alarm(0);
}

static void test_fuzz(const void *opaque)
{
    Kind kind = GPOINTER_TO_INT(opaque);
    uint32_t i;

    for (i = start; i < start + count; i++) {
        /* Out of twenty: twelve fields, two of most others. */
        static const Kind order[20] = {
            FIELD, BITS, FIELD, BYTES, FIELD, SWAP, FIELD, TRUNCATE, FIELD,
            ZERO, FIELD, BITS, FIELD, BYTES, FIELD, SWAP, FIELD, FIELD, FIELD,
            FIELD,
        };

        if (order[i % 20] == kind) {
            one_damage(kind, i);
        }
    }
}

/* The test itself: nothing damaged, all is there. */
static void test_undamaged(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    size_t i;

    restore_image();
    for (i = 0; i < ARRAY_SIZE(disks); i++) {
        BlockBackend *blk = open_disk(&disks[i], 0, &error_abort);

        read_disk(blk, &disks[i], true);
        blk_unref(blk);
        blk = open_disk(&disks[i], RDWR, &error_abort);
        read_disk(blk, &disks[i], true);
        write_disk(blk, rand);
        blk_unref(blk);
    }
}

static void parse_args(int *argc, char **argv)
{
    static const struct {
        const char *name;
        uint32_t *value;
    } args[] = {
        { "--seed=", &seed }, { "--start=", &start }, { "--count=", &count },
    };
    int i, out = 1;
    size_t k;

    for (i = 1; i < *argc; i++) {
        const char *text = NULL;

        for (k = 0; k < ARRAY_SIZE(args) && !text; k++) {
            if (strstart(argv[i], args[k].name, &text) &&
                qemu_strtoui(text, NULL, 0, args[k].value) < 0) {
                fprintf(stderr, "%s: bad number\n", argv[i]);
                exit(1);
            }
        }
        if (!text) {
            argv[out++] = argv[i];
        }
    }
    *argc = out;
    argv[out] = NULL;
}

int main(int argc, char **argv)
{
    const struct sigaction action = {
        .sa_handler = on_signal,
        .sa_flags = SA_RESETHAND,
    };
    const char *base = access("/dev/shm", W_OK) ? g_get_tmp_dir() : "/dev/shm";
    size_t i;
    int ret;

    parse_args(&argc, argv);
    g_test_init(&argc, &argv, NULL);
    qemu_init_main_loop(&error_abort);
    module_call_init(MODULE_INIT_QOM);
    bdrv_init();

    tmp_dir = g_strdup_printf("%s/csv-fuzz.XXXXXX", base);
    g_assert_nonnull(g_mkdtemp(tmp_dir));
    image = g_build_filename(tmp_dir, "volume", NULL);
    make_image();
    load_image();
    sigaction(SIGABRT, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    g_test_message("seed %u, damages %u to %u", seed, start,
                   start + count - 1);

    g_test_add_func("/csv/fuzz/undamaged", test_undamaged);
    g_test_add_data_func("/csv/fuzz/field", GINT_TO_POINTER(FIELD), test_fuzz);
    g_test_add_data_func("/csv/fuzz/bits", GINT_TO_POINTER(BITS), test_fuzz);
    g_test_add_data_func("/csv/fuzz/bytes", GINT_TO_POINTER(BYTES), test_fuzz);
    g_test_add_data_func("/csv/fuzz/swap", GINT_TO_POINTER(SWAP), test_fuzz);
    g_test_add_data_func("/csv/fuzz/zero", GINT_TO_POINTER(ZERO), test_fuzz);
    g_test_add_data_func("/csv/fuzz/truncate", GINT_TO_POINTER(TRUNCATE),
                         test_fuzz);
    ret = g_test_run();

    unlink(image);
    rmdir(tmp_dir);
    for (i = 0; i < ARRAY_SIZE(disks); i++) {
        g_free(disks[i].data);
    }
    g_array_free(pages, true);
    g_free(image);
    g_free(tmp_dir);
    return ret;
}
