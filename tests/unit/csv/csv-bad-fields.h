/*
 * Values that docs/interop/csv.rst forbids, and some that it allows
 *
 * For test-csv-ondisk.c: structure, byte offset, bytes, value, and the field
 * that the error must name, or NULL where there must be none.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_CSV_BAD_FIELDS_H
#define TESTS_CSV_BAD_FIELDS_H

static const BadField bad_fields[] = {
    /* The header that all pages have; decoders share the check. */
    { SUPERBLOCK, 0, 4, 0x44565343, "magic" },
    { MEMBER,     0, 4, 0, "magic" },
    { DISK,       0, 4, 0x4d565343, "magic" },
    { SEGMENTS,   0, 4, MAX32, "magic" },
    { HEADER,     0, 4, 0x31565343, "magic" },
    { L1,         0, 4, 0x32565343, "magic" },
    { L2,         0, 4, 0x31565343, "magic" },
    { SUPERBLOCK, 24, 8, 0, "number" },
    { MEMBER,     24, 8, 4, "number" },
    { DISK,       24, 8, 1ULL << 32 | 3, "number" },
    { SEGMENTS,   24, 8, 98, "number" },
    { HEADER,     24, 8, 0, "number" },
    { L1,         8, 8, 1, "number" },
    { L2,         8, 8, 3, "number" },
    { MEMBER,     8, 1, 0, "uuid" },
    { DISK,       23, 1, 0, "uuid" },
    { SEGMENTS,   8, 8, 0, "uuid" },
    { HEADER,     8, 1, 0xab, "uuid" },
    { JOURNAL,    8, 1, 0xab, "uuid" },

    { SUPERBLOCK, 32, 1, 'Q', "signature" },
    { SUPERBLOCK, 47, 1, 0, "signature" },
    { SUPERBLOCK, 48, 4, 0, "version" },
    { SUPERBLOCK, 48, 4, 1, "version" },
    { SUPERBLOCK, 48, 4, 3, "version" },
    { SUPERBLOCK, 56, 8, 1, "incompatible" },
    { SUPERBLOCK, 56, 8, 1ULL << 63, "incompatible" },
    { SUPERBLOCK, 64, 8, MAX64, NULL },         /* compatible */
    { SUPERBLOCK, 72, 8, MAX64, NULL },         /* autoclear */
    { SUPERBLOCK, 80, 8, MAX64, NULL },         /* generation */
    { SUPERBLOCK, 88, 8, MAX64, NULL },         /* created */
    { SUPERBLOCK, 96, 1, 22, "segment_bits" },
    { SUPERBLOCK, 96, 1, 37, "segment_bits" },
    { SUPERBLOCK, 96, 1, 64, "segment_bits" },
    { SUPERBLOCK, 96, 1, 23, NULL },
    { SUPERBLOCK, 96, 1, 36, NULL },
    { SUPERBLOCK, 97, 1, 20, "cluster_bits" },
    { SUPERBLOCK, 97, 1, 22, "cluster_bits" },
    { SUPERBLOCK, 98, 1, 15, "subcluster_bits" },
    { SUPERBLOCK, 98, 1, 17, "subcluster_bits" },
    { SUPERBLOCK, 104, 4, 0, "member_slots" },
    { SUPERBLOCK, 104, 4, 1025, "member_slots" },
    { SUPERBLOCK, 104, 4, MAX32, "member_slots" },
    { SUPERBLOCK, 104, 4, 1, NULL },
    { SUPERBLOCK, 104, 4, 65, "disk_offset" },      /* overlap */
    { SUPERBLOCK, 108, 4, 0, "disk_slots" },
    { SUPERBLOCK, 108, 4, 65537, "disk_slots" },
    { SUPERBLOCK, 108, 4, 15, "disk_high" },
    { SUPERBLOCK, 108, 4, 129, "segment_offset" },  /* overlap */
    { SUPERBLOCK, 108, 4, 65536, "disk_offset" },   /* past the data */
    { SUPERBLOCK, 112, 4, 129, "disk_high" },
    { SUPERBLOCK, 112, 4, 128, NULL },
    { SUPERBLOCK, 112, 4, 0, NULL },
    { SUPERBLOCK, 120, 8, 0, "segment_slots" },
    { SUPERBLOCK, 120, 8, 16777217, "segment_slots" },
    { SUPERBLOCK, 120, 8, MAX64, "segment_slots" },
    { SUPERBLOCK, 120, 8, 99, "segment_count" },
    { SUPERBLOCK, 120, 8, 16777216, "segment_offset" },
    { SUPERBLOCK, 128, 8, 6001, "segment_count" },
    { SUPERBLOCK, 128, 8, MAX64, "segment_count" },
    { SUPERBLOCK, 128, 8, 6000, NULL },
    { SUPERBLOCK, 128, 8, 0, NULL },
    { SUPERBLOCK, 136, 8, 1 * MiB + 512, "member_offset" },
    { SUPERBLOCK, 136, 8, 0, "member_offset" },
    { SUPERBLOCK, 136, 8, 1 * MiB - 4096, "member_offset" },
    { SUPERBLOCK, 136, 8, 4 * MiB - 4096, "member_offset" },
    { SUPERBLOCK, 136, 8, 4 * MiB, "member_offset" },
    { SUPERBLOCK, 136, 8, MAX64 - 4095, "member_offset" },
    { SUPERBLOCK, 136, 8, 1 * MiB + 4096, "disk_offset" },
    { SUPERBLOCK, 144, 8, 1, "disk_offset" },
    { SUPERBLOCK, 144, 8, 0, "disk_offset" },
    { SUPERBLOCK, 144, 8, 1 * MiB, "disk_offset" },
    { SUPERBLOCK, 144, 8, 1ULL << 63, "disk_offset" },
    { SUPERBLOCK, 152, 8, 2047, "segment_offset" },
    { SUPERBLOCK, 152, 8, 4096, "segment_offset" },
    { SUPERBLOCK, 152, 8, 1 * MiB, "segment_offset" },
    { SUPERBLOCK, 152, 8, 4 * MiB - 4096, "segment_offset" },
    { SUPERBLOCK, 152, 8, 1 * MiB + 64 * 4096, "segment_offset" },
    { SUPERBLOCK, 160, 8, 4 * MiB + 4096, "data_offset" },
    { SUPERBLOCK, 160, 8, 0, "data_offset" },
    { SUPERBLOCK, 160, 8, 2 * MiB, "segment_offset" },
    { SUPERBLOCK, 160, 8, 1 * PiB + 2 * MiB, "data_offset" },
    { SUPERBLOCK, 160, 8, 1 * PiB, "segment_count" },
    { SUPERBLOCK, 176, 1, 0x80, "name" },
    { SUPERBLOCK, 176, 1, '\n', "name" },
    { SUPERBLOCK, 178, 1, 0x7f, "name" },
    { SUPERBLOCK, 181, 1, 'x', "name" },
    { SUPERBLOCK, 176, 1, 0, "name" },

    { MEMBER, 32, 4, 3, "state" },
    { MEMBER, 32, 4, MAX32, "state" },
    { MEMBER, 32, 4, 2, NULL },
    { MEMBER, 32, 4, 0, NULL },
    { MEMBER, 36, 4, 2, "liveness" },
    { MEMBER, 36, 4, 1, NULL },
    { MEMBER, 40, 8, 0, "incarnation" },
    { MEMBER, 40, 8, MAX64, NULL },
    { MEMBER, 48, 8, MAX64, NULL },             /* since */
    { MEMBER, 56, 8, MAX64, NULL },             /* beat */
    { MEMBER, 72, 4, MAX32, NULL },             /* pid */
    { MEMBER, 112, 1, 0xc0, "host" },
    { MEMBER, 112, 1, 27, "host" },
    { MEMBER, 175, 1, 'x', "host" },
    { MEMBER, 192, 4, 129, "use" },
    { MEMBER, 508, 4, 0x80000000 | 129, "use" },
    { MEMBER, 508, 4, 0x80000000 | 128, NULL },
    { MEMBER, 508, 4, 0x80000000, "use" },      /* names no disk */
    { MEMBER, 192, 4, 0x01000000, "use" },
    { MEMBER, 192, 4, 0x01000000 | 128, "use" },
    { MEMBER, 508, 4, 0xc0000000 | 128, "use" },

    { DISK, 32, 4, 6, "state" },
    { DISK, 32, 4, MAX32, "state" },
    { DISK, 32, 4, 4, "token" },
    { DISK, 36, 4, 4, "flags" },
    { HANDOVER, 36, 4, 2, "flags" },
    { DISK_FREE, 36, 4, 2, NULL },
    { DISK, 36, 4, 1U << 31, "flags" },
    { HANDOVER, 36, 4, 1, "flags" },
    { DISK_FREE, 36, 4, 1, NULL },
    { DISK, 40, 8, 0, "epoch" },
    { HANDOVER, 40, 8, 0, "epoch" },
    { DISK_FREE, 40, 8, 0, NULL },
    { DISK, 48, 4, 64, "owner" },
    { DISK, 48, 4, MAX32, "owner" },
    { DISK_FREE, 48, 4, 64, "owner" },
    { DISK, 48, 4, 63, NULL },
    { DISK, 56, 8, 0, "owner_incarnation" },
    { HANDOVER, 56, 8, 0, "owner_incarnation" },
    { DISK_MAKING, 56, 8, 0, "owner_incarnation" },
    { DISK, 64, 8, MAX64, NULL },               /* since */
    { DISK, 72, 8, 513, "size" },
    { DISK, 72, 8, 64 * TiB + 512, "size" },
    { DISK, 72, 8, MAX64, "size" },
    { DISK, 72, 8, 64 * TiB, NULL },
    { DISK, 72, 8, 0, NULL },
    { DISK, 80, 2, 0, "uuid" },
    { DISK, 96, 1, 1, "token" },
    { DISK_FREE, 111, 1, 1, "token" },
    { HANDOVER, 111, 1, 0, "token" },
    { DISK, 112, 8, 6000, "first_segment" },
    { DISK, 112, 8, MAX64, "first_segment" },
    { DISK, 112, 8, 5999, NULL },
    { DISK_FREE, 112, 8, MAX64, "first_segment" },
    { DISK_MAKING, 112, 8, 6000, "first_segment" },
    { DISK_MAKING, 112, 8, MAX64, NULL },
    { DISK, 136, 2, 0, "name_bytes" },
    { DISK, 136, 2, 256, "name_bytes" },
    { DISK, 136, 2, 7, "name_bytes" },
    { DISK, 136, 2, MAX16, "name_bytes" },
    { DISK, 144, 1, 0xff, "name" },
    { DISK, 150, 1, '\t', "name" },
    { DISK, 153, 1, 'x', "name" },
    { DISK, 399, 1, 'x', "name" },
    { DISK, 400, 8, MAX64, NULL },              /* journal_sequence */
    { DISK, 408, 4, 448, "journal_page" },
    { DISK, 408, 4, 447, NULL },
    { DISK, 416, 1, '\n', "description" },
    { DISK, 511, 1, 'x', "description" },

    { SEGMENTS, 32, 4, 129, "disk" },
    { SEGMENTS, 32, 4, MAX32, "disk" },
    { SEGMENTS, 32, 4, 128, NULL },
    { SEGMENTS, 36, 4, 1, "sequence" },         /* of a free segment */
    { SEGMENTS, 52, 4, 6000, "sequence" },
    { SEGMENTS, 52, 4, MAX32, "sequence" },
    { SEGMENTS, 52, 4, 5999, NULL },

    { HEADER, 32, 4, 0, "version" },
    { HEADER, 32, 4, 1, "version" },
    { HEADER, 32, 4, 3, "version" },
    { HEADER, 36, 4, 4, "disk" },
    { HEADER, 40, 8, 1, "incompatible" },       /* names no image */
    { HEADER, 40, 8, 2, "incompatible" },
    { HEADER, 40, 8, 1ULL << 63, "incompatible" },
    { HEADER, 104, 1, 1, "incompatible" },      /* names one */
    { BACKED, 40, 8, 0, "incompatible" },
    { BACKED, 104, 1, 1, "incompatible" },      /* names two */
    { BACKED, 160, 1, 7, "backing_format_bytes" },
    { BACKED, 192, 1, 0xff, "backing_file_bytes" },
    { BACKED, 128, 2, 4, "backing_format_bytes" },
    { BACKED, 130, 2, 0, "backing_file_bytes" },
    { HEADER, 48, 8, MAX64, NULL },             /* compatible */
    { HEADER, 56, 8, MAX64, NULL },             /* autoclear */
    { HEADER, 64, 8, 0, "l1_offset" },
    { HEADER, 64, 8, 65536 + 4096, "l1_offset" },
    { HEADER, 72, 4, 17, "l1_pages" },
    { HEADER, 72, 4, MAX32, "l1_pages" },
    { HEADER, 80, 8, 0, "journal_offset" },
    { HEADER, 88, 8, 4096, "journal_bytes" },
    { HEADER, 96, 8, MAX64, NULL },             /* generation */
    { HEADER, 128, 2, 32, "backing_format_bytes" },
    { HEADER, 130, 2, 1024, "backing_file_bytes" },

    { L1, 16, 8, 4096, "table" },
    { L1, 16, 8, 1, "table" },
    { L1, 504, 8, MAX64, "table" },
    { L1, 504, 8, 10 * MiB, NULL },
    /* 64 TiB take 8457 tables; sector 136 starts with table 8432. */
    { L1_LAST, 16 + 8 * 24, 8, 8 * MiB, NULL },
    { L1_LAST, 16 + 8 * 25, 8, 8 * MiB, "table" },

    { L2, 16, 8, 1 * MiB, "offset" },
    { L2, 16, 8, MAX64, "offset" },
    { L2, 16, 8, 1 * PiB + 2 * MiB, "offset" },
    { L2, 16, 8, 2 * MiB, NULL },
    { L2, 24, 4, 1, "data" },
    { L2, 28, 4, MAX32, NULL },                 /* zeroes need no cluster */
    { L2, 16 + 16 * 6 + 12, 4, 1, "zero" },
    { L2, 16 + 16 * 30 + 8, 4, 1, "data" },

    { JOURNAL, 0, 4, 0x48565343, "magic" },
    { JOURNAL, 40, 4, 0, "bytes" },
    { JOURNAL, 40, 4, 8192, "bytes" },
    { JOURNAL, 40, 4, MAX32, "bytes" },
    { JOURNAL, 44, 4, 127, "bytes" },
    { JOURNAL, 44, 4, MAX32, "bytes" },
    { JOURNAL, 48, 8, 0, "tail" },
    { JOURNAL, 48, 8, 78, "tail" },
    { JOURNAL, 48, 8, 1, NULL },
    { JOURNAL, 64, 4, 0, "type" },
    { JOURNAL, 64, 4, 3, "type" },
    { JOURNAL, 72, 8, 1 << 25, "index" },       /* of a cluster */
    { JOURNAL, 80, 8, 1 * MiB, "offset" },
    { JOURNAL, 92, 4, 1, "zero" },
    { JOURNAL, 104, 8, 8457, "index" },         /* of a table */
    { JOURNAL, 112, 8, 4096, "table" },
    { JOURNAL, 112, 8, 0, "index" },
    { JOURNAL, 120, 4, 1, "index" },
};

#endif /* TESTS_CSV_BAD_FIELDS_H */
