/*
 * Unit tests of what the guest's agent does before a disk goes
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "fake-agent.h"
#include "hw/disk/agent-answers.h"
#include "hw/disk/identity.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qemu/units.h"

/* Long enough for everything that is answered at once */
#define LIMIT_MS    10000
#define SHORT_MS    200
/* Longer than anything that a test waits for */
#define FOREVER_MS  60000

/* All of it, with one command's answer another one */
static void try_answer(DiskDetachAgent how, const char *name,
                       const char *answer, DiskAgentOutcome outcome,
                       const char *why, const char *told)
{
    Fake *f = fake_new();

    if (name) {
        fake_set(f, name, answer);
    }
    fake_start(f, how, answer && !*answer ? SHORT_MS : LIMIT_MS);
    fake_expect(f, outcome, why);
    fake_end(f, told);
}

#define SYNC        "sync-delimited"
#define FSINFO      SYNC " get-fsinfo"
#define FREEZE      FSINFO " fsfreeze-freeze-list:/hot"
#define THAW        SYNC " fsfreeze-thaw"

static void write_out(const char *name, const char *answer,
                      DiskAgentOutcome outcome, const char *why,
                      const char *told)
{
    try_answer(DISK_DETACH_AGENT_WRITE_OUT, name, answer, outcome, why, told);
}

static void unmount(const char *name, const char *answer,
                    DiskAgentOutcome outcome, const char *why,
                    const char *told)
{
    try_answer(DISK_DETACH_AGENT_UNMOUNT, name, answer, outcome, why, told);
}

static void fails(const char *name, const char *answer, const char *why,
                  const char *told)
{
    write_out(name, answer, DISK_AGENT_OUTCOME_FAILED, why, told);
}

static void test_write_out(void)
{
    write_out(NULL, NULL, DISK_AGENT_OUTCOME_WRITTEN_OUT, NULL,
              FREEZE " " THAW);
}

static void test_not_mounted(void)
{
    static const char *none[] = {
        RETURN("[]"), RETURN("[" FS("sda", "/", "") "]"),
        RETURN("[" FS("sda", "/", "39a9514458210491") "]"),
        RETURN("[{\"mountpoint\": \"/hot\"}]"),
        RETURN("[{\"mountpoint\": \"/hot\", \"disk\": [7, [], {}]}]"),
    };

    for (unsigned i = 0; i < ARRAY_SIZE(none); i++) {
        write_out("guest-get-fsinfo", none[i], DISK_AGENT_OUTCOME_NOT_MOUNTED,
                  NULL, FSINFO);
    }
}

static void test_several(void)
{
    Fake *f = fake_new();

    fake_set(f, "guest-get-fsinfo", RETURN("["
        FS("sda1", "/a", ID_SERIAL) ", " FS("sdb", "/b", "33000000000000000")
        ", " FS("sda2", "/c", ID_SERIAL) ", "
        /* the same mounted elsewhere, too, and a volume on two disks */
        FS("sda2", "/d", ID_SERIAL) ", "
        "{\"name\": \"dm-0\", \"mountpoint\": \"/e\", \"disk\": ["
        "{\"serial\": \"x\"}, {\"serial\": \"" SERIAL "\"}]}]"));
    fake_set(f, "guest-fsfreeze-freeze-list", RETURN("3"));
    fake_start(f, DISK_DETACH_AGENT_WRITE_OUT, LIMIT_MS);
    fake_expect(f, DISK_AGENT_OUTCOME_WRITTEN_OUT, NULL);
    fake_end(f, FSINFO " fsfreeze-freeze-list:/a:/c:/d:/e " THAW);

    f = fake_new();
    fake_set(f, "guest-get-fsinfo", RETURN("[" FS("sda1", "/a", ID_SERIAL)
             ", " FS("sda2", "/b", ID_SERIAL) "]"));
    fake_start(f, DISK_DETACH_AGENT_WRITE_OUT, LIMIT_MS);
    fake_expect(f, DISK_AGENT_OUTCOME_FAILED,
                "of 2 file systems, the agent has written out 1");
    fake_end(f, NULL);
}

/* What comes before the answer to the sync is somebody else's. */
static void test_stale(void)
{
    static const char *stale[] = {
        "\xff{\"return\": 1}\n", "\xff{\"return\": \"x\"}\n", "{\"ret\xff",
        "[[[{{\n\n\n", "\xff\n\xff\xff\xff", "{\"return\": 1}\n{\"return\":",
        ERROR("JSON parse error"),
    };

    for (unsigned i = 0; i < ARRAY_SIZE(stale); i++) {
        Fake *f = fake_new();

        f->before_sync = stale[i];
        fake_start(f, DISK_DETACH_AGENT_WRITE_OUT, LIMIT_MS);
        fake_expect(f, DISK_AGENT_OUTCOME_WRITTEN_OUT, NULL);
        fake_end(f, FREEZE " " THAW);
    }
}

static void test_silence(void)
{
    fails("guest-sync-delimited", SILENCE, "has not answered in time", SYNC);
    fails("guest-get-fsinfo", SILENCE, "has not answered in time", FSINFO);
    /* It may have frozen something. */
    fails("guest-fsfreeze-freeze-list", SILENCE, "has not answered in time",
          FREEZE " " THAW);
    unmount("guest-exec", SILENCE, DISK_AGENT_OUTCOME_FAILED,
            "'/hot' could not be unmounted: the agent has not answered in time",
            FSINFO " exec:/hot");
}

static void test_not_understood(void)
{
    static const char *bad[] = {
        "\n", "x\n", "[]\n", "{}\n", "7\n", "{\"return\": 7}\n",
        "{\"error\": 7}\n", "{\"error\": {\"desc\": 7}}\n",
        RETURN("[7]"), RETURN("[{}]"), RETURN("[{\"mountpoint\": 7}]"),
        "{\"return\"\n", "{\"return\": []}}\n", "\xff\xfe\n",
    };
    g_autofree char *deep = g_strdup_printf("{\"return\": %0*d}\n", 1100, 0);

    for (char *p = deep; *p; p++) {
        *p = *p == '0' ? '[' : *p;
    }
    fails("guest-get-fsinfo", deep, "not understood", FSINFO);
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        fails("guest-get-fsinfo", bad[i], "not understood", FSINFO);
    }
    fails("guest-fsfreeze-freeze-list", RETURN("{}"), "not understood",
          FREEZE " " THAW);
    unmount("guest-exec", RETURN("{\"pid\": []}"), DISK_AGENT_OUTCOME_FAILED,
            "not understood", FSINFO " exec:/hot");
    unmount("guest-exec-status", RETURN("{\"exited\": 1}"),
            DISK_AGENT_OUTCOME_FAILED, "not understood",
            FSINFO " exec:/hot exec-status");
}

static void test_zero_byte(void)
{
    g_autoptr(Error) err = NULL;
    const char line[] = "{\"return\": 7}\0";

    g_assert_true(agent_answer_is_number(line, sizeof(line) - 2, 7));
    g_assert_false(agent_answer_is_number(line, sizeof(line) - 1, 7));
    g_assert_null(agent_answer_parse("x", line, sizeof(line) - 1, &err));
    g_assert_nonnull(err);
}

static char *repeated(const char *what, size_t len)
{
    GString *text = g_string_sized_new(len);

    while (text->len < len) {
        g_string_append(text, what);
    }
    return g_string_free(text, false);
}

typedef struct Flood {
    Fake *f;
    const char *text;
} Flood;

/* The other end must read meanwhile. */
static gpointer flood_thread(gpointer opaque)
{
    Flood *flood = opaque;
    size_t len = strlen(flood->text);

    while (send(flood->f->fd, flood->text, len, MSG_NOSIGNAL) > 0) {
        ;
    }
    return NULL;
}

static void try_flood(const char *text, const char *why)
{
    Fake *f = fake_new();
    Flood flood = { f, text };
    GThread *thread;

    fake_set(f, "guest-sync-delimited", SILENCE);
    fake_start(f, DISK_DETACH_AGENT_WRITE_OUT, LIMIT_MS);
    thread = g_thread_new("flood", flood_thread, &flood);
    fake_expect(f, DISK_AGENT_OUTCOME_FAILED, why);
    g_thread_join(thread);
    fake_end(f, NULL);
}

static void test_too_much(void)
{
    g_autofree char *long_line = repeated("x", 64 * KiB);
    g_autofree char *lines = repeated("\xff{\"return\": 1}\n", 64 * KiB);
    g_autofree char *half = repeated("[1,", 64 * KiB);

    try_flood(long_line, "too long");
    try_flood(half, "too long");
    try_flood(lines, "sends without end");
}

static void test_too_many(void)
{
    g_autoptr(GString) text = g_string_new("{\"return\": [");

    for (unsigned i = 0; i <= DISK_AGENT_MOUNTS_MAX; i++) {
        g_string_append_printf(text, "%s" FS("sda", "/%u", ID_SERIAL),
                               i ? "," : "", i);
    }
    g_string_append(text, "]}\n");
    fails("guest-get-fsinfo", text->str, "more than 256 file systems", FSINFO);
}

static void test_errors(void)
{
    fails("guest-get-fsinfo", ERROR("disabled"),
          "'guest-get-fsinfo' was: disabled", FSINFO);
    /* It may have frozen a part. */
    fails("guest-fsfreeze-freeze-list", ERROR("no room"), "was: no room",
          FREEZE " " THAW);
    fails("guest-fsfreeze-freeze-list", RETURN("0"),
          "of 1 file systems, the agent has written out 0", FREEZE " " THAW);
    fails("guest-get-fsinfo", ERROR("a\\nb\\u001bc"), "was: a b c", FSINFO);
    fails("guest-get-fsinfo", HANG_UP, "has ended", FSINFO);
}

static void test_thaw_fails(void)
{
    Fake *f = fake_new();
    const char *why;

    fails("guest-fsfreeze-thaw", ERROR("cannot"), "may be frozen still",
          FREEZE " " THAW " " THAW);
    fails("guest-fsfreeze-thaw", HANG_UP, "may be frozen still",
          FREEZE " " THAW " " THAW);
    /* It may have frozen a part. */
    fake_set(f, "guest-fsfreeze-freeze-list", RETURN("0"));
    fake_set(f, "guest-fsfreeze-thaw", ERROR("disabled"));
    fake_start(f, DISK_DETACH_AGENT_WRITE_OUT, LIMIT_MS);
    fake_expect(f, DISK_AGENT_OUTCOME_FAILED, "may be frozen still");
    fake_end(f, NULL);
    /* An agent that has said no to freezing has not frozen. */
    f = fake_new();
    fake_set(f, "guest-fsfreeze-freeze-list", ERROR("disabled"));
    fake_set(f, "guest-fsfreeze-thaw", ERROR("disabled"));
    fake_start(f, DISK_DETACH_AGENT_WRITE_OUT, LIMIT_MS);
    fake_expect(f, DISK_AGENT_OUTCOME_FAILED,
                "the agent's answer to 'guest-fsfreeze-freeze-list'");
    disk_agent_outcome(f->agent, &why);
    g_assert_null(strstr(why, "frozen"));
    fake_end(f, NULL);
}

/* The thaw comes over another connection; or cannot. */
static void test_broken(void)
{
    Fake *f = fake_new();

    fails("guest-fsfreeze-freeze-list", HANG_UP, "has ended",
          FREEZE " " THAW);

    f->opens_max = 1;
    fake_set(f, "guest-fsfreeze-freeze-list", HANG_UP);
    fake_start(f, DISK_DETACH_AGENT_WRITE_OUT, LIMIT_MS);
    fake_expect(f, DISK_AGENT_OUTCOME_FAILED, "may be frozen still");
    fake_end(f, FREEZE);
}

static void test_no_way(void)
{
    Fake *f = fake_new();

    f->opens_max = 0;
    fake_start(f, DISK_DETACH_AGENT_WRITE_OUT, LIMIT_MS);
    fake_expect(f, DISK_AGENT_OUTCOME_FAILED, "nobody listens");
    fake_end(f, "");
}

static void test_moving(void)
{
    Fake *f = fake_new();

    f->may_hold = false;
    fake_start(f, DISK_DETACH_AGENT_WRITE_OUT, LIMIT_MS);
    fake_expect(f, DISK_AGENT_OUTCOME_FAILED, "the guest moves");
    fake_end(f, FSINFO);
}

static void test_leave(void)
{
    Fake *f = fake_new();

    fake_set(f, "guest-sync-delimited", SILENCE);
    fake_start(f, DISK_DETACH_AGENT_WRITE_OUT, FOREVER_MS);
    fake_wait_told(f, SYNC);
    fake_end(f, SYNC);

    /* What is frozen is thawed. */
    f = fake_new();
    fake_set(f, "guest-fsfreeze-freeze-list", SILENCE);
    fake_start(f, DISK_DETACH_AGENT_WRITE_OUT, FOREVER_MS);
    fake_wait_told(f, FREEZE);
    g_assert_true(f->held);
    fake_end(f, FREEZE " " THAW);

    /* Or that cannot be: there is a warning. */
    f = fake_new();
    f->opens_max = 1;
    fake_set(f, "guest-fsfreeze-freeze-list", SILENCE);
    fake_set(f, "guest-fsfreeze-thaw", HANG_UP);
    fake_start(f, DISK_DETACH_AGENT_WRITE_OUT, FOREVER_MS);
    fake_wait_told(f, FREEZE);
    fake_end(f, FREEZE " " THAW);

    /* What is being unmounted is not waited for. */
    f = fake_new();
    fake_set(f, "guest-exec-status", SILENCE);
    fake_start(f, DISK_DETACH_AGENT_UNMOUNT, FOREVER_MS);
    fake_wait_told(f, FSINFO " exec:/hot exec-status");
    fake_end(f, FSINFO " exec:/hot exec-status");
}

/* A guest that is slow with the thaw is not waited for, but held. */
static void test_late_thaw(void)
{
    Fake *f = fake_new();

    fake_set(f, "guest-fsfreeze-thaw", SILENCE);
    fake_start(f, DISK_DETACH_AGENT_WRITE_OUT, SHORT_MS);
    fake_expect(f, DISK_AGENT_OUTCOME_FAILED, "has not answered in time");
    g_assert_true(f->held);
    disk_agent_leave(f->agent);
    fake_wait_told(f, FREEZE " " THAW);
    g_assert_cmpint(f->freed, ==, 0);
    fake_send(f, RETURN("1"), strlen(RETURN("1")));
    fake_wait_freed(f);
    fake_end(f, NULL);
}

static void test_lost(void)
{
    Fake *f = fake_new();

    fake_set(f, "guest-get-fsinfo", SILENCE);
    fake_start(f, DISK_DETACH_AGENT_WRITE_OUT, LIMIT_MS);
    fake_wait_told(f, FSINFO);
    f->lost = true;
    fake_expect(f, DISK_AGENT_OUTCOME_FAILED, "has closed its agent's port");
    fake_end(f, FSINFO);
}

/* An agent that does not read while a long command is written to it */
static void test_stuck(void)
{
    g_autoptr(GString) text = g_string_new("{\"return\": [");
    g_autofree char *path = repeated("x", 3000);
    Fake *f = fake_new();

    for (unsigned i = 0; i < DISK_AGENT_MOUNTS_MAX; i++) {
        g_string_append_printf(text, "%s" FS("sda", "/%s", ID_SERIAL),
                               i ? "," : "", path);
    }
    g_string_append(text, "]}\n");
    f->opens_max = 1;
    fake_set(f, "guest-get-fsinfo", SILENCE);
    fake_start(f, DISK_DETACH_AGENT_WRITE_OUT, 1000);
    fake_wait_told(f, FSINFO);
    qemu_set_fd_handler(f->fd, NULL, NULL, NULL);
    for (size_t done = 0; done < text->len;) {
        size_t n = MIN(text->len - done, 16 * KiB);

        fake_send(f, text->str + done, n);
        done += n;
        main_loop_wait(false);
    }
    /* Whether that was before or after the vain attempt to thaw */
    fake_expect(f, DISK_AGENT_OUTCOME_FAILED, NULL);
    fake_end(f, FSINFO);
}

static void test_unmount(void)
{
    Fake *f = fake_new();

    fake_set(f, "guest-get-fsinfo", RETURN("[" FS("sda1", "/a", ID_SERIAL) ", "
             FS("sda2", "/a/b/c", ID_SERIAL) ", " FS("sdb1", "/a/x", "x") ", "
             FS("sda3", "/a/b", ID_SERIAL) "]"));
    fake_start(f, DISK_DETACH_AGENT_UNMOUNT, LIMIT_MS);
    fake_expect(f, DISK_AGENT_OUTCOME_UNMOUNTED, NULL);
    fake_end(f, FSINFO " exec:/a/b/c exec-status exec:/a/b exec-status "
             "exec:/a exec-status");
    unmount("guest-get-fsinfo", RETURN("[]"), DISK_AGENT_OUTCOME_NOT_MOUNTED,
            NULL, FSINFO);
}

static void test_unmount_waits(void)
{
    Fake *f = fake_new();

    fake_set(f, "guest-exec-status", RETURN("{\"exited\": false}"));
    fake_start(f, DISK_DETACH_AGENT_UNMOUNT, LIMIT_MS);
    fake_wait_told(f, FSINFO " exec:/hot exec-status exec-status");
    fake_set(f, "guest-exec-status",
             RETURN("{\"exited\": true, \"exitcode\": 0}"));
    fake_expect(f, DISK_AGENT_OUTCOME_UNMOUNTED, NULL);
    fake_end(f, NULL);
    unmount("guest-exec-status", RETURN("{\"exited\": true, \"signal\": 9}"),
            DISK_AGENT_OUTCOME_FAILED, "it does not say why",
            FSINFO " exec:/hot exec-status");
}

/* "umount: /hot: target is busy." */
#define BUSY RETURN("{\"exited\": true, \"exitcode\": 32, \"err-data\": " \
                    "\"dW1vdW50OiAvaG90OiB0YXJnZXQgaXMgYnVzeS4K\"}")

static void test_unmount_busy(void)
{
    Fake *f = fake_new();

    unmount("guest-exec-status", BUSY, DISK_AGENT_OUTCOME_FAILED,
            "'/hot' could not be unmounted: umount: /hot: target is busy.",
            FSINFO " exec:/hot exec-status");
    unmount("guest-exec", ERROR("disabled"), DISK_AGENT_OUTCOME_FAILED,
            "'/hot' could not be unmounted: the agent's answer to 'guest-exec' "
            "was: disabled", FSINFO " exec:/hot");

    /* What was unmounted before is told. */
    fake_set(f, "guest-get-fsinfo", RETURN("[" FS("sda1", "/hot", ID_SERIAL)
             ", " FS("sda2", "/hot/a", ID_SERIAL) "]"));
    fake_start(f, DISK_DETACH_AGENT_UNMOUNT, LIMIT_MS);
    fake_wait_told(f, FSINFO " exec:/hot/a exec-status");
    fake_set(f, "guest-exec-status", BUSY);
    fake_expect(f, DISK_AGENT_OUTCOME_FAILED,
                "'/hot/a': unmounted, and not mounted again; '/hot' could not");
    fake_end(f, NULL);
}

static void test_serials(void)
{
    static const struct {
        DiskBus bus;
        const char *text;
        bool is;
    } cases[] = {
        { DISK_BUS_SCSI, ID_SERIAL, true },
        { DISK_BUS_SCSI, SERIAL, true },            /* Windows */
        { DISK_BUS_SCSI, "0QEMU_QEMU_HARDDISK_" SERIAL, true },
        { DISK_BUS_SCSI, "39a9514458210491", false },
        { DISK_BUS_SCSI, "339a95144582104910", false },
        { DISK_BUS_SCSI, "", false },
        { DISK_BUS_VIRTIO_BLK, SERIAL, true },
        { DISK_BUS_VIRTIO_BLK, SERIAL "0", false },
        { DISK_BUS_VIRTIO_BLK, ID_SERIAL, false },
        { DISK_BUS_NVME, "QEMU_NVMe_Ctrl_" SERIAL, true },
        { DISK_BUS_NVME, "QEMU_NVMe_Ctrl_" SERIAL "_1", true },
        { DISK_BUS_NVME, "QEMU_NVMe_Ctrl_" SERIAL "_2", false },
        { DISK_BUS_NVME, "QEMU_NVMe_Ctrl_", false },
    };

    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        g_assert_cmpint(disk_guest_serial_is(cases[i].text, cases[i].bus,
                                             SERIAL, WWN), ==, cases[i].is);
    }
    g_assert_false(disk_guest_serial_is("30000000000000000", DISK_BUS_SCSI,
                                        SERIAL, 0));
}

/* Answers that were damaged: understood or not, but nothing worse. */

static const char *const good_answers[] = {
    RETURN("[" FS("sda1", "/a", ID_SERIAL) ", " FS("sdb", "/b", "x") "]"),
    RETURN("{\"exited\": true, \"exitcode\": 32, \"err-data\": \"bm8K\"}"),
    RETURN("{\"pid\": 1234}"),
    RETURN("3"),
    ERROR("no"),
};

/* Change, take away, repeat or add some bytes. */
static void damage(GString *text)
{
    unsigned at = g_test_rand_int_range(0, text->len);
    unsigned n = g_test_rand_int_range(0, MIN(text->len - at, 12) + 1);
    char byte = g_test_rand_int_range(0, 256);

    switch (g_test_rand_int_range(0, 4)) {
    case 0:
        text->str[at] = byte;
        break;
    case 1:
        g_string_erase(text, at, n);
        break;
    case 2:
    {
        g_autofree char *part = g_strndup(text->str + at, n);

        g_string_insert(text, g_test_rand_int_range(0, text->len), part);
        break;
    }
    default:
        g_string_insert_c(text, at, byte);
    }
}

/* A reference to what @line returns; NULL goes with an error. */
static QObject *parse_damaged(const GString *line)
{
    Error *err = NULL;
    QObject *ret = agent_answer_parse("x", line->str, line->len, &err);

    g_assert_true(!ret == !!err);
    error_free(err);
    return ret;
}

static void read_damaged(const GString *line)
{
    static const DiskAgentTarget target = { DISK_BUS_SCSI, SERIAL, WWN };
    QObject *ret = parse_damaged(line);
    AgentMounts *mounts;
    bool exited;
    int64_t n;

    mounts = agent_answer_mounts(qobject_ref(ret), &target, NULL);
    if (mounts) {
        g_assert_cmpint(mounts->devices, <=, mounts->paths->len);
        agent_mounts_deepest_first(mounts);
        agent_mounts_free(mounts);
    }
    agent_answer_frozen(qobject_ref(ret), 1, NULL);
    agent_answer_pid(qobject_ref(ret), &n, NULL);
    agent_answer_exited(ret, &exited, NULL);
    agent_answer_is_number(line->str, line->len, 3);
}

static void test_damaged(void)
{
    for (unsigned i = 0; i < 50000; i++) {
        const char *good = good_answers[i % ARRAY_SIZE(good_answers)];
        g_autoptr(GString) line = g_string_new_len(good, strlen(good) - 1);

        for (int n = g_test_rand_int_range(1, 6); n && line->len; n--) {
            damage(line);
        }
        read_damaged(line);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    module_call_init(MODULE_INIT_QOM);
    qemu_init_main_loop(&error_abort);
    signal(SIGPIPE, SIG_IGN);
    g_test_add_func("/disk/agent/write-out", test_write_out);
    g_test_add_func("/disk/agent/not-mounted", test_not_mounted);
    g_test_add_func("/disk/agent/several", test_several);
    g_test_add_func("/disk/agent/stale", test_stale);
    g_test_add_func("/disk/agent/silence", test_silence);
    g_test_add_func("/disk/agent/not-understood", test_not_understood);
    g_test_add_func("/disk/agent/zero-byte", test_zero_byte);
    g_test_add_func("/disk/agent/too-much", test_too_much);
    g_test_add_func("/disk/agent/too-many", test_too_many);
    g_test_add_func("/disk/agent/errors", test_errors);
    g_test_add_func("/disk/agent/thaw-fails", test_thaw_fails);
    g_test_add_func("/disk/agent/broken", test_broken);
    g_test_add_func("/disk/agent/no-way", test_no_way);
    g_test_add_func("/disk/agent/moving", test_moving);
    g_test_add_func("/disk/agent/leave", test_leave);
    g_test_add_func("/disk/agent/late-thaw", test_late_thaw);
    g_test_add_func("/disk/agent/lost", test_lost);
    g_test_add_func("/disk/agent/stuck", test_stuck);
    g_test_add_func("/disk/agent/unmount", test_unmount);
    g_test_add_func("/disk/agent/unmount-waits", test_unmount_waits);
    g_test_add_func("/disk/agent/unmount-busy", test_unmount_busy);
    g_test_add_func("/disk/agent/serials", test_serials);
    g_test_add_func("/disk/agent/damaged", test_damaged);
    return g_test_run();
}
