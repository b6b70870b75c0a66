// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * heartbeat NONCE VCPUS: count on each of the first VCPUS vCPUs, in a page that the host reads.
 *
 * Prints the page's guest-physical address (hexadecimal) once it is there, and goes on in the background for ever.
 * The host finds the page in the guest's memory file, knows it by the nonce, and writes the period in ns: 0, as at
 * first, is rest. The other side is cprtest/observe/heartbeat.py and assets/host/sample-heartbeat.c.
 *
 * One thread of each vCPU beats once a period, whatever else the guest does. The other, if the host wants it, as fast
 * as it can while the vCPU has nothing else to do: a guest that must not run shows that it does, timers or not.
 */
#define _GNU_SOURCE
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

struct slot {                       /* a cache line for each thread */
    _Atomic uint64_t count;
    _Atomic uint64_t clock;         /* of the periodic one: the guest's CLOCK_MONOTONIC then, ns; written first */
    uint64_t unused[6];
};

static struct {
    uint64_t nonce;
    _Atomic uint64_t period, busy;
    uint64_t unused[5];
    struct { struct slot periodic, busy; } vcpus[MOST];
} *page;

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void sleep_until(uint64_t t)
{
    struct timespec until = { t / 1000000000, t % 1000000000 };
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void run_on(intptr_t vcpu, int policy, int priority)
{
    struct sched_param parameter = { .sched_priority = priority };
    cpu_set_t here;

    CPU_ZERO(&here);
    CPU_SET(vcpu, &here);
    if (sched_setaffinity(0, sizeof here, &here) || sched_setscheduler(0, policy, &parameter))
        die("heartbeat: scheduling");
    prctl(PR_SET_TIMERSLACK, 1);
}

/* A counter is a variable of its thread, so of the vCPU: a copy of the guest that runs on from an older state counts
 * from there again, and the host sees the number go back. */
static _Noreturn void *beat_periodically(void *vcpu)
{
    struct slot *slot = &page->vcpus[(intptr_t)vcpu].periodic;

    run_on((intptr_t)vcpu, SCHED_FIFO, 1);
    for (uint64_t count = 1, next = now();;) {
        uint64_t period = atomic_load(&page->period), t = now();

        if (period == 0) {
            sleep_until(t + REST_NS);
            continue;
        }
        atomic_store_explicit(&slot->clock, t, memory_order_release);
        atomic_store_explicit(&slot->count, count++, memory_order_release);
        next += period;
        if (next < t || next > t + period)  /* late, or just woken up: no burst to make up for it */
            next = t + period;
        sleep_until(next);
    }
}

static _Noreturn void *beat_busily(void *vcpu)
{
    struct slot *slot = &page->vcpus[(intptr_t)vcpu].busy;

    run_on((intptr_t)vcpu, SCHED_IDLE, 0);
    for (uint64_t count = 1;;)
        if (atomic_load_explicit(&page->busy, memory_order_relaxed))
            atomic_store_explicit(&slot->count, count++, memory_order_relaxed);
        else
            sleep_until(now() + REST_NS);
}

/* Physical address of the page, from the kernel's Documentation/admin-guide/mm/pagemap.rst. */
static uint64_t physical(void)
{
    uint64_t entry = 0;
    int fd = open("/proc/self/pagemap", O_RDONLY);

    if (fd < 0 || pread(fd, &entry, sizeof entry, (uintptr_t)page / PAGE * sizeof entry) != sizeof entry)
        die("heartbeat: /proc/self/pagemap");
    close(fd);
    return (entry & ((1ull << 55) - 1)) * PAGE;
}

int main(int argc, char **argv)
{
    long vcpus = argc == 3 ? atol(argv[2]) : 0;
    int fd = open("/proc/sys/vm/compact_unevictable_allowed", O_WRONLY);

    if (vcpus < 1 || vcpus > MOST || vcpus > sysconf(_SC_NPROCESSORS_ONLN)) {
        fprintf(stderr, "usage: heartbeat NONCE VCPUS; this guest has %ld vCPUs, at most %d can beat\n",
                sysconf(_SC_NPROCESSORS_ONLN), MOST);
        return 2;
    }
    /* A locked page stays in memory; with this it also stays where it is (admin-guide/sysctl/vm.rst). */
    if (fd < 0 || write(fd, "0", 1) != 1)
        die("heartbeat: compact_unevictable_allowed");
    page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (page == MAP_FAILED || mlock(page, PAGE))
        die("heartbeat: a locked page");
    page->nonce = strtoull(argv[1], NULL, 16);
    printf("%llx\n", (unsigned long long)physical());
    fflush(stdout);
    if (daemon(0, 0) || mlock(page, PAGE))  /* a lock is not inherited */
        return 1;
    for (intptr_t vcpu = 0; vcpu < vcpus; vcpu++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, beat_periodically, (void *)vcpu)
            || pthread_create(&thread, NULL, beat_busily, (void *)vcpu))
            return 1;
    }
    for (;;)
        pause();
}
