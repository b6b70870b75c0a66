// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * echo-packets PORT: send every UDP packet to PORT back to where it came from, with a number of its own.
 *
 * A packet holds two numbers, little-endian, 64 bits each: the sender's, which comes back, and after it room for
 * the number of the answer, from 1. So a packet that got lost, doubled or overtaken is known by its number,
 * whichever way it was going. Goes on in the background for ever. The other side is assets/host/probe-packets.c.
 */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct sockaddr_in here = { .sin_family = AF_INET, .sin_port = htons(argc == 2 ? atoi(argv[1]) : 0) };
    int fd = socket(AF_INET, SOCK_DGRAM, 0), room = 4 << 20;
    uint64_t numbers[2], answer = 0;

    if (here.sin_port == 0) {
        fprintf(stderr, "usage: echo-packets PORT\n");
        return 2;
    }
    /* What comes in one burst after a pause must not be lost here. */
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    if (fd < 0 || bind(fd, (struct sockaddr *)&here, sizeof here) || daemon(0, 0)) {
        perror("echo-packets");
        return 1;
    }
    for (;;) {
        struct sockaddr_in from;
        socklen_t size = sizeof from;

        if (recvfrom(fd, numbers, sizeof numbers, 0, (struct sockaddr *)&from, &size) != sizeof numbers)
            continue;
        numbers[1] = ++answer;
        sendto(fd, numbers, sizeof numbers, 0, (struct sockaddr *)&from, size);
    }
}
