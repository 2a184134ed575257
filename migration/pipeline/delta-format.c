/*
 * Migration pipeline: encoding of a changed page
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "migration/xbzrle.h"
#include "delta.h"

size_t delta_encode_page(const uint8_t *old, const uint8_t *new,
                         size_t page_size, uint8_t *dst, uint16_t *code)
{
    /* Encoding changes to more than half of it takes longer than sending it. */
    int len = old ? xbzrle_encode_buffer((uint8_t *)old, (uint8_t *)new,
                                         page_size, dst, page_size / 2) : -1;

    if (len < 0 || len >= DELTA_WHOLE) {
        memcpy(dst, new, page_size);
        *code = DELTA_WHOLE;
        return page_size;
    }
    return *code = len;
}

ssize_t delta_decode_page(uint16_t code, const uint8_t *src, size_t left,
                          uint8_t *page, size_t page_size)
{
    size_t len = code == DELTA_WHOLE ? page_size : code;

    if (len > left) {
        return -1;
    }
    if (code == DELTA_WHOLE) {
        memcpy(page, src, len);
    } else if (len && xbzrle_decode_buffer((uint8_t *)src, len, page,
                                           page_size) < 0) {
        return -1;
    }
    return len;
}
