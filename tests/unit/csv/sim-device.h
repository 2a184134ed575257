/*
 * A block device in memory, for crash tests
 *
 * The driver "csv-sim" is a device with a volatile write cache. It keeps a
 * trace of what happens to it. Walking over the trace, a test makes the states
 * in which a power loss may leave the device: what a completed flush covers is
 * there, and of the rest any choice of sectors. All changes can be undone, so
 * that a state costs only what differs.
 *
 * All nodes of the driver reach the one device that is there; each is a way of
 * its own, with its own liveness locks. Main thread only.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_CSV_SIM_DEVICE_H
#define TESTS_UNIT_CSV_SIM_DEVICE_H

#include "block/block.h"

#define SIM_SECTOR 512

typedef enum SimEventKind {
    SIM_WRITE,          /* sectors got into the cache */
    SIM_WRITE_DONE,     /* ... and the writer knows; index: of SIM_WRITE */
    SIM_FLUSH,
    SIM_FLUSH_DONE,     /* index: of SIM_FLUSH */
    SIM_NOTE,           /* the test's own; index is anything */
} SimEventKind;

typedef struct SimEvent {
    SimEventKind kind;
    unsigned index;
    uint64_t sector;
    unsigned sectors;
    bool done;          /* of SIM_WRITE, while walking: writer knows */
    uint8_t *data;      /* NULL: zeroes */
    void *note;
} SimEvent;

/* How the device behaves; all zero: well and at once */
typedef struct SimFaults {
    unsigned delay;         /* requests of 100 that take a while */
    unsigned fail_write;    /* requests of 10000 that fail */
    unsigned fail_flush;
    bool lie_flush;         /* a flush does nothing and says it did */
    bool may_vanish;        /* nodes opened from now on: locks may vanish */
} SimFaults;

typedef struct SimTrace SimTrace;

/* The device has @size bytes of zeroes.  There is one at a time. */
void sim_device_new(uint64_t size);
void sim_device_free(void);
void sim_device_faults(const SimFaults *faults, uint64_t seed);

/*
 * Writes of @trace, events @first to @last, are on their way: they arrive when
 * the place of the last one, which is a write, has been read.  NULL: nothing.
 */
void sim_device_late(SimTrace *trace, unsigned first, unsigned last);

/*
 * The next compare-and-write is done, but reported as failed, and so is the
 * read after it: nobody can find out.
 */
void sim_device_hide_swap(void);

/* All liveness locks are gone, as those of a client that was cut off. */
void sim_device_drop_locks(void);

/*
 * The next write does not get into the cache, nor does its writer go on, until
 * it is let go.
 */
void sim_device_hold(void);
void sim_device_let_go(void);

/* A place to come back to: what is written later can be undone. */
size_t sim_mark(void);
void sim_undo(size_t mark);

/* Look at the device, and write it, past all caches.  Whole sectors. */
void sim_peek(uint64_t offset, void *buf, size_t bytes);
void sim_poke(uint64_t offset, const void *buf, size_t bytes);

/* Keep a trace from now on, beginning with an empty cache; and end it. */
void sim_trace_start(void);
SimTrace *sim_trace_stop(void);
/* Undo what happened since the trace began. */
void sim_trace_rewind(const SimTrace *trace);
void sim_trace_free(SimTrace *trace);
/* Add @note, to be freed with g_free(), to the trace if there is one. */
void sim_trace_note(void *note);
unsigned sim_trace_length(const SimTrace *trace);
const SimEvent *sim_trace_event(const SimTrace *trace, unsigned i);

/*
 * Walk over a trace, the device being as it was when the trace began.
 * sim_walk_step() lets event @i happen to the device, and returns whether the
 * states that a crash can leave have changed.  sim_walk_pending() is the
 * number of cached sectors; the one at an index may be kept or lost. Those of
 * a write are next to each other: sim_walk_writer() is the event's number.
 */
bool sim_walk_step(SimTrace *trace, unsigned i);
unsigned sim_walk_pending(const SimTrace *trace);
unsigned sim_walk_writer(const SimTrace *trace, unsigned pending);
/*
 * Make the state in which the pending sectors in @keep survive.  The device
 * tears a write between blocks of @block sectors; the first one decides.
 */
void sim_walk_crash(SimTrace *trace, const unsigned long *keep,
                    unsigned block);

/* A generator that gives the same on each machine */
uint64_t sim_random(uint64_t *state);

#endif
