/*
 * Disk hot-plug: what the answers of a guest's agent say
 *
 * Pure functions: what is in an answer may have been made to do harm.  Those
 * that fail say why, in words for the user.  Those that are given @ret, what a
 * command has returned, take that reference; if it is NULL they fail, and the
 * error is there already.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_DISK_AGENT_ANSWERS_H
#define HW_DISK_AGENT_ANSWERS_H

#include "qapi/qapi-types-disk.h"
#include "qobject/qobject.h"

/* A disk has not more file systems. */
#define DISK_AGENT_MOUNTS_MAX   256

/* Who a disk is, to its guest; see identity.h */
typedef struct DiskAgentTarget {
    DiskBus bus;
    const char *serial;
    uint64_t wwn;
} DiskAgentTarget;

/*
 * What the @len bytes of @line say that command @name has returned, a
 * reference; NULL and an error if that is an error, or no answer at all.  A
 * zero byte follows @line.
 */
QObject *agent_answer_parse(const char *name, const char *line, size_t len,
                            Error **errp);

/* The same, when it does not matter what that is */
bool agent_answer_is_good(const char *name, const char *line, size_t len,
                          Error **errp);

/* Is this the answer of a command that has returned @number? */
bool agent_answer_is_number(const char *line, size_t len, int64_t number);

/* Where the guest has mounted a disk */
typedef struct AgentMounts {
    GPtrArray *paths;           /* of char *, which it owns */
    unsigned devices;           /* so many partitions, or so, are mounted */
} AgentMounts;

void agent_mounts_free(AgentMounts *mounts);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AgentMounts, agent_mounts_free)

/* Of guest-get-fsinfo: those of @target, to be freed; NULL and an error */
AgentMounts *agent_answer_mounts(QObject *ret, const DiskAgentTarget *target,
                                 Error **errp);

/* What is mounted on something that is mounted goes before that. */
void agent_mounts_deepest_first(AgentMounts *mounts);

/* Of guest-fsfreeze-freeze-list: true: as many as there are @devices */
bool agent_answer_frozen(QObject *ret, unsigned devices, Error **errp);

/* Of guest-exec */
bool agent_answer_pid(QObject *ret, int64_t *pid, Error **errp);

/*
 * Of guest-exec-status: *@exited says whether the program has ended.  If it has
 * failed, there is an error with what it has said.
 */
bool agent_answer_exited(QObject *ret, bool *exited, Error **errp);

/* A text of the guest, short and on one line, for people; to be freed */
char *agent_text(const char *text);

#endif /* HW_DISK_AGENT_ANSWERS_H */
