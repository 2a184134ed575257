/*
 * A cluster shared volume, QEMU processes that share it, and their guests'
 * disk drivers: what the qtests of the csv driver have in common
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "csv-vm.h"
#include "libqos/malloc-pc.h"
#include "libqos/pci-pc.h"
#include "libqos/virtio.h"
#include "libqos/virtio-pci.h"
#include "qemu/bswap.h"
#include "qemu/cutils.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "standard-headers/linux/virtio_blk.h"

/* The unit in which the guest reads and writes */
#define CHUNK               4096

/*
 * The volume
 */

void G_GNUC_PRINTF(1, 2) csv_qemu_img(const char *fmt, ...)
{
    g_autoptr(GError) err = NULL;
    g_autofree char *args = NULL;
    g_autofree char *cmd = NULL;
    g_autofree char *out = NULL;
    int status;
    va_list ap;

    va_start(ap, fmt);
    args = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    cmd = g_strdup_printf("%s %s", getenv("QTEST_QEMU_IMG"), args);

    g_assert_true(g_spawn_command_line_sync(cmd, &out, NULL, &status, &err));
    g_assert_cmpint(status, ==, 0);
}

void csv_expect(QDict *rsp, const char *want)
{
    QDict *error = qdict_get_qdict(rsp, "error");
    const char *text = error ? qdict_get_str(error, "desc") : NULL;

    if (want ? !text || !strstr(text, want) : text != NULL) {
        g_error("want '%s', got '%s'", want ?: "success", text ?: "success");
    }
    if (want) {
        g_assert_cmpstr(qdict_get_str(error, "class"), ==, "GenericError");
    }
    qobject_unref(rsp);
}

char *csv_finish_job(QTestState *qts, const char *id)
{
    QDict *job = NULL;
    const char *status;
    char *error;

    do {
        QDict *rsp;

        qobject_unref(qtest_qmp_eventwait_ref(qts, "JOB_STATUS_CHANGE"));
        qobject_unref(job);
        rsp = qtest_qmp(qts, "{'execute': 'query-jobs'}");
        job = qobject_to(QDict, qlist_peek(qdict_get_qlist(rsp, "return")));
        qobject_ref(job);
        qobject_unref(rsp);
        g_assert_cmpstr(qdict_get_str(job, "id"), ==, id);
        status = qdict_get_str(job, "status");
    } while (strcmp(status, "concluded"));

    error = g_strdup(qdict_get_try_str(job, "error"));
    if (!error) {
        g_assert_cmpint(qdict_get_int(job, "total-progress"), >, 0);
        g_assert_cmpint(qdict_get_int(job, "current-progress"), ==,
                        qdict_get_int(job, "total-progress"));
    }
    qobject_unref(job);
    csv_expect(qtest_qmp(qts, "{'execute': 'job-dismiss', 'arguments': {"
                         "'id': %s}}", id), NULL);
    return error;
}

void csv_scene_init(CsvScene *s, int disks)
{
    *s = (CsvScene) { .disks = disks };
    s->dir = g_dir_make_tmp("csv-qtest.XXXXXX", NULL);
    g_assert_nonnull(s->dir);
    s->volume = g_strdup_printf("%s/volume", s->dir);
    s->socket = g_strdup_printf("%s/migrate.sock", s->dir);

    csv_qemu_img("create -q -f csv -o volume=vol1,volume_size=1G %s 0",
                 s->volume);
    for (int i = 0; i < disks; i++) {
        csv_qemu_img("create -q -f csv -o disk=disk%d %s %dM", i, s->volume,
                     CSV_DISK_MB);
    }
}

void csv_scene_cleanup(CsvScene *s)
{
    unlink(s->socket);
    unlink(s->volume);
    g_assert_cmpint(rmdir(s->dir), ==, 0);
    g_free(s->dir);
    g_free(s->volume);
    g_free(s->socket);
}

/*
 * QEMU processes
 */

CsvVm *csv_vm_start(CsvScene *s, const char *extra)
{
    g_autoptr(GString) args = g_string_new(NULL);
    CsvVm *vm = g_new0(CsvVm, 1);

    g_string_printf(args, "-machine q35 -nodefaults -m %d %s", CSV_RAM_MB,
                    extra);
    for (int i = 0; i < s->disks; i++) {
        g_string_append_printf(args,
            " -blockdev driver=csv,node-name=d%d,disk=disk%d,"
            "file.driver=file,file.filename=%s"
            " -device virtio-blk-pci,id=vd%d,drive=d%d,addr=%d%s",
            i, i, s->volume, i, i, 4 + i, s->device ?: "");
    }
    vm->qts = qtest_init(args->str);
    vm->pid = qtest_pid(vm->qts);
    return vm;
}

CsvVm *csv_vm_start_incoming(CsvScene *s, const char *extra)
{
    g_autofree char *args = g_strdup_printf("-incoming unix:%s %s",
                                            s->socket, extra);

    unlink(s->socket);
    return csv_vm_start(s, args);
}

void csv_vm_quit(CsvVm *vm)
{
    qtest_quit(vm->qts);
    g_free(vm);
}

static void vm_reap(CsvVm *vm)
{
    gint64 end = g_get_monotonic_time() + CSV_TIMEOUT_US;

    while (qtest_probe_child(vm->qts)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        g_usleep(1000);
    }
}

/* As if its host lost power; libqtest cannot free the rest of it */
void csv_vm_kill(CsvVm *vm)
{
    g_assert_cmpint(kill(vm->pid, SIGKILL), ==, 0);
    vm_reap(vm);
    g_free(vm);
}

/* It has no way on but to exit with an error, by itself */
void csv_vm_wait_failed(CsvVm *vm)
{
    qtest_set_expected_status(vm->qts, EXIT_FAILURE);
    vm_reap(vm);
    csv_vm_quit(vm);
}

void csv_vm_signal(CsvVm *vm, int sig)
{
    g_assert_cmpint(kill(vm->pid, sig), ==, 0);
}

static char *vm_runstate(CsvVm *vm)
{
    QDict *rsp = qtest_qmp_assert_success_ref(vm->qts,
                                              "{'execute': 'query-status'}");
    char *ret = g_strdup(qdict_get_str(rsp, "status"));

    qobject_unref(rsp);
    return ret;
}

bool csv_vm_is(CsvVm *vm, const char *runstate)
{
    g_autofree char *now = vm_runstate(vm);

    return g_str_equal(now, runstate);
}

void csv_vm_wait(CsvVm *vm, const char *runstate)
{
    gint64 end = g_get_monotonic_time() + CSV_TIMEOUT_US;

    while (!csv_vm_is(vm, runstate)) {
        if (g_get_monotonic_time() > end) {
            g_autofree char *now = vm_runstate(vm);

            g_assert_cmpstr(now, ==, runstate);
        }
        g_usleep(10 * 1000);
    }
}

/*
 * The guest's side
 */

/* Start the guest's drivers. Memory is as it was, so a move does no harm. */
static void guest_boot(CsvVm *vm)
{
    if (!vm->bus) {
        pc_alloc_init(&vm->alloc, vm->qts, 0);
        vm->bus = qpci_new_pc(vm->qts, &vm->alloc);
    }
}

static void guest_shutdown(CsvVm *vm)
{
    qpci_free_pc(vm->bus);
    alloc_destroy(&vm->alloc);
    vm->bus = NULL;
}

typedef struct GuestDisk {
    QVirtioPCIDevice *pci;
    QVirtioDevice *dev;
    QVirtQueue *vq;
} GuestDisk;

static void guest_disk_open(CsvVm *vm, int nr, GuestDisk *d)
{
    QPCIAddress addr = { .devfn = QPCI_DEVFN(4 + nr, 0) };
    uint64_t features;

    d->pci = virtio_pci_new(vm->bus, &addr);
    g_assert_nonnull(d->pci);
    d->dev = &d->pci->vdev;
    qvirtio_pci_device_enable(d->pci);
    qvirtio_start_device(d->dev);
    features = qvirtio_get_features(d->dev);
    features &= ~(QVIRTIO_F_BAD_FEATURE |
                  (1u << VIRTIO_RING_F_INDIRECT_DESC) |
                  (1u << VIRTIO_RING_F_EVENT_IDX));
    qvirtio_set_features(d->dev, features);
    d->vq = qvirtqueue_setup(d->dev, &vm->alloc, 0);
    qvirtio_set_driver_ok(d->dev);
}

static void guest_disk_close(CsvVm *vm, GuestDisk *d)
{
    qvirtio_reset(d->dev);
    qvirtqueue_cleanup(d->dev->bus, d->vq, &vm->alloc);
    qvirtio_pci_device_disable(d->pci);
    qos_object_destroy((QOSGraphObject *)d->pci);
}

/* A request on its way; the data of a read or write are one chunk */
typedef struct GuestRequest {
    uint32_t type;
    uint32_t head;
    uint64_t addr;
    uint64_t data_addr;
    uint64_t status_addr;
} GuestRequest;

static void guest_submit(CsvVm *vm, GuestDisk *d, uint32_t type,
                         uint64_t offset, const uint8_t *data,
                         GuestRequest *r)
{
    struct virtio_blk_outhdr hdr = {
        .type = cpu_to_le32(type),
        .sector = cpu_to_le64(offset / 512),
    };

    r->type = type;
    r->addr = guest_alloc(&vm->alloc, sizeof(hdr) + CHUNK + 1);
    r->data_addr = r->addr + sizeof(hdr);
    r->status_addr = r->data_addr + CHUNK;
    qtest_memwrite(vm->qts, r->addr, &hdr, sizeof(hdr));
    qtest_writeb(vm->qts, r->status_addr, 0xff);

    r->head = qvirtqueue_add(vm->qts, d->vq, r->addr, sizeof(hdr), false,
                             true);
    if (type != VIRTIO_BLK_T_FLUSH) {
        qtest_memwrite(vm->qts, r->data_addr, data, CHUNK);
        qvirtqueue_add(vm->qts, d->vq, r->data_addr, CHUNK,
                       type == VIRTIO_BLK_T_IN, true);
    }
    qvirtqueue_add(vm->qts, d->vq, r->status_addr, 1, true, false);
    qvirtqueue_kick(vm->qts, d->dev, d->vq, r->head);
}

static bool guest_is_done(CsvVm *vm, const GuestRequest *r)
{
    return qtest_readb(vm->qts, r->status_addr) != 0xff;
}

static void guest_finish(CsvVm *vm, GuestDisk *d, GuestRequest *r,
                         uint8_t *data)
{
    qvirtio_wait_used_elem(vm->qts, d->dev, d->vq, r->head, NULL,
                           CSV_TIMEOUT_US);
    g_assert_cmpint(qtest_readb(vm->qts, r->status_addr), ==,
                    VIRTIO_BLK_S_OK);
    if (r->type == VIRTIO_BLK_T_IN) {
        qtest_memread(vm->qts, r->data_addr, data, CHUNK);
    }
    guest_free(&vm->alloc, r->addr);
}

static void guest_request(CsvVm *vm, GuestDisk *d, uint32_t type,
                          unsigned chunk, uint8_t *data)
{
    GuestRequest r;

    guest_submit(vm, d, type, (uint64_t)chunk * CHUNK, data, &r);
    guest_finish(vm, d, &r, data);
}

/* Spread over the disk, so that segments and tables are needed, too */
static unsigned chunk_position(unsigned chunk)
{
    return chunk * 509 % (CSV_DISK_MB * MiB / CHUNK);
}

static void chunk_fill(uint8_t *data, int disk, unsigned chunk)
{
    for (unsigned i = 0; i < CHUNK; i += 8) {
        stq_le_p(data + i, ((uint64_t)disk << 56) | (chunk << 16) | i);
    }
}

void csv_guest_use_disks(CsvScene *s, CsvVm *vm)
{
    uint8_t expected[CHUNK], data[CHUNK];
    unsigned first_new = s->chunks;

    guest_boot(vm);
    for (int i = 0; i < s->disks; i++) {
        GuestDisk d;

        guest_disk_open(vm, i, &d);
        for (unsigned c = 0; c < first_new; c++) {
            guest_request(vm, &d, VIRTIO_BLK_T_IN, chunk_position(c), data);
            chunk_fill(expected, i, c);
            g_assert_cmpmem(data, CHUNK, expected, CHUNK);
        }
        for (unsigned c = first_new; c < first_new + 8; c++) {
            chunk_fill(data, i, c);
            guest_request(vm, &d, VIRTIO_BLK_T_OUT, chunk_position(c), data);
        }
        if (first_new % 16) {
            guest_request(vm, &d, VIRTIO_BLK_T_FLUSH, 0, data);
        }
        guest_disk_close(vm, &d);
    }
    guest_shutdown(vm);
    s->chunks = first_new + 8;
}

/* Where chunk @c goes if each is to need a cluster */
static uint64_t spread(unsigned c)
{
    return c * 2 * MiB + c % 16 * CHUNK;
}

unsigned csv_guest_fill_disk(CsvVm *vm, unsigned chunks,
                             void (*when_stopped)(CsvVm *vm, void *opaque),
                             void *opaque)
{
    uint8_t expected[CHUNK], data[CHUNK];
    unsigned stops = 0;
    GuestRequest r;
    GuestDisk d;

    guest_boot(vm);
    guest_disk_open(vm, 0, &d);
    for (unsigned c = 0; c < chunks; c++) {
        chunk_fill(data, 0, c);
        guest_submit(vm, &d, VIRTIO_BLK_T_OUT, spread(c), data, &r);
        while (!guest_is_done(vm, &r)) {
            if (csv_vm_is(vm, "io-error")) {
                stops++;
                when_stopped(vm, opaque);
                qtest_qmp_assert_success(vm->qts, "{'execute': 'cont'}");
            }
        }
        guest_finish(vm, &d, &r, data);
    }
    for (unsigned c = 0; c < chunks; c++) {
        chunk_fill(expected, 0, c);
        guest_submit(vm, &d, VIRTIO_BLK_T_IN, spread(c), data, &r);
        guest_finish(vm, &d, &r, data);
        g_assert_cmpmem(data, CHUNK, expected, CHUNK);
    }
    guest_disk_close(vm, &d);
    guest_shutdown(vm);
    return stops;
}

/*
 * What the volume says
 */

/* @node_name: where the volume is when @qts has none of its disks open */
static CsvDiskState query_disk_from(QTestState *qts, const char *node_name,
                                 int nr)
{
    g_autofree char *name = g_strdup_printf("disk%d", nr);
    CsvDiskState ret = { .owner_pid = -1 };
    const QListEntry *disk, *e;
    QDict *rsp, *volume = NULL;
    bool found = false;

    if (node_name) {
        rsp = qtest_qmp(qts, "{'execute': 'query-csv-volumes',"
                        " 'arguments': {'node-name': %s}}", node_name);
    } else {
        rsp = qtest_qmp(qts, "{'execute': 'query-csv-volumes'}");
    }
    QLIST_FOREACH_ENTRY(qdict_get_qlist(rsp, "return"), e) {
        QDict *v = qobject_to(QDict, qlist_entry_obj(e));

        if (g_str_equal(qdict_get_try_str(v, "name") ?: "", "vol1")) {
            g_assert_null(volume);
            volume = v;
        }
    }
    g_assert_nonnull(volume);

    QLIST_FOREACH_ENTRY(qdict_get_qlist(volume, "disks"), disk) {
        QDict *d = qobject_to(QDict, qlist_entry_obj(disk));

        if (!g_str_equal(qdict_get_str(d, "name"), name)) {
            continue;
        }
        g_assert_false(found);
        found = true;
        pstrcpy(ret.state, sizeof(ret.state), qdict_get_str(d, "state"));
        ret.epoch = qdict_get_int(d, "epoch");
        if (qdict_haskey(d, "owner")) {
            ret.owner_pid = qdict_get_int(qdict_get_qdict(d, "owner"), "pid");
        }
    }
    g_assert_true(found);
    qobject_unref(rsp);
    return ret;
}

CsvDiskState csv_query_disk(CsvVm *vm, int nr)
{
    return query_disk_from(vm->qts, NULL, nr);
}

void csv_wait_for_handover(CsvScene *s)
{
    g_autofree char *args = g_strdup_printf(
        "-machine none -blockdev driver=file,node-name=volume,read-only=on,"
        "filename=%s", s->volume);
    QTestState *qts = qtest_init(args);
    gint64 end = g_get_monotonic_time() + CSV_TIMEOUT_US;

    for (int i = 0; i < s->disks; i++) {
        while (!g_str_equal(query_disk_from(qts, "volume", i).state,
                            "handover")) {
            g_assert_cmpint(g_get_monotonic_time(), <, end);
            g_usleep(10 * 1000);
        }
    }
    qtest_quit(qts);
}

