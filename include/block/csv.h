/*
 * Cluster shared volume: interface for the rest of QEMU
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BLOCK_CSV_H
#define BLOCK_CSV_H

#include "block/block-common.h"
#include "qemu/uuid.h"

/*
 * Hand-over of all csv disks of this process.  Main thread, BQL held.
 *
 * While a token is set, bdrv_inactivate() releases a disk so that only a
 * process with that token can claim it, and bdrv_activate() claims a disk only
 * if it was released with that token.  Without a token, anyone can claim the
 * disk.
 */

/* Source: set a new token if this process owns a disk. */
void csv_handover_begin(void);
/* Destination: set the token that the source sent. */
void csv_handover_set_token(const QemuUUID *token);
/* The token that is set; all zeroes: none. */
QemuUUID csv_handover_token(void);

/* Is a csv disk open for writing in this process, active or not? */
bool csv_handover_needed(void);

/*
 * Of those, get the disk that comes first by name: its @name, valid as long as
 * its node, its @uuid, and the node of its @volume.  False if there is none.
 */
bool csv_first_disk(const char **name, QemuUUID *uuid,
                    BlockDriverState **volume);

/* Get the UUID of the csv disk on node @bs; false if @bs is no csv disk. */
bool csv_node_uuid(BlockDriverState *bs, QemuUUID *uuid);

/*
 * Activate all inactive csv disks, in the order that docs/interop/csv.rst
 * specifies, so that only one of two competing processes gets them all.  If one
 * fails, the disks claimed so far are released again with the token; on success
 * the token is cleared.
 */
bool csv_handover_claim(Error **errp);

/*
 * The same, then call @then.  If @then fails, the disks that were claimed are
 * released again, and the token stays set.
 */
typedef bool CsvHandoverThen(Error **errp);
bool csv_handover_claim_then(CsvHandoverThen *then, Error **errp);

/*
 * Delete @disk of the csv volume on node @volume, and wait for it.  Outside of
 * a coroutine.
 */
bool csv_delete_disk(BlockDriverState *volume, const char *disk, Error **errp);

/*
 * What the volumes say about the disks that this process released:
 * CSV_HANDOVER_OURS: we own all of them, or can claim them;
 * CSV_HANDOVER_THEIRS: another member has claimed one;
 * CSV_HANDOVER_UNKNOWN: a volume cannot be read, @errp says why.
 */
typedef enum CsvHandoverOutcome {
    CSV_HANDOVER_OURS,
    CSV_HANDOVER_THEIRS,
    CSV_HANDOVER_UNKNOWN,
} CsvHandoverOutcome;

CsvHandoverOutcome csv_handover_outcome(Error **errp);

#endif /* BLOCK_CSV_H */
