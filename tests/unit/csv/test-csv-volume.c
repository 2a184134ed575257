/*
 * What the members of a csv volume share: records and who may change them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/block.h"
#include "block/csv.h"
#include "block/csv/disk/disk.h"
#include "qapi/error.h"
#include "qemu/cutils.h"
#include "qemu/main-loop.h"
#include "qobject/qdict.h"
#include "sim-device.h"
#include "sim-volume.h"
#include "system/block-backend.h"

static CsvDisk *disk_of(BlockBackend *blk)
{
    return blk_bs(blk)->opaque;
}

/* The record in @slot as it is on the volume */
static CsvDiskRecord GRAPH_RDLOCK peek(CsvDisk *via, uint32_t slot,
                                       uint8_t *raw)
{
    CsvDiskRecord rec;

    csv_disk_read(via->volume, via->bs->file, slot, &rec, raw, &error_abort);
    return rec;
}

static void poke(CsvVolume *vol, const CsvDiskRecord *rec, uint8_t *raw)
{
    csv_disk_encode(rec, &vol->sb, raw);
    sim_poke(vol->sb.disk_offset + (uint64_t)rec->slot * CSV_PAGE_SIZE, raw,
             CSV_RECORD_SIZE);
}

/* Another member has claimed the disk; returns its record then. */
static CsvDiskRecord GRAPH_RDLOCK take_away(CsvDisk *disk, uint8_t *raw)
{
    CsvDiskRecord rec = peek(disk, disk->record.slot, raw);

    rec.epoch++;
    rec.owner = disk->volume->me.slot + 1;
    poke(disk->volume, &rec, raw);
    return rec;
}

/* From which states a move is legal, and to which it leads, by first letter */
static const struct {
    const char *from;
    char to;            /* or 0: where the caller says */
    bool ours;
} moves[] = {
    [CSV_MOVE_RESERVE]  = { "u", 'c', false },
    [CSV_MOVE_FURNISH]  = { "c", 'c', true },
    [CSV_MOVE_COMPLETE] = { "c", 'f', true },
    [CSV_MOVE_CLAIM]    = { "foh", 'o', false },
    [CSV_MOVE_RELEASE]  = { "o", 'f', true },
    [CSV_MOVE_OFFER]    = { "o", 'h', true },
    [CSV_MOVE_EDIT]     = { "foh", 0, false },
    [CSV_MOVE_CONDEMN]  = { "ucfohd", 'd', false },
    [CSV_MOVE_SPARE]    = { "d", 0, true },
    [CSV_MOVE_ERASE]    = { "d", 'u', true },
};
static const char states[] = "ucfohd";      /* by CsvDiskRecordState */

static void GRAPH_RDLOCK
try_move(CsvDisk *via, const CsvDiskRecord *model, CsvMove move,
         CsvDiskRecordState state, bool ours)
{
    CsvVolume *vol = via->volume;
    bool legal = strchr(moves[move].from, states[state]) &&
                 (ours || !moves[move].ours);
    CsvDiskRecord was = *model, rec, now;
    uint8_t raw[CSV_RECORD_SIZE], after[CSV_RECORD_SIZE];
    int ret;

    was.state = state;
    was.epoch = 7;
    was.owner = vol->me.slot;
    was.owner_incarnation = vol->me.incarnation - !ours;
    was.token.data[0] = state == CSV_RECORD_HANDOVER;
    if (state == CSV_RECORD_UNUSED) {
        was = (CsvDiskRecord) { .slot = model->slot, .epoch = 7 };
    }
    poke(vol, &was, raw);
    rec = move == CSV_MOVE_RESERVE || move == CSV_MOVE_CONDEMN ? *model : was;
    rec.state = move == CSV_MOVE_SPARE ? CSV_RECORD_FREE : was.state;
    rec.token.data[0] = move == CSV_MOVE_OFFER || state == CSV_RECORD_HANDOVER;
    if (move == CSV_MOVE_ERASE) {
        rec = (CsvDiskRecord) { .slot = model->slot };
    }
    ret = csv_disk_move(vol, via->bs->file, move, &rec, raw);
    g_assert_cmpint(ret, ==, legal ? 0 : -EPERM);
    now = peek(via, model->slot, after);
    if (!legal) {
        g_assert_cmpint(now.state, ==, state);
        return;
    }
    g_assert_cmpmem(raw, sizeof(raw), after, sizeof(after));
    g_assert_cmpint(states[now.state], ==, moves[move].to ?: states[rec.state]);
    g_assert_cmpint(now.epoch, ==, move == CSV_MOVE_CLAIM ? 8 : 7);
    if (strchr("cod", moves[move].to) && moves[move].to) {
        g_assert_true(csv_member_is_me(vol, now.owner, now.owner_incarnation));
    }
}

/* The table of legal changes of a disk's record, each from each state */
static void test_moves(void)
{
    BlockBackend *one;
    CsvDisk *disk;
    CsvDiskRecord model;
    uint8_t raw[CSV_RECORD_SIZE];

    sim_pair_start();
    one = sim_disk_open("a", "one");
    disk = disk_of(one);
    {
        GRAPH_RDLOCK_GUARD_MAINLOOP();

        csv_disk_find(disk->volume, disk->bs->file, "two", &model, raw,
                      &error_abort);
        for (unsigned m = 0; m < ARRAY_SIZE(moves); m++) {
            for (unsigned s = 0; states[s]; s++) {
                try_move(disk, &model, m, s, true);
                try_move(disk, &model, m, s, false);
            }
        }
        poke(disk->volume, &model, raw);
    }
    blk_unref(one);
    sim_pair_stop();
}

/*
 * A change is made but reported as failed, and nobody can look.  The next one
 * must not take that for the work of another member.
 */
static void test_hidden(void)
{
    BlockBackend *one;
    CsvDisk *disk;
    CsvDiskRecord rec;
    uint8_t raw[CSV_RECORD_SIZE];
    int ret;

    sim_pair_start();
    one = sim_disk_open("a", "one");
    disk = disk_of(one);
    {
        GRAPH_RDLOCK_GUARD_MAINLOOP();

        sim_device_hide_swap();
        ret = csv_disk_set_size(disk, 2 * SIM_DISK_SIZE, NULL);
        g_assert_cmpint(ret, ==, -EIO);
        g_assert_true(disk->owned);
        rec = disk->record;
        pstrcpy(rec.description, sizeof(rec.description), "new");
        ret = csv_disk_change(disk, &rec, "describe", NULL);
        g_assert_cmpint(ret, ==, 0);
        g_assert_true(disk->owned);
        rec = peek(disk, disk->record.slot, raw);
        g_assert_cmpstr(rec.description, ==, "new");
        g_assert_cmpint(rec.epoch, ==, disk->record.epoch);
        g_assert_cmpmem(raw, sizeof(raw), disk->raw, sizeof(disk->raw));
    }
    blk_unref(one);
    sim_pair_stop();
}

/* A change by another member is still noticed. */
static void test_taken(void)
{
    BlockBackend *one;
    CsvDisk *disk;
    uint8_t raw[CSV_RECORD_SIZE];

    sim_pair_start();
    one = sim_disk_open("a", "one");
    disk = disk_of(one);
    {
        GRAPH_RDLOCK_GUARD_MAINLOOP();

        take_away(disk, raw);
        g_assert_cmpint(csv_disk_set_size(disk, 2 * SIM_DISK_SIZE, NULL), ==,
                        -ESTALE);
        g_assert_false(disk->owned);
    }
    blk_unref(one);
    sim_pair_stop();
}

/* A lost disk stays lost, even when it has no owner any more. */
static void test_lost(void)
{
    BlockBackend *one;
    CsvDisk *disk;
    CsvDiskRecord rec, was;
    uint8_t raw[CSV_RECORD_SIZE];

    sim_pair_start();
    one = sim_disk_open("a", "one");
    disk = disk_of(one);
    {
        GRAPH_RDLOCK_GUARD_MAINLOOP();

        rec = take_away(disk, raw);
        g_assert_cmpint(csv_disk_set_size(disk, 2 * SIM_DISK_SIZE, NULL), ==,
                        -ESTALE);
        rec.state = CSV_RECORD_FREE;
        poke(disk->volume, &rec, raw);
        g_assert_cmpint(csv_disk_claim(disk, NULL, &was, NULL), ==, -ESTALE);
        g_assert_false(disk->owned);
    }
    blk_unref(one);
    one = sim_disk_open("a", "one");
    g_assert_true(disk_of(one)->owned);
    blk_unref(one);
    sim_pair_stop();
}

/*
 * A superblock that was made from an outdated one is refused, and copy 1 does
 * not go back.
 */
static void test_superblock(void)
{
    BlockBackend *one;
    CsvDisk *disk;
    CsvVolume *vol;
    CsvSuperblock old, sb;
    uint8_t raw[CSV_RECORD_SIZE];

    sim_pair_start();
    one = sim_disk_open("a", "one");
    disk = disk_of(one);
    vol = disk->volume;
    {
        GRAPH_RDLOCK_GUARD_MAINLOOP();
        BdrvChild *file = disk->bs->file;

        old = sb = vol->sb;
        sb.disk_high = 48;
        g_assert_cmpint(csv_superblock_swap(vol, file, &sb, NULL), ==, 0);
        g_assert_cmpint(vol->sb.disk_high, ==, 48);
        /* Another coroutine began with the one before. */
        old.segment_count--;
        g_assert_cmpint(csv_superblock_swap(vol, file, &old, NULL), ==,
                        -EAGAIN);
        csv_volume_refresh(vol, file, &error_abort);
        g_assert_cmpint(vol->sb.disk_high, ==, 48);

        /* A later change has written copy 1 already. */
        sb = vol->sb;
        sb.generation += 10;
        csv_superblock_encode(&sb, 1, raw);
        sim_poke(CSV_SB_COPY_1, raw, sizeof(raw));
        sb = vol->sb;
        sb.disk_high = 64;
        g_assert_cmpint(csv_superblock_swap(vol, file, &sb, NULL), ==, 0);
        sim_peek(CSV_SB_COPY_1, raw, sizeof(raw));
        csv_superblock_decode(raw, 1, &sb, &error_abort);
        g_assert_cmpint(sb.generation, ==, vol->sb.generation + 9);
    }
    blk_unref(one);
    sim_pair_stop();
}

/* A writer clears autoclear features that it does not know. */
static void test_autoclear(void)
{
    BlockBackend *one;
    CsvSuperblock sb;
    CsvDiskRecord rec;
    CsvHeader header;
    uint64_t at;
    uint8_t raw[CSV_RECORD_SIZE], page[CSV_PAGE_SIZE];

    sim_pair_start();
    one = sim_disk_open("a", "one");
    sb = disk_of(one)->volume->sb;
    rec = disk_of(one)->record;
    header = disk_of(one)->header;
    blk_unref(one);

    sb.autoclear = 0x40;
    header.autoclear = 0x40;
    at = csv_segment_start(&sb, rec.first_segment);
    for (unsigned copy = 0; copy < 2; copy++) {
        csv_superblock_encode(&sb, copy, raw);
        sim_poke(copy ? CSV_SB_COPY_1 : CSV_SB_COPY_0, raw, sizeof(raw));
        csv_header_encode(&header, &rec, copy, page);
        sim_poke(at + (copy ? CSV_HEADER_COPY_1 : CSV_HEADER_COPY_0), page,
                 sizeof(page));
    }
    one = sim_disk_open("a", "one");
    sim_peek(CSV_SB_COPY_0, raw, sizeof(raw));
    csv_superblock_decode(raw, 0, &sb, &error_abort);
    g_assert_cmpint(sb.autoclear, ==, 0);
    for (unsigned copy = 0; copy < 2; copy++) {
        sim_peek(at + (copy ? CSV_HEADER_COPY_1 : CSV_HEADER_COPY_0), page,
                 sizeof(page));
        csv_header_decode(page, &rec, copy, &header, &error_abort);
        g_assert_cmpint(header.autoclear, ==, 0);
    }
    blk_unref(one);
    sim_pair_stop();
}

/* Segments of disk @slot, as the volume knows it */
static uint64_t GRAPH_RDLOCK segments_of(CsvDisk *via, uint32_t slot)
{
    CsvVolume *vol = via->volume;
    g_autofree uint64_t *per_disk = g_new0(uint64_t, vol->sb.disk_slots);
    uint64_t free;

    g_assert_cmpint(csv_segments_count(vol, via->bs->file, per_disk, &free,
                                       &error_abort), >=, 0);
    return per_disk[slot];
}

/* An owner that was replaced frees nothing: it may be in use again. */
static void test_replaced(void)
{
    g_autofree uint8_t *buf = g_malloc0(4 * KiB);
    BlockBackend *one;
    CsvDisk *disk;
    uint8_t raw[CSV_RECORD_SIZE];
    uint64_t before;

    sim_pair_start();
    one = sim_disk_open("a", "one");
    disk = disk_of(one);
    for (unsigned i = 0; i < SIM_DISK_SIZE / CSV_CLUSTER_SIZE; i++) {
        g_assert_cmpint(blk_pwrite(one, i * CSV_CLUSTER_SIZE, 4 * KiB, buf, 0),
                        ==, 0);
    }
    g_assert_cmpint(blk_flush(one), ==, 0);
    {
        GRAPH_RDLOCK_GUARD_MAINLOOP();

        before = segments_of(disk, disk->record.slot);
        g_assert_cmpint(before, >, 1);
        take_away(disk, raw);
    }
    g_assert_cmpint(blk_pdiscard(one, 0, SIM_DISK_SIZE, 0), ==, 0);
    blk_flush(one);
    {
        GRAPH_RDLOCK_GUARD_MAINLOOP();

        csv_segments_give_back_all(disk);
        g_assert_cmpint(segments_of(disk, disk->record.slot), ==, before);
        g_assert_true(disk->lost);
    }
    blk_unref(one);
    sim_pair_stop();
}

/* A refused deletion does not write to the record of the disk. */
static void test_needed(void)
{
    BlockBackend *blk;
    CsvVolume *vol;
    SimTrace *trace;

    sim_pair_start();
    sim_disk_create("over", SIM_DISK_SIZE, "one", 0, &error_abort);
    blk = sim_disk_open("a", "two");
    vol = disk_of(blk)->volume;
    sim_trace_start();
    {
        GRAPH_RDLOCK_GUARD_MAINLOOP();
        BdrvChild *file = disk_of(blk)->bs->file;

        g_assert_cmpint(csv_disk_delete(vol, file, "one", NULL, NULL), ==,
                        -EBUSY);
    }
    trace = sim_trace_stop();
    for (unsigned i = 0; i < sim_trace_length(trace); i++) {
        g_assert_cmpint(sim_trace_event(trace, i)->kind, !=, SIM_WRITE);
    }
    sim_trace_free(trace);
    blk_unref(blk);
    sim_pair_stop();
}

/*
 * The disk is claimed, and then a user of its node cannot continue: the disk
 * must be given back.
 */
static void test_half_active(void)
{
    QDict *options = qdict_new();
    BlockDriverState *bs;
    BlockBackend *users[2];
    CsvDiskRecord rec;
    uint8_t raw[CSV_RECORD_SIZE];
    Error *err = NULL;

    sim_pair_start();
    qdict_put_str(options, "driver", "csv");
    qdict_put_str(options, "disk", "one");
    qdict_put_str(options, "file", "a");
    bs = bdrv_open(NULL, NULL, options, BDRV_O_RDWR | BDRV_O_INACTIVE,
                   &error_abort);
    /* The second one does not share what the first one needs. */
    users[0] = blk_new_with_bs(bs, BLK_PERM_CONSISTENT_READ, BLK_PERM_ALL,
                               &error_abort);
    users[1] = blk_new_with_bs(bs, 0, 0, &error_abort);
    g_assert_false(csv_handover_claim(&err));
    error_free_or_abort(&err);
    {
        GRAPH_RDLOCK_GUARD_MAINLOOP();
        CsvDisk *disk = bs->opaque;

        g_assert_false(disk->owned);
        rec = peek(disk, disk->record.slot, raw);
        g_assert_cmpint(rec.epoch, >, 0);
        g_assert_cmpint(rec.state, ==, CSV_RECORD_FREE);
    }
    blk_unref(users[1]);
    blk_unref(users[0]);
    bdrv_unref(bs);
    sim_pair_stop();
}

/*
 * The owner is declared dead while a journal record of it is on its way.  That
 * arrives after the next owner has written its own, and changes nothing.
 */
static void test_late(void)
{
    g_autofree uint8_t *buf = g_malloc(4 * KiB);
    g_autofree uint8_t *ring = g_malloc(CSV_JOURNAL_BYTES);
    g_autofree uint8_t *late = NULL;
    BlockBackend *a, *b, *c;
    SimTrace *trace;
    uint64_t at, late_at = 0;
    size_t bytes = 0;

    sim_pair_start();
    a = sim_disk_open("a", "one");
    at = csv_segment_start(&disk_of(a)->volume->sb,
                           disk_of(a)->record.first_segment) +
         CSV_JOURNAL_OFFSET;
    memset(buf, 'a', 4 * KiB);
    g_assert_cmpint(blk_pwrite(a, 0, 4 * KiB, buf, 0), ==, 0);
    sim_peek(at, ring, CSV_JOURNAL_BYTES);
    sim_trace_start();
    g_assert_cmpint(blk_flush(a), ==, 0);
    trace = sim_trace_stop();
    for (unsigned i = 0; i < sim_trace_length(trace); i++) {
        const SimEvent *e = sim_trace_event(trace, i);
        uint64_t offset = e->sector * SIM_SECTOR;

        if (e->kind == SIM_WRITE && offset >= at &&
            offset < at + CSV_JOURNAL_BYTES) {
            late_at = offset;
            bytes = (size_t)e->sectors * SIM_SECTOR;
            late = g_memdup2(e->data, bytes);
        }
    }
    sim_trace_free(trace);
    g_assert_nonnull(late);
    sim_poke(at, ring, CSV_JOURNAL_BYTES);

    sim_device_drop_locks();
    b = sim_disk_open("b", "one");
    memset(buf, 'b', 4 * KiB);
    for (unsigned i = 0; i < 4; i++) {
        g_assert_cmpint(blk_pwrite(b, i * CSV_SUBCLUSTER_SIZE, 4 * KiB, buf,
                                   0), ==, 0);
        g_assert_cmpint(blk_flush(b), ==, 0);
    }
    sim_poke(late_at, late, bytes);

    /* The new owner dies as well. */
    sim_device_drop_locks();
    sim_node_open("c");
    c = sim_disk_open("c", "one");
    for (unsigned i = 0; i < 4; i++) {
        g_assert_cmpint(blk_pread(c, i * CSV_SUBCLUSTER_SIZE, 4 * KiB, buf, 0),
                        ==, 0);
        g_assert_cmpint(buf[0], ==, 'b');
    }
    blk_unref(c);
    blk_unref(b);
    blk_unref(a);
    bdrv_unref(bdrv_lookup_bs("c", "c", NULL));
    sim_pair_stop();
}

int main(int argc, char **argv)
{
    bdrv_init();
    qemu_init_main_loop(&error_abort);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/csv/volume/moves", test_moves);
    g_test_add_func("/csv/volume/hidden", test_hidden);
    g_test_add_func("/csv/volume/taken", test_taken);
    g_test_add_func("/csv/volume/lost", test_lost);
    g_test_add_func("/csv/volume/superblock", test_superblock);
    g_test_add_func("/csv/volume/autoclear", test_autoclear);
    g_test_add_func("/csv/volume/replaced", test_replaced);
    g_test_add_func("/csv/volume/needed", test_needed);
    g_test_add_func("/csv/volume/half-active", test_half_active);
    g_test_add_func("/csv/volume/late", test_late);
    return g_test_run();
}
