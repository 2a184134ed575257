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

/* How often a disk that others write is looked at before it is bad. */
#define CSV_CHECK_TRIES         5
#define CSV_CHECK_PAUSE_NS      (20 * SCALE_MS)

typedef enum CsvFindingKind {
    CSV_FINDING_ERROR,
    CSV_FINDING_LEAK,
    CSV_FINDING_FAILURE,        /* of the check: something cannot be read */
} CsvFindingKind;

/* An entry of the segment table that belongs to a disk. */
typedef struct CsvCheckEntry {
    uint32_t disk;
    uint32_t index;
    uint32_t sequence;
} CsvCheckEntry;

/* A page of the segment table that cannot be read. */
typedef struct CsvCheckPage {
    uint64_t number;
    char *why;
} CsvCheckPage;

/* A check under way. */
typedef struct CsvCheckup {
    CsvVolume *vol;
    BdrvChild *file;
    BdrvCheckResult *res;
    BdrvCheckMode fix;
    /* The segment table as last read; see csv_check_claimed_read(). */
    GArray *claimed;            /* of CsvCheckEntry, by disk and index */
    GArray *damaged;            /* of CsvCheckPage, by number */
    unsigned records_bad;       /* disk records that say nothing */
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
    bool assumed;               /* the map says so, and the table is damaged */
    unsigned long *used;        /* a bit for each cluster */
} CsvCheckSegment;

/* An entry of the journal that counts, in the order of replay. */
typedef struct CsvCheckChange {
    uint32_t table;
    uint32_t order;
    CsvJournalEntry entry;
} CsvCheckChange;

/* The disk under check. */
typedef struct CsvCheckDisk {
    CsvCheckup *c;
    const CsvDiskRecord *rec;
    bool repair;                /* write what can be repaired; we own it */
    bool changed;               /* something was repaired */
    int64_t end;                /* of the storage */
    GArray *segments;           /* of CsvCheckSegment, by index */
    GArray *changes;            /* of CsvCheckChange, by table and order */
    uint64_t epoch;             /* of the newest journal record, or 0 */
    uint64_t sequence;          /* of that */
    uint32_t head;              /* page of the ring behind it */
    uint64_t mapped;            /* the guest's bytes up to the last mapped */
    uint64_t tables[CSV_MAX_L2_TABLES];
    DECLARE_BITMAP(fresh, CSV_MAX_L2_TABLES);   /* made by the journal */
} CsvCheckDisk;

/* finding.c */

/* Report something, or keep it in mind; see CsvCheckup.found. */
void G_GNUC_PRINTF(4, 5)
csv_check_found(CsvCheckup *c, CsvFindingKind kind, bool fixed,
                const char *fmt, ...);
/* May findings of this @kind be repaired in this run? */
bool csv_check_may_fix(const CsvCheckup *c, CsvFindingKind kind);

/* May @what, for the message, be made anew?  Not beside other members. */
bool GRAPH_RDLOCK csv_check_may_rebuild(CsvCheckup *c, const char *what);
/*
 * A record that is being written may be caught half way: read it anew until
 * it stays the same.
 */
void GRAPH_RDLOCK csv_check_settle(CsvCheckup *c, uint64_t offset,
                                   uint8_t *raw);
/* Report what was collected in @found. */
void csv_check_report(CsvCheckup *c, GHashTable *found);

/* claimed.c */

/* Where @page of the segment table is. */
uint64_t csv_check_page_offset(const CsvCheckup *c, uint64_t page);
/* Fill c->claimed and c->damaged. */
int GRAPH_RDLOCK csv_check_claimed_read(CsvCheckup *c, Error **errp);
/* The entries of disk @slot in c->claimed: the first one, and *count. */
const CsvCheckEntry *csv_check_claimed_find(const CsvCheckup *c, uint32_t slot,
                                          guint *count);
/* Is there a segment @index of which the table does not say whose it is? */
bool csv_check_claim_lost(const CsvCheckup *c, uint64_t index);

/* disk-space.c */

/* The @i-th segment of the disk, by index. */
CsvCheckSegment *csv_check_segment(CsvCheckDisk *d, guint i);
/* The segment @index of the disk, by the table or because the map names it. */
CsvCheckSegment *csv_check_segment_get(CsvCheckDisk *d, uint64_t index);
/* Give it one; @assumed: no table says so.  Changes the order of others. */
CsvCheckSegment *csv_check_segment_add(CsvCheckDisk *d, uint64_t index,
                                       uint32_t sequence, bool assumed);
/* Fill d->segments with what the table gives the disk. */
void csv_check_segments_take(CsvCheckDisk *d);
/*
 * Mark the cluster at @offset as used.  -ENOENT: it is in no segment of the
 * disk.  -EEXIST: it is in use.
 */
int csv_check_use(CsvCheckDisk *d, uint64_t offset);

/* map.c */

int GRAPH_RDLOCK csv_check_map(CsvCheckDisk *d, Error **errp);

/* disk.c */

CsvCheckDisk *csv_check_disk_new(CsvCheckup *c, const CsvDiskRecord *rec);
void csv_check_disk_free(CsvCheckDisk *d);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CsvCheckDisk, csv_check_disk_free)
/*
 * One walk, by c->claimed; with d->repair it writes, and ends with a new
 * journal.
 */
int GRAPH_RDLOCK csv_check_disk_walk(CsvCheckDisk *d, Error **errp);
/* Walk over a disk and repair nothing.  What is found is added to @found. */
int GRAPH_RDLOCK csv_check_inspect(CsvCheckDisk *d, GHashTable *found,
                                   BdrvCheckResult *res, Error **errp);

/* segments.c */

/* Report damaged pages, and make them anew from the disks' maps. */
int GRAPH_RDLOCK csv_check_pages(CsvCheckup *c, Error **errp);
/* Segments of disks that are not there. */
void GRAPH_RDLOCK csv_check_segments(CsvCheckup *c);

/* records.c */

int GRAPH_RDLOCK csv_check_members(CsvCheckup *c, Error **errp);
int GRAPH_RDLOCK csv_check_records(CsvCheckup *c, Error **errp);
/* A disk whose making or deleting was cut short: finish it. */
void GRAPH_RDLOCK csv_check_unfinished(CsvCheckup *c, CsvDiskRecord *rec,
                                       uint8_t *raw);

#endif /* BLOCK_CSV_CHECK_INT_H */
