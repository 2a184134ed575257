/*
 * Disk hot-plug: identity of a disk in its guest
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "identity.h"

#define NAA_LOCALLY_ASSIGNED    3ULL
/* Digits of the UUID in an id: the first ones, which are random */
#define ID_DIGITS               12

static char *uuid_digits(const QemuUUID *uuid, unsigned digits)
{
    GString *s = g_string_new(NULL);

    for (unsigned i = 0; i < digits / 2; i++) {
        g_string_append_printf(s, "%02x", uuid->data[i]);
    }
    return g_string_free(s, false);
}

char *disk_serial(const QemuUUID *uuid)
{
    return uuid_digits(uuid, DISK_SERIAL_LEN);
}

uint64_t disk_wwn(const QemuUUID *uuid)
{
    return NAA_LOCALLY_ASSIGNED << 60 | ldq_be_p(uuid->data) >> 4;
}

char *disk_default_id(const QemuUUID *uuid)
{
    g_autofree char *digits = uuid_digits(uuid, ID_DIGITS);

    return g_strdup_printf("disk-%s", digits);
}

char *disk_guest_name(DiskBus bus, const char *serial, uint64_t wwn)
{
    switch (bus) {
    case DISK_BUS_SCSI:
        return g_strdup_printf("/dev/disk/by-id/wwn-0x%016" PRIx64, wwn);
    case DISK_BUS_VIRTIO_BLK:
        return g_strdup_printf("/dev/disk/by-id/virtio-%s", serial);
    case DISK_BUS_NVME:
        return g_strdup_printf("/dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_%s",
                               serial);
    default:
        g_assert_not_reached();
    }
}

static bool is_after(const char *text, const char *prefix, const char *rest)
{
    return g_str_has_prefix(text, prefix) &&
           g_str_equal(text + strlen(prefix), rest);
}

bool disk_guest_serial_is(const char *text, DiskBus bus, const char *serial,
                          uint64_t wwn)
{
    /* Of a SCSI disk's names, udev uses the NAA name, which is type 3. */
    g_autofree char *naa = g_strdup_printf("3%016" PRIx64, wwn);
    g_autofree char *first_ns = g_strdup_printf("%s_1", serial);

    if (g_str_equal(text, serial)) {
        return true;
    }
    switch (bus) {
    case DISK_BUS_SCSI:
        return (wwn && g_str_equal(text, naa)) ||
               is_after(text, "0QEMU_QEMU_HARDDISK_", serial);
    case DISK_BUS_NVME:
        return is_after(text, "QEMU_NVMe_Ctrl_", serial) ||
               is_after(text, "QEMU_NVMe_Ctrl_", first_ns);
    default:
        return false;
    }
}

QemuUUID disk_uuid_of_name(const char *name)
{
    /* Random, generated once for this purpose */
    static const uint8_t space[] = {
        0x3c, 0x9d, 0x5e, 0x0b, 0x6a, 0x41, 0x4f, 0x7e,
        0x9b, 0x1d, 0x27, 0xc4, 0x80, 0x5f, 0xe2, 0x16,
    };
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA1);
    uint8_t digest[20];
    gsize len = sizeof(digest);
    QemuUUID uuid;

    g_checksum_update(sum, space, sizeof(space));
    g_checksum_update(sum, (const guchar *)name, strlen(name));
    g_checksum_get_digest(sum, digest, &len);
    memcpy(uuid.data, digest, sizeof(uuid.data));
    uuid.data[6] = (uuid.data[6] & 0x0f) | 0x50;
    uuid.data[8] = (uuid.data[8] & 0x3f) | 0x80;
    return uuid;
}
