/*
 * A proxy between source and destination that loses the last message
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */

#ifndef TESTS_QTEST_CSV_PROXY_H
#define TESTS_QTEST_CSV_PROXY_H

#include "csv-vm.h"

/*
 * A connection in the middle that passes everything on except for the last
 * message of the return path, and breaks when that is due.
 */
typedef struct Proxy {
    char *path;
    const char *to;
    int listen_fd;
    bool cut;
    GThread *thread;
} Proxy;

/* Accept one connection at @p->path, for the scene's destination. */
void proxy_start(Proxy *p, CsvScene *s);
/* It has cut the connection, or both sides have ended it. */
void proxy_wait(Proxy *p);

#endif /* TESTS_QTEST_CSV_PROXY_H */
