/*
 * Cluster shared volume: what one owner has
 *
 * The third layer: disks that are open, their maps and their data, and making
 * and deleting disks.
 *
 * What volume.h says of threads, the graph and errors holds here as well.
 *
 * Locks, outermost first: flush_lock, place_lock, make_lock, claim_lock,
 * alloc_lock, load_lock, map_lock, all of CsvDisk.  A request of the guest
 * that is queued for a cluster (see io.c) takes any of them but flush_lock;
 * so nobody waits in that queue who holds one.
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

/* Two clusters seldom share one. */
#define CSV_PLACE_LOCKS         64

/* A segment of a disk, in memory. */
typedef struct CsvSegment {
    uint64_t index;
    uint32_t sequence;
    uint32_t free;              /* clear bits in used */
    unsigned long *used;        /* a bit for each cluster */
} CsvSegment;

/*
 * The journal of an owned disk.  Under CsvDisk.flush_lock, or while nobody
 * else can use the disk.
 */
typedef struct CsvJournal {
    uint64_t sequence;          /* of the last record; 0: there is none */
    uint64_t tail;              /* what the next record gives as tail */
    uint32_t first;             /* first page of our half of the ring */
    uint32_t head;              /* page for the next record */
    uint32_t oldest;            /* page of the last durable record's tail */
    bool broken;                /* a write failed: begin a new chain */
} CsvJournal;

/*
 * A level-2 table, in memory: 12 bytes an entry, 6 MiB for a TiB.  Entries
 * are read without a lock: masks first, then place.  A place is given before
 * the first bit of the masks is set.
 */
typedef struct CsvL2Table {
    struct rcu_head rcu;
    bool used;                  /* since the cache last looked; atomic */
    uint16_t dirty;             /* pages to write; under map_lock */
    DECLARE_BITMAP(pending, CSV_L2_ENTRIES);    /* to journal; map_lock */
    /*
     * Clusters whose subclusters without data read as zeroes on the volume,
     * as far as that is known; under map_lock.
     */
    DECLARE_BITMAP(blank, CSV_L2_ENTRIES);
    uint64_t masks[CSV_L2_ENTRIES];
    uint32_t place[CSV_L2_ENTRIES];     /* offset / CSV_CLUSTER_SIZE */
} CsvL2Table;

/* Space of the volume that a cluster of the disk does not use any more. */
typedef struct CsvDiscard {
    uint64_t cluster;           /* of the disk */
    uint64_t offset;            /* in the volume */
    uint32_t subclusters;       /* all ones: the cluster itself is free */
} CsvDiscard;

/* A disk that is open: the state of a csv block node. */
struct CsvDisk {
    BlockDriverState *bs;
    CsvVolume *volume;
    QLIST_ENTRY(CsvDisk) next;
    char *name;                 /* option 'disk', or the only one's name */
    bool force_takeover;
    bool whole;                 /* the node is the volume, without a disk */

    /*
     * The disk's record as last read or written here, and its bytes for the
     * next compare-and-write.  Changed in the main thread only.
     */
    CsvDiskRecord record;
    uint8_t raw[CSV_RECORD_SIZE];
    bool owned;                 /* record.state is owned, and by us */
    bool handed_over;           /* we let it go, to whoever has a token */
    bool lost;                  /* taken by others, until the node is closed */
    uint64_t unsure;            /* epoch in which it may still be ours, or 0 */
    bool give_back;             /* claimed in vain, and still to be let go */
    bool attached;              /* counts in volume->attached */
    bool claiming_node;         /* is about to write the volume */
    bool making;                /* we make it; owned, but not for others */
    QemuUUID made;              /* option 'making' */
    uint32_t use;               /* what the member record says of us, or 0 */

    /*
     * The map: where its tables are, and those of them that are in memory.
     * Both change under map_lock and are read without.  Tables come and go,
     * by RCU, as map-cache.c says; they are made while the disk is owned, and
     * all replaced when the map is read anew because the disk gets owned.
     */
    CsvHeader header;
    unsigned header_copy;               /* the one that counts */
    bool header_differs;                /* the other is old, or damaged */
    uint64_t l1[CSV_MAX_L2_TABLES];     /* offset in the volume; 0: none */
    CsvL2Table *l2[CSV_MAX_L2_TABLES];
    CoMutex place_lock[CSV_PLACE_LOCKS]; /* adds places; by their cluster */
    CoMutex make_lock;          /* adds tables */
    uint64_t tables;            /* cluster with room for tables, or 0 */
    uint32_t tables_used;       /* tables in it */

    /*
     * What is to be journalled, and what the map on the volume lacks.
     * Under map_lock, which is never held over I/O.
     */
    QemuMutex map_lock;
    bool pending;               /* any pending bit below is set */
    bool ordered;               /* ... for data that must be durable first */
    DECLARE_BITMAP(l2_pending, CSV_MAX_L2_TABLES);  /* tables with a bit */
    DECLARE_BITMAP(l1_pending, CSV_MAX_L2_TABLES);  /* new tables */
    DECLARE_BITMAP(l2_dirty, CSV_MAX_L2_TABLES);    /* tables with a bit */
    uint32_t l1_dirty;          /* a bit for each page */
    GArray *freed;              /* of CsvDiscard: by pending changes */
    GArray *discards;           /* of CsvDiscard: by durable changes */

    /* Tables in memory.  Under map_lock, but for cache_size and loading. */
    uint64_t cache_size;        /* option; bytes */
    GArray *cached;             /* of uint32_t: which they are */
    guint cached_hand;          /* where the next eviction begins to look */
    DECLARE_BITMAP(l2_held, CSV_MAX_L2_TABLES); /* a write may fail yet */
    uint64_t map_replaced;      /* how often l1 and l2 were, as a whole */
    uint64_t table_loads;       /* since the disk was opened */
    uint64_t table_evictions;
    CoMutex load_lock;          /* of loading */
    BlockReqList loading;       /* by number of the table */

    /* Allocation: segments and their bitmaps, requests that allocate. */
    CoMutex claim_lock;         /* one claim of a segment at a time */
    QemuMutex alloc_lock;       /* short, and never held over I/O */
    GArray *segments;           /* of CsvSegment, by sequence of discovery */
    GArray *doubtful;           /* of uint32_t: numbers nobody is sure of */
    guint segment_current;      /* where clusters come from */
    guint segment_found;        /* atomic: which the last search found */
    uint64_t free_clusters;     /* in all segments */
    bool adjusting;             /* claims ahead, or gives back; atomic */
    QEMUTimer *adjust_timer;    /* of a disk that is owned; main thread */
    /* Free clusters of one segment that were seen to read as zeroes. */
    uint64_t blank_start;
    uint64_t blank_end;
    uint64_t freed_at;          /* atomic: flush_begun when one was freed */
    BlockReqList allocating;

    CoMutex flush_lock;         /* one commit or checkpoint at a time */
    CsvJournal journal;
    uint64_t flush_begun;       /* atomic: flushes of the journal */
    uint64_t flush_done;        /* atomic: the last of them that was good */

    CsvNodeStats stats;         /* each under the lock of what it counts */
    Stat64 bytes_filled;        /* one that has no lock */
};

/* Does anything stand behind what is not written, even if it is not open? */
static inline bool GRAPH_RDLOCK csv_has_backing(const CsvDisk *disk)
{
    return disk->bs->backing || disk->header.backing_file[0] ||
           !qemu_uuid_is_null(&disk->header.backing);
}

/* claim.c */

/* Read the record of an open disk anew, and leave disk->record alone. */
int GRAPH_RDLOCK csv_disk_reread(CsvDisk *disk, CsvDiskRecord *out,
                                 Error **errp);
/* Would a claim without a token succeed now? */
int GRAPH_RDLOCK csv_disk_may_claim(CsvDisk *disk, Error **errp);
/*
 * Make this member the owner of disk->record.slot.  @token is that of the
 * hand-over in which the disk comes to us, or back to us, and then no other
 * way to get it will do; or NULL.  *was gets the record as it was before.
 * Sends the event.
 */
int GRAPH_RDLOCK csv_disk_claim(CsvDisk *disk, const QemuUUID *token,
                                CsvDiskRecord *was, Error **errp);
/*
 * Give the disk up: to whoever has @token, or to anybody if that is NULL.
 * All that the disk holds must be on stable storage.  Sends the event.
 */
int GRAPH_RDLOCK csv_disk_release(CsvDisk *disk, const QemuUUID *token,
                                  Error **errp);
/*
 * If a disk that we do not own is ours by its record, because it was never
 * known what became of a claim or a release: release it, to who has @token.
 */
int GRAPH_RDLOCK csv_disk_release_unsure(CsvDisk *disk,
                                         const QemuUUID *token);
/*
 * Read the record of a disk that we own, or make: is it still ours?  -ESTALE:
 * no, and the disk is lost from now on.
 */
int GRAPH_RDLOCK csv_disk_confirm(CsvDisk *disk, Error **errp);
/* Change the record of a disk that we own; @doing is for the message. */
int GRAPH_RDLOCK csv_disk_change(CsvDisk *disk, const CsvDiskRecord *rec,
                                 const char *doing, Error **errp);
/* Change the size in the record of a disk that we own. */
int GRAPH_RDLOCK csv_disk_set_size(CsvDisk *disk, uint64_t size, Error **errp);
/*
 * Name in the record of a disk that we own the disk that its backing chain
 * begins with, so that nobody deletes that; all zero for none.
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

/* Fill disk->segments from the segment table; no cluster is used. */
int GRAPH_RDLOCK csv_segments_load(CsvDisk *disk, Error **errp);
void csv_segments_drop(CsvDisk *disk);
/* Bytes in use in the disk's segments.  Any thread, without a lock. */
uint64_t csv_disk_used(const CsvDisk *disk);
/*
 * Claim some of what is missing ahead, one at least.  claim_lock held; any
 * thread.
 */
int coroutine_fn GRAPH_RDLOCK csv_segment_claim_more(CsvDisk *disk);
/* Begin to claim some if too little is left.  Any thread, in a request. */
void coroutine_fn csv_claim_in_time(CsvDisk *disk);
/*
 * Give segments without a used cluster back to the volume: all, of a disk
 * that nobody uses, or all but those that are kept ahead.  Failure costs
 * nothing but space.
 */
void GRAPH_RDLOCK csv_segments_give_back_all(CsvDisk *disk);
void coroutine_fn GRAPH_RDLOCK csv_segments_give_back(CsvDisk *disk);
/* Look how much the volume has left, and hold as much ahead as fits to it. */
void coroutine_fn GRAPH_RDLOCK csv_segments_adjust(CsvDisk *disk);
/* Do so now and then, from a second after the start until it is stopped. */
void csv_adjust_start(CsvDisk *disk);
void csv_adjust_stop(CsvDisk *disk);

/* cluster.c */

/*
 * Mark the cluster at @offset as used.  False with @errp if it is not in
 * the disk's segments, or used already.
 */
bool csv_cluster_use(CsvDisk *disk, uint64_t offset, Error **errp);
/* True if @offset is in a segment of the disk. */
bool csv_segment_has(CsvDisk *disk, uint64_t offset);
/*
 * Allocate a cluster; *offset gets its place, *blank if it is known to read
 * as zeroes.  May claim segments, or start to claim some ahead of need.
 * place_lock or make_lock held.
 */
int coroutine_fn GRAPH_RDLOCK csv_cluster_alloc(CsvDisk *disk,
                                                uint64_t *offset, bool *blank);
/* Give back a cluster that nothing on the volume names.  alloc_lock held. */
void csv_cluster_free(CsvDisk *disk, uint64_t offset);

/* map-cache.c */

/* How many tables are to be in memory at most; more if none can go. */
guint csv_map_cache_tables(const CsvDisk *disk);
/* Bytes that the tables in memory take.  map_lock held. */
uint64_t csv_map_cache_bytes(const CsvDisk *disk);
/*
 * Of the tables in memory: clusters that have a place, and those of them that
 * do not follow the one before.
 */
void csv_map_fragments(CsvDisk *disk, uint64_t *clusters,
                       uint64_t *fragmented);
/* Put @table into its place, which is empty.  map_lock held. */
void csv_map_cache_add(CsvDisk *disk, unsigned t, CsvL2Table *table);
/*
 * Bring table @t into memory; it may be gone again when somebody looks.
 * Reports failure.  Outside of a coroutine nobody else may use the disk.
 */
int coroutine_mixed_fn GRAPH_RDLOCK csv_map_fetch(CsvDisk *disk, unsigned t);
/* Take map_lock with table @t, which was made, in memory; not on failure. */
int coroutine_mixed_fn GRAPH_RDLOCK csv_map_lock(CsvDisk *disk, unsigned t);
/* True if so many tables are dirty that others have no room. */
bool csv_map_crowded(CsvDisk *disk);
/* What was collected and encoded is settled; tables may go. */
void csv_map_release(CsvDisk *disk);

/* map.c */

/* The entry of a cluster; all zero where there is no table.  Any thread. */
int coroutine_mixed_fn GRAPH_RDLOCK
csv_map_get(CsvDisk *disk, uint64_t cluster, CsvL2Entry *entry);
/*
 * Give @cluster a place if it has none.  The caller is queued for a part of
 * the cluster.
 */
int coroutine_fn GRAPH_RDLOCK csv_map_place(CsvDisk *disk, uint64_t cluster,
                                            uint64_t *place);
/* Do subclusters of @cluster that hold no data read as zeroes at its place? */
bool csv_map_blank(CsvDisk *disk, uint64_t cluster);
/* A write to such a subcluster has failed: they do no longer. */
void csv_map_spoil(CsvDisk *disk, uint64_t cluster);
/* Make a table for @cluster if there is none. */
int coroutine_fn GRAPH_RDLOCK csv_map_make_table(CsvDisk *disk,
                                                 uint64_t cluster);
/*
 * Subclusters in @data hold data now, those in @zero read as zeroes, those in
 * @hole as what is below.  The masks do not overlap.  The table was made; the
 * caller is queued for these subclusters, for the whole cluster if @unmap,
 * which frees what holds no data any more.  On failure nothing has changed.
 */
int coroutine_mixed_fn GRAPH_RDLOCK
csv_map_change(CsvDisk *disk, uint64_t cluster, uint32_t data, uint32_t zero,
               uint32_t hole, bool unmap);
/* Forget what is past the end of the disk, @size bytes. */
int coroutine_mixed_fn GRAPH_RDLOCK csv_map_cut(CsvDisk *disk, uint64_t size);
/*
 * Move up to @max changes that are pending into a record at @buf, oldest
 * tables first, and *freed, if it gets them all, what they free.  *ordered:
 * their data must be durable before the record.
 */
uint32_t csv_map_collect(CsvDisk *disk, uint8_t *buf, uint32_t max,
                         GArray *freed, bool *ordered);
/* The record in @buf was not written: its changes are pending again. */
void csv_map_uncollect(CsvDisk *disk, const uint8_t *buf, uint32_t entries);
/*
 * Write all map pages that lack something.  Flushes before each write what
 * it depends on, but not after the last.
 */
int GRAPH_RDLOCK csv_map_write_pages(CsvDisk *disk);
bool csv_map_dirty(CsvDisk *disk);

/* What a range of a disk is. */
typedef enum CsvExtentKind {
    CSV_EXTENT_HOLE,            /* nothing: the backing image, or zeroes */
    CSV_EXTENT_ZERO,
    CSV_EXTENT_DATA,
} CsvExtentKind;

/*
 * The longest range from @offset on, at most @bytes, that is of one kind
 * and, if data, in one piece at *host in the volume; as far as the tables are
 * in memory.  Returns its length, or -errno.  Any thread, no lock.  Outside of
 * a coroutine nobody else may use the disk.
 */
int64_t coroutine_mixed_fn GRAPH_RDLOCK
csv_map_extent(CsvDisk *disk, uint64_t offset, uint64_t bytes,
               CsvExtentKind *kind, uint64_t *host);

/* Is every byte of a loaded disk, which nobody else may use, allocated? */
bool GRAPH_RDLOCK csv_map_is_full(CsvDisk *disk);

/* journal.c */

/* A map that is being read; see map-int.h. */
typedef struct CsvMapLoad CsvMapLoad;

/*
 * Look through the ring of a disk that may not have been closed in order, and
 * apply what counts to the map in @load.  Sets disk->journal.
 */
int GRAPH_RDLOCK csv_journal_replay(CsvDisk *disk, CsvMapLoad *load,
                                    Error **errp);
/* The position as the disk record gives it. */
void csv_journal_position(CsvDisk *disk, const CsvDiskRecord *rec);
/* A new owner's first act: pages, then a record with its epoch. */
int GRAPH_RDLOCK csv_journal_mount(CsvDisk *disk, Error **errp);
/*
 * Before a disk is let go: all is in the map, and the last record says so.
 * Fills the journal position in @rec.
 */
int GRAPH_RDLOCK csv_journal_settle(CsvDisk *disk, CsvDiskRecord *rec);
/*
 * Make all changes of the map durable that were made before the call, and
 * the data they stand for.  When nothing changed this does nothing, and not
 * even flush.
 */
int coroutine_fn GRAPH_RDLOCK csv_journal_commit(CsvDisk *disk);

/* header.c */

/* Write the header and an empty level-1 map into a new disk. */
int GRAPH_RDLOCK csv_map_format(CsvVolume *vol, BdrvChild *file,
                                const CsvDiskRecord *disk,
                                const CsvHeader *header, Error **errp);
/* Replace the header of an owned disk: both copies, one after the other. */
int GRAPH_RDLOCK csv_header_write(CsvDisk *disk, const CsvHeader *header,
                                  Error **errp);
/*
 * Bring name and size in it up to date, of an owned disk, and a copy that a
 * crash left behind.  They are needed only if the disk record or the other
 * copy is lost; if this fails, the next owner does it.
 */
void GRAPH_RDLOCK csv_header_refresh(CsvDisk *disk);

/* map-load.c */

/*
 * Read header and maps, and what the journal holds beyond them; segments
 * must be loaded.  @clean: the disk record says that this is nothing.
 */
int GRAPH_RDLOCK csv_map_load(CsvDisk *disk, bool clean, Error **errp);
void csv_map_drop(CsvDisk *disk);

/* use.c */

/*
 * Begin to read, or with @write to write, the disk, which is sealed or shared
 * and the node attached.  disk->record is what it is now.  May be called
 * again with another @write.
 */
int GRAPH_RDLOCK csv_use_enter(CsvDisk *disk, bool write, Error **errp);
void GRAPH_RDLOCK csv_use_leave(CsvDisk *disk);
/*
 * Change the flags of a disk that nobody owns, nor uses if it has flags.  The
 * caller is attached.
 */
int GRAPH_RDLOCK
csv_disk_set_flags(CsvVolume *vol, BdrvChild *file, const char *name,
                   uint32_t flags, Error **errp);

/* make.c */

/*
 * Free the segments of @rec, if it still is what @raw says, and then the
 * record.  Whoever had it must not live, except ourselves.  Attached.
 * @progress is as in csv_segments_free().
 */
int GRAPH_RDLOCK
csv_disk_erase(CsvVolume *vol, BdrvChild *file, CsvDiskRecord *rec,
               uint8_t *raw, ProgressMeter *progress, Error **errp);

/* A disk in the making: its record, and the bytes of that. */
typedef struct CsvMaking {
    CsvDiskRecord rec;
    uint8_t raw[CSV_RECORD_SIZE];
} CsvMaking;

/*
 * Begin to make a disk; @header says what its backing image is.  In a
 * coroutine; the caller is attached, until the end.  With success *making is
 * a disk that has all a disk needs but is not complete, and
 * csv_disk_make_end() must follow.
 */
int coroutine_fn GRAPH_RDLOCK
csv_disk_make_begin(CsvVolume *vol, BdrvChild *file, const char *name,
                    uint64_t size, const CsvHeader *header,
                    CsvMaking *making, Error **errp);
/*
 * Complete it: a disk without an owner.  Or, if @ret < 0, or if that fails,
 * delete it.  Returns @ret, or what went wrong here.
 */
int GRAPH_RDLOCK csv_disk_make_end(CsvVolume *vol, BdrvChild *file,
                                   CsvMaking *making, int ret, Error **errp);
/*
 * Delete a disk that has no owner.  The caller is attached.  @progress is as
 * in csv_segments_free().
 */
int GRAPH_RDLOCK csv_disk_delete(CsvVolume *vol, BdrvChild *file,
                                 const char *name, ProgressMeter *progress,
                                 Error **errp);

/*
 * Give a disk another name, or another description.  Nobody else may own it.
 * The caller is attached.
 */
int GRAPH_RDLOCK csv_disk_rename(CsvVolume *vol, BdrvChild *file,
                                 const char *name, const char *new_name,
                                 Error **errp);
int GRAPH_RDLOCK csv_disk_describe(CsvVolume *vol, BdrvChild *file,
                                   const char *name, const char *text,
                                   Error **errp);

/* io.c */

/* Subclusters that [offset, offset + bytes) of one cluster touches. */
uint32_t csv_touched(uint64_t offset, uint64_t bytes);
/*
 * Enter the queue for what is in a range: in units of subclusters, or of whole
 * clusters.  Nobody else changes its map until csv_queue_leave().
 */
void coroutine_fn csv_queue_enter(CsvDisk *disk, BlockReq *req,
                                  uint64_t offset, uint64_t bytes,
                                  uint64_t unit);
void coroutine_fn csv_queue_leave(CsvDisk *disk, BlockReq *req);

/*
 * Make whole subclusters read as zeroes, or as what is below; @unmap frees
 * their space.  -ENOTSUP when they are not whole.
 */
int coroutine_fn GRAPH_RDLOCK
csv_clear_range(BlockDriverState *bs, int64_t offset, int64_t bytes,
                bool zero, bool unmap);

/* prealloc.c */

/*
 * Give [from, to) of an owned disk places in the volume and, with 'falloc'
 * and 'full', storage: it is data then, and reads as zeroes.  Nobody uses the
 * range yet.  @from is a subcluster's start, @to is rounded up to one.  All is
 * on stable storage when this returns, or nothing is left.
 */
int coroutine_fn GRAPH_RDLOCK
csv_preallocate(BlockDriverState *bs, uint64_t from, uint64_t to,
                PreallocMode mode, Error **errp);

/* backing.c */

/*
 * If the block layer opens @disk because another is based on it, and so on:
 * is that chain one that ends?
 */
int csv_backing_check_chain(const CsvDisk *disk, Error **errp);
/* Tell the block layer which backing image the header names. */
int GRAPH_RDLOCK csv_backing_open(BlockDriverState *bs, Error **errp);
/* What the options of creation say about the backing image. */
int GRAPH_RDLOCK
csv_backing_create(CsvVolume *vol, BdrvChild *file,
                   const BlockdevCreateOptionsCsv *opts, CsvHeader *header,
                   uint64_t *size, Error **errp);

/*
 * Operations of the BlockDriver.  What they do and return is what
 * include/block/block_int-common.h says of the operations with these names.
 */

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
