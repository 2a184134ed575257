/*
 * Disk hot-plug: the list of disks that goes with a guest
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "hw/disk/list-format.h"
#include "qapi/error.h"

#define UUID    "6f1f64bb-7ba2-4ea4-8f0a-1c3b8f9d2a11"
#define NODE    "'blockdev': {'driver': 'null-co', 'node-name': 'n'}"
#define WHO     "'uuid': '" UUID "', 'serial': 'abc'"

/* A record in which all is well: by id, bus, place, address */
#define SCSI(id, address) \
    "{'id': '" id "', 'bus': 'scsi', 'place': 'disks.0', 'wwn': 1, " \
    "'address': " #address ", " WHO ", " NODE "}"
#define BLK(id, place) \
    "{'id': '" id "', 'bus': 'virtio-blk', 'place': '" place "', " \
    "'address': 0, " WHO ", " NODE "}"

static DiskManifest *read_text(const char *text, size_t len, Error **errp)
{
    return disk_list_read(text, len, disk_list_crc(text, len), errp);
}

static DiskManifest *read_disks(const char *disks)
{
    g_autofree char *text = g_strdup_printf("{'disks': [%s]}", disks);

    return read_text(text, strlen(text), &error_abort);
}

static void refused_text(const char *text, size_t len, const char *why)
{
    Error *err = NULL;
    DiskManifest *list = read_text(text, len, &err);

    g_assert_null(list);
    g_assert_nonnull(err);
    if (!strstr(error_get_pretty(err), why)) {
        g_test_message("%s: not '%s'", error_get_pretty(err), why);
    }
    g_assert_nonnull(strstr(error_get_pretty(err), why));
    error_free(err);
}

static void refused(const char *text, const char *why)
{
    refused_text(text, strlen(text), why);
}

static void refused_disks(const char *disks, const char *why)
{
    g_autofree char *text = g_strdup_printf("{'disks': [%s]}", disks);

    refused(text, why);
}

/* What is written is what was read. */
static void test_whole(void)
{
    g_autoptr(DiskManifest) list = read_disks(
        SCSI("a", 0) ", " SCSI("b", 255) ", " BLK("c", "p"));
    GString *text = disk_list_write(list, &error_abort);
    g_autoptr(DiskManifest) again = read_text(text->str, text->len,
                                              &error_abort);
    GString *same = disk_list_write(again, &error_abort);
    DiskRecord *r = again->disks->next->value;

    g_assert_cmpstr(text->str, ==, same->str);
    g_assert_cmpstr(r->id, ==, "b");
    g_assert_cmpint(r->address, ==, 255);
    g_assert_cmpint(r->bus, ==, DISK_BUS_SCSI);
    g_assert_cmpint(r->blockdev->type, ==, QTYPE_QDICT);
    g_assert_cmpstr(r->blockdev->u.definition.node_name, ==, "n");
    g_string_free(text, true);
    g_string_free(same, true);
}

static void test_text(void)
{
    static const char whole[] = "{'disks': []}";
    Error *err = NULL;

    qapi_free_DiskManifest(read_disks(""));
    g_assert_null(disk_list_read(whole, strlen(whole), 1, &err));
    error_free_or_abort(&err);
    g_assert_false(disk_list_check_len(DISK_LIST_MAX + 1, &err));
    error_free_or_abort(&err);
    g_assert_true(disk_list_check_len(DISK_LIST_MAX, &error_abort));
    refused("", "0 bytes");
    refused_text(whole, sizeof(whole), "a zero byte");
    for (size_t len = 1; len < strlen(whole); len++) {
        g_autofree char *cut = g_strndup(whole, len);

        refused(cut, "the list of disks");
    }
    refused("[]", "object");
    refused("{'disks': [], 'more': 1}", "'more' is unexpected");
    refused("{'disks': {}}", "disks");
    refused("{}", "disks");
    refused("\xff", "the list of disks");
}

/* @depth arrays in one object */
static char *nested(unsigned depth)
{
    g_autofree char *open = g_strnfill(depth, '[');
    g_autofree char *close = g_strnfill(depth, ']');

    return g_strdup_printf("{'disks': %s%s}", open, close);
}

/* As deep as it may be, one more, and as much as JSON takes */
static void test_nested(void)
{
    g_autofree char *good = nested(DISK_LIST_DEPTH - 1);
    g_autofree char *more = nested(DISK_LIST_DEPTH);
    g_autofree char *most = nested(1000);

    refused(good, "disks[0]");
    refused(more, "nested more than");
    refused(most, "nested more than");
}

static void test_records(void)
{
    static const struct {
        const char *disks, *why;
    } bad[] = {
        { "1", "disks[0]" },
        { "{'place': 'p', 'address': 0, " NODE "}", "disks[0] has no 'id'" },
        { SCSI("a", 0) ", {'place': 'p', 'id': 'b', 'address': 0, " NODE "}",
          "disks[1] has no 'bus'" },
        { "{'place': 'p', 'id': 'b', 'address': 0, 'bus': 'auto', " WHO ", "
          NODE "}", "no 'bus'" },
        { "{'place': 'p', 'id': 'b', 'address': 0, 'bus': 'ide', " WHO ", "
          NODE "}", "'ide'" },
        { "{'place': 'p', 'id': 'b', 'address': 0, 'bus': 'scsi', " WHO ", "
          NODE "}", "no 'wwn'" },
        { "{'place': 'p', 'id': 'b', 'address': 0, 'bus': 'nvme', "
          "'uuid': '" UUID "', " NODE "}", "no 'serial'" },
        { "{'place': 'p', 'id': 'b', 'address': 0, 'bus': 'nvme', "
          "'serial': 'x', " NODE "}", "no 'uuid'" },
        { "{'place': 'p', 'id': 'b', 'address': 0, 'bus': 'nvme', "
          "'serial': '', 'uuid': '" UUID "', " NODE "}", "'serial'" },
        { "{'place': 'p', 'id': 'b', 'address': 0, 'bus': 'nvme', "
          "'serial': '123456789012345678901', 'uuid': '" UUID "', " NODE "}",
          "'serial'" },
        { "{'place': 'p', 'id': 'b', 'address': 0, 'bus': 'nvme', "
          "'serial': 'x', 'uuid': 'y', " NODE "}", "'uuid'" },
        { "{'place': 'p', 'id': 'b', 'address': 0, 'bus': 'nvme', 'wwn': 1, "
          WHO ", " NODE "}", "'wwn'" },
        { BLK("1a", "p"), "the 'id' of disks[0]" },
        { BLK("../a", "p"), "'id'" },
        { BLK("a", ""), "'place'" },
        { SCSI("a", 65536), "address" },
        { SCSI("a", -1), "address" },
        { SCSI("a", "0"), "address" },
        { SCSI("a", 1) ", " SCSI("a", 2), "two with the id of disk 'a'" },
        { SCSI("a", 1) ", " SCSI("b", 1), "two with the address of disk 'b'" },
        { "{'place': 'p', 'id': 'b', 'address': 0, 'bus': 'nvme', " WHO ", "
          NODE ", 'more': true}", "'disks[0].more' is unexpected" },
        { "{'place': 'p', 'id': 'b', 'address': 0, 'bus': 'nvme', " WHO ", "
          NODE ", 'dry-run': false}", "'dry-run'" },
        { "{'place': 'p', 'id': 'b', 'address': 0, 'bus': 'nvme', " WHO ", "
          NODE ", 'create': {'driver': 'file', 'filename': 'x', 'size': 1}}",
          "'create'" },
        { "{'place': 'p', 'id': 'b', 'address': 0, 'bus': 'nvme', " WHO "}",
          "blockdev" },
        { "{'place': 'p', 'id': 'b', 'address': 0, 'bus': 'nvme', " WHO ", "
          "'blockdev': {'driver': 'null-co', 'colour': 'red'}}", "colour" },
        { "{'place': 'p', 'id': 'b', 'address': 0, 'bus': 'nvme', " WHO ", "
          "'blockdev': 7}", "blockdev" },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        refused_disks(bad[i].disks, bad[i].why);
    }
    qapi_free_DiskManifest(read_disks(BLK("a", "p") ", " BLK("b", "q")));
}

static void test_too_long(void)
{
    g_autoptr(GString) path = g_string_new(NULL);
    g_autofree char *disk = NULL;
    g_autoptr(DiskManifest) list = NULL;
    Error *err = NULL;

    for (unsigned i = 0; i < DISK_LIST_MAX / 2; i++) {
        g_string_append_c(path, 'x');
    }
    disk = g_strdup_printf("{'id': 'a', 'bus': 'nvme', 'place': 'p', "
                           "'address': 0, " WHO ", 'blockdev': '%s'}",
                           path->str);
    list = read_disks(disk);
    /* As long again as it was */
    list->disks->next = g_new0(DiskRecordList, 1);
    list->disks->next->value = g_steal_pointer(&read_disks(disk)->disks->value);
    g_assert_null(disk_list_write(list, &err));
    error_free_or_abort(&err);
}

/* Damage that the CRC does not tell: whatever comes of it, there is no harm. */
static void test_damage(void)
{
    static const char whole[] = "{'disks': [" SCSI("a", 1) ", "
                                BLK("b", "p") "]}";
    GRand *rand = g_rand_new_with_seed(20260117);
    unsigned good = 0, bad = 0;

    for (unsigned round = 0; round < 20000; round++) {
        g_autofree char *text = g_strdup(whole);
        size_t len = strlen(text);
        unsigned hits = g_rand_int_range(rand, 1, 4);
        Error *err = NULL;
        DiskManifest *list;

        for (unsigned i = 0; i < hits; i++) {
            size_t at = g_rand_int_range(rand, 0, len);

            if (g_rand_boolean(rand)) {
                text[at] = whole[g_rand_int_range(rand, 0, strlen(whole))];
            } else {
                text[at] ^= 1 << g_rand_int_range(rand, 0, 8);
            }
        }
        list = read_text(text, len, &err);
        g_assert_true(!list == !!err);
        *(list ? &good : &bad) += 1;
        qapi_free_DiskManifest(list);
        error_free(err);
    }
    g_assert_cmpint(good, >, 0);
    g_assert_cmpint(bad, >, good);
    g_rand_free(rand);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/disk-list/whole", test_whole);
    g_test_add_func("/disk-list/text", test_text);
    g_test_add_func("/disk-list/nested", test_nested);
    g_test_add_func("/disk-list/records", test_records);
    g_test_add_func("/disk-list/too-long", test_too_long);
    g_test_add_func("/disk-list/damage", test_damage);
    return g_test_run();
}
