// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * heartbeat NONCE VCPUS: count on each of the first VCPUS vCPUs, in a page that the host reads (counting.h).
 *
 * One thread of each vCPU beats once a period, whatever else the guest does. The other, if the host wants it, as fast
 * as it can while the vCPU has nothing else to do: a guest that must not run shows that it does, timers or not.
 */
#include "counting.h"

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

static _Noreturn void *beat_periodically(void *vcpu)
{
    struct slot *slot = &page->places[(intptr_t)vcpu].periodic;

    run_on((intptr_t)vcpu, SCHED_FIFO, 1);
    for (uint64_t count = 1, next = now();;)
        if (next_turn(&next))
            show_count(slot, count++);
}

static _Noreturn void *beat_busily(void *vcpu)
{
    struct slot *slot = &page->places[(intptr_t)vcpu].busy;

    run_on((intptr_t)vcpu, SCHED_IDLE, 0);
    for (uint64_t count = 1;;)
        if (atomic_load_explicit(&page->busy, memory_order_relaxed))
            atomic_store_explicit(&slot->count, count++, memory_order_relaxed);
        else
            sleep_until(now() + REST_NS);
}

int main(int argc, char **argv)
{
    long vcpus = argc == 3 ? atol(argv[2]) : 0;

    if (vcpus < 1 || vcpus > MOST || vcpus > sysconf(_SC_NPROCESSORS_ONLN)) {
        fprintf(stderr, "usage: heartbeat NONCE VCPUS; this guest has %ld vCPUs, at most %d can beat\n",
                sysconf(_SC_NPROCESSORS_ONLN), MOST);
        return 2;
    }
    begin_counting(argv[1]);
    for (intptr_t vcpu = 0; vcpu < vcpus; vcpu++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, beat_periodically, (void *)vcpu)
            || pthread_create(&thread, NULL, beat_busily, (void *)vcpu))
            return 1;
    }
    for (;;)
        pause();
}
