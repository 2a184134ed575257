/*
 * Cluster shared volume: leases, and the peers as they are seen over time
 *
 * A lease that needs a beat cannot be judged by reading a record once: what
 * counts is for how long a peer has not changed its record, by the clock of the
 * observer.  So a timer reads the records of the members, and a judgement
 * answers from what the timer has seen so far.  The timer runs only if a lease
 * in the volume needs it.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/coroutine.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "lease.h"
#include "trace/trace-block_csv.h"

/* Often enough to see a beat that changes every second. */
#define CSV_LEASE_TICK_MS 500
/*
 * For leases without a beat.  Not too often: on NFS taking a lock again empties
 * the host's page cache of the volume.
 */
#define CSV_LEASE_SLOW_TICK_MS 5000

static const CsvLeaseOps *csv_leases[] = {
    [CSV_LIVENESS_BY_LOCK] = &csv_lease_lock,
    [CSV_LIVENESS_BY_HEARTBEAT] = NULL,
};

const CsvLeaseOps *csv_lease_find(CsvLivenessKind kind)
{
    return kind < ARRAY_SIZE(csv_leases) ? csv_leases[kind] : NULL;
}

void csv_lease_set(CsvLivenessKind kind, const CsvLeaseOps *ops)
{
    assert(!ops || ops->kind == kind);
    csv_leases[kind] = ops;
}

/*
 * A lease that can cut off a peer is better than one that only observes it;
 * then one that works between hosts is.
 */
static bool csv_lease_better(const CsvLeaseOps *a, const CsvLeaseOps *b)
{
    if (!b) {
        return true;
    }
    if ((a->caps ^ b->caps) & CSV_LEASE_FENCES_IO) {
        return a->caps & CSV_LEASE_FENCES_IO;
    }
    return (a->caps & ~b->caps) & CSV_LEASE_REACHES_HOSTS;
}

const CsvLeaseOps *csv_lease_choose(CsvVolume *vol, BdrvChild *file,
                                    Error **errp)
{
    const CsvLeaseOps *best = NULL;
    Error *why = NULL;
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(csv_leases); i++) {
        const CsvLeaseOps *ops = csv_leases[i];

        if (ops && csv_lease_better(ops, best) &&
            ops->probe(vol, file, why ? NULL : &why) >= 0) {
            best = ops;
        }
    }
    if (best) {
        error_free(why);
    } else {
        error_propagate(errp, why);
    }
    return best;
}

static CsvPeer *csv_lease_peer(CsvVolume *vol, const CsvMemberRecord *rec)
{
    CsvPeer *peer = vol->peers ? &vol->peers[rec->slot] : NULL;

    return peer && peer->seen && peer->incarnation == rec->incarnation ? peer
                                                                       : NULL;
}

static void GRAPH_RDLOCK csv_lease_arm(CsvVolume *vol);

CsvLiveness csv_lease_judge(CsvVolume *vol, BdrvChild *file,
                            const CsvMemberRecord *rec)
{
    const CsvLeaseOps *ops = csv_lease_find(rec->liveness);

    if (!ops) {
        return CSV_LIVENESS_UNKNOWN;
    }
    if (ops->caps & CSV_LEASE_NEEDS_BEAT) {
        csv_lease_observe(vol, rec);
        csv_lease_arm(vol);
    }
    return ops->judge(vol, file, rec, csv_lease_peer(vol, rec));
}

CsvLiveness csv_lease_judge_slot(CsvVolume *vol, BdrvChild *file,
                                 uint32_t slot)
{
    CsvLiveness all = CSV_LIVENESS_DEAD;
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(csv_leases); i++) {
        CsvLiveness one = csv_leases[i]
                          ? csv_leases[i]->judge_slot(vol, file, slot)
                          : CSV_LIVENESS_DEAD;

        if (one == CSV_LIVENESS_ALIVE) {
            return one;
        }
        if (one != CSV_LIVENESS_DEAD) {
            all = one;
        }
    }
    return all;
}

void csv_lease_observe(CsvVolume *vol, const CsvMemberRecord *rec)
{
    CsvPeer *peer;

    if (!vol->peers) {
        vol->peers = g_new0(CsvPeer, vol->sb.member_slots);
    }
    peer = &vol->peers[rec->slot];
    if (!peer->seen || peer->incarnation != rec->incarnation ||
        peer->beat != rec->beat) {
        *peer = (CsvPeer) {
            .incarnation = rec->incarnation,
            .beat = rec->beat,
            .seen = get_clock(),
        };
    }
}

/* Read all records, and observe the members with a lease that needs it. */
static void GRAPH_RDLOCK
csv_lease_watch(CsvVolume *vol, BdrvChild *file)
{
    CsvMemberRecord rec;
    CsvTableIter it;

    csv_table_iter(&it, file, vol->sb.member_offset, vol->sb.member_slots);
    while (csv_table_next(&it) > 0) {
        const CsvLeaseOps *ops;

        if (!csv_member_decode(it.record, &vol->sb, it.slot, &rec, NULL) ||
            rec.state != CSV_MEMBER_ACTIVE || rec.slot == vol->me.slot) {
            continue;
        }
        ops = csv_lease_find(rec.liveness);
        if (ops && ops->caps & CSV_LEASE_NEEDS_BEAT) {
            csv_lease_observe(vol, &rec);
        }
    }
}

static void GRAPH_RDLOCK csv_lease_renew(CsvVolume *vol, BdrvChild *file)
{
    int64_t now = get_clock();
    int64_t good = vol->lease->renew(vol, file);

    trace_csv_lease_renew(vol, good);
    if (good == -ESTALE) {
        csv_gate_cut(vol);
    } else if (good > 0) {
        csv_gate_extend(vol, good == INT64_MAX ? good : now + good);
    }
}

static bool csv_lease_renews(CsvVolume *vol)
{
    return !vol->lease->renews || vol->lease->renews(vol);
}

void csv_lease_tick(CsvVolume *vol, BdrvChild *file)
{
    if (csv_lease_renews(vol)) {
        csv_lease_renew(vol, file);
    }
    if (vol->peers) {
        csv_lease_watch(vol, file);
    }
}

static void csv_lease_timer_set(CsvVolume *vol)
{
    bool slow = !(vol->lease->caps & CSV_LEASE_NEEDS_BEAT) && !vol->peers;

    timer_mod(vol->lease_timer, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) +
              (slow ? CSV_LEASE_SLOW_TICK_MS : CSV_LEASE_TICK_MS));
}

static void coroutine_fn GRAPH_RDLOCK csv_lease_tick_co(CsvVolume *vol)
{
    BdrvChild *file;

    QEMU_LOCK_GUARD(&vol->member_lock);
    /* Meanwhile the membership may have ended, or a new one begun. */
    file = csv_volume_way(vol);
    if (vol->locked && file) {
        csv_lease_tick(vol, file);
    }
    if (vol->lease_timer) {
        csv_lease_timer_set(vol);
    }
}

static void coroutine_fn csv_lease_tick_entry(void *opaque)
{
    CsvVolume *vol = opaque;

    bdrv_graph_co_rdlock();
    csv_lease_tick_co(vol);
    csv_volume_put(vol);
    bdrv_graph_co_rdunlock();
}

static void csv_lease_timer(void *opaque)
{
    CsvVolume *vol = opaque;

    vol->refs++;
    aio_co_enter(qemu_get_aio_context(),
                 qemu_coroutine_create(csv_lease_tick_entry, vol));
}

/* Start the timer if it is needed and does not run. */
static void GRAPH_RDLOCK csv_lease_arm(CsvVolume *vol)
{
    if (vol->locked && !vol->lease_timer &&
        (csv_lease_renews(vol) || vol->peers)) {
        vol->lease_timer = aio_timer_new(qemu_get_aio_context(),
                                         QEMU_CLOCK_REALTIME, SCALE_MS,
                                         csv_lease_timer, vol);
        csv_lease_timer_set(vol);
    }
}

void csv_lease_start(CsvVolume *vol, BdrvChild *file)
{
    assert(vol->locked && !vol->lease_timer);
    if (vol->lease->caps & CSV_LEASE_NEEDS_BEAT) {
        csv_gate_extend(vol, get_clock());      /* closed until renewed */
    }
    if (csv_lease_renews(vol)) {
        csv_lease_renew(vol, file);
    }
    csv_lease_arm(vol);
}

void csv_lease_stop(CsvVolume *vol)
{
    g_clear_pointer(&vol->lease_timer, timer_free);
}
