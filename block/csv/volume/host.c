/*
 * Cluster shared volume: this host, and members that were on it
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/cutils.h"
#include "volume.h"

/* An ID from a file of 32 hexadecimal digits, with dashes or without. */
static QemuUUID csv_read_id(const char *path)
{
    g_autofree char *text = NULL;
    QemuUUID id = { 0 };
    unsigned i, n = 0;

    if (!g_file_get_contents(path, &text, NULL, NULL)) {
        return id;
    }
    for (i = 0; text[i] && n < 2 * sizeof(id.data); i++) {
        if (g_ascii_isxdigit(text[i])) {
            id.data[n / 2] <<= 4;
            id.data[n / 2] |= g_ascii_xdigit_value(text[i]);
            n++;
        }
    }
    return n == 2 * sizeof(id.data) ? id : (QemuUUID) { 0 };
}

static uint64_t csv_pid_space(void)
{
    struct stat st;

    return stat("/proc/self/ns/pid", &st) < 0 ? 0 : st.st_ino;
}

void csv_host_fill(CsvMemberRecord *rec)
{
    rec->pid = getpid();
    rec->pid_space = csv_pid_space();
    rec->host_id = csv_read_id("/etc/machine-id");
    rec->boot_id = csv_read_id("/proc/sys/kernel/random/boot_id");
    pstrcpy(rec->host, sizeof(rec->host), g_get_host_name());
    if (!g_utf8_validate(rec->host, -1, NULL)) {
        pstrcpy(rec->host, sizeof(rec->host), "unnamed");
    }
}

bool csv_host_is_here(const CsvMemberRecord *here, const CsvMemberRecord *rec)
{
    if (!qemu_uuid_is_null(&here->boot_id) &&
        qemu_uuid_is_equal(&here->boot_id, &rec->boot_id)) {
        return true;
    }
    return !qemu_uuid_is_null(&here->host_id) &&
           qemu_uuid_is_equal(&here->host_id, &rec->host_id) &&
           !strcmp(here->host, rec->host);
}

bool csv_host_process_is_gone(const CsvMemberRecord *here,
                              const CsvMemberRecord *rec)
{
    if (!csv_host_is_here(here, rec)) {
        return false;
    }
    if (!qemu_uuid_is_equal(&here->boot_id, &rec->boot_id)) {
        return !qemu_uuid_is_null(&here->boot_id) &&
               !qemu_uuid_is_null(&rec->boot_id);
    }
    return rec->pid > 0 && rec->pid <= INT32_MAX && rec->pid_space &&
           rec->pid_space == here->pid_space &&
           kill(rec->pid, 0) < 0 && errno == ESRCH;
}
