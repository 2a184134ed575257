/*
 * What disks may hold after a crash
 *
 * For each sector a list of values that may be there: one that is durable,
 * and those written later. A value is a number, 0 stands for zeroes; the
 * sector's bytes are made of disk, sector and value, so that bytes of somebody
 * else are recognised. A disk's size is kept in the same way, and what is cut
 * off is zeroes.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_CSV_CRASH_MODEL_H
#define TESTS_UNIT_CSV_CRASH_MODEL_H

typedef struct Model Model;

/* A sector as the model counts it */
#define MODEL_DISK_BITS 40
#define MODEL_KEY(disk, sector) ((uint64_t)(disk) << MODEL_DISK_BITS | (sector))
#define MODEL_DISK(key) ((key) >> MODEL_DISK_BITS)
#define MODEL_SECTOR(key) \
    ((uint64_t)((key) & MAKE_64BIT_MASK(0, MODEL_DISK_BITS)))

/* A note of the workload in the device's trace */
typedef enum ModelNoteKind {
    MODEL_BEGIN,        /* request @op begins */
    MODEL_DONE,         /* ... and has succeeded */
    MODEL_FAILED,
    MODEL_FLUSH,
    MODEL_FLUSH_DONE,
    MODEL_SIZE,         /* disk of @sector is to have @sectors */
    MODEL_SIZE_DONE,
    MODEL_OPENED,       /* what is there was looked at */
} ModelNoteKind;

typedef struct ModelNote {
    ModelNoteKind kind;
    unsigned op;        /* or the flush; unique in the model's life */
    bool fua;
    uint32_t value;
    uint64_t sector, sectors;   /* a MODEL_KEY(); of a flush, of the disk */
} ModelNote;

Model *model_new(void);
Model *model_copy(const Model *model);
void model_free(Model *model);
void model_note(Model *model, const ModelNote *note);
/* The size of a new disk */
void model_disk(Model *model, unsigned disk, uint64_t sectors);
void model_fill(uint8_t *buf, uint64_t sector, uint32_t value);
/*
 * Is @buf, the content of @sector, one that may be there? Then it is the only
 * one from now on. Else the reason is printed into *why, to be freed.
 */
bool model_check(Model *model, uint64_t sector, const uint8_t *buf,
                 char **why);
/* The same for a range that reads as zeroes */
bool model_check_zero(Model *model, uint64_t sector, uint64_t sectors,
                      char **why);
/* The same for a disk's size */
bool model_check_size(Model *model, unsigned disk, uint64_t sectors,
                      char **why);

#endif
