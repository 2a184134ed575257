/*
 * Migration pipeline: send what has changed in a page
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include <sys/mman.h>
#include "exec/target_page.h"
#include "migration/misc.h"
#include "migration/ram.h"
#include "qemu/bitmap.h"
#include "qemu/rcu.h"
#include "delta.h"

struct DeltaShadow {
    RAMBlock *block;
    RAMBlock like;              /* its host is that of the copies */
    unsigned long *valid;       /* the destination has the same page */
    unsigned long *used;        /* it takes memory */
};

struct DeltaCopies {
    GPtrArray *shadows;
    uint64_t most, bytes;       /* bytes: atomic */
};

static void delta_shadow_free(void *opaque)
{
    DeltaShadow *s = opaque;

    munmap(s->like.host, s->like.used_length);
    g_free(s->valid);
    g_free(s->used);
    g_free(s);
}

static DeltaShadow *delta_shadow_new(RAMBlock *block)
{
    long pages = DIV_ROUND_UP(block->used_length, qemu_target_page_size());
    void *host = mmap(NULL, block->used_length, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    DeltaShadow *s;

    if (host == MAP_FAILED) {
        return NULL;
    }
    s = g_new0(DeltaShadow, 1);
    s->block = block;
    s->like = *block;
    s->like.host = host;
    s->valid = bitmap_new(pages);
    s->used = bitmap_new(pages);
    return s;
}

DeltaCopies *delta_copies_new(uint64_t most)
{
    DeltaCopies *copies = g_new0(DeltaCopies, 1);
    RAMBlock *block;

    copies->most = most;
    copies->shadows = g_ptr_array_new_with_free_func(delta_shadow_free);
    RCU_READ_LOCK_GUARD();
    RAMBLOCK_FOREACH_MIGRATABLE(block) {
        DeltaShadow *s = delta_shadow_new(block);

        if (s) {
            g_ptr_array_add(copies->shadows, s);
        }
    }
    return copies;
}

void delta_copies_free(DeltaCopies *copies)
{
    if (copies) {
        g_ptr_array_unref(copies->shadows);
        g_free(copies);
    }
}

static DeltaShadow *delta_find(const DeltaCopies *copies, RAMBlock *block)
{
    for (unsigned i = 0; i < copies->shadows->len; i++) {
        DeltaShadow *s = g_ptr_array_index(copies->shadows, i);

        if (s->block == block) {
            return s;
        }
    }
    return NULL;
}

static long delta_page(ram_addr_t offset)
{
    return offset >> qemu_target_page_bits();
}

/* Reserve memory for copies of these pages.  False if there is none. */
static bool delta_reserve(DeltaCopies *copies, DeltaShadow *s,
                          const ram_addr_t *offsets, unsigned pages)
{
    uint64_t more = 0;
    unsigned i;

    for (i = 0; i < pages; i++) {
        more += test_bit(delta_page(offsets[i]), s->used) ?
                0 : qemu_target_page_size();
    }
    if (qatomic_fetch_add(&copies->bytes, more) + more > copies->most) {
        qatomic_sub(&copies->bytes, more);
        return false;
    }
    for (i = 0; i < pages && more; i++) {
        set_bit_atomic(delta_page(offsets[i]), s->used);
    }
    return true;
}

DeltaShadow *delta_shadow(DeltaCopies *copies, RAMBlock *block,
                          const ram_addr_t *offsets, unsigned pages,
                          bool wanted)
{
    DeltaShadow *s = wanted || qatomic_read(&copies->bytes) ?
                     delta_find(copies, block) : NULL;

    if (!s || (wanted && delta_reserve(copies, s, offsets, pages))) {
        return s;
    }
    for (unsigned i = 0; i < pages; i++) {
        delta_forget(s, offsets[i]);
    }
    return NULL;
}

RAMBlock *delta_shadow_block(DeltaShadow *shadow)
{
    return &shadow->like;
}

void delta_copy(DeltaShadow *s, ram_addr_t offset)
{
    memcpy(s->like.host + offset, s->block->host + offset,
           qemu_target_page_size());
    set_bit_atomic(delta_page(offset), s->valid);
}

void delta_forget(DeltaShadow *s, ram_addr_t offset)
{
    bitmap_test_and_clear_atomic(s->valid, delta_page(offset), 1);
}

size_t delta_encode(DeltaShadow *s, ram_addr_t offset, uint8_t *dst,
                    uint16_t *code)
{
    size_t page_size = qemu_target_page_size();
    g_autofree uint8_t *new = g_memdup2(s->block->host + offset, page_size);
    uint8_t *old = s->like.host + offset;
    bool valid = test_bit(delta_page(offset), s->valid);
    size_t len = delta_encode_page(valid ? old : NULL, new, page_size, dst,
                                   code);

    memcpy(old, new, page_size);
    set_bit_atomic(delta_page(offset), s->valid);
    return len;
}
