/*
 * Migration pipeline: the parts of the blackout
 *
 * During the blackout, the migration code marks the end of each part; a part
 * has taken the time since the previous mark, so the parts add up to the total.
 * The report is kept until the next blackout.  Each side makes its own, with
 * its own clock, and keeps it in MigrationState, since it outlives the incoming
 * migration; the destination sends the durations of its parts to the source.
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
typedef struct PipelineReport PipelineReport;

/* For MigrationPipeline */
PipelineReport *migration_report_new(void);

/* All functions: any thread, no lock needed. */

/* A blackout begins; discard the last report. */
void migration_report_begin(void);

/* The same, unless one has begun: this point is reached several times. */
void migration_report_begin_once(void);

/*
 * A piece of @part has ended; a part may have several.  No effect outside of a
 * blackout.
 */
void migration_report_mark(MigratePipelinePart part);

/* The blackout has ended.  False if there was none. */
bool migration_report_end(void);

/*
 * Destination: the blackout has ended, and the guest runs.  Send the durations
 * to the source, and wait for the guest's first packet.  False if there was no
 * blackout, or no return path.
 */
bool migration_report_end_here(MigrationIncomingState *mis);

/* Source: if this value of a PONG is a duration, record it. */
void migration_report_pong(uint32_t value);

/* Duration of a part of the last blackout, or of all, in microseconds */
int64_t migration_report_time(MigratePipelinePart part);
int64_t migration_report_total(void);

/* Time since the last mark, in microseconds; 0: no blackout */
int64_t migration_report_since(void);

/* A NIC sends a packet of the guest, which may be the first one. */
void migration_report_nic_packet(void);

/* @sender sends a packet to its peer; QEMU's announcements have _RAW set. */
static inline void migration_report_packet(const NetClientState *sender,
                                           unsigned flags)
{
    if (sender->info->type == NET_CLIENT_DRIVER_NIC &&
        !(flags & QEMU_NET_PACKET_FLAG_RAW)) {
        migration_report_nic_packet();
    }
}

/* A migration starts: discard the report. */
void migration_report_reset(void);

/*
 * The report, to be freed by the caller; NULL if there is none.  During a
 * blackout, it ends at the last mark.
 */
MigratePipelineBlackout *migration_report_get(void);

#endif /* MIGRATION_PIPELINE_REPORT_H */
