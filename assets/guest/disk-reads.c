// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * disk-reads DEVICE DEPTH: DEPTH readers that read blocks of DEVICE for ever, each waiting for one before it asks for the next.
 *
 * Nothing is cached (O_DIRECT), so with one reader each read is one completion of the device and one interrupt. Reported:
 *     read COUNT      so many reads have been done, all of the block's size; every EVERY of them
 *     failed WHY      a read failed
 *     end COUNT       after SIGTERM: how many it were in all
 */
#include "history.h"

enum { BLOCK = 4096, BLOCKS = 256, EVERY = 64 };

static void reader(const char *device, int index)
{
    int fd = open(device, O_RDONLY | O_DIRECT);
    uint64_t count = 0, start = now();
    void *room;

    history_begin("reads", index);
    if (fd < 0 || posix_memalign(&room, BLOCK, BLOCK))
        die(device);
    for (; !history_ended; count++) {
        if (pread(fd, room, BLOCK, (count * 7 + index) % BLOCKS * BLOCK) != BLOCK) {
            report(start, now(), "failed %s", strerror(errno));
            _exit(1);
        }
        if (count % EVERY == EVERY - 1) {
            report(start, now(), "read %llu", (unsigned long long)count + 1);
            start = now();
        }
    }
    report(start, now(), "end %llu", (unsigned long long)count);
    _exit(0);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: disk-reads DEVICE DEPTH\n");
        return 2;
    }
    signal(SIGTERM, SIG_IGN);
    for (int index = 0; index < atoi(argv[2]); index++)
        if (!fork())
            reader(argv[1], index);
    while (wait(NULL) > 0 || errno == EINTR)
        continue;
    return 0;
}
