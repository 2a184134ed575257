/*
 * Migration pipeline: a channel to a guest's state
 *
 * Like migration/channel-block.c for vmstate: it reads and writes the stream
 * after the header, sequentially or, for memory, at any offset.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/iov.h"
#include "qom/object.h"
#include "state.h"

#define TYPE_QIO_CHANNEL_STATE "qio-channel-state"
OBJECT_DECLARE_SIMPLE_TYPE(QIOChannelState, QIO_CHANNEL_STATE)

struct QIOChannelState {
    QIOChannel parent;
    PipelineState *state;
    off_t at;                   /* position of the next read or write */
};

static ssize_t channel_state_do(QIOChannelState *c, bool write, off_t at,
                                const struct iovec *iov, size_t niov,
                                Error **errp)
{
    size_t len = iov_size(iov, niov);
    int ret = at < 0 ? -EINVAL :
              pipeline_state_io(c->state, write,
                                pipeline_state_header(c->state)->stream + at,
                                iov, niov);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "cannot %s the state '%s'",
                         write ? "write" : "read",
                         pipeline_state_name(c->state));
        return -1;
    }
    return len;
}

/* Sequential access */
static ssize_t channel_state_next(QIOChannel *ioc, bool write,
                                  const struct iovec *iov, size_t niov,
                                  Error **errp)
{
    QIOChannelState *c = QIO_CHANNEL_STATE(ioc);
    ssize_t len = channel_state_do(c, write, c->at, iov, niov, errp);

    c->at += MAX(len, 0);
    return len;
}

static ssize_t channel_state_readv(QIOChannel *ioc, const struct iovec *iov,
                                   size_t niov, int **fds, size_t *nfds,
                                   int flags, Error **errp)
{
    return channel_state_next(ioc, false, iov, niov, errp);
}

static ssize_t channel_state_writev(QIOChannel *ioc, const struct iovec *iov,
                                    size_t niov, int *fds, size_t nfds,
                                    int flags, Error **errp)
{
    return channel_state_next(ioc, true, iov, niov, errp);
}

static ssize_t channel_state_preadv(QIOChannel *ioc, const struct iovec *iov,
                                    size_t niov, off_t offset, Error **errp)
{
    return channel_state_do(QIO_CHANNEL_STATE(ioc), false, offset, iov, niov,
                            errp);
}

static ssize_t channel_state_pwritev(QIOChannel *ioc, const struct iovec *iov,
                                     size_t niov, off_t offset, Error **errp)
{
    return channel_state_do(QIO_CHANNEL_STATE(ioc), true, offset, iov, niov,
                            errp);
}

static off_t channel_state_seek(QIOChannel *ioc, off_t offset, int whence,
                                Error **errp)
{
    QIOChannelState *c = QIO_CHANNEL_STATE(ioc);
    off_t from = whence == SEEK_CUR ? c->at : 0;

    if (whence == SEEK_END || offset < -from) {
        error_setg(errp, "no such place in the state '%s'",
                   pipeline_state_name(c->state));
        return -1;
    }
    return c->at = from + offset;
}

static int channel_state_set_blocking(QIOChannel *ioc, bool enabled,
                                      Error **errp)
{
    return 0;                   /* It always blocks, but not for long. */
}

static int channel_state_close(QIOChannel *ioc, Error **errp)
{
    QIOChannelState *c = QIO_CHANNEL_STATE(ioc);

    pipeline_state_unref(g_steal_pointer(&c->state));
    return 0;
}

static void channel_state_finalize(Object *obj)
{
    channel_state_close(QIO_CHANNEL(obj), NULL);
}

static void channel_state_class_init(ObjectClass *klass, void *data)
{
    QIOChannelClass *ioc = QIO_CHANNEL_CLASS(klass);

    ioc->io_readv = channel_state_readv;
    ioc->io_writev = channel_state_writev;
    ioc->io_preadv = channel_state_preadv;
    ioc->io_pwritev = channel_state_pwritev;
    ioc->io_seek = channel_state_seek;
    ioc->io_set_blocking = channel_state_set_blocking;
    ioc->io_close = channel_state_close;
}

static const TypeInfo channel_state_info = {
    .parent = TYPE_QIO_CHANNEL,
    .name = TYPE_QIO_CHANNEL_STATE,
    .instance_size = sizeof(QIOChannelState),
    .instance_finalize = channel_state_finalize,
    .class_init = channel_state_class_init,
};

static void channel_state_register(void)
{
    type_register_static(&channel_state_info);
}

type_init(channel_state_register);

QIOChannel *pipeline_state_channel(PipelineState *state)
{
    QIOChannelState *c =
        QIO_CHANNEL_STATE(object_new(TYPE_QIO_CHANNEL_STATE));

    c->state = pipeline_state_ref(state);
    qio_channel_set_feature(QIO_CHANNEL(c), QIO_CHANNEL_FEATURE_SEEKABLE);
    qio_channel_set_name(QIO_CHANNEL(c), "migration-state");
    return QIO_CHANNEL(c);
}
