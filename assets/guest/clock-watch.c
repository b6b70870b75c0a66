// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * clock-watch VCPUS PERIOD_MS: read the guest's clocks for ever, on every vCPU.
 *
 * Each process reads in turn CLOCK_MONOTONIC, CLOCK_REALTIME and the TSC, and compares with the latest that any vCPU has
 * seen: none may be behind it. Once a period, when its timer fires, it reports all of them:
 *     tick MONOTONIC REALTIME RAW TSC LATE       ns, ns, ns, ticks, and how late the timer fired in ns
 *     back CLOCK BY                              a clock that stepped back by so much
 * The judge is cprtest/workloads/clocks.py.
 */
#include "history.h"
#include <stdatomic.h>
#include <sys/mman.h>
#include <x86intrin.h>

enum { MONOTONIC, REALTIME, TSC, CLOCKS, SAID = 20 };
static const char *const names[CLOCKS] = { "monotonic", "realtime", "tsc" };

static struct latest {
    _Atomic uint64_t value;
    uint64_t unused[7];
} *latest;                           /* of all vCPUs, shared */

static uint64_t read_clock(int clock)
{
    if (clock == TSC) {
        _mm_lfence();
        return __rdtsc();
    }
    return now_of(clock == MONOTONIC ? CLOCK_MONOTONIC : CLOCK_REALTIME);
}

/* Read a clock that may not be behind what any vCPU had read before. */
static uint64_t look(int clock)
{
    static int said;
    uint64_t before = atomic_load(&latest[clock].value), value = read_clock(clock), seen = before;

    if (value < before && said++ < SAID)
        report(now(), now(), "back %s %llu", names[clock], (unsigned long long)(before - value));
    /* Also after a step back: it is reported once, not for ever. */
    while (seen < value && !atomic_compare_exchange_weak(&latest[clock].value, &seen, value))
        ;
    if (value < before)
        atomic_store(&latest[clock].value, value);
    return value;
}

static void watch(uint64_t period)
{
    uint64_t next = now() + period, start = now();

    while (!history_ended) {
        struct timespec until;
        uint64_t value[CLOCKS];

        /* Some of the period looking closely, the rest asleep. */
        for (uint64_t end = now() + period / 8; now() < end;)
            for (int clock = 0; clock < CLOCKS; clock++)
                look(clock);
        until.tv_sec = next / 1000000000;
        until.tv_nsec = next % 1000000000;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        for (int clock = 0; clock < CLOCKS; clock++)
            value[clock] = look(clock);
        uint64_t late = value[MONOTONIC] > next ? value[MONOTONIC] - next : 0;
        report(start, value[MONOTONIC], "tick %llu %llu %llu %llu %llu", (unsigned long long)value[MONOTONIC],
               (unsigned long long)value[REALTIME], (unsigned long long)now_of(CLOCK_MONOTONIC_RAW),
               (unsigned long long)value[TSC], (unsigned long long)late);
        start = value[MONOTONIC];
        next = start + period;
    }
}

int main(int argc, char **argv)
{
    int vcpus;

    if (argc != 3) {
        fprintf(stderr, "usage: clock-watch VCPUS PERIOD_MS\n");
        return 2;
    }
    vcpus = atoi(argv[1]);
    latest = mmap(NULL, CLOCKS * sizeof *latest, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (latest == MAP_FAILED)
        die("mmap");
    for (int vcpu = 0; vcpu < vcpus; vcpu++)
        if (!fork()) {
            history_begin("clock", vcpu);
            pin(vcpu);
            watch(atoi(argv[2]) * 1000000ull);
            history_end();
        }
    return 0;
}
