// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * memory-pattern VCPUS KEEP_MIB PAUSE_US: fill nearly all free memory, and check and renew it page by page for ever.
 *
 * One process on each vCPU has a part of it. All words of a page are the same: generation << 32 | number of the page. A
 * page is checked before it is written anew, one generation on, so it is of the present generation or the one before,
 * by its place alone. KEEP_MIB are left to the rest of the guest. Where the pages are in the guest's physical memory
 * is reported first; the judge is cprtest/workloads/memory.py.
 */
#include "history.h"
#include <sys/mman.h>
#include <sys/sysinfo.h>

enum { PAGE = 4096, WORDS = PAGE / 8, SAID = 20 };

static uint64_t *memory;
static size_t first, count;          /* this process's pages */

/* From the kernel's Documentation/admin-guide/mm/pagemap.rst. */
static uint64_t physical(int pagemap, const void *page)
{
    uint64_t entry = 0;

    if (pread(pagemap, &entry, sizeof entry, (uintptr_t)page / PAGE * sizeof entry) != sizeof entry)
        die("/proc/self/pagemap");
    return (entry & ((1ull << 55) - 1)) * PAGE;
}

/* Report where the pages are: `map PAGE ADDRESS COUNT`, a run of pages each. */
static void report_map(void)
{
    int pagemap = open("/proc/self/pagemap", O_RDONLY);
    size_t begin = 0;
    uint64_t start = 0;

    if (pagemap < 0)
        die("/proc/self/pagemap");
    for (size_t n = 0; n <= count; n++) {
        uint64_t address = n < count ? physical(pagemap, memory + n * WORDS) : 0;
        if (n && (n == count || address != start + (n - begin) * PAGE)) {
            report(now(), now(), "map %zu %#llx %zu", first + begin, (unsigned long long)start, n - begin);
            begin = n;
        }
        if (n == begin)
            start = address;
    }
    close(pagemap);
}

static uint64_t word(size_t page, uint32_t generation)
{
    return (uint64_t)generation << 32 | (first + page);
}

static void write_page(size_t page, uint32_t generation)
{
    volatile uint64_t *at = memory + page * WORDS;
    uint64_t value = word(page, generation);

    for (int n = 0; n < WORDS; n++)
        at[n] = value;
}

/* Whether the page holds what it should; what is wrong is reported. */
static int check_page(size_t page, uint32_t generation)
{
    const volatile uint64_t *at = memory + page * WORDS;
    uint64_t wanted = word(page, generation), wrong = 0, sample = wanted;
    int pagemap, where = 0;

    for (int n = 0; n < WORDS; n++)
        wrong |= at[n] ^ wanted;
    if (!wrong)
        return 1;
    wrong = 0;
    for (int n = 0; n < WORDS; n++)
        if (at[n] != wanted && !wrong++) {
            sample = at[n];
            where = n;
        }
    pagemap = open("/proc/self/pagemap", O_RDONLY);
    report(now(), now(), "bad %#llx %#llx %#llx %llu", (unsigned long long)physical(pagemap, (void *)at) + where * 8,
           (unsigned long long)wanted, (unsigned long long)sample, (unsigned long long)wrong);
    close(pagemap);
    return 0;
}

static void sweep_for_ever(unsigned pause)
{
    unsigned said = 0;

    for (size_t page = 0; page < count; page++)
        write_page(page, 1);
    report_map();
    for (uint32_t generation = 1;; generation++) {
        uint64_t start = now(), bad = 0;

        for (size_t page = 0; page < count; page++) {
            if (said < SAID && !check_page(page, generation)) {
                bad++;
                said++;
            }
            write_page(page, generation + 1);
        }
        report(start, now(), "sweep %u %zu %llu", generation + 1, count, (unsigned long long)bad);
        if (history_ended)
            return;
        if (pause)
            usleep(pause);
    }
}

int main(int argc, char **argv)
{
    struct sysinfo info;
    int vcpus, fd;

    if (argc != 4) {
        fprintf(stderr, "usage: memory-pattern VCPUS KEEP_MIB PAUSE_US\n");
        return 2;
    }
    vcpus = atoi(argv[1]);
    /* A locked page stays in memory, and with this also where it is (vm.rst: compact_unevictable_allowed). */
    fd = open("/proc/sys/vm/compact_unevictable_allowed", O_WRONLY);
    if (fd < 0 || write(fd, "0", 1) != 1)
        die("compact_unevictable_allowed");
    close(fd);
    if (sysinfo(&info))
        die("sysinfo");
    size_t free_pages = (size_t)info.freeram * info.mem_unit / PAGE, keep = (size_t)atoi(argv[2]) << 8;
    if (free_pages < keep + 1024)
        die("too little free memory");
    count = (free_pages - keep) / vcpus;
    for (int vcpu = 0; vcpu < vcpus; vcpu++, first += count)
        if (!fork()) {
            history_begin("memory", vcpu);
            pin(vcpu);
            memory = mmap(NULL, count * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (memory == MAP_FAILED)
                die("mmap");
            madvise(memory, count * PAGE, MADV_HUGEPAGE);
            if (mlock(memory, count * PAGE))
                die("mlock");
            sweep_for_ever(atoi(argv[3]));
            history_end();
        }
    return 0;
}
