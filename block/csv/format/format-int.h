/*
 * Cluster shared volume: private to the codec
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BLOCK_CSV_FORMAT_INT_H
#define BLOCK_CSV_FORMAT_INT_H

#include "breaks.h"
#include "format.h"

/* Version 1 was a draft without a journal. */
#define CSV_VERSION 2
#define CSV_VERSION_DRAFT 1

/* The structure being decoded, for messages: "superblock copy", 0. */
typedef struct CsvDecode {
    const char *what;
    uint64_t number;
    Error **errp;
} CsvDecode;

/* Set c->errp to a message about @field, and return false. */
bool G_GNUC_PRINTF(3, 4)
csv_bad(const CsvDecode *c, const char *field, const char *fmt, ...);

/* Is the version of a volume or of a disk's header known? */
bool csv_valid_version(const CsvDecode *c, uint32_t version);
/* A counter can be incremented without overflow: it is at most INT64_MAX. */
bool csv_valid_counter(const CsvDecode *c, const char *field, uint64_t value);
/* CRC of a page or record, with its crc field taken as zero. */
uint32_t csv_crc(const uint8_t *buf, size_t bytes);
/* Fill in the page header; the rest of the page must be complete. */
void csv_seal(uint8_t *buf, size_t bytes, CsvMagic magic,
              const QemuUUID *uuid, uint64_t number);
/* Check the page header, but the UUID only if @uuid is not NULL. */
bool csv_valid_header(const CsvDecode *c, const uint8_t *buf, size_t bytes,
                      CsvMagic magic, const QemuUUID *uuid);
/* Is it UTF-8 of at most @max bytes, padded with zeroes to @room bytes? */
bool csv_text_ok(const char *text, size_t room, size_t max);

#endif /* BLOCK_CSV_FORMAT_INT_H */
