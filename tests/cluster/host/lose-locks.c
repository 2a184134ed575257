/*
 * A host that loses its locks on a file, and goes on (LD_PRELOAD)
 *
 * The file LOSE_LOCKS_FILE is on NFS, as far as the process can see.  With
 * SIGUSR2 its liveness locks are gone, as if the server had not heard from the
 * client for a while and dropped them; it gives none until SIGWINCH.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define NFS 0x6969
#define LOCKS (INT64_C(1) << 61)        /* block/file-posix.c */

static struct stat file;
static volatile sig_atomic_t lock_fd = -1;
static volatile sig_atomic_t lost;
static __typeof__(&fcntl64) next_fcntl;
static __typeof__(&fstatfs64) next_fstatfs;

static void lose_or_find(int sig)
{
    struct flock64 all = {
        .l_type = F_UNLCK, .l_start = LOCKS, .l_len = LOCKS,
    };
    int saved = errno;

    lost = sig == SIGUSR2;
    if (lost && lock_fd >= 0) {
        next_fcntl(lock_fd, F_OFD_SETLK, &all);
    }
    errno = saved;
}

static void __attribute__((constructor)) begin(void)
{
    const char *path = getenv("LOSE_LOCKS_FILE");
    struct sigaction action = { .sa_handler = lose_or_find, .sa_flags = SA_RESTART };

    next_fcntl = (__typeof__(next_fcntl))dlsym(RTLD_NEXT, "fcntl64");
    next_fstatfs = (__typeof__(next_fstatfs))dlsym(RTLD_NEXT, "fstatfs64");
    if (!path || stat(path, &file) < 0 || !next_fcntl || !next_fstatfs) {
        fprintf(stderr, "lose-locks: no file, or an unknown C library\n");
        exit(125);
    }
    sigaction(SIGWINCH, &action, NULL);
    sigaction(SIGUSR2, &action, NULL);
}

static int ours(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && st.st_dev == file.st_dev &&
           st.st_ino == file.st_ino;
}

/* A library is called with the one or the other. */
#define FCNTL(name)                                                     \
    EXPORT int name(int fd, int command, ...)                           \
    {                                                                   \
        struct flock64 *fl;                                             \
        va_list args;                                                   \
                                                                        \
        va_start(args, command);                                        \
        fl = va_arg(args, void *);                                      \
        va_end(args);                                                   \
        if (command == F_OFD_SETLK && fl->l_type == F_WRLCK &&          \
            fl->l_start >= LOCKS && fl->l_start < 2 * LOCKS) {          \
            if (lost) {                                                 \
                errno = ENOLCK;                                         \
                return -1;                                              \
            }                                                           \
            lock_fd = fd;                                               \
        }                                                               \
        return next_fcntl(fd, command, fl);                             \
    }

FCNTL(fcntl)
FCNTL(fcntl64)

/* On 64-bit machines both have the same structure. */
EXPORT int fstatfs64(int fd, struct statfs64 *buf)
{
    int ret = next_fstatfs(fd, buf);

    if (ret == 0 && ours(fd)) {
        buf->f_type = NFS;
    }
    return ret;
}

EXPORT int fstatfs(int fd, struct statfs *buf)
{
    _Static_assert(sizeof(struct statfs) == sizeof(struct statfs64), "");
    return fstatfs64(fd, (struct statfs64 *)buf);
}
