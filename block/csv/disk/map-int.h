/*
 * Cluster shared volume: private to the files that read a map
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BLOCK_CSV_MAP_INT_H
#define BLOCK_CSV_MAP_INT_H

#include "disk.h"

/* A map that is being read.  It replaces the disk's once it is complete. */
struct CsvMapLoad {
    CsvDisk *disk;
    unsigned tables;            /* number of tables in l2 */
    uint64_t l1[CSV_MAX_L2_TABLES];
    CsvL2Table *l2[CSV_MAX_L2_TABLES];
};

/* map-read.c */

/* Read a part of the map or header; @what names it in messages. */
int coroutine_mixed_fn GRAPH_RDLOCK
csv_map_read(CsvDisk *disk, uint64_t offset, size_t bytes, uint8_t *buf,
             const char *what, Error **errp);
/* Decode table @t from the CSV_L2_SIZE bytes at @buf. */
bool csv_map_decode_table(CsvDisk *disk, unsigned t, const uint8_t *buf,
                          CsvL2Table *table, Error **errp);
/* Read table @t, which is at @offset, from the volume. */
int coroutine_mixed_fn GRAPH_RDLOCK
csv_map_read_table(CsvDisk *disk, unsigned t, uint64_t offset,
                   CsvL2Table *table, Error **errp);
/*
 * Unless it was scanned already, check the clusters in table @t, and mark them
 * as used.  If it fails, none is marked.
 */
bool csv_scan_table(CsvDisk *disk, unsigned t, const CsvL2Table *table,
                    Error **errp);
/* Prepend the place of table @t in the level-1 map to a message. */
void csv_map_prepend_l1(unsigned t, Error **errp);
/* For replay: apply @entry to a map that is being read. */
int GRAPH_RDLOCK csv_map_apply(CsvMapLoad *load, const CsvJournalEntry *entry,
                               Error **errp);

/* map-scan.c */

/*
 * Check where the tables of a map are, and scan those in memory.  The others
 * are yet to be scanned: disk->unscanned.
 */
bool csv_scan_l1(CsvMapLoad *load, Error **errp);
/* Read and scan the others, and keep as many as the cache permits. */
int GRAPH_RDLOCK csv_scan_load(CsvMapLoad *load, Error **errp);
/* header.c */

/* Read both copies into disk->header; the higher generation is valid. */
int GRAPH_RDLOCK csv_header_read(CsvDisk *disk, Error **errp);

#endif /* BLOCK_CSV_MAP_INT_H */
