/*
 * A cluster shared volume, QEMU processes that share it, and their guests'
 * disk drivers: what the qtests of the csv driver have in common
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_CSV_VM_H
#define TESTS_QTEST_CSV_VM_H

#include "libqtest.h"
#include "libqos/pci.h"
#include "qemu/units.h"

#define CSV_DISK_MB         64
#define CSV_RAM_MB          64
#define CSV_TIMEOUT_US      (60 * G_TIME_SPAN_SECOND)

typedef struct CsvVm {
    QTestState *qts;
    pid_t pid;
    /* While the guest's drivers are at work */
    QGuestAllocator alloc;
    QPCIBus *bus;
} CsvVm;

/* A volume in a file, and what has been written to the disks in it */
typedef struct CsvScene {
    char *dir;
    char *volume;
    char *socket;               /* for migrations */
    int disks;
    const char *device;         /* options of the devices, or NULL */
    unsigned chunks;            /* written to each disk */
} CsvScene;

/* What the volume says about a disk */
typedef struct CsvDiskState {
    char state[16];
    int64_t epoch;
    int64_t owner_pid;          /* -1 when there is no owner */
} CsvDiskState;

/* Run qemu-img and insist on success */
void G_GNUC_PRINTF(1, 2) csv_qemu_img(const char *fmt, ...);

/*
 * Free @rsp, an answer to a command.  Without @want it must be a success, else
 * a GenericError that contains @want.
 */
void csv_expect(QDict *rsp, const char *want);

/*
 * Wait until job @id, the only one, is concluded, and dismiss it.  Returns its
 * error, to be freed; NULL: it succeeded, and reported all its progress.
 */
char *csv_finish_job(QTestState *qts, const char *id);

/* A new volume "vol1" with disks "disk0", "disk1", ... */
void csv_scene_init(CsvScene *s, int disks);
void csv_scene_cleanup(CsvScene *s);

/* A process with all disks of the volume, on nodes and devices d0, vd0, ... */
CsvVm *csv_vm_start(CsvScene *s, const char *extra);

/* One that waits for a migration on the scene's socket */
CsvVm *csv_vm_start_incoming(CsvScene *s, const char *extra);

/* These free @vm: asked to quit; killed; known to give up with an error */
void csv_vm_quit(CsvVm *vm);
void csv_vm_kill(CsvVm *vm);
void csv_vm_wait_failed(CsvVm *vm);

void csv_vm_signal(CsvVm *vm, int sig);

/* Is @vm in, or does it come to, this run state? */
bool csv_vm_is(CsvVm *vm, const char *runstate);
void csv_vm_wait(CsvVm *vm, const char *runstate);

/*
 * In the guest on @vm, read all that was ever written, and write some more,
 * flushed every other time: also what was not flushed must survive a move.
 */
void csv_guest_use_disks(CsvScene *s, CsvVm *vm);

/*
 * In the guest on @vm, write @chunks places of disk 0, each in a cluster of
 * its own, and read them all.  When QEMU stops the guest for want of space,
 * @when_stopped makes some, and the guest goes on.  Returns how often.
 */
unsigned csv_guest_fill_disk(CsvVm *vm, unsigned chunks,
                             void (*when_stopped)(CsvVm *vm, void *opaque),
                             void *opaque);

/* What @vm reads from the volume about disk @nr */
CsvDiskState csv_query_disk(CsvVm *vm, int nr);

/*
 * Wait until all disks are between two owners. Neither side is asked: the
 * source answers no command then if it has to wait for the destination.
 */
void csv_wait_for_handover(CsvScene *s);

#endif /* TESTS_QTEST_CSV_VM_H */
