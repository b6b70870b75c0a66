// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * sample-heartbeat FD OFFSET VCPUS PERIOD: watch the beats of a guest, until SIGTERM or until our parent is gone.
 *
 * FD is the guest's memory file, OFFSET where in it the page of assets/guest/counting.h is, PERIOD in ns is the time
 * from one look to the next. Prints the line "seen" when every vCPU was seen to beat, and at the end, as JSON, for each
 * its longest silences and what was seen in all.
 *
 * A beat is seen some time after it was written: it happened after the look before began and before this look
 * ended. A silence so has two bounds at each end; all times are CLOCK_MONOTONIC in ns.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 31, KEPT = 64, PAGE = 4096 };

struct slot {                       /* as in assets/guest/counting.h, two for each vCPU: periodic, busy */
    _Atomic uint64_t count, clock;
    uint64_t unused[6];
};

struct beat {                       /* written after `after` and before `before` */
    uint64_t after, before, count, busy, clock;
};

struct silence {
    struct beat from, to;
};

static struct vcpu {
    struct beat last;
    uint64_t beats, back;           /* changes seen; how often a counter was lower than before */
    struct beat first;
    int kept;
    struct silence longest[KEPT];   /* in no order */
} vcpus[MOST];

static volatile sig_atomic_t ended;

static void end(int number)
{
    (void)number;
    ended = 1;
}

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

/* The time for which there was no beat for certain; a look that came late makes it short. */
static int64_t length(const struct silence *s)
{
    return s->to.after - s->from.before;
}

static void keep(struct vcpu *v, struct silence silence)
{
    struct silence *place = v->longest;

    if (v->kept < KEPT) {
        v->longest[v->kept++] = silence;
        return;
    }
    for (int i = 1; i < KEPT; i++)
        if (length(&v->longest[i]) < length(place))
            place = &v->longest[i];
    if (length(&silence) > length(place))
        *place = silence;
}

static uint64_t counted(const struct slot *slot)
{
    return atomic_load_explicit(&slot->count, memory_order_acquire);
}

static void look(struct vcpu *v, const struct slot *slots, uint64_t after, uint64_t *before)
{
    const struct slot *periodic = slots, *busy = slots + 1;
    struct beat seen = { .after = after, .busy = counted(busy) };

    do {                            /* the clock that belongs to the count */
        seen.count = counted(periodic);
        seen.clock = atomic_load_explicit(&periodic->clock, memory_order_acquire);
    } while (counted(periodic) != seen.count);
    *before = seen.before = now();
    if (seen.count == v->last.count && seen.busy == v->last.busy)
        return;
    v->back += seen.count < v->last.count || seen.busy < v->last.busy;
    if (v->beats++)                 /* when the first one was written nobody knows */
        keep(v, (struct silence){ v->last, seen });
    else
        v->first = seen;
    v->last = seen;
}

static int all_seen(int count)
{
    for (int i = 0; i < count; i++)
        if (!vcpus[i].beats)
            return 0;
    return 1;
}

static void show(const char *name, const struct beat *b, const char *more)
{
    printf("\"%s\": {\"after\": %lu, \"before\": %lu, \"count\": %lu, \"busy\": %lu, \"clock\": %lu}%s", name, b->after,
           b->before, b->count, b->busy, b->clock, more);
}

int main(int argc, char **argv)
{
    int fd = argc == 5 ? atoi(argv[1]) : -1, count = argc == 5 ? atoi(argv[3]) : 0;
    uint64_t offset = argc == 5 ? strtoull(argv[2], NULL, 10) : 0, period = argc == 5 ? strtoull(argv[4], NULL, 10) : 0;
    struct sigaction action = { .sa_handler = end };
    struct rusage used;
    struct stat file;
    struct pollfd reader = { .fd = STDOUT_FILENO };

    if (count < 1 || count > MOST || period == 0 || fstat(fd, &file)) {
        fprintf(stderr, "usage: sample-heartbeat FD OFFSET VCPUS PERIOD\n");
        return 2;
    }
    /* A file of huge pages is mapped by whole ones. */
    uint64_t unit = file.st_blksize > PAGE ? file.st_blksize : PAGE, start = offset / unit * unit;
    char *map = mmap(NULL, unit, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, start);
    if (map == MAP_FAILED) {
        perror("sample-heartbeat: mmap");
        return 1;
    }
    const struct slot *slots = (const struct slot *)(map + (offset - start)) + 1;  /* the head is as big as a slot */
    sigaction(SIGTERM, &action, NULL);
    prctl(PR_SET_TIMERSLACK, 1);
    /*
     * Where we may, and have to be sharp: on a busy host the looks would be milliseconds apart. Between two of them
     * there is rest for all; but a process that goes before all others stays on its CPU and interrupts who is there.
     * One that looks less often takes a CPU that is free, and none from who is on it.
     */
    int sharp = period < 100000;
    sched_setscheduler(0, sharp ? SCHED_FIFO : SCHED_BATCH, &(struct sched_param){ .sched_priority = sharp });

    uint64_t looks = 0, begin = now(), after = begin, next = begin, longest = 0;
    int told = 0;
    for (int i = 0; i < count; i++) {
        vcpus[i].last.count = counted(&slots[2 * i]);
        vcpus[i].last.busy = counted(&slots[2 * i + 1]);
    }
    for (;;) {
        /* Who ends us has seen what it waited for in the page: look once more. */
        int last = ended;
        uint64_t before = after, started = now();

        for (int i = 0; i < count; i++)
            look(&vcpus[i], &slots[2 * i], after, &before);
        looks++;
        /* Only between beats that were both seen is there silence: whoever stops the guest waits for this line. */
        if (!told && (told = all_seen(count)) && (puts("seen") < 0 || fflush(stdout)))
            return 1;
        longest = started - after > longest ? started - after : longest;
        after = started;
        if (last)
            break;
        next = next + period > started ? next + period : started + period;
        struct timespec until = { next / 1000000000, next % 1000000000 };
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        /* An error on our end of the pipe: nobody is left to read what we saw. */
        if (looks % 1024 == 0 && poll(&reader, 1, 0) > 0)
            return 1;
    }
    getrusage(RUSAGE_SELF, &used);
    printf("{\"begin\": %lu, \"end\": %lu, \"looks\": %lu, \"longest\": %lu, \"cpu\": %lu, \"vcpus\": [", begin, now(), looks,
           longest, (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000000ul
           + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1000ul);
    for (int i = 0; i < count; i++) {
        struct vcpu *v = &vcpus[i];
        printf("%s{\"beats\": %lu, \"back\": %lu, ", i ? ", " : "", v->beats, v->back);
        show("first", &v->first, ", ");
        show("last", &v->last, ", \"silences\": [");
        for (int k = 0; k < v->kept; k++) {
            printf("%s{", k ? ", " : "");
            show("from", &v->longest[k].from, ", ");
            show("to", &v->longest[k].to, "}");
        }
        printf("]}");
    }
    printf("]}\n");
    return 0;
}
