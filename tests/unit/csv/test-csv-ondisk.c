/*
 * Structures of a cluster shared volume, to bytes and back
 *
 * Each structure is written, compared with offsets from docs/interop/csv.rst,
 * and read again.  Then each field is given values that the document forbids,
 * with a right CRC, and the error must name structure and field.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/cutils.h"
#include "block/csv/format/format.h"
#include "csv-page.h"

static const CsvSuperblock sample_sb = {
    .uuid.data = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 },
    .compatible = CSV_COMPAT_GROW,
    .autoclear = 0,
    .generation = 0x1122334455667788,
    .created = 1795400000,
    .segment_bits = 24,
    .member_slots = 64,
    .disk_slots = 128,
    .disk_high = 16,
    .segment_slots = 6000,
    .segment_count = 100,
    .member_offset = 1 * MiB,
    .disk_offset = 1 * MiB + 64 * 4 * KiB,
    .segment_offset = 1 * MiB + (64 + 128) * 4 * KiB,
    .data_offset = 4 * MiB,
    .name = "vol1",
};

static const CsvMemberRecord sample_member = {
    .slot = 5,
    .state = CSV_MEMBER_ACTIVE,
    .liveness = CSV_LIVENESS_BY_LOCK,
    .incarnation = 77,
    .since = 1795400001,
    .pid = 4711,
    .pid_space = 4026531836,
    .host_id.data = { 9, 9, 9 },
    .host = "node-a",
    .use = { 4, 0, CSV_USE_WRITE | 128 },
};

static const CsvDiskRecord sample_disk = {
    .slot = 3,
    .state = CSV_RECORD_OWNED,
    .epoch = 42,
    .owner = 5,
    .owner_incarnation = 77,
    .since = 1795400002,
    .size = 3 * GiB,
    .uuid.data = { 0xaa, 0xbb },
    .first_segment = 17,
    .name = "vm1/root",
    .journal_sequence = 0x1234567890,
    .journal_page = 447,
    .description = "the root disk",
};

static const CsvHeader sample_header = {
    .compatible = 0x30,
    .autoclear = 0x40,
    .generation = 9,
    .size = 3 * MiB,
    .name = "vm1/root",
};

static const CsvHeader sample_backed = {
    .generation = 10,
    .backing_format = "qcow2",
    .backing_file = "base.qcow2",
};

static const CsvJournalEntry sample_entries[] = {
    { CSV_JOURNAL_L2, 12345, { 6 * MiB, 0x00ff00000000ff01 } },
    { CSV_JOURNAL_L1, 8456, { 7 * MiB, 0 } },
};

static const CsvJournalRecord sample_record = {
    .sequence = 77,
    .epoch = 42,
    .tail = 70,
    .bytes = 4096,
    .entries = ARRAY_SIZE(sample_entries),
};

typedef enum Structure {
    SUPERBLOCK,
    MEMBER,
    DISK,
    HANDOVER,       /* a disk record in this state */
    DISK_FREE,
    DISK_MAKING,
    SEGMENTS,
    HEADER,
    BACKED,         /* header of a disk with a backing image */
    JOURNAL,
    L1,
    L1_LAST,
    L2,
} Structure;

/* The last page or sector of a table, for what lies beyond its end. */
#define LAST_SEGMENT_PAGE   99
#define LAST_L1_SECTOR      136

static size_t extent_of(Structure s)
{
    return s < HEADER || s >= L1 ? 512 : 4096;
}

/* Make the CRC right again. */
static void reseal(Structure s, uint8_t *buf)
{
    if (s >= L1) {
        sector_reseal(buf, sample_disk.uuid.data);
    } else {
        page_reseal(buf, extent_of(s));
    }
}

static CsvDiskRecord disk_of(Structure s)
{
    CsvDiskRecord disk = sample_disk;

    switch (s) {
    case HANDOVER:
        disk.state = CSV_RECORD_HANDOVER;
        disk.token.data[15] = 1;
        break;
    case DISK_FREE:
        disk.state = CSV_RECORD_FREE;
        disk.owner_incarnation = 0;
        disk.epoch = 0;
        break;
    case DISK_MAKING:
        disk.state = CSV_RECORD_CREATING;
        disk.first_segment = CSV_NO_SEGMENT;
        break;
    default:
        break;
    }
    return disk;
}

static void encode(Structure s, uint8_t *buf)
{
    CsvDiskRecord disk = disk_of(s);
    CsvSegmentEntry segments[CSV_SEGMENTS_PER_PAGE];
    uint64_t l1[CSV_L1_PER_SECTOR] = { 0 };
    CsvL2Entry l2[CSV_L2_PER_SECTOR] = { 0 };
    unsigned i;

    /* Encoders must fill all of it. */
    memset(buf, 0xee, extent_of(s));
    switch (s) {
    case SUPERBLOCK:
        csv_superblock_encode(&sample_sb, 1, buf);
        break;
    case MEMBER:
        csv_member_encode(&sample_member, &sample_sb, buf);
        break;
    case DISK:
    case HANDOVER:
    case DISK_FREE:
    case DISK_MAKING:
        csv_disk_encode(&disk, &sample_sb, buf);
        break;
    case SEGMENTS:
        for (i = 0; i < CSV_SEGMENTS_PER_PAGE; i++) {
            segments[i] = (CsvSegmentEntry) { .disk = -1 };
        }
        segments[2] = (CsvSegmentEntry) { .disk = 3, .sequence = 9 };
        csv_segments_encode(segments, &sample_sb, LAST_SEGMENT_PAGE, buf);
        break;
    case HEADER:
        csv_header_encode(&sample_header, &disk, 1, buf);
        break;
    case BACKED:
        csv_header_encode(&sample_backed, &disk, 1, buf);
        break;
    case JOURNAL:
        for (i = 0; i < ARRAY_SIZE(sample_entries); i++) {
            csv_journal_put(buf, i, &sample_entries[i]);
        }
        csv_journal_encode(&sample_record, &disk.uuid, buf);
        break;
    case L1:
        l1[4] = 7 * MiB;
        csv_l1_encode(l1, &disk.uuid, 0, buf);
        break;
    case L1_LAST:
        csv_l1_encode(l1, &disk.uuid, LAST_L1_SECTOR, buf);
        break;
    case L2:
        l2[6].offset = 6 * MiB;
        l2[6].masks = csv_masks(0x0000ff01, 0x00ff0000);
        csv_l2_encode(l2, &disk.uuid, 2, buf);
        break;
    }
}

static bool decode(Structure s, const uint8_t *buf, Error **errp)
{
    CsvDiskRecord disk = disk_of(s);
    CsvSegmentEntry segments[CSV_SEGMENTS_PER_PAGE];
    uint64_t l1[CSV_L1_PER_SECTOR];
    CsvL2Entry l2[CSV_L2_PER_SECTOR];
    CsvJournalRecord record;
    CsvSuperblock sb;
    CsvMemberRecord member;
    CsvHeader header;

    switch (s) {
    case SUPERBLOCK:
        return csv_superblock_decode(buf, 1, &sb, errp);
    case MEMBER:
        return csv_member_decode(buf, &sample_sb, sample_member.slot, &member,
                                 errp);
    case DISK:
    case HANDOVER:
    case DISK_FREE:
    case DISK_MAKING:
        return csv_disk_decode(buf, &sample_sb, sample_disk.slot, &disk, errp);
    case SEGMENTS:
        return csv_segments_decode(buf, &sample_sb, LAST_SEGMENT_PAGE,
                                   segments, errp);
    case HEADER:
    case BACKED:
        return csv_header_decode(buf, &disk, 1, &header, errp);
    case JOURNAL:
        return csv_journal_decode(buf, 4096, &disk.uuid, &record, errp);
    case L1:
        return csv_l1_decode(buf, &disk.uuid, 0, l1, errp);
    case L1_LAST:
        return csv_l1_decode(buf, &disk.uuid, LAST_L1_SECTOR, l1, errp);
    case L2:
        return csv_l2_decode(buf, &disk.uuid, 2, l2, errp);
    }
    g_assert_not_reached();
}

static const char *name_of(Structure s)
{
    switch (s) {
    case SUPERBLOCK:
        return "superblock 1: ";
    case MEMBER:
        return "member record 5: ";
    case DISK:
    case HANDOVER:
    case DISK_FREE:
    case DISK_MAKING:
        return "disk record 3: ";
    case SEGMENTS:
        return "segment table page 99: ";
    case HEADER:
    case BACKED:
        return "disk header 1: ";
    case JOURNAL:
        return "journal record 77: ";
    case L1:
        return "level-1 map sector 0: ";
    case L1_LAST:
        return "level-1 map sector 136: ";
    case L2:
        return "level-2 map sector 2: ";
    }
    g_assert_not_reached();
}

/* @field: what the error must name, or NULL: there must be none. */
static void expect(Structure s, const uint8_t *buf, const char *field)
{
    g_autofree char *want = NULL;
    Error *err = NULL;
    bool ok = decode(s, buf, &err);

    if (!field) {
        g_assert_cmpstr(err ? error_get_pretty(err) : NULL, ==, NULL);
        g_assert_true(ok);
        return;
    }
    g_assert_false(ok);
    want = g_strdup_printf("%sfield '%s': ", name_of(s), field);
    if (!g_str_has_prefix(error_get_pretty(err), want)) {
        g_test_message("got '%s', want '%s'", error_get_pretty(err), want);
        g_test_fail();
    }
    error_free(err);
}

typedef struct BadField {
    Structure s;
    unsigned at, bytes;
    uint64_t value;
    const char *field;      /* NULL: a value that must pass */
} BadField;

#define MAX16 UINT16_MAX
#define MAX32 UINT32_MAX
#define MAX64 UINT64_MAX

#include "csv-bad-fields.h"

static void test_bad_fields(void)
{
    uint8_t buf[4096];
    size_t i;

    for (i = 0; i < ARRAY_SIZE(bad_fields); i++) {
        const BadField *f = &bad_fields[i];

        encode(f->s, buf);
        expect(f->s, buf, NULL);
        page_put(buf, f->at, f->bytes, f->value);
        reseal(f->s, buf);
        expect(f->s, buf, f->field);
    }
}

/* The message for a volume of a draft says what to do. */
static void test_draft(void)
{
    static const Structure structures[] = { SUPERBLOCK, HEADER };
    uint8_t buf[4096];
    size_t i;

    for (i = 0; i < ARRAY_SIZE(structures); i++) {
        Error *err = NULL;

        encode(structures[i], buf);
        page_put(buf, i ? 32 : 48, 4, 1);
        reseal(structures[i], buf);
        g_assert_false(decode(structures[i], buf, &err));
        g_assert_nonnull(strstr(error_get_pretty(err), "1 is a draft"));
        g_assert_nonnull(strstr(error_get_pretty(err), "qemu-img convert"));
        error_free(err);
    }
}

/* A disk that has never been used may be anything but in a known state. */
static void test_unused_disk(void)
{
    CsvDiskRecord out;
    uint8_t buf[512];

    encode(DISK, buf);
    page_put(buf, 32, 4, CSV_RECORD_UNUSED);
    memset(buf + 144, 0xff, 256);
    page_reseal(buf, sizeof(buf));
    g_assert_true(csv_disk_decode(buf, &sample_sb, 3, &out, &error_abort));
    g_assert_cmpint(out.state, ==, CSV_RECORD_UNUSED);
    g_assert_cmpint(out.epoch, ==, 42);
    g_assert_cmpstr(out.name, ==, "");
}

/* Every single byte counts, and so does every bit of some. */
static void test_crc(void)
{
    static const Structure all[] = {
        SUPERBLOCK, MEMBER, DISK, SEGMENTS, HEADER, BACKED, L1, L2,
    };
    uint8_t buf[4096];
    size_t i, at;

    g_assert_cmphex(page_crc32c((const uint8_t *)"1234\0\0\0\0", 8), ==,
                    page_crc32c((const uint8_t *)"1234wxyz", 8));
    for (i = 0; i < ARRAY_SIZE(all); i++) {
        Structure s = all[i];
        size_t bytes = extent_of(s);

        encode(s, buf);
        g_assert_cmphex(page_get(buf, 4, 4), ==,
                        s < L1 ? page_crc32c(buf, bytes) :
                        sector_crc32c(buf, sample_disk.uuid.data));
        for (at = 4; at < bytes; at++) {
            buf[at] ^= 1 << at % 8;
            expect(s, buf, "crc");
            buf[at] ^= 1 << at % 8;
        }
        expect(s, buf, NULL);
    }
}

static void test_all_zero(void)
{
    const uint8_t zero[4096] = { 0 };
    CsvSegmentEntry segments[CSV_SEGMENTS_PER_PAGE];
    CsvMemberRecord member;
    CsvDiskRecord disk;
    unsigned i;

    g_assert_true(csv_member_decode(zero, &sample_sb, 9, &member,
                                    &error_abort));
    g_assert_cmpint(member.slot, ==, 9);
    g_assert_cmpint(member.state, ==, CSV_MEMBER_UNUSED);
    g_assert_cmpint(member.incarnation, ==, 0);

    g_assert_true(csv_disk_decode(zero, &sample_sb, 8, &disk, &error_abort));
    g_assert_cmpint(disk.slot, ==, 8);
    g_assert_cmpint(disk.state, ==, CSV_RECORD_UNUSED);
    g_assert_cmpint(disk.epoch, ==, 0);

    g_assert_true(csv_segments_decode(zero, &sample_sb, 7, segments,
                                      &error_abort));
    for (i = 0; i < CSV_SEGMENTS_PER_PAGE; i++) {
        g_assert_cmpint(segments[i].disk, ==, -1);
        g_assert_cmpint(segments[i].sequence, ==, 0);
    }

    /* These always exist, so zeroes are damage. */
    expect(SUPERBLOCK, zero, "magic");
    expect(HEADER, zero, "magic");
    expect(L1, zero, "magic");
    expect(L2, zero, "magic");
}

static void test_superblock(void)
{
    CsvSuperblock out;
    uint8_t buf[512];

    encode(SUPERBLOCK, buf);
    g_assert_cmpmem(buf, 4, "CSVS", 4);
    g_assert_cmpmem(buf + 8, 16, sample_sb.uuid.data, 16);
    g_assert_cmphex(page_get(buf, 24, 8), ==, 1);
    g_assert_cmpmem(buf + 32, 16, "qemu-csv volume\n", 16);
    g_assert_cmphex(page_get(buf, 48, 4), ==, 2);
    g_assert_cmphex(page_get(buf, 56, 8), ==, 0);
    g_assert_cmphex(page_get(buf, 64, 8), ==, 1);
    g_assert_cmphex(page_get(buf, 80, 8), ==, sample_sb.generation);
    g_assert_cmphex(page_get(buf, 88, 8), ==, sample_sb.created);
    g_assert_cmphex(page_get(buf, 96, 8), ==, 24 | 21 << 8 | 16 << 16);
    g_assert_cmphex(page_get(buf, 104, 4), ==, 64);
    g_assert_cmphex(page_get(buf, 108, 4), ==, 128);
    g_assert_cmphex(page_get(buf, 112, 4), ==, 16);
    g_assert_cmphex(page_get(buf, 120, 8), ==, 6000);
    g_assert_cmphex(page_get(buf, 128, 8), ==, 100);
    g_assert_cmphex(page_get(buf, 136, 8), ==, sample_sb.member_offset);
    g_assert_cmphex(page_get(buf, 144, 8), ==, sample_sb.disk_offset);
    g_assert_cmphex(page_get(buf, 152, 8), ==, sample_sb.segment_offset);
    g_assert_cmphex(page_get(buf, 160, 8), ==, sample_sb.data_offset);
    g_assert_cmpmem(buf + 176, 5, "vol1", 5);

    g_assert_true(csv_superblock_decode(buf, 1, &out, &error_abort));
    g_assert_cmpmem(&out, sizeof(out), &sample_sb, sizeof(sample_sb));

    g_assert_true(csv_probe(buf, sizeof(buf)));
    g_assert_false(csv_probe(buf, sizeof(buf) - 1));
    buf[33] ^= 1;
    g_assert_false(csv_probe(buf, sizeof(buf)));

    encode(SUPERBLOCK, buf);
    memset(buf + 8, 0, 16);
    page_reseal(buf, sizeof(buf));
    expect(SUPERBLOCK, buf, "uuid");
}

static void test_member(void)
{
    CsvMemberRecord out;
    uint8_t buf[512];

    encode(MEMBER, buf);
    g_assert_cmpmem(buf, 4, "CSVM", 4);
    g_assert_cmpmem(buf + 8, 16, sample_sb.uuid.data, 16);
    g_assert_cmphex(page_get(buf, 24, 8), ==, 5);
    g_assert_cmphex(page_get(buf, 32, 4), ==, 1);
    g_assert_cmphex(page_get(buf, 36, 4), ==, 0);
    g_assert_cmphex(page_get(buf, 40, 8), ==, 77);
    g_assert_cmphex(page_get(buf, 48, 8), ==, 1795400001);
    g_assert_cmphex(page_get(buf, 72, 4), ==, 4711);
    g_assert_cmpmem(buf + 80, 16, sample_member.host_id.data, 16);
    g_assert_cmphex(page_get(buf, 104, 8), ==, 4026531836);
    g_assert_cmpmem(buf + 112, 7, "node-a", 7);
    g_assert_cmphex(page_get(buf, 192, 4), ==, 4);
    g_assert_cmphex(page_get(buf, 200, 4), ==, 0x80000080);

    g_assert_true(csv_member_decode(buf, &sample_sb, 5, &out, &error_abort));
    g_assert_cmpmem(&out, sizeof(out), &sample_member, sizeof(out));
}

static void test_disk(void)
{
    CsvDiskRecord in = disk_of(HANDOVER), out;
    g_autofree char *longest = g_strnfill(CSV_DISK_NAME_MAX, 'n');
    uint8_t buf[512];

    in.backing.data[2] = 5;
    pstrcpy(in.name, sizeof(in.name), longest);
    csv_disk_encode(&in, &sample_sb, buf);
    g_assert_cmpmem(buf, 4, "CSVD", 4);
    g_assert_cmpmem(buf + 8, 16, sample_sb.uuid.data, 16);
    g_assert_cmphex(page_get(buf, 24, 8), ==, 3);
    g_assert_cmphex(page_get(buf, 32, 4), ==, 4);
    g_assert_cmphex(page_get(buf, 36, 4), ==, 0);
    g_assert_cmphex(page_get(buf, 40, 8), ==, 42);
    g_assert_cmphex(page_get(buf, 48, 4), ==, 5);
    g_assert_cmphex(page_get(buf, 56, 8), ==, 77);
    g_assert_cmphex(page_get(buf, 64, 8), ==, 1795400002);
    g_assert_cmphex(page_get(buf, 72, 8), ==, 3 * GiB);
    g_assert_cmpmem(buf + 80, 16, in.uuid.data, 16);
    g_assert_cmpmem(buf + 96, 16, in.token.data, 16);
    g_assert_cmphex(page_get(buf, 112, 8), ==, 17);
    g_assert_cmpmem(buf + 120, 16, in.backing.data, 16);
    g_assert_cmphex(page_get(buf, 136, 2), ==, 255);
    g_assert_cmpmem(buf + 144, 256, longest, 256);
    g_assert_cmphex(page_get(buf, 400, 8), ==, 0x1234567890);
    g_assert_cmphex(page_get(buf, 408, 4), ==, 447);
    g_assert_cmpmem(buf + 416, 14, "the root disk", 14);

    g_assert_true(csv_disk_decode(buf, &sample_sb, 3, &out, &error_abort));
    g_assert_cmpmem(&out, sizeof(out), &in, sizeof(in));
}

static void test_segments(void)
{
    CsvSegmentEntry in[CSV_SEGMENTS_PER_PAGE], out[CSV_SEGMENTS_PER_PAGE];
    CsvSuperblock sb = sample_sb;
    uint8_t buf[512];
    unsigned i;

    for (i = 0; i < CSV_SEGMENTS_PER_PAGE; i++) {
        in[i].disk = i % 3 ? (int64_t)i : -1;
        in[i].sequence = i % 3 ? 1000 + i : 0;
    }
    csv_segments_encode(in, &sb, 1, buf);
    g_assert_cmpmem(buf, 4, "CSVG", 4);
    g_assert_cmpmem(buf + 8, 16, sb.uuid.data, 16);
    g_assert_cmphex(page_get(buf, 24, 8), ==, 1);
    g_assert_cmphex(page_get(buf, 32, 8), ==, 0);
    g_assert_cmphex(page_get(buf, 32 + 8 * 59, 4), ==, 60);
    g_assert_cmphex(page_get(buf, 36 + 8 * 59, 4), ==, 1059);
    g_assert_true(csv_segments_decode(buf, &sb, 1, out, &error_abort));
    for (i = 0; i < CSV_SEGMENTS_PER_PAGE; i++) {
        g_assert_cmpint(out[i].disk, ==, in[i].disk);
        g_assert_cmpint(out[i].sequence, ==, in[i].sequence);
    }

    /* The table ends in the middle of this page. */
    sb.segment_slots = 60 + 30;
    memset(buf, 0, sizeof(buf));
    for (i = 0; i < CSV_SEGMENTS_PER_PAGE; i++) {
        in[i] = (CsvSegmentEntry) { .disk = i < 30 ? 1 : -1 };
    }
    csv_segments_encode(in, &sb, 1, buf);
    g_assert_true(csv_segments_decode(buf, &sb, 1, out, &error_abort));
    in[30].disk = 1;
    csv_segments_encode(in, &sb, 1, buf);
    g_assert_false(csv_segments_decode(buf, &sb, 1, out, NULL));
}

static void test_header(void)
{
    CsvHeader in = sample_backed, out;
    uint8_t buf[4096];

    in.compatible = 0x30;
    in.autoclear = 0x40;
    csv_header_encode(&in, &sample_disk, 0, buf);
    g_assert_cmpmem(buf, 4, "CSVH", 4);
    g_assert_cmpmem(buf + 8, 16, sample_disk.uuid.data, 16);
    g_assert_cmphex(page_get(buf, 24, 8), ==, 0);
    g_assert_cmphex(page_get(buf, 32, 4), ==, 2);
    g_assert_cmphex(page_get(buf, 36, 4), ==, 3);
    g_assert_cmphex(page_get(buf, 40, 8), ==, 1);
    g_assert_cmphex(page_get(buf, 48, 8), ==, 0x30);
    g_assert_cmphex(page_get(buf, 56, 8), ==, 0x40);
    g_assert_cmphex(page_get(buf, 64, 8), ==, 65536);
    g_assert_cmphex(page_get(buf, 72, 4), ==, 18);
    g_assert_cmphex(page_get(buf, 80, 8), ==, 262144);
    g_assert_cmphex(page_get(buf, 88, 8), ==, 1835008);
    g_assert_cmphex(page_get(buf, 96, 8), ==, 10);
    g_assert_cmphex(page_get(buf, 128, 2), ==, 5);
    g_assert_cmphex(page_get(buf, 130, 2), ==, 10);
    g_assert_cmpmem(buf + 160, 6, "qcow2", 6);
    g_assert_cmpmem(buf + 192, 11, "base.qcow2", 11);

    g_assert_true(csv_header_decode(buf, &sample_disk, 0, &out,
                                    &error_abort));
    g_assert_cmpmem(&out, sizeof(out), &in, sizeof(in));

    in = sample_header;
    in.backing.data[0] = 0xcc;
    csv_header_encode(&in, &sample_disk, 1, buf);
    g_assert_cmphex(page_get(buf, 1216, 8), ==, 3 * MiB);
    g_assert_cmphex(page_get(buf, 1224, 2), ==, 8);
    g_assert_cmpmem(buf + 1232, 9, "vm1/root", 9);
    g_assert_cmphex(page_get(buf, 40, 8), ==, 1);
    g_assert_cmpmem(buf + 104, 16, in.backing.data, 16);
    g_assert_true(csv_header_decode(buf, &sample_disk, 1, &out,
                                    &error_abort));
    g_assert_cmpmem(&out, sizeof(out), &in, sizeof(in));
}

static void test_map(void)
{
    const QemuUUID *uuid = &sample_disk.uuid;
    QemuUUID other = { .data = { 1 } };
    uint64_t l1[CSV_L1_PER_SECTOR], l1_out[CSV_L1_PER_SECTOR];
    CsvL2Entry l2[CSV_L2_PER_SECTOR], l2_out[CSV_L2_PER_SECTOR];
    uint8_t buf[512];
    unsigned i;

    for (i = 0; i < CSV_L1_PER_SECTOR; i++) {
        l1[i] = i % 2 ? 0 : (i + 1ULL) << 16 | 1ULL << 49;
    }
    csv_l1_encode(l1, uuid, 3, buf);
    g_assert_cmpmem(buf, 4, "CSV1", 4);
    g_assert_cmphex(page_get(buf, 8, 8), ==, 3);
    g_assert_cmphex(page_get(buf, 16 + 8 * 60, 8), ==, l1[60]);
    g_assert_true(csv_l1_decode(buf, uuid, 3, l1_out, &error_abort));
    g_assert_cmpmem(l1, sizeof(l1), l1_out, sizeof(l1_out));
    g_assert_false(csv_l1_decode(buf, &other, 3, l1_out, NULL));

    for (i = 0; i < CSV_L2_PER_SECTOR; i++) {
        l2[i].offset = i % 5 ? (uint64_t)i << 21 : 0;
        l2[i].masks = csv_masks(l2[i].offset ? i * 0x01010101 : 0,
                                ~(i * 0x01010101));
    }
    csv_l2_encode(l2, uuid, 100 * 128 + 127, buf);
    g_assert_cmpmem(buf, 4, "CSV2", 4);
    g_assert_cmphex(page_get(buf, 8, 8), ==, 100 * 128 + 127);
    g_assert_cmphex(page_get(buf, 16 + 16 * 29, 8), ==, 29ULL << 21);
    g_assert_cmphex(page_get(buf, 24 + 16 * 29, 4), ==, 0x1d1d1d1d);
    g_assert_cmphex(page_get(buf, 28 + 16 * 29, 4), ==, 0xe2e2e2e2);
    g_assert_true(csv_l2_decode(buf, uuid, 100 * 128 + 127, l2_out,
                                &error_abort));
    g_assert_cmpmem(l2, sizeof(l2), l2_out, sizeof(l2_out));
    g_assert_false(csv_l2_decode(buf, &other, 100 * 128 + 127, l2_out, NULL));
}

static void test_journal(void)
{
    g_autofree uint8_t *buf = g_malloc(CSV_JOURNAL_RECORD_MAX);
    CsvJournalRecord out, big = sample_record;
    CsvJournalEntry entry;
    unsigned i;

    encode(JOURNAL, buf);
    g_assert_cmpmem(buf, 4, "CSVJ", 4);
    g_assert_cmphex(page_get(buf, 4, 4), ==, page_crc32c(buf, 4096));
    g_assert_cmpmem(buf + 8, 16, sample_disk.uuid.data, 16);
    g_assert_cmphex(page_get(buf, 24, 8), ==, 77);
    g_assert_cmphex(page_get(buf, 32, 8), ==, 42);
    g_assert_cmphex(page_get(buf, 40, 4), ==, 4096);
    g_assert_cmphex(page_get(buf, 44, 4), ==, 2);
    g_assert_cmphex(page_get(buf, 48, 8), ==, 70);
    g_assert_cmphex(page_get(buf, 56, 8), ==, 0);
    g_assert_cmphex(page_get(buf, 64, 4), ==, 1);
    g_assert_cmphex(page_get(buf, 68, 4), ==, 0);
    g_assert_cmphex(page_get(buf, 72, 8), ==, 12345);
    g_assert_cmphex(page_get(buf, 80, 8), ==, 6 * MiB);
    g_assert_cmphex(page_get(buf, 88, 4), ==, 0xff01);
    g_assert_cmphex(page_get(buf, 92, 4), ==, 0xff0000);
    g_assert_cmphex(page_get(buf, 96, 4), ==, 2);
    g_assert_cmphex(page_get(buf, 104, 8), ==, 8456);
    g_assert_true(csv_journal_decode(buf, 4096, &sample_disk.uuid, &out,
                                     &error_abort));
    g_assert_cmpmem(&out, sizeof(out), &sample_record, sizeof(out));
    for (i = 0; i < ARRAY_SIZE(sample_entries); i++) {
        csv_journal_entry(buf, i, &entry);
        g_assert_cmphex(entry.type, ==, sample_entries[i].type);
        g_assert_cmphex(entry.index, ==, sample_entries[i].index);
        g_assert_cmphex(entry.value.offset, ==,
                        sample_entries[i].value.offset);
        g_assert_cmphex(entry.value.masks, ==, sample_entries[i].value.masks);
    }
    g_assert_false(csv_journal_decode(buf, 4095, &sample_disk.uuid, &out,
                                      NULL));
    /* Behind the entries, too, each byte counts. */
    for (i = 52; i < 4096; i++) {
        buf[i] ^= 1;
        expect(JOURNAL, buf, "crc");
        buf[i] ^= 1;
    }

    /* The largest record. */
    big.entries = CSV_JOURNAL_ENTRIES_MAX;
    big.bytes = csv_journal_bytes(big.entries);
    g_assert_cmpint(big.bytes, ==, CSV_JOURNAL_RECORD_MAX);
    for (i = 0; i < big.entries; i++) {
        csv_journal_put(buf, i, &sample_entries[i % 2]);
    }
    csv_journal_encode(&big, &sample_disk.uuid, buf);
    g_assert_true(csv_journal_decode(buf, big.bytes, &sample_disk.uuid, &out,
                                     &error_abort));
    g_assert_cmpint(out.entries, ==, big.entries);
    buf[big.bytes - 40] ^= 1;
    g_assert_false(csv_journal_decode(buf, big.bytes, &sample_disk.uuid, &out,
                                      NULL));
}

/* The numbers of the document, and what follows from them. */
static void test_constants(void)
{
    g_assert_cmpint(CSV_PAGE_SIZE, ==, 4096);
    g_assert_cmpint(CSV_RECORD_SIZE, ==, 512);
    g_assert_cmpint(CSV_SB_COPY_0, ==, 0);
    g_assert_cmpint(CSV_SB_COPY_1, ==, 524288);
    g_assert_cmpint(CSV_TABLES_OFFSET, ==, 1048576);
    g_assert_cmpint(CSV_CLUSTER_SIZE, ==, 2 * MiB);
    g_assert_cmpint(CSV_SUBCLUSTER_SIZE, ==, 64 * KiB);
    g_assert_cmpint(CSV_SUBCLUSTERS, ==, 32);
    g_assert_cmpint(CSV_SEGMENTS_PER_PAGE, ==, (512 - 32) / 8);
    g_assert_cmpint(CSV_L1_PER_SECTOR, ==, (512 - 16) / 8);
    g_assert_cmpint(CSV_L2_PER_SECTOR, ==, (512 - 16) / 16);
    g_assert_cmpint(CSV_L2_ENTRIES, ==, 3968);
    g_assert_cmpint(CSV_L2_ENTRIES * CSV_CLUSTER_SIZE, ==, 7936 * MiB);
    g_assert_cmpint(CSV_MAX_L2_TABLES, ==, 8457);
    g_assert_cmpint(CSV_JOURNAL_PAGES, ==, 448);
    g_assert_cmpint(CSV_L2_PER_CLUSTER, ==, 32);
    g_assert_cmpint(CSV_MAX_L2_TABLES, <=, CSV_L1_PAGES * CSV_L1_PER_PAGE);
    g_assert_cmpint(CSV_MAX_L2_TABLES, >, (CSV_L1_PAGES - 1) *
                                          CSV_L1_PER_PAGE);
    g_assert_cmpint(CSV_L1_OFFSET + CSV_L1_PAGES * CSV_PAGE_SIZE, <=,
                    CSV_JOURNAL_OFFSET);
    g_assert_cmpint(CSV_JOURNAL_OFFSET + CSV_JOURNAL_BYTES, ==,
                    CSV_CLUSTER_SIZE);
    g_assert_cmpint(1ULL << CSV_MIN_SEGMENT_BITS, ==, 8 * MiB);
    g_assert_cmpint(1ULL << CSV_MAX_SEGMENT_BITS, ==, 64 * GiB);
    g_assert_cmpint(CSV_MAX_SEGMENTS, ==, 16777216);
    g_assert_cmpint(csv_segment_pages(0), ==, 0);
    g_assert_cmpint(csv_segment_pages(60), ==, 1);
    g_assert_cmpint(csv_segment_pages(61), ==, 2);
    g_assert_cmpint(csv_segment_start(&sample_sb, 3), ==,
                    4 * MiB + 3 * 16 * MiB);
    g_assert_cmphex(csv_masks_data(csv_masks(0x80000001, 0x40000002)), ==,
                    0x80000001);
    g_assert_cmphex(csv_masks_zero(csv_masks(0x80000001, 0x40000002)), ==,
                    0x40000002);
}

static void test_names(void)
{
    g_autofree char *longest = g_strnfill(255, 'n');
    g_autofree char *longer = g_strnfill(256, 'n');
    Error *err = NULL;

    g_assert_true(csv_disk_name_check("x", &error_abort));
    g_assert_true(csv_disk_name_check("vm 1/wurzel-\xc3\xa4", &error_abort));
    g_assert_true(csv_disk_name_check(longest, &error_abort));
    g_assert_false(csv_disk_name_check(longer, NULL));
    g_assert_false(csv_disk_name_check("", NULL));
    g_assert_false(csv_disk_name_check("a\nb", NULL));
    g_assert_false(csv_disk_name_check("a\x7f" "b", NULL));
    g_assert_false(csv_disk_name_check("\xc3", NULL));
    g_assert_false(csv_disk_name_check("\xed\xa0\x80", &err));
    error_free(err);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/csv/ondisk/constants", test_constants);
    g_test_add_func("/csv/ondisk/superblock", test_superblock);
    g_test_add_func("/csv/ondisk/member", test_member);
    g_test_add_func("/csv/ondisk/disk", test_disk);
    g_test_add_func("/csv/ondisk/segments", test_segments);
    g_test_add_func("/csv/ondisk/header", test_header);
    g_test_add_func("/csv/ondisk/map", test_map);
    g_test_add_func("/csv/ondisk/journal", test_journal);
    g_test_add_func("/csv/ondisk/all-zero", test_all_zero);
    g_test_add_func("/csv/ondisk/unused-disk", test_unused_disk);
    g_test_add_func("/csv/ondisk/crc", test_crc);
    g_test_add_func("/csv/ondisk/bad-fields", test_bad_fields);
    g_test_add_func("/csv/ondisk/draft", test_draft);
    g_test_add_func("/csv/ondisk/names", test_names);
    return g_test_run();
}
