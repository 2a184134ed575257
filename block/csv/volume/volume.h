/*
 * Cluster shared volume: what the members of a volume share
 *
 * The second layer.  It knows records, members, segments and space, and of an
 * open disk (CsvDisk) no more than that there is one.
 *
 * Unless it says otherwise a function runs in the main thread or in a
 * coroutine there, with the graph locked for reading where it takes a
 * BdrvChild, and does I/O in both (it is a coroutine_mixed_fn).  Functions
 * that return int return 0 or more for success and -errno for failure, with
 * @errp set in every case of failure if they take one.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BLOCK_CSV_VOLUME_H
#define BLOCK_CSV_VOLUME_H

#include "block/block-io.h"
#include "block/block_int.h"
#include "block/csv/format/breaks.h"
#include "block/csv/format/format.h"
#include "gate.h"
#include "qapi/qapi-types-csv.h"
#include "qemu/progress_meter.h"

/* How often a change is tried again when others change the same record. */
#define CSV_SWAP_TRIES 100

typedef struct CsvVolume CsvVolume;
typedef struct CsvDisk CsvDisk;
typedef struct CsvLeaseOps CsvLeaseOps;
typedef struct CsvPeer CsvPeer;

/*
 * A volume as this process sees it through one block node.  Lives from the
 * first csv_volume_get() on that node to the last csv_volume_put().
 * Protected by the BQL, but for what is atomic.
 */
struct CsvVolume {
    BlockDriverState *bs;       /* the node that holds the volume */
    unsigned refs;
    CsvSuperblock sb;           /* as last read or written here */
    char uuid[UUID_STR_LEN];    /* sb.uuid, which stays */

    /*
     * This member.  Valid while locked, that is, while it has its lease: from
     * before its record says "active" until after it says "unused", or until
     * the process ends.
     */
    CsvMemberRecord me;
    bool locked;
    unsigned attached;          /* users of the membership */
    GPtrArray *ways;            /* BdrvChild * by which each attached */
    CoMutex member_lock;        /* joining, leaving, changes of our record */

    const CsvLeaseOps *lease;   /* ours, while locked */
    CsvPeer *peers;             /* by slot; NULL: none needs a beat */
    QEMUTimer *lease_timer;     /* NULL: not needed */
    CsvGate gate;               /* may we write now? */

    uint64_t segment_hint;      /* table page with free segments, a guess */
    unsigned space;             /* segments that it has left, a guess; atomic */
    uint64_t threshold;         /* of free bytes, or 0; atomic */
    bool low;                   /* there are fewer, as was told; atomic */
    QLIST_HEAD(, CsvDisk) disks;    /* open through this node */
    QLIST_ENTRY(CsvVolume) next;
};

/* Name for messages: the volume's name, or its UUID.  Owned by @vol. */
static inline const char *csv_volume_label(const CsvVolume *vol)
{
    return vol->sb.name[0] ? vol->sb.name : vol->uuid;
}

/* record.c */

/* Read the record at @offset into @buf (CSV_RECORD_SIZE bytes). */
int GRAPH_RDLOCK csv_record_read(BdrvChild *file, uint64_t offset,
                                 uint8_t *buf);
/*
 * Replace the record at @offset by @new if it is still @old.  Returns 0, or
 * -EAGAIN if it is not, or another -errno.
 */
int GRAPH_RDLOCK
csv_record_swap(CsvVolume *vol, BdrvChild *file, uint64_t offset,
                const uint8_t *old, const uint8_t *new);

/* Where the record of member @slot is. */
uint64_t csv_member_offset(const CsvVolume *vol, uint32_t slot);
/* Read and check the record of member @slot. */
int GRAPH_RDLOCK
csv_member_read(CsvVolume *vol, BdrvChild *file, uint32_t slot,
                CsvMemberRecord *out, Error **errp);
/* The same; @raw, of CSV_RECORD_SIZE bytes, is what was read. */
int GRAPH_RDLOCK
csv_member_read_raw(CsvVolume *vol, BdrvChild *file, uint32_t slot,
                    CsvMemberRecord *out, uint8_t *raw, Error **errp);
/*
 * Replace our own record, and vol->me, by @me.  -ESTALE: the record is not ours
 * any more.  member_lock held.
 */
int GRAPH_RDLOCK csv_member_write(CsvVolume *vol, BdrvChild *file,
                                  const CsvMemberRecord *me);

/* Walk over a table of records, read in large pieces. */
typedef struct CsvTableIter {
    BdrvChild *file;
    uint64_t offset;
    uint32_t slots;
    uint32_t slot;              /* of @record */
    uint32_t have;              /* slots in buf, from first on */
    uint32_t first;
    uint8_t *buf;
    const uint8_t *record;
} CsvTableIter;

void csv_table_iter(CsvTableIter *it, BdrvChild *file, uint64_t offset,
                    uint32_t slots);
/* 1: @it->record is the next one.  0: there is none.  Else -errno. */
int GRAPH_RDLOCK csv_table_next(CsvTableIter *it);
/* For an iteration that is left early; the end does it by itself. */
void csv_table_end(CsvTableIter *it);

/* Read and check disk record @slot; its bytes go to @raw. */
int GRAPH_RDLOCK
csv_disk_read(CsvVolume *vol, BdrvChild *file, uint32_t slot,
              CsvDiskRecord *out, uint8_t *raw, Error **errp);

/*
 * A change of a disk's record.  record.c has the table of them: from which
 * states each is legal, to which it leads, whom the record names then.
 */
typedef enum CsvMove {
    CSV_MOVE_RESERVE,           /* a free slot, for a disk in the making */
    CSV_MOVE_FURNISH,           /* which has what a disk needs now */
    CSV_MOVE_COMPLETE,          /* and is complete */
    CSV_MOVE_CLAIM,             /* become the owner */
    CSV_MOVE_RELEASE,           /* no owner any more */
    CSV_MOVE_OFFER,             /* hand over, to who shows rec->token */
    CSV_MOVE_EDIT,              /* other fields; the state stays */
    CSV_MOVE_CONDEMN,           /* begin to delete */
    CSV_MOVE_SPARE,             /* but do not: back to rec->state */
    CSV_MOVE_ERASE,             /* the slot is free */
} CsvMove;

/*
 * Make @move, from the record whose bytes are @raw, to @rec, of which state,
 * owner, epoch, time and token are filled in here.  Returns 0, and @rec and
 * @raw are what is on the volume now; -EAGAIN: another member changed the
 * record; -EPERM: the move is not legal; or another -errno, which leaves open
 * whether the change was made.
 *
 * If an earlier change of ours, whose outcome was left open, turns out to have
 * been made, because owner and epoch are still ours, the move goes on from
 * there.
 */
int GRAPH_RDLOCK
csv_disk_move(CsvVolume *vol, BdrvChild *file, CsvMove move,
              CsvDiskRecord *rec, uint8_t *raw);

/* What csv_disk_transit() works on. */
typedef struct CsvTransit {
    const char *doing;          /* for messages: "claim" */
    BdrvChild *file;            /* set by csv_disk_transit() */
    CsvDiskRecord rec;          /* in: slot and UUID; then what it becomes */
    CsvDiskRecord was;          /* what it was */
    uint8_t raw[CSV_RECORD_SIZE];   /* the bytes of @rec when it is done */
    bool open;                  /* it failed, and may have been made */
} CsvTransit;

/* Refuse, with @errp, or change t->rec beyond what the move does. */
typedef int CsvDiskDecide(void *opaque, CsvTransit *t, Error **errp);

/*
 * Read a record, decide, swap; and begin again when it changed meanwhile.
 */
int GRAPH_RDLOCK
csv_disk_transit(CsvVolume *vol, BdrvChild *file, CsvMove move,
                 CsvDiskDecide *decide, void *opaque, CsvTransit *t,
                 Error **errp);
/* For repair: put @new in the place of a record that says nothing. */
int GRAPH_RDLOCK
csv_disk_replace(CsvVolume *vol, BdrvChild *file, const CsvDiskRecord *new,
                 uint8_t *raw);
CsvDiskState csv_disk_state(CsvDiskRecordState state);

/* volume.c */

/*
 * The volume on @file's node: the one that this process has open, or a new
 * one after reading the superblock.
 */
CsvVolume *GRAPH_RDLOCK csv_volume_get(BdrvChild *file, Error **errp);
void csv_volume_put(CsvVolume *vol);
/* Iterate over the open volumes; NULL starts and ends. */
CsvVolume *csv_volume_next(CsvVolume *vol);
/*
 * The way from @blk to its node, for the functions here; for commands that
 * reach a volume of which no disk is open.
 */
BdrvChild *csv_blk_child(BlockBackend *blk);
/* Find the size of @bs anew, for others may have made the volume grow. */
int GRAPH_RDLOCK csv_refresh_length(BlockDriverState *bs);
/* Segments that the volume can have at most. */
uint64_t csv_volume_max_segments(const CsvSuperblock *sb);
/* Read the superblock anew. */
int GRAPH_RDLOCK csv_volume_refresh(CsvVolume *vol, BdrvChild *file,
                                    Error **errp);
/* Clear the autoclear features that this program does not know. */
int GRAPH_RDLOCK csv_superblock_clear(CsvVolume *vol, BdrvChild *file,
                                      Error **errp);
/*
 * Change the superblock to @sb, which was made from the one of its generation,
 * unless that has been changed: -EAGAIN.
 */
int GRAPH_RDLOCK csv_superblock_swap(CsvVolume *vol, BdrvChild *file,
                                     CsvSuperblock *sb, Error **errp);
/* Change @sb as @arg says; false if there is nothing to change. */
typedef bool CsvSuperblockEdit(CsvSuperblock *sb, uint64_t arg);
/* Change the superblock by @edit; again if another member changed it. */
int GRAPH_RDLOCK csv_superblock_change(CsvVolume *vol, BdrvChild *file,
                                       CsvSuperblockEdit *edit, uint64_t arg,
                                       Error **errp);

/* A child by which this member attached and can write now, or NULL. */
BdrvChild *csv_volume_way(CsvVolume *vol);
/* May records be changed through @file now?  Not while it is inactive. */
bool csv_may_write(BdrvChild *file);

/* member.c */

/* Join the volume, or count one more user of the membership. */
int GRAPH_RDLOCK csv_member_attach(CsvVolume *vol, BdrvChild *file,
                                   Error **errp);
/*
 * One user less, which had attached with @file; the last one leaves the volume.
 * If @file is inactive, the record stays until another member takes the slot.
 */
void GRAPH_RDLOCK csv_member_detach(CsvVolume *vol, BdrvChild *file);
/* Edit a copy of our record.  1: write it.  0: no change.  Must not yield. */
typedef int CsvMemberEdit(CsvMemberRecord *me, void *opaque, Error **errp);
/* Change our own record by @edit, which is called under member_lock. */
int GRAPH_RDLOCK csv_member_change(CsvVolume *vol, BdrvChild *file,
                                   CsvMemberEdit *edit, void *opaque,
                                   Error **errp);
/* What is known about @slot in @incarnation.  @rec: its current record. */
CsvLiveness GRAPH_RDLOCK
csv_member_liveness(CsvVolume *vol, BdrvChild *file,
                    const CsvMemberRecord *rec, uint64_t incarnation);
/*
 * Is there another member that lives or may live?  Then *who describes it.
 */
bool GRAPH_RDLOCK csv_member_other(CsvVolume *vol, BdrvChild *file,
                                   char **who);
/*
 * The caller vouches that the member in @slot with @incarnation is dead: mark
 * it as fenced.  -EBUSY: it is alive.  -ENOENT: there is no such member.  This
 * needs no membership, for which there may be no free slot.
 */
int GRAPH_RDLOCK csv_member_evict(CsvVolume *vol, BdrvChild *file,
                                  uint32_t slot, uint64_t incarnation,
                                  Error **errp);
bool csv_member_is_me(const CsvVolume *vol, uint32_t slot,
                      uint64_t incarnation);
/* "host h, pid p, member m (since t)" for messages; to be freed. */
char *csv_member_describe(const CsvMemberRecord *rec);
CsvMemberInfo * GRAPH_RDLOCK
csv_member_info(CsvVolume *vol, BdrvChild *file, const CsvMemberRecord *rec,
                uint64_t incarnation);

/* host.c */

/* Fill in the fields that identify this host, boot and process. */
void csv_host_fill(CsvMemberRecord *rec);
/*
 * Was the member in @rec on this host?  In this boot, or in an earlier one, of
 * which no process is left; for an earlier one the host name must match as
 * well, because copied machines may share an ID.
 */
bool csv_host_is_here(const CsvMemberRecord *rec);
/*
 * Was the member in @rec on this host, and is its process certainly gone: from
 * an earlier boot, or not there although we would see it?
 */
bool csv_host_process_is_gone(const CsvMemberRecord *rec);

/* gate.c */

/*
 * Wait until this member may write.  0: now.  -ESTALE: never again, its lease
 * is lost.  -ETIMEDOUT, outside of a coroutine: not now.  Any thread.
 */
int coroutine_mixed_fn csv_gate_wait(CsvVolume *vol);
static inline int coroutine_mixed_fn csv_gate_pass(CsvVolume *vol)
{
    return likely(csv_gate_is_open(&vol->gate)) ? 0 : csv_gate_wait(vol);
}
/* Open until @deadline, by get_clock(); INT64_MAX: without end.  Any thread. */
void csv_gate_extend(CsvVolume *vol, int64_t deadline);
/* Closed until this member has left: all that wait, or will, get -ESTALE. */
void csv_gate_cut(CsvVolume *vol);
/* A new membership begins: open without a deadline. */
void csv_gate_reset(CsvVolume *vol);
/* bdrv_pwrite() of what this member has been given, as soon as it may write. */
int coroutine_mixed_fn GRAPH_RDLOCK
csv_pwrite(CsvVolume *vol, BdrvChild *file, int64_t offset, int64_t bytes,
           const void *buf, BdrvRequestFlags flags);

/* directory.c */

/* The disk that an entry of CsvMemberRecord.use names. */
static inline uint32_t csv_use_slot(uint32_t use)
{
    return (use & CSV_USE_SLOT) - 1;
}

/* Seconds since 1970 for messages; to be freed. */
char *csv_time(uint64_t t);
/*
 * Who stands in the way?  Fills *why with the owner's description.  @rec
 * names an owner.
 */
CsvLiveness GRAPH_RDLOCK
csv_disk_owner(CsvVolume *vol, BdrvChild *file, const CsvDiskRecord *rec,
               char **why);
/*
 * May the disk in @rec be taken although it has an owner?  0 if so.
 * @doing: what the owner does with it, for the message.
 */
int GRAPH_RDLOCK
csv_disk_may_take(CsvVolume *vol, BdrvChild *file, const CsvDiskRecord *rec,
                  bool force, const char *doing, Error **errp);
/*
 * Find the disk with @uuid; with @overlay, the first one that is based on it.
 * 1: found, 0: there is none.
 */
int GRAPH_RDLOCK
csv_disk_find_uuid(CsvVolume *vol, BdrvChild *file, const QemuUUID *uuid,
                   bool overlay, CsvDiskRecord *out, Error **errp);
/*
 * Find a disk by name, or by UUID if no disk has that name; without a name
 * the only one.  -ENOENT.
 */
int GRAPH_RDLOCK
csv_disk_find(CsvVolume *vol, BdrvChild *file, const char *name,
              CsvDiskRecord *out, uint8_t *raw, Error **errp);
/* Find a disk by its UUID.  -ENOENT. */
int GRAPH_RDLOCK
csv_disk_by_uuid(CsvVolume *vol, BdrvChild *file, const QemuUUID *uuid,
                 CsvDiskRecord *out, Error **errp);
/* -EBUSY, with its name, if a member that may live uses @disk. */
int GRAPH_RDLOCK
csv_use_check_none(CsvVolume *vol, BdrvChild *file, const CsvDiskRecord *disk,
                   Error **errp);

/* segment.c */

typedef struct CsvClaim {
    uint32_t sequence;          /* in: as which one of the disk */
    uint64_t index;             /* out: which one of the volume */
} CsvClaim;

/*
 * Claim up to @want free segments for disk @slot.  Returns how many, at least
 * one, or -errno; -ENOSPC when there is none.
 */
int GRAPH_RDLOCK
csv_segments_claim(CsvVolume *vol, BdrvChild *file, uint32_t slot,
                   CsvClaim *claims, unsigned want, Error **errp);
/*
 * Free those segments of disk @slot in page @page of the table that have a
 * bit in @which.
 */
int GRAPH_RDLOCK
csv_segments_free_some(CsvVolume *vol, BdrvChild *file, uint64_t page,
                       uint32_t slot, uint64_t which, Error **errp);
/*
 * Free every segment of disk @slot.  @progress counts pages of the segment
 * table; NULL: not wanted.
 */
int GRAPH_RDLOCK csv_segments_free(CsvVolume *vol, BdrvChild *file,
                                   uint32_t slot, ProgressMeter *progress,
                                   Error **errp);
/*
 * Walk over the segment table as it is now.  @fn is called for each segment
 * that belongs to a disk, and returns false with @errp set to stop.  @bad is
 * called for a page that cannot be decoded, for @why: it fills the entries
 * with what is to count instead, and returns true, or false to stop.  Without
 * @bad such a page is the end.
 */
typedef bool CsvSegmentFn(void *opaque, uint64_t index,
                          const CsvSegmentEntry *entry, Error **errp);
typedef bool CsvSegmentBadFn(void *opaque, uint64_t page,
                             CsvSegmentEntry *entry, const Error *why);
int GRAPH_RDLOCK
csv_segments_walk(CsvVolume *vol, BdrvChild *file, CsvSegmentFn *fn,
                  CsvSegmentBadFn *bad, void *opaque, Error **errp);
/*
 * Count segments: @per_disk (sb.disk_slots entries, or NULL) and @free.
 */
int GRAPH_RDLOCK
csv_segments_count(CsvVolume *vol, BdrvChild *file, uint64_t *per_disk,
                   uint64_t *free, Error **errp);

/* space.c */

/*
 * Let the volume use @size bytes of its node, or all of it if @size is 0.
 * The node must be that large.  -EINVAL when that is no more than before.
 */
int GRAPH_RDLOCK csv_volume_grow(CsvVolume *vol, BdrvChild *file,
                                 uint64_t size, Error **errp);

/* Bring vol->space up to date, and do as csv_space_inspect().  Any thread. */
int coroutine_mixed_fn GRAPH_RDLOCK csv_space_count(CsvVolume *vol,
                                                    BdrvChild *file);
/*
 * Segments were claimed or freed: send CSV_VOLUME_THRESHOLD if there are too
 * few now.  Any thread.
 */
void coroutine_mixed_fn GRAPH_RDLOCK csv_space_inspect(CsvVolume *vol,
                                                       BdrvChild *file);
/* Have that event sent when fewer than @free bytes are left; 0: never. */
int GRAPH_RDLOCK csv_space_set_threshold(CsvVolume *vol, BdrvChild *file,
                                         uint64_t free, Error **errp);

#endif /* BLOCK_CSV_VOLUME_H */
