/*
 * Cluster shared volume: what the rest of QEMU may ask of the driver
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
 * With a token set, bdrv_inactivate() lets a disk that we own go to whoever
 * shows the token, and bdrv_activate() claims with it and by it alone.
 * Without one a disk is let go to anybody.
 */

/* Source: set a new token if there is a disk to let go. */
void csv_handover_begin(void);
/* Destination: the token came with the guest. */
void csv_handover_set_token(const QemuUUID *token);
/* The token that is set; all zeroes if there is none. */
QemuUUID csv_handover_token(void);

/* True if a csv disk is open for writing here, active or not. */
bool csv_handover_needed(void);

/*
 * Of these the one that comes first by name: its @name, which is the driver's,
 * its @uuid, and the node of its @volume.  False if there is none.
 */
bool csv_first_disk(const char **name, QemuUUID *uuid,
                    BlockDriverState **volume);

/*
 * The UUID of the csv disk that is node @bs; false if that is something else.
 */
bool csv_node_uuid(BlockDriverState *bs, QemuUUID *uuid);

/*
 * Activate all csv disks that are inactive, in the order that
 * docs/interop/csv.rst gives, so that of two processes that try only one
 * gets them all.  When one fails those before it are given back; when all
 * are there the token has served.
 */
bool csv_handover_claim(Error **errp);

/*
 * The same, and do @then, which must succeed as well: otherwise the disks that
 * were claimed are given back, with the token as it was.
 */
typedef bool CsvHandoverThen(Error **errp);
bool csv_handover_claim_then(CsvHandoverThen *then, Error **errp);

/*
 * Delete @disk of the csv volume on node @volume, and wait for it.  Outside of
 * a coroutine.
 */
bool csv_delete_disk(BlockDriverState *volume, const char *disk, Error **errp);

/*
 * What the volumes say about the disks that this process let go:
 * CSV_HANDOVER_OURS: all can still be taken back or are ours;
 * CSV_HANDOVER_THEIRS: another member has taken one;
 * CSV_HANDOVER_UNKNOWN: a volume cannot be read, @errp says why.
 */
typedef enum CsvHandoverOutcome {
    CSV_HANDOVER_OURS,
    CSV_HANDOVER_THEIRS,
    CSV_HANDOVER_UNKNOWN,
} CsvHandoverOutcome;

CsvHandoverOutcome csv_handover_outcome(Error **errp);

#endif /* BLOCK_CSV_H */
