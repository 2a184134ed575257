/*
 * Migration pipeline: multifd that compresses where that pays
 *
 * A packet of multifd says in its flags how it was made.  With QEMU's own
 * methods all packets are of one kind; here each is of the kind that choice.h
 * finds.  Both sides must have agreed on it (hello.h).
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef MIGRATION_PIPELINE_ADAPTIVE_H
#define MIGRATION_PIPELINE_ADAPTIVE_H

#include "migration/multifd.h"

/* Whether this build can.  Main thread. */
bool migration_adaptive_available(void);

/*
 * Both sides, main thread: use it from the next set-up of multifd on, and if
 * so, deltas (delta.h) as well?
 */
void migration_adaptive_set(bool on, bool delta);

/*
 * Bytes a second that all channels together get through, as the kernel saw it
 * when each asked last; 0 if that is not known of one of them.  Any thread.
 */
double migration_adaptive_link_rate(void);

/* It was waited until all is there, and not for pages.  Any thread */
void migration_adaptive_paused(void);

/*
 * What multifd is to use in place of what it would have taken from @ops, which
 * is indexed by MultiFDCompression; NULL if not that.
 */
const MultiFDMethods *migration_adaptive_ops(const MultiFDMethods **ops);

/* Do not use it any more.  Pages stay counted.  Main thread. */
void migration_adaptive_stop(void);

/* Pages sent in each way, since migration_adaptive_set().  Any thread */
void migration_adaptive_pages(uint64_t *raw, uint64_t *compressed,
                              uint64_t *deltas);

#endif /* MIGRATION_PIPELINE_ADAPTIVE_H */
