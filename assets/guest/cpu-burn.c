// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * cpu-burn VCPUS PERIOD_MS: compute on every vCPU without rest, and report once a period.
 *     burn VCPU ROUNDS DIGEST
 * VCPU: where it ran; ROUNDS: done so far; DIGEST: a number that follows from ROUNDS alone and from registers that were never
 * wrong, of integers, floating point and SSE. The judge is cprtest/workloads/cpu.py, which computes it again.
 */
#include "history.h"

enum { BATCH = 4096 };

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: cpu-burn VCPUS PERIOD_MS\n");
        return 2;
    }
    for (int vcpu = 0, vcpus = atoi(argv[1]); vcpu < vcpus; vcpu++)
        if (!fork()) {
            uint64_t period = atoi(argv[2]) * 1000000ull, rounds = 0, digest = vcpu, start;
            volatile double sum = 0;

            history_begin("cpu", vcpu);
            pin(vcpu);
            start = now();
            while (!history_ended) {
                uint64_t t;

                for (int n = 0; n < BATCH; n++) {
                    digest = digest * 6364136223846793005ull + 1442695040888963407ull;
                    sum += 0.5;
                }
                rounds += BATCH;
                t = now();
                if (t < start + period)
                    continue;
                report(start, t, "burn %d %llu %llu %.1f", sched_getcpu(), (unsigned long long)rounds,
                       (unsigned long long)digest, sum);
                start = t;
            }
            history_end();
        }
    return 0;
}
