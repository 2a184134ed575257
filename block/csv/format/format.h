/*
 * Cluster shared volume: the on-disk format
 *
 * docs/interop/csv.rst is the specification; the structures here follow it
 * field by field.  The functions convert between pages and host structures, and
 * check every field when they decode.  They do no I/O, take no lock, may be
 * called from any thread, and link without the block layer.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BLOCK_CSV_FORMAT_H
#define BLOCK_CSV_FORMAT_H

#include "qemu/bswap.h"
#include "qemu/units.h"
#include "qemu/uuid.h"

/* Every page of metadata has this size and alignment. */
#define CSV_PAGE_SIZE           4096
/* The part of a shared page that a compare-and-write covers. */
#define CSV_RECORD_SIZE         512

#define CSV_SB_COPY_0           0
#define CSV_SB_COPY_1           (512 * KiB)
#define CSV_TABLES_OFFSET       (1 * MiB)

#define CSV_CLUSTER_BITS        21
#define CSV_CLUSTER_SIZE        (1ULL << CSV_CLUSTER_BITS)
#define CSV_SUBCLUSTER_BITS     16
#define CSV_SUBCLUSTER_SIZE     (1ULL << CSV_SUBCLUSTER_BITS)
#define CSV_SUBCLUSTERS         (CSV_CLUSTER_SIZE / CSV_SUBCLUSTER_SIZE)

/* 8 MiB: room for a disk's header, a cluster of tables, and data. */
#define CSV_MIN_SEGMENT_BITS    23
#define CSV_MAX_SEGMENT_BITS    36
#define CSV_MAX_MEMBERS         1024
#define CSV_MAX_DISKS           65536
/* 1 PiB in segments of 64 MiB. */
#define CSV_MAX_SEGMENTS        (16 * MiB)
#define CSV_MAX_VOLUME_SIZE     (1 * PiB)
#define CSV_MAX_DISK_SIZE       (64 * TiB)

#define CSV_VOLUME_NAME_MAX     63
#define CSV_HOST_NAME_MAX       63
#define CSV_DISK_NAME_MAX       255

#define CSV_SEGMENTS_PER_PAGE   60
/* A map sector has the size that a device writes atomically. */
#define CSV_SECTOR_SIZE         512
#define CSV_SECTORS_PER_PAGE    (CSV_PAGE_SIZE / CSV_SECTOR_SIZE)
#define CSV_L1_PER_SECTOR       62
#define CSV_L2_PER_SECTOR       31
#define CSV_L1_PER_PAGE         (CSV_L1_PER_SECTOR * CSV_SECTORS_PER_PAGE)
#define CSV_L2_PER_PAGE         (CSV_L2_PER_SECTOR * CSV_SECTORS_PER_PAGE)
#define CSV_L2_PAGES            16
#define CSV_L2_SECTORS          (CSV_L2_PAGES * CSV_SECTORS_PER_PAGE)
#define CSV_L2_ENTRIES          (CSV_L2_PER_PAGE * CSV_L2_PAGES)
#define CSV_L2_SIZE             (CSV_L2_PAGES * CSV_PAGE_SIZE)
/* Level-2 tables in a cluster of tables. */
#define CSV_L2_PER_CLUSTER      (CSV_CLUSTER_SIZE / CSV_L2_SIZE)
/* Level-2 tables of the largest disk. */
#define CSV_MAX_L2_TABLES \
    DIV_ROUND_UP(CSV_MAX_DISK_SIZE >> CSV_CLUSTER_BITS, CSV_L2_ENTRIES)

/* Offsets within a disk's first segment, in bytes. */
#define CSV_HEADER_COPY_0       0
#define CSV_HEADER_COPY_1       (32 * KiB)
#define CSV_L1_OFFSET           (64 * KiB)
#define CSV_L1_PAGES            18
#define CSV_L1_SECTORS          (CSV_L1_PAGES * CSV_SECTORS_PER_PAGE)
#define CSV_JOURNAL_OFFSET      (256 * KiB)
#define CSV_JOURNAL_BYTES       (CSV_CLUSTER_SIZE - CSV_JOURNAL_OFFSET)
#define CSV_JOURNAL_PAGES       (CSV_JOURNAL_BYTES / CSV_PAGE_SIZE)
/* Pages that one owner uses; see csv_ring_first(). */
#define CSV_JOURNAL_HALF        (CSV_JOURNAL_PAGES / 2)
/* The largest journal record, and its number of entries. */
#define CSV_JOURNAL_RECORD_MAX  (512 * KiB)
#define CSV_JOURNAL_ENTRIES_MAX \
    ((CSV_JOURNAL_RECORD_MAX - sizeof(CsvJournalPage)) / \
     sizeof(CsvJournalPageEntry))

#define CSV_NO_SEGMENT          UINT64_MAX

/* Compatible features of the volume. */
#define CSV_COMPAT_GROW         (1ULL << 0)

/* Flags of a disk record. */
#define CSV_DISK_SEALED         (1U << 0)
#define CSV_DISK_SHARED         (1U << 1)
#define CSV_DISK_FLAGS          (CSV_DISK_SEALED | CSV_DISK_SHARED)

/* Incompatible features of a disk. */
#define CSV_INCOMPAT_BACKING    (1ULL << 0)

#define CSV_DESCRIPTION_MAX     95
#define CSV_BACKING_FILE_MAX    1023
#define CSV_BACKING_FORMAT_MAX  31

/* Disks that a member uses without owning them (CsvMemberPage.use). */
#define CSV_MEMBER_USES         80
#define CSV_USE_SLOT            0x00ffffffU     /* disk slot plus one */
#define CSV_USE_WRITE           (1U << 31)

typedef enum CsvMagic {
    CSV_MAGIC_SUPERBLOCK = 0x53565343,  /* "CSVS" */
    CSV_MAGIC_MEMBER     = 0x4d565343,  /* "CSVM" */
    CSV_MAGIC_DISK       = 0x44565343,  /* "CSVD" */
    CSV_MAGIC_SEGMENTS   = 0x47565343,  /* "CSVG" */
    CSV_MAGIC_HEADER     = 0x48565343,  /* "CSVH" */
    CSV_MAGIC_L1         = 0x31565343,  /* "CSV1" */
    CSV_MAGIC_L2         = 0x32565343,  /* "CSV2" */
    CSV_MAGIC_JOURNAL    = 0x4a565343,  /* "CSVJ" */
} CsvMagic;

typedef struct QEMU_PACKED CsvPageHeader {
    uint32_t magic;
    uint32_t crc;
    uint8_t uuid[16];
    uint64_t number;
} CsvPageHeader;
QEMU_BUILD_BUG_ON(sizeof(CsvPageHeader) != 32);

typedef struct QEMU_PACKED CsvSuperblockPage {
    CsvPageHeader header;
    uint8_t signature[16];
    uint32_t version;
    uint32_t reserved52;
    uint64_t incompatible;
    uint64_t compatible;
    uint64_t autoclear;
    uint64_t generation;
    uint64_t created;
    uint8_t segment_bits;
    uint8_t cluster_bits;
    uint8_t subcluster_bits;
    uint8_t reserved99[5];
    uint32_t member_slots;
    uint32_t disk_slots;
    uint32_t disk_high;
    uint32_t reserved116;
    uint64_t segment_slots;
    uint64_t segment_count;
    uint64_t member_offset;
    uint64_t disk_offset;
    uint64_t segment_offset;
    uint64_t data_offset;
    uint64_t reserved168;
    char name[64];
    uint8_t reserved240[272];
} CsvSuperblockPage;
QEMU_BUILD_BUG_ON(sizeof(CsvSuperblockPage) != CSV_RECORD_SIZE);
QEMU_BUILD_BUG_ON(offsetof(CsvSuperblockPage, name) != 176);

typedef struct QEMU_PACKED CsvMemberPage {
    CsvPageHeader header;
    uint32_t state;
    uint32_t liveness;
    uint64_t incarnation;
    uint64_t since;
    uint64_t beat;
    uint32_t beat_ms;
    uint32_t dead_ms;
    uint32_t pid;
    uint32_t reserved76;
    uint8_t host_id[16];
    uint64_t pr_key;
    uint64_t pid_space;
    char host[64];
    uint8_t boot_id[16];
    uint32_t use[CSV_MEMBER_USES];
} CsvMemberPage;
QEMU_BUILD_BUG_ON(sizeof(CsvMemberPage) != CSV_RECORD_SIZE);
QEMU_BUILD_BUG_ON(offsetof(CsvMemberPage, host) != 112);

typedef struct QEMU_PACKED CsvDiskPage {
    CsvPageHeader header;
    uint32_t state;
    uint32_t flags;
    uint64_t epoch;
    uint32_t owner;
    uint32_t reserved52;
    uint64_t owner_incarnation;
    uint64_t since;
    uint64_t size;
    uint8_t uuid[16];
    uint8_t token[16];
    uint64_t first_segment;
    uint8_t backing[16];
    uint16_t name_bytes;
    uint8_t reserved138[6];
    char name[256];
    uint64_t journal_sequence;
    uint32_t journal_page;
    uint32_t reserved412;
    char description[96];
} CsvDiskPage;
QEMU_BUILD_BUG_ON(sizeof(CsvDiskPage) != CSV_RECORD_SIZE);
QEMU_BUILD_BUG_ON(offsetof(CsvDiskPage, name) != 144);
QEMU_BUILD_BUG_ON(offsetof(CsvDiskPage, description) != 416);

typedef struct QEMU_PACKED CsvSegmentPage {
    CsvPageHeader header;
    struct QEMU_PACKED {
        uint32_t disk;
        uint32_t sequence;
    } entry[CSV_SEGMENTS_PER_PAGE];
} CsvSegmentPage;
QEMU_BUILD_BUG_ON(sizeof(CsvSegmentPage) != CSV_RECORD_SIZE);

typedef struct QEMU_PACKED CsvHeaderPage {
    CsvPageHeader header;
    uint32_t version;
    uint32_t disk;
    uint64_t incompatible;
    uint64_t compatible;
    uint64_t autoclear;
    uint64_t l1_offset;
    uint32_t l1_pages;
    uint32_t reserved76;
    uint64_t journal_offset;
    uint64_t journal_bytes;
    uint64_t generation;
    uint8_t backing[16];
    uint8_t reserved120[8];
    uint16_t backing_format_bytes;
    uint16_t backing_file_bytes;
    uint8_t reserved132[28];
    char backing_format[32];
    char backing_file[1024];
    uint64_t size;
    uint16_t name_bytes;
    uint8_t reserved1226[6];
    char name[256];
    uint8_t reserved1488[2608];
} CsvHeaderPage;
QEMU_BUILD_BUG_ON(sizeof(CsvHeaderPage) != CSV_PAGE_SIZE);
QEMU_BUILD_BUG_ON(offsetof(CsvHeaderPage, backing_file) != 192);
QEMU_BUILD_BUG_ON(offsetof(CsvHeaderPage, name) != 1232);

/* At the start of each map sector. */
typedef struct QEMU_PACKED CsvSectorHeader {
    uint32_t magic;
    uint32_t crc;
    uint64_t number;
} CsvSectorHeader;
QEMU_BUILD_BUG_ON(sizeof(CsvSectorHeader) != 16);

typedef struct QEMU_PACKED CsvL1Sector {
    CsvSectorHeader header;
    uint64_t table[CSV_L1_PER_SECTOR];
} CsvL1Sector;
QEMU_BUILD_BUG_ON(sizeof(CsvL1Sector) != CSV_SECTOR_SIZE);

typedef struct QEMU_PACKED CsvL2PageEntry {
    uint64_t offset;
    uint32_t data;
    uint32_t zero;
} CsvL2PageEntry;
QEMU_BUILD_BUG_ON(sizeof(CsvL2PageEntry) != 16);

typedef struct QEMU_PACKED CsvL2Sector {
    CsvSectorHeader header;
    CsvL2PageEntry entry[CSV_L2_PER_SECTOR];
} CsvL2Sector;
QEMU_BUILD_BUG_ON(sizeof(CsvL2Sector) != CSV_SECTOR_SIZE);

typedef struct QEMU_PACKED CsvJournalPageEntry {
    uint32_t type;
    uint32_t reserved4;
    uint64_t index;
    CsvL2PageEntry value;
} CsvJournalPageEntry;
QEMU_BUILD_BUG_ON(sizeof(CsvJournalPageEntry) != 32);

typedef struct QEMU_PACKED CsvJournalPage {
    CsvPageHeader header;
    uint64_t epoch;
    uint32_t bytes;
    uint32_t entries;
    uint64_t tail;
    uint64_t reserved56;
    CsvJournalPageEntry entry[];
} CsvJournalPage;
QEMU_BUILD_BUG_ON(sizeof(CsvJournalPage) != 64);

/* The same in host byte order, after all checks. */

typedef struct CsvSuperblock {
    QemuUUID uuid;
    uint64_t incompatible;
    uint64_t compatible;
    uint64_t autoclear;
    uint64_t generation;
    uint64_t created;
    uint8_t segment_bits;
    uint32_t member_slots;
    uint32_t disk_slots;
    uint32_t disk_high;
    uint64_t segment_slots;
    uint64_t segment_count;
    uint64_t member_offset;
    uint64_t disk_offset;
    uint64_t segment_offset;
    uint64_t data_offset;
    char name[CSV_VOLUME_NAME_MAX + 1];
} CsvSuperblock;

typedef enum CsvMemberRecordState {
    CSV_MEMBER_UNUSED = 0,
    CSV_MEMBER_ACTIVE = 1,
    CSV_MEMBER_FENCED = 2,
} CsvMemberRecordState;

/* Autoclear features that this program knows, in any structure. */
#define CSV_AUTOCLEAR_KNOWN 0

typedef enum CsvLivenessKind {
    CSV_LIVENESS_BY_LOCK = 0,
    CSV_LIVENESS_BY_HEARTBEAT = 1,
} CsvLivenessKind;

typedef struct CsvMemberRecord {
    uint32_t slot;
    CsvMemberRecordState state;
    CsvLivenessKind liveness;
    uint64_t incarnation;
    uint64_t since;
    uint64_t beat;              /* this and the next two: heartbeat only */
    uint32_t beat_ms;
    uint32_t dead_ms;
    uint32_t pid;
    uint64_t pid_space;         /* that pid is from, or 0 */
    uint64_t pr_key;            /* SCSI reservation key, or 0 */
    QemuUUID host_id;
    QemuUUID boot_id;
    char host[CSV_HOST_NAME_MAX + 1];
    uint32_t use[CSV_MEMBER_USES];      /* CSV_USE_*; 0: unused entry */
} CsvMemberRecord;

typedef enum CsvDiskRecordState {
    CSV_RECORD_UNUSED = 0,
    CSV_RECORD_CREATING = 1,
    CSV_RECORD_FREE = 2,
    CSV_RECORD_OWNED = 3,
    CSV_RECORD_HANDOVER = 4,
    CSV_RECORD_DELETING = 5,
} CsvDiskRecordState;

typedef struct CsvDiskRecord {
    uint32_t slot;
    CsvDiskRecordState state;
    uint32_t flags;
    uint64_t epoch;
    uint32_t owner;
    uint64_t owner_incarnation;
    uint64_t since;
    uint64_t size;
    QemuUUID uuid;
    QemuUUID token;
    uint64_t first_segment;
    QemuUUID backing;           /* disk that must not be deleted, or zero */
    char name[CSV_DISK_NAME_MAX + 1];
    /*
     * If the last owner released the disk cleanly: its last journal record, so
     * that nothing has to be replayed, and the page of the ring for the next
     * one.  Sequence 0: unknown, the next owner scans the ring.
     */
    uint64_t journal_sequence;
    uint32_t journal_page;
    char description[CSV_DESCRIPTION_MAX + 1];
} CsvDiskRecord;

typedef struct CsvSegmentEntry {
    int64_t disk;               /* slot, or -1: the segment is free */
    uint32_t sequence;
} CsvSegmentEntry;

typedef struct CsvHeader {
    uint64_t compatible;
    uint64_t autoclear;
    uint64_t generation;
    /* The backing image: a disk of this volume, a file, or none. */
    QemuUUID backing;
    char backing_format[CSV_BACKING_FORMAT_MAX + 1];
    char backing_file[CSV_BACKING_FILE_MAX + 1];
    /* Copies from the disk record, to repair it; 0 and "": unknown. */
    uint64_t size;
    char name[CSV_DISK_NAME_MAX + 1];
} CsvHeader;

/*
 * An entry of a level-2 map.  Both masks are in one word, so that a reader gets
 * them in one load: data in bits 0 to 31, zero in bits 32 to 63.
 */
typedef struct CsvL2Entry {
    uint64_t offset;
    uint64_t masks;
} CsvL2Entry;

typedef enum CsvJournalType {
    CSV_JOURNAL_L2 = 1,         /* index is a cluster */
    CSV_JOURNAL_L1 = 2,         /* index is a table; value.masks is 0 */
} CsvJournalType;

typedef struct CsvJournalEntry {
    CsvJournalType type;
    uint64_t index;
    CsvL2Entry value;
} CsvJournalEntry;

typedef struct CsvJournalRecord {
    uint64_t sequence;
    uint64_t epoch;
    uint64_t tail;              /* oldest record that replay needs */
    uint32_t bytes;
    uint32_t entries;
} CsvJournalRecord;

/* The first page of the half of the ring that the owner of @epoch uses. */
static inline uint32_t csv_ring_first(uint64_t epoch)
{
    return epoch & 1 ? CSV_JOURNAL_HALF : 0;
}

/* @page if it is in the half that begins with page @first, else @first. */
static inline uint32_t csv_ring_at(uint32_t first, uint32_t page)
{
    return page >= first && page < first + CSV_JOURNAL_HALF ? page : first;
}

static inline uint32_t csv_masks_data(uint64_t masks)
{
    return masks;
}

static inline uint32_t csv_masks_zero(uint64_t masks)
{
    return masks >> 32;
}

static inline uint64_t csv_masks(uint32_t data, uint32_t zero)
{
    return data | (uint64_t)zero << 32;
}

/* Offset of a segment in the volume, in bytes. */
static inline uint64_t csv_segment_start(const CsvSuperblock *sb, uint64_t i)
{
    return sb->data_offset + (i << sb->segment_bits);
}

/* Pages that a table of so many segments takes. */
static inline uint64_t csv_segment_pages(uint64_t segments)
{
    return DIV_ROUND_UP(segments, CSV_SEGMENTS_PER_PAGE);
}

/*
 * A decoder takes a page as read from the volume and fills @out only if the
 * page passes every check; otherwise it returns false and sets @errp to a
 * message that names the structure, its number and the field.  Buffers have
 * CSV_RECORD_SIZE bytes for records, CSV_PAGE_SIZE for headers.  An encoder
 * fills the whole buffer, including the CRC; its input is trusted.
 */

/*
 * Does @buf, the first @bytes of an image, look like a volume?  False if @bytes
 * is less than CSV_RECORD_SIZE.
 */
bool csv_probe(const uint8_t *buf, size_t bytes);

/*
 * True if the page is damaged: its magic or CRC is wrong.  A page that is not
 * damaged and cannot be decoded is another program's, and must not be replaced.
 */
bool csv_superblock_damaged(const uint8_t *buf);
bool csv_superblock_decode(const uint8_t *buf, unsigned copy,
                           CsvSuperblock *out, Error **errp);
void csv_superblock_encode(const CsvSuperblock *in, unsigned copy,
                           uint8_t *buf);

bool csv_member_decode(const uint8_t *buf, const CsvSuperblock *sb,
                       uint32_t slot, CsvMemberRecord *out, Error **errp);
void csv_member_encode(const CsvMemberRecord *in, const CsvSuperblock *sb,
                       uint8_t *buf);

/* As csv_superblock_damaged(), for a disk record. */
bool csv_disk_damaged(const uint8_t *buf, const CsvSuperblock *sb,
                      uint32_t slot);
bool csv_disk_decode(const uint8_t *buf, const CsvSuperblock *sb,
                     uint32_t slot, CsvDiskRecord *out, Error **errp);
void csv_disk_encode(const CsvDiskRecord *in, const CsvSuperblock *sb,
                     uint8_t *buf);

/* @entry has CSV_SEGMENTS_PER_PAGE elements; CSV_RECORD_SIZE bytes at @buf. */
bool csv_segments_decode(const uint8_t *buf, const CsvSuperblock *sb,
                         uint64_t page, CsvSegmentEntry *entry, Error **errp);
void csv_segments_encode(const CsvSegmentEntry *entry, const CsvSuperblock *sb,
                         uint64_t page, uint8_t *buf);

/* Set slot and UUID of @disk from a header, without any check. */
void csv_header_whose(const uint8_t *buf, CsvDiskRecord *disk);
/* @copy: 0 or 1. */
bool csv_header_decode(const uint8_t *buf, const CsvDiskRecord *disk,
                       unsigned copy, CsvHeader *out, Error **errp);
void csv_header_encode(const CsvHeader *in, const CsvDiskRecord *disk,
                       unsigned copy, uint8_t *buf);

/*
 * Map sectors, of CSV_SECTOR_SIZE bytes.  Level-2 sectors are numbered through
 * all tables.  Decoding checks alignment, and that masks do not overlap.  The
 * caller checks that offsets are in the disk's segments, and what is past the
 * end of the disk.
 */
bool csv_l1_decode(const uint8_t *buf, const QemuUUID *disk, uint64_t sector,
                   uint64_t table[CSV_L1_PER_SECTOR], Error **errp);
void csv_l1_encode(const uint64_t table[CSV_L1_PER_SECTOR],
                   const QemuUUID *disk, uint64_t sector, uint8_t *buf);
bool csv_l2_decode(const uint8_t *buf, const QemuUUID *disk, uint64_t sector,
                   CsvL2Entry entry[CSV_L2_PER_SECTOR], Error **errp);
void csv_l2_encode(const CsvL2Entry entry[CSV_L2_PER_SECTOR],
                   const QemuUUID *disk, uint64_t sector, uint8_t *buf);

/*
 * Journal records.  The record is at the start of @buf, which has @room bytes.
 * Decoding checks the header, the CRC and every entry.
 */
bool csv_journal_decode(const uint8_t *buf, size_t room,
                        const QemuUUID *disk, CsvJournalRecord *out,
                        Error **errp);
/* Get entry @i of a record that csv_journal_decode() accepted. */
void csv_journal_entry(const uint8_t *buf, uint32_t i, CsvJournalEntry *out);
/* Set entry @i of the record under construction in @buf. */
void csv_journal_put(uint8_t *buf, uint32_t i, const CsvJournalEntry *in);
/* Size of a record with @entries entries, in bytes; a multiple of a page. */
uint32_t csv_journal_bytes(uint32_t entries);
/* Add header and CRC to a record; @in->bytes must match @in->entries. */
void csv_journal_encode(const CsvJournalRecord *in, const QemuUUID *disk,
                        uint8_t *buf);

/*
 * Is @name a valid disk name: 1 to 255 bytes of UTF-8 without control
 * characters?  Sets @errp if not.
 */
bool csv_disk_name_check(const char *name, Error **errp);
/* The same for a description, of 0 to 95 bytes. */
bool csv_description_check(const char *text, Error **errp);
/* The same for the name of a backing file, of 0 to 1023 bytes. */
bool csv_backing_file_check(const char *text, Error **errp);

#endif /* BLOCK_CSV_FORMAT_H */
