/*
 * Disk hot-plug: parsing the answers of a guest agent
 *
 * Pure functions; an answer may be malicious.  Errors are worded for the user.
 * Functions with @ret, the return value of a command, take that reference; if
 * it is NULL they fail, and the error is already set.
 *
 * Copyright (c) 2026 The qemu-csv developers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef HW_DISK_AGENT_ANSWERS_H
#define HW_DISK_AGENT_ANSWERS_H

#include "qapi/qapi-types-disk.h"
#include "qobject/qobject.h"

/* Maximum number of file systems on a disk */
#define DISK_AGENT_MOUNTS_MAX   256

/* Identity of a disk in its guest; see identity.h */
typedef struct DiskAgentTarget {
    DiskBus bus;
    const char *serial;
    uint64_t wwn;
} DiskAgentTarget;

/*
 * Parse the @len bytes of @line, the answer to command @name: its return value,
 * a reference; NULL and an error if it is an error, or not an answer.  A zero
 * byte follows @line.
 */
QObject *agent_answer_parse(const char *name, const char *line, size_t len,
                            Error **errp);

/* The same, ignoring the return value */
bool agent_answer_is_good(const char *name, const char *line, size_t len,
                          Error **errp);

/* Is this an answer with the return value @number? */
bool agent_answer_is_number(const char *line, size_t len, int64_t number);

/* Mount points of a disk in the guest */
typedef struct AgentMounts {
    GPtrArray *paths;           /* of char *, which it owns */
    unsigned devices;           /* number of mounted partitions or the like */
} AgentMounts;

void agent_mounts_free(AgentMounts *mounts);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AgentMounts, agent_mounts_free)

/* guest-get-fsinfo: mounts of @target, to be freed; or NULL and an error */
AgentMounts *agent_answer_mounts(QObject *ret, const DiskAgentTarget *target,
                                 Error **errp);

/* Sort nested mounts before those that they are mounted on. */
void agent_mounts_deepest_first(AgentMounts *mounts);

/* guest-fsfreeze-freeze-list: true if all @devices were frozen */
bool agent_answer_frozen(QObject *ret, unsigned devices, Error **errp);

/* guest-exec */
bool agent_answer_pid(QObject *ret, int64_t *pid, Error **errp);

/*
 * guest-exec-status: *@exited is whether the program has ended.  If it has
 * failed, the error has its output.
 */
bool agent_answer_exited(QObject *ret, bool *exited, Error **errp);

/* A text from the guest, shortened to one line for the user; to be freed */
char *agent_text(const char *text);

#endif /* HW_DISK_AGENT_ANSWERS_H */
