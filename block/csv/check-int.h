/*
 * Cluster shared volume: what the parts of the check share
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BLOCK_CSV_CHECK_INT_H
#define BLOCK_CSV_CHECK_INT_H

#include "check.h"

typedef enum CsvFindingKind {
    CSV_FINDING_ERROR,
    CSV_FINDING_LEAK,
    CSV_FINDING_FAILURE,        /* of the check: something cannot be read */
} CsvFindingKind;

/* A check under way. */
typedef struct CsvCheckup {
    CsvVolume *vol;
    BdrvChild *file;
    BdrvCheckResult *res;
    BdrvCheckMode fix;
    /*
     * Findings are collected here (text to kind) and not reported, or NULL.
     * More than can be kept are counted only.
     */
    GHashTable *found;
    uint64_t more;
} CsvCheckup;

/* A segment of the disk under check. */
typedef struct CsvCheckSegment {
    uint64_t index;
    uint32_t sequence;
    unsigned long *used;        /* a bit for each cluster */
} CsvCheckSegment;

/* An entry of the journal that counts, in the order of replay. */
typedef struct CsvCheckEntry {
    uint32_t table;
    uint32_t order;
    CsvJournalEntry entry;
} CsvCheckEntry;

/* The disk under check. */
typedef struct CsvCheckDisk {
    CsvCheckup *c;
    const CsvDiskRecord *rec;
    bool repair;                /* write what can be repaired; we own it */
    bool changed;               /* something was repaired */
    int64_t end;                /* of the storage */
    GArray *segments;           /* of CsvCheckSegment, by index */
    GArray *entries;            /* of CsvCheckEntry, by table and order */
    uint64_t sequence;          /* of the newest journal record, or 0 */
    uint32_t head;              /* page of the ring behind it */
    uint64_t tables[CSV_MAX_L2_TABLES];
    DECLARE_BITMAP(fresh, CSV_MAX_L2_TABLES);   /* made by the journal */
} CsvCheckDisk;

/* Report something, or keep it in mind; see CsvCheckup.found. */
void G_GNUC_PRINTF(4, 5)
csv_check_found(CsvCheckup *c, CsvFindingKind kind, bool fixed,
                const char *fmt, ...);
/* May findings of this @kind be repaired in this run? */
bool csv_check_may_fix(const CsvCheckup *c, CsvFindingKind kind);

/* check.c */

/*
 * Own the disk in @rec and @raw, which are updated.  1: done.  0: somebody
 * else has it, as was told.  Attached.
 */
int GRAPH_RDLOCK csv_check_claim(CsvCheckup *c, CsvDiskRecord *rec,
                                 uint8_t *raw, Error **errp);
int GRAPH_RDLOCK csv_check_disk_record(CsvCheckup *c, CsvDiskRecord *rec,
                                       uint8_t *raw, Error **errp);

/* check-volume.c */

int GRAPH_RDLOCK csv_check_members(CsvCheckup *c, Error **errp);
int GRAPH_RDLOCK csv_check_records(CsvCheckup *c, Error **errp);
int GRAPH_RDLOCK csv_check_segments(CsvCheckup *c, Error **errp);

/* check-disk.c */

/* One walk; with d->repair it writes, and ends with a new journal. */
int GRAPH_RDLOCK csv_check_disk_walk(CsvCheckDisk *d, Error **errp);
/*
 * Mark the cluster at @offset as used.  -ENOENT: it is in no segment of the
 * disk.  -EEXIST: it is in use.
 */
int csv_check_use(CsvCheckDisk *d, uint64_t offset);

/* check-map.c */

int GRAPH_RDLOCK csv_check_map(CsvCheckDisk *d, Error **errp);

#endif /* BLOCK_CSV_CHECK_INT_H */
