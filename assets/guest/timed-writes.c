// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * timed-writes NONCE DEVICE: write 4 KiB to the DEVICE once a period, and count each write that has completed, in a page
 * that the host reads (counting.h). Goes round in the first MiB. The disk may keep a write in its cache.
 */
#include "counting.h"

enum { ROUND = 256 };

int main(int argc, char **argv)
{
    int fd = argc == 3 ? open(argv[2], O_WRONLY | O_DIRECT) : -1;
    void *block = aligned_alloc(PAGE, PAGE);

    if (fd < 0 || !block) {
        fprintf(stderr, "usage: timed-writes NONCE DEVICE; DEVICE has to be a disk\n");
        return 2;
    }
    begin_counting(argv[1]);
    for (uint64_t count = 1, next = now();;)
        if (next_turn(&next)) {
            if (pwrite(fd, block, PAGE, count % ROUND * PAGE) != PAGE)
                return 1;
            show_count(&page->places[0].periodic, count++);
        }
}
