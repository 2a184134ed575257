/*
 * Unit tests of disk hot-plug: a guest's agent
 *
 * It is at the other end of a pair of sockets, in the same main loop: it
 * answers each command as the test says, and notes what it was told.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_UNIT_DISK_FAKE_AGENT_H
#define TESTS_UNIT_DISK_FAKE_AGENT_H

#include "hw/disk/agent.h"

/* Who the disk is that it is asked about */
#define SERIAL      "9a9514458210491eaf6b"
#define WWN         0x39a9514458210491ull
/* udev's ID_SERIAL of that disk */
#define ID_SERIAL   "339a9514458210491"

/* What it answers */
#define FS(name, path, serial) "{\"name\": \"" name "\", \"mountpoint\": \"" \
    path "\", \"type\": \"ext4\", \"disk\": [{\"serial\": \"" serial \
    "\", \"bus-type\": \"scsi\"}]}"
#define RETURN(what)    "{\"return\": " what "}\n"
#define ERROR(why)  "{\"error\": {\"class\": \"GenericError\", \"desc\": \"" \
                    why "\"}}\n"
/* In place of an answer */
#define SILENCE     ""
#define HANG_UP     "hang up"

typedef struct Fake {
    int fd;                     /* -1: nobody is connected */
    GString *in;
    GString *told;              /* commands, with a space between */
    GHashTable *answers;        /* of commands, other than the usual ones */
    const char *before_sync;    /* what is sent first */
    unsigned opened, closed, freed;
    unsigned opens_max;
    bool lost;
    bool held, may_hold;
    DiskAgent *agent;           /* the session */
} Fake;

/* One that has the disk on /hot, to which one can connect twice */
Fake *fake_new(void);

/* From now on, it answers command @name like that. */
void fake_set(Fake *f, const char *name, const char *answer);

void fake_send(Fake *f, const char *text, size_t len);

/* Begin a session. */
void fake_start(Fake *f, DiskDetachAgent how, int64_t limit_ms);

/* Run until it was told so much; then that is it. */
void fake_wait_told(Fake *f, const char *told);

/* Wait for the outcome, which says @why if that is not NULL. */
void fake_expect(Fake *f, DiskAgentOutcome outcome, const char *why);

/* Run until nothing is left of the session, which disk_agent_leave() ends. */
void fake_wait_freed(Fake *f);

/* End the session, and free @f, which was told that if it is not NULL. */
void fake_end(Fake *f, const char *told);

#endif /* TESTS_UNIT_DISK_FAKE_AGENT_H */
