/*
 * Cluster shared volume: query-csv-volumes
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/clone-visitor.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-csv.h"
#include "qapi/qapi-visit-csv.h"
#include "qemu/coroutine.h"
#include "block/csv/disk/disk.h"
#include "way.h"

/* How long to wait for storage: 10 s, in ms. */
#define CSV_QUERY_TIMEOUT   10000

/* Nodes through which @uuid is reached. */
static void csv_add_node_names(CsvVolumeInfo *info, const QemuUUID *uuid)
{
    strList **tail = &info->node_names;
    CsvVolume *vol;

    for (vol = csv_volume_next(NULL); vol; vol = csv_volume_next(vol)) {
        if (!qemu_uuid_is_equal(&vol->sb.uuid, uuid)) {
            continue;
        }
        QAPI_LIST_APPEND(tail, g_strdup(bdrv_get_node_name(vol->bs)));
        if (vol->locked && !info->has_member) {
            info->has_member = true;
            info->member = vol->me.slot;
        }
        if (vol->threshold && !info->has_free_threshold) {
            info->has_free_threshold = true;
            info->free_threshold = vol->threshold;
        }
    }
}

static CsvJournalInfo *csv_query_journal(const CsvDisk *disk)
{
    const CsvJournal *j = &disk->journal;
    CsvJournalInfo *info = g_new0(CsvJournalInfo, 1);
    uint32_t head = qatomic_read(&j->head), oldest = qatomic_read(&j->oldest);

    info->sequence = qatomic_read(&j->sequence);
    info->size = CSV_JOURNAL_HALF * CSV_PAGE_SIZE;
    info->used = (head >= oldest ? head - oldest
                                 : CSV_JOURNAL_HALF - oldest + head) *
                 CSV_PAGE_SIZE;
    return info;
}

/* The counters need not be exact, so no lock is taken. */
static CsvNodeInfo *csv_query_node_info(CsvDisk *disk)
{
    CsvNodeInfo *info = g_new0(CsvNodeInfo, 1);

    info->node_name = g_strdup(bdrv_get_node_name(disk->bs));
    info->owned = disk->owned;
    info->used = csv_disk_used(disk);
    csv_map_fragments(disk, &info->clusters, &info->fragmented);
    if (disk->owned) {
        info->journal = csv_query_journal(disk);
    }
    info->cache = g_new0(CsvCacheInfo, 1);
    info->cache->size = csv_map_cache_bytes(disk);
    info->cache->limit = (uint64_t)csv_map_cache_tables(disk) *
                         sizeof(CsvL2Table);
    info->cache->loads = disk->table_loads;
    info->cache->evictions = disk->table_evictions;
    info->stats = QAPI_CLONE(CsvNodeStats, &disk->stats);
    info->stats->bytes_filled = stat64_get(&disk->bytes_filled);
    return info;
}

/* What this process knows of the disk in @info by having it open. */
static void csv_query_nodes(CsvDiskInfo *info, const QemuUUID *volume)
{
    strList **names = &info->node_names;
    CsvNodeInfoList **nodes = &info->nodes;
    CsvVolume *vol;
    CsvDisk *disk;

    for (vol = csv_volume_next(NULL); vol; vol = csv_volume_next(vol)) {
        if (!qemu_uuid_is_equal(&vol->sb.uuid, volume)) {
            continue;
        }
        QLIST_FOREACH(disk, &vol->disks, next) {
            if (!disk->whole && disk->record.slot == info->id) {
                QAPI_LIST_APPEND(names,
                                 g_strdup(bdrv_get_node_name(disk->bs)));
                QAPI_LIST_APPEND(nodes, csv_query_node_info(disk));
            }
        }
    }
}

static int GRAPH_RDLOCK
csv_query_members(CsvVolume *vol, BdrvChild *file, CsvMemberInfoList **list,
                  Error **errp)
{
    CsvMemberInfoList **tail = list;
    CsvMemberRecord rec;
    CsvTableIter it;
    int ret;

    csv_table_iter(&it, file, vol->sb.member_offset, vol->sb.member_slots);
    while ((ret = csv_table_next(&it)) > 0) {
        if (!csv_member_decode(it.record, &vol->sb, it.slot, &rec, errp)) {
            csv_table_end(&it);
            return -EINVAL;
        }
        if (rec.state == CSV_MEMBER_ACTIVE) {
            QAPI_LIST_APPEND(tail, csv_member_info(vol, file, &rec,
                                                   rec.incarnation));
        }
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read the member table of csv "
                         "volume '%s'", csv_volume_label(vol));
    }
    return ret;
}

/* Most owners are among the @members that were read just now. */
static CsvMemberInfo * GRAPH_RDLOCK
csv_query_owner(CsvVolume *vol, BdrvChild *file, const CsvDiskRecord *rec,
                const CsvMemberInfoList *members)
{
    CsvMemberRecord owner;

    for (; members; members = members->next) {
        if (members->value->id == rec->owner &&
            members->value->incarnation == rec->owner_incarnation) {
            return QAPI_CLONE(CsvMemberInfo, members->value);
        }
    }
    return csv_member_read(vol, file, rec->owner, &owner, NULL) < 0 ? NULL
           : csv_member_info(vol, file, &owner, rec->owner_incarnation);
}

static CsvDiskInfo * GRAPH_RDLOCK
csv_query_disk(CsvVolume *vol, BdrvChild *file, const CsvDiskRecord *rec,
               uint64_t segments, const CsvMemberInfoList *members)
{
    CsvDiskInfo *info = g_new0(CsvDiskInfo, 1);

    info->id = rec->slot;
    info->name = g_strdup(rec->name);
    info->uuid = qemu_uuid_unparse_strdup(&rec->uuid);
    info->description = g_strdup(rec->description);
    info->sealed = rec->flags & CSV_DISK_SEALED;
    info->shared = rec->flags & CSV_DISK_SHARED;
    info->size = rec->size;
    info->allocated = segments << vol->sb.segment_bits;
    info->state = csv_disk_state(rec->state);
    info->epoch = rec->epoch;
    info->since = rec->since;
    csv_query_nodes(info, &vol->sb.uuid);
    if (rec->state != CSV_RECORD_FREE) {
        info->owner = csv_query_owner(vol, file, rec, members);
    }
    return info;
}

static int GRAPH_RDLOCK
csv_query_disks(CsvVolume *vol, BdrvChild *file, const uint64_t *segments,
                CsvVolumeInfo *info, Error **errp)
{
    CsvDiskInfoList **tail = &info->disks;
    CsvDiskRecord rec;
    CsvTableIter it;
    int ret;

    csv_table_iter(&it, file, vol->sb.disk_offset, vol->sb.disk_high);
    while ((ret = csv_table_next(&it)) > 0) {
        if (!csv_disk_decode(it.record, &vol->sb, it.slot, &rec, errp)) {
            csv_table_end(&it);
            return -EINVAL;
        }
        if (rec.state != CSV_RECORD_UNUSED) {
            QAPI_LIST_APPEND(tail, csv_query_disk(vol, file, &rec,
                                                  segments[it.slot],
                                                  info->members));
        }
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "Cannot read the disk table of csv "
                         "volume '%s'", csv_volume_label(vol));
    }
    return ret;
}

static CsvVolumeInfo * GRAPH_RDLOCK
csv_query_volume(CsvVolume *vol, BdrvChild *file, Error **errp)
{
    g_autoptr(CsvVolumeInfo) info = g_new0(CsvVolumeInfo, 1);
    g_autofree uint64_t *segments = g_new0(uint64_t, vol->sb.disk_slots);
    uint64_t free;

    if (csv_segments_count(vol, file, segments, &free, errp) < 0 ||
        csv_query_members(vol, file, &info->members, errp) < 0 ||
        csv_query_disks(vol, file, segments, info, errp) < 0) {
        return NULL;
    }
    info->name = g_strdup(vol->sb.name);
    info->uuid = qemu_uuid_unparse_strdup(&vol->sb.uuid);
    info->capacity = vol->sb.segment_count << vol->sb.segment_bits;
    info->free = free << vol->sb.segment_bits;
    info->claimed = info->capacity - info->free;
    info->segment_size = 1ULL << vol->sb.segment_bits;
    info->cluster_size = CSV_CLUSTER_SIZE;
    info->subcluster_size = CSV_SUBCLUSTER_SIZE;
    csv_add_node_names(info, &vol->sb.uuid);
    return g_steal_pointer(&info);
}

static CsvVolumeInfo *coroutine_fn csv_query_child(BdrvChild *file,
                                                   Error **errp)
{
    CsvVolumeInfo *info;
    CsvVolume *vol;

    GRAPH_RDLOCK_GUARD();

    vol = csv_volume_get(file, errp);
    if (!vol) {
        return NULL;
    }
    info = csv_query_volume(vol, file, errp);
    csv_volume_put(vol);
    return info;
}

static CsvVolumeInfo *coroutine_fn csv_query_node(BlockDriverState *bs,
                                                  Error **errp)
{
    CsvVolumeInfo *info;
    CsvWay way;

    if (!csv_way_open(&way, bs, false, errp)) {
        return NULL;
    }
    info = csv_query_child(way.file, errp);
    csv_way_close(&way);
    return info;
}

/*
 * A query.  When the command has waited long enough it leaves the query, which
 * goes on until the storage answers.
 */
typedef struct CsvQuery {
    GPtrArray *nodes;           /* to ask, with a reference to each */
    BlockDriverState *asked;    /* the one that was asked last */
    CsvVolumeInfoList *list;
    Error *err;
    bool left;
    QLIST_ENTRY(CsvQuery) next; /* while it goes on although it is left */
} CsvQuery;

static QLIST_HEAD(, CsvQuery) csv_queries_left =
    QLIST_HEAD_INITIALIZER(csv_queries_left);

static void csv_query_free(CsvQuery *q)
{
    g_ptr_array_free(q->nodes, true);
    qapi_free_CsvVolumeInfoList(q->list);
    error_free(q->err);
    g_free(q);
}

static void csv_query_end_left(void *opaque)
{
    CsvQuery *q = opaque;

    QLIST_REMOVE(q, next);
    csv_query_free(q);
}

static void coroutine_fn csv_query_entry(void *opaque)
{
    CsvQuery *q = opaque;
    CsvVolumeInfoList **tail = &q->list;
    guint i;

    for (i = 0; i < q->nodes->len && !q->err && !q->left; i++) {
        CsvVolumeInfo *info;

        q->asked = g_ptr_array_index(q->nodes, i);
        info = csv_query_node(q->asked, &q->err);
        if (info) {
            QAPI_LIST_APPEND(tail, info);
        }
    }
    for (i = 0; i < q->nodes->len; i++) {
        bdrv_co_unref(g_ptr_array_index(q->nodes, i));
    }
}

/* Is this the first open volume with its UUID?  It represents the others. */
static bool csv_is_first(CsvVolume *vol)
{
    CsvVolume *other = csv_volume_next(NULL);

    while (!qemu_uuid_is_equal(&other->sb.uuid, &vol->sb.uuid)) {
        other = csv_volume_next(other);
    }
    return other == vol;
}

/* Which nodes to ask: @name, or all that hold an open volume */
static GPtrArray *csv_query_which(const char *name, Error **errp)
{
    g_autoptr(GPtrArray) nodes = g_ptr_array_new();
    BlockDriverState *bs;
    CsvVolume *vol;
    guint i;

    if (name) {
        bs = bdrv_lookup_bs(NULL, name, errp);
        if (!bs) {
            return NULL;
        }
        g_ptr_array_add(nodes, bs);
    }
    for (vol = csv_volume_next(NULL); vol && !name;
         vol = csv_volume_next(vol)) {
        if (csv_is_first(vol)) {
            g_ptr_array_add(nodes, vol->bs);
        }
    }
    for (i = 0; i < nodes->len; i++) {
        CsvQuery *left;

        bs = g_ptr_array_index(nodes, i);
        QLIST_FOREACH(left, &csv_queries_left, next) {
            if (left->asked == bs) {
                error_setg(errp, "The storage below node '%s' has not "
                           "answered an earlier query yet; check it, or ask "
                           "for another volume with 'node-name'",
                           bdrv_get_node_name(bs));
                return NULL;
            }
        }
    }
    for (i = 0; i < nodes->len; i++) {
        bdrv_ref(g_ptr_array_index(nodes, i));
    }
    return g_steal_pointer(&nodes);
}

CsvVolumeInfoList *coroutine_fn
qmp_query_csv_volumes(const char *node_name, bool has_timeout,
                      uint32_t timeout, Error **errp)
{
    GPtrArray *nodes = csv_query_which(node_name, errp);
    CsvVolumeInfoList *list = NULL;
    CsvQuery *q;
    int ret;

    if (!nodes) {
        return NULL;
    }
    q = g_new0(CsvQuery, 1);
    q->nodes = nodes;
    ret = qemu_co_timeout(csv_query_entry, q,
                          (has_timeout ? timeout : CSV_QUERY_TIMEOUT) *
                          (uint64_t)SCALE_MS, csv_query_end_left);
    if (ret < 0) {
        error_setg(errp, "The storage below node '%s' has not answered in "
                   "time; check it, or wait longer with 'timeout'",
                   bdrv_get_node_name(q->asked));
        q->left = true;
        QLIST_INSERT_HEAD(&csv_queries_left, q, next);
        return NULL;
    }
    if (q->err) {
        error_propagate(errp, g_steal_pointer(&q->err));
    } else {
        list = g_steal_pointer(&q->list);
    }
    csv_query_free(q);
    return list;
}
