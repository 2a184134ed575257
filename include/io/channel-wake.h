/*
 * I/O channels: wake up a coroutine that waits to write
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef QIO_CHANNEL_WAKE_H
#define QIO_CHANNEL_WAKE_H

#include "block/aio.h"
#include "io/channel.h"
#include "qemu/atomic.h"

/*
 * If qio_channel_yield() is waiting for the channel to become writable,
 * interrupt it, as qio_channel_wake_read() does for readers.  Any thread.
 *
 * A full Unix socket does not become writable when its peer is gone, or when it
 * is shut down: the kernel only reports a hang-up, for which an AioContext does
 * not call the write handler.
 */
static inline void qio_channel_wake_write(QIOChannel *ioc)
{
    Coroutine *co = qatomic_xchg(&ioc->write_coroutine, NULL);

    if (co) {
        aio_co_wake(co);
    }
}

#endif /* QIO_CHANNEL_WAKE_H */
