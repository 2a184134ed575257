/*
 * Cluster shared volume: the volume and its members
 *
 * The second layer: records, members, segments and space.  An open disk
 * (CsvDisk) is opaque here.
 *
 * Unless documented otherwise, a function runs in the main thread, in a
 * coroutine or not, and does I/O (it is a coroutine_mixed_fn).  If it takes a
 * BdrvChild, the graph is locked for reading.  A function that returns int
 * returns 0 or more on success and -errno on failure; if it takes @errp, that
 * is set on every failure.
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

/* Retries after losing a compare-and-write race. */
#define CSV_SWAP_TRIES 100

typedef struct CsvVolume CsvVolume;
typedef struct CsvDisk CsvDisk;
typedef struct CsvLeaseOps CsvLeaseOps;
typedef struct CsvPeer CsvPeer;

/* How a process leaves a volume of which it uses no disk; see leave.c. */
typedef struct CsvLeave {
    QEMUTimer *timer;           /* NULL: no disk was inactivated so far */
    int ms;                     /* its period */
    bool running;               /* the coroutine is at work */
    bool again;                 /* a disk was inactivated since it began */
    bool able;                  /* it can leave once the node is active */
    bool ending;                /* permissions are to be dropped */
    bool activated;             /* ... and the node is to be inactivated */
} CsvLeave;

/*
 * A volume that this process has open through one block node.  Lives from the
 * first csv_volume_get() on that node to the last csv_volume_put().  Protected
 * by the BQL, except for atomic fields.
 */
struct CsvVolume {
    BlockDriverState *bs;       /* the node that holds the volume */
    unsigned refs;
    CsvSuperblock sb;           /* as last read or written */
    char uuid[UUID_STR_LEN];    /* sb.uuid, which never changes */

    /*
     * Our own record.  Valid while locked, which means that we have our lease:
     * it is acquired before the record says "active" and released after it says
     * "unused".
     */
    CsvMemberRecord me;
    bool locked;
    unsigned attached;          /* users of the membership */
    GPtrArray *ways;            /* the BdrvChild * of each user */
    CoMutex member_lock;        /* joining, leaving, changes of our record */

    const CsvLeaseOps *lease;   /* ours, while locked */
    CsvPeer *peers;             /* by slot; NULL: no lease needs a beat */
    QEMUTimer *lease_timer;     /* NULL: not needed */
    CsvGate gate;               /* may we write now? */
    CsvLeave leave;

    uint32_t slot_hint;         /* guess: slot of a member that is free */
    uint64_t segment_hint;      /* guess: table page with free segments */
    unsigned space;             /* guess: free segments; atomic */
    uint64_t threshold;         /* for the event, in bytes; 0: none; atomic */
    bool low;                   /* event sent, not above since; atomic */
    QLIST_HEAD(, CsvDisk) disks;    /* open through this node */
    QLIST_ENTRY(CsvVolume) next;
};

/* Name of the volume for messages, or else its UUID.  Owned by @vol. */
static inline const char *csv_volume_label(const CsvVolume *vol)
{
    return vol->sb.name[0] ? vol->sb.name : vol->uuid;
}

/* record.c */

/* Read the record at @offset into @buf (CSV_RECORD_SIZE bytes). */
int GRAPH_RDLOCK csv_record_read(BdrvChild *file, uint64_t offset,
                                 uint8_t *buf);
/*
 * Replace the record at @offset by @new if it still is @old (both have
 * CSV_RECORD_SIZE bytes), and flush.  0: done.  -EAGAIN: it differs.  After any
 * other error the record may or may not have been written.
 */
int GRAPH_RDLOCK
csv_record_swap(CsvVolume *vol, BdrvChild *file, uint64_t offset,
                const uint8_t *old, const uint8_t *new);

/* Offset of the record of member @slot in the volume. */
uint64_t csv_member_offset(const CsvVolume *vol, uint32_t slot);
/* Read and check the record of member @slot. */
int GRAPH_RDLOCK
csv_member_read(CsvVolume *vol, BdrvChild *file, uint32_t slot,
                CsvMemberRecord *out, Error **errp);
/* The same; @raw gets the bytes that were read, CSV_RECORD_SIZE of them. */
int GRAPH_RDLOCK
csv_member_read_raw(CsvVolume *vol, BdrvChild *file, uint32_t slot,
                    CsvMemberRecord *out, uint8_t *raw, Error **errp);
/*
 * Replace our own record, and vol->me, by @me.  -ESTALE: the record is no
 * longer ours.  member_lock held.
 */
int GRAPH_RDLOCK csv_member_write(CsvVolume *vol, BdrvChild *file,
                                  const CsvMemberRecord *me);

/* Iterates over a table of records, which is read in large pieces. */
typedef struct CsvTableIter {
    BdrvChild *file;
    uint64_t offset;
    uint32_t slots;
    uint32_t slot;              /* of record */
    uint32_t have;              /* number of slots in buf */
    uint32_t first;             /* first slot in buf */
    uint8_t *buf;
    const uint8_t *record;
} CsvTableIter;

void csv_table_iter(CsvTableIter *it, BdrvChild *file, uint64_t offset,
                    uint32_t slots);
/* 1: it->record is the next record.  0: the end.  Else -errno. */
int GRAPH_RDLOCK csv_table_next(CsvTableIter *it);
/* Needed only if an iteration stops early. */
void csv_table_end(CsvTableIter *it);

/* Read and check disk record @slot; @raw gets its CSV_RECORD_SIZE bytes. */
int GRAPH_RDLOCK
csv_disk_read(CsvVolume *vol, BdrvChild *file, uint32_t slot,
              CsvDiskRecord *out, uint8_t *raw, Error **errp);

/*
 * A transition of a disk's record.  The table in record.c has the states in
 * which each is legal, the new state, and the member that the record names
 * then.
 */
typedef enum CsvMove {
    CSV_MOVE_RESERVE,           /* take a free slot, to create a disk */
    CSV_MOVE_FURNISH,           /* its segment and header exist */
    CSV_MOVE_COMPLETE,          /* the disk is complete, without an owner */
    CSV_MOVE_CLAIM,             /* become the owner */
    CSV_MOVE_RELEASE,           /* cease to be the owner */
    CSV_MOVE_OFFER,             /* the same, for a member with rec->token */
    CSV_MOVE_EDIT,              /* change other fields; the state stays */
    CSV_MOVE_CONDEMN,           /* start to delete */
    CSV_MOVE_SPARE,             /* do not delete: back to rec->state */
    CSV_MOVE_ERASE,             /* free the slot */
} CsvMove;

/*
 * Make @move: replace the record with the bytes @raw by @rec.  State, owner,
 * epoch, time and token of @rec are filled in here.  0: @rec and @raw are what
 * is on the volume now.  -EAGAIN: another member has changed the record.
 * -EPERM: the move is not legal.  After any other error the change may or may
 * not have been made.
 *
 * If the record differs because an earlier change of ours was reported as
 * failed but was made (owner and epoch are still ours), the move continues from
 * there.
 */
int GRAPH_RDLOCK
csv_disk_move(CsvVolume *vol, BdrvChild *file, CsvMove move,
              CsvDiskRecord *rec, uint8_t *raw);

/* What csv_disk_transit() works on. */
typedef struct CsvTransit {
    const char *doing;          /* for messages: "claim" */
    BdrvChild *file;            /* set by csv_disk_transit() */
    CsvDiskRecord rec;          /* in: slot and UUID; out: the new record */
    CsvDiskRecord was;          /* the previous record */
    uint8_t raw[CSV_RECORD_SIZE];   /* the bytes of the new record */
    bool open;                  /* failed, but may have been made */
} CsvTransit;

/*
 * Refuse with -errno and @errp set, or return 0, after editing fields of t->rec
 * that the move does not set.
 */
typedef int CsvDiskDecide(void *opaque, CsvTransit *t, Error **errp);

/*
 * Read the record, call @decide, make @move; start over if another member
 * changed the record meanwhile.
 */
int GRAPH_RDLOCK
csv_disk_transit(CsvVolume *vol, BdrvChild *file, CsvMove move,
                 CsvDiskDecide *decide, void *opaque, CsvTransit *t,
                 Error **errp);
/* For repair: replace the damaged record with the bytes @raw by @new. */
int GRAPH_RDLOCK
csv_disk_replace(CsvVolume *vol, BdrvChild *file, const CsvDiskRecord *new,
                 uint8_t *raw);
CsvDiskState csv_disk_state(CsvDiskRecordState state);

/* volume.c */

/*
 * A reference to the volume on @file's node: the one that is open already, or a
 * new one after reading the superblock.
 */
CsvVolume *GRAPH_RDLOCK csv_volume_get(BdrvChild *file, Error **errp);
void csv_volume_put(CsvVolume *vol);
/* Iterate over the open volumes; NULL starts and ends. */
CsvVolume *csv_volume_next(CsvVolume *vol);
/* The BdrvChild of @blk, for commands on a volume without an open disk. */
BdrvChild *csv_blk_child(BlockBackend *blk);
/* Update the size of @bs: another member may have grown the volume. */
int GRAPH_RDLOCK csv_refresh_length(BlockDriverState *bs);
/* Maximum number of segments of the volume. */
uint64_t csv_volume_max_segments(const CsvSuperblock *sb);
/* Read the superblock again, into vol->sb. */
int GRAPH_RDLOCK csv_volume_refresh(CsvVolume *vol, BdrvChild *file,
                                    Error **errp);
/* Clear unknown autoclear features in the superblock. */
int GRAPH_RDLOCK csv_superblock_clear(CsvVolume *vol, BdrvChild *file,
                                      Error **errp);
/*
 * Replace the superblock by @sb, a changed copy of the one with sb->generation,
 * which is incremented.  -EAGAIN: the volume has another generation by now.
 */
int GRAPH_RDLOCK csv_superblock_swap(CsvVolume *vol, BdrvChild *file,
                                     CsvSuperblock *sb, Error **errp);
/* Edit @sb as @arg says; false if there is nothing to change. */
typedef bool CsvSuperblockEdit(CsvSuperblock *sb, uint64_t arg);
/* Change the superblock by @edit, which is called again after a lost race. */
int GRAPH_RDLOCK csv_superblock_change(CsvVolume *vol, BdrvChild *file,
                                       CsvSuperblockEdit *edit, uint64_t arg,
                                       Error **errp);

/* A child of an attached user through which records can be written, or NULL. */
BdrvChild *csv_volume_way(CsvVolume *vol);
/* May records be written through @file?  Not if read-only or inactive. */
bool csv_may_write(BdrvChild *file);

/* member.c */

/*
 * Find a slot that looks free, for when we join: a node that is opened inactive
 * joins when its guest moves here, and then a whole table costs time.
 */
void GRAPH_RDLOCK csv_member_look(CsvVolume *vol, BdrvChild *file);
/* Join the volume, or add a user to the membership. */
int GRAPH_RDLOCK csv_member_attach(CsvVolume *vol, BdrvChild *file,
                                   Error **errp);
/*
 * Remove a user that attached with @file; the last one leaves the volume.  If
 * @file is inactive, the record stays until another member takes the slot.
 */
void GRAPH_RDLOCK csv_member_detach(CsvVolume *vol, BdrvChild *file);
/* Edit a copy of our record.  1: write it.  0: no change.  Must not yield. */
typedef int CsvMemberEdit(CsvMemberRecord *me, void *opaque, Error **errp);
/* Change our own record by @edit, which is called under member_lock. */
int GRAPH_RDLOCK csv_member_change(CsvVolume *vol, BdrvChild *file,
                                   CsvMemberEdit *edit, void *opaque,
                                   Error **errp);
/* Is @incarnation of the member in rec->slot alive?  @rec: current record. */
CsvLiveness GRAPH_RDLOCK
csv_member_liveness(CsvVolume *vol, BdrvChild *file,
                    const CsvMemberRecord *rec, uint64_t incarnation);
/* Is there another member that is or may be alive?  *who: it, to be freed. */
bool GRAPH_RDLOCK csv_member_other(CsvVolume *vol, BdrvChild *file,
                                   char **who);
/*
 * The caller guarantees that the member in @slot with @incarnation is dead:
 * mark it as fenced.  -EBUSY: it is alive.  -ENOENT: there is no such member.
 * @incarnation is 0 for a damaged record, which does not say its own.  Does not
 * need a membership, as there may be no free slot for one.
 */
int GRAPH_RDLOCK csv_member_evict(CsvVolume *vol, BdrvChild *file,
                                  uint32_t slot, uint64_t incarnation,
                                  Error **errp);
/*
 * Replace the damaged record of @slot, with the bytes @old, by one in @state
 * that no reference to a member there refers to.  Results are those of
 * csv_record_swap().
 */
int GRAPH_RDLOCK csv_member_replace(CsvVolume *vol, BdrvChild *file,
                                    uint32_t slot, CsvMemberRecordState state,
                                    const uint8_t *old);
/* Is @incarnation of the member in @slot this process? */
bool csv_member_is_me(const CsvVolume *vol, uint32_t slot,
                      uint64_t incarnation);
/* "host h, pid p, member m (since t)", for messages; to be freed. */
char *csv_member_describe(const CsvMemberRecord *rec);
/* For query-csv-volumes: the member in @rec, as seen by us; to be freed. */
CsvMemberInfo * GRAPH_RDLOCK
csv_member_info(CsvVolume *vol, BdrvChild *file, const CsvMemberRecord *rec,
                uint64_t incarnation);

/* host.c */

/* Fill in the fields that identify this host, boot and process. */
void csv_host_fill(CsvMemberRecord *rec);
/*
 * @here: of csv_host_fill().
 * Was the member in @rec on this host, in this boot or an earlier one?  For an
 * earlier boot the host name must match as well, because cloned machines may
 * have the same ID.
 */
bool csv_host_is_here(const CsvMemberRecord *here, const CsvMemberRecord *rec);
/*
 * Was the member in @rec on this host, and is its process certainly gone: from
 * an earlier boot, or not there although we would see it?
 */
bool csv_host_process_is_gone(const CsvMemberRecord *here,
                              const CsvMemberRecord *rec);

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
/* Open until @deadline, ns by get_clock(); INT64_MAX: forever.  Any thread. */
void csv_gate_extend(CsvVolume *vol, int64_t deadline);
/* Close it for the rest of the membership: present and future waits fail. */
void csv_gate_cut(CsvVolume *vol);
/* A new membership begins: open without a deadline. */
void csv_gate_reset(CsvVolume *vol);
/* bdrv_pwrite() to what this member owns, after csv_gate_pass(). */
int coroutine_mixed_fn GRAPH_RDLOCK
csv_pwrite(CsvVolume *vol, BdrvChild *file, int64_t offset, int64_t bytes,
           const void *buf, BdrvRequestFlags flags);

/* directory.c */

/* The disk slot in an entry of CsvMemberRecord.use, which is not 0. */
static inline uint32_t csv_use_slot(uint32_t use)
{
    return (use & CSV_USE_SLOT) - 1;
}

/* Format @t, in seconds since 1970, for messages; to be freed. */
char *csv_time(uint64_t t);
/*
 * Is the owner of the disk in @rec alive?  *why gets its description, to be
 * freed.  @rec names an owner.
 */
CsvLiveness GRAPH_RDLOCK
csv_disk_owner(CsvVolume *vol, BdrvChild *file, const CsvDiskRecord *rec,
               char **why);
/*
 * May the disk in @rec be taken from its owner?  0: yes, the owner is dead, or
 * it cannot be judged and @force is set.  -EBUSY: no.  @doing is a participle
 * for the message: "owned".
 */
int GRAPH_RDLOCK
csv_disk_may_take(CsvVolume *vol, BdrvChild *file, const CsvDiskRecord *rec,
                  bool force, const char *doing, Error **errp);
/*
 * Find the disk with @uuid or, with @overlay, the first disk that is based on
 * it.  1: found.  0: there is none.
 */
int GRAPH_RDLOCK
csv_disk_find_uuid(CsvVolume *vol, BdrvChild *file, const QemuUUID *uuid,
                   bool overlay, CsvDiskRecord *out, Error **errp);
/*
 * Find a disk by name or, if no disk has that name, by UUID; @name NULL: the
 * only disk.  -ENOENT: there is none.
 */
int GRAPH_RDLOCK
csv_disk_find(CsvVolume *vol, BdrvChild *file, const char *name,
              CsvDiskRecord *out, uint8_t *raw, Error **errp);
/* Find a disk by its UUID.  -ENOENT: there is none. */
int GRAPH_RDLOCK
csv_disk_by_uuid(CsvVolume *vol, BdrvChild *file, const QemuUUID *uuid,
                 CsvDiskRecord *out, Error **errp);
/* -EBUSY, with its description, if a member that may be alive uses @disk. */
int GRAPH_RDLOCK
csv_use_check_none(CsvVolume *vol, BdrvChild *file, const CsvDiskRecord *disk,
                   Error **errp);

/* segment.c */

typedef struct CsvClaim {
    uint32_t sequence;          /* in: number within the disk */
    uint64_t index;             /* out: number within the volume */
} CsvClaim;

/*
 * Claim up to @want free segments for disk @slot; grows the volume if needed
 * and possible.  Returns their number, at least 1, or -errno; -ENOSPC: the
 * volume is full.
 */
int GRAPH_RDLOCK
csv_segments_claim(CsvVolume *vol, BdrvChild *file, uint32_t slot,
                   CsvClaim *claims, unsigned want, Error **errp);
/* Free segments of disk @slot in page @page of the table: bits in @which. */
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
 * Read the segment table.  @fn is called for each segment that belongs to a
 * disk, and returns false with @errp set to stop.  @bad is called for a page
 * that cannot be decoded because of @why: it returns true after filling in the
 * entries to use instead, or false to stop.  If @bad is NULL, such a page is an
 * error.
 */
typedef bool CsvSegmentFn(void *opaque, uint64_t index,
                          const CsvSegmentEntry *entry, Error **errp);
typedef bool CsvSegmentBadFn(void *opaque, uint64_t page,
                             CsvSegmentEntry *entry, const Error *why);
int GRAPH_RDLOCK
csv_segments_walk(CsvVolume *vol, BdrvChild *file, CsvSegmentFn *fn,
                  CsvSegmentBadFn *bad, void *opaque, Error **errp);
/* Count segments: free ones, and per disk (sb.disk_slots elements, or NULL). */
int GRAPH_RDLOCK
csv_segments_count(CsvVolume *vol, BdrvChild *file, uint64_t *per_disk,
                   uint64_t *free, Error **errp);

/* space.c */

/*
 * Let the volume use @size bytes of its node, which must be that large, or all
 * of it if @size is 0.  -EINVAL: the volume does not grow by that.
 */
int GRAPH_RDLOCK csv_volume_grow(CsvVolume *vol, BdrvChild *file,
                                 uint64_t size, Error **errp);

/* Update vol->space, then csv_space_inspect().  Any thread. */
int coroutine_mixed_fn GRAPH_RDLOCK csv_space_count(CsvVolume *vol,
                                                    BdrvChild *file);
/*
 * Call this after segments were claimed or freed: sends CSV_VOLUME_THRESHOLD if
 * too few are free.  Any thread.
 */
void coroutine_mixed_fn GRAPH_RDLOCK csv_space_inspect(CsvVolume *vol,
                                                       BdrvChild *file);
/* Send that event when fewer than @free bytes are free; 0: never. */
int GRAPH_RDLOCK csv_space_set_threshold(CsvVolume *vol, BdrvChild *file,
                                         uint64_t free, Error **errp);

#endif /* BLOCK_CSV_VOLUME_H */
