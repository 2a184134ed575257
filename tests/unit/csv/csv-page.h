/*
 * Pages of a cluster shared volume as the tests look at them
 *
 * Written from docs/interop/csv.rst alone, so that it does not share the
 * driver's mistakes: offsets are numbers from the document.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_CSV_PAGE_H
#define TESTS_CSV_PAGE_H

/* CRC-32C: reflected, polynomial 0x1EDC6F41, all ones at both ends. */
static inline uint32_t page_crc32c(const uint8_t *buf, size_t bytes)
{
    uint32_t crc = 0xffffffff;
    size_t i;
    int bit;

    for (i = 0; i < bytes; i++) {
        /* The page's own CRC, at 4 to 7, counts as zero. */
        crc ^= i >= 4 && i < 8 ? 0 : buf[i];
        for (bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
        }
    }
    return ~crc;
}

static inline void page_put(uint8_t *buf, size_t at, unsigned bytes,
                            uint64_t value)
{
    while (bytes--) {
        buf[at++] = value;
        value >>= 8;
    }
}

static inline uint64_t page_get(const uint8_t *buf, size_t at, unsigned bytes)
{
    uint64_t value = 0;

    while (bytes--) {
        value = value << 8 | buf[at + bytes];
    }
    return value;
}

/*
 * The same for a map sector: the disk's UUID comes first, and is not in it.
 */
static inline uint32_t sector_crc32c(const uint8_t *buf, const uint8_t *uuid)
{
    uint8_t all[16 + 512];
    uint32_t crc = 0xffffffff;
    size_t i;
    int bit;

    memcpy(all, uuid, 16);
    memcpy(all + 16, buf, 512);
    memset(all + 16 + 4, 0, 4);
    for (i = 0; i < sizeof(all); i++) {
        crc ^= all[i];
        for (bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
        }
    }
    return ~crc;
}

/* Make the CRC of a page whose extent is @bytes right again. */
static inline void page_reseal(uint8_t *buf, size_t bytes)
{
    page_put(buf, 4, 4, page_crc32c(buf, bytes));
}

/* Make the CRC of a map sector right again. */
static inline void sector_reseal(uint8_t *buf, const uint8_t *uuid)
{
    page_put(buf, 4, 4, sector_crc32c(buf, uuid));
}

/* True for a page of a level-1 or level-2 map, which is eight sectors. */
static inline bool page_is_map(const uint8_t *buf)
{
    return !memcmp(buf, "CSV1", 4) || !memcmp(buf, "CSV2", 4);
}

/* Bytes that the CRC of this page covers, or 0: this is no page. */
static inline size_t page_extent(const uint8_t *buf)
{
    if (memcmp(buf, "CSV", 3)) {
        return 0;
    }
    switch (buf[3]) {
    case 'S':
    case 'M':
    case 'D':
    case 'G':
        return 512;
    case 'H':
        return 4096;
    case 'J':
        /* What the record says of its length may be damaged. */
        return MAX(page_get(buf, 40, 4), 4096);
    default:
        return 0;
    }
}

#endif /* TESTS_CSV_PAGE_H */
