// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * byte-stream tcp|vsock PORT PAUSE_US: on every connection, send a stream for ever and check the one that comes.
 *
 * Word N of either stream is N modulo PERIOD, so a byte that is lost, doubled, displaced or changed is found where it
 * happens. The other end is cprtest/workloads/streams.py. The first 8 bytes that come are the connection's index.
 * Reported for each connection:
 *     chunk RECEIVED SENT SUM      so much has come, and is right; how much has been sent; the sum of the weighted sums
 *                                  of all chunks of 64 KiB that came. At most every 50 ms, and at the end.
 *     bad OFFSET WANTED SEEN       the first word that was not what it should be
 *     broken RECEIVED SENT WHY     the connection failed
 *     end RECEIVED SENT            the other end has closed its stream, and ours has ended
 *
 * Two threads serve a connection, and all are of one process: to switch between processes costs a guest under TCG all
 * addresses that have been translated.
 */
#include "history.h"
#include "weighted.h"
#include <arpa/inet.h>
#include <linux/vm_sockets.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

enum { CHUNK = 65536, CHUNK_WORDS = CHUNK / 8, PERIOD = 1 << 20, EVERY_NS = 50 * 1000 * 1000 };

struct connection {
    int fd;
    unsigned pause;
    const char *family;
    atomic_int closed;              /* the other end's stream has ended */
    int why;                        /* errno of the sender, once it has ended */
    _Atomic uint64_t sent;
    uint64_t chunks, sum, reported, began;
    uint64_t outgoing[CHUNK_WORDS], incoming[CHUNK_WORDS];
};

ONE_BY_ONE static void fill(uint64_t *words, uint64_t first)
{
    for (int n = 0; n < CHUNK_WORDS; n++)
        words[n] = first + n;
}

/* Compare a whole chunk, which never wraps: the number of its first word that is wrong, or CHUNK_WORDS and its sum. */
ONE_BY_ONE static int first_wrong(const uint64_t *words, uint64_t first, uint64_t *sum)
{
    int n = 0;

    for (*sum = 0; n < CHUNK_WORDS && words[n] == first + n; n++)
        *sum += words[n] * WEIGHT(n);
    return n;
}

static void *sender(void *argument)
{
    struct connection *c = argument;

    while (!c->closed) {
        fill(c->outgoing, c->sent / 8 % PERIOD);
        if (c->pause)
            usleep(c->pause);
        for (size_t done = 0; done < CHUNK;) {
            ssize_t put = send(c->fd, (char *)c->outgoing + done, CHUNK - done, MSG_NOSIGNAL);
            if (put < 0 && errno == EINTR)
                continue;
            if (put < 0) {
                c->why = errno;
                shutdown(c->fd, SHUT_RDWR);     /* the receiver tells it */
                return NULL;
            }
            done += put;
            c->sent += put;
        }
    }
    return NULL;
}

/* Report the chunks that have come since the last report, if any. */
static void report_chunks(struct connection *c, uint64_t t)
{
    if (c->reported == c->chunks)
        return;
    report(c->began, t, "chunk %llu %llu %llu", (unsigned long long)c->chunks * CHUNK, (unsigned long long)c->sent,
           (unsigned long long)c->sum);
    c->reported = c->chunks;
    c->began = t;
}

/* Judge a whole chunk; returns 0 after the first that is wrong. */
static int right(struct connection *c)
{
    uint64_t first = c->chunks * CHUNK_WORDS % PERIOD, sum, t = now();
    int at = first_wrong(c->incoming, first, &sum);

    if (at < CHUNK_WORDS) {
        report(t, t, "bad %llu %llu %llu", (unsigned long long)(c->chunks * CHUNK + at * 8),
               (unsigned long long)(first + at), (unsigned long long)c->incoming[at]);
        return 0;
    }
    c->chunks++;
    c->sum += sum;
    if (t - c->began >= EVERY_NS)   /* the first at once */
        report_chunks(c, t);
    return 1;
}

/* Receive until the other end closes its stream: 1; or something is wrong, and has been told: 0. */
static int receive(struct connection *c, uint64_t *received)
{
    for (;;) {
        size_t held = *received % CHUNK;
        ssize_t got = recv(c->fd, (char *)c->incoming + held, CHUNK - held, MSG_WAITALL);

        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0)
            return 1;
        if (got < 0) {
            report(now(), now(), "broken %llu %llu %s", (unsigned long long)*received, (unsigned long long)c->sent,
                   strerror(errno));
            return 0;
        }
        *received += got;
        if (*received % CHUNK == 0 && !right(c))
            return 0;
    }
}

static void *serve(void *argument)
{
    struct connection *c = argument;
    uint64_t index = 0, received = 0;
    pthread_t other;
    int told;

    if (recv(c->fd, &index, sizeof index, MSG_WAITALL) != sizeof index)
        goto gone;                  /* nobody who speaks this protocol */
    history_as(c->family, index);
    if (pthread_create(&other, NULL, sender, c))
        die("thread");
    told = !receive(c, &received);
    if (told)
        shutdown(c->fd, SHUT_RDWR); /* the sender may wait for room */
    c->closed = 1;
    pthread_join(other, NULL);
    if (!told && c->why)
        report(now(), now(), "broken %llu %llu %s", (unsigned long long)received, (unsigned long long)c->sent,
               strerror(c->why));
    else if (!told) {
        shutdown(c->fd, SHUT_WR);
        report_chunks(c, now());
        report(now(), now(), "end %llu %llu", (unsigned long long)received, (unsigned long long)c->sent);
    }
gone:
    close(c->fd);
    free(c);
    return NULL;
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
    while ((fd = accept(listening, NULL, NULL)) >= 0) {
        struct connection *c = calloc(1, sizeof *c);
        pthread_t thread;

        if (!c)
            die("memory");
        c->fd = fd;
        c->pause = atoi(argv[3]);
        c->family = argv[1];
        if (pthread_create(&thread, NULL, serve, c))
            die("thread");
        pthread_detach(thread);
    }
    die("accept");
}
