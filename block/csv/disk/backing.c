/*
 * Cluster shared volume: backing images
 *
 * The header names a disk of the same volume by its UUID, so that the disk can
 * be renamed and the volume moved.  The block layer opens it as a csv node on
 * the node that holds the volume.  Any other backing image is a file name, as
 * in other formats.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "disk.h"

/* Limit for a backing chain: bdrv_open() recurses for each disk. */
#define CSV_CHAIN_MAX 500

/* A file name by which the block layer opens disk @name of @file's volume. */
static char *csv_backing_name(BdrvChild *file, const char *name)
{
    g_autoptr(QDict) dict = qdict_new();
    g_autoptr(GString) json = NULL;

    qdict_put_str(dict, "driver", "csv");
    qdict_put_str(dict, "disk", name);
    qdict_put_str(dict, "file", bdrv_get_node_name(file->bs));
    json = qobject_to_json(QOBJECT(dict));
    return g_strdup_printf("json:%s", json->str);
}

int csv_backing_check_chain(const CsvDisk *disk, Error **errp)
{
    const BlockDriverState *bs;
    unsigned disks = 0;

    for (bs = disk->bs->inherits_from; bs; bs = bs->inherits_from) {
        const CsvDisk *above = bs->opaque;

        if (bs->drv != disk->bs->drv) {
            continue;
        }
        if (qemu_uuid_is_equal(&above->record.uuid, &disk->record.uuid)) {
            error_setg(errp, "Disk '%s' of csv volume '%s' is based on "
                       "itself; give it another backing image with qemu-img "
                       "rebase -u", disk->record.name,
                       csv_volume_label(disk->volume));
            return -ELOOP;
        }
        if (++disks == CSV_CHAIN_MAX) {
            error_setg(errp, "Disk '%s' of csv volume '%s' is at the end of a "
                       "chain of more than %d disks; make it shorter with "
                       "qemu-img commit or qemu-img rebase",
                       disk->record.name, csv_volume_label(disk->volume),
                       CSV_CHAIN_MAX);
            return -ELOOP;
        }
    }
    return 0;
}

int csv_backing_open(BlockDriverState *bs, Error **errp)
{
    CsvDisk *disk = bs->opaque;
    g_autofree char *name = NULL;
    const char *format = disk->header.backing_format;

    if (!qemu_uuid_is_null(&disk->header.backing)) {
        CsvDiskRecord base;
        int ret = csv_disk_by_uuid(disk->volume, bs->file,
                                   &disk->header.backing, &base, errp);
        if (ret < 0) {
            return ret;
        }
        name = csv_backing_name(bs->file, base.name);
        format = "csv";
    } else {
        name = g_strdup(disk->header.backing_file);
    }
    if (strlen(name) >= sizeof(bs->auto_backing_file)) {
        error_setg(errp, "The name of the backing disk of '%s' is too long",
                   disk->record.name);
        return -ENAMETOOLONG;
    }
    pstrcpy(bs->auto_backing_file, sizeof(bs->auto_backing_file), name);
    pstrcpy(bs->backing_file, sizeof(bs->backing_file), name);
    pstrcpy(bs->backing_format, sizeof(bs->backing_format), format);
    return 0;
}

/* Is @name the file name of another open disk of the same volume? */
static bool csv_backing_is_disk(CsvDisk *disk, const char *name,
                                QemuUUID *uuid)
{
    CsvVolume *vol;
    CsvDisk *other;

    for (vol = csv_volume_next(NULL); vol; vol = csv_volume_next(vol)) {
        if (!qemu_uuid_is_equal(&vol->sb.uuid, &disk->volume->sb.uuid)) {
            continue;
        }
        QLIST_FOREACH(other, &vol->disks, next) {
            if (other != disk && !strcmp(other->bs->filename, name)) {
                *uuid = other->record.uuid;
                return true;
            }
        }
    }
    return false;
}

int coroutine_fn
csv_co_change_backing_file(BlockDriverState *bs, const char *backing_file,
                           const char *backing_fmt)
{
    CsvDisk *disk = bs->opaque;
    CsvHeader header = disk->header;
    QemuUUID none = { 0 };
    Error *err = NULL;
    int ret = 0;

    if (!disk->owned) {
        return -EPERM;
    }
    if (strlen(backing_fmt ?: "") > CSV_BACKING_FORMAT_MAX) {
        return -EINVAL;
    }
    if (!csv_backing_file_check(backing_file ?: "", &err)) {
        error_report_err(err);
        return -EINVAL;
    }
    header.backing = none;
    memset(header.backing_file, 0, sizeof(header.backing_file));
    memset(header.backing_format, 0, sizeof(header.backing_format));
    if (backing_file && *backing_file &&
        !csv_backing_is_disk(disk, backing_file, &header.backing)) {
        pstrcpy(header.backing_file, sizeof(header.backing_file),
                backing_file);
        pstrcpy(header.backing_format, sizeof(header.backing_format),
                backing_fmt ?: "");
    }
    /* The record protects the backing disk as long as the header names it. */
    if (!qemu_uuid_is_null(&header.backing)) {
        ret = csv_disk_set_backing(disk, &header.backing, &err);
    }
    if (ret >= 0) {
        ret = csv_journal_commit(disk);
    }
    if (ret >= 0) {
        ret = csv_header_write(disk, &header, &err);
    }
    if (ret >= 0 && qemu_uuid_is_null(&header.backing) &&
        !qemu_uuid_is_null(&disk->record.backing)) {
        ret = csv_disk_set_backing(disk, &none, &err);
    }
    if (err) {
        error_report_err(err);
    }
    return ret;
}

int csv_backing_create(CsvVolume *vol, BdrvChild *file,
                       const BlockdevCreateOptionsCsv *opts,
                       CsvHeader *header, uint64_t *size, Error **errp)
{
    CsvDiskRecord base;
    uint8_t raw[CSV_RECORD_SIZE];
    int ret;

    if (opts->backing_disk && opts->backing_file) {
        error_setg(errp, "A csv disk has one backing image: name a disk or a "
                   "file");
        return -EINVAL;
    }
    if (!csv_backing_file_check(opts->backing_file ?: "", errp)) {
        return -EINVAL;
    }
    pstrcpy(header->backing_file, sizeof(header->backing_file),
            opts->backing_file ?: "");
    if (opts->backing_file && opts->has_backing_fmt) {
        pstrcpy(header->backing_format, sizeof(header->backing_format),
                BlockdevDriver_str(opts->backing_fmt));
    }
    if (opts->backing_disk) {
        ret = csv_disk_find(vol, file, opts->backing_disk, &base, raw, errp);
        if (ret < 0) {
            return ret;
        }
        header->backing = base.uuid;
        *size = *size ?: base.size;
    }
    return 0;
}
