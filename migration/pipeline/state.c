/*
 * Migration pipeline: a guest's state in its volume
 *
 * The state has its own nodes and its own thread.  So it is accessible while
 * the guest's disks are inactive, and a page can be read while the main loop,
 * or a thread of the guest's disks, is waiting for that very page.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "block/aio-wait.h"
#include "block/block-io.h"
#include "block/block_int.h"
#include "block/csv.h"
#include "block/graph-lock.h"
#include "block/qdict.h"
#include "qapi/error.h"
#include "qapi/qapi-types-block-core.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/memalign.h"
#include "qobject/qdict.h"
#include "system/iothread.h"
#include "state.h"

#define STATE_SUFFIX    ".state"
#define STATE_ALIGN     4096

struct PipelineState {
    unsigned refs;              /* atomic */
    bool drop;                  /* atomic */
    unsigned drained;           /* atomic: number of drained sections */
    char *name;
    StateHeader header;
    IOThread *iothread;
    BlockDriverState *volume;   /* our own node of the guest's volume */
    BdrvChild *disk;            /* NULL while it is not open */
};

const StateHeader *pipeline_state_header(const PipelineState *state)
{
    return &state->header;
}

const char *pipeline_state_name(const PipelineState *state)
{
    return state->name;
}

/* No BlockBackend, since bdrv_inactivate_all() would inactivate it. */

static char *state_parent_desc(BdrvChild *c)
{
    PipelineState *state = c->opaque;

    return g_strdup_printf("saved state '%s'", state->name);
}

static AioContext *state_parent_aio_context(BdrvChild *c)
{
    PipelineState *state = c->opaque;

    return iothread_get_aio_context(state->iothread);
}

/*
 * Requests are not held: a drained disk of the guest may be waiting for a page
 * that only these can provide.
 */
static void state_parent_drained_begin(BdrvChild *c)
{
    PipelineState *state = c->opaque;

    qatomic_inc(&state->drained);
}

static void state_parent_drained_end(BdrvChild *c)
{
    PipelineState *state = c->opaque;

    qatomic_dec(&state->drained);
}

bool pipeline_state_is_drained(PipelineState *state)
{
    return qatomic_read(&state->drained);
}

static const BdrvChildClass child_state = {
    .get_parent_desc = state_parent_desc,
    .get_parent_aio_context = state_parent_aio_context,
    .drained_begin = state_parent_drained_begin,
    .drained_end = state_parent_drained_end,
    .stay_at_node = true,
};

static QDict *state_volume_options(BlockDriverState *node)
{
    QDict *options;

    GRAPH_RDLOCK_GUARD_MAINLOOP();

    bdrv_refresh_filename(node);
    options = qdict_clone_shallow(node->full_open_options);
    qdict_flatten(options);     /* those of the nodes below, too */
    return options;
}

/* Open the volume of @node a second time. */
static BlockDriverState *state_open_volume(BlockDriverState *node,
                                           Error **errp)
{
    return bdrv_open(NULL, NULL, state_volume_options(node),
                     BDRV_O_RDWR | BDRV_O_RESIZE |
                     (node->open_flags & (BDRV_O_NOCACHE |
                                          BDRV_O_NATIVE_AIO)), errp);
}

static void state_close_disk(PipelineState *state)
{
    if (!state->disk) {
        return;
    }
    /*
     * Let requests end before the graph is locked for writing: one that waits
     * for that lock would never end, and closing waits for all of them.
     */
    bdrv_drained_begin(state->volume);
    bdrv_graph_wrlock();
    bdrv_root_unref_child(g_steal_pointer(&state->disk));
    bdrv_graph_wrunlock();
    bdrv_drained_end(state->volume);
}

static bool state_open_disk(PipelineState *state, Error **errp)
{
    QDict *options = qdict_new();
    BlockDriverState *bs;

    qdict_put_str(options, "driver", "csv");
    qdict_put_str(options, "file", bdrv_get_node_name(state->volume));
    qdict_put_str(options, "disk", state->name);
    bs = bdrv_open(NULL, NULL, options, BDRV_O_RDWR, errp);
    if (!bs) {
        return false;
    }
    bdrv_graph_wrlock();
    state->disk = bdrv_root_attach_child(bs, "state", &child_state,
                                         BDRV_CHILD_DATA,
                                         BLK_PERM_CONSISTENT_READ |
                                         BLK_PERM_WRITE, BLK_PERM_ALL, state,
                                         errp);
    bdrv_graph_wrunlock();
    return state->disk;
}

typedef struct StateMake {
    BlockdevCreateOptions options;
    Error **errp;
    bool done;
} StateMake;

static void coroutine_fn state_co_make(void *opaque)
{
    StateMake *make = opaque;

    bdrv_find_format("csv")->bdrv_co_create(&make->options, make->errp);
    make->done = true;
    aio_wait_kick();
}

static bool state_make_disk(PipelineState *state, Error **errp)
{
    ERRP_GUARD();
    BlockdevRef file = {
        .type = QTYPE_QSTRING,
        .u.reference = (char *)bdrv_get_node_name(state->volume),
    };
    StateMake make = {
        .options = {
            .driver = BLOCKDEV_DRIVER_CSV,
            .u.csv = {
                .file = &file,
                .disk = state->name,
                .size = ROUND_UP(state->header.memory, STATE_STREAM) +
                        STATE_STREAM + STATE_ROOM,
            },
        },
        .errp = errp,
    };

    qemu_coroutine_enter(qemu_coroutine_create(state_co_make, &make));
    AIO_WAIT_WHILE_UNLOCKED(NULL, !make.done);
    return !*errp;
}

static void state_free(PipelineState *state)
{
    Error *err = NULL;

    state_close_disk(state);
    if (state->drop) {
        csv_delete_disk(state->volume, state->name, &err);
    }
    if (err) {
        warn_reportf_err(err, "the state '%s' of a guest is of no use any "
                         "more, and cannot be deleted: ", state->name);
    }
    bdrv_unref(state->volume);
    if (state->iothread) {
        iothread_destroy(state->iothread);
    }
    g_free(state->name);
    g_free(state);
}

/* Open the volume, but not the disk. */
static PipelineState *state_new(const char *name, Error **errp)
{
    PipelineState *state;
    BlockDriverState *node;
    const char *disk;
    QemuUUID uuid;

    if (!csv_first_disk(&disk, &uuid, &node)) {
        error_setg(errp, "no disk of the guest is in a cluster shared volume, "
                   "where its state could be");
        return NULL;
    }
    state = g_new0(PipelineState, 1);
    state->refs = 1;
    state->header.disk = uuid;
    state->name = name ? g_strdup(name) : g_strconcat(disk, STATE_SUFFIX, NULL);
    state->iothread = iothread_create("pipeline-state", errp);
    state->volume = state->iothread ? state_open_volume(node, errp) : NULL;
    if (!state->volume) {
        state_free(state);
        return NULL;
    }
    return state;
}

/* A request: the caller waits, a coroutine in the state's thread works. */
typedef struct StateIo {
    BdrvChild *disk;
    bool write, flush;
    uint64_t offset;
    QEMUIOVector qiov;
    int ret;
    QemuEvent done;
} StateIo;

static void coroutine_fn state_co_io(void *opaque)
{
    StateIo *io = opaque;

    WITH_GRAPH_RDLOCK_GUARD() {
        if (io->flush) {
            io->ret = bdrv_co_flush(io->disk->bs);
        } else if (io->write) {
            io->ret = bdrv_co_pwritev(io->disk, io->offset, io->qiov.size,
                                      &io->qiov, 0);
        } else {
            io->ret = bdrv_co_preadv(io->disk, io->offset, io->qiov.size,
                                     &io->qiov, 0);
        }
    }
    qemu_event_set(&io->done);
}

static int state_run(PipelineState *state, StateIo *io)
{
    io->disk = state->disk;
    qemu_event_init(&io->done, false);
    aio_co_schedule(iothread_get_aio_context(state->iothread),
                    qemu_coroutine_create(state_co_io, io));
    qemu_event_wait(&io->done);
    qemu_event_destroy(&io->done);
    return io->ret;
}

static int state_flush(PipelineState *state)
{
    StateIo io = { .flush = true };

    return state_run(state, &io);
}

int pipeline_state_io(PipelineState *state, bool write, uint64_t offset,
                      const struct iovec *iov, size_t niov)
{
    StateIo io = { .write = write, .offset = offset };

    qemu_iovec_init_external(&io.qiov, (struct iovec *)iov, niov);
    return state_run(state, &io);
}

/* Read the header of the open disk. */
static bool state_read_header(PipelineState *state, StateHeader *header,
                              Error **errp)
{
    QEMU_AUTO_VFREE uint8_t *buf = qemu_memalign(STATE_ALIGN,
                                                 STATE_HEADER_SIZE);
    struct iovec iov = { buf, STATE_HEADER_SIZE };
    int64_t size = bdrv_getlength(state->disk->bs);
    int ret = size < 0 ? size : pipeline_state_io(state, false, 0, &iov, 1);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "it cannot be read");
        return false;
    }
    if (!pipeline_state_decode(buf, size, header, errp)) {
        return false;
    }
    if (!qemu_uuid_is_equal(&header->disk, &state->header.disk)) {
        error_setg(errp, "it is that of another guest, whose first disk is "
                   "not ours");
        return false;
    }
    return true;
}

/* Write and flush the header. */
static int state_write_header(PipelineState *state)
{
    QEMU_AUTO_VFREE uint8_t *buf = qemu_memalign(STATE_ALIGN,
                                                 STATE_HEADER_SIZE);
    struct iovec iov = { buf, STATE_HEADER_SIZE };
    int ret;

    pipeline_state_encode(&state->header, buf);
    ret = pipeline_state_io(state, true, 0, &iov, 1);
    return ret < 0 ? ret : state_flush(state);
}

/* Was nothing ever written to it, because its creation was interrupted? */
static bool state_is_blank(PipelineState *state)
{
    BlockDriverState *bs = state->disk->bs;
    int64_t size = bdrv_getlength(bs), same = 0;

    return size > 0 && bdrv_is_allocated(bs, 0, size, &same) == 0 &&
           same == size;
}

/*
 * Remove an existing disk of that name, if it is a state of this guest, which
 * is running, so the state is useless.  False and an error if it is something
 * else.
 */
static bool state_clear_way(PipelineState *state, Error **errp)
{
    ERRP_GUARD();
    StateHeader header;

    if (!state_open_disk(state, NULL)) {
        /* Creating one has the better error message. */
        return true;
    }
    if (!state_is_blank(state) && !state_read_header(state, &header, errp)) {
        error_prepend(errp, "disk '%s' is in the place of the guest's state: ",
                      state->name);
        error_append_hint(errp, "Choose another name with 'state', or delete "
                          "it with csv-disk-delete.\n");
        return false;
    }
    state_close_disk(state);
    return csv_delete_disk(state->volume, state->name, errp);
}

PipelineState *pipeline_state_create(const char *name, uint64_t memory,
                                     Error **errp)
{
    ERRP_GUARD();
    PipelineState *state = state_new(name, errp);
    int ret;

    if (!state) {
        return NULL;
    }
    state->header.incompatible = STATE_MAKING;
    state->header.stream = STATE_STREAM;
    state->header.memory = memory;
    state->header.created = g_get_real_time() / G_USEC_PER_SEC;
    if (!state_clear_way(state, errp) || !state_make_disk(state, errp)) {
        state_free(state);
        return NULL;
    }
    state->drop = true;
    ret = state_open_disk(state, errp) ? state_write_header(state) : 0;
    if (ret < 0) {
        error_setg_errno(errp, -ret, "the state '%s' cannot be written",
                         state->name);
    }
    if (*errp) {
        state_free(state);
        return NULL;
    }
    state->drop = false;
    return state;
}

PipelineState *pipeline_state_open(const char *name, Error **errp)
{
    ERRP_GUARD();
    PipelineState *state = state_new(name, errp);

    if (!state) {
        return NULL;
    }
    if (!state_open_disk(state, errp)) {
        error_prepend(errp, "the guest's state cannot be opened: ");
    } else if (state_read_header(state, &state->header, errp) &&
               state->header.incompatible & STATE_MAKING) {
        error_setg(errp, "whoever began to save it has not come to the end");
    }
    if (*errp) {
        if (state->disk) {
            error_prepend(errp, "the guest cannot be restored from '%s': ",
                          state->name);
        }
        state_free(state);
        return NULL;
    }
    return state;
}

PipelineState *pipeline_state_ref(PipelineState *state)
{
    qatomic_inc(&state->refs);
    return state;
}

static void state_free_bh(void *opaque)
{
    state_free(opaque);
}

void pipeline_state_unref(PipelineState *state)
{
    if (!state || qatomic_fetch_dec(&state->refs) > 1) {
        return;
    }
    if (qemu_in_main_thread() && !qemu_in_coroutine()) {
        state_free(state);
    } else {
        aio_bh_schedule_oneshot(qemu_get_aio_context(), state_free_bh, state);
    }
}

void pipeline_state_drop(PipelineState *state)
{
    qatomic_set(&state->drop, true);
}

bool pipeline_state_finish(PipelineState *state, const QemuUUID *token,
                           Error **errp)
{
    int ret = state_flush(state);

    if (ret >= 0) {
        state->header.incompatible = 0;
        state->header.token = *token;
        ret = state_write_header(state);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "the state '%s' cannot be written",
                         state->name);
    }
    return ret >= 0;
}
