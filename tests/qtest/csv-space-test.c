/*
 * A volume that gets full: the event before, the guest that stops, and goes on
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "csv/csv-vm.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"

#define SEGMENT     (8 * MiB)
#define VOLUME      (64 * MiB)  /* seven segments, and the tables */
#define CHUNKS      50          /* each takes a cluster of 2 MiB */

/* One thin disk that is larger than its volume, and another one */
static void begin(CsvScene *s)
{
    csv_scene_init(s, 0);
    csv_qemu_img("create -q -f csv -o volume=vol1,volume_size=%u,"
                 "segment_size=8M,disk=disk0 %s 256M", (unsigned)VOLUME,
                 s->volume);
    csv_qemu_img("create -q -f csv -o disk=other %s 2M", s->volume);
    s->disks = 1;
    s->device = ",werror=enospc";
}

static void end(CsvScene *s)
{
    csv_qemu_img("check -q -f csv %s", s->volume);
    csv_scene_cleanup(s);
}

static int64_t volume_int(CsvVm *vm, const char *key)
{
    QDict *rsp = qtest_qmp(vm->qts, "{'execute': 'query-csv-volumes'}");
    QDict *volume = qobject_to(QDict, qlist_peek(qdict_get_qlist(rsp,
                                                                 "return")));
    int64_t value = qdict_get_try_int(volume, key, -1);

    qobject_unref(rsp);
    return value;
}

static void set_threshold(CsvVm *vm, int64_t free)
{
    qtest_qmp_assert_success(vm->qts, "{'execute': 'csv-volume-set-threshold',"
                             " 'arguments': {'volume': 'vol1', 'free': %"
                             PRId64 "}}", free);
}

/* The event of the threshold must have come, or come yet. */
static void expect_event(CsvVm *vm, int64_t threshold)
{
    QDict *event = qtest_qmp_eventwait_ref(vm->qts, "CSV_VOLUME_THRESHOLD");
    QDict *data = qdict_get_qdict(event, "data");

    g_assert_cmpstr(qdict_get_str(data, "volume"), ==, "vol1");
    g_assert_cmpint(qdict_get_int(data, "threshold"), ==, threshold);
    g_assert_cmpint(qdict_get_int(data, "free"), <, threshold);
    g_assert_cmpint(qdict_get_int(data, "capacity"), ==,
                    volume_int(vm, "capacity"));
    qobject_unref(event);
}

static bool has_event(CsvVm *vm)
{
    QDict *event = qtest_qmp_event_ref(vm->qts, "CSV_VOLUME_THRESHOLD");
    bool found = event != NULL;

    qobject_unref(event);
    return found;
}

static void grow_volume(CsvVm *vm)
{
    QDict *rsp;

    g_assert_cmpint(volume_int(vm, "free"), ==, 0);
    rsp = qtest_qmp(vm->qts, "{'execute': 'csv-volume-grow', 'arguments': {"
                    "'volume': 'vol1', 'size': %" PRIu64 "}}",
                    VOLUME + 10 * SEGMENT);
    g_assert_true(qdict_haskey(rsp, "return"));
    qobject_unref(rsp);
}

/* The event has come before QEMU stopped the guest. */
static void grow(CsvVm *vm, void *opaque)
{
    g_assert_true(has_event(vm));
    grow_volume(vm);
}

static void test_grow(void)
{
    CsvScene s;
    CsvVm *vm;

    begin(&s);
    vm = csv_vm_start(&s, "");
    g_assert_cmpint(volume_int(vm, "free-threshold"), ==, -1);
    set_threshold(vm, 2 * SEGMENT);
    g_assert_cmpint(volume_int(vm, "free-threshold"), ==, 2 * SEGMENT);
    g_assert_false(has_event(vm));
    g_assert_cmpint(csv_guest_fill_disk(vm, CHUNKS, grow, NULL), ==, 1);
    csv_vm_quit(vm);
    end(&s);
}

/* Another disk goes, which has one segment; what was free before is gone. */
static void delete_other(CsvVm *vm, void *opaque)
{
    unsigned *stops = opaque;

    if (!(*stops)++) {
        g_assert_true(has_event(vm));
        qtest_qmp_assert_success(vm->qts, "{'execute': 'csv-disk-delete', "
                                 "'arguments': {'volume': 'vol1', "
                                 "'disk': 'other'}}");
    } else {
        /* It was short of space all the time. */
        g_assert_false(has_event(vm));
        grow_volume(vm);
    }
}

static void test_delete(void)
{
    unsigned stops = 0;
    CsvScene s;
    CsvVm *vm;

    begin(&s);
    vm = csv_vm_start(&s, "");
    set_threshold(vm, 2 * SEGMENT);
    g_assert_cmpint(csv_guest_fill_disk(vm, CHUNKS, delete_other, &stops), ==,
                    2);
    csv_vm_quit(vm);
    end(&s);
}

/* The event comes at once when it is late, once, and again after a respite. */
static void test_threshold(void)
{
    int64_t free;
    CsvScene s;
    CsvVm *vm;
    QDict *error;

    begin(&s);
    vm = csv_vm_start(&s, "");
    free = volume_int(vm, "free");
    g_assert_cmpint(free, >, 0);
    g_assert_cmpint(volume_int(vm, "claimed") + free, ==,
                    volume_int(vm, "capacity"));
    set_threshold(vm, free);
    g_assert_false(has_event(vm));
    set_threshold(vm, free + 1);
    expect_event(vm, free + 1);
    /* No longer short, and then short again */
    qtest_qmp_assert_success(vm->qts, "{'execute': 'csv-disk-delete', "
                             "'arguments': {'volume': 'vol1', "
                             "'disk': 'other'}}");
    g_assert_cmpint(volume_int(vm, "free"), >, free);
    g_assert_false(has_event(vm));
    csv_guest_fill_disk(vm, 12, NULL, NULL);
    expect_event(vm, free + 1);
    set_threshold(vm, 0);
    g_assert_cmpint(volume_int(vm, "free-threshold"), ==, -1);

    error = qtest_qmp_assert_failure_ref(
        vm->qts, "{'execute': 'csv-volume-set-threshold', 'arguments': {"
        "'volume': 'none', 'free': 1}}");
    g_assert_nonnull(strstr(qdict_get_str(error, "desc"), "is neither"));
    qobject_unref(error);
    csv_vm_quit(vm);
    end(&s);
}

/* Without an open disk there is nobody to look. */
static void test_no_disk(void)
{
    CsvScene s;
    CsvVm *vm;
    QDict *error;

    begin(&s);
    s.disks = 0;
    {
        g_autofree char *node = g_strdup_printf(
            "-blockdev driver=file,node-name=vol,filename=%s", s.volume);

        vm = csv_vm_start(&s, node);
    }
    error = qtest_qmp_assert_failure_ref(
        vm->qts, "{'execute': 'csv-volume-set-threshold', 'arguments': {"
        "'volume': 'vol', 'free': 1}}");
    g_assert_nonnull(strstr(qdict_get_str(error, "desc"), "No disk of"));
    qobject_unref(error);
    csv_vm_quit(vm);
    end(&s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    if (have_qemu_img()) {
        qtest_add_func("csv/space/threshold", test_threshold);
        qtest_add_func("csv/space/no-disk", test_no_disk);
        qtest_add_func("csv/space/grow", test_grow);
        qtest_add_func("csv/space/delete", test_delete);
    }
    return g_test_run();
}
