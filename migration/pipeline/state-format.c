/*
 * Migration pipeline: the header of a saved state
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/bswap.h"
#include "qemu/crc32c.h"
#include "state.h"

static uint32_t state_crc(const uint8_t *buf)
{
    return crc32c(0xffffffff, buf, offsetof(StateHeader, crc));
}

void pipeline_state_encode(const StateHeader *header,
                           uint8_t buf[STATE_HEADER_SIZE])
{
    StateHeader disk = {
        .magic = cpu_to_le64(STATE_MAGIC),
        .incompatible = cpu_to_le64(header->incompatible),
        .compatible = cpu_to_le64(header->compatible),
        .stream = cpu_to_le64(header->stream),
        .memory = cpu_to_le64(header->memory),
        .created = cpu_to_le64(header->created),
        .disk = header->disk,
        .token = header->token,
    };

    memcpy(buf, &disk, STATE_HEADER_SIZE);
    stl_le_p(buf + offsetof(StateHeader, crc), state_crc(buf));
}

bool pipeline_state_decode(const uint8_t buf[STATE_HEADER_SIZE], uint64_t size,
                           StateHeader *header, Error **errp)
{
    StateHeader disk;
    uint32_t crc = state_crc(buf);
    uint64_t unknown;

    memcpy(&disk, buf, STATE_HEADER_SIZE);
    *header = (StateHeader) {
        .magic = le64_to_cpu(disk.magic),
        .incompatible = le64_to_cpu(disk.incompatible),
        .compatible = le64_to_cpu(disk.compatible),
        .stream = le64_to_cpu(disk.stream),
        .memory = le64_to_cpu(disk.memory),
        .created = le64_to_cpu(disk.created),
        .disk = disk.disk,
        .token = disk.token,
        .crc = le32_to_cpu(disk.crc),
    };
    if (header->magic != STATE_MAGIC) {
        error_setg(errp, "it is not the state of a guest");
        return false;
    }
    if (header->crc != crc) {
        error_setg(errp, "its header is damaged: CRC 0x%08x, should be 0x%08x",
                   header->crc, crc);
        return false;
    }
    unknown = header->incompatible & ~STATE_MAKING;
    if (unknown) {
        error_setg(errp, "it has features that this QEMU does not know "
                   "(0x%" PRIx64 "); use a newer one", unknown);
        return false;
    }
    if (header->stream < STATE_HEADER_SIZE || header->stream >= size ||
        !QEMU_IS_ALIGNED(header->stream, STATE_STREAM)) {
        error_setg(errp, "its stream is said to begin at %" PRIu64 ", on a "
                   "disk of %" PRIu64 " bytes", header->stream, size);
        return false;
    }
    return true;
}
