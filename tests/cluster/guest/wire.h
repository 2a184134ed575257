/*
 * What the guest's agent and the client's probe say to each other
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef CLUSTER_WIRE_H
#define CLUSTER_WIRE_H

#include <stdint.h>
#include <time.h>

enum {
    PORT_UDP = 7001,            /* datagram echo, with the guest's clock */
    PORT_TCP = 7002,            /* stream echo */
    PORT_COMMAND = 7003,        /* one shell command a connection */
};

#define PROBE_MAGIC 0x70637371u

/* One datagram of the probe; the guest fills in the second half. */
typedef struct Probe {
    uint32_t magic;
    uint32_t stream;            /* which sender, so that two do not mix */
    uint64_t seq;
    uint64_t sent_ns;           /* the client's CLOCK_MONOTONIC */
    uint64_t guest_ns;          /* the guest's CLOCK_MONOTONIC_RAW */
    uint64_t durable;           /* last disk record that fsync() returned for */
    uint64_t tick;              /* count of the guest's 1 ms loop */
} Probe;

static inline uint64_t clock_ns(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

#endif
