// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * disk-journal DEVICE WRITERS RUN PAUSE_US: append numbered records to a disk, and report each that is durable.
 *
 * The disk is divided among the writers, each part into slots of 16 KiB, used in a ring. Record N of a writer goes to slot
 * N modulo their number, in one O_DIRECT write followed by fdatasync; only then is it reported, over the history port and
 * not the disk. After each record an older one is read back and compared. The judge is cprtest/workloads/journal.py.
 */
#include "history.h"
#include "crc32.h"
#include <sys/ioctl.h>
#include <linux/fs.h>

enum { SLOT = 16384, SECTOR = 512, SECTOR_WORDS = SECTOR / 8 };
static const uint64_t MAGIC = 0x4a4f55524e414c31;       /* JOURNAL1 */

static uint64_t run;
static int writer;

/* xorshift64*, Vigna 2016 */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 2685821657736338717ull;
}

/* Every word of a record follows from run, writer and number. Each sector begins with a stamp that says whose it is;
 * in the first there follow magic, number, length, and the CRC-32 of the record with 0 in its own place.
 * Returns its length, 512 bytes to 16 KiB. */
static size_t make(uint64_t *record, uint64_t number)
{
    uint64_t state = (run ^ (number + 1) * 0x9e3779b97f4a7c15ull ^ (uint64_t)(writer + 1) << 56) | 1;
    size_t length = SECTOR * (1 + next_random(&state) % (SLOT / SECTOR)), words = length / 8;

    for (size_t n = 0; n < words; n++)
        record[n] = n % SECTOR_WORDS ? next_random(&state)
                                     : run << 32 | (uint64_t)writer << 24 | (number & 0xffffff);
    record[1] = MAGIC;
    record[2] = number;
    record[3] = length;
    record[4] = 0;
    record[4] = crc32(record, length);
    return length;
}

static void append(int fd, uint64_t base, uint64_t slots, unsigned pause)
{
    uint64_t *record = aligned_alloc(4096, SLOT), *back = aligned_alloc(4096, SLOT), pick = run | 1;

    for (uint64_t number = 0; !history_ended; number++) {
        size_t length = make(record, number);
        uint64_t start = now();

        if (pwrite(fd, record, length, base + number % slots * SLOT) != (ssize_t)length || fdatasync(fd)) {
            report(start, now(), "failed %llu %s", (unsigned long long)number, strerror(errno));
            continue;
        }
        report(start, now(), "ack %llu", (unsigned long long)number);
        uint64_t kept = number + 1 < slots ? number + 1 : slots;
        uint64_t older = number - next_random(&pick) % kept;
        length = make(record, older);
        start = now();
        if (pread(fd, back, length, base + older % slots * SLOT) != (ssize_t)length)
            report(start, now(), "unread %llu %s", (unsigned long long)older, strerror(errno));
        else if (memcmp(back, record, length))
            report(start, now(), "changed %llu", (unsigned long long)older);
        if (pause)
            usleep(pause);
    }
}

int main(int argc, char **argv)
{
    uint64_t size;
    int writers, fd;

    if (argc != 5) {
        fprintf(stderr, "usage: disk-journal DEVICE WRITERS RUN PAUSE_US\n");
        return 2;
    }
    writers = atoi(argv[2]);
    run = strtoull(argv[3], NULL, 10);
    fd = open(argv[1], O_RDWR | O_DIRECT);
    if (fd < 0 || ioctl(fd, BLKGETSIZE64, &size))
        die(argv[1]);
    uint64_t slots = size / SLOT / writers;
    for (writer = 0; writer < writers; writer++)
        if (!fork()) {
            history_begin("disk", writer);
            append(fd, writer * slots * SLOT, slots, atoi(argv[4]));
            history_end();
        }
    return 0;
}
