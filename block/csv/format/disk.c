/*
 * Cluster shared volume: codec for the metadata in a disk's segments
 *
 * Encodes and decodes headers, map sectors and journal records.  See
 * docs/interop/csv.rst for the format.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/crc32c.h"
#include "qemu/cutils.h"
#include "format-int.h"

static bool csv_valid_geometry(const CsvDecode *c, const CsvHeaderPage *p)
{
    if (le64_to_cpu(p->l1_offset) != CSV_L1_OFFSET) {
        return csv_bad(c, "l1_offset", "is %" PRIu64,
                       le64_to_cpu(p->l1_offset));
    }
    if (le32_to_cpu(p->l1_pages) != CSV_L1_PAGES) {
        return csv_bad(c, "l1_pages", "is %" PRIu32,
                       le32_to_cpu(p->l1_pages));
    }
    if (le64_to_cpu(p->journal_offset) != CSV_JOURNAL_OFFSET) {
        return csv_bad(c, "journal_offset", "is %" PRIu64,
                       le64_to_cpu(p->journal_offset));
    }
    if (le64_to_cpu(p->journal_bytes) != CSV_JOURNAL_BYTES) {
        return csv_bad(c, "journal_bytes", "is %" PRIu64,
                       le64_to_cpu(p->journal_bytes));
    }
    return true;
}

/* Check a text field that has a separate length field. */
static bool csv_valid_text(const CsvDecode *c, const char *field,
                           const char *text, size_t room, uint16_t bytes)
{
    if (bytes >= room || strnlen(text, room) != bytes ||
        !csv_text_ok(text, room, bytes)) {
        return csv_bad(c, field, "%u is not the length of a text", bytes);
    }
    return true;
}

static bool csv_valid_backing(const CsvDecode *c, const CsvHeaderPage *p)
{
    bool backing = le64_to_cpu(p->incompatible) & CSV_INCOMPAT_BACKING;
    bool disk = !buffer_is_zero(p->backing, sizeof(p->backing));
    bool file = p->backing_file_bytes;

    if (!csv_valid_text(c, "backing_format_bytes", p->backing_format,
                        sizeof(p->backing_format),
                        le16_to_cpu(p->backing_format_bytes)) ||
        !csv_valid_text(c, "backing_file_bytes", p->backing_file,
                        sizeof(p->backing_file),
                        le16_to_cpu(p->backing_file_bytes))) {
        return false;
    }
    if (backing ? disk == file : disk || file) {
        return csv_bad(c, "incompatible", "the feature 'backing' is %s, and "
                       "the header names %s", backing ? "set" : "not set",
                       disk && file ? "two backing images" :
                       disk || file ? "a backing image" : "none");
    }
    return true;
}

/* Check the copies of fields of the disk record. */
static bool csv_valid_hints(const CsvDecode *c, const CsvHeaderPage *p)
{
    uint64_t size = le64_to_cpu(p->size);

    if (size % 512 || size > CSV_MAX_DISK_SIZE) {
        return csv_bad(c, "size", "%" PRIu64 " is not a multiple of 512 up to "
                       "%" PRIu64, size, (uint64_t)CSV_MAX_DISK_SIZE);
    }
    return csv_valid_text(c, "name_bytes", p->name, sizeof(p->name),
                          le16_to_cpu(p->name_bytes));
}

void csv_header_whose(const uint8_t *buf, CsvDiskRecord *disk)
{
    const CsvHeaderPage *p = (const CsvHeaderPage *)buf;

    disk->slot = le32_to_cpu(p->disk);
    memcpy(disk->uuid.data, p->header.uuid, sizeof(disk->uuid.data));
}

bool csv_header_decode(const uint8_t *buf, const CsvDiskRecord *disk,
                       unsigned copy, CsvHeader *out, Error **errp)
{
    const CsvHeaderPage *p = (const CsvHeaderPage *)buf;
    const CsvDecode c = { "disk header", copy, errp };
    uint64_t incompatible = le64_to_cpu(p->incompatible);

    if (!csv_valid_header(&c, buf, CSV_PAGE_SIZE, CSV_MAGIC_HEADER,
                          &disk->uuid)) {
        return false;
    }
    if (!csv_valid_version(&c, le32_to_cpu(p->version))) {
        return false;
    }
    if (incompatible & ~CSV_INCOMPAT_BACKING) {
        return csv_bad(&c, "incompatible", "unknown features 0x%" PRIx64
                       "; use a newer QEMU", incompatible);
    }
    if (le32_to_cpu(p->disk) != disk->slot) {
        return csv_bad(&c, "disk", "is %" PRIu32 ", not %" PRIu32,
                       le32_to_cpu(p->disk), disk->slot);
    }
    if (!csv_valid_counter(&c, "generation", le64_to_cpu(p->generation)) ||
        !csv_valid_geometry(&c, p) || !csv_valid_backing(&c, p) ||
        !csv_valid_hints(&c, p)) {
        return false;
    }
    *out = (CsvHeader) {
        .compatible = le64_to_cpu(p->compatible),
        .autoclear = le64_to_cpu(p->autoclear),
        .generation = le64_to_cpu(p->generation),
        .size = le64_to_cpu(p->size),
    };
    memcpy(out->backing.data, p->backing, sizeof(p->backing));
    memcpy(out->backing_format, p->backing_format, sizeof(p->backing_format));
    memcpy(out->backing_file, p->backing_file, sizeof(p->backing_file));
    memcpy(out->name, p->name, sizeof(p->name));
    return true;
}

void csv_header_encode(const CsvHeader *in, const CsvDiskRecord *disk,
                       unsigned copy, uint8_t *buf)
{
    CsvHeaderPage *p = (CsvHeaderPage *)buf;
    bool backing = in->backing_file[0] || !qemu_uuid_is_null(&in->backing);

    memset(p, 0, sizeof(*p));
    p->version = cpu_to_le32(CSV_VERSION);
    p->disk = cpu_to_le32(disk->slot);
    p->incompatible = cpu_to_le64(backing ? CSV_INCOMPAT_BACKING : 0);
    p->compatible = cpu_to_le64(in->compatible);
    p->autoclear = cpu_to_le64(in->autoclear);
    p->l1_offset = cpu_to_le64(CSV_L1_OFFSET);
    p->l1_pages = cpu_to_le32(CSV_L1_PAGES);
    p->journal_offset = cpu_to_le64(CSV_JOURNAL_OFFSET);
    p->journal_bytes = cpu_to_le64(CSV_JOURNAL_BYTES);
    p->generation = cpu_to_le64(in->generation);
    memcpy(p->backing, in->backing.data, sizeof(p->backing));
    p->backing_format_bytes = cpu_to_le16(strlen(in->backing_format));
    p->backing_file_bytes = cpu_to_le16(strlen(in->backing_file));
    pstrcpy(p->backing_format, sizeof(p->backing_format), in->backing_format);
    pstrcpy(p->backing_file, sizeof(p->backing_file), in->backing_file);
    p->size = cpu_to_le64(in->size);
    p->name_bytes = cpu_to_le16(strlen(in->name));
    pstrcpy(p->name, sizeof(p->name), in->name);
    csv_seal(buf, CSV_PAGE_SIZE, CSV_MAGIC_HEADER, &disk->uuid, copy);
}

/* The disk's UUID is not stored in a sector, but the CRC includes it. */
static uint32_t csv_sector_crc(const uint8_t *buf, const QemuUUID *disk)
{
    static const uint8_t none[4];
    const size_t crc = offsetof(CsvSectorHeader, crc);
    const size_t rest = crc + sizeof(none);
    const struct iovec iov[] = {
        { (void *)disk->data, sizeof(disk->data) },
        { (void *)buf, crc },
        { (void *)none, sizeof(none) },
        { (void *)(buf + rest), CSV_SECTOR_SIZE - rest },
    };

    return iov_crc32c(0xffffffff, iov, ARRAY_SIZE(iov));
}

static void csv_sector_seal(uint8_t *buf, CsvMagic magic,
                            const QemuUUID *disk, uint64_t number)
{
    CsvSectorHeader *h = (CsvSectorHeader *)buf;

    h->magic = cpu_to_le32(magic);
    h->number = cpu_to_le64(number);
    h->crc = cpu_to_le32(csv_sector_crc(buf, disk));
}

static bool csv_sector_check(const CsvDecode *c, const uint8_t *buf,
                             CsvMagic magic, const QemuUUID *disk)
{
    const CsvSectorHeader *h = (const CsvSectorHeader *)buf;

    if (le32_to_cpu(h->magic) != magic) {
        return csv_bad(c, "magic", "is 0x%08" PRIx32 ", not 0x%08" PRIx32,
                       le32_to_cpu(h->magic), (uint32_t)magic);
    }
    if (le32_to_cpu(h->crc) != csv_sector_crc(buf, disk)) {
        return csv_bad(c, "crc", "is 0x%08" PRIx32 ", the sector says 0x%08"
                       PRIx32, csv_sector_crc(buf, disk),
                       le32_to_cpu(h->crc));
    }
    if (le64_to_cpu(h->number) != c->number) {
        return csv_bad(c, "number", "is %" PRIu64, le64_to_cpu(h->number));
    }
    return true;
}

/* @i is the entry, for the message. */
static bool csv_valid_table_offset(const CsvDecode *c, unsigned i,
                                   uint64_t table, uint64_t offset)
{
    if (offset % CSV_L2_SIZE || offset > CSV_MAX_VOLUME_SIZE) {
        return csv_bad(c, "table", "entry %u: offset %" PRIu64 " is not a "
                       "multiple of %d in the volume", i, offset,
                       CSV_L2_SIZE);
    }
    if (offset && table >= CSV_MAX_L2_TABLES) {
        return csv_bad(c, "table", "entry %u is past the largest disk", i);
    }
    return true;
}

static bool csv_valid_entry(const CsvDecode *c, unsigned i,
                            const CsvL2Entry *e)
{
    uint32_t data = csv_masks_data(e->masks), zero = csv_masks_zero(e->masks);

    if (e->offset % CSV_CLUSTER_SIZE || e->offset > CSV_MAX_VOLUME_SIZE) {
        return csv_bad(c, "offset", "entry %u: %" PRIu64 " is not a "
                       "multiple of %" PRIu64 " in the volume", i, e->offset,
                       (uint64_t)CSV_CLUSTER_SIZE);
    }
    if (data && !e->offset) {
        return csv_bad(c, "data", "entry %u has data but no cluster", i);
    }
    if (data & zero) {
        return csv_bad(c, "zero", "entry %u: subclusters 0x%08" PRIx32
                       " are both data and zero", i, data & zero);
    }
    return true;
}

static CsvL2Entry csv_l2_entry_decode(const CsvL2PageEntry *p)
{
    return (CsvL2Entry) {
        .offset = le64_to_cpu(p->offset),
        .masks = csv_masks(le32_to_cpu(p->data), le32_to_cpu(p->zero)),
    };
}

static void csv_l2_entry_encode(const CsvL2Entry *e, CsvL2PageEntry *p)
{
    p->offset = cpu_to_le64(e->offset);
    p->data = cpu_to_le32(csv_masks_data(e->masks));
    p->zero = cpu_to_le32(csv_masks_zero(e->masks));
}

bool csv_l1_decode(const uint8_t *buf, const QemuUUID *disk, uint64_t sector,
                   uint64_t table[CSV_L1_PER_SECTOR], Error **errp)
{
    const CsvL1Sector *p = (const CsvL1Sector *)buf;
    const CsvDecode c = { "level-1 map sector", sector, errp };
    unsigned i;

    if (!csv_sector_check(&c, buf, CSV_MAGIC_L1, disk)) {
        return false;
    }
    for (i = 0; i < CSV_L1_PER_SECTOR; i++) {
        table[i] = le64_to_cpu(p->table[i]);
        if (!csv_valid_table_offset(&c, i, sector * CSV_L1_PER_SECTOR + i,
                                    table[i])) {
            return false;
        }
    }
    return true;
}

void csv_l1_encode(const uint64_t table[CSV_L1_PER_SECTOR],
                   const QemuUUID *disk, uint64_t sector, uint8_t *buf)
{
    CsvL1Sector *p = (CsvL1Sector *)buf;
    unsigned i;

    for (i = 0; i < CSV_L1_PER_SECTOR; i++) {
        p->table[i] = cpu_to_le64(table[i]);
    }
    csv_sector_seal(buf, CSV_MAGIC_L1, disk, sector);
}

bool csv_l2_decode(const uint8_t *buf, const QemuUUID *disk, uint64_t sector,
                   CsvL2Entry entry[CSV_L2_PER_SECTOR], Error **errp)
{
    const CsvL2Sector *p = (const CsvL2Sector *)buf;
    const CsvDecode c = { "level-2 map sector", sector, errp };
    unsigned i;

    if (!csv_sector_check(&c, buf, CSV_MAGIC_L2, disk)) {
        return false;
    }
    for (i = 0; i < CSV_L2_PER_SECTOR; i++) {
        entry[i] = csv_l2_entry_decode(&p->entry[i]);
        if (!csv_valid_entry(&c, i, &entry[i])) {
            return false;
        }
    }
    return true;
}

void csv_l2_encode(const CsvL2Entry entry[CSV_L2_PER_SECTOR],
                   const QemuUUID *disk, uint64_t sector, uint8_t *buf)
{
    CsvL2Sector *p = (CsvL2Sector *)buf;
    unsigned i;

    for (i = 0; i < CSV_L2_PER_SECTOR; i++) {
        csv_l2_entry_encode(&entry[i], &p->entry[i]);
    }
    csv_sector_seal(buf, CSV_MAGIC_L2, disk, sector);
}

uint32_t csv_journal_bytes(uint32_t entries)
{
    return ROUND_UP(sizeof(CsvJournalPage) +
                    entries * sizeof(CsvJournalPageEntry), CSV_PAGE_SIZE);
}

void csv_journal_entry(const uint8_t *buf, uint32_t i, CsvJournalEntry *out)
{
    const CsvJournalPageEntry *p = &((const CsvJournalPage *)buf)->entry[i];

    *out = (CsvJournalEntry) {
        .type = le32_to_cpu(p->type),
        .index = le64_to_cpu(p->index),
        .value = csv_l2_entry_decode(&p->value),
    };
}

void csv_journal_put(uint8_t *buf, uint32_t i, const CsvJournalEntry *in)
{
    CsvJournalPageEntry *p = &((CsvJournalPage *)buf)->entry[i];

    p->type = cpu_to_le32(in->type);
    p->reserved4 = 0;
    p->index = cpu_to_le64(in->index);
    csv_l2_entry_encode(&in->value, &p->value);
}

static bool csv_valid_journal_entry(const CsvDecode *c, unsigned i,
                                    const CsvJournalEntry *e)
{
    switch (e->type) {
    case CSV_JOURNAL_L2:
        if (e->index >= CSV_MAX_DISK_SIZE >> CSV_CLUSTER_BITS) {
            return csv_bad(c, "index", "entry %u: there is no cluster %"
                           PRIu64, i, e->index);
        }
        return csv_valid_entry(c, i, &e->value);
    case CSV_JOURNAL_L1:
        if (e->index >= CSV_MAX_L2_TABLES || !e->value.offset ||
            e->value.masks) {
            return csv_bad(c, "index", "entry %u: there is no table %"
                           PRIu64, i, e->index);
        }
        return csv_valid_table_offset(c, i, e->index, e->value.offset);
    default:
        return csv_bad(c, "type", "entry %u: %d is unknown", i, e->type);
    }
}

bool csv_journal_decode(const uint8_t *buf, size_t room,
                        const QemuUUID *disk, CsvJournalRecord *out,
                        Error **errp)
{
    const CsvJournalPage *p = (const CsvJournalPage *)buf;
    const CsvDecode c = {
        "journal record", le64_to_cpu(p->header.number), errp
    };
    CsvJournalRecord rec = {
        .sequence = c.number,
        .epoch = le64_to_cpu(p->epoch),
        .tail = le64_to_cpu(p->tail),
        .bytes = le32_to_cpu(p->bytes),
        .entries = le32_to_cpu(p->entries),
    };
    uint32_t i;

    if (le32_to_cpu(p->header.magic) != CSV_MAGIC_JOURNAL) {
        return csv_bad(&c, "magic", "this is not a journal record");
    }
    if (rec.entries > CSV_JOURNAL_ENTRIES_MAX ||
        rec.bytes != csv_journal_bytes(rec.entries) || rec.bytes > room) {
        return csv_bad(&c, "bytes", "%" PRIu32 " do not hold %" PRIu32
                       " entries", rec.bytes, rec.entries);
    }
    if (!csv_valid_header(&c, buf, rec.bytes, CSV_MAGIC_JOURNAL, disk)) {
        return false;
    }
    if (!csv_valid_counter(&c, "epoch", rec.epoch) ||
        !csv_valid_counter(&c, "number", rec.sequence)) {
        return false;
    }
    if (rec.sequence == 0 || rec.tail == 0 || rec.tail > rec.sequence) {
        return csv_bad(&c, "tail", "%" PRIu64 " is not possible", rec.tail);
    }
    for (i = 0; i < rec.entries; i++) {
        CsvJournalEntry e;

        csv_journal_entry(buf, i, &e);
        if (!csv_valid_journal_entry(&c, i, &e)) {
            return false;
        }
    }
    *out = rec;
    return true;
}

void csv_journal_encode(const CsvJournalRecord *in, const QemuUUID *disk,
                        uint8_t *buf)
{
    CsvJournalPage *p = (CsvJournalPage *)buf;
    size_t used = sizeof(*p) + in->entries * sizeof(p->entry[0]);

    p->epoch = cpu_to_le64(in->epoch);
    p->bytes = cpu_to_le32(in->bytes);
    p->entries = cpu_to_le32(in->entries);
    p->tail = cpu_to_le64(in->tail);
    p->reserved56 = 0;
    memset(buf + used, 0, in->bytes - used);
    csv_seal(buf, in->bytes, CSV_MAGIC_JOURNAL, disk, in->sequence);
}
