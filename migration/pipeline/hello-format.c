/*
 * Migration pipeline: format of the greeting
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/bswap.h"
#include "qemu/crc32c.h"
#include "hello.h"

static uint32_t hello_crc(const uint8_t *buf, size_t len)
{
    static const uint8_t zero[sizeof_field(HelloMessage, crc)];
    const size_t at = offsetof(HelloMessage, crc);
    const struct iovec iov[] = {
        { (void *)buf, at },
        { (void *)zero, sizeof(zero) },
        { (void *)(buf + sizeof(HelloMessage)), len - sizeof(HelloMessage) },
    };

    return iov_crc32c(0xffffffff, iov, ARRAY_SIZE(iov));
}

GByteArray *migration_hello_encode(const HelloMessage *hello,
                                   const char *text)
{
    size_t text_len = text ? strnlen(text, HELLO_TEXT_MAX) : 0;
    size_t len = sizeof(*hello) + text_len;
    GByteArray *bytes = g_byte_array_sized_new(len);
    HelloMessage wire = {
        .magic = cpu_to_be32(HELLO_MAGIC),
        .type = cpu_to_be16(hello->type),
        .length = cpu_to_be16(len),
        .features = cpu_to_be64(hello->features),
        .required = cpu_to_be64(hello->required),
        .channels = cpu_to_be32(hello->channels),
        .page_size = cpu_to_be32(hello->page_size),
    };

    g_byte_array_append(bytes, (uint8_t *)&wire, sizeof(wire));
    g_byte_array_append(bytes, (const uint8_t *)text, text_len);
    stl_be_p(bytes->data + offsetof(HelloMessage, crc),
             hello_crc(bytes->data, len));
    return bytes;
}

size_t migration_hello_length(const uint8_t *buf, Error **errp)
{
    uint32_t magic = ldl_be_p(buf + offsetof(HelloMessage, magic));
    size_t len = lduw_be_p(buf + offsetof(HelloMessage, length));

    if (magic != HELLO_MAGIC) {
        error_setg(errp, "no greeting of a migration pipeline, but 0x%08x",
                   magic);
        return 0;
    }
    if (len < sizeof(HelloMessage) ||
        len > sizeof(HelloMessage) + HELLO_TEXT_MAX) {
        error_setg(errp, "greeting of %zu bytes, instead of %zu to %zu", len,
                   sizeof(HelloMessage),
                   sizeof(HelloMessage) + HELLO_TEXT_MAX);
        return 0;
    }
    return len;
}

bool migration_hello_decode(const uint8_t *buf, size_t len,
                            HelloMessage *hello, char **text, Error **errp)
{
    HelloMessage wire;
    uint32_t crc = hello_crc(buf, len);

    memcpy(&wire, buf, sizeof(wire));
    *hello = (HelloMessage) {
        .magic = be32_to_cpu(wire.magic),
        .type = be16_to_cpu(wire.type),
        .length = be16_to_cpu(wire.length),
        .features = be64_to_cpu(wire.features),
        .required = be64_to_cpu(wire.required),
        .channels = be32_to_cpu(wire.channels),
        .page_size = be32_to_cpu(wire.page_size),
        .crc = be32_to_cpu(wire.crc),
    };
    if (hello->crc != crc) {
        error_setg(errp, "damaged greeting: CRC 0x%08x, should be 0x%08x",
                   hello->crc, crc);
        return false;
    }
    /* It will be shown to the user, so it must be valid. */
    *text = g_utf8_make_valid((const char *)buf + sizeof(wire),
                              len - sizeof(wire));
    return true;
}
