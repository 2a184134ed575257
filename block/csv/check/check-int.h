/*
 * Cluster shared volume: private to the check
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef BLOCK_CSV_CHECK_INT_H
#define BLOCK_CSV_CHECK_INT_H

#include "check.h"

/* Attempts to read a disk that another member writes; an error must persist. */
#define CSV_CHECK_TRIES         5
#define CSV_CHECK_PAUSE_NS      (20 * SCALE_MS)

typedef enum CsvFindingKind {
    CSV_FINDING_ERROR,
    CSV_FINDING_LEAK,
    CSV_FINDING_FAILURE,        /* something cannot be read or written */
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

/* The state of one check. */
typedef struct CsvCheckup {
    CsvVolume *vol;
    BdrvChild *file;
    BdrvCheckResult *res;
    BdrvCheckMode fix;
    /* The segment table as last read; see csv_check_claimed_read(). */
    GArray *claimed;            /* of CsvCheckEntry, by disk and index */
    GArray *damaged;            /* of CsvCheckPage, by number */
    unsigned records_bad;       /* damaged disk records */
    /*
     * If not NULL, findings are collected here (text to kind) instead of being
     * reported.  @more counts those beyond its limit.
     */
    GHashTable *found;
    uint64_t more;
} CsvCheckup;

/* A segment of the disk under check. */
typedef struct CsvCheckSegment {
    uint64_t index;
    uint32_t sequence;
    bool assumed;               /* by the map; the table is damaged */
    unsigned long *used;        /* a bit for each cluster */
} CsvCheckSegment;

/* A journal entry that has to be replayed. */
typedef struct CsvCheckChange {
    uint32_t table;
    uint32_t order;
    CsvJournalEntry entry;
} CsvCheckChange;

/* The disk under check. */
typedef struct CsvCheckDisk {
    CsvCheckup *c;
    const CsvDiskRecord *rec;
    bool repair;                /* we own it, and write repairs */
    bool changed;               /* something was repaired */
    int64_t end;                /* size of the storage, in bytes */
    GArray *segments;           /* of CsvCheckSegment, by index */
    GArray *changes;            /* of CsvCheckChange, by table and order */
    uint64_t epoch;             /* of the newest journal record, or 0 */
    uint64_t sequence;          /* of that record */
    uint32_t head;              /* page of the ring after it */
    uint64_t mapped;            /* end of the last mapped cluster, in bytes */
    uint64_t tables[CSV_MAX_L2_TABLES];
    DECLARE_BITMAP(fresh, CSV_MAX_L2_TABLES);   /* created by the journal */
} CsvCheckDisk;

/* finding.c */

/* Report a finding, or collect it; see CsvCheckup.found. */
void G_GNUC_PRINTF(4, 5)
csv_check_found(CsvCheckup *c, CsvFindingKind kind, bool fixed,
                const char *fmt, ...);
/* Does @c->fix permit repairs of findings of this @kind? */
bool csv_check_may_fix(const CsvCheckup *c, CsvFindingKind kind);

/*
 * May a structure that all members share be rebuilt?  Not while there are other
 * members.  Reports why not; @what names the structure.
 */
bool GRAPH_RDLOCK csv_check_may_rebuild(CsvCheckup *c, const char *what);
/*
 * @raw was read from @offset, perhaps while it was being written.  Read it
 * again until it does not change.
 */
void GRAPH_RDLOCK csv_check_settle(CsvCheckup *c, uint64_t offset,
                                   uint8_t *raw);
/* Report the findings that were collected in @found. */
void csv_check_report(CsvCheckup *c, GHashTable *found);

/* claimed.c */

/* Offset of @page of the segment table in the volume. */
uint64_t csv_check_page_offset(const CsvCheckup *c, uint64_t page);
/* Read the segment table into c->claimed and c->damaged. */
int GRAPH_RDLOCK csv_check_claimed_read(CsvCheckup *c, Error **errp);
/* Returns the first of *count entries of disk @slot in c->claimed. */
const CsvCheckEntry *csv_check_claimed_find(const CsvCheckup *c, uint32_t slot,
                                          guint *count);
/* Is segment @index in a damaged page of the table, so its owner is unknown? */
bool csv_check_claim_lost(const CsvCheckup *c, uint64_t index);

/* disk-space.c */

/* The @i-th segment of the disk, by index. */
CsvCheckSegment *csv_check_segment(CsvCheckDisk *d, guint i);
/*
 * The disk's segment @index, or NULL.  If the table is damaged there, the
 * segment is assumed to be the disk's, as the map says.
 */
CsvCheckSegment *csv_check_segment_get(CsvCheckDisk *d, uint64_t index);
/*
 * Add a segment to the disk; @assumed as in CsvCheckSegment.  Invalidates other
 * pointers to segments.
 */
CsvCheckSegment *csv_check_segment_add(CsvCheckDisk *d, uint64_t index,
                                       uint32_t sequence, bool assumed);
/* Fill d->segments from c->claimed. */
void csv_check_segments_take(CsvCheckDisk *d);
/*
 * Mark the cluster at @offset as used.  -ENOENT: it is in no segment of the
 * disk.  -EEXIST: it is used already.
 */
int csv_check_use(CsvCheckDisk *d, uint64_t offset);

/* map.c */

int GRAPH_RDLOCK csv_check_map(CsvCheckDisk *d, Error **errp);

/* disk.c */

CsvCheckDisk *csv_check_disk_new(CsvCheckup *c, const CsvDiskRecord *rec);
void csv_check_disk_free(CsvCheckDisk *d);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CsvCheckDisk, csv_check_disk_free)
/*
 * Check segments, header, map and journal of the disk once, with the segment
 * table in c->claimed.  With d->repair it also repairs, and then replaces the
 * journal.
 */
int GRAPH_RDLOCK csv_check_disk_walk(CsvCheckDisk *d, Error **errp);
/* The same without repair.  Findings are added to @found, counts to @res. */
int GRAPH_RDLOCK csv_check_inspect(CsvCheckDisk *d, GHashTable *found,
                                   BdrvCheckResult *res, Error **errp);

/* segments.c */

/* Report damaged pages of the table, and rebuild them from the disks' maps. */
int GRAPH_RDLOCK csv_check_pages(CsvCheckup *c, Error **errp);
/* Report, and free, segments of disks that do not exist. */
void GRAPH_RDLOCK csv_check_segments(CsvCheckup *c);

/* records.c */

int GRAPH_RDLOCK csv_check_members(CsvCheckup *c, Error **errp);
int GRAPH_RDLOCK csv_check_records(CsvCheckup *c, Error **errp);
/* Report, and delete, a disk that was being created or deleted. */
void GRAPH_RDLOCK csv_check_unfinished(CsvCheckup *c, CsvDiskRecord *rec,
                                       uint8_t *raw);

#endif /* BLOCK_CSV_CHECK_INT_H */
