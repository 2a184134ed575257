/*
 * Cluster shared volume: what the two halves of the codec share
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BLOCK_CSV_FORMAT_INT_H
#define BLOCK_CSV_FORMAT_INT_H

#include "breaks.h"
#include "format.h"

/* 1 was that of drafts without a journal. */
#define CSV_VERSION 2
#define CSV_VERSION_DRAFT 1

/* Which structure is being checked; kept together for the messages. */
typedef struct CsvDecode {
    const char *what;
    uint64_t number;
    Error **errp;
} CsvDecode;

/* Set c->errp to a message about @field, and return false. */
bool G_GNUC_PRINTF(3, 4)
csv_bad(const CsvDecode *c, const char *field, const char *fmt, ...);

/* Of the volume, or of a disk's header. */
bool csv_valid_version(const CsvDecode *c, uint32_t version);
/* A counter has not come to its end. */
bool csv_valid_counter(const CsvDecode *c, const char *field, uint64_t value);
/* CRC of a page or record, its own field taken as zero. */
uint32_t csv_crc(const uint8_t *buf, size_t bytes);
/* Fill in the page header, CRC last. */
void csv_seal(uint8_t *buf, size_t bytes, CsvMagic magic,
              const QemuUUID *uuid, uint64_t number);
/* Check it; @uuid may be NULL. */
bool csv_valid_header(const CsvDecode *c, const uint8_t *buf, size_t bytes,
                      CsvMagic magic, const QemuUUID *uuid);
/* Text of at most @max bytes, padded with zeroes to @room. */
bool csv_text_ok(const char *text, size_t room, size_t max);

#endif /* BLOCK_CSV_FORMAT_INT_H */
