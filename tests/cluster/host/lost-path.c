/*
 * A path to the volume that can be lost (LD_PRELOAD)
 *
 * Stands between QEMU's file driver (aio=threads) and the C library, and looks
 * at each request on the file LOST_PATH_FILE: it is counted, and passes, fails
 * with EIO, or hangs, as the control file LOST_PATH_CONTROL says.  That can
 * change at a request with a given number, where the process may also be
 * killed.  lib/lostpath.py has the other end.
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
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define LOG_SIZE 65536
#define LARGE (64 * 1024)       /* bytes: memory rather than metadata */

enum { PASS, FAIL, HANG, LATE, KILL };

struct control {
    uint32_t mode;              /* PASS, FAIL or HANG */
    uint32_t at_stop;           /* what happens at request @stop */
    uint64_t stop;              /* 0: never */
    uint64_t count;             /* of requests so far */
    char log[LOG_SIZE];         /* the kind of each of them */
};

static struct control *control;
static struct stat file;

#define NEXT(f) ({                                      \
    static __typeof__(&f) next_;                        \
    if (!next_) {                                       \
        next_ = (__typeof__(&f))dlsym(RTLD_NEXT, #f);   \
    }                                                   \
    next_;                                              \
})

static void __attribute__((constructor)) begin(void)
{
    const char *path = getenv("LOST_PATH_CONTROL");
    const char *volume = getenv("LOST_PATH_FILE");
    int fd = path ? NEXT(open64)(path, O_RDWR | O_CLOEXEC) : -1;

    if (!volume || stat(volume, &file) < 0 || fd < 0) {
        fprintf(stderr, "lost-path: no volume or no control file\n");
        exit(125);
    }
    control = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED,
                   fd, 0);
    if (control == MAP_FAILED) {
        perror("lost-path: mmap");
        exit(125);
    }
    close(fd);
    /* What QEMU starts has nothing to do with the volume. */
    unsetenv("LD_PRELOAD");
}

static uint32_t mode(void)
{
    return __atomic_load_n(&control->mode, __ATOMIC_SEQ_CST);
}

/* What becomes of the next request: PASS, FAIL, or LATE: done, yet it fails */
static int request(char kind)
{
    uint64_t n = __atomic_add_fetch(&control->count, 1, __ATOMIC_SEQ_CST);

    if (n <= LOG_SIZE) {
        control->log[n - 1] = kind;
    }
    if (n == __atomic_load_n(&control->stop, __ATOMIC_SEQ_CST)) {
        uint32_t at_stop = control->at_stop;

        if (at_stop == KILL) {
            kill(getpid(), SIGKILL);
        }
        __atomic_store_n(&control->mode, at_stop == LATE ? FAIL : at_stop,
                         __ATOMIC_SEQ_CST);
        if (at_stop == LATE) {
            return LATE;
        }
    }
    while (mode() == HANG) {
        usleep(1000);
    }
    return mode();
}

static int ours(const struct stat *st)
{
    return control && st->st_dev == file.st_dev && st->st_ino == file.st_ino;
}

static int request_fd(int fd, char kind)
{
    struct stat st;

    return fstat(fd, &st) < 0 || !ours(&st) ? PASS : request(kind);
}

static int request_path(const char *path)
{
    struct stat st;

    return stat(path, &st) < 0 || !ours(&st) ? PASS : request('o');
}

/* CALL, unless the request on FD of that KIND fails */
#define DO(fd, kind, call) do {                         \
    int what_ = request_fd(fd, kind);                   \
    if (what_ == FAIL || (call, what_ == LATE)) {       \
        errno = EIO;                                    \
        return -1;                                      \
    }                                                   \
    return ret;                                         \
} while (0)

/* A function that does what NAME does, if the request on FD passes */
#define WRAP(type, name, args, fd, kind, params)        \
    EXPORT type name args                               \
    {                                                   \
        type ret = -1;                                  \
        DO(fd, kind, ret = NEXT(name) params);          \
    }

static char by_size(size_t len, char small, char large)
{
    return len < LARGE ? small : large;
}

static char by_sizes(const struct iovec *iov, int n, char small, char large)
{
    size_t len = 0;

    while (n-- > 0) {
        len += iov++->iov_len;
    }
    return by_size(len, small, large);
}

/* Where all files are large, each has two names. */
WRAP(ssize_t, pread, (int fd, void *buf, size_t len, off_t at), fd,
     by_size(len, 'r', 'R'), (fd, buf, len, at))
WRAP(ssize_t, pread64, (int fd, void *buf, size_t len, off_t at), fd,
     by_size(len, 'r', 'R'), (fd, buf, len, at))
WRAP(ssize_t, pwrite, (int fd, const void *buf, size_t len, off_t at), fd,
     by_size(len, 'w', 'W'), (fd, buf, len, at))
WRAP(ssize_t, pwrite64, (int fd, const void *buf, size_t len, off_t at), fd,
     by_size(len, 'w', 'W'), (fd, buf, len, at))
WRAP(ssize_t, preadv, (int fd, const struct iovec *iov, int n, off_t at), fd,
     by_sizes(iov, n, 'r', 'R'), (fd, iov, n, at))
WRAP(ssize_t, preadv64, (int fd, const struct iovec *iov, int n, off_t at), fd,
     by_sizes(iov, n, 'r', 'R'), (fd, iov, n, at))
WRAP(ssize_t, pwritev, (int fd, const struct iovec *iov, int n, off_t at), fd,
     by_sizes(iov, n, 'w', 'W'), (fd, iov, n, at))
WRAP(ssize_t, pwritev64, (int fd, const struct iovec *iov, int n, off_t at), fd,
     by_sizes(iov, n, 'w', 'W'), (fd, iov, n, at))
WRAP(int, fallocate, (int fd, int how, off_t at, off_t len), fd,
     'a', (fd, how, at, len))
WRAP(int, fallocate64, (int fd, int how, off_t at, off_t len), fd,
     'a', (fd, how, at, len))
WRAP(int, ftruncate, (int fd, off_t size), fd,
     't', (fd, size))
WRAP(int, ftruncate64, (int fd, off_t size), fd,
     't', (fd, size))
WRAP(off_t, lseek, (int fd, off_t at, int from), fd,
     's', (fd, at, from))
WRAP(off_t, lseek64, (int fd, off_t at, int from), fd,
     's', (fd, at, from))
WRAP(int, fdatasync, (int fd), fd, 'f', (fd))
WRAP(int, fsync, (int fd), fd, 'f', (fd))
/* pread64() as _FORTIFY_SOURCE has it */
WRAP(ssize_t, __pread64_chk,
     (int fd, void *buf, size_t len, off_t at, size_t room), fd,
     by_size(len, 'r', 'R'), (fd, buf, len, at, room))

static int lock(int fd, int command, struct flock *fl,
                __typeof__(&fcntl64) next)
{
    int ret = -1;

    if (command == F_OFD_SETLK && fl->l_type == F_UNLCK) {
        /* Who can be heard of no more loses its locks all the same. */
        ret = next(fd, command, fl);
        DO(fd, 'u', (void)0);
    }
    DO(fd, command == F_OFD_SETLK ? 'l' : 'g', ret = next(fd, command, fl));
}

/* A library is called with the one or the other. */
#define FCNTL(name)                                                     \
    EXPORT int name(int fd, int command, ...)                           \
    {                                                                   \
        va_list args;                                                   \
        void *arg;                                                      \
                                                                        \
        va_start(args, command);                                        \
        arg = va_arg(args, void *);                                     \
        va_end(args);                                                   \
        if (command == F_OFD_SETLK || command == F_OFD_GETLK) {         \
            return lock(fd, command, arg, NEXT(name));                  \
        }                                                               \
        return NEXT(name)(fd, command, arg);                            \
    }

FCNTL(fcntl)
FCNTL(fcntl64)

#define OPEN(name)                                                      \
    EXPORT int name(const char *path, int flags, ...)                   \
    {                                                                   \
        va_list args;                                                   \
        mode_t bits = 0;                                                \
                                                                        \
        if (flags & (O_CREAT | __O_TMPFILE)) {                          \
            va_start(args, flags);                                      \
            bits = va_arg(args, mode_t);                                \
            va_end(args);                                               \
        }                                                               \
        if (request_path(path) != PASS) {                               \
            errno = EIO;                                                \
            return -1;                                                  \
        }                                                               \
        return NEXT(name)(path, flags, bits);                           \
    }

OPEN(open)
OPEN(open64)

EXPORT int __open64_2(const char *path, int flags)
{
    return open64(path, flags);
}
