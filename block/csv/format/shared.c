/*
 * Cluster shared volume: codec for shared records
 *
 * See docs/interop/csv.rst for the format.  Everything that is read from a
 * volume is checked here, so that higher layers need not check it again.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/crc32c.h"
#include "qemu/cutils.h"
#include "format.h"
#include "format-int.h"

static const uint8_t csv_signature[16] = "qemu-csv volume\n";

bool csv_bad(const CsvDecode *c, const char *field, const char *fmt, ...)
{
    g_autofree char *why = NULL;
    va_list ap;

    va_start(ap, fmt);
    why = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    error_setg(c->errp, "%s %" PRIu64 ": field '%s': %s",
               c->what, c->number, field, why);
    return false;
}

bool csv_valid_version(const CsvDecode *c, uint32_t version)
{
    if (version == CSV_VERSION_DRAFT) {
        return csv_bad(c, "version", "%" PRIu32 " is a draft of the format, "
                       "which this QEMU cannot read; use the QEMU "
                       "that wrote it to copy the disks to other images "
                       "(qemu-img convert), and copy those into a new volume",
                       version);
    }
    if (version != CSV_VERSION) {
        return csv_bad(c, "version", "%" PRIu32 " is unknown; use a "
                       "newer QEMU", version);
    }
    return true;
}

bool csv_valid_counter(const CsvDecode *c, const char *field, uint64_t value)
{
    if (value > INT64_MAX) {
        return csv_bad(c, field, "%" PRIu64 " exceeds INT64_MAX", value);
    }
    return true;
}

uint32_t csv_crc(const uint8_t *buf, size_t bytes)
{
    static const uint8_t none[4];
    const struct iovec iov[] = {
        { (void *)buf, offsetof(CsvPageHeader, crc) },
        { (void *)none, sizeof(none) },
        { (void *)(buf + offsetof(CsvPageHeader, uuid)),
          bytes - offsetof(CsvPageHeader, uuid) },
    };

    return iov_crc32c(0xffffffff, iov, ARRAY_SIZE(iov));
}

void csv_seal(uint8_t *buf, size_t bytes, CsvMagic magic,
              const QemuUUID *uuid, uint64_t number)
{
    CsvPageHeader *h = (CsvPageHeader *)buf;

    h->magic = cpu_to_le32(magic);
    memcpy(h->uuid, uuid->data, sizeof(h->uuid));
    h->number = cpu_to_le64(number);
    h->crc = cpu_to_le32(csv_crc(buf, bytes));
}

bool csv_valid_header(const CsvDecode *c, const uint8_t *buf, size_t bytes,
                      CsvMagic magic, const QemuUUID *uuid)
{
    const CsvPageHeader *h = (const CsvPageHeader *)buf;

    if (le32_to_cpu(h->magic) != magic) {
        return csv_bad(c, "magic", "is 0x%08" PRIx32 ", not 0x%08" PRIx32,
                       le32_to_cpu(h->magic), (uint32_t)magic);
    }
    if (le32_to_cpu(h->crc) != csv_crc(buf, bytes) &&
        !(csv_break(CSV_BREAK_NO_CRC) && magic == CSV_MAGIC_JOURNAL)) {
        return csv_bad(c, "crc", "is 0x%08" PRIx32 ", the page says 0x%08"
                       PRIx32, csv_crc(buf, bytes), le32_to_cpu(h->crc));
    }
    if (uuid && memcmp(h->uuid, uuid->data, sizeof(h->uuid))) {
        return csv_bad(c, "uuid", "is that of another volume or disk");
    }
    if (le64_to_cpu(h->number) != c->number) {
        return csv_bad(c, "number", "is %" PRIu64, le64_to_cpu(h->number));
    }
    return true;
}

bool csv_text_ok(const char *text, size_t room, size_t max)
{
    size_t len = strnlen(text, room);
    size_t i;

    if (len > max || !g_utf8_validate(text, len, NULL)) {
        return false;
    }
    for (i = 0; i < len; i++) {
        if ((uint8_t)text[i] < 0x20 || text[i] == 0x7f) {
            return false;
        }
    }
    return buffer_is_zero(text + len, room - len);
}

bool csv_disk_name_check(const char *name, Error **errp)
{
    size_t len = strlen(name);

    if (len == 0 || len > CSV_DISK_NAME_MAX || !csv_text_ok(name, len, len)) {
        error_setg(errp, "'%s' cannot be the name of a csv disk: a name has "
                   "1 to %d bytes of UTF-8 without control characters",
                   name, CSV_DISK_NAME_MAX);
        return false;
    }
    return true;
}

static bool csv_text_check(const char *what, const char *text, size_t max,
                           Error **errp)
{
    size_t len = strlen(text);

    if (len > max || !csv_text_ok(text, len, len)) {
        error_setg(errp, "'%s' cannot be the %s of a csv disk: it has up to "
                   "%zu bytes of UTF-8 without control characters",
                   text, what, max);
        return false;
    }
    return true;
}

bool csv_description_check(const char *text, Error **errp)
{
    return csv_text_check("description", text, CSV_DESCRIPTION_MAX, errp);
}

bool csv_backing_file_check(const char *text, Error **errp)
{
    return csv_text_check("backing file", text, CSV_BACKING_FILE_MAX, errp);
}

bool csv_probe(const uint8_t *buf, size_t bytes)
{
    const CsvSuperblockPage *p = (const CsvSuperblockPage *)buf;

    return bytes >= sizeof(*p) &&
           le32_to_cpu(p->header.magic) == CSV_MAGIC_SUPERBLOCK &&
           !memcmp(p->signature, csv_signature, sizeof(csv_signature));
}

/* Check that a table is between the superblocks and the data. */
static bool csv_valid_table(const CsvDecode *c, const char *field,
                            uint64_t offset, uint64_t pages,
                            const CsvSuperblock *sb)
{
    if (offset % CSV_PAGE_SIZE) {
        return csv_bad(c, field, "%" PRIu64 " is not a multiple of %d",
                       offset, CSV_PAGE_SIZE);
    }
    if (offset < CSV_TABLES_OFFSET || offset > sb->data_offset ||
        pages * CSV_PAGE_SIZE > sb->data_offset - offset) {
        return csv_bad(c, field, "the table at %" PRIu64 " with %" PRIu64
                       " pages is not between %" PRIu64 " and the data at %"
                       PRIu64, offset, pages, (uint64_t)CSV_TABLES_OFFSET,
                       sb->data_offset);
    }
    return true;
}

static bool csv_overlap(uint64_t a, uint64_t a_pages,
                        uint64_t b, uint64_t b_pages)
{
    return a < b + b_pages * CSV_PAGE_SIZE && b < a + a_pages * CSV_PAGE_SIZE;
}

static bool csv_valid_counts(const CsvDecode *c, const CsvSuperblock *sb)
{
    uint64_t room;

    if (sb->member_slots < 1 || sb->member_slots > CSV_MAX_MEMBERS) {
        return csv_bad(c, "member_slots", "%" PRIu32 " is not in 1 to %d",
                       sb->member_slots, CSV_MAX_MEMBERS);
    }
    if (sb->disk_slots < 1 || sb->disk_slots > CSV_MAX_DISKS) {
        return csv_bad(c, "disk_slots", "%" PRIu32 " is not in 1 to %d",
                       sb->disk_slots, CSV_MAX_DISKS);
    }
    if (sb->disk_high > sb->disk_slots) {
        return csv_bad(c, "disk_high", "%" PRIu32 " is above disk_slots",
                       sb->disk_high);
    }
    if (sb->segment_slots < 1 || sb->segment_slots > CSV_MAX_SEGMENTS) {
        return csv_bad(c, "segment_slots", "%" PRIu64 " is not in 1 to %"
                       PRIu64, sb->segment_slots, (uint64_t)CSV_MAX_SEGMENTS);
    }
    if (sb->data_offset % CSV_CLUSTER_SIZE ||
        sb->data_offset < CSV_TABLES_OFFSET ||
        sb->data_offset > CSV_MAX_VOLUME_SIZE) {
        return csv_bad(c, "data_offset", "%" PRIu64 " is not a multiple of %"
                       PRIu64 " in the volume", sb->data_offset,
                       (uint64_t)CSV_CLUSTER_SIZE);
    }
    room = (CSV_MAX_VOLUME_SIZE - sb->data_offset) >> sb->segment_bits;
    if (sb->segment_count > sb->segment_slots || sb->segment_count > room) {
        return csv_bad(c, "segment_count", "%" PRIu64 " is more than the "
                       "table or a volume can hold", sb->segment_count);
    }
    return true;
}

static bool csv_valid_layout(const CsvDecode *c, const CsvSuperblock *sb)
{
    uint64_t pages = csv_segment_pages(sb->segment_slots);

    if (!csv_valid_table(c, "member_offset", sb->member_offset,
                         sb->member_slots, sb) ||
        !csv_valid_table(c, "disk_offset", sb->disk_offset,
                         sb->disk_slots, sb) ||
        !csv_valid_table(c, "segment_offset", sb->segment_offset, pages, sb)) {
        return false;
    }
    if (csv_overlap(sb->member_offset, sb->member_slots,
                    sb->disk_offset, sb->disk_slots)) {
        return csv_bad(c, "disk_offset", "the table overlaps the members'");
    }
    if (csv_overlap(sb->member_offset, sb->member_slots,
                    sb->segment_offset, pages) ||
        csv_overlap(sb->disk_offset, sb->disk_slots,
                    sb->segment_offset, pages)) {
        return csv_bad(c, "segment_offset", "the table overlaps another");
    }
    return true;
}

static bool csv_valid_format(const CsvDecode *c, const CsvSuperblockPage *p)
{
    if (memcmp(p->signature, csv_signature, sizeof(csv_signature))) {
        return csv_bad(c, "signature", "this is not a csv volume");
    }
    if (!csv_valid_version(c, le32_to_cpu(p->version))) {
        return false;
    }
    if (p->incompatible) {
        return csv_bad(c, "incompatible", "unknown features 0x%" PRIx64
                       "; use a newer QEMU",
                       le64_to_cpu(p->incompatible));
    }
    if (p->segment_bits < CSV_MIN_SEGMENT_BITS ||
        p->segment_bits > CSV_MAX_SEGMENT_BITS) {
        return csv_bad(c, "segment_bits", "%u is not in %d to %d",
                       p->segment_bits, CSV_MIN_SEGMENT_BITS,
                       CSV_MAX_SEGMENT_BITS);
    }
    if (p->cluster_bits != CSV_CLUSTER_BITS) {
        return csv_bad(c, "cluster_bits", "%u is not %d", p->cluster_bits,
                       CSV_CLUSTER_BITS);
    }
    if (p->subcluster_bits != CSV_SUBCLUSTER_BITS) {
        return csv_bad(c, "subcluster_bits", "%u is not %d",
                       p->subcluster_bits, CSV_SUBCLUSTER_BITS);
    }
    if (!csv_text_ok(p->name, sizeof(p->name), CSV_VOLUME_NAME_MAX)) {
        return csv_bad(c, "name", "is not padded UTF-8 text");
    }
    return true;
}

bool csv_superblock_damaged(const uint8_t *buf)
{
    const CsvPageHeader *h = (const CsvPageHeader *)buf;

    return le32_to_cpu(h->magic) != CSV_MAGIC_SUPERBLOCK ||
           le32_to_cpu(h->crc) != csv_crc(buf, CSV_RECORD_SIZE);
}

bool csv_superblock_decode(const uint8_t *buf, unsigned copy,
                           CsvSuperblock *out, Error **errp)
{
    const CsvSuperblockPage *p = (const CsvSuperblockPage *)buf;
    const CsvDecode c = { "superblock", copy, errp };
    CsvSuperblock sb = {
        .incompatible = le64_to_cpu(p->incompatible),
        .compatible = le64_to_cpu(p->compatible),
        .autoclear = le64_to_cpu(p->autoclear),
        .generation = le64_to_cpu(p->generation),
        .created = le64_to_cpu(p->created),
        .segment_bits = p->segment_bits,
        .member_slots = le32_to_cpu(p->member_slots),
        .disk_slots = le32_to_cpu(p->disk_slots),
        .disk_high = le32_to_cpu(p->disk_high),
        .segment_slots = le64_to_cpu(p->segment_slots),
        .segment_count = le64_to_cpu(p->segment_count),
        .member_offset = le64_to_cpu(p->member_offset),
        .disk_offset = le64_to_cpu(p->disk_offset),
        .segment_offset = le64_to_cpu(p->segment_offset),
        .data_offset = le64_to_cpu(p->data_offset),
    };

    if (!csv_valid_header(&c, buf, CSV_RECORD_SIZE, CSV_MAGIC_SUPERBLOCK,
                          NULL) ||
        !csv_valid_format(&c, p) || !csv_valid_counts(&c, &sb) ||
        !csv_valid_layout(&c, &sb) ||
        !csv_valid_counter(&c, "generation", sb.generation)) {
        return false;
    }
    memcpy(sb.uuid.data, p->header.uuid, sizeof(sb.uuid.data));
    memcpy(sb.name, p->name, sizeof(sb.name));
    if (qemu_uuid_is_null(&sb.uuid)) {
        return csv_bad(&c, "uuid", "is zero");
    }
    *out = sb;
    return true;
}

void csv_superblock_encode(const CsvSuperblock *in, unsigned copy,
                           uint8_t *buf)
{
    CsvSuperblockPage *p = (CsvSuperblockPage *)buf;

    memset(p, 0, sizeof(*p));
    memcpy(p->signature, csv_signature, sizeof(csv_signature));
    p->version = cpu_to_le32(CSV_VERSION);
    p->incompatible = cpu_to_le64(in->incompatible);
    p->compatible = cpu_to_le64(in->compatible);
    p->autoclear = cpu_to_le64(in->autoclear);
    p->generation = cpu_to_le64(in->generation);
    p->created = cpu_to_le64(in->created);
    p->segment_bits = in->segment_bits;
    p->cluster_bits = CSV_CLUSTER_BITS;
    p->subcluster_bits = CSV_SUBCLUSTER_BITS;
    p->member_slots = cpu_to_le32(in->member_slots);
    p->disk_slots = cpu_to_le32(in->disk_slots);
    p->disk_high = cpu_to_le32(in->disk_high);
    p->segment_slots = cpu_to_le64(in->segment_slots);
    p->segment_count = cpu_to_le64(in->segment_count);
    p->member_offset = cpu_to_le64(in->member_offset);
    p->disk_offset = cpu_to_le64(in->disk_offset);
    p->segment_offset = cpu_to_le64(in->segment_offset);
    p->data_offset = cpu_to_le64(in->data_offset);
    pstrcpy(p->name, sizeof(p->name), in->name);
    csv_seal(buf, CSV_RECORD_SIZE, CSV_MAGIC_SUPERBLOCK, &in->uuid, copy);
}

/* Check entry @i of field use. */
static bool csv_valid_use(const CsvDecode *c, unsigned i, uint32_t use,
                          const CsvSuperblock *sb)
{
    uint32_t slot = use & CSV_USE_SLOT;

    if (use & ~(CSV_USE_SLOT | CSV_USE_WRITE)) {
        return csv_bad(c, "use", "entry %u: 0x%" PRIx32 " has unknown bits",
                       i, use);
    }
    if (use && (slot == 0 || slot > sb->disk_slots)) {
        return csv_bad(c, "use", "entry %u: 0x%" PRIx32 " names no disk", i,
                       use);
    }
    return true;
}

bool csv_member_decode(const uint8_t *buf, const CsvSuperblock *sb,
                       uint32_t slot, CsvMemberRecord *out, Error **errp)
{
    const CsvMemberPage *p = (const CsvMemberPage *)buf;
    const CsvDecode c = { "member record", slot, errp };
    uint32_t state = le32_to_cpu(p->state);
    uint32_t liveness = le32_to_cpu(p->liveness);
    unsigned i;

    if (buffer_is_zero(buf, CSV_RECORD_SIZE)) {
        *out = (CsvMemberRecord) { .slot = slot };
        return true;
    }
    if (!csv_valid_header(&c, buf, CSV_RECORD_SIZE, CSV_MAGIC_MEMBER,
                          &sb->uuid)) {
        return false;
    }
    if (state > CSV_MEMBER_FENCED) {
        return csv_bad(&c, "state", "%" PRIu32 " is unknown", state);
    }
    if (liveness > CSV_LIVENESS_BY_HEARTBEAT) {
        return csv_bad(&c, "liveness", "%" PRIu32 " is unknown", liveness);
    }
    if (!csv_text_ok(p->host, sizeof(p->host), CSV_HOST_NAME_MAX)) {
        return csv_bad(&c, "host", "is not padded UTF-8 text");
    }
    if (p->incarnation == 0) {
        return csv_bad(&c, "incarnation", "is zero");
    }
    if (!csv_valid_counter(&c, "incarnation", le64_to_cpu(p->incarnation))) {
        return false;
    }
    for (i = 0; i < CSV_MEMBER_USES; i++) {
        if (!csv_valid_use(&c, i, le32_to_cpu(p->use[i]), sb)) {
            return false;
        }
    }
    *out = (CsvMemberRecord) {
        .slot = slot,
        .state = state,
        .liveness = liveness,
        .incarnation = le64_to_cpu(p->incarnation),
        .since = le64_to_cpu(p->since),
        .beat = le64_to_cpu(p->beat),
        .beat_ms = le32_to_cpu(p->beat_ms),
        .dead_ms = le32_to_cpu(p->dead_ms),
        .pid = le32_to_cpu(p->pid),
        .pr_key = le64_to_cpu(p->pr_key),
        .pid_space = le64_to_cpu(p->pid_space),
    };
    memcpy(out->host_id.data, p->host_id, sizeof(p->host_id));
    memcpy(out->boot_id.data, p->boot_id, sizeof(p->boot_id));
    memcpy(out->host, p->host, sizeof(p->host));
    for (i = 0; i < CSV_MEMBER_USES; i++) {
        out->use[i] = le32_to_cpu(p->use[i]);
    }
    return true;
}

void csv_member_encode(const CsvMemberRecord *in, const CsvSuperblock *sb,
                       uint8_t *buf)
{
    CsvMemberPage *p = (CsvMemberPage *)buf;
    unsigned i;

    memset(p, 0, sizeof(*p));
    p->state = cpu_to_le32(in->state);
    p->liveness = cpu_to_le32(in->liveness);
    p->incarnation = cpu_to_le64(in->incarnation);
    p->since = cpu_to_le64(in->since);
    p->beat = cpu_to_le64(in->beat);
    p->beat_ms = cpu_to_le32(in->beat_ms);
    p->dead_ms = cpu_to_le32(in->dead_ms);
    p->pid = cpu_to_le32(in->pid);
    p->pr_key = cpu_to_le64(in->pr_key);
    p->pid_space = cpu_to_le64(in->pid_space);
    memcpy(p->host_id, in->host_id.data, sizeof(p->host_id));
    memcpy(p->boot_id, in->boot_id.data, sizeof(p->boot_id));
    pstrcpy(p->host, sizeof(p->host), in->host);
    for (i = 0; i < CSV_MEMBER_USES; i++) {
        p->use[i] = cpu_to_le32(in->use[i]);
    }
    csv_seal(buf, CSV_RECORD_SIZE, CSV_MAGIC_MEMBER, &sb->uuid, in->slot);
}

static bool csv_valid_disk(const CsvDecode *c, const CsvDiskPage *p,
                           const CsvSuperblock *sb)
{
    uint32_t state = le32_to_cpu(p->state);
    uint64_t size = le64_to_cpu(p->size);
    uint64_t first = le64_to_cpu(p->first_segment);
    uint16_t name_bytes = le16_to_cpu(p->name_bytes);
    bool has_owner = state != CSV_RECORD_FREE;
    bool whole = state == CSV_RECORD_FREE || state == CSV_RECORD_OWNED ||
                 state == CSV_RECORD_HANDOVER;

    if (state > CSV_RECORD_DELETING) {
        return csv_bad(c, "state", "%" PRIu32 " is unknown", state);
    }
    if (state == CSV_RECORD_UNUSED) {
        return true;
    }
    if (le32_to_cpu(p->flags) & ~CSV_DISK_FLAGS) {
        return csv_bad(c, "flags", "0x%" PRIx32 " are unknown; use a "
                       "newer QEMU", le32_to_cpu(p->flags));
    }
    if (state == CSV_RECORD_OWNED || state == CSV_RECORD_HANDOVER) {
        if (state == CSV_RECORD_HANDOVER && p->flags) {
            return csv_bad(c, "flags", "a sealed or shared disk cannot be "
                           "handed over");
        }
        if (p->epoch == 0) {
            return csv_bad(c, "epoch", "is zero, but the disk was claimed");
        }
    }
    if (!csv_valid_counter(c, "epoch", le64_to_cpu(p->epoch)) ||
        !csv_valid_counter(c, "owner_incarnation",
                           le64_to_cpu(p->owner_incarnation)) ||
        !csv_valid_counter(c, "journal_sequence",
                           le64_to_cpu(p->journal_sequence))) {
        return false;
    }
    if (has_owner && p->owner_incarnation == 0) {
        return csv_bad(c, "owner_incarnation", "is zero");
    }
    if (le32_to_cpu(p->owner) >= sb->member_slots) {
        return csv_bad(c, "owner", "there is no member %" PRIu32,
                       le32_to_cpu(p->owner));
    }
    if (size % 512 || size > CSV_MAX_DISK_SIZE) {
        return csv_bad(c, "size", "%" PRIu64 " is not a multiple of 512 up to "
                       "%" PRIu64, size, (uint64_t)CSV_MAX_DISK_SIZE);
    }
    if (first >= sb->segment_slots && (whole || first != CSV_NO_SEGMENT)) {
        return csv_bad(c, "first_segment", "there is no segment %" PRIu64,
                       first);
    }
    if (name_bytes < 1 || name_bytes > CSV_DISK_NAME_MAX ||
        strnlen(p->name, sizeof(p->name)) != name_bytes) {
        return csv_bad(c, "name_bytes", "%u is not the length of the name",
                       name_bytes);
    }
    if (!csv_text_ok(p->name, sizeof(p->name), CSV_DISK_NAME_MAX)) {
        return csv_bad(c, "name", "is not padded UTF-8 text");
    }
    if (!csv_text_ok(p->description, sizeof(p->description),
                     CSV_DESCRIPTION_MAX)) {
        return csv_bad(c, "description", "is not padded UTF-8 text");
    }
    if (le32_to_cpu(p->journal_page) >= CSV_JOURNAL_PAGES) {
        return csv_bad(c, "journal_page", "%" PRIu32 " is past the ring",
                       le32_to_cpu(p->journal_page));
    }
    if (buffer_is_zero(p->uuid, sizeof(p->uuid))) {
        return csv_bad(c, "uuid", "is zero");
    }
    if (state == CSV_RECORD_HANDOVER) {
        if (buffer_is_zero(p->token, sizeof(p->token))) {
            return csv_bad(c, "token", "is zero in a hand-over");
        }
    } else if (!buffer_is_zero(p->token, sizeof(p->token))) {
        return csv_bad(c, "token", "is set outside a hand-over");
    }
    return true;
}

bool csv_disk_damaged(const uint8_t *buf, const CsvSuperblock *sb,
                      uint32_t slot)
{
    const CsvDecode c = { "disk record", slot, NULL };

    return !csv_valid_header(&c, buf, CSV_RECORD_SIZE, CSV_MAGIC_DISK,
                             &sb->uuid);
}

bool csv_disk_decode(const uint8_t *buf, const CsvSuperblock *sb,
                     uint32_t slot, CsvDiskRecord *out, Error **errp)
{
    const CsvDiskPage *p = (const CsvDiskPage *)buf;
    const CsvDecode c = { "disk record", slot, errp };

    if (buffer_is_zero(buf, CSV_RECORD_SIZE)) {
        *out = (CsvDiskRecord) { .slot = slot };
        return true;
    }
    if (!csv_valid_header(&c, buf, CSV_RECORD_SIZE, CSV_MAGIC_DISK,
                          &sb->uuid) ||
        !csv_valid_disk(&c, p, sb)) {
        return false;
    }
    *out = (CsvDiskRecord) {
        .slot = slot,
        .state = le32_to_cpu(p->state),
        .flags = le32_to_cpu(p->flags),
        .epoch = le64_to_cpu(p->epoch),
        .owner = le32_to_cpu(p->owner),
        .owner_incarnation = le64_to_cpu(p->owner_incarnation),
        .since = le64_to_cpu(p->since),
        .size = le64_to_cpu(p->size),
        .first_segment = le64_to_cpu(p->first_segment),
        .journal_sequence = le64_to_cpu(p->journal_sequence),
        .journal_page = le32_to_cpu(p->journal_page),
    };
    memcpy(out->uuid.data, p->uuid, sizeof(p->uuid));
    memcpy(out->token.data, p->token, sizeof(p->token));
    memcpy(out->backing.data, p->backing, sizeof(p->backing));
    if (out->state != CSV_RECORD_UNUSED) {
        memcpy(out->name, p->name, sizeof(p->name));
        memcpy(out->description, p->description, sizeof(p->description));
    }
    return true;
}

void csv_disk_encode(const CsvDiskRecord *in, const CsvSuperblock *sb,
                     uint8_t *buf)
{
    CsvDiskPage *p = (CsvDiskPage *)buf;

    memset(p, 0, sizeof(*p));
    p->state = cpu_to_le32(in->state);
    p->flags = cpu_to_le32(in->flags);
    p->epoch = cpu_to_le64(in->epoch);
    p->owner = cpu_to_le32(in->owner);
    p->owner_incarnation = cpu_to_le64(in->owner_incarnation);
    p->since = cpu_to_le64(in->since);
    p->size = cpu_to_le64(in->size);
    p->first_segment = cpu_to_le64(in->first_segment);
    memcpy(p->uuid, in->uuid.data, sizeof(p->uuid));
    memcpy(p->token, in->token.data, sizeof(p->token));
    memcpy(p->backing, in->backing.data, sizeof(p->backing));
    p->name_bytes = cpu_to_le16(strlen(in->name));
    pstrcpy(p->name, sizeof(p->name), in->name);
    p->journal_sequence = cpu_to_le64(in->journal_sequence);
    p->journal_page = cpu_to_le32(in->journal_page);
    pstrcpy(p->description, sizeof(p->description), in->description);
    csv_seal(buf, CSV_RECORD_SIZE, CSV_MAGIC_DISK, &sb->uuid, in->slot);
}

bool csv_segments_decode(const uint8_t *buf, const CsvSuperblock *sb,
                         uint64_t page, CsvSegmentEntry *entry, Error **errp)
{
    const CsvSegmentPage *p = (const CsvSegmentPage *)buf;
    const CsvDecode c = { "segment table page", page, errp };
    bool virgin = buffer_is_zero(buf, CSV_RECORD_SIZE);
    unsigned i;

    if (!virgin && !csv_valid_header(&c, buf, CSV_RECORD_SIZE,
                                     CSV_MAGIC_SEGMENTS, &sb->uuid)) {
        return false;
    }
    for (i = 0; i < CSV_SEGMENTS_PER_PAGE; i++) {
        uint32_t disk = le32_to_cpu(p->entry[i].disk);
        uint32_t sequence = le32_to_cpu(p->entry[i].sequence);
        uint64_t segment = page * CSV_SEGMENTS_PER_PAGE + i;

        if (disk > sb->disk_slots) {
            return csv_bad(&c, "disk", "segment %" PRIu64 ": there is no disk "
                           "%" PRIu32, segment, disk - 1);
        }
        if (disk && segment >= sb->segment_slots) {
            return csv_bad(&c, "disk", "segment %" PRIu64 " is past the "
                           "volume's end", segment);
        }
        if (sequence >= sb->segment_slots || (!disk && sequence)) {
            return csv_bad(&c, "sequence", "segment %" PRIu64 ": %" PRIu32
                           " is not possible", segment, sequence);
        }
        entry[i].disk = (int64_t)disk - 1;
        entry[i].sequence = sequence;
    }
    return true;
}

void csv_segments_encode(const CsvSegmentEntry *entry, const CsvSuperblock *sb,
                         uint64_t page, uint8_t *buf)
{
    CsvSegmentPage *p = (CsvSegmentPage *)buf;
    unsigned i;

    memset(p, 0, sizeof(*p));
    for (i = 0; i < CSV_SEGMENTS_PER_PAGE; i++) {
        p->entry[i].disk = cpu_to_le32(entry[i].disk + 1);
        p->entry[i].sequence = cpu_to_le32(entry[i].sequence);
    }
    csv_seal(buf, CSV_RECORD_SIZE, CSV_MAGIC_SEGMENTS, &sb->uuid, page);
}
