/*
 * Coverage-guided fuzzing of what is read from a cluster shared volume
 *
 * For libFuzzer; "make check-fuzz" builds and runs it. The inputs are those of
 * fuzz-volume.h. Beside libFuzzer's own mutations of their bytes, patches are
 * added, changed and dropped as a whole; the new ones prefer the fields and
 * the values of csv-bad-fields.h.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "csv-page.h"
#include "fuzz-volume.h"
#include "sim-device.h"

/* What csv-bad-fields.h is written in */
#define MAX16   UINT16_MAX
#define MAX32   UINT32_MAX
#define MAX64   UINT64_MAX

typedef enum Structure {
    SUPERBLOCK = FUZZ_SUPERBLOCK,
    MEMBER = FUZZ_MEMBER,
    DISK = FUZZ_DISK,
    HANDOVER = FUZZ_DISK,
    DISK_FREE = FUZZ_DISK,
    DISK_MAKING = FUZZ_DISK,
    SEGMENTS = FUZZ_SEGMENTS,
    HEADER = FUZZ_HEADER,
    BACKED = FUZZ_HEADER,
    JOURNAL = FUZZ_JOURNAL,
    L1 = FUZZ_L1,
    L1_LAST = FUZZ_L1,
    L2 = FUZZ_L2,
} Structure;

typedef struct BadField {
    Structure structure;
    uint16_t at;
    uint8_t bytes;
    uint64_t value;
    const char *field;
} BadField;

#include "csv-bad-fields.h"

/* What a check prints; a failure is shown by running its file once more. */
static FILE *quiet;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    quiet = fopen("/dev/null", "w");
    g_assert_nonnull(quiet);
    fuzz_init();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    FILE *loud = stderr;

    stderr = quiet;
    fuzz_one(data, size);
    stderr = loud;
    return 0;
}

static uint64_t new_value(uint64_t *seed, const BadField *f)
{
    switch (sim_random(seed) % 6) {
    case 0:
        return sim_random(seed) % 16;
    case 1:
        return 1ULL << sim_random(seed) % 64;
    case 2:
        return sim_random(seed) % 48 * 2 * MiB;     /* a cluster */
    case 3:
        return sim_random(seed) % 1536 * 64 * 1024; /* a table */
    case 4:
        return sim_random(seed);
    default:
        return f->value;
    }
}

/* A new patch at @patch, with room for the largest.  Returns its size. */
static size_t new_patch(uint64_t *seed, uint8_t *patch)
{
    const BadField *f = &bad_fields[sim_random(seed) %
                                    G_N_ELEMENTS(bad_fields)];
    /* Sectors and pages in front have more in them. */
    uint8_t number = sim_random(seed) % (sim_random(seed) % 2 ? 10 : 256);

    patch[0] = f->structure;
    patch[1] = number;
    page_put(patch, 2, 2, f->at);
    if (sim_random(seed) % 16 == 0) {
        patch[0] |= FUZZ_COPY;
        patch[4] = 0;
        patch[FUZZ_PATCH_HEAD] = sim_random(seed) % 4 ? f->structure
                                 : sim_random(seed) % FUZZ_SITES;
        patch[FUZZ_PATCH_HEAD + 1] = sim_random(seed) % 20;
        return FUZZ_PATCH_HEAD + 2;
    }
    patch[4] = (f->bytes - 1) | (sim_random(seed) % 16 ? 0 : FUZZ_KEEP_CRC);
    page_put(patch, FUZZ_PATCH_HEAD, f->bytes, new_value(seed, f));
    return FUZZ_PATCH_HEAD + f->bytes;
}

/* Where the patches of an input begin.  Returns how many there are. */
static unsigned find_patches(const uint8_t *data, size_t size, size_t *at)
{
    unsigned n = 0;
    size_t i = 1, bytes;

    while (n < FUZZ_PATCHES && i < size &&
           (bytes = fuzz_patch_size(data + i, size - i))) {
        at[n++] = i;
        i += bytes;
    }
    at[n] = MIN(i, size);
    return n;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max,
                               unsigned seed)
{
    uint64_t random = seed;
    uint8_t patch[FUZZ_PATCH_HEAD + FUZZ_PATCH_BYTES];
    size_t at[FUZZ_PATCHES + 1];
    unsigned n = size ? find_patches(data, size, at) : 0;
    unsigned i = n ? sim_random(&random) % n : 0;
    unsigned kind = sim_random(&random) % 8;

    if (!size || kind < 2) {
        return LLVMFuzzerMutate(data, size, max);
    }
    if (kind == 2) {
        data[0] = sim_random(&random);
        return size;
    }
    if (kind == 3 && n > 1) {
        /* Without patch i. */
        memmove(data + at[i], data + at[i + 1], size - at[i + 1]);
        return size - (at[i + 1] - at[i]);
    }
    if (kind == 4 && n) {
        data[at[i] + 1] = sim_random(&random) % 20;
        return size;
    }
    if (kind == 5 && n && !(data[at[i]] & FUZZ_COPY)) {
        unsigned bytes = 1 + (data[at[i] + 4] & 15);
        const BadField *f = &bad_fields[sim_random(&random) %
                                        G_N_ELEMENTS(bad_fields)];

        page_put(data, at[i] + FUZZ_PATCH_HEAD, MIN(bytes, 8),
                 new_value(&random, f));
        return size;
    }
    size = at[n];
    i = new_patch(&random, patch);
    if (n == FUZZ_PATCHES || size + i > max) {
        return LLVMFuzzerMutate(data, size, max);
    }
    memcpy(data + size, patch, i);
    return size + i;
}
