/*
 * Disk hot-plug: attached disks go with the guest, or the guest stays
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "csv/csv-vm.h"
#include "csv/disk-scene.h"
#include "qemu/bswap.h"
#include "qemu/crc32c.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "qobject/qstring.h"

#define MACHINE     "-machine q35,disk-hotplug=on -nodefaults -m 64 "
#define PORTS       "-device pcie-root-port,id=p,chassis=1 " \
                    "-device pcie-root-port,id=q,chassis=2 "
/* Where the command line can give disks, too */
#define OWN         "-machine q35 -nodefaults -m 64 " PORTS \
                    "-device virtio-scsi-pci,id=ctl "
#define ROUND_US    1000

/* A folder for what is on disk, and two sides of a migration */
typedef struct Pair {
    char *dir, *socket;
    QTestState *src, *dst;
} Pair;

/* One side */

/* Devices go when nobody looks any more. */
static void wait_count(QTestState *qts, unsigned want)
{
    gint64 end = g_get_monotonic_time() + CSV_TIMEOUT_US;

    while (disk_count_all(qts) != want) {
        if (g_get_monotonic_time() > end) {
            g_assert_cmpint(disk_count_all(qts), ==, want);
        }
        g_usleep(ROUND_US);
    }
}

static void attach(QTestState *qts, const char *spec)
{
    qobject_unref(disk_attached(qts, spec));
}

static void device_del(QTestState *qts, const char *id)
{
    qtest_qmp_assert_success(qts, "{'execute': 'device_del', "
                             "'arguments': {'id': %s}}", id);
}

static void wait_disks(QTestState *qts, unsigned want)
{
    gint64 end = g_get_monotonic_time() + CSV_TIMEOUT_US;

    while (disk_count(qts, "query-disks") != want) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(ROUND_US);
    }
}

static char *string_of(QTestState *qts, const char *command, const char *key)
{
    QDict *rsp = qtest_qmp(qts, "{'execute': %s}", command);
    char *s = g_strdup(qdict_get_try_str(qdict_get_qdict(rsp, "return"), key) ?:
                       "none");

    qobject_unref(rsp);
    return s;
}

static bool is(QTestState *qts, const char *command, const char *status)
{
    g_autofree char *now = string_of(qts, command, "status");

    return g_str_equal(now, status);
}

static void wait_for(QTestState *qts, const char *command, const char *status)
{
    gint64 end = g_get_monotonic_time() + CSV_TIMEOUT_US;

    while (!is(qts, command, status)) {
        if (g_get_monotonic_time() > end) {
            g_autofree char *now = string_of(qts, command, "status");

            g_assert_cmpstr(now, ==, status);
        }
        g_usleep(ROUND_US);
    }
}

/* @got is freed */
static void assert_in(char *got, const char *want)
{
    if (!strstr(got, want)) {
        g_test_message("%s: not '%s'", got, want);
    }
    g_assert_nonnull(strstr(got, want));
    g_free(got);
}

static void said_nothing(char *got)
{
    g_assert_cmpstr(got, ==, "");
    g_free(got);
}

static int64_t limit_of(QTestState *qts, const char *group)
{
    g_autofree char *path = g_strdup_printf("/objects/%s", group);
    QDict *rsp = qtest_qmp(qts, "{'execute': 'qom-get', 'arguments': {"
                           "'path': %s, 'property': 'limits'}}", path);
    int64_t n = qdict_get_int(qdict_get_qdict(rsp, "return"), "iops-total");

    qobject_unref(rsp);
    return n;
}

/* Both sides */

static void make_file(const Pair *p, const char *name)
{
    g_autofree char *path = g_strdup_printf("%s/%s", p->dir, name);
    g_autofree char *data = g_malloc0(MiB);

    g_assert_true(g_file_set_contents(path, data, MiB, NULL));
}

static void remove_file(const Pair *p, const char *name)
{
    g_autofree char *path = g_strdup_printf("%s/%s", p->dir, name);

    unlink(path);
}

static QTestState *start_waiting(const char *args)
{
    return qtest_initf("%s -incoming defer", args);
}

static void start(Pair *p, const char *src, const char *dst)
{
    p->dir = g_dir_make_tmp("disk-migrate-XXXXXX", NULL);
    g_assert_nonnull(p->dir);
    p->socket = g_strdup_printf("unix:%s/socket", p->dir);
    p->src = src ? qtest_init(src) : NULL;
    p->dst = dst ? start_waiting(dst) : NULL;
}

static void end(Pair *p)
{
    static const char *const files[] = {
        "a", "b", "overlay", "stream", "broken", "socket"
    };

    if (p->src) {
        qtest_quit(p->src);
    }
    if (p->dst) {
        qtest_quit(p->dst);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(files); i++) {
        remove_file(p, files[i]);
    }
    g_assert_cmpint(rmdir(p->dir), ==, 0);
    g_free(p->dir);
    g_free(p->socket);
}

static void incoming(QTestState *qts, const char *uri)
{
    qtest_qmp_assert_success(qts, "{'execute': 'migrate-incoming', "
        "'arguments': {'uri': %s, 'exit-on-error': false}}", uri);
}

/* A source that was not heard must not believe that all went well. */
static void migrate(Pair *p, const char *command)
{
    static const char caps[] = "{'execute': 'migrate-set-capabilities', "
        "'arguments': {'capabilities': [{'capability': 'return-path', "
        "'state': true}]}}";

    qtest_qmp_assert_success(p->src, caps);
    qtest_qmp_assert_success(p->dst, caps);
    incoming(p->dst, p->socket);
    qtest_qmp_assert_success(p->src, "{'execute': %s, "
                             "'arguments': {'uri': %s}}", command, p->socket);
}

static void move_by(Pair *p, const char *command)
{
    migrate(p, command);
    wait_for(p->src, "query-migrate", "completed");
    wait_for(p->dst, "query-status", "running");
}

static void move(Pair *p)
{
    move_by(p, "migrate");
}

static void same(Pair *p, const char *command)
{
    QList *src = disk_query(p->src, command);
    QList *dst = disk_query(p->dst, command);

    if (!qobject_is_equal(QOBJECT(src), QOBJECT(dst))) {
        GString *a = qobject_to_json(QOBJECT(src));
        GString *b = qobject_to_json(QOBJECT(dst));

        g_test_message("%s: %s and %s", command, a->str, b->str);
    }
    g_assert_true(qobject_is_equal(QOBJECT(src), QOBJECT(dst)));
    qobject_unref(src);
    qobject_unref(dst);
}

/* The destination says why, has nothing more, and the source goes on. */
static void refuses(Pair *p, const char *why)
{
    unsigned before = disk_count_all(p->dst);
    unsigned disks = disk_count(p->src, "query-disks");

    migrate(p, "migrate");
    wait_for(p->dst, "query-migrate", "failed");
    assert_in(string_of(p->dst, "query-migrate", "error-desc"), why);
    wait_count(p->dst, before);
    wait_for(p->src, "query-migrate", "failed");
    wait_for(p->src, "query-status", "running");
    g_assert_cmpint(disk_count(p->src, "query-disks"), ==, disks);
}

/*
 * All kinds, to a destination that knows of none, and on from there; the guest
 * sees the same devices.  They can be detached there, and leave nothing.
 */
static void test_move(void)
{
    Pair p;
    g_autofree char *file = NULL;
    unsigned before;

    start(&p, MACHINE PORTS, MACHINE PORTS);
    before = disk_count_all(p.dst);
    make_file(&p, "a");
    file = g_strdup_printf("'id': 'd', 'blockdev': {'driver': 'raw', "
        "'node-name': 'n', 'file': {'driver': 'file', 'filename': '%s/a'}}, "
        "'throttle': {'iops-total': 10}", p.dir);
    attach(p.src, NULL_NODE("gone") ", 'id': 'gone'");
    attach(p.src, file);
    attach(p.src, NULL_NODE("m") ", 'bus': 'virtio-blk', 'iothread': 't', "
           "'queues': 2, 'id': 'e', 'share-rw': true, 'dry-run': false");
    qtest_qmp_assert_success(p.src, "{'execute': 'qom-set', 'arguments': {"
        "'path': '/objects/d.throttle', 'property': 'limits', "
        "'value': {'iops-total': 20}}}");
    /*
     * So the others are not where a new one would go.  Whether it is free yet
     * or not, this one does not go with the guest.
     */
    device_del(p.src, "gone");

    for (unsigned hop = 0; hop < 2; hop++) {
        move(&p);
        wait_disks(p.src, 2);
        same(&p, "query-disks");
        same(&p, "query-pci");
        g_assert_cmpint(disk_count_all(p.src), ==, disk_count_all(p.dst));
        g_assert_cmpint(limit_of(p.dst, "d.throttle"), ==, 20);
        qtest_quit(p.src);
        p.src = p.dst;
        p.dst = hop ? NULL : start_waiting(MACHINE PORTS);
    }
    device_del(p.src, "d");
    /* A guest that starts again has let go of everything. */
    device_del(p.src, "e");
    qtest_system_reset(p.src);
    wait_count(p.src, before);
    end(&p);
}

/* As libvirt does it: the destination's command line has the devices. */
static void test_adopt(void)
{
    Pair p;
    unsigned before;

    start(&p, OWN, OWN "-blockdev null-co,node-name=x "
          "-blockdev null-co,node-name=m "
          "-device scsi-hd,id=d,bus=ctl.0,drive=x,scsi-id=0,serial=abc,wwn=7 "
          "-device virtio-blk-pci,id=e,bus=p,drive=m,serial=xyz");
    attach(p.src, NULL_NODE("n") ", 'id': 'd', 'serial': 'abc', 'wwn': 7, "
           "'throttle': {'iops-total': 9}");
    attach(p.src, NULL_NODE("m") ", 'id': 'e', 'serial': 'xyz', "
           "'bus': 'virtio-blk'");
    before = disk_count_all(p.dst);
    move(&p);
    same(&p, "query-pci");
    g_assert_cmpint(disk_count_all(p.dst), ==, before + 2);

    /* What the user gave stays when the disk goes. */
    device_del(p.dst, "d");
    wait_count(p.dst, before + 2 - 2);
    g_assert_cmpint(disk_count(p.dst, "query-named-block-nodes"), ==, 2);

    /* The other one moves on, as what it is now: a disk on a node. */
    qtest_quit(p.src);
    p.src = p.dst;
    p.dst = start_waiting(OWN "-blockdev null-co,node-name=m");
    move(&p);
    same(&p, "query-disks");
    end(&p);
}

/* A disk that the user attaches where the guest is awaited is a disk there. */
static void test_attached_before(void)
{
    Pair p;

    start(&p, MACHINE, MACHINE);
    attach(p.src, NULL_NODE("n") ", 'id': 'd'");
    attach(p.dst, NULL_NODE("n") ", 'id': 'd'");
    move(&p);
    same(&p, "query-disks");
    end(&p);
}

/* What is in the way at the destination: its command line, or a disk there */
typedef struct Refusal {
    const char *src, *spec, *dst, *disk, *why;
} Refusal;

static void do_refuse(const Refusal *r)
{
    Pair p;

    start(&p, r->src, r->dst);
    make_file(&p, "a");
    /* One that could be attached, and must not stay */
    attach(p.src, NULL_NODE("first") ", 'id': 'first', 'bus': 'scsi'");
    attach(p.src, r->spec);
    if (r->disk) {
        attach(p.dst, r->disk);
    }
    refuses(&p, r->why);
    end(&p);
}

static void test_refused(void)
{
    static const Refusal refusals[] = {
        { MACHINE "-blockdev null-co,node-name=u", "'blockdev': 'u', 'id': 'd'",
          MACHINE, NULL, "disk 'd': there is no block node 'u' here: open it" },
        { MACHINE "-blockdev null-co,node-name=u",
          "'blockdev': {'driver': 'raw', 'node-name': 'n', 'file': 'u'}, "
          "'id': 'd'",
          MACHINE, NULL, "disk 'd': there is no block node 'u' here: open it" },
        { MACHINE, NULL_NODE("n") ", 'id': 'd'",
          MACHINE, NULL_NODE("o") ", 'id': 'other'",
          "disk 'first': address 0 of bus 'disks.0' is taken" },
        { MACHINE, NULL_NODE("n") ", 'id': 'd'",
          MACHINE "-blockdev null-co,node-name=n", NULL,
          "disk 'd': Duplicate nodes with node-name='n'" },
        { MACHINE PORTS, NULL_NODE("n") ", 'id': 'd', 'bus': 'virtio-blk'",
          MACHINE, NULL, "disk 'd': there is no bus 'p' here" },
        { MACHINE PORTS, NULL_NODE("n") ", 'id': 'd', 'bus': 'virtio-blk'",
          MACHINE PORTS "-device virtio-rng-pci,bus=p,id=d", NULL,
          "disk 'd': there is a device with this id here, but its type" },
        { MACHINE PORTS, NULL_NODE("n") ", 'id': 'd', 'bus': 'virtio-blk'",
          MACHINE PORTS "-device virtio-rng-pci,bus=p", NULL,
          "disk 'd': address 0 of bus 'p' is taken" },
        { OWN, NULL_NODE("n") ", 'id': 'd', 'serial': 'abc', 'wwn': 7",
          OWN "-blockdev null-co,node-name=n -device scsi-hd,id=d,drive=n,"
          "bus=ctl.0,scsi-id=1,serial=abx,wwn=7", NULL,
          "its serial number is 'abx' instead of 'abc'" },
        { OWN, NULL_NODE("n") ", 'id': 'd', 'serial': 'abc', 'wwn': 7",
          OWN "-blockdev null-co,node-name=n -device scsi-hd,id=d,drive=n,"
          "bus=ctl.0,scsi-id=1,serial=abc,wwn=6", NULL,
          "its WWN is 0x6 instead of 0x7" },
        { OWN, NULL_NODE("n") ", 'id': 'd', 'serial': 'abc', 'wwn': 7",
          OWN "-blockdev null-co,node-name=n -device scsi-hd,id=d,drive=n,"
          "bus=ctl.0,scsi-id=2,serial=abc,wwn=7", NULL,
          "not at address 1 of bus 'ctl.0'" },
        { OWN, NULL_NODE("n") ", 'id': 'd', 'bus': 'virtio-blk'",
          OWN "-blockdev null-co,node-name=n -device virtio-blk-pci,id=d,"
          "drive=n,bus=q", NULL, "its bus is 'q' instead of 'p'" },
        { OWN "-object throttle-group,id=g", NULL_NODE("n") ", 'id': 'd', "
          "'throttle-group': 'g'", OWN, NULL,
          "disk 'd': Throttle group 'g' does not exist" },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(refusals); i++) {
        do_refuse(&refusals[i]);
    }
}

/* The image is not there any more. */
static void test_no_image(void)
{
    Pair p;
    g_autofree char *spec = NULL;

    start(&p, MACHINE, MACHINE);
    make_file(&p, "a");
    spec = g_strdup_printf("'id': 'd', 'blockdev': {'driver': 'file', "
                           "'node-name': 'n', 'filename': '%s/a'}", p.dir);
    attach(p.src, NULL_NODE("first"));
    attach(p.src, spec);
    remove_file(&p, "a");
    refuses(&p, "disk 'd': Could not open");
    end(&p);
}

/*
 * What the guest writes to is not what was opened: the destination must have
 * it, and does not open what it was.
 */
static void test_other_node(void)
{
    static const char *const commands[] = {
        "{'execute': 'blockdev-reopen', 'arguments': {'options': [{"
        "'driver': 'raw', 'node-name': 'n', 'file': 'b'}]}}",
        "{'execute': 'blockdev-snapshot', 'arguments': {"
        "'node': 'n', 'overlay': 'over'}}",
    };
    static const char *const nodes[] = { "'n'", "'over'" };

    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
        Pair p;
        g_autofree char *why = g_strdup_printf("disk 'd': there is no block "
                                               "node %s here", nodes[i]);

        start(&p, NULL, MACHINE);
        make_file(&p, "a");
        make_file(&p, "b");
        csv_qemu_img("create -q -f qcow2 %s/overlay 1M", p.dir);
        p.src = qtest_initf(MACHINE "-blockdev file,node-name=a,filename=%s/a "
                            "-blockdev file,node-name=b,filename=%s/b "
                            "-blockdev qcow2,node-name=over,file.driver=file,"
                            "file.filename=%s/overlay", p.dir, p.dir, p.dir);
        attach(p.src, "'id': 'd', 'blockdev': {'driver': 'raw', "
               "'node-name': 'n', 'file': 'a'}, "
               "'throttle': {'iops-total': 9}");
        qtest_qmp_assert_success(p.src, commands[i], NULL);
        refuses(&p, why);
        end(&p);
    }
}

/* Streams in a file */

static GString *save_stream(Pair *p)
{
    g_autofree char *path = g_strdup_printf("%s/stream", p->dir);
    g_autofree char *uri = g_strdup_printf("file:%s", path);
    char *data;
    size_t len;
    GString *s;

    qtest_qmp_assert_success(p->src, "{'execute': 'migrate', "
                             "'arguments': {'uri': %s}}", uri);
    wait_for(p->src, "query-migrate", "completed");
    qtest_qmp_assert_success(p->src, "{'execute': 'cont'}");
    g_assert_true(g_file_get_contents(path, &data, &len, NULL));
    s = g_string_new_len(data, len);
    g_free(data);
    return s;
}

/* Where the list begins, with its length; NULL if there is none. */
static char *find_list(GString *stream)
{
    static const char name[] = "configuration/disk-list";
    char *at = memmem(stream->str, stream->len, name, strlen(name));

    /* The name is followed by the version. */
    return at ? at + strlen(name) + 4 : NULL;
}

/* Nobody without an attached disk sends what QEMU as released does not know. */
static void test_not_needed(void)
{
    Pair p;
    unsigned before;

    start(&p, MACHINE, NULL);
    before = disk_count_all(p.src);
    for (unsigned attached = 0; attached < 2; attached++) {
        GString *stream;

        if (attached) {
            attach(p.src, NULL_NODE("n") ", 'id': 'd'");
        }
        stream = save_stream(&p);
        g_assert_cmpint(!!find_list(stream), ==, attached);
        g_string_free(stream, true);
    }
    device_del(p.src, "d");
    wait_count(p.src, before);
    end(&p);
}

/* @text in place of the list; @len and @crc of its own unless they are -1 */
static GString *with_list(GString *stream, const char *text, int64_t len,
                          int64_t crc)
{
    char *at = find_list(stream);
    uint32_t had = ldl_be_p(at);
    GString *s = g_string_new_len(stream->str, at - stream->str);
    uint8_t head[8];

    stl_be_p(head, len < 0 ? strlen(text) : len);
    stl_be_p(head + 4, crc < 0 ? crc32c(0xffffffff, (const uint8_t *)text,
                                        strlen(text)) : crc);
    g_string_append_len(s, (char *)head, sizeof(head));
    g_string_append(s, text);
    g_string_append_len(s, at + 8 + had,
                        stream->len - (at + 8 + had - stream->str));
    return s;
}

/* Frees @stream. */
static void load_fails(Pair *p, GString *stream, const char *why)
{
    g_autofree char *path = g_strdup_printf("%s/broken", p->dir);
    g_autofree char *uri = g_strdup_printf("file:%s", path);
    unsigned before;

    g_assert_true(g_file_set_contents(path, stream->str, stream->len, NULL));
    g_string_free(stream, true);
    p->dst = start_waiting(MACHINE);
    before = disk_count_all(p->dst);
    incoming(p->dst, uri);
    wait_for(p->dst, "query-migrate", "failed");
    assert_in(string_of(p->dst, "query-migrate", "error-desc"), why);
    wait_count(p->dst, before);
    qtest_quit(p->dst);
    p->dst = NULL;
}

/* As it would be saved on the way */
static void test_damaged(void)
{
    Pair p;
    g_autofree char *text = NULL, *more = NULL;
    GString *whole, *cut;
    char *at;

    start(&p, MACHINE, NULL);
    attach(p.src, NULL_NODE("n") ", 'id': 'd'");
    whole = save_stream(&p);
    at = find_list(whole);
    text = g_strndup(at + 8, ldl_be_p(at));

    load_fails(&p, with_list(whole, text, 0, -1), "has 0 bytes");
    load_fails(&p, with_list(whole, text, MiB + 1, -1), "1048577 bytes");
    load_fails(&p, with_list(whole, text, UINT32_MAX, -1), "bytes");
    load_fails(&p, with_list(whole, text, -1, 1), "CRC is wrong");
    load_fails(&p, with_list(whole, "{'disks': 1}", -1, -1), "disks");
    more = g_strdup_printf("{\"more\": 1, %s", text + 1);
    load_fails(&p, with_list(whole, more, -1, -1), "'more' is unexpected");

    cut = g_string_new_len(whole->str, at + 20 - whole->str);
    load_fails(&p, cut, "load of migration failed");
    cut = g_string_new_len(whole->str, at + 2 - whole->str);
    load_fails(&p, cut, "load of migration failed");

    /* Not taken from a section of its own, either */
    cut = g_string_new_len(whole->str, find_list(whole) - whole->str);
    g_string_truncate(cut, cut->len - 4 - strlen("configuration/disk-list") -
                      2);
    g_string_append_len(cut, "\x04\0\0\0\x07\x09" "disk-list"
                        "\0\0\0\0" "\0\0\0\x01", 6 + 9 + 8);
    load_fails(&p, cut, "load of migration failed");
    g_string_free(whole, true);
    end(&p);
}

/* A snapshot needs the disks that it was taken with; others stay. */
static void test_snapshot(void)
{
    Pair p;
    g_autofree char *spec = NULL;

    start(&p, NULL, NULL);
    csv_qemu_img("create -q -f qcow2 %s/a 1M", p.dir);
    csv_qemu_img("create -q -f qcow2 %s/b 1M", p.dir);
    /* Something that the state of the machine can be in */
    p.src = qtest_initf(MACHINE "-blockdev qcow2,node-name=b,file.driver=file,"
                        "file.filename=%s/b -device virtio-blk-pci,drive=b",
                        p.dir);
    spec = g_strdup_printf("'id': 'd', 'blockdev': {'driver': 'qcow2', "
                           "'node-name': 'n', 'file': {'driver': 'file', "
                           "'filename': '%s/a'}}", p.dir);
    attach(p.src, spec);
    said_nothing(qtest_hmp(p.src, "savevm s"));
    said_nothing(qtest_hmp(p.src, "loadvm s"));
    wait_for(p.src, "query-status", "running");
    attach(p.src, "'id': 'e', 'blockdev': {'driver': 'null-co', "
           "'node-name': 'm', 'read-only': true}");
    said_nothing(qtest_hmp(p.src, "loadvm s"));
    g_assert_cmpint(disk_count(p.src, "query-disks"), ==, 2);
    device_del(p.src, "d");
    wait_disks(p.src, 1);
    assert_in(qtest_hmp(p.src, "loadvm s"), "disk 'd': the snapshot has it, "
              "but it is not attached here");
    g_assert_cmpint(disk_count(p.src, "query-disks"), ==, 1);
    end(&p);
}

/* The disk is @owner's, and the guest there writes 4 KiB of @byte. */
static void csv_write(QTestState *owner, unsigned byte)
{
    CsvVm vm = { .qts = owner };
    CsvDiskState d = csv_query_disk(&vm, 0);

    g_assert_cmpstr(d.state, ==, "owned");
    g_assert_cmpint(d.owner_pid, ==, qtest_pid(owner));
    g_free(qtest_hmp(owner, "qemu-io -d /machine/peripheral/d "
                     "\"write -P %u %uk 4k\"", byte, byte * 64));
}

static void csv_assert_written(CsvScene *s, unsigned upto)
{
    g_autofree char *path = g_strdup_printf("%s/raw", s->dir);
    g_autofree char *data = NULL;
    size_t len;

    csv_qemu_img("convert -O raw --image-opts driver=csv,disk=disk0,"
                 "file.driver=file,file.filename=%s %s", s->volume, path);
    g_assert_true(g_file_get_contents(path, &data, &len, NULL));
    g_assert_cmpint(len, ==, CSV_DISK_MB * MiB);
    for (unsigned byte = 1; byte <= upto; byte++) {
        for (unsigned i = 0; i < 4096; i++) {
            g_assert_cmpint(data[byte * 64 * KiB + i], ==, byte);
        }
    }
    unlink(path);
}

/* A disk of a cluster shared volume: its owner changes, its data does not. */
static void test_csv(void)
{
    CsvScene s;
    Pair p;
    g_autofree char *args = NULL;
    unsigned byte = 0;

    csv_scene_init(&s, 1);
    args = g_strdup_printf(MACHINE "-blockdev file,node-name=vol1,filename=%s",
                           s.volume);
    start(&p, args, args);
    attach(p.src, "'id': 'd', 'blockdev': {'driver': 'csv', 'file': 'vol1', "
           "'node-name': 'n', 'disk': 'disk0'}");
    csv_write(p.src, ++byte);
    for (unsigned hop = 0; hop < 2; hop++) {
        move_by(&p, hop ? "migrate-pipeline-start" : "migrate");
        same(&p, "query-disks");
        csv_write(p.dst, ++byte);
        qtest_quit(p.src);
        p.src = p.dst;
        p.dst = hop ? NULL : start_waiting(args);
    }
    end(&p);
    csv_assert_written(&s, byte);
    csv_scene_cleanup(&s);
}

/* The list goes with a state that is saved in the volume, too. */
static void test_quick(void)
{
    CsvScene s;
    Pair p;
    g_autofree char *args = NULL;

    csv_scene_init(&s, 2);
    args = g_strdup_printf(MACHINE "-blockdev file,node-name=vol1,filename=%s "
                           "-blockdev csv,node-name=d0,disk=disk0,file=vol1 "
                           "-device virtio-blk-pci,drive=d0", s.volume);
    start(&p, args, args);
    attach(p.src, "'id': 'd', 'blockdev': {'driver': 'csv', 'file': 'vol1', "
           "'node-name': 'n', 'disk': 'disk1'}");
    qtest_qmp_assert_success(p.src, "{'execute': 'migrate-pipeline-start', "
        "'arguments': {'mode': 'quick', 'max-blackout': 60000}}");
    wait_for(p.src, "query-migrate", "completed");
    qtest_qmp_assert_success(p.dst, "{'execute': 'migrate-pipeline-restore'}");
    wait_for(p.dst, "query-status", "running");
    same(&p, "query-disks");
    end(&p);
    csv_scene_cleanup(&s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (!qtest_has_machine("q35") || !qtest_has_device("virtio-scsi-pci")) {
        g_test_message("no q35 machine or no virtio-scsi-pci device");
        return g_test_run();
    }
    qtest_add_func("/disk-migrate/move", test_move);
    qtest_add_func("/disk-migrate/adopt", test_adopt);
    qtest_add_func("/disk-migrate/attached-before", test_attached_before);
    qtest_add_func("/disk-migrate/refused", test_refused);
    qtest_add_func("/disk-migrate/no-image", test_no_image);
    qtest_add_func("/disk-migrate/other-node", test_other_node);
    qtest_add_func("/disk-migrate/not-needed", test_not_needed);
    qtest_add_func("/disk-migrate/damaged", test_damaged);
    qtest_add_func("/disk-migrate/snapshot", test_snapshot);
    qtest_add_func("/disk-migrate/csv", test_csv);
    qtest_add_func("/disk-migrate/quick", test_quick);
    return g_test_run();
}
