// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * udp-packets SIDE INDEX ADDRESS PORT PEER PEER_PORT SIZE BURST PAUSE_US
 *
 * One end of a flow of numbered packets, guest or host (SIDE): sends a packet of SIZE bytes every so often and judges those
 * that come. Both ends are this program. ADDRESS is our own, which says the interface when PEER is a multicast group. With
 * BURST > 1 that many packets leave in one call, for the device or the kernel to cut up (UDP_SEGMENT, udp(7)).
 *
 * A packet holds its number, how many the sender has seen of the other side's (the highest, and one more), and words that
 * follow from both, from the flow and from the side. Numbers count from 0; GREETING is sent until something has come, so that
 * nothing is sent to nobody. Who is ahead of what the other side has seen by WINDOW packets becomes SLOW times slower: what
 * waits in a tap while the guest is stopped stays far below what a tap holds. Reported:
 *     sent FIRST COUNT        packets that left, one after the other
 *     heard FIRST COUNT       packets that came right, one after the other and in this order
 *     bad NUMBER OFFSET WANTED SEEN   a packet that was changed; OFFSET: the first wrong word
 *     size NUMBER SEEN        a packet of another size
 *     broken WHY              the packets cannot be sent
 *     last SENT               after the first SIGTERM: nothing more is sent. After the second comes the end.
 */
#include "history.h"
#include <arpa/inet.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/socket.h>

enum { LARGEST = 65536, WINDOW = 48, SLOW = 20, RUN = 32, RUN_NS = 200000000 };
static const uint64_t GREETING = ~0ull;

struct run {                        /* of consecutive numbers */
    const char *what;
    uint64_t first, count, start, end;
};

static uint64_t packet[LARGEST / 8], sent, seen, acknowledged;
static int side, flow, size, burst, fd, heard_any;
static struct sockaddr_in peer = { .sin_family = AF_INET };
static struct run sending = { .what = "sent" }, hearing = { .what = "heard" };

static void flush(struct run *run)
{
    if (run->count)
        report(run->start, run->end, "%s %llu %llu", run->what, (unsigned long long)run->first,
               (unsigned long long)run->count);
    run->count = 0;
}

static void flush_old(struct run *run)
{
    if (run->count && now() - run->start > RUN_NS)
        flush(run);
}

static void add(struct run *run, uint64_t number)
{
    if (run->count == RUN || number != run->first + run->count)
        flush(run);
    run->end = now();
    if (!run->count++) {
        run->first = number;
        run->start = run->end;
    }
}

/* Word `at` of a packet that `from` sends. */
static uint64_t word(uint64_t number, uint64_t has_seen, int from, int at)
{
    uint64_t x = number * 0x9e3779b97f4a7c15 + has_seen * 0xc2b2ae3d27d4eb4f + from + 2 * flow + 512ull * at;

    x ^= x >> 31;
    return x * 0xbf58476d1ce4e5b9;
}

static void fill(uint64_t *words, uint64_t number)
{
    words[0] = number;
    words[1] = seen;
    for (int at = 2; at < size / 8; at++)
        words[at] = word(number, seen, side, at);
}

/* Send `count` packets in one call. Returns whether they left. */
static int leave(uint64_t number, int count)
{
    char control[CMSG_SPACE(sizeof(uint16_t))] = { 0 };
    struct iovec data = { packet, (size_t)size * count };
    struct msghdr message = { .msg_name = &peer, .msg_namelen = sizeof peer, .msg_iov = &data, .msg_iovlen = 1 };

    for (int n = 0; n < count; n++)
        fill(packet + n * size / 8, number == GREETING ? number : number + n);
    if (count > 1) {
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_UDP;
        head->cmsg_type = UDP_SEGMENT;
        head->cmsg_len = CMSG_LEN(sizeof(uint16_t));
        *(uint16_t *)CMSG_DATA(head) = size;
    }
    if (sendmsg(fd, &message, 0) >= 0)
        return 1;
    if (errno == EMSGSIZE || errno == EINVAL || errno == EIO || errno == EPERM) {
        report(now(), now(), "broken %s", strerror(errno));
        _exit(1);
    }
    return 0;                       /* no room, no route just now: it has not left, and keeps its number */
}

static void judge(int got)
{
    uint64_t number = packet[0], t = now();

    if (got != size) {
        report(t, t, "size %llu %d", (unsigned long long)number, got);
        return;
    }
    for (int at = 2; at < size / 8; at++) {
        uint64_t wanted = word(number, packet[1], !side, at);
        if (packet[at] != wanted) {
            report(t, t, "bad %llu %d %llu %llu", (unsigned long long)number, at * 8, (unsigned long long)wanted,
                   (unsigned long long)packet[at]);
            return;
        }
    }
    heard_any = 1;
    if (packet[1] > acknowledged)
        acknowledged = packet[1];
    if (number == GREETING)
        return;
    if (number >= seen)
        seen = number + 1;
    add(&hearing, number);
}

static void send_some(void)
{
    if (!heard_any) {
        leave(GREETING, 1);
        return;
    }
    if (!leave(sent, burst))
        return;
    for (int n = 0; n < burst; n++)
        add(&sending, sent++);
}

static void go_on(uint64_t pause)
{
    uint64_t next = now();
    int last_said = 0;

    for (;;) {
        uint64_t t = now();
        struct pollfd one = { fd, POLLIN, 0 };
        int wait = last_said ? 50 : t >= next ? 0 : (next - t + 999999) / 1000000;

        if (history_ended && last_said) {
            flush(&hearing);
            history_end();
        }
        if (history_ended) {
            history_ended = 0;
            last_said = 1;
            flush(&sending);
            report(t, t, "last %llu", (unsigned long long)sent);
        }
        if (poll(&one, 1, wait) > 0)
            for (ssize_t got; (got = recv(fd, packet, LARGEST, MSG_DONTWAIT)) >= 0; )
                judge(got);
        t = now();
        if (!last_said && t >= next) {
            send_some();
            next = t + pause * (heard_any && sent - acknowledged > WINDOW ? SLOW : 1);
        }
        flush_old(&hearing);
        flush_old(&sending);
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in here = { .sin_family = AF_INET };
    struct in_addr own;
    unsigned char off = 0;
    int room = 4 << 20, whole = IP_PMTUDISC_DO;

    if (argc != 10) {
        fprintf(stderr, "usage: udp-packets SIDE INDEX ADDRESS PORT PEER PEER_PORT SIZE BURST PAUSE_US\n");
        return 2;
    }
    side = !strcmp(argv[1], "host");
    flow = atoi(argv[2]);
    size = atoi(argv[7]);
    burst = atoi(argv[8]);
    here.sin_port = htons(atoi(argv[4]));
    peer.sin_port = htons(atoi(argv[6]));
    if (!inet_aton(argv[3], &own) || !inet_aton(argv[5], &peer.sin_addr) || size % 8 || size < 32 || burst < 1
        || size * burst > LARGEST - 64) {
        fprintf(stderr, "udp-packets: not an address, or not a size: %s %s %s %s\n", argv[3], argv[5], argv[7], argv[8]);
        return 2;
    }
    history_begin(side ? "udp.host" : "udp", flow);
    fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&here, sizeof here))
        die("bind");
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room))
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    if (setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &whole, sizeof whole))
        die("IP_MTU_DISCOVER");
    if (IN_MULTICAST(ntohl(peer.sin_addr.s_addr))) {
        struct ip_mreq group = { peer.sin_addr, own };
        if (setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group)
            || setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &own, sizeof own)
            || setsockopt(fd, IPPROTO_IP, IP_MULTICAST_LOOP, &off, sizeof off))
            die("multicast");
    }
    go_on(strtoull(argv[9], NULL, 10) * 1000);
}
