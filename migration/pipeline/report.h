/*
 * Migration pipeline: what the blackout is made of
 *
 * While the guest stands still, the code that works on its move says when it
 * is done with a part; that part has taken the time since the one before, so
 * the parts add up to the whole.  The report stays until the next blackout.
 * Both sides make one of their own, with their own clock; the destination tells
 * the source how long its parts were.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_REPORT_H
#define MIGRATION_PIPELINE_REPORT_H

#include "net/net.h"
#include "net/queue.h"
#include "qapi/qapi-types-pipeline.h"

typedef struct MigrationIncomingState MigrationIncomingState;

/* All functions: any thread, no lock needed. */

/* A blackout begins; the report of the last one is forgotten. */
void migration_report_begin(void);

/* The same, unless one has begun: where it begins is met several times. */
void migration_report_begin_once(void);

/*
 * @part is done with, as far as it has come: it may have several pieces.
 * Nothing happens when no blackout is under way.
 */
void migration_report_mark(MigratePipelinePart part);

/* The blackout has ended.  False if there was none. */
bool migration_report_end(void);

/*
 * Destination: it has ended, and the guest runs.  The source is told how long
 * it was here and what made it, and the first packet is waited for.  False if
 * there was no blackout, or nobody to tell.
 */
bool migration_report_end_here(MigrationIncomingState *mis);

/* Source: if this number of a pong is a time there, take note of it. */
void migration_report_pong(uint32_t value);

/* How long a part of the last blackout was, or all of it, in microseconds */
int64_t migration_report_time(MigratePipelinePart part);
int64_t migration_report_total(void);

/* How long the last part ago was done with, in microseconds; 0: no blackout */
int64_t migration_report_since(void);

extern bool migration_report_awaits_packet;     /* atomic */
void migration_report_first_packet(void);

/* A packet leaves @sender for its peer; announcements of QEMU's are raw. */
static inline void migration_report_packet(const NetClientState *sender,
                                           unsigned flags)
{
    if (unlikely(qatomic_read(&migration_report_awaits_packet)) &&
        sender->info->type == NET_CLIENT_DRIVER_NIC &&
        !(flags & QEMU_NET_PACKET_FLAG_RAW)) {
        migration_report_first_packet();
    }
}

/* There is no blackout, and no report: a migration starts. */
void migration_report_reset(void);

/*
 * The report, to be freed by the caller; NULL if there is none.  That of a
 * blackout under way ends at the last mark.
 */
MigratePipelineBlackout *migration_report_get(void);

#endif /* MIGRATION_PIPELINE_REPORT_H */
