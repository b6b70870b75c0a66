// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * bar-pattern RESOURCE PAUSE_US: fill a device's memory BAR to its full size, and check and renew it page by page for ever.
 *
 * RESOURCE is resourceN of the device in sysfs. All words of a page are the same: generation << 32 | number of the page.
 * Reported, as offsets in the BAR:
 *     size BYTES                       of the BAR, which is full
 *     bad OFFSET WANTED SEEN WORDS     a page holds something else
 *     sweep GENERATION                 every page has been checked and renewed
 */
#include "history.h"
#include <sys/mman.h>
#include <sys/stat.h>

enum { PAGE = 4096, WORDS = PAGE / 8, SAID = 20 };

static volatile uint64_t *bar;
static unsigned said;

static void check(size_t page, uint64_t wanted)
{
    volatile uint64_t *at = bar + page * WORDS;
    uint64_t wrong = 0, sample = 0, where = 0;

    for (int n = 0; n < WORDS; n++) {
        uint64_t seen = at[n];
        if (seen != wanted && !wrong++) {
            sample = seen;
            where = n;
        }
    }
    if (wrong && said++ < SAID)
        report(now(), now(), "bad %#llx %#llx %#llx %llu", (unsigned long long)(page * PAGE + where * 8),
               (unsigned long long)wanted, (unsigned long long)sample, (unsigned long long)wrong);
}

static void renew(size_t page, uint64_t value)
{
    for (int n = 0; n < WORDS; n++)
        bar[page * WORDS + n] = value;
}

int main(int argc, char **argv)
{
    struct stat status;
    int fd = argc == 3 ? open(argv[1], O_RDWR | O_SYNC) : -1;

    if (argc != 3) {
        fprintf(stderr, "usage: bar-pattern RESOURCE PAUSE_US\n");
        return 2;
    }
    history_begin("bar", 0);
    if (fd < 0 || fstat(fd, &status))
        die(argv[1]);
    bar = mmap(NULL, status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (bar == MAP_FAILED)
        die("mmap");
    report(now(), now(), "size %llu", (unsigned long long)status.st_size);
    for (uint64_t generation = 0; !history_ended; generation++) {
        uint64_t start = now();
        for (size_t page = 0; page < (size_t)status.st_size / PAGE; page++) {
            if (generation)
                check(page, generation << 32 | page);
            renew(page, (generation + 1) << 32 | page);
        }
        report(start, now(), "sweep %llu", (unsigned long long)generation + 1);
        usleep(atoi(argv[2]));
    }
    history_end();
}
