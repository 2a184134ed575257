/*
 * Cluster shared volume: records, the only things that members change together
 *
 * csv_record_swap() is the only way in which shared metadata changes.  Its
 * users have one shape: read the record, decide, swap; when it changed
 * meanwhile, begin again.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/memalign.h"
#include "trace/trace-block_csv.h"
#include "volume.h"

/* Slots of a table that are read at once. */
#define CSV_ITER_SLOTS 256

int csv_record_read(BdrvChild *file, uint64_t offset, uint8_t *buf)
{
    return bdrv_pread(file, offset, CSV_RECORD_SIZE, buf, 0);
}

/*
 * A swap failed with @error, which leaves open whether the record was
 * written.  No two records are alike, so if it is there it is ours.
 */
static int GRAPH_RDLOCK
csv_record_settle(BdrvChild *file, uint64_t offset, const uint8_t *new,
                  int error)
{
    uint8_t buf[CSV_RECORD_SIZE];

    if (csv_record_read(file, offset, buf) < 0 ||
        memcmp(buf, new, sizeof(buf)) || bdrv_flush(file->bs) < 0) {
        return error;
    }
    return 0;
}

int csv_record_swap(CsvVolume *vol, BdrvChild *file, uint64_t offset,
                    const uint8_t *old, const uint8_t *new)
{
    uint8_t compare[CSV_PAGE_SIZE] = { 0 };
    uint8_t write[CSV_PAGE_SIZE] = { 0 };
    /* What the node needs may change, when it is reopened with O_DIRECT. */
    uint32_t block = MAX(CSV_RECORD_SIZE, file->bs->bl.request_alignment);
    int ret;

    memcpy(compare, old, CSV_RECORD_SIZE);
    memcpy(write, new, CSV_RECORD_SIZE);
    ret = bdrv_compare_and_write(file, offset, MIN(block, CSV_PAGE_SIZE),
                                 compare, write,
                                 csv_break(CSV_BREAK_SWAP_NOT_FLUSHED)
                                 ? 0 : BDRV_REQ_FUA);
    if (ret < 0 && ret != -EILSEQ && ret != -ENOTSUP) {
        ret = csv_record_settle(file, offset, new, ret);
    }
    trace_csv_record_swap(vol, offset, ret);
    return ret == -EILSEQ ? -EAGAIN : ret;
}

void csv_table_iter(CsvTableIter *it, BdrvChild *file, uint64_t offset,
                    uint32_t slots)
{
    *it = (CsvTableIter) {
        .file = file,
        .offset = offset,
        .slots = slots,
        .slot = UINT32_MAX,
    };
}

void csv_table_end(CsvTableIter *it)
{
    qemu_vfree(it->buf);
    it->buf = NULL;
}

int csv_table_next(CsvTableIter *it)
{
    uint32_t slot = it->slot + 1;
    int ret;

    if (slot >= it->slots) {
        csv_table_end(it);
        return 0;
    }
    if (!it->buf) {
        it->buf = qemu_blockalign(it->file->bs,
                                  MIN(CSV_ITER_SLOTS, it->slots) *
                                  CSV_PAGE_SIZE);
    }
    if (slot >= it->first + it->have) {
        it->first = slot;
        it->have = MIN(CSV_ITER_SLOTS, it->slots - slot);
        ret = bdrv_pread(it->file,
                         it->offset + (uint64_t)slot * CSV_PAGE_SIZE,
                         (int64_t)it->have * CSV_PAGE_SIZE, it->buf, 0);
        if (ret < 0) {
            csv_table_end(it);
            return ret;
        }
    }
    it->slot = slot;
    it->record = it->buf + (slot - it->first) * CSV_PAGE_SIZE;
    return 1;
}

static uint64_t csv_disk_offset(const CsvVolume *vol, uint32_t slot)
{
    return vol->sb.disk_offset + (uint64_t)slot * CSV_PAGE_SIZE;
}

CsvDiskState csv_disk_state(CsvDiskRecordState state)
{
    switch (state) {
    case CSV_RECORD_CREATING:
        return CSV_DISK_STATE_CREATING;
    case CSV_RECORD_OWNED:
        return CSV_DISK_STATE_OWNED;
    case CSV_RECORD_HANDOVER:
        return CSV_DISK_STATE_HANDOVER;
    case CSV_RECORD_DELETING:
        return CSV_DISK_STATE_DELETING;
    default:
        return CSV_DISK_STATE_FREE;
    }
}

int csv_disk_read(CsvVolume *vol, BdrvChild *file, uint32_t slot,
                  CsvDiskRecord *out, uint8_t *raw, Error **errp)
{
    ERRP_GUARD();
    int ret = csv_record_read(file, csv_disk_offset(vol, slot), raw);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read disk record %" PRIu32
                         " of csv volume '%s'", slot, csv_volume_label(vol));
        return ret;
    }
    if (!csv_disk_decode(raw, &vol->sb, slot, out, errp)) {
        error_prepend(errp, "csv volume '%s' is damaged: ",
                      csv_volume_label(vol));
        return -EINVAL;
    }
    return 0;
}

int csv_disk_swap(CsvVolume *vol, BdrvChild *file, const CsvDiskRecord *new,
                  uint8_t *raw)
{
    uint8_t buf[CSV_RECORD_SIZE];
    int ret;

    csv_disk_encode(new, &vol->sb, buf);
    ret = csv_record_swap(vol, file, csv_disk_offset(vol, new->slot), raw,
                          buf);
    if (ret >= 0) {
        memcpy(raw, buf, CSV_RECORD_SIZE);
    }
    return ret;
}
