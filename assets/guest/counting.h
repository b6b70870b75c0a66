/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A page in which a program counts signs of life, and which the host reads.
 *
 * The program prints the page's guest-physical address (hexadecimal). The host finds it in the guest's memory file,
 * knows it by the nonce, and writes the period in ns: 0, as at first, is rest. The other side is
 * cprtest/observe/counting.py and assets/host/sample-heartbeat.c.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, MOST = 31, REST_NS = 20 * 1000 * 1000 };

struct slot {                       /* a cache line for each counter */
    _Atomic uint64_t count;
    _Atomic uint64_t clock;         /* of the periodic one: the guest's CLOCK_MONOTONIC then, ns; written first */
    uint64_t unused[6];
};

static struct {
    uint64_t nonce;
    _Atomic uint64_t period, busy;
    uint64_t unused[5];
    struct { struct slot periodic, busy; } places[MOST];
} *page;

static inline uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static inline void sleep_until(uint64_t t)
{
    struct timespec until = { t / 1000000000, t % 1000000000 };
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

static inline void die(const char *what)
{
    perror(what);
    exit(1);
}

/* Physical address of the page, from the kernel's Documentation/admin-guide/mm/pagemap.rst. */
static inline uint64_t physical(void)
{
    uint64_t entry = 0;
    int fd = open("/proc/self/pagemap", O_RDONLY);

    if (fd < 0 || pread(fd, &entry, sizeof entry, (uintptr_t)page / PAGE * sizeof entry) != sizeof entry)
        die("counting: /proc/self/pagemap");
    close(fd);
    return (entry & ((1ull << 55) - 1)) * PAGE;
}

/* Make the page, print where it is, and go on in the background. */
static inline void begin_counting(const char *nonce)
{
    int fd = open("/proc/sys/vm/compact_unevictable_allowed", O_WRONLY);

    /* A locked page stays in memory; with this it also stays where it is (admin-guide/sysctl/vm.rst). */
    if (fd < 0 || write(fd, "0", 1) != 1)
        die("counting: compact_unevictable_allowed");
    close(fd);
    page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (page == MAP_FAILED || mlock(page, PAGE))
        die("counting: a locked page");
    page->nonce = strtoull(nonce, NULL, 16);
    printf("%llx\n", (unsigned long long)physical());
    fflush(stdout);
    if (daemon(0, 0) || mlock(page, PAGE))  /* a lock is not inherited */
        exit(1);
}

/* A counter is a variable of its thread, so of the vCPU: a copy of the guest that runs on from an older state counts
 * from there again, and the host sees the number go back. */
static inline void show_count(struct slot *slot, uint64_t count)
{
    atomic_store_explicit(&slot->clock, now(), memory_order_release);
    atomic_store_explicit(&slot->count, count, memory_order_release);
}

/* Wait for the next turn, which is one period after *next; late, or just woken up: no burst to make up for it.
 * 0: the host wants rest, and some time of it has passed. */
static inline int next_turn(uint64_t *next)
{
    uint64_t period = atomic_load(&page->period), t = now();

    if (period == 0) {
        sleep_until(t + REST_NS);
        return 0;
    }
    *next += period;
    if (*next < t || *next > t + period)
        *next = t + period;
    sleep_until(*next);
    return 1;
}
