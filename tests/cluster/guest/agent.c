/*
 * The guest's half of the cluster tests
 *
 * One static program with a role a process, started from init or through the
 * command port. All processes share a page in /run, so that every datagram
 * echo carries what the disk writer has made durable and how far the guest's
 * clock loop has come.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/fs.h>

#include "wire.h"

#define BLOCK 4096
#define STRIDE 4099             /* odd, so that it permutes a power of two */

typedef struct Shared {
    _Atomic uint64_t durable;   /* last record that is on the disk for sure */
    _Atomic uint64_t tick;
    _Atomic uint64_t gap_ns;    /* longest gap of the 1 ms loop since reset */
    _Atomic uint64_t write_ns;  /* longest write with fsync since reset */
    _Atomic uint64_t dirtied;   /* pages written by the dirtier */
    _Atomic uint64_t damaged;   /* pages that did not hold what was written */
    _Atomic uint32_t writing;
    _Atomic uint32_t dirtying;
    _Atomic uint32_t stop_writing;
    _Atomic uint32_t stop_dirtying;
    _Atomic uint32_t write_errno;
} Shared;

typedef struct Record {
    char magic[8];
    uint64_t seq;
    uint64_t run;
    uint64_t guest_ns;
    uint8_t payload[BLOCK - 32 - 8];
    uint32_t zero;
    uint32_t crc;               /* CRC-32 of all before it */
} Record;

_Static_assert(sizeof(Record) == BLOCK, "a record is a block");

static const char record_magic[8] = "CSVRECRD";
static Shared *shared;

static void die(const char *what)
{
    fprintf(stderr, "agent: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void share(void)
{
    int fd = open("/run/agent", O_RDWR | O_CREAT, 0600);

    if (fd < 0 || ftruncate(fd, BLOCK) < 0) {
        die("/run/agent");
    }
    shared = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared == MAP_FAILED) {
        die("mmap");
    }
    close(fd);
}

static void pause_ns(int64_t ns)
{
    struct timespec t = { ns / 1000000000, ns % 1000000000 };

    if (ns > 0) {
        nanosleep(&t, NULL);
    }
}

static void maximum(_Atomic uint64_t *max, uint64_t value)
{
    if (value > atomic_load(max)) {
        atomic_store(max, value);
    }
}

static uint32_t crc32_table[256];

static void crc32_init(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;

        for (int k = 0; k < 8; k++) {
            c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
        }
        crc32_table[i] = c;
    }
}

static uint32_t crc32(const void *data, size_t len)
{
    const uint8_t *p = data;
    uint32_t c = ~0u;

    while (len--) {
        c = crc32_table[(c ^ *p++) & 0xff] ^ c >> 8;
    }
    return ~c;
}

static uint32_t record_crc(const Record *r)
{
    return crc32(r, offsetof(Record, crc));
}

/* ---- network ---- */

static int listen_on(int type, int port)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port),
    };
    int fd = socket(AF_INET, type, 0);
    int one = 1;

    if (fd < 0) {
        die("socket");
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
        die("bind");
    }
    if (type == SOCK_STREAM && listen(fd, 16) < 0) {
        die("listen");
    }
    return fd;
}

static void serve_udp(int fd)
{
    for (;;) {
        struct sockaddr_in from;
        socklen_t len = sizeof(from);
        Probe p;

        if (recvfrom(fd, &p, sizeof(p), 0, (struct sockaddr *)&from, &len)
            != sizeof(p) || p.magic != PROBE_MAGIC) {
            continue;
        }
        p.guest_ns = clock_ns(CLOCK_MONOTONIC_RAW);
        p.durable = atomic_load(&shared->durable);
        p.tick = atomic_load(&shared->tick);
        sendto(fd, &p, sizeof(p), 0, (struct sockaddr *)&from, len);
    }
}

static int write_all(int fd, const char *buf, size_t len)
{
    while (len) {
        ssize_t n = write(fd, buf, len);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return -1;
        }
        buf += n;
        len -= n;
    }
    return 0;
}

static void echo_stream(int fd)
{
    char buf[4096];
    ssize_t n;

    while ((n = read(fd, buf, sizeof(buf))) > 0) {
        if (write_all(fd, buf, n) < 0) {
            break;
        }
    }
}

/* One line in, its output back, then "rc=N" as the last line. */
static void run_command(int fd)
{
    char line[4096], tail[32];
    size_t len = 0;
    int status;
    pid_t pid;

    do {
        if (len == sizeof(line) - 1 || read(fd, line + len, 1) != 1) {
            return;
        }
    } while (line[len++] != '\n');
    line[len] = 0;

    signal(SIGCHLD, SIG_DFL);
    pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDONLY);

        dup2(null, 0);
        dup2(fd, 1);
        dup2(fd, 2);
        close(fd);
        execl("/bin/sh", "sh", "-c", line, NULL);
        _exit(127);
    }
    waitpid(pid, &status, 0);
    snprintf(tail, sizeof(tail), "rc=%d\n",
             WIFEXITED(status) ? WEXITSTATUS(status) : 128);
    write_all(fd, tail, strlen(tail));
}

static void serve_tcp(int listener, void (*serve)(int fd))
{
    int one = 1;

    signal(SIGCHLD, SIG_IGN);
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        if (fd < 0) {
            continue;
        }
        if (fork() == 0) {
            close(listener);
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
            serve(fd);
            _exit(0);
        }
        close(fd);
    }
}

/* ---- clock ---- */

/*
 * The guest's own idea of how long it did not run: the longest time between
 * two turns of a loop that sleeps 1 ms.
 */
static void watch_clock(void)
{
    uint64_t last = clock_ns(CLOCK_MONOTONIC_RAW);

    for (;;) {
        uint64_t now;

        pause_ns(1000000);
        now = clock_ns(CLOCK_MONOTONIC_RAW);
        maximum(&shared->gap_ns, now - last);
        atomic_fetch_add(&shared->tick, 1);
        last = now;
    }
}

/* ---- disk ---- */

static int open_disk(const char *path, int flags, uint64_t *slots)
{
    int fd = open(path, flags | O_DIRECT | O_CLOEXEC);
    uint64_t size;

    if (fd < 0 || ioctl(fd, BLKGETSIZE64, &size) < 0) {
        die(path);
    }
    /* the largest power of two that fits */
    for (*slots = 1; *slots * 2 * BLOCK <= size; *slots *= 2) {
    }
    return fd;
}

static void *blocks(size_t n)
{
    void *p = aligned_alloc(BLOCK, n * BLOCK);

    if (!p) {
        die("memory");
    }
    return p;
}

/* Record SEQ goes to block SEQ * STRIDE, so that writes wander and allocate. */
static void write_disk(const char *path, double rate, uint64_t run,
                       uint64_t seq)
{
    Record *r = blocks(1);
    uint64_t slots, state = run | 1, next;
    int fd = open_disk(path, O_RDWR, &slots);

    memset(r, 0, sizeof(*r));
    memcpy(r->magic, record_magic, sizeof(r->magic));
    r->run = run;
    atomic_store(&shared->stop_writing, 0);
    atomic_store(&shared->writing, 1);
    next = clock_ns(CLOCK_MONOTONIC);
    for (; !atomic_load(&shared->stop_writing); seq++) {
        uint64_t before = clock_ns(CLOCK_MONOTONIC), after;

        r->seq = seq;
        r->guest_ns = clock_ns(CLOCK_MONOTONIC_RAW);
        for (size_t i = 0; i < sizeof(r->payload); i += 8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            memcpy(r->payload + i, &state, 8);
        }
        r->crc = record_crc(r);
        if (pwrite(fd, r, BLOCK, (seq * STRIDE & (slots - 1)) * BLOCK) != BLOCK
            || fsync(fd) < 0) {
            atomic_store(&shared->write_errno, errno ? errno : EIO);
            break;
        }
        atomic_store(&shared->durable, seq);
        after = clock_ns(CLOCK_MONOTONIC);
        maximum(&shared->write_ns, after - before);
        next += 1e9 / rate;
        if (next < after) {
            next = after;       /* no catching up */
        }
        pause_ns(next - after);
    }
    atomic_store(&shared->writing, 0);
}

/* "slot seq crc" for each record, an error for anything else but zeroes. */
static void list_disk(const char *path)
{
    enum { BATCH = 256 };
    static const Record zero;
    Record *r = blocks(BATCH);
    uint64_t slots, run = 0;
    int fd = open_disk(path, O_RDONLY, &slots), bad = 0;

    for (uint64_t slot = 0; slot < slots; slot++) {
        Record *x = &r[slot % BATCH];

        if (slot % BATCH == 0) {
            size_t n = slots - slot < BATCH ? slots - slot : BATCH;

            if (pread(fd, r, n * BLOCK, slot * BLOCK) != n * BLOCK) {
                die("read");
            }
        }
        if (!memcmp(x, &zero, BLOCK)) {
            continue;
        }
        run = run ? run : x->run;
        if (memcmp(x->magic, record_magic, 8) || x->crc != record_crc(x)
            || x->run != run || (x->seq * STRIDE & (slots - 1)) != slot) {
            printf("bad block %" PRIu64 "\n", slot);
            bad = 1;
            continue;
        }
        printf("%" PRIu64 " %" PRIu64 " %08x\n", slot, x->seq, x->crc);
    }
    fflush(stdout);
    exit(bad);
}

/*
 * Wait until there is a file like @pattern, and name it. A look at it each
 * millisecond costs no more than the clock's loop.
 */
static void wait_file(const char *pattern)
{
    glob_t found;

    puts("waiting");
    fflush(stdout);
    while (glob(pattern, 0, NULL, &found)) {
        pause_ns(1000000);
    }
    puts(found.gl_pathv[0]);
}

/* ---- memory ---- */

/* Random enough for what compresses */
static uint64_t noise(void)
{
    static uint64_t x = 88172645463325252ULL;

    x ^= x << 13;
    x ^= x >> 7;
    return x ^= x << 17;
}

/* What is written to a page beside the word */
enum { WORD, FEW, HALF };

static void fill_noise(uint64_t *at, size_t words)
{
    for (size_t i = 0; i < words; i++) {
        at[i] = noise();
    }
}

/* Where the word is in page @p: with HALF not where the noise is */
static size_t word_at(size_t p, int kind)
{
    size_t words = BLOCK / 8;

    return kind == HALF ? words / 2 + p % (words / 2) : p % words;
}

/*
 * Write a word in each page, again and again, and look whether it stayed.  The
 * rest is zero, or noise (FEW), or half of the page is new noise (HALF).
 */
static void dirty_memory(size_t mib, double rate, int kind)
{
    size_t pages = mib * 256;
    uint64_t *mem = blocks(pages);
    uint64_t turn = 0, start = clock_ns(CLOCK_MONOTONIC);
    double done = 0;

    memset(mem, 0, pages * BLOCK);
    if (kind == FEW) {
        fill_noise(mem, pages * (BLOCK / 8));
        for (size_t p = 0; p < pages; p++) {
            mem[p * (BLOCK / 8) + word_at(p, kind)] = 0;
        }
    }
    atomic_store(&shared->stop_dirtying, 0);
    atomic_store(&shared->dirtying, 1);
    for (; !atomic_load(&shared->stop_dirtying); turn++) {
        for (size_t p = 0; p < pages; p++) {
            uint64_t *page = mem + p * (BLOCK / 8);
            uint64_t *word = page + word_at(p, kind);

            if (*word != (turn ? turn * pages + p : 0)) {
                atomic_fetch_add(&shared->damaged, 1);
            }
            *word = (turn + 1) * pages + p;
            if (kind == HALF) {
                fill_noise(page, BLOCK / 16);
            }
            if (p % 64 == 63) {
                double ahead;

                done += 64 * BLOCK;
                atomic_fetch_add(&shared->dirtied, 64);
                ahead = done / rate * 1e9
                        - (double)(clock_ns(CLOCK_MONOTONIC) - start);
                if (ahead > 2e6) {
                    pause_ns(ahead);
                } else if (ahead < -2e8) {
                    start -= ahead;             /* no catching up */
                }
            }
        }
    }
    atomic_store(&shared->dirtying, 0);
}

static void wait_zero(_Atomic uint32_t *flag)
{
    for (int i = 0; i < 10000 && atomic_load(flag); i++) {
        pause_ns(1000000);
    }
}

static void state(void)
{
    printf("{\"durable\": %" PRIu64 ", \"tick\": %" PRIu64
           ", \"gap_ns\": %" PRIu64 ", \"write_ns\": %" PRIu64
           ", \"dirtied\": %" PRIu64 ", \"damaged\": %" PRIu64
           ", \"writing\": %u, \"dirtying\": %u, \"write_errno\": %u}\n",
           atomic_load(&shared->durable), atomic_load(&shared->tick),
           atomic_load(&shared->gap_ns), atomic_load(&shared->write_ns),
           atomic_load(&shared->dirtied), atomic_load(&shared->damaged),
           atomic_load(&shared->writing), atomic_load(&shared->dirtying),
           atomic_load(&shared->write_errno));
}

static void background(void)
{
    if (fork()) {
        _exit(0);
    }
    setsid();
    int null = open("/dev/null", O_RDWR);
    dup2(null, 0);
    dup2(null, 1);
    dup2(null, 2);
}

static int usage(void)
{
    fprintf(stderr,
            "agent serve                       echo servers, clock, commands\n"
            "agent write DISK RATE RUN FIRST   write records in background\n"
            "agent list DISK                   list and check the records\n"
            "agent wait PATTERN                wait until there is such a file\n"
            "agent dirty MIB MB_PER_S [few|half]  dirty memory in background\n"
            "agent stop                        stop writing and dirtying\n"
            "agent reset                       forget the longest gaps\n"
            "agent state                       counters as JSON\n");
    return 2;
}

int main(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";

    crc32_init();
    share();
    signal(SIGPIPE, SIG_IGN);
    if (!strcmp(verb, "serve")) {
        int udp = listen_on(SOCK_DGRAM, PORT_UDP);
        int tcp = listen_on(SOCK_STREAM, PORT_TCP);
        int command = listen_on(SOCK_STREAM, PORT_COMMAND);

        if (!fork()) {
            serve_udp(udp);
        }
        if (!fork()) {
            serve_tcp(tcp, echo_stream);
        }
        if (!fork()) {
            serve_tcp(command, run_command);
        }
        puts("GUEST READY");
        fflush(stdout);
        watch_clock();
    } else if (!strcmp(verb, "write") && argc == 6) {
        background();
        write_disk(argv[2], atof(argv[3]), strtoull(argv[4], NULL, 0),
                   strtoull(argv[5], NULL, 0));
    } else if (!strcmp(verb, "list") && argc == 3) {
        list_disk(argv[2]);
    } else if (!strcmp(verb, "wait") && argc == 3) {
        wait_file(argv[2]);
    } else if (!strcmp(verb, "dirty") && (argc == 4 || argc == 5)) {
        background();
        dirty_memory(atoi(argv[2]), atof(argv[3]) * 1e6,
                     argc == 4 ? WORD : !strcmp(argv[4], "few") ? FEW : HALF);
    } else if (!strcmp(verb, "stop")) {
        atomic_store(&shared->stop_writing, 1);
        atomic_store(&shared->stop_dirtying, 1);
        wait_zero(&shared->writing);
        wait_zero(&shared->dirtying);
        state();
    } else if (!strcmp(verb, "reset")) {
        atomic_store(&shared->gap_ns, 0);
        atomic_store(&shared->write_ns, 0);
    } else if (!strcmp(verb, "state")) {
        state();
    } else {
        return usage();
    }
    return 0;
}
