/*
 * Migration pipeline: a guest's state as an object of its volume
 *
 * Quick migration saves the guest to a disk of the volume that its own disks
 * are in.  This disk has a header, and behind it a migration stream with the
 * memory at fixed places (capability mapped-ram); the format is in
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
/* What a state may have beside its memory; it takes no space until used. */
#define STATE_ROOM          (4 * GiB)

/* Of @incompatible: it is not complete */
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

/* The bytes of a header; @header's magic and crc do not matter. */
void pipeline_state_encode(const StateHeader *header,
                           uint8_t buf[STATE_HEADER_SIZE]);

/*
 * Read and check a header, of a disk of @size bytes.  False and an error if
 * it is none, or one that this QEMU does not understand.  It may be that of a
 * state that is not complete.
 */
bool pipeline_state_decode(const uint8_t buf[STATE_HEADER_SIZE], uint64_t size,
                           StateHeader *header, Error **errp);

/* A state that is open here; counted by reference, in any thread. */
typedef struct PipelineState PipelineState;

/*
 * Make the state @name, or that of the guest's first disk if @name is NULL, for
 * a guest with @memory bytes, in the volume of that disk.  One that is left
 * over from another time is replaced, if it is of the same guest.  Main thread.
 */
PipelineState *pipeline_state_create(const char *name, uint64_t memory,
                                     Error **errp);

/* Open a state, which is complete and of this guest.  Main thread. */
PipelineState *pipeline_state_open(const char *name, Error **errp);

PipelineState *pipeline_state_ref(PipelineState *state);

/* The last one closes it, in the main thread, at once if this is that. */
void pipeline_state_unref(PipelineState *state);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PipelineState, pipeline_state_unref)

/* It is of no use any more: delete it when it is closed.  Any thread. */
void pipeline_state_drop(PipelineState *state);

const char *pipeline_state_name(const PipelineState *state);
/* As it was read, or was written by pipeline_state_finish() */
const StateHeader *pipeline_state_header(const PipelineState *state);

/*
 * Read or write, and wait for that.  Returns 0 or a negative errno.  Any
 * thread but those of AioContexts' coroutines; needs neither the BQL nor the
 * main loop, and goes on while the guest's disks are drained.
 */
int pipeline_state_io(PipelineState *state, bool write, uint64_t offset,
                      const struct iovec *iov, size_t niov);

/*
 * Are the disks drained?  Then only requests that somebody waits for are in
 * place, since draining waits for all of them.  Any thread.
 */
bool pipeline_state_is_drained(PipelineState *state);

/*
 * Make what was written durable, then say that the state is complete, with
 * the @token of the guest's disks.  As pipeline_state_io().
 */
bool pipeline_state_finish(PipelineState *state, const QemuUUID *token,
                           Error **errp);

/*
 * A channel that reads or writes the stream, and can go to any place in it.
 * It has a reference to @state.
 */
QIOChannel *pipeline_state_channel(PipelineState *state);

#endif /* MIGRATION_PIPELINE_STATE_H */
