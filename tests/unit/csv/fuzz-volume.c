/*
 * A damaged volume from a few bytes
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block.h"
#include "block/block_int.h"
#include "monitor/monitor.h"
#include "qapi/error.h"
#include "qapi/qapi-types-block-core.h"
#include "qemu/coroutine.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/rcu.h"
#include "qemu/units.h"
#include "qobject/qdict.h"
#include "system/block-backend.h"
#include "csv-page.h"
#include "fuzz-volume.h"
#include "sim-device.h"
#include "sim-volume.h"

#define RDWR            (BDRV_O_RDWR | BDRV_O_RESIZE)
#define DEVICE_SIZE     (96 * MiB)
#define TABLES          2       /* of a disk, that are damaged */
/* Where a disk's data is: in its first table, and in the next one */
#define NEAR            (2 * MiB)
#define FAR             (7936 * MiB + 6 * MiB)
#define READ_BYTES      (200 * KiB)
/* After so many inputs, what was freed by RCU is to be really free. */
#define DRAIN_EVERY     64

/* By slot */
static const struct {
    const char *name;
    uint64_t size;
    const char *backing;
} disks[] = {
    { "killed", 12 * MiB },             /* its owner was; see make_killed() */
    { "two", 9 * GiB },
    { "top", 9 * GiB, "two" },
    { "template", 9 * GiB },            /* sealed */
    { "clone", 9 * GiB, "template" },
};

/* Where things are on the undamaged volume */
static struct {
    uint64_t member, disk, segment;     /* tables */
    struct {
        uint64_t first;                 /* start of its first segment */
        uint8_t uuid[16];
        uint64_t table[TABLES];         /* or 0 */
    } disks[ARRAY_SIZE(disks)];
} base;

static unsigned inputs;

/* Messages come by the million, and are of no use. */
int error_vprintf(const char *fmt, va_list ap)
{
    return 0;
}

int error_vprintf_unless_qmp(const char *fmt, va_list ap)
{
    return 0;
}

/* Nobody else is there to wait for. */
void coroutine_fn __wrap_qemu_co_sleep_ns_wakeable(QemuCoSleep *w,
                                                   QEMUClockType type,
                                                   int64_t ns)
{
}

void __wrap_g_usleep(gulong microseconds)
{
}

static BlockDriverState *open_node(const char *disk, int flags, Error **errp)
{
    QDict *options = qdict_new();

    qdict_put_str(options, "driver", "csv");
    if (disk) {
        qdict_put_str(options, "disk", disk);
    }
    qdict_put_str(options, "file.driver", "csv-sim");
    qdict_put_str(options, "discard", "unmap");
    qdict_put_str(options, "file.discard", "unmap");
    return bdrv_open(NULL, NULL, options, flags, errp);
}

BlockBackend *fuzz_open(const char *disk, int flags, Error **errp)
{
    BlockDriverState *bs = open_node(disk, flags, errp);
    BlockBackend *blk;

    if (!bs) {
        return NULL;
    }
    blk = blk_new(qemu_get_aio_context(), BLK_PERM_CONSISTENT_READ |
                  (flags & BDRV_O_RDWR ? BLK_PERM_WRITE | BLK_PERM_RESIZE
                                       : 0), BLK_PERM_ALL);
    blk_insert_bs(blk, bs, &error_abort);
    bdrv_unref(bs);
    return blk;
}

static uint64_t peek(uint64_t offset, unsigned bytes)
{
    uint8_t sector[SIM_SECTOR];

    sim_peek(ROUND_DOWN(offset, SIM_SECTOR), sector, sizeof(sector));
    return page_get(sector, offset % SIM_SECTOR, bytes);
}

/* Find out where everything is, by the document. */
static void find_places(void)
{
    uint64_t data = peek(160, 8);
    unsigned i, t;

    base.member = peek(136, 8);
    base.disk = peek(144, 8);
    base.segment = peek(152, 8);
    for (i = 0; i < ARRAY_SIZE(disks); i++) {
        uint64_t record = base.disk + i * 4096;
        uint8_t sector[SIM_SECTOR];

        sim_peek(record, sector, sizeof(sector));
        g_assert_cmpmem(sector + 144, strlen(disks[i].name), disks[i].name,
                        strlen(disks[i].name));
        memcpy(base.disks[i].uuid, sector + 80, 16);
        base.disks[i].first = data + page_get(sector, 112, 8) *
                              SIM_SEGMENT_SIZE;
        for (t = 0; t < TABLES; t++) {
            base.disks[i].table[t] = peek(base.disks[i].first + 65536 + 16 +
                                          8 * t, 8);
        }
    }
}

static void write_all(BlockBackend *blk, uint64_t offset, unsigned value)
{
    g_autofree uint8_t *buf = g_malloc(READ_BYTES);

    memset(buf, value, READ_BYTES);
    if (offset + READ_BYTES <= blk_getlength(blk)) {
        g_assert_cmpint(blk_pwrite(blk, offset, READ_BYTES, buf, 0), ==, 0);
    }
}

/* The first disk has things in its journal that are nowhere else. */
static void make_killed(void)
{
    BlockBackend *blk = fuzz_open(disks[0].name, RDWR, &error_abort);
    size_t mark;

    write_all(blk, NEAR, 'x');
    g_assert_cmpint(blk_flush(blk), ==, 0);
    write_all(blk, NEAR + 4 * MiB, 'y');
    g_assert_cmpint(blk_pwrite_zeroes(blk, NEAR, 64 * KiB, 0), ==, 0);
    g_assert_cmpint(blk_flush(blk), ==, 0);
    write_all(blk, NEAR, 'z');
    mark = sim_mark();
    blk_unref(blk);
    sim_undo(mark);
}

/* Set the flags of disk @slot, which nobody uses. */
static void set_flags(unsigned slot, uint32_t flags)
{
    uint8_t sector[SIM_SECTOR];

    sim_peek(base.disk + slot * 4096, sector, sizeof(sector));
    page_put(sector, 36, 4, flags);
    page_reseal(sector, sizeof(sector));
    sim_poke(base.disk + slot * 4096, sector, sizeof(sector));
}

void fuzz_init(void)
{
    unsigned i;

    /* UUIDs are part of what CRCs cover: the same each time. */
    g_random_set_seed(1);
    bdrv_init();
    qemu_init_main_loop(&error_abort);
    sim_device_new(DEVICE_SIZE);
    for (i = 0; i < ARRAY_SIZE(disks); i++) {
        BlockBackend *blk;

        sim_disk_create(disks[i].name, disks[i].size, disks[i].backing,
                        i ? 0 : DEVICE_SIZE, &error_abort);
        if (i) {
            blk = fuzz_open(disks[i].name, RDWR, &error_abort);
            write_all(blk, NEAR + i * MiB, i);
            write_all(blk, FAR, i);
            g_assert_cmpint(blk_flush(blk), ==, 0);
            blk_unref(blk);
        }
    }
    find_places();
    set_flags(3, 1);
    make_killed();
}

/* A place on the volume, and with what its CRC is made */
typedef struct Place {
    uint64_t offset;
    size_t bytes;               /* that may change */
    const uint8_t *uuid;        /* of a map sector */
} Place;

static Place find_place(uint8_t site, uint8_t number)
{
    unsigned disk = number % ARRAY_SIZE(disks);
    unsigned rest = number / ARRAY_SIZE(disks);
    uint64_t first = base.disks[disk].first;
    uint64_t table = base.disks[disk].table[rest % TABLES];
    const uint8_t *uuid = base.disks[disk].uuid;

    switch (site % FUZZ_SITES) {
    case FUZZ_SUPERBLOCK:
        return (Place) { number % 2 * 512 * KiB, 512 };
    case FUZZ_MEMBER:
        return (Place) { base.member + number % 8 * 4096, 512 };
    case FUZZ_DISK:
        return (Place) { base.disk + number % 8 * 4096, 512 };
    case FUZZ_SEGMENTS:
        return (Place) { base.segment + number % 2 * 4096, 512 };
    case FUZZ_HEADER:
        return (Place) { first + rest % 2 * 32768, 4096 };
    case FUZZ_L2:
        if (table) {
            return (Place) { table + rest / TABLES % 128 * 512, 512, uuid };
        }
        /* fall through */
    case FUZZ_L1:
        return (Place) { first + 65536 + rest % 138 * 512, 512, uuid };
    default:
        return (Place) { first + 262144 + rest * 4096, 4096 };
    }
}

/* Make the CRC right of what begins at @place. */
static void reseal(const Place *place)
{
    g_autofree uint8_t *buf = NULL;
    size_t bytes = place->bytes;

    buf = g_malloc(bytes);
    sim_peek(place->offset, buf, bytes);
    if (place->uuid) {
        sector_reseal(buf, place->uuid);
    } else {
        if (!memcmp(buf, "CSVJ", 4)) {
            /* Longer records, within the ring, may be meant. */
            bytes = MIN(page_extent(buf), 64 * KiB);
            buf = g_realloc(buf, bytes);
            sim_peek(place->offset, buf, bytes);
        }
        page_reseal(buf, bytes);
    }
    sim_poke(place->offset, buf, ROUND_UP(place->bytes, SIM_SECTOR));
}

static void change(const Place *to, size_t at, const void *bytes, size_t size)
{
    g_autofree uint8_t *buf = g_malloc(to->bytes);

    sim_peek(to->offset, buf, to->bytes);
    memcpy(buf + at, bytes, MIN(size, to->bytes - at));
    sim_poke(to->offset, buf, to->bytes);
}

void fuzz_patch(FuzzSite site, unsigned number, size_t at, const void *buf,
                size_t bytes)
{
    Place to = find_place(site, number);

    change(&to, at, buf, bytes);
    reseal(&to);
}

void fuzz_peek(FuzzSite site, unsigned number, size_t at, void *buf,
               size_t bytes)
{
    Place from = find_place(site, number);
    g_autofree uint8_t *all = g_malloc(from.bytes);

    sim_peek(from.offset, all, from.bytes);
    memcpy(buf, all + at, bytes);
}

static void apply(const uint8_t *patch, size_t size)
{
    Place to = find_place(patch[0] & ~FUZZ_COPY, patch[1]);
    size_t at = lduw_le_p(patch + 2) % to.bytes;
    const uint8_t *bytes = patch + FUZZ_PATCH_HEAD;

    size -= FUZZ_PATCH_HEAD;
    if (patch[0] & FUZZ_COPY) {
        Place from = find_place(bytes[0] & ~FUZZ_COPY, bytes[1]);
        g_autofree uint8_t *buf = g_malloc(to.bytes);

        sim_peek(from.offset, buf, MIN(from.bytes, to.bytes));
        sim_poke(to.offset, buf, MIN(from.bytes, to.bytes));
        return;     /* CRCs are as good as they were */
    }
    change(&to, at, bytes, size);
    if (!(patch[4] & FUZZ_KEEP_CRC)) {
        reseal(&to);
    }
}

static void read_disk(BlockBackend *blk)
{
    static const uint64_t places[] = { 0, NEAR, NEAR + 2 * MiB, FAR };
    g_autofree uint8_t *buf = g_malloc(READ_BYTES);
    int64_t length = blk_getlength(blk), offset, n;
    unsigned i, steps = 0;

    g_assert_cmpint(length, >=, 0);
    for (i = 0; i < ARRAY_SIZE(places); i++) {
        if (places[i] + READ_BYTES <= length) {
            blk_pread(blk, places[i], READ_BYTES, buf, 0);
        }
    }
    GRAPH_RDLOCK_GUARD_MAINLOOP();
    for (offset = 0; offset < length && steps < 64; offset += n, steps++) {
        if (bdrv_block_status(blk_bs(blk), offset, length - offset, &n, NULL,
                              NULL) < 0) {
            break;
        }
        g_assert_cmpint(n, >, 0);
    }
}

static void read_one(const char *name)
{
    BlockBackend *blk = fuzz_open(name, 0, NULL);

    if (blk) {
        read_disk(blk);
        blk_unref(blk);
    }
}

static void write_one(const char *name)
{
    g_autofree uint8_t *buf = g_malloc(READ_BYTES);
    g_autofree uint8_t *got = g_malloc(READ_BYTES);
    static const uint64_t places[] = { 4096, NEAR, FAR, 7 * MiB };
    BlockBackend *blk = fuzz_open(name, RDWR, NULL);
    unsigned i;

    if (!blk) {
        return;
    }
    memset(buf, 'w', READ_BYTES);
    for (i = 0; i < ARRAY_SIZE(places); i++) {
        if (places[i] + READ_BYTES <= blk_getlength(blk) &&
            blk_pwrite(blk, places[i], READ_BYTES, buf, 0) >= 0 &&
            blk_pread(blk, places[i], READ_BYTES, got, 0) >= 0) {
            g_assert_cmpmem(buf, READ_BYTES, got, READ_BYTES);
        }
    }
    blk_flush(blk);
    if (blk_getlength(blk) > NEAR) {
        blk_pdiscard(blk, NEAR, MIN(4 * MiB, blk_getlength(blk) - NEAR), 0);
    }
    blk_truncate(blk, 10 * MiB, true, PREALLOC_MODE_OFF, 0, NULL);
    blk_flush(blk);
    blk_unref(blk);
}

/* Returns false if what is there may still be bad. */
static bool check(const char *disk, BdrvCheckMode fix, BdrvCheckResult *res)
{
    BlockDriverState *bs = open_node(disk, BDRV_O_CHECK |
                                     (fix ? RDWR : 0), NULL);
    int ret;

    *res = (BdrvCheckResult) { 0 };
    if (!bs) {
        return false;
    }
    ret = bdrv_check(bs, res, fix);
    bdrv_unref(bs);
    return ret >= 0 && !res->check_errors && !res->corruptions;
}

/* What was repaired is good. */
static void repair(const char *disk, BdrvCheckMode fix)
{
    BdrvCheckResult res;

    if (check(disk, fix, &res) && (fix & BDRV_FIX_ERRORS)) {
        g_assert_true(check(disk, 0, &res));
    }
}

static void overlay_one(const char *name)
{
    sim_disk_create("overlay", 0, name, 0, NULL);
    read_one("overlay");
}

static void act(uint8_t action)
{
    const char *name = disks[action / FUZZ_ACTIONS % ARRAY_SIZE(disks)].name;
    BdrvCheckResult res;
    unsigned i;

    switch ((FuzzAction)(action % FUZZ_ACTIONS)) {
    case FUZZ_READ:
        for (i = 0; i < ARRAY_SIZE(disks); i++) {
            read_one(disks[i].name);
        }
        break;
    case FUZZ_WRITE:
        write_one(name);
        read_one(name);
        break;
    case FUZZ_CHECK:
        check(NULL, 0, &res);
        break;
    case FUZZ_CHECK_DISK:
        check(name, 0, &res);
        break;
    case FUZZ_LEAKS:
        repair(name, BDRV_FIX_LEAKS);
        break;
    case FUZZ_REPAIR:
        repair(NULL, BDRV_FIX_LEAKS | BDRV_FIX_ERRORS);
        break;
    case FUZZ_REPAIR_DISK:
        repair(name, BDRV_FIX_LEAKS | BDRV_FIX_ERRORS);
        write_one(name);
        break;
    default:
        overlay_one(name);
    }
}

void fuzz_one(const uint8_t *data, size_t size)
{
    size_t mark = sim_mark();
    unsigned patches;
    uint8_t action;

    if (!size) {
        return;
    }
    action = *data++;
    size--;
    for (patches = 0; patches < FUZZ_PATCHES; patches++) {
        size_t bytes = fuzz_patch_size(data, size);

        if (!bytes) {
            break;
        }
        apply(data, bytes);
        data += bytes;
        size -= bytes;
    }
    act(action);
    sim_undo(mark);
    if (++inputs % DRAIN_EVERY == 0) {
        drain_call_rcu();
    }
}

void fuzz_end(void)
{
    sim_device_free();
}
