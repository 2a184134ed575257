/*
 * The migration pipeline: what goes over the network beside the guest
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "csv/pipeline-scene.h"
#include "migration/pipeline/hello.h"
#include "qemu/bswap.h"
#include "qemu/cutils.h"
#include "qobject/qlist.h"

#define ROUND_US        (10 * 1000)
#define KEY             "009d5638c40fde0c"

/* Connect to where the destination listens. */
static int connect_destination(PipelineScene *s)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    g_assert_cmpint(strlen(s->socket), <, sizeof(addr.sun_path));
    pstrcpy(addr.sun_path, sizeof(addr.sun_path), s->socket);
    g_assert_cmpint(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), ==, 0);
    return fd;
}

/* The type of the answer to @len bytes of @hello, or 0 if there is none */
static unsigned answer(PipelineScene *s, const uint8_t *hello, size_t len)
{
    int fd = connect_destination(s);
    uint8_t buf[48] = { 0 };

    g_assert_cmpint(send(fd, hello, len, MSG_NOSIGNAL), ==, len);
    shutdown(fd, SHUT_WR);
    recv(fd, buf, sizeof(buf), MSG_WAITALL);
    close(fd);
    return lduw_be_p(buf + 4);
}

/* Whoever connects says whatever he likes; the migration comes after that. */
static void test_hostile(void)
{
    enum { ASK = 1, GO, YES, NO };
    HelloMessage ask = { .type = ASK, .features = 1, .channels = 2,
                         .page_size = 4096 };
    PipelineScene s = { 0 };
    g_autofree char *options = g_strdup_printf(", 'max-blackout': %d",
                                               PIPELINE_PATIENT_MS);
    g_autoptr(GByteArray) bytes = migration_hello_encode(&ask, NULL);
    GByteArray *other;
    QDict *rsp;
    int silent;

    pipeline_begin(&s, "", "");
    /* One that never says anything, and stays */
    silent = connect_destination(&s);
    g_assert_cmpint(answer(&s, bytes->data, bytes->len), ==, YES);
    /* One that says too little, then one that is damaged */
    g_assert_cmpint(answer(&s, bytes->data, 20), ==, 0);
    bytes->data[20] ^= 1;
    g_assert_cmpint(answer(&s, bytes->data, bytes->len), ==, 0);
    /* What cannot be: an answer, other pages, no channels, a missing feature */
    for (unsigned i = 0; i < 4; i++) {
        HelloMessage bad = ask;

        switch (i) {
        case 0:
            bad.type = YES;
            break;
        case 1:
            bad.page_size = 8192;
            break;
        case 2:
            bad.channels = 0;
            break;
        default:
            bad.required = 1ULL << 63;
            break;
        }
        other = migration_hello_encode(&bad, NULL);
        g_assert_cmpint(answer(&s, other->data, other->len), ==, NO);
        g_byte_array_unref(other);
    }
    /* Agreed, and nothing comes */
    ask.type = GO;
    other = migration_hello_encode(&ask, NULL);
    g_assert_cmpint(answer(&s, other->data, other->len), ==, YES);
    g_byte_array_unref(other);

    expect_success(pipeline_start(&s, options));
    rsp = pipeline_wait_report(s.src);
    g_assert_cmpstr(qdict_get_str(rsp, "stage"), ==, "completed");
    qobject_unref(rsp);
    pipeline_assert_moved(&s);
    /* He speaks up when it is too late. */
    g_assert_cmpint(send(silent, "QEVM", 4, MSG_NOSIGNAL), ==, 4);
    g_assert_cmpint(recv(silent, &silent, 1, 0), <=, 0);
    g_assert_true(pipeline_has_run_state(s.dst, "running"));
    close(silent);
    pipeline_end(&s);
}

static QDict *plan(PipelineScene *s, const char *options)
{
    g_autofree char *cmd = g_strdup_printf("{'execute': "
        "'migrate-pipeline-plan', 'arguments': {'uri': 'unix:%s'%s}}",
        s->socket, options);

    return qtest_qmp(s->src, cmd, NULL);
}

/* From how many blackouts the costs are known */
static int64_t blackouts_known(QDict *plan)
{
    const QListEntry *e = qlist_first(qdict_get_qlist(plan, "costs"));

    g_assert_nonnull(e);
    return qdict_get_int(qobject_to(QDict, qlist_entry_obj(e)), "blackouts");
}

/* Look first, then move: looking changes nothing. */
static void test_plan(void)
{
    PipelineScene s = { 0 };
    g_autofree char *options = g_strdup_printf(", 'max-blackout': %d",
                                               PIPELINE_PATIENT_MS);
    QDict *rsp, *ret;

    pipeline_begin(&s, "", "");
    expect_error(plan(&s, ", 'deadline': 0"), "'deadline' must be more");
    for (unsigned i = 0; i < 2; i++) {
        rsp = plan(&s, options);
        ret = qdict_get_qdict(rsp, "return");
        g_assert_nonnull(ret);
        g_assert_true(qdict_get_bool(ret, "possible"));
        g_assert_true(qdict_get_bool(ret, "multifd"));
        g_assert_false(qdict_get_bool(ret, "postcopy"));
        g_assert_cmpint(qdict_get_int(ret, "memory"), >=,
                        PIPELINE_GUEST_MB * MiB);
        g_assert_cmpint(qdict_get_int(ret, "dirty-rate"), >, 0);
        g_assert_cmpint(qdict_get_int(ret, "bandwidth"), >, 0);
        g_assert_cmpstr(qdict_get_str(ret, "action"), ==, "switch-over");
        g_assert_cmpint(qdict_get_int(ret, "floor"), >, 0);
        g_assert_cmpint(blackouts_known(ret), ==, 0);
        /* What decides in the end is said. */
        g_assert_cmpint(qlist_size(qdict_get_qlist(ret, "notes")), ==, 1);
        qobject_unref(rsp);
    }
    g_assert_true(pipeline_has_run_state(s.dst, "inmigrate"));
    pipeline_assert_settings(s.src, NULL);
    pipeline_assert_settings(s.dst, NULL);

    expect_success(pipeline_start(&s, options));
    rsp = pipeline_wait_report(s.src);
    g_assert_cmpstr(qdict_get_str(rsp, "stage"), ==, "completed");
    ret = qdict_get_qdict(rsp, "prediction");
    g_assert_cmpint(qdict_get_int(ret, "predicted"), >, 0);
    g_assert_cmpint(qdict_get_int(ret, "seen"), ==, qdict_get_int(
        qdict_get_qdict(rsp, "blackout"), "total"));
    g_assert_cmpint(qdict_get_int(ret, "error"), ==,
                    qdict_get_int(ret, "predicted") -
                    qdict_get_int(ret, "seen"));
    qobject_unref(rsp);
    pipeline_assert_moved(&s);

    /* What the blackout took has come along. */
    rsp = qtest_qmp(s.dst, "{'execute': 'migrate-pipeline-plan'}");
    ret = qdict_get_qdict(rsp, "return");
    g_assert_cmpint(blackouts_known(ret), ==, 1);
    qobject_unref(rsp);

    rsp = plan(&s, options);
    ret = qdict_get_qdict(rsp, "return");
    g_assert_false(qdict_get_bool(ret, "possible"));
    /* The guest is there, and nobody waits for another one. */
    g_assert_cmpint(qlist_size(qdict_get_qlist(ret, "obstacles")), ==, 2);
    g_assert_false(qdict_haskey(ret, "bandwidth"));
    qobject_unref(rsp);
    pipeline_end(&s);
}

/* Without a destination this side says what it knows, even without a guest. */
static void test_plan_here(void)
{
    QTestState *qts = qtest_init("-nodefaults -machine none");
    QDict *rsp = qtest_qmp(qts, "{'execute': 'migrate-pipeline-plan'}");
    QDict *ret = qdict_get_qdict(rsp, "return");

    g_assert_nonnull(ret);
    g_assert_true(qdict_get_bool(ret, "possible"));
    g_assert_cmpint(qlist_size(qdict_get_qlist(ret, "notes")), ==, 2);
    g_assert_false(qdict_haskey(ret, "bandwidth"));
    g_assert_false(qdict_haskey(ret, "action"));
    qobject_unref(rsp);

    rsp = qtest_qmp(qts, "{'execute': 'migrate-pipeline-plan', "
                    "'arguments': {'mode': 'quick'}}");
    ret = qdict_get_qdict(rsp, "return");
    g_assert_false(qdict_get_bool(ret, "possible"));
    qobject_unref(rsp);
    qtest_quit(qts);
}

/* How many announcements (RARP) of the guest are in the file? */
static unsigned announcements(PipelineScene *s, const char *dump)
{
    static const uint8_t rarp[] = { 0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3 };
    g_autofree char *path = g_strdup_printf("%s/%s", s->dir, dump);
    g_autofree char *data = NULL;
    const char *at;
    size_t len;
    unsigned n = 0;

    g_assert_true(g_file_get_contents(path, &data, &len, NULL));
    for (at = data; (at = memmem(at, data + len - at, rarp, sizeof(rarp)));
         at++) {
        n++;
    }
    return n;
}

static void wait_announcements(PipelineScene *s, const char *dump, unsigned n)
{
    gint64 timeout = g_get_monotonic_time() + PIPELINE_TIMEOUT_US;

    while (announcements(s, dump) < n) {
        g_assert_cmpint(g_get_monotonic_time(), <, timeout);
        g_usleep(ROUND_US);
    }
}

/* How long announcements go on if nobody says otherwise, in milliseconds */
static int64_t default_announcement(QTestState *qts, unsigned *rounds)
{
    QDict *p = qtest_qmp_assert_success_ref(qts,
        "{'execute': 'query-migrate-parameters'}");
    int64_t sum = 0;

    *rounds = qdict_get_int(p, "announce-rounds");
    for (unsigned i = 0; i + 1 < *rounds; i++) {
        sum += MIN(qdict_get_int(p, "announce-max"),
                   qdict_get_int(p, "announce-initial") +
                   i * qdict_get_int(p, "announce-step"));
    }
    qobject_unref(p);
    return sum;
}

static void quick_announcements(QTestState *qts)
{
    qtest_qmp_assert_success(qts, "{'execute': 'migrate-set-parameters', "
        "'arguments': {'announce-initial': 1, 'announce-step': 1, "
        "'announce-max': 5}}");
}

static void set_link(QTestState *qts, const char *name, bool up)
{
    qtest_qmp_assert_success(qts, "{'execute': 'set_link', "
                             "'arguments': {'name': %s, 'up': %i}}", name, up);
}

static char *nic(PipelineScene *s, const char *dump)
{
    return g_strdup_printf("-netdev hubport,id=net0,hubid=0 "
                           "-device virtio-net-pci,netdev=net0,id=nic0 "
                           "-object filter-dump,id=dump0,netdev=net0,"
                           "file=%s/%s", s->dir, dump);
}

/* What each side sends goes to src.pcap and dst.pcap. */
static void begin_with_nics(PipelineScene *s)
{
    g_autofree char *src = NULL, *dst = NULL;

    s->dir = g_dir_make_tmp("pipeline-XXXXXX", NULL);
    src = nic(s, "src.pcap");
    dst = nic(s, "dst.pcap");
    pipeline_begin(s, src, dst);
}

static void test_announce(void)
{
    PipelineScene s = { 0 };
    g_autofree char *options = g_strdup_printf(", 'max-blackout': %d",
                                               PIPELINE_PATIENT_MS);
    unsigned rounds;
    QDict *rsp;

    begin_with_nics(&s);
    g_assert_cmpint(default_announcement(s.dst, &rounds), >=, 10000);
    quick_announcements(s.dst);
    quick_announcements(s.src);

    /* A guest that is not here is not announced, whatever its link does. */
    set_link(s.dst, "nic0", false);
    set_link(s.dst, "nic0", true);
    /* One that runs is, by either name of the link, and not when it is down */
    set_link(s.src, "nic0", false);
    set_link(s.src, "nic0", true);
    wait_announcements(&s, "src.pcap", rounds);
    set_link(s.src, "net0", false);
    set_link(s.src, "net0", true);
    wait_announcements(&s, "src.pcap", 2 * rounds);
    g_assert_cmpint(announcements(&s, "dst.pcap"), ==, 0);

    expect_success(pipeline_start(&s, options));
    rsp = pipeline_wait_report(s.src);
    g_assert_cmpstr(qdict_get_str(rsp, "stage"), ==, "completed");
    qobject_unref(rsp);
    wait_announcements(&s, "dst.pcap", rounds);
    g_assert_cmpint(announcements(&s, "src.pcap"), ==, 2 * rounds);
    pipeline_end(&s);
}

/* The source takes its guest back, and says so. */
static void test_announce_back(void)
{
    PipelineScene s = { 0 };
    unsigned rounds;
    QDict *rsp;

    begin_with_nics(&s);
    default_announcement(s.src, &rounds);
    quick_announcements(s.src);
    pipeline_set_capability(s.src, "pause-before-switchover");
    expect_success(pipeline_start(&s, ", 'max-blackout': 60000"));
    pipeline_wait_run_state(s.src, "finish-migrate");
    qtest_qmp_assert_success(s.src, "{'execute': 'migrate-pipeline-cancel'}");
    rsp = pipeline_wait_report(s.src);
    g_assert_cmpstr(qdict_get_str(rsp, "stage"), ==, "cancelled");
    qobject_unref(rsp);
    pipeline_wait_run_state(s.src, "running");
    wait_announcements(&s, "src.pcap", rounds);
    pipeline_end_destination(&s);
    pipeline_end(&s);
}

static void set_key(PipelineScene *s, const char *key)
{
    g_autofree char *path = g_strdup_printf("%s/keys.psk", s->dir);
    g_autofree char *line = g_strdup_printf("qemu:%s\n", key);

    g_assert_true(g_file_set_contents(path, line, -1, NULL));
}

/* All connections are encrypted, and the other side must know the key. */
static void use_tls(PipelineScene *s, QTestState *qts, const char *endpoint)
{
    qtest_qmp_assert_success(qts, "{'execute': 'object-add', 'arguments': {"
        "'qom-type': 'tls-creds-psk', 'id': 'tls', 'endpoint': %s, 'dir': %s,"
        "'priority': 'NORMAL:-VERS-ALL:+VERS-TLS1.2:+PSK'}}",
        endpoint, s->dir);
    qtest_qmp_assert_success(qts, "{'execute': 'migrate-set-parameters', "
                             "'arguments': {'tls-creds': 'tls'}}");
}

static void begin_with_tls(PipelineScene *s, const char *client_key)
{
    s->dir = g_dir_make_tmp("pipeline-XXXXXX", NULL);
    /* The client reads it now, the server when a client comes. */
    set_key(s, client_key);
    pipeline_begin(s, "", "");
    use_tls(s, s->src, "client");
    set_key(s, KEY);
    use_tls(s, s->dst, "server");
}

/* What is agreed over TLS is what is agreed without. */
static void test_tls(void)
{
    PipelineScene s = { 0 };
    g_autofree char *options = g_strdup_printf(", 'max-blackout': %d",
                                               PIPELINE_PATIENT_MS);
    QDict *rsp, *ret;

    begin_with_tls(&s, KEY);
    rsp = plan(&s, options);
    ret = qdict_get_qdict(rsp, "return");
    g_assert_true(qdict_get_bool(ret, "possible"));
    g_assert_true(qdict_get_bool(ret, "multifd"));
    g_assert_cmpint(qdict_get_int(ret, "bandwidth"), >, 0);
    qobject_unref(rsp);

    expect_success(pipeline_start(&s, options));
    rsp = pipeline_wait_report(s.src);
    g_assert_cmpstr(qdict_get_str(rsp, "stage"), ==, "completed");
    ret = qdict_get_qdict(rsp, "estimate");
    g_assert_cmpint(qdict_get_int(ret, "raw"), >, 0);
    qobject_unref(rsp);
    pipeline_assert_moved(&s);
    pipeline_end(&s);
}

/* Who does not know the key learns nothing, and moves nothing. */
static void test_tls_wrong_key(void)
{
    PipelineScene s = { 0 };
    QDict *rsp, *ret;

    begin_with_tls(&s, "10ffa6a2c42f0388");
    rsp = plan(&s, "");
    ret = qdict_get_qdict(rsp, "return");
    g_assert_false(qdict_get_bool(ret, "possible"));
    g_assert_cmpint(qlist_size(qdict_get_qlist(ret, "obstacles")), ==, 1);
    qobject_unref(rsp);

    expect_success(pipeline_start(&s, ""));
    rsp = pipeline_wait_report(s.src);
    g_assert_cmpstr(qdict_get_str(rsp, "stage"), ==, "failed");
    g_assert_nonnull(strstr(qdict_get_str(rsp, "error"), "TLS handshake"));
    qobject_unref(rsp);
    g_assert_true(pipeline_has_run_state(s.src, "running"));
    g_assert_true(pipeline_has_run_state(s.dst, "inmigrate"));
    pipeline_end(&s);
}

/* Plain migrate goes on over TLS as it did, with one channel or several. */
static void test_tls_plain(const void *multifd)
{
    PipelineScene s = { .deferred = true };
    g_autofree char *uri = NULL;

    begin_with_tls(&s, KEY);
    uri = g_strdup_printf("unix:%s", s.socket);
    if (multifd) {
        pipeline_set_capability(s.src, multifd);
        pipeline_set_capability(s.dst, multifd);
    }
    qtest_qmp_assert_success(s.dst, "{'execute': 'migrate-incoming', "
                             "'arguments': {'uri': %s}}", uri);
    qtest_qmp_assert_success(s.src, "{'execute': 'migrate-set-parameters', "
        "'arguments': {'downtime-limit': %d, 'max-bandwidth': 0}}",
        PIPELINE_PATIENT_MS);
    qtest_qmp_assert_success(s.src, "{'execute': 'migrate', "
                             "'arguments': {'uri': %s}}", uri);
    pipeline_wait_run_state(s.src, "postmigrate");
    pipeline_wait_run_state(s.dst, "running");
    pipeline_wait_for_guest(&s, "dst");
    pipeline_end(&s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qtest_add_func("/pipeline/hostile", test_hostile);
    qtest_add_func("/pipeline/plan", test_plan);
    qtest_add_func("/pipeline/plan/here", test_plan_here);
    qtest_add_func("/pipeline/announce", test_announce);
    qtest_add_func("/pipeline/announce-back", test_announce_back);
    qtest_add_func("/pipeline/tls", test_tls);
    qtest_add_func("/pipeline/tls/wrong-key", test_tls_wrong_key);
    qtest_add_data_func("/pipeline/tls/plain", NULL, test_tls_plain);
    qtest_add_data_func("/pipeline/tls/plain-multifd", "multifd",
                        test_tls_plain);
    return g_test_run();
}
