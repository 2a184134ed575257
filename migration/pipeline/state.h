/*
 * Migration pipeline: a guest's state in its volume
 *
 * Quick migration saves the guest to a disk in the volume of its own disks.
 * This disk has a header, followed by a migration stream with the memory at
 * fixed offsets (capability mapped-ram); the format is in
 * docs/interop/migration-state.rst.  Like any disk of a volume it has one
 * owner, so only one process can save to it or restore from it.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_STATE_H
#define MIGRATION_PIPELINE_STATE_H

#include "io/channel.h"
#include "qemu/units.h"
#include "qemu/uuid.h"

#define STATE_MAGIC         0x0045544154535051ULL   /* "QPSTATE" */
#define STATE_HEADER_SIZE   512
/* Where the stream begins */
#define STATE_STREAM        (1 * MiB)
/* Size of a state besides memory; it takes no space until used. */
#define STATE_ROOM          (4 * GiB)

/* Bit of @incompatible: the state is incomplete */
#define STATE_MAKING        (1ULL << 0)

/* As on the disk, but in the host's byte order */
typedef struct StateHeader {
    uint64_t magic;
    uint64_t incompatible;
    uint64_t compatible;
    uint64_t stream;            /* where the stream begins, in bytes */
    uint64_t memory;            /* of the guest, in bytes */
    uint64_t created;           /* in seconds since 1970 */
    QemuUUID disk;              /* the guest's first one */
    QemuUUID token;             /* of the hand-over of the guest's disks */
    uint8_t reserved[428];
    uint32_t crc;
} StateHeader;

QEMU_BUILD_BUG_ON(sizeof(StateHeader) != STATE_HEADER_SIZE);
QEMU_BUILD_BUG_ON(offsetof(StateHeader, crc) != STATE_HEADER_SIZE - 4);

/* Encode a header; @header's magic and crc are ignored. */
void pipeline_state_encode(const StateHeader *header,
                           uint8_t buf[STATE_HEADER_SIZE]);

/*
 * Decode and check the header of a disk of @size bytes.  False and an error if
 * it is not a header, or not supported.  It may be that of an incomplete state.
 */
bool pipeline_state_decode(const uint8_t buf[STATE_HEADER_SIZE], uint64_t size,
                           StateHeader *header, Error **errp);

/* A state that is open here; reference-counted, in any thread */
typedef struct PipelineState PipelineState;

/*
 * Create the state @name, or one with a default name if @name is NULL, in the
 * volume of the guest's first disk, for a guest with @memory bytes.  An older
 * state of the same guest is replaced.  Main thread.
 */
PipelineState *pipeline_state_create(const char *name, uint64_t memory,
                                     Error **errp);

/* Open a state, which must be complete and of this guest.  Main thread. */
PipelineState *pipeline_state_open(const char *name, Error **errp);

PipelineState *pipeline_state_ref(PipelineState *state);

/*
 * The last reference closes it in the main thread, synchronously if called
 * there.
 */
void pipeline_state_unref(PipelineState *state);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PipelineState, pipeline_state_unref)

/* The state is no longer needed: delete it when it is closed.  Any thread. */
void pipeline_state_drop(PipelineState *state);

const char *pipeline_state_name(const PipelineState *state);
/* As read, or as written by pipeline_state_finish() */
const StateHeader *pipeline_state_header(const PipelineState *state);

/*
 * Read or write synchronously.  Returns 0 or a negative errno.  Any thread, but
 * not in a coroutine of an AioContext; needs neither the BQL nor the main loop,
 * and works while the guest's disks are drained.
 */
int pipeline_state_io(PipelineState *state, bool write, uint64_t offset,
                      const struct iovec *iov, size_t niov);

/*
 * Are the disks drained?  Then issue only requests that a thread is waiting
 * for, because the drain waits for all of them.  Any thread.
 */
bool pipeline_state_is_drained(PipelineState *state);

/*
 * Flush, then mark the state as complete, with the @token of the guest's disks.
 * Threads as for pipeline_state_io().
 */
bool pipeline_state_finish(PipelineState *state, const QemuUUID *token,
                           Error **errp);

/*
 * A seekable channel that reads or writes the stream.  It has a reference to
 * @state.
 */
QIOChannel *pipeline_state_channel(PipelineState *state);

#endif /* MIGRATION_PIPELINE_STATE_H */
