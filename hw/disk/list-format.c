/*
 * Disk hot-plug: format of the list of disks that migrates with a guest
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "identity.h"
#include "list-format.h"
#include "qapi/error.h"
#include "qapi/qapi-visit-disk.h"
#include "qapi/qobject-input-visitor.h"
#include "qapi/qobject-output-visitor.h"
#include "qemu/crc32c.h"
#include "qemu/id.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"

bool disk_list_check_len(size_t len, Error **errp)
{
    if (!len || len > DISK_LIST_MAX) {
        error_setg(errp, "the list of disks has %zu bytes, not 1 to %" PRId64,
                   len, (int64_t)DISK_LIST_MAX);
        return false;
    }
    return true;
}

uint32_t disk_list_crc(const char *text, size_t len)
{
    return crc32c(0xffffffff, (const uint8_t *)text, len);
}

GString *disk_list_write(const DiskManifest *list, Error **errp)
{
    g_autoptr(GString) text = NULL;
    QObject *obj = NULL;
    Visitor *v = qobject_output_visitor_new(&obj);

    /* An output visitor does not change its input. */
    visit_type_DiskManifest(v, NULL, (DiskManifest **)&list, &error_abort);
    visit_complete(v, &obj);
    visit_free(v);
    text = qobject_to_json(obj);
    qobject_unref(obj);
    return disk_list_check_len(text->len, errp) ? g_steal_pointer(&text) : NULL;
}

/* The text */

static bool nested_within(QObject *obj, unsigned levels)
{
    QList *list = qobject_to(QList, obj);
    QDict *dict = qobject_to(QDict, obj);
    const QListEntry *e;

    if (!list && !dict) {
        return true;
    }
    if (!levels--) {
        return false;
    }
    if (list) {
        QLIST_FOREACH_ENTRY(list, e) {
            if (!nested_within(qlist_entry_obj(e), levels)) {
                return false;
            }
        }
        return true;
    }
    for (const QDictEntry *d = qdict_first(dict); d; d = qdict_next(dict, d)) {
        if (!nested_within(qdict_entry_value(d), levels)) {
            return false;
        }
    }
    return true;
}

static QObject *list_parse(const char *text, size_t len, uint32_t crc,
                           Error **errp)
{
    ERRP_GUARD();
    QObject *obj;

    if (!disk_list_check_len(len, errp)) {
        return NULL;
    }
    if (disk_list_crc(text, len) != crc) {
        error_setg(errp, "the list of disks is damaged: its CRC is wrong");
        return NULL;
    }
    if (memchr(text, 0, len)) {
        error_setg(errp, "the list of disks has a zero byte");
        return NULL;
    }
    obj = qobject_from_json(text, errp);
    if (!obj) {
        error_prepend(errp, "the list of disks: ");
        return NULL;
    }
    if (!nested_within(obj, DISK_LIST_DEPTH)) {
        error_setg(errp, "the list of disks is nested more than %d deep",
                   DISK_LIST_DEPTH);
        qobject_unref(obj);
        return NULL;
    }
    return obj;
}

/* Records */

static const char *record_lacks(const DiskRecord *r)
{
    return !r->id ? "id" :
           !r->has_bus || r->bus == DISK_BUS_AUTO ? "bus" :
           !r->uuid ? "uuid" :
           !r->serial ? "serial" :
           r->bus == DISK_BUS_SCSI && !r->has_wwn ? "wwn" : NULL;
}

static const char *record_has_wrong(const DiskRecord *r)
{
    QemuUUID uuid;

    return !id_wellformed(r->id) ? "id" :
           qemu_uuid_parse(r->uuid, &uuid) < 0 ? "uuid" :
           !*r->serial || strlen(r->serial) > DISK_SERIAL_LEN ? "serial" :
           !*r->place ? "place" :
           r->bus != DISK_BUS_SCSI && r->has_wwn ? "wwn" :
           r->create ? "create" :
           r->has_dry_run ? "dry-run" : NULL;
}

static bool record_check(const DiskRecord *r, unsigned nr, Error **errp)
{
    const char *member = record_lacks(r);

    if (member) {
        error_setg(errp, "the list of disks: disks[%u] has no '%s'", nr,
                   member);
        return false;
    }
    member = record_has_wrong(r);
    if (member) {
        error_setg(errp, "the list of disks: the '%s' of disks[%u] cannot be",
                   member, nr);
        return false;
    }
    return true;
}

/* Add @key, which is taken, to @keys; false if it is there already. */
static bool list_key_is_new(GHashTable *keys, char *key, const DiskRecord *r,
                            const char *what, Error **errp)
{
    if (g_hash_table_add(keys, key)) {
        return true;
    }
    error_setg(errp, "the list of disks: two with the %s of disk '%s'", what,
               r->id);
    return false;
}

static bool list_check(const DiskManifest *list, Error **errp)
{
    g_autoptr(GHashTable) ids = g_hash_table_new_full(g_str_hash, g_str_equal,
                                                      g_free, NULL);
    g_autoptr(GHashTable) places = g_hash_table_new_full(g_str_hash,
                                                         g_str_equal, g_free,
                                                         NULL);
    unsigned nr = 0;

    for (DiskRecordList *e = list->disks; e; e = e->next, nr++) {
        const DiskRecord *r = e->value;

        if (!record_check(r, nr, errp) ||
            !list_key_is_new(ids, g_strdup(r->id), r, "id", errp) ||
            !list_key_is_new(places, g_strdup_printf("%u %s", r->address,
                                                     r->place),
                             r, "address", errp)) {
            return false;
        }
    }
    return true;
}

DiskManifest *disk_list_read(const char *text, size_t len, uint32_t crc,
                             Error **errp)
{
    ERRP_GUARD();
    g_autoptr(DiskManifest) list = NULL;
    QObject *obj = list_parse(text, len, crc, errp);
    Visitor *v;

    if (!obj) {
        return NULL;
    }
    v = qobject_input_visitor_new(obj);
    if (!visit_type_DiskManifest(v, NULL, &list, errp)) {
        error_prepend(errp, "the list of disks: ");
    }
    visit_free(v);
    qobject_unref(obj);
    return list && list_check(list, errp) ? g_steal_pointer(&list) : NULL;
}
