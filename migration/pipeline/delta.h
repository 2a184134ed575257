/*
 * Migration pipeline: send what has changed in a page
 *
 * The destination has the page as sent last.  With a copy of that, the source
 * can send just the delta, a few bytes for a guest that writes a few bytes here
 * and there.  The idea is that of QEMU's XBZRLE (Svärd, Hudzia et al.,
 * "Evaluation of Delta Compression Techniques for Efficient Live Migration of
 * Large Virtual Machines", VEE 2011), and so is the encoding of a page; here it
 * is used in multifd threads, and the destination needs no copy beside its
 * page.
 *
 * A page with a copy must be sent from the copy, because the guest may write to
 * the page meanwhile.  So the copies are laid out like the guest's memory, as a
 * shadow of it, and packets are made from there.  No page is sent twice between
 * two syncs of the bitmap, at which multifd's threads on both sides wait for
 * each other; so only one thread at a time uses a page.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_DELTA_H
#define MIGRATION_PIPELINE_DELTA_H

#include "exec/ramblock.h"

/* Length field of a page that is sent whole */
#define DELTA_WHOLE     UINT16_MAX

/* Maximum size of the pages of a packet, with their lengths */
#define DELTA_MOST(pages, page_size) \
    ((pages) * ((page_size) + sizeof(uint16_t)))

/*
 * Encode a page: the delta from @old to @new, or @new itself if @old is NULL or
 * the delta too long.  @dst has room for a page.  Returns the length, and in
 * @code the length field for the packet.
 */
size_t delta_encode_page(const uint8_t *old, const uint8_t *new,
                         size_t page_size, uint8_t *dst, uint16_t *code);

/*
 * Decode a page from @src, which has @left bytes, into @page.  Returns how many
 * bytes were used, or -1 if they are invalid; @page may be partly overwritten
 * then.
 */
ssize_t delta_decode_page(uint16_t code, const uint8_t *src, size_t left,
                          uint8_t *page, size_t page_size);

/* Copies of the guest's memory, as it was sent last in one migration */
typedef struct DeltaCopies DeltaCopies;

/*
 * Source, while the threads of multifd do not run: prepare to keep copies, up
 * to @most bytes; free @copies, which may be NULL, and their shadows.
 */
DeltaCopies *delta_copies_new(uint64_t most);
void delta_copies_free(DeltaCopies *copies);

/* The copies of one block */
typedef struct DeltaShadow DeltaShadow;

/*
 * Threads of multifd, before these pages are sent: the shadow of @block if
 * copies are wanted (@wanted) and there is room for all of them; otherwise
 * NULL, and existing copies of these pages become invalid.
 */
DeltaShadow *delta_shadow(DeltaCopies *copies, RAMBlock *block,
                          const ram_addr_t *offsets, unsigned pages,
                          bool wanted);

/* A RAM block like the real one, with the copies as its memory */
RAMBlock *delta_shadow_block(DeltaShadow *shadow);

/* Copy the page at @offset from the guest. */
void delta_copy(DeltaShadow *shadow, ram_addr_t offset);

/* The page at @offset was sent as a zero page: it is not a base for deltas. */
void delta_forget(DeltaShadow *shadow, ram_addr_t offset);

/*
 * Copy the page at @offset from the guest, and encode it as delta_encode_page()
 * does.
 */
size_t delta_encode(DeltaShadow *shadow, ram_addr_t offset, uint8_t *dst,
                    uint16_t *code);

#endif /* MIGRATION_PIPELINE_DELTA_H */
