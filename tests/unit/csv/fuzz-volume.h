/*
 * A damaged volume from a few bytes
 *
 * What a fuzzer gives is an action and a list of patches. They are applied to
 * a volume in memory, always the same, with CRCs made right again; then the
 * action opens, reads, writes, checks or repairs what is there. Nothing may
 * crash, hang, or take much memory.
 *
 *   1 byte    action: bits 0 to 2 what, see FuzzAction, bits 3 to 5 which disk
 *   then patches:
 *   1 byte    bits 0 to 2 site, see FuzzSite; bit 7: copy
 *   1 byte    number of the page or sector of this kind
 *   2 bytes   place in it
 *   1 byte    bits 0 to 3: length - 1; bit 7: leave the CRC as it is
 *   n bytes   the new bytes; with "copy" instead a site and a number, 2 bytes:
 *             the page or sector that comes here as a whole
 *
 * Any bytes are an input: numbers and places are taken modulo what there is,
 * and what is cut short is left out.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_CSV_FUZZ_VOLUME_H
#define TESTS_UNIT_CSV_FUZZ_VOLUME_H

#include "qemu/coroutine.h"
#include "system/block-backend.h"

typedef enum FuzzSite {
    FUZZ_SUPERBLOCK,    /* number: copy */
    FUZZ_MEMBER,        /* slot */
    FUZZ_DISK,          /* slot */
    FUZZ_SEGMENTS,      /* page */
    FUZZ_HEADER,        /* disk, copy */
    FUZZ_L1,            /* disk, sector */
    FUZZ_L2,            /* disk, table, sector */
    FUZZ_JOURNAL,       /* disk, page */
    FUZZ_SITES
} FuzzSite;

typedef enum FuzzAction {
    FUZZ_READ,          /* each disk */
    FUZZ_WRITE,         /* one, then read it again */
    FUZZ_CHECK,         /* the volume */
    FUZZ_CHECK_DISK,
    FUZZ_LEAKS,         /* the same with -r leaks */
    FUZZ_REPAIR,        /* the volume, with -r all, and look again */
    FUZZ_REPAIR_DISK,
    FUZZ_OVERLAY,       /* make a new disk on top of one */
    FUZZ_ACTIONS
} FuzzAction;

#define FUZZ_PATCH_HEAD     5
#define FUZZ_PATCH_BYTES    16
#define FUZZ_PATCHES        16
#define FUZZ_COPY           0x80    /* with the site */
#define FUZZ_KEEP_CRC       0x80    /* with the length */
#define FUZZ_INPUT_MAX \
    (1 + FUZZ_PATCHES * (FUZZ_PATCH_HEAD + FUZZ_PATCH_BYTES))

/* Bytes of the patch at @data, of which @size are there; 0: it is cut short */
static inline size_t fuzz_patch_size(const uint8_t *data, size_t size)
{
    size_t bytes = FUZZ_PATCH_HEAD;

    if (size < bytes) {
        return 0;
    }
    bytes += data[0] & FUZZ_COPY ? 2 : 1 + (data[4] & 15);
    return bytes <= size ? bytes : 0;
}

/*
 * Start QEMU's block layer, and make the volume, with five disks: "killed",
 * "two", "top" (based on "two"), "template" (sealed) and "clone" (of that), in
 * this order.  Once.
 */
void fuzz_init(void);
/* One input.  The volume is as it was afterwards. */
void fuzz_one(const uint8_t *data, size_t size);
/*
 * For a test that knows what it does: change @bytes bytes at @at, CRC made
 * right again; look at them; open and make a disk, and before it, if @volume
 * is not 0, a volume of so many bytes.
 */
void fuzz_patch(FuzzSite site, unsigned number, size_t at, const void *buf,
                size_t bytes);
void fuzz_peek(FuzzSite site, unsigned number, size_t at, void *buf,
               size_t bytes);
BlockBackend *fuzz_open(const char *disk, int flags, Error **errp);
/* Nothing is left behind. */
void fuzz_end(void);

/* What the linker puts in the place of the functions without __wrap_ */
void coroutine_fn __wrap_qemu_co_sleep_ns_wakeable(QemuCoSleep *w,
                                                   QEMUClockType type,
                                                   int64_t ns);
void __wrap_g_usleep(gulong microseconds);

/* What libFuzzer calls, and what it has for us */
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max,
                               unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);

#endif /* TESTS_UNIT_CSV_FUZZ_VOLUME_H */
