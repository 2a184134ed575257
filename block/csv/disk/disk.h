/*
 * Cluster shared volume: disks
 *
 * The third layer: open disks, their maps and data, and the creation and
 * deletion of disks.
 *
 * Threads, the graph lock and errors are as in volume.h.
 *
 * Locks, outermost first: flush_lock, place_lock, make_lock, scan_lock,
 * claim_lock, alloc_lock, load_lock, map_lock, all in CsvDisk.  A guest request
 * that is queued for a cluster (see io.c) takes any of them but flush_lock, so
 * never wait in that queue while holding one.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BLOCK_CSV_DISK_H
#define BLOCK_CSV_DISK_H

#include "block/csv/volume/volume.h"
#include "block/reqlist.h"
#include "qapi/qapi-types-block-core.h"
#include "qemu/bitmap.h"
#include "qemu/coroutine.h"
#include "qemu/rcu.h"
#include "qemu/stats64.h"

#define CSV_OPT_BACKING_DISK    "backing_disk"

/* Enough that two clusters seldom share a lock. */
#define CSV_PLACE_LOCKS         64

/* A segment of a disk, in memory. */
typedef struct CsvSegment {
    uint64_t index;
    uint32_t sequence;
    uint32_t free;              /* clear bits in used */
    unsigned long *used;        /* a bit for each cluster */
} CsvSegment;

/*
 * The journal of an owned disk.  Protected by CsvDisk.flush_lock, unless nobody
 * else can use the disk.
 */
typedef struct CsvJournal {
    uint64_t sequence;          /* of the last record; 0: there is none */
    uint64_t tail;              /* field tail of the next record */
    uint32_t first;             /* first page of our half of the ring */
    uint32_t head;              /* page for the next record */
    uint32_t oldest;            /* page of the last durable record's tail */
    bool broken;                /* a write failed: begin a new chain */
} CsvJournal;

/*
 * A level-2 table in memory: 12 bytes per entry, 6 MiB for 1 TiB.  Entries are
 * read without a lock: masks first, then place.  The place is set before the
 * first bit in the masks.
 */
typedef struct CsvL2Table {
    struct rcu_head rcu;
    bool used;                  /* since the last eviction scan; atomic */
    uint16_t dirty;             /* pages to write; map_lock */
    DECLARE_BITMAP(pending, CSV_L2_ENTRIES);    /* to journal; map_lock */
    /*
     * Clusters in which all subclusters without data are known to read as
     * zeroes on the volume; map_lock.
     */
    DECLARE_BITMAP(blank, CSV_L2_ENTRIES);
    uint64_t masks[CSV_L2_ENTRIES];
    uint32_t place[CSV_L2_ENTRIES];     /* offset / CSV_CLUSTER_SIZE */
} CsvL2Table;

/* Space in the volume that the disk no longer uses. */
typedef struct CsvDiscard {
    uint64_t cluster;           /* of the disk */
    uint64_t offset;            /* in the volume */
    uint32_t subclusters;       /* all ones: the whole cluster is free */
} CsvDiscard;

/* An open disk: the state of a csv block node. */
struct CsvDisk {
    BlockDriverState *bs;
    CsvVolume *volume;
    QLIST_ENTRY(CsvDisk) next;
    char *name;                 /* option 'disk'; NULL: the only disk */
    bool force_takeover;
    bool whole;                 /* the node is the volume, not a disk */

    /*
     * The disk's record as last read or written by this process, and its raw
     * bytes for the next compare-and-write.  Changed by the main thread only.
     */
    CsvDiskRecord record;
    uint8_t raw[CSV_RECORD_SIZE];
    bool owned;                 /* by us: record.state is OWNED */
    bool handed_over;           /* we released it with a token */
    bool lost;                  /* another member took it; sticky */
    uint64_t unsure;            /* epoch that we may own after an error, or 0 */
    bool give_back;             /* failed hand-over: to be released */
    bool attached;              /* counts in volume->attached */
    bool claiming_node;         /* needs write permission on the volume now */
    bool leaving;               /* the same, while we leave the volume */
    bool making;                /* under creation by us; implies owned */
    QemuUUID made;              /* option CSV_OPT_MAKING */
    uint32_t use;               /* our entry in CsvMemberRecord.use, or 0 */

    /*
     * The map: the offsets of its tables, and the tables in memory.  Both
     * change under map_lock and are read without a lock.  Tables are loaded and
     * evicted (map-cache.c), and freed by RCU.  New ones are made only while
     * the disk is owned.  A claim reads the map again and replaces all of them.
     */
    CsvHeader header;
    unsigned header_copy;               /* which copy is valid: 0 or 1 */
    bool header_differs;                /* the other is older or damaged */
    uint64_t l1[CSV_MAX_L2_TABLES];     /* offset in the volume; 0: none */
    CsvL2Table *l2[CSV_MAX_L2_TABLES];
    CoMutex place_lock[CSV_PLACE_LOCKS]; /* new places; by cluster */
    CoMutex make_lock;          /* new tables */
    uint64_t tables;            /* cluster with room for tables, or 0 */
    uint32_t tables_used;       /* tables in it */

    /*
     * Changes that are not in the journal yet (pending), and changes that are
     * not in the map on the volume yet (dirty).  Protected by map_lock, which
     * is never held over I/O.
     */
    QemuMutex map_lock;
    bool pending;               /* a bit in a *pending bitmap is set */
    bool ordered;               /* ... and its data must be durable first */
    DECLARE_BITMAP(l2_pending, CSV_MAX_L2_TABLES);  /* tables with changes */
    DECLARE_BITMAP(l1_pending, CSV_MAX_L2_TABLES);  /* new tables */
    DECLARE_BITMAP(l2_dirty, CSV_MAX_L2_TABLES);    /* tables with changes */
    uint32_t l1_dirty;          /* a bit for each page */
    GArray *freed;              /* of CsvDiscard: freed by pending changes */
    GArray *discards;           /* of CsvDiscard: freed by durable changes */

    /* Tables in memory.  Protected by map_lock, except cache_size, loading. */
    uint64_t cache_size;        /* option; bytes */
    GArray *cached;             /* of uint32_t: numbers of the tables */
    guint cached_hand;          /* where the next eviction scan starts */
    DECLARE_BITMAP(l2_held, CSV_MAX_L2_TABLES); /* being written: keep */
    uint64_t map_replaced;      /* how often l1 and l2 were replaced */
    uint64_t table_loads;       /* since the disk was opened */
    uint64_t table_evictions;
    CoMutex load_lock;          /* protects loading */
    BlockReqList loading;       /* tables being read, by number */

    /*
     * The scan of the map.  A bit in unscanned, under alloc_lock: the clusters
     * in this table are not marked as used in the segments, and the table is
     * not in memory.
     */
    CoMutex scan_lock;          /* one scan at a time */
    bool scanned;               /* unscanned is empty; atomic */
    DECLARE_BITMAP(unscanned, CSV_MAX_L2_TABLES);
    uint64_t map_end;           /* size of the volume at the claim, in bytes */

    /* Allocation: segments and their bitmaps, requests that allocate. */
    CoMutex claim_lock;         /* one claim of a segment at a time */
    QemuMutex alloc_lock;       /* never held over I/O */
    GArray *segments;           /* of CsvSegment, in the order of loading */
    GArray *doubtful;           /* of uint32_t: numbers that may be in use */
    guint segment_current;      /* where clusters are allocated */
    guint segment_found;        /* result of the last search; atomic */
    uint64_t free_clusters;     /* in all segments */
    bool adjusting;             /* see csv_adjust_with(); atomic */
    bool adjust_stop;           /* ... and is waited for; atomic */
    QEMUTimer *adjust_timer;    /* while owned; main thread */
    /* Range of free clusters in a segment that are known to read as zeroes. */
    uint64_t blank_start;
    uint64_t blank_end;
    uint64_t freed_at;          /* flush_begun at the last free; atomic */
    BlockReqList allocating;

    CoMutex flush_lock;         /* one commit or checkpoint at a time */
    CsvJournal journal;
    uint64_t flush_begun;       /* number of flushes begun; atomic */
    uint64_t flush_done;        /* number of the last successful one; atomic */

    CsvNodeStats stats;         /* each under the lock of what it counts */
    Stat64 bytes_filled;        /* counted without a lock */
};

/* Does the disk have a backing image, open or not? */
static inline bool GRAPH_RDLOCK csv_has_backing(const CsvDisk *disk)
{
    return disk->bs->backing || disk->header.backing_file[0] ||
           !qemu_uuid_is_null(&disk->header.backing);
}

/* claim.c */

/* Read the record of an open disk into @out.  disk->record does not change. */
int GRAPH_RDLOCK csv_disk_reread(CsvDisk *disk, CsvDiskRecord *out,
                                 Error **errp);
/* Would a claim without a token succeed now?  0: yes.  Changes nothing. */
int GRAPH_RDLOCK csv_disk_may_claim(CsvDisk *disk, Error **errp);
/*
 * Make this member the owner of disk->record.slot.  With @token, the claim only
 * succeeds if the disk was released with it (or is still ours); NULL: any claim
 * that the rules permit.  *was gets the previous record.  Sends the event.
 */
int GRAPH_RDLOCK csv_disk_claim(CsvDisk *disk, const QemuUUID *token,
                                CsvDiskRecord *was, Error **errp);
/*
 * Release the disk for a member that has @token, or for any member if that is
 * NULL.  All data of the disk must be on stable storage.  Sends the event.
 */
int GRAPH_RDLOCK csv_disk_release(CsvDisk *disk, const QemuUUID *token,
                                  Error **errp);
/*
 * A claim or release failed, and it is unknown whether the record was changed
 * (disk->unsure).  If it names us, release the disk with @token (may be NULL).
 */
int GRAPH_RDLOCK csv_disk_release_unsure(CsvDisk *disk,
                                         const QemuUUID *token);
/*
 * Read the record of a disk that we own or create: is it still ours?  -ESTALE:
 * no, and the disk is lost from now on.
 */
int GRAPH_RDLOCK csv_disk_confirm(CsvDisk *disk, Error **errp);
/* Change the record of a disk that we own; @doing is a verb for the message. */
int GRAPH_RDLOCK csv_disk_change(CsvDisk *disk, const CsvDiskRecord *rec,
                                 const char *doing, Error **errp);
/* Change the size, in bytes, in the record of a disk that we own. */
int GRAPH_RDLOCK csv_disk_set_size(CsvDisk *disk, uint64_t size, Error **errp);
/*
 * Set the UUID of the backing disk in the record of a disk that we own, which
 * protects the backing disk from being deleted.  All zeroes: none.
 */
int GRAPH_RDLOCK csv_disk_set_backing(CsvDisk *disk, const QemuUUID *backing,
                                      Error **errp);

/* holding.c */

static inline uint32_t csv_clusters_per_segment(const CsvVolume *vol)
{
    return 1U << (vol->sb.segment_bits - CSV_CLUSTER_BITS);
}

static inline CsvSegment *csv_segment_at(CsvDisk *disk, guint i)
{
    return &g_array_index(disk->segments, CsvSegment, i);
}

/* Fill disk->segments from the segment table, with all clusters free. */
int GRAPH_RDLOCK csv_segments_load(CsvDisk *disk, Error **errp);
void csv_segments_drop(CsvDisk *disk);
/* Bytes of allocated clusters.  Any thread, without a lock. */
uint64_t csv_disk_used(const CsvDisk *disk);
/*
 * Claim what the reserve lacks, at least one segment.  claim_lock held; any
 * thread.
 */
int coroutine_fn GRAPH_RDLOCK csv_segment_claim_more(CsvDisk *disk);
/* Start to claim segments if the reserve is low.  Any thread, in a request. */
void coroutine_fn csv_claim_in_time(CsvDisk *disk);
/*
 * Return segments without a used cluster to the volume: all of them, if nobody
 * else uses the disk, or all but the reserve.  A failure only costs space.
 */
void GRAPH_RDLOCK csv_segments_give_back_all(CsvDisk *disk);
void coroutine_fn GRAPH_RDLOCK csv_segments_give_back(CsvDisk *disk);
/* Claim or return segments to adapt the reserve to the free space. */
void coroutine_fn GRAPH_RDLOCK csv_segments_adjust(CsvDisk *disk);
/*
 * Run @entry with the disk in a coroutine in @ctx, unless such a coroutine runs
 * already.  At its end it clears disk->adjusting, and then calls
 * bdrv_dec_in_flight().  Any thread.
 */
void csv_adjust_with(CsvDisk *disk, AioContext *ctx, CoroutineEntry *entry);

/* cluster.c */

/*
 * Mark the cluster at @offset as used.  False with @errp if it is not in the
 * disk's segments, or used already.  alloc_lock held, unless nobody else can
 * use the disk.
 */
bool csv_cluster_use(CsvDisk *disk, uint64_t offset, Error **errp);
/* Undo that. */
void csv_cluster_unuse(CsvDisk *disk, uint64_t offset);
/* Is @offset in a segment of the disk? */
bool csv_segment_has(CsvDisk *disk, uint64_t offset);
/*
 * Allocate a cluster at *offset in the volume; *blank: it is known to read as
 * zeroes.  May claim segments, or start to do so in the background.  place_lock
 * or make_lock held, and the map scanned.  -ENOSPC: the volume is full.
 */
int coroutine_fn GRAPH_RDLOCK csv_cluster_alloc(CsvDisk *disk,
                                                uint64_t *offset, bool *blank);
/* Free a cluster that no map on the volume refers to.  alloc_lock held. */
void csv_cluster_free(CsvDisk *disk, uint64_t offset);

/* map-cache.c */

/* Limit for the number of tables in memory; exceeded if none can be evicted. */
guint csv_map_cache_tables(const CsvDisk *disk);
/* Bytes of the tables in memory.  map_lock held. */
uint64_t csv_map_cache_bytes(const CsvDisk *disk);
/*
 * For the tables in memory, count clusters that have a place, and those that
 * are not contiguous with the cluster before them.
 */
void csv_map_fragments(CsvDisk *disk, uint64_t *clusters,
                       uint64_t *fragmented);
/* Insert @table as table @t, which is not in memory.  map_lock held. */
void csv_map_cache_add(CsvDisk *disk, unsigned t, CsvL2Table *table);
/*
 * Load table @t into memory; it may be evicted again at once.  Reports a
 * failure itself.  Outside of a coroutine, nobody else may use the disk.
 */
int coroutine_mixed_fn GRAPH_RDLOCK csv_map_fetch(CsvDisk *disk, unsigned t);
/* Load the existing table @t and take map_lock; not held on failure. */
int coroutine_mixed_fn GRAPH_RDLOCK csv_map_lock(CsvDisk *disk, unsigned t);
/* Are so many tables dirty that others cannot be loaded? */
bool csv_map_crowded(CsvDisk *disk);
/* Tables that were collected and encoded were written: they may be evicted. */
void csv_map_release(CsvDisk *disk);

/* map.c */

/* The entry of @cluster; all zero if there is no table.  Any thread. */
int coroutine_mixed_fn GRAPH_RDLOCK
csv_map_get(CsvDisk *disk, uint64_t cluster, CsvL2Entry *entry);
/*
 * Allocate a place for @cluster if it has none; *place gets its offset in the
 * volume.  The caller is queued for a part of the cluster.
 */
int coroutine_fn GRAPH_RDLOCK csv_map_place(CsvDisk *disk, uint64_t cluster,
                                            uint64_t *place);
/* Do all subclusters of @cluster without data read as zeroes on the volume? */
bool csv_map_blank(CsvDisk *disk, uint64_t cluster);
/* No longer so, because a write to such a subcluster has failed. */
void csv_map_spoil(CsvDisk *disk, uint64_t cluster);
/* Make a level-2 table for @cluster if there is none. */
int coroutine_fn GRAPH_RDLOCK csv_map_make_table(CsvDisk *disk,
                                                 uint64_t cluster);
/*
 * Set subclusters: those in @data hold data, those in @zero read as zeroes,
 * those in @hole read from the backing image.  The masks do not overlap.
 * @unmap frees the space of those without data.  The table must exist; the
 * caller is queued for these subclusters, or for the whole cluster if @unmap.
 * On failure nothing has changed.
 */
int coroutine_mixed_fn GRAPH_RDLOCK
csv_map_change(CsvDisk *disk, uint64_t cluster, uint32_t data, uint32_t zero,
               uint32_t hole, bool unmap);
/* Drop all entries beyond @size bytes. */
int coroutine_mixed_fn GRAPH_RDLOCK csv_map_cut(CsvDisk *disk, uint64_t size);
/*
 * Move up to @max pending changes into the record at @buf, and return their
 * number.  If these are all, what they free is moved to @freed.  *ordered:
 * their data must be durable before the record.
 */
uint32_t csv_map_collect(CsvDisk *disk, uint8_t *buf, uint32_t max,
                         GArray *freed, bool *ordered);
/* The record at @buf was not written: make its changes pending again. */
void csv_map_uncollect(CsvDisk *disk, const uint8_t *buf, uint32_t entries);
/*
 * Write all dirty map pages.  Flushes before each write what it depends on, but
 * not after the last write.
 */
int GRAPH_RDLOCK csv_map_write_pages(CsvDisk *disk);
bool csv_map_dirty(CsvDisk *disk);

/* What a range of a disk contains. */
typedef enum CsvExtentKind {
    CSV_EXTENT_HOLE,            /* the backing image or, without one, zeroes */
    CSV_EXTENT_ZERO,
    CSV_EXTENT_DATA,
} CsvExtentKind;

/*
 * The longest extent that starts at @offset, with at most @bytes, of one *kind
 * and, for data, contiguous at *host in the volume.  It ends before a table
 * that is not in memory, except that the first table is loaded.  Returns its
 * length in bytes, or -errno.  Any thread, without a lock.  Outside of a
 * coroutine, nobody else may use the disk.
 */
int64_t coroutine_mixed_fn GRAPH_RDLOCK
csv_map_extent(CsvDisk *disk, uint64_t offset, uint64_t bytes,
               CsvExtentKind *kind, uint64_t *host);

/* Is the disk fully allocated?  Its map is loaded, nobody else may use it. */
bool GRAPH_RDLOCK csv_map_is_full(CsvDisk *disk);

/* journal.c */

/* A map that is being read; see map-int.h. */
typedef struct CsvMapLoad CsvMapLoad;

/*
 * Scan the ring of a disk that may not have been released cleanly, and replay
 * the valid records into the map in @load.  Sets disk->journal.
 */
int GRAPH_RDLOCK csv_journal_replay(CsvDisk *disk, CsvMapLoad *load,
                                    Error **errp);
/* Set disk->journal from the disk record, after a clean release. */
void csv_journal_position(CsvDisk *disk, const CsvDiskRecord *rec);
/* First step of a new owner: write the map, then a record with its epoch. */
int GRAPH_RDLOCK csv_journal_mount(CsvDisk *disk, Error **errp);
/*
 * Before a release: write the map, so that nothing has to be replayed.  Sets
 * the journal position in @rec; on failure to 0, so that the next owner
 * replays.
 */
int GRAPH_RDLOCK csv_journal_settle(CsvDisk *disk, CsvDiskRecord *rec);
/*
 * Make all map changes before this call durable, together with their data.  If
 * there are none, it does nothing, not even a flush.
 */
int coroutine_fn GRAPH_RDLOCK csv_journal_commit(CsvDisk *disk);

/* header.c */

/* Write the header and an empty level-1 map of a new disk. */
int GRAPH_RDLOCK csv_map_format(CsvVolume *vol, BdrvChild *file,
                                const CsvDiskRecord *disk,
                                const CsvHeader *header, Error **errp);
/* Replace both copies of an owned disk's header, one after the other. */
int GRAPH_RDLOCK csv_header_write(CsvDisk *disk, const CsvHeader *header,
                                  Error **errp);
/*
 * Update name and size in the header of an owned disk, and a copy that a crash
 * left outdated.  Only a repair needs them, so a failure is ignored: the next
 * owner tries again.
 */
void GRAPH_RDLOCK csv_header_refresh(CsvDisk *disk);

/* map-load.c */

typedef enum CsvLoadMode {
    CSV_LOAD_REPLAY,            /* the journal, too */
    CSV_LOAD_CLEAN,             /* by the disk record, it has no changes */
    CSV_LOAD_HANDED_OVER,       /* ... and the node was open before the claim */
} CsvLoadMode;

/*
 * Read header and map, replay the journal, and scan the map; with
 * CSV_LOAD_HANDED_OVER, the caller scans it later.  The segments must be
 * loaded.  On failure the old map remains.
 */
int GRAPH_RDLOCK csv_map_load(CsvDisk *disk, CsvLoadMode mode, Error **errp);
void csv_map_drop(CsvDisk *disk);

/* map-scan.c */

/* Is the whole map checked, and are all used clusters marked?  Any thread. */
static inline bool csv_map_is_scanned(const CsvDisk *disk)
{
    return qatomic_read(&disk->scanned);
}
/*
 * Make what is left of the scan.  Reports a failure itself; the next call
 * continues.  @background: -ECANCELED if the node is drained meanwhile, or
 * csv_adjust_stop() called.  Any thread.
 */
int coroutine_fn GRAPH_RDLOCK csv_map_scan(CsvDisk *disk, bool background);

/* adjust.c */

/*
 * Scan what is left of the map, then call csv_segments_adjust() periodically,
 * until stopped.  The disk is owned.  Main thread.
 */
void csv_adjust_start(CsvDisk *disk);
void csv_adjust_stop(CsvDisk *disk);

/* use.c */

/*
 * Record in our member record that we read (or, with @write, write) this sealed
 * or shared disk.  disk->record must be current, and the disk attached.  May be
 * called again with another @write.
 */
int GRAPH_RDLOCK csv_use_enter(CsvDisk *disk, bool write, Error **errp);
void GRAPH_RDLOCK csv_use_leave(CsvDisk *disk);
/*
 * Change the flags (CSV_DISK_*) of a disk.  -EBUSY if it has an owner, or if a
 * member uses the sealed or shared disk.  The caller is attached.
 */
int GRAPH_RDLOCK
csv_disk_set_flags(CsvVolume *vol, BdrvChild *file, const char *name,
                   uint32_t flags, Error **errp);

/* make.c */

/*
 * Free the segments of the disk in @rec, then its record, unless the record is
 * no longer @raw.  Its owner must be dead, or this member.  The caller is
 * attached.  @progress is as in csv_segments_free().
 */
int GRAPH_RDLOCK
csv_disk_erase(CsvVolume *vol, BdrvChild *file, CsvDiskRecord *rec,
               uint8_t *raw, ProgressMeter *progress, Error **errp);

/* A disk under creation: its record, and the raw bytes of that. */
typedef struct CsvMaking {
    CsvDiskRecord rec;
    uint8_t raw[CSV_RECORD_SIZE];
} CsvMaking;

/*
 * Begin to create a disk of @size bytes; @header names its backing image.  On
 * success, *making is a disk that can be opened with CSV_OPT_MAKING, for
 * example to preallocate it, and csv_disk_make_end() must follow.  The caller
 * is attached until then.
 */
int coroutine_fn GRAPH_RDLOCK
csv_disk_make_begin(CsvVolume *vol, BdrvChild *file, const char *name,
                    uint64_t size, const CsvHeader *header,
                    CsvMaking *making, Error **errp);
/*
 * Complete the creation; the new disk has no owner.  If @ret < 0, or on
 * failure, delete the disk.  Returns @ret, or the error that occurred here.
 */
int GRAPH_RDLOCK csv_disk_make_end(CsvVolume *vol, BdrvChild *file,
                                   CsvMaking *making, int ret, Error **errp);
/*
 * Delete a disk that no member owns or uses.  The caller is attached.
 * @progress is as in csv_segments_free().
 */
int GRAPH_RDLOCK csv_disk_delete(CsvVolume *vol, BdrvChild *file,
                                 const char *name, ProgressMeter *progress,
                                 Error **errp);

/*
 * Change the name or the description of a disk.  No other member may own it.
 * The caller is attached.
 */
int GRAPH_RDLOCK csv_disk_rename(CsvVolume *vol, BdrvChild *file,
                                 const char *name, const char *new_name,
                                 Error **errp);
int GRAPH_RDLOCK csv_disk_describe(CsvVolume *vol, BdrvChild *file,
                                   const char *name, const char *text,
                                   Error **errp);

/* io.c */

/* Mask of the subclusters in [offset, offset + bytes), within one cluster. */
uint32_t csv_touched(uint64_t offset, uint64_t bytes);
/*
 * Wait for other requests in the range, which is extended to multiples of
 * @unit: CSV_SUBCLUSTER_SIZE or CSV_CLUSTER_SIZE.  Until csv_queue_leave(), no
 * other request changes the map there.
 */
void coroutine_fn csv_queue_enter(CsvDisk *disk, BlockReq *req,
                                  uint64_t offset, uint64_t bytes,
                                  uint64_t unit);
void coroutine_fn csv_queue_leave(CsvDisk *disk, BlockReq *req);

/*
 * Make subclusters read as zeroes (@zero) or from the backing image; @unmap
 * frees their space.  -ENOTSUP if the range is not aligned to subclusters.
 */
int coroutine_fn GRAPH_RDLOCK
csv_clear_range(BlockDriverState *bs, int64_t offset, int64_t bytes,
                bool zero, bool unmap);

/* prealloc.c */

/*
 * Allocate [from, to) of an owned disk in the volume and, with 'falloc' and
 * 'full', provide storage: the range becomes data that reads as zeroes.  @from
 * is aligned to subclusters, @to is rounded up.  The range must not be in use
 * yet.  On success all is on stable storage; on failure all is freed again.
 */
int coroutine_fn GRAPH_RDLOCK
csv_preallocate(BlockDriverState *bs, uint64_t from, uint64_t to,
                PreallocMode mode, Error **errp);

/* backing.c */

/*
 * Does the backing chain that leads to @disk end, at a sensible length?  Called
 * before the block layer opens the next backing disk.
 */
int csv_backing_check_chain(const CsvDisk *disk, Error **errp);
/* Set the backing image in bs->auto_backing_file etc. from the header. */
int GRAPH_RDLOCK csv_backing_open(BlockDriverState *bs, Error **errp);
/*
 * Set the backing image in @header from the creation options.  *size, if 0,
 * gets the size of the backing image.
 */
int GRAPH_RDLOCK
csv_backing_create(CsvVolume *vol, BdrvChild *file,
                   const BlockdevCreateOptionsCsv *opts, CsvHeader *header,
                   uint64_t *size, Error **errp);

/* Operations of the BlockDriver: see include/block/block_int-common.h. */

int coroutine_fn GRAPH_RDLOCK
csv_co_preadv_part(BlockDriverState *bs, int64_t offset, int64_t bytes,
                   QEMUIOVector *qiov, size_t qiov_offset,
                   BdrvRequestFlags flags);
int coroutine_fn GRAPH_RDLOCK
csv_co_pwritev_part(BlockDriverState *bs, int64_t offset, int64_t bytes,
                    QEMUIOVector *qiov, size_t qiov_offset,
                    BdrvRequestFlags flags);
int coroutine_fn GRAPH_RDLOCK
csv_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                     BdrvRequestFlags flags);
int coroutine_fn GRAPH_RDLOCK
csv_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes);
int coroutine_fn GRAPH_RDLOCK csv_co_flush(BlockDriverState *bs);
int coroutine_fn GRAPH_RDLOCK
csv_co_block_status(BlockDriverState *bs, bool want_zero,
                    int64_t offset, int64_t bytes, int64_t *pnum,
                    int64_t *map, BlockDriverState **file);
int coroutine_fn GRAPH_RDLOCK
csv_co_truncate(BlockDriverState *bs, int64_t offset, bool exact,
                PreallocMode prealloc, BdrvRequestFlags flags, Error **errp);
int coroutine_fn GRAPH_RDLOCK
csv_co_change_backing_file(BlockDriverState *bs, const char *backing_file,
                           const char *backing_fmt);

#endif /* BLOCK_CSV_DISK_H */
