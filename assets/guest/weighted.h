/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stddef.h>
#include <stdint.h>

/* A guest under TCG works on words one by one faster than on vectors: 64 KiB are compared in a third of the time. */
#define ONE_BY_ONE __attribute__((optimize("no-tree-vectorize")))

/* The weighted sum of words, modulo 2^64: word N counts 2N + 1 times. No change of one word leaves it as it is, since every
 * weight is odd. It takes a guest under TCG a fifteenth of the time of a CRC-32 by table (docs/workloads.md). The same in
 * Python: cprtest/workloads/weighted.py. */
#define WEIGHT(n) (2 * (uint64_t)(n) + 1)

ONE_BY_ONE static inline uint64_t weighted(const uint64_t *words, size_t count)
{
    uint64_t sum = 0;

    for (size_t n = 0; n < count; n++)
        sum += words[n] * WEIGHT(n);
    return sum;
}
