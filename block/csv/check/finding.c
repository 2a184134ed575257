/*
 * Cluster shared volume: findings of a check
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "check-int.h"

/* Limit for findings that are compared between attempts; others are counted. */
#define CSV_CHECK_KEEP          1000

bool csv_check_may_fix(const CsvCheckup *c, CsvFindingKind kind)
{
    switch (kind) {
    case CSV_FINDING_ERROR:
        return c->fix & BDRV_FIX_ERRORS;
    case CSV_FINDING_LEAK:
        return c->fix & BDRV_FIX_LEAKS;
    default:
        return false;
    }
}

static void csv_check_count(CsvCheckup *c, CsvFindingKind kind, bool fixed)
{
    switch (kind) {
    case CSV_FINDING_ERROR:
        c->res->corruptions += !fixed;
        c->res->corruptions_fixed += fixed;
        break;
    case CSV_FINDING_LEAK:
        c->res->leaks += !fixed;
        c->res->leaks_fixed += fixed;
        break;
    default:
        c->res->check_errors++;
    }
}

static void csv_check_print(CsvFindingKind kind, bool fixed, const char *text)
{
    fprintf(stderr, "%s %s\n", fixed ? "Repaired:" :
            kind == CSV_FINDING_LEAK ? "Leaked" : "ERROR", text);
}

void csv_check_found(CsvCheckup *c, CsvFindingKind kind, bool fixed,
                     const char *fmt, ...)
{
    g_autofree char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    text = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    if (!c->found) {
        csv_check_print(kind, fixed, text);
        csv_check_count(c, kind, fixed);
    } else if (g_hash_table_size(c->found) < CSV_CHECK_KEEP) {
        g_hash_table_insert(c->found, g_steal_pointer(&text),
                            GINT_TO_POINTER(kind));
    } else {
        c->more++;
    }
}

void csv_check_report(CsvCheckup *c, GHashTable *found)
{
    GHashTableIter it;
    gpointer text, kind;

    g_hash_table_iter_init(&it, found);
    while (g_hash_table_iter_next(&it, &text, &kind)) {
        csv_check_print(GPOINTER_TO_INT(kind), false, text);
        csv_check_count(c, GPOINTER_TO_INT(kind), false);
    }
    if (c->more) {
        fprintf(stderr, "ERROR and %" PRIu64 " more\n", c->more);
        c->res->corruptions += MIN(c->more, INT_MAX / 2);
    }
}

void csv_check_settle(CsvCheckup *c, uint64_t offset, uint8_t *raw)
{
    uint8_t last[CSV_RECORD_SIZE];
    int tries;

    for (tries = 0; tries < CSV_CHECK_TRIES; tries++) {
        memcpy(last, raw, sizeof(last));
        g_usleep(CSV_CHECK_PAUSE_NS / SCALE_US / CSV_CHECK_TRIES);
        if (csv_record_read(c->file, offset, raw) < 0 ||
            !memcmp(last, raw, sizeof(last))) {
            return;
        }
    }
}

bool csv_check_may_rebuild(CsvCheckup *c, const char *what)
{
    g_autofree char *who = NULL;

    if (!csv_check_may_fix(c, CSV_FINDING_ERROR)) {
        return false;
    }
    if (csv_member_other(c->vol, c->file, &who)) {
        fprintf(stderr, "Cannot rebuild %s: the volume is in use by a member "
                "(%s); end that first\n", what, who);
        return false;
    }
    return true;
}
