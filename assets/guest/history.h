/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The history of a workload: one line for each operation that has ended, written to descriptor 4, which init opened on
 * the virtio-serial port `history`. QEMU appends what comes there to a file of the host (cprtest/workloads/history.py).
 *
 *     NAME NUMBER START END RESULT...
 *
 * NAME: who reports; NUMBER: its operations from 0, none left out; START, END: CLOCK_MONOTONIC of the guest in ns.
 * A line is one write(), so lines of several processes and threads do not mix: each of them is a reporter of its own.
 * SIGTERM asks for an end: a program finishes what it is doing and reports the operation `end`.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { HISTORY_FD = 4 };

static __thread char history_name[32] = "nobody";
static __thread uint64_t history_number;
static volatile sig_atomic_t history_ended;

static inline uint64_t now_of(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static inline uint64_t now(void)
{
    return now_of(CLOCK_MONOTONIC);
}

static inline void die(const char *what)
{
    fprintf(stderr, "%s: %s: %s\n", history_name, what, strerror(errno));
    exit(1);
}

/* Report an operation. */
__attribute__((format(printf, 3, 4)))
static inline void report(uint64_t start, uint64_t end, const char *format, ...)
{
    char line[512];
    ssize_t written;
    va_list arguments;
    int used = snprintf(line, sizeof line, "%s %llu %llu %llu ", history_name, (unsigned long long)history_number++,
                        (unsigned long long)start, (unsigned long long)end);

    va_start(arguments, format);
    used += vsnprintf(line + used, sizeof line - used - 1, format, arguments);
    va_end(arguments);
    if (used > (int)sizeof line - 2)
        used = sizeof line - 2;
    line[used++] = '\n';
    /* Linux returns 0 to all writers but one that have waited for the last place of the queue (virtio_console.c). */
    while ((written = write(HISTORY_FD, line, used)) != used)
        if (written > 0 || (written < 0 && errno != EINTR))
            die("history");
}

static void history_term(int signal)
{
    (void)signal;
    history_ended = 1;
}

/* Be NAME.INDEX. */
static inline void history_as(const char *name, int index)
{
    snprintf(history_name, sizeof history_name, "%s.%d", name, index);
}

/* Be NAME.INDEX, and end on SIGTERM. */
static inline void history_begin(const char *name, int index)
{
    struct sigaction action = { .sa_handler = history_term };

    history_as(name, index);
    sigaction(SIGTERM, &action, NULL);
}

static inline void history_end(void)
{
    uint64_t t = now();

    report(t, t, "end");
    _exit(0);
}

/* Run the calling process on one vCPU only. */
static inline void pin(int vcpu)
{
    cpu_set_t here;

    CPU_ZERO(&here);
    CPU_SET(vcpu, &here);
    if (sched_setaffinity(0, sizeof here, &here))
        die("no such vCPU");
}
