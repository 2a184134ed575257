/*
 * Disk hot-plug: what its qtests say to QEMU, and what they hear
 *
 * Everything is asserted: what these functions do not return has happened, or
 * the test has failed.  What they return is to be freed.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_DISK_SCENE_H
#define TESTS_QTEST_DISK_SCENE_H

#include "libqtest.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"

/* Only for failures: so long may anything take that is waited for. */
#define DISK_TIMEOUT_US     (30 * G_TIME_SPAN_SECOND)
/* How long to sleep between two looks */
#define DISK_ROUND_US       1000

/* A disk that nothing is in, on a node called so */
#define NULL_NODE(name) "'blockdev': {'driver': 'null-co', " \
                        "'node-name': '" name "'}"
/* One whose requests can be held up, or fail; @more: as with disk_detach() */
#define DEBUG_NODE(name, more) \
    "'blockdev': {'driver': 'raw', 'node-name': '" name "', 'file': " \
    "{'driver': 'blkdebug', 'image': {'driver': 'null-co'}" more "}}"
/* One that is slow: each request takes so many ms. */
#define SLOW_NODE(name, ms) "'blockdev': {'driver': 'null-co', 'node-name': '" \
                            name "', 'latency-ns': " #ms "000000}"

/* Any command */

/* Its arguments are the members of a JSON object; it fails, and says @why. */
void disk_error(QTestState *qts, const char *command, const char *args,
                const char *why);

/* The list that a query command without arguments returns, or its length */
QList *disk_query(QTestState *qts, const char *command);
unsigned disk_count(QTestState *qts, const char *command);

/* Do what is said on the human monitor; it has nothing to say about that. */
void G_GNUC_PRINTF(2, 3) disk_hmp(QTestState *qts, const char *fmt, ...);

/* What there is */

/* How much of all that an attach can make */
unsigned disk_count_all(QTestState *qts);
unsigned disk_open_files(QTestState *qts);
unsigned disk_memory_kb(QTestState *qts);

/* What query-disk-slots says of @place: "free" or "quarantined" */
unsigned disk_slots(QTestState *qts, const char *place, const char *what);

/* Attach; @spec: members of a DiskSpec */

/* The whole answer: return or error */
QDict *disk_attach(QTestState *qts, const char *spec);
/* What was returned */
QDict *disk_attached(QTestState *qts, const char *spec);
void disk_refused(QTestState *qts, const char *spec, const char *why);
/* It has to wait. */
void disk_attach_waits(QTestState *qts, const char *spec);
/* The end of that, which is to come: a state, and a reason, or NULL */
void disk_attach_ends(QTestState *qts, const char *id, const char *state,
                      const char *reason);

/* Detach; @more: further arguments, each with a comma before it, or "" */

void disk_detach(QTestState *qts, const char *id, const char *more);
void disk_detach_error(QTestState *qts, const char *id, const char *more,
                       const char *why);

/* What query-disk-detach says of @id, the last time that it was detached */
QDict *disk_detach_info(QTestState *qts, const char *id);
/* A number of that, or whether something is true */
int64_t disk_detach_get(QTestState *qts, const char *id, const char *what);

/* Wait for a state, and, if it is given, a @reason that has that in it. */
void disk_wait(QTestState *qts, const char *id, const char *state,
               const char *reason);
/* Wait until that number is at least @least. */
void disk_wait_get(QTestState *qts, const char *id, const char *what,
                   int64_t least);
/* Wait until there are no more than @left disks. */
void disk_wait_gone(QTestState *qts, unsigned left);

/* Note what DISK_DETACH_STATUS says from now on, of one machine at a time. */
void disk_listen(QTestState *qts);
/*
 * The states of @id that were told since this was asked last, with spaces in
 * between, are these.
 */
void disk_assert_told(QTestState *qts, const char *id, const char *states);

#endif /* TESTS_QTEST_DISK_SCENE_H */
