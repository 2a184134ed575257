/*
 * Members of a cluster shared volume: who is one, and how that ends
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "csv/csv-vm.h"
#include "qemu/bswap.h"
#include "qemu/crc32c.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"

/* In the volume's file, see docs/interop/csv.rst */
#define MEMBER_TABLE        (1 * MiB)
#define MEMBER_STRIDE       4096
#define RECORD_SIZE         512
#define RECORD_CRC          4
#define RECORD_HOST_ID      80
#define RECORD_BOOT_ID      176

typedef struct Member {
    bool found;
    int64_t id;
    int64_t incarnation;
    char liveness[16];
} Member;

/* What @qts sees of the member that is the process @pid */
static Member find_member(QTestState *qts, pid_t pid)
{
    QDict *rsp = qtest_qmp(qts, "{'execute': 'query-csv-volumes',"
                           " 'arguments': {'node-name': 'vol'}}");
    const QListEntry *entry;
    Member member = { 0 };
    QDict *volume;

    volume = qobject_to(QDict, qlist_peek(qdict_get_qlist(rsp, "return")));
    QLIST_FOREACH_ENTRY(qdict_get_qlist(volume, "members"), entry) {
        QDict *m = qobject_to(QDict, qlist_entry_obj(entry));

        if (qdict_get_int(m, "pid") == pid) {
            member.found = true;
            member.id = qdict_get_int(m, "id");
            member.incarnation = qdict_get_int(m, "incarnation");
            g_strlcpy(member.liveness, qdict_get_str(m, "liveness"),
                      sizeof(member.liveness));
        }
    }
    qobject_unref(rsp);
    return member;
}

static void wait_until_gone(QTestState *qts, pid_t pid)
{
    gint64 end = g_get_monotonic_time() + CSV_TIMEOUT_US;

    while (find_member(qts, pid).found) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(20 * 1000);
    }
}

/* Some process with the volume, and no disk of it */
static QTestState *start_other(CsvScene *s)
{
    QTestState *qts = qtest_init("-machine none");

    qtest_qmp_assert_success(qts,
        "{'execute': 'blockdev-add', 'arguments': {"
        " 'driver': 'file', 'node-name': 'vol', 'filename': %s}}",
        s->volume);
    return qts;
}

static QDict *try_open(QTestState *qts)
{
    return qtest_qmp(qts, "{'execute': 'blockdev-add', 'arguments': {"
                     " 'driver': 'csv', 'node-name': 'd0', 'disk': 'disk0',"
                     " 'file': 'vol'}}");
}

static QDict *try_evict(QTestState *qts, int64_t id, int64_t incarnation)
{
    return qtest_qmp(qts, "{'execute': 'csv-member-evict', 'arguments': {"
                     " 'volume': 'vol', 'member': %" PRId64 ","
                     " 'incarnation': %" PRId64 "}}", id, incarnation);
}

/* As if the member in slot @id was on another host */
static void move_to_another_host(CsvScene *s, int64_t id)
{
    uint8_t record[RECORD_SIZE];
    int64_t offset = MEMBER_TABLE + id * MEMBER_STRIDE;
    int fd = open(s->volume, O_RDWR);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(pread(fd, record, RECORD_SIZE, offset), ==, RECORD_SIZE);
    memset(record + RECORD_HOST_ID, 'h', 16);
    memset(record + RECORD_BOOT_ID, 'b', 16);
    stl_le_p(record + RECORD_CRC, 0);
    stl_le_p(record + RECORD_CRC, crc32c(0xffffffff, record, RECORD_SIZE));
    g_assert_cmpint(pwrite(fd, record, RECORD_SIZE, offset), ==, RECORD_SIZE);
    close(fd);
}

/* Only a member that is not seen to live is evicted, and none by mistake. */
static void test_evict(void)
{
    QTestState *other;
    CsvScene s;
    CsvVm *vm;
    Member m;
    pid_t pid;

    csv_scene_init(&s, 1);
    vm = csv_vm_start(&s, "");
    pid = vm->pid;
    csv_guest_use_disks(&s, vm);
    other = start_other(&s);
    m = find_member(other, pid);
    g_assert_true(m.found);
    g_assert_cmpstr(m.liveness, ==, "alive");

    csv_expect(try_evict(other, m.id, m.incarnation), "is alive");
    csv_expect(try_evict(other, m.id, m.incarnation - 1), "has no member");
    csv_expect(try_evict(other, m.id, m.incarnation + 1), "has no member");
    csv_expect(try_evict(other, m.id + 1, m.incarnation), "has no member");
    csv_expect(try_evict(other, 1024, m.incarnation), "has members 0 to");
    csv_guest_use_disks(&s, vm);

    csv_vm_kill(vm);
    move_to_another_host(&s, m.id);
    g_assert_cmpstr(find_member(other, pid).liveness, ==, "unknown");
    csv_expect(try_open(other), "cannot be seen from here");
    csv_expect(try_evict(other, m.id, m.incarnation + 2), "has no member");
    csv_expect(try_open(other), "cannot be seen from here");

    csv_expect(try_evict(other, m.id, m.incarnation), NULL);
    csv_expect(try_evict(other, m.id, m.incarnation), "has no member");
    csv_expect(try_open(other), NULL);
    qtest_quit(other);

    vm = csv_vm_start(&s, "");
    csv_guest_use_disks(&s, vm);
    csv_vm_quit(vm);
    csv_scene_cleanup(&s);
}

static void migrate(CsvScene *s, CsvVm *vm)
{
    g_autofree char *uri = g_strdup_printf("unix:%s", s->socket);

    qtest_qmp_assert_success(vm->qts,
        "{'execute': 'migrate', 'arguments': {'uri': %s}}", uri);
    csv_vm_wait(vm, "postmigrate");
}

/* A guest with two disks after its migration, and a process that looks on */
typedef struct Move {
    CsvScene s;
    CsvVm *source, *target;
    QTestState *other;
} Move;

/*
 * @extra: options of the target, which is in @runstate in the end.  Both have a
 * disk that no device uses, on a node before the last one that a device has.
 */
static void move_guest(Move *m, const char *extra, const char *runstate)
{
    g_autofree char *both = NULL, *target = NULL;

    csv_scene_init(&m->s, 2);
    csv_qemu_img("create -q -f csv -o disk=spare %s 8M", m->s.volume);
    both = g_strdup_printf(" -blockdev driver=csv,node-name=spare,disk=spare,"
                           "file.driver=file,file.filename=%s "
                           "-blockdev driver=null-co,node-name=last "
                           "-device virtio-blk-pci,drive=last,addr=10",
                           m->s.volume);
    target = g_strconcat(both, " ", extra, NULL);
    m->source = csv_vm_start(&m->s, both);
    csv_guest_use_disks(&m->s, m->source);
    m->target = csv_vm_start_incoming(&m->s, target);
    m->other = start_other(&m->s);
    g_assert_true(find_member(m->other, m->source->pid).found);

    migrate(&m->s, m->source);
    csv_vm_wait(m->target, runstate);
}

static void move_end(Move *m)
{
    qtest_quit(m->other);
    csv_scene_cleanup(&m->s);
}

/* When its disks have moved away, the source is a member no longer. */
static void test_source_leaves(void)
{
    Move m;

    move_guest(&m, "", "running");
    wait_until_gone(m.other, m.source->pid);
    g_assert_true(find_member(m.other, m.target->pid).found);

    csv_expect(qtest_qmp(m.source->qts, "{'execute': 'cont'}"),
               "owned by another");
    g_assert_false(find_member(m.other, m.source->pid).found);
    csv_guest_use_disks(&m.s, m.target);
    csv_vm_quit(m.source);
    csv_guest_use_disks(&m.s, m.target);
    csv_vm_quit(m.target);
    move_end(&m);
}

/*
 * As long as the destination has not claimed them, the source keeps others
 * away from its disks, and can take them back.
 */
static void test_source_stays(void)
{
    Move m;

    move_guest(&m, "-S", "paused");
    g_usleep(2 * G_USEC_PER_SEC);
    g_assert_true(find_member(m.other, m.source->pid).found);
    csv_expect(try_open(m.other), "being handed over");

    csv_vm_kill(m.target);
    qtest_qmp_assert_success(m.source->qts, "{'execute': 'cont'}");
    csv_guest_use_disks(&m.s, m.source);
    g_usleep(2 * G_USEC_PER_SEC);
    g_assert_true(find_member(m.other, m.source->pid).found);
    csv_guest_use_disks(&m.s, m.source);
    csv_vm_quit(m.source);
    move_end(&m);
}

static void set_active(QTestState *qts, bool active)
{
    qtest_qmp_assert_success(qts,
        "{'execute': 'blockdev-set-active', 'arguments': {"
        " 'node-name': 'd0', 'active': %i}}", active);
}

/* Who has left becomes a member again when it gets its disk back. */
static void test_returns(void)
{
    QTestState *qts, *other;
    Member before, after;
    CsvScene s;

    csv_scene_init(&s, 1);
    other = start_other(&s);
    qts = start_other(&s);
    csv_expect(try_open(qts), NULL);
    before = find_member(other, qtest_pid(qts));
    g_assert_true(before.found);

    set_active(qts, false);
    wait_until_gone(other, qtest_pid(qts));
    csv_expect(try_open(other), NULL);
    qtest_qmp_assert_success(other, "{'execute': 'blockdev-del',"
                             " 'arguments': {'node-name': 'd0'}}");
    set_active(qts, true);
    after = find_member(other, qtest_pid(qts));
    g_assert_true(after.found);
    g_assert_cmpstr(after.liveness, ==, "alive");
    g_assert_cmpint(after.incarnation, >, before.incarnation);
    csv_expect(try_open(other), "owned by another");

    qtest_quit(qts);
    qtest_quit(other);
    csv_scene_cleanup(&s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    if (have_qemu_img()) {
        qtest_add_func("csv/member/evict", test_evict);
        qtest_add_func("csv/member/source-leaves", test_source_leaves);
        qtest_add_func("csv/member/source-stays", test_source_stays);
        qtest_add_func("csv/member/returns", test_returns);
    }

    return g_test_run();
}
