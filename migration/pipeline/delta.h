/*
 * Migration pipeline: send what has changed in a page
 *
 * The destination has what was sent last.  Who keeps a copy of that can send
 * the difference, which for a guest that writes a few bytes here and there is
 * a few bytes.  The idea is that of QEMU's XBZRLE (Svärd, Hudzia et al.,
 * "Evaluation of Delta Compression Techniques for Efficient Live Migration of
 * Large Virtual Machines", VEE 2011), and so is the code of a page; here it is
 * for threads of multifd, and the destination needs no copy: its page is one.
 *
 * What is sent of a page that there is to be a copy of must be the copy, for
 * the guest may write to the page meanwhile.  So copies lie like the guest's
 * memory, a shadow of it, and packets are made from there.  No page is sent
 * twice between two syncs of the bitmap, at which multifd's threads on both
 * sides wait for each other; so a page has one thread at a time.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_DELTA_H
#define MIGRATION_PIPELINE_DELTA_H

#include "exec/ramblock.h"

/* Of a page in a packet: it is as a whole. */
#define DELTA_WHOLE     UINT16_MAX

/* What the pages of a packet take at most, with their lengths */
#define DELTA_MOST(pages, page_size) \
    ((pages) * ((page_size) + sizeof(uint16_t)))

/*
 * Make the bytes of a page: how @new differs from @old, or if that is NULL or
 * takes too much, @new.  @dst has room for a page.  Returns the length, and in
 * @code what stands for it in the packet.
 */
size_t delta_encode_page(const uint8_t *old, const uint8_t *new,
                         size_t page_size, uint8_t *dst, uint16_t *code);

/*
 * Take a page from @src, of which there are @left bytes, into @page.  Returns
 * how many bytes it took, or -1 if they make no sense; then some of them may
 * be in @page.
 */
ssize_t delta_decode_page(uint16_t code, const uint8_t *src, size_t left,
                          uint8_t *page, size_t page_size);

/*
 * Source, main thread: get ready to keep copies, up to @most bytes; none are
 * left, and they take no memory any more.  The threads of multifd do not run.
 */
void delta_begin(uint64_t most);
void delta_end(void);

/* Memory of a block, as it was sent last */
typedef struct DeltaShadow DeltaShadow;

/*
 * Threads of multifd, before these pages are sent: the shadow of @block, if
 * copies are to be made (@wanted) and there is room for all of them; NULL: what
 * copies there are of them do not count any more.
 */
DeltaShadow *delta_shadow(RAMBlock *block, const ram_addr_t *offsets,
                          unsigned pages, bool wanted);

/* A block like the real one, with the copies in place of its memory */
RAMBlock *delta_shadow_block(DeltaShadow *shadow);

/* Copy the page at @offset from the guest. */
void delta_copy(DeltaShadow *shadow, ram_addr_t offset);

/* The destination has no copy of that page, as it has been told it is zero. */
void delta_forget(DeltaShadow *shadow, ram_addr_t offset);

/*
 * Copy the page at @offset from the guest, and make its bytes as
 * delta_encode_page() does.
 */
size_t delta_encode(DeltaShadow *shadow, ram_addr_t offset, uint8_t *dst,
                    uint16_t *code);

#endif /* MIGRATION_PIPELINE_DELTA_H */
