// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * disk-journal DEVICE WRITERS RUN PAUSE_US: append numbered records to a disk, and report each that is durable.
 *
 * The disk is divided among the writers, each part into slots of 16 KiB, used in a ring. Record N of a writer goes to slot
 * N modulo their number, in one O_DIRECT write followed by fdatasync; only then is it reported, over the history port and
 * not the disk. After each record an older one is read back and compared. The judge is cprtest/workloads/journal.py.
 *
 * The writers are threads: to switch between processes costs a guest under TCG all addresses that have been translated.
 */
#include "history.h"
#include "weighted.h"
#include <pthread.h>
#include <sys/ioctl.h>
#include <linux/fs.h>

enum { SLOT = 16384, SECTOR = 512, SECTOR_WORDS = SECTOR / 8 };
static const uint64_t MAGIC = 0x4a4f55524e414c31;       /* JOURNAL1 */

static uint64_t run, slots;
static unsigned rest;               /* microseconds after each record */
static int disk;

/* xorshift64*, Vigna 2016 */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 2685821657736338717ull;
}

/* Every word of a record follows from run, writer and number. Each sector begins with a stamp that says whose it is;
 * in the first there follow magic, number, length, and the weighted sum of the record with 0 in its own place; the others
 * go on from a random one by a random step. Returns its length, 512 bytes to 16 KiB. */
static size_t make(uint64_t *record, uint64_t writer, uint64_t number)
{
    uint64_t state = (run ^ (number + 1) * 0x9e3779b97f4a7c15ull ^ (writer + 1) << 56) | 1;
    size_t length = SECTOR * (1 + next_random(&state) % (SLOT / SECTOR)), words = length / 8;
    uint64_t word = next_random(&state), step = next_random(&state) | 1;

    for (size_t n = 0; n < words; n++)
        record[n] = word += step;
    for (size_t n = 0; n < words; n += SECTOR_WORDS)
        record[n] = run << 32 | writer << 24 | (number & 0xffffff);
    record[1] = MAGIC;
    record[2] = number;
    record[3] = length;
    record[4] = 0;
    record[4] = weighted(record, words);
    return length;
}

ONE_BY_ONE static int differ(const uint64_t *some, const uint64_t *others, size_t words)
{
    size_t n = 0;

    while (n < words && some[n] == others[n])
        n++;
    return n < words;
}

static void *append(void *argument)
{
    uint64_t writer = (uintptr_t)argument, base = writer * slots * SLOT, pick = run | 1;
    uint64_t *record = aligned_alloc(4096, SLOT), *back = aligned_alloc(4096, SLOT);

    history_as("disk", writer);
    for (uint64_t number = 0; !history_ended; number++) {
        size_t length = make(record, writer, number);
        uint64_t start = now();

        if (pwrite(disk, record, length, base + number % slots * SLOT) != (ssize_t)length || fdatasync(disk)) {
            report(start, now(), "failed %llu %s", (unsigned long long)number, strerror(errno));
            usleep(10000);      /* a disk that fails does so at once, and each failure is a line */
            continue;
        }
        report(start, now(), "ack %llu", (unsigned long long)number);
        uint64_t kept = number + 1 < slots ? number + 1 : slots;
        uint64_t older = number - next_random(&pick) % kept;
        length = make(record, writer, older);
        start = now();
        if (pread(disk, back, length, base + older % slots * SLOT) != (ssize_t)length)
            report(start, now(), "unread %llu %s", (unsigned long long)older, strerror(errno));
        else if (differ(back, record, length / 8))
            report(start, now(), "changed %llu", (unsigned long long)older);
        if (rest)
            usleep(rest);
    }
    report(now(), now(), "end");
    return NULL;
}

int main(int argc, char **argv)
{
    uint64_t size;
    uintptr_t writers;

    if (argc != 5) {
        fprintf(stderr, "usage: disk-journal DEVICE WRITERS RUN PAUSE_US\n");
        return 2;
    }
    writers = atoi(argv[2]);
    run = strtoull(argv[3], NULL, 10);
    rest = atoi(argv[4]);
    disk = open(argv[1], O_RDWR | O_DIRECT);
    if (disk < 0 || ioctl(disk, BLKGETSIZE64, &size))
        die(argv[1]);
    slots = size / SLOT / writers;
    history_begin("disk", 0);       /* one handler for all */
    pthread_t threads[writers];
    for (uintptr_t writer = 0; writer < writers; writer++)
        if (pthread_create(&threads[writer], NULL, append, (void *)writer))
            die("thread");
    for (uintptr_t writer = 0; writer < writers; writer++)
        pthread_join(threads[writer], NULL);
    return 0;
}
