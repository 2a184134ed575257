/*
 * Migration pipeline: the greeting
 *
 * Source and destination negotiate features before the stream begins;
 * docs/interop/migration-pipeline.rst has the format.  All functions here run
 * in the main thread.
 *
 * The destination's state belongs to MigrationIncomingState, and
 * migration_hello_end() restores the user's settings from it.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_HELLO_H
#define MIGRATION_PIPELINE_HELLO_H

#include "io/channel.h"
#include "qemu/units.h"
#include "policy.h"

typedef struct MigrationState MigrationState;
typedef struct PipelineHello PipelineHello;

#define HELLO_MAGIC         0x51504950U     /* "QPIP" */
#define HELLO_TEXT_MAX      1024

typedef enum HelloType {
    HELLO_ASK = 1,
    HELLO_GO = 2,
    HELLO_YES = 3,
    HELLO_NO = 4,
} HelloType;

#define HELLO_MULTIFD       (1ULL << 0)
#define HELLO_POSTCOPY      (1ULL << 1)
#define HELLO_ADAPTIVE      (1ULL << 2)
#define HELLO_PROBE         (1ULL << 3)
#define HELLO_DELTA         (1ULL << 4)
#define HELLO_HISTORY       (1ULL << 5)

/* Size of a probe of the link */
#define HELLO_PROBE_BYTES   (8 * MiB)

/* As on the wire, but in the host's byte order */
typedef struct HelloMessage {
    uint32_t magic;
    uint16_t type;
    uint16_t length;
    uint64_t features;
    uint64_t required;
    uint32_t channels;
    uint32_t page_size;
    uint8_t reserved[12];
    uint32_t crc;
} HelloMessage;

QEMU_BUILD_BUG_ON(sizeof(HelloMessage) != 48);
QEMU_BUILD_BUG_ON(offsetof(HelloMessage, crc) != 44);

/* For MigrationPipelineIncoming */
PipelineHello *migration_hello_new(void);

/*
 * Encode a message.  @hello's magic, length and crc are ignored; @text may be
 * NULL, and is cut to HELLO_TEXT_MAX bytes.
 */
GByteArray *migration_hello_encode(const HelloMessage *hello,
                                   const char *text);

/*
 * Length of the message that begins with the HELLO_HEAD bytes at @buf; 0 and an
 * error if it is not a message.
 */
#define HELLO_HEAD  8
size_t migration_hello_length(const uint8_t *buf, Error **errp);

/*
 * Decode the message of @len bytes, the result of migration_hello_length().
 * @text is to be freed by the caller.  False and an error if it is damaged.
 */
bool migration_hello_decode(const uint8_t *buf, size_t len,
                            HelloMessage *hello, char **text, Error **errp);

/*
 * Source, in place of migration_channel_connect(): greet the destination, then
 * call that.  False if this is not necessary or not possible: nothing was done.
 */
bool migration_hello_connect(MigrationState *s, QIOChannel *ioc,
                             const char *hostname, Error *error);

/* Result of HELLO_ASK */
typedef struct HelloAnswer {
    uint64_t features;          /* accepted, and permitted by the goal */
    int64_t round_trip;         /* in microseconds */
    int64_t wire;               /* part of that on the wire; 0: unknown */
    double bandwidth;           /* in bytes per second */
} HelloAnswer;

/*
 * Ask the destination at the other end of @ioc what it supports for @goal, and
 * measure the link.  False and an error if it refuses or does not answer.
 */
bool coroutine_fn migration_hello_co_ask(QIOChannel *ioc,
                                         const PipelineGoal *goal,
                                         HelloAnswer *answer, Error **errp);

/*
 * Destination, in place of migration_channel_process_incoming(): answer a
 * greeting if this connection begins with one, then call that.
 */
void migration_hello_accept(QIOChannel *ioc);

/*
 * Destination: reset the negotiated settings, if there are any, because the
 * greeting has failed or loading has ended.
 */
void migration_hello_end(void);

#endif /* MIGRATION_PIPELINE_HELLO_H */
