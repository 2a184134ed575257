/*
 * The client's half of the cluster tests: what a user of the guest would see
 *
 *   probe LOG LIVE udp=IP:PORT[,IP:PORT..]@RATE tcp=IP:PORT@RATE
 *         ping=IP@RATE ping=IP@RATE
 *
 * Datagrams, pings and records of a TCP stream leave at their rate whether or
 * not answers come. Each sending and each answer is one entry in LOG; LIVE is
 * a page with the newest state that the tests map. With several UDP targets
 * each datagram goes to all, and the first answer counts.
 *
 * SIGTERM: stop sending, wait until the stream has come back, end.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../guest/wire.h"

#define MAX_STREAMS 4
#define MAX_TARGETS 4
#define TCP_RECORD 64

enum { SENT, ANSWER };
enum { UDP, PING, TCP };

/* One entry of the log; tests/cluster/lib/traffic.py reads it. */
typedef struct Entry {
    uint8_t what, kind, stream, target;
    uint32_t zero;
    uint64_t seq;
    uint64_t at_ns;             /* CLOCK_MONOTONIC of the sending or answer */
    uint64_t guest_ns, durable, tick;
} Entry;

/* The newest state; tests/cluster/lib/traffic.py maps it. */
typedef struct Live {
    uint64_t answers, last_answer_ns, durable, tick;
    uint64_t tcp_sent, tcp_received, tcp_broken, tcp_wrong, last_tcp_ns;
} Live;

typedef struct Stream {
    int kind, fd;
    double rate;
    uint64_t next_ns, seq, answered;
    int n_targets;
    struct sockaddr_in target[MAX_TARGETS];
} Stream;

static Stream streams[MAX_STREAMS];
static int n_streams;
static FILE *entries;
static Live *live;
static volatile sig_atomic_t ending;

static void die(const char *what)
{
    fprintf(stderr, "probe: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void end(int sig)
{
    (void)sig;
    ending = 1;
}

static void note(Entry *e, const Stream *s)
{
    e->kind = s->kind;
    e->stream = s - streams;
    if (fwrite(e, sizeof(*e), 1, entries) != 1) {
        die("log");
    }
}

/* ---- sending ---- */

static uint16_t internet_sum(const void *data, size_t len)
{
    const uint16_t *p = data;
    uint32_t sum = 0;

    for (; len > 1; len -= 2) {
        sum += *p++;
    }
    sum = (sum >> 16) + (sum & 0xffff);
    return ~(sum + (sum >> 16));
}

/* The stream's byte at an offset: both ends can tell what it must be. */
static uint8_t tcp_byte(uint64_t offset)
{
    return offset * 167 + (offset >> 8) * 13;
}

static void send_tcp(Stream *s, Entry *e)
{
    uint8_t buf[TCP_RECORD];
    ssize_t n;

    for (int i = 0; i < TCP_RECORD; i++) {
        buf[i] = tcp_byte(live->tcp_sent + i);
    }
    n = send(s->fd, buf, TCP_RECORD, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0) {
        live->tcp_sent += n;
    } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
        live->tcp_broken = errno;
    }
    e->seq = live->tcp_sent;
}

static void send_one(Stream *s, uint64_t now)
{
    Entry e = { .what = SENT, .seq = s->seq, .at_ns = now };

    if (s->kind == UDP) {
        Probe p = {
            .magic = PROBE_MAGIC, .stream = s - streams, .seq = s->seq,
            .sent_ns = now,
        };

        for (int i = 0; i < s->n_targets; i++) {
            sendto(s->fd, &p, sizeof(p), MSG_DONTWAIT,
                   (struct sockaddr *)&s->target[i], sizeof(s->target[i]));
        }
    } else if (s->kind == PING) {
        struct {
            struct icmphdr h;
            uint64_t seq;
        } p = {
            .h.type = ICMP_ECHO,
            .h.un.echo.id = htons((getpid() & 0xfff) << 2 | (s - streams)),
            .h.un.echo.sequence = htons(s->seq),
            .seq = s->seq,
        };

        p.h.checksum = internet_sum(&p, sizeof(p));
        sendto(s->fd, &p, sizeof(p), MSG_DONTWAIT,
               (struct sockaddr *)&s->target[0], sizeof(s->target[0]));
    } else {
        send_tcp(s, &e);
    }
    note(&e, s);
    s->seq++;
}

/* ---- receiving ---- */

/* When the kernel took the packet in, on the monotonic clock. */
static uint64_t arrival(struct msghdr *m)
{
    uint64_t mono = clock_ns(CLOCK_MONOTONIC);
    uint64_t real = clock_ns(CLOCK_REALTIME);

    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS) {
            struct timespec t;
            uint64_t at;

            memcpy(&t, CMSG_DATA(c), sizeof(t));
            at = t.tv_sec * 1000000000ull + t.tv_nsec;
            return at < real ? mono - (real - at) : mono;
        }
    }
    return mono;
}

static void receive_packets(Stream *s)
{
    for (;;) {
        char data[2048], control[256];
        struct sockaddr_in from;
        struct iovec iov = { data, sizeof(data) };
        struct msghdr m = {
            .msg_name = &from, .msg_namelen = sizeof(from),
            .msg_iov = &iov, .msg_iovlen = 1,
            .msg_control = control, .msg_controllen = sizeof(control),
        };
        ssize_t n = recvmsg(s->fd, &m, MSG_DONTWAIT);
        Entry e = { .what = ANSWER };

        if (n < 0) {
            /* a refused port comes back as an error on the socket: go on */
            if (errno == ECONNREFUSED || errno == EHOSTUNREACH) {
                continue;
            }
            return;
        }
        e.at_ns = arrival(&m);
        if (s->kind == UDP) {
            Probe *p = (Probe *)data;

            if (n != sizeof(*p) || p->magic != PROBE_MAGIC) {
                continue;
            }
            e.seq = p->seq;
            e.guest_ns = p->guest_ns;
            e.durable = p->durable;
            e.tick = p->tick;
            for (int i = 0; i < s->n_targets; i++) {
                if (from.sin_port == s->target[i].sin_port) {
                    e.target = i;
                }
            }
            if (p->durable > live->durable) {
                live->durable = p->durable;
            }
            live->tick = p->tick;
        } else {
            struct iphdr *ip = (struct iphdr *)data;
            struct icmphdr *h = (struct icmphdr *)(data + ip->ihl * 4);
            uint16_t id = (getpid() & 0xfff) << 2 | (s - streams);

            if (n < ip->ihl * 4 + (ssize_t)sizeof(*h) + 8
                || h->type != ICMP_ECHOREPLY
                || h->un.echo.id != htons(id)) {
                continue;
            }
            memcpy(&e.seq, h + 1, 8);
        }
        live->answers++;
        if (e.at_ns > live->last_answer_ns) {
            live->last_answer_ns = e.at_ns;
        }
        note(&e, s);
    }
}

static void receive_tcp(Stream *s)
{
    uint8_t buf[65536];
    ssize_t n;

    while ((n = recv(s->fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
        Entry e = { .what = ANSWER, .at_ns = clock_ns(CLOCK_MONOTONIC) };

        for (ssize_t i = 0; i < n; i++) {
            live->tcp_wrong += buf[i] != tcp_byte(live->tcp_received + i);
        }
        live->tcp_received += n;
        live->last_tcp_ns = e.at_ns;
        e.seq = live->tcp_received;
        note(&e, s);
    }
    if (n == 0) {
        live->tcp_broken = ECONNRESET;
    } else if (errno != EAGAIN && errno != EINTR) {
        live->tcp_broken = errno;
    }
}

/* ---- set-up ---- */

static struct sockaddr_in address(const char *text)
{
    struct sockaddr_in a = { .sin_family = AF_INET };
    char ip[32];
    int port = 0;

    if (sscanf(text, "%31[0-9.]:%d", ip, &port) < 1
        || !inet_aton(ip, &a.sin_addr)) {
        errno = EINVAL;
        die(text);
    }
    a.sin_port = htons(port);
    return a;
}

static void add_stream(char *text)
{
    Stream *s = &streams[n_streams++];
    char *kind = strsep(&text, "="), *where = strsep(&text, "@"), *one;
    int on = 1;

    if (!where || !text) {
        errno = EINVAL;
        die(kind);
    }
    s->rate = atof(text);
    s->kind = !strcmp(kind, "udp") ? UDP : !strcmp(kind, "ping") ? PING : TCP;
    while ((one = strsep(&where, ",")) && s->n_targets < MAX_TARGETS) {
        s->target[s->n_targets++] = address(one);
    }
    if (s->kind == UDP) {
        s->fd = socket(AF_INET, SOCK_DGRAM, 0);
    } else if (s->kind == PING) {
        s->fd = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
    } else {
        s->fd = socket(AF_INET, SOCK_STREAM, 0);
        setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        if (connect(s->fd, (struct sockaddr *)&s->target[0],
                    sizeof(s->target[0])) < 0) {
            die("TCP connection");
        }
    }
    if (s->fd < 0) {
        die(kind);
    }
    setsockopt(s->fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on));
    /* staggered, so that they do not all leave in the same microsecond */
    s->next_ns = clock_ns(CLOCK_MONOTONIC) + n_streams * 300000;
}

int main(int argc, char **argv)
{
    struct sigaction action = { .sa_handler = end };
    uint64_t deadline = 0, flushed = 0;
    int fd;

    if (argc < 4 || argc > 3 + MAX_STREAMS) {
        fprintf(stderr, "usage: probe LOG LIVE KIND=IP[:PORT]@RATE...\n");
        return 2;
    }
    entries = fopen(argv[1], "wb");
    fd = open(argv[2], O_RDWR | O_CREAT, 0600);
    if (!entries || fd < 0 || ftruncate(fd, 4096) < 0) {
        die("files");
    }
    live = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (live == MAP_FAILED) {
        die("mmap");
    }
    for (int i = 3; i < argc; i++) {
        add_stream(argv[i]);
    }
    sigaction(SIGTERM, &action, NULL);
    prctl(PR_SET_TIMERSLACK, 50000);

    for (;;) {
        struct pollfd fds[MAX_STREAMS];
        uint64_t now = clock_ns(CLOCK_MONOTONIC), next = now + 20000000;
        struct timespec wait;

        if (ending && !deadline) {
            deadline = now + 3000000000ull;
        }
        if (deadline && (now > deadline || live->tcp_broken
                         || live->tcp_received == live->tcp_sent)) {
            break;
        }
        for (int i = 0; i < n_streams; i++) {
            Stream *s = &streams[i];

            fds[i] = (struct pollfd) { .fd = s->fd, .events = POLLIN };
            if (s->kind == TCP && live->tcp_broken) {
                fds[i].fd = -1;
                continue;
            }
            if (deadline) {
                continue;
            }
            if (s->next_ns <= now) {
                send_one(s, now);
                s->next_ns += 1e9 / s->rate;
                if (s->next_ns < now) {
                    s->next_ns = now;   /* we were late: no burst */
                }
            }
            next = s->next_ns < next ? s->next_ns : next;
        }
        if (now - flushed > 20000000) {
            fflush(entries);
            flushed = now;
        }
        now = clock_ns(CLOCK_MONOTONIC);
        wait = (struct timespec) { 0, next > now ? next - now : 0 };
        if (ppoll(fds, n_streams, &wait, NULL) <= 0) {
            continue;
        }
        for (int i = 0; i < n_streams; i++) {
            if (fds[i].revents && streams[i].kind == TCP) {
                receive_tcp(&streams[i]);
            } else if (fds[i].revents) {
                receive_packets(&streams[i]);
            }
        }
    }
    fclose(entries);
    return 0;
}
