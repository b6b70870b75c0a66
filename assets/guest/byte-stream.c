// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * byte-stream tcp|vsock PORT PAUSE_US: on every connection, send a stream for ever and check the one that comes.
 *
 * Word N of either stream is N, so a byte that is lost, doubled, displaced or changed is found where it happens. The other
 * end is cprtest/workloads/streams.py. The first 8 bytes that come are the connection's index. Reported for each connection:
 *     chunk RECEIVED SENT CRC      64 KiB more have come, their CRC-32, and how much has been sent
 *     bad OFFSET WANTED SEEN       the first word that was not what it should be
 *     broken RECEIVED SENT WHY     the connection failed
 *     end RECEIVED SENT            the other end has closed its stream, and ours has ended
 */
#include "history.h"
#include "crc32.h"
#include <arpa/inet.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <sys/socket.h>

enum { CHUNK = 65536, CHUNK_WORDS = CHUNK / 8 };

static uint64_t outgoing[CHUNK_WORDS], incoming[CHUNK_WORDS];

static void fill(uint64_t *words, uint64_t first)
{
    for (int n = 0; n < CHUNK_WORDS; n++)
        words[n] = first + n;
}

/* Compare a whole chunk; returns 0 after the first that is wrong. */
static int check(uint64_t chunk, uint64_t sent)
{
    uint64_t first = chunk * CHUNK_WORDS, t = now();

    for (int n = 0; n < CHUNK_WORDS; n++)
        if (incoming[n] != first + n) {
            report(t, t, "bad %llu %llu %llu", (unsigned long long)(first + n) * 8, (unsigned long long)(first + n),
                   (unsigned long long)incoming[n]);
            return 0;
        }
    report(t, now(), "chunk %llu %llu %u", (unsigned long long)(chunk + 1) * CHUNK, (unsigned long long)sent,
           crc32(incoming, CHUNK));
    return 1;
}

static void serve(const char *family, int fd, unsigned pause)
{
    uint64_t index = 0, received = 0, sent = 0;
    int open = 1;

    if (recv(fd, &index, sizeof index, MSG_WAITALL) != sizeof index)
        _exit(0);                   /* nobody who speaks this protocol */
    history_begin(family, index);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    while (open || sent % CHUNK) {
        struct pollfd both = { fd, POLLIN | POLLOUT, 0 };

        if (!open)
            both.events = POLLOUT;
        if (poll(&both, 1, -1) < 0 && errno != EINTR)
            die("poll");
        if (open && both.revents & (POLLIN | POLLHUP | POLLERR)) {
            ssize_t got = recv(fd, (char *)incoming + received % CHUNK, CHUNK - received % CHUNK, 0);
            if (got < 0 && errno != EAGAIN)
                goto broken;
            open = got != 0;
            received += got > 0 ? got : 0;
            if (got > 0 && received % CHUNK == 0 && !check(received / CHUNK - 1, sent))
                _exit(1);
        }
        if (both.revents & POLLOUT) {
            if (sent % CHUNK == 0) {
                fill(outgoing, sent / 8);
                if (pause)
                    usleep(pause);
            }
            ssize_t put = send(fd, (char *)outgoing + sent % CHUNK, CHUNK - sent % CHUNK, MSG_NOSIGNAL);
            if (put < 0 && errno != EAGAIN)
                goto broken;
            sent += put > 0 ? put : 0;
        }
    }
    shutdown(fd, SHUT_WR);
    report(now(), now(), "end %llu %llu", (unsigned long long)received, (unsigned long long)sent);
    _exit(0);
broken:
    report(now(), now(), "broken %llu %llu %s", (unsigned long long)received, (unsigned long long)sent, strerror(errno));
    _exit(1);
}

static int listening_on(const char *family, unsigned port)
{
    struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(port) };
    struct sockaddr_vm host = { .svm_family = AF_VSOCK, .svm_port = port, .svm_cid = VMADDR_CID_ANY };
    int vsock = !strcmp(family, "vsock"), on = 1;
    int fd = socket(vsock ? AF_VSOCK : AF_INET, SOCK_STREAM, 0);

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, vsock ? (void *)&host : (void *)&any, vsock ? sizeof host : sizeof any) || listen(fd, 64))
        die("listen");
    return fd;
}

int main(int argc, char **argv)
{
    int listening, fd;

    if (argc != 4) {
        fprintf(stderr, "usage: byte-stream tcp|vsock PORT PAUSE_US\n");
        return 2;
    }
    listening = listening_on(argv[1], atoi(argv[2]));
    signal(SIGCHLD, SIG_IGN);
    while ((fd = accept(listening, NULL, NULL)) >= 0) {
        if (!fork())
            serve(argv[1], fd, atoi(argv[3]));
        close(fd);
    }
    die("accept");
}
