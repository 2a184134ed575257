/*
 * Cluster shared volume: leases, by which members show that they are alive
 *
 * A lease lets members find out which of them are alive, and perhaps ends the
 * I/O of one that is not.  The kind of lease that a member has is in its record
 * (field liveness), so one volume can have members with different leases.  Only
 * lease*.c knows how a lease works.
 *
 * Threads, the graph lock and errors are as in volume.h.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BLOCK_CSV_LEASE_H
#define BLOCK_CSV_LEASE_H

#include "volume.h"

/* What a lease can do. */
#define CSV_LEASE_REACHES_HOSTS (1U << 0)   /* judges members of all hosts */
#define CSV_LEASE_FENCES_IO     (1U << 1)   /* ->fence() ends a peer's I/O */
#define CSV_LEASE_NEEDS_BEAT    (1U << 2)   /* ends unless renewed in time */

/* What was observed of a member; see csv_lease_observe(). */
typedef struct CsvPeer {
    uint64_t incarnation;
    uint64_t beat;
    int64_t seen;               /* get_clock() when one of them changed */
} CsvPeer;

struct CsvLeaseOps {
    const char *name;
    CsvLivenessKind kind;       /* in the member's record */
    unsigned caps;

    /* Can a member that uses @file have this lease?  0: yes. */
    int GRAPH_RDLOCK_PTR
    (*probe)(CsvVolume *vol, BdrvChild *file, Error **errp);
    /*
     * Take the lease for the slot and incarnation in @rec, before that record
     * is written.  -EBUSY: another member has it; @errp is not set then.
     */
    int GRAPH_RDLOCK_PTR
    (*acquire)(CsvVolume *vol, BdrvChild *file, const CsvMemberRecord *rec,
               Error **errp);
    /*
     * Check that we still have the lease, and show it to the others.  Returns
     * for how many ns, counted from before the call, this member may write;
     * INT64_MAX: until the next renewal says otherwise.  -ESTALE: the lease is
     * lost for good.  Any other error: it is tried again.  Called with
     * member_lock held, so it can change the record by csv_member_write().
     */
    int64_t GRAPH_RDLOCK_PTR
    (*renew)(CsvVolume *vol, BdrvChild *file);
    /* Does our lease need to be renewed?  NULL: yes.  Must not yield. */
    bool (*renews)(CsvVolume *vol);
    /*
     * What is known of the member in @rec, which is active.  @peer is what was
     * observed of it; NULL: nothing yet.
     */
    CsvLiveness GRAPH_RDLOCK_PTR
    (*judge)(CsvVolume *vol, BdrvChild *file, const CsvMemberRecord *rec,
             const CsvPeer *peer);
    /*
     * The same for a damaged record in @slot, which does not say who the member
     * is.  Dead: certainly nobody has this lease there, in any incarnation.
     */
    CsvLiveness GRAPH_RDLOCK_PTR
    (*judge_slot)(CsvVolume *vol, BdrvChild *file, uint32_t slot);
    /* End all I/O of the member in @rec for good.  NULL: not possible. */
    int GRAPH_RDLOCK_PTR
    (*fence)(CsvVolume *vol, BdrvChild *file, const CsvMemberRecord *rec,
             Error **errp);
    /* Release the lease.  The volume may be read-only by now. */
    void GRAPH_RDLOCK_PTR
    (*release)(CsvVolume *vol, const CsvMemberRecord *rec);
};

extern const CsvLeaseOps csv_lease_lock;

/* The lease of @kind, or NULL if this program does not know it. */
const CsvLeaseOps *csv_lease_find(CsvLivenessKind kind);
/* For tests: replace the lease of @kind by @ops, or remove it if NULL. */
void csv_lease_set(CsvLivenessKind kind, const CsvLeaseOps *ops);
/* The best lease that a member that uses @file can have.  NULL: none. */
const CsvLeaseOps *GRAPH_RDLOCK
csv_lease_choose(CsvVolume *vol, BdrvChild *file, Error **errp);
/* ->judge() of the lease that @rec names, with what was observed. */
CsvLiveness GRAPH_RDLOCK
csv_lease_judge(CsvVolume *vol, BdrvChild *file, const CsvMemberRecord *rec);
/* ->judge_slot() of all leases: dead only if all of them say so. */
CsvLiveness GRAPH_RDLOCK
csv_lease_judge_slot(CsvVolume *vol, BdrvChild *file, uint32_t slot);

/*
 * This member has joined with vol->lease: renew it for the first time, and call
 * csv_lease_tick() from a timer if it has to be renewed, or a peer observed.
 * Main thread, member_lock held.
 */
void GRAPH_RDLOCK csv_lease_start(CsvVolume *vol, BdrvChild *file);
void csv_lease_stop(CsvVolume *vol);
/* Renew vol->lease and observe the peers.  member_lock held. */
void GRAPH_RDLOCK csv_lease_tick(CsvVolume *vol, BdrvChild *file);
/* @rec has just been read: note whether its beat has changed. */
void csv_lease_observe(CsvVolume *vol, const CsvMemberRecord *rec);

#endif /* BLOCK_CSV_LEASE_H */
