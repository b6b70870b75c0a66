// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * probe-packets INTERFACE ADDRESS PORT PERIOD LIMIT: send numbered packets to a guest, and record them and its answers.
 *
 * Runs in the network namespace of INTERFACE, a tap. Every PERIOD ns a packet goes to ADDRESS:PORT, where
 * assets/guest/echo-packets.c answers. What passes the tap, either way, is recorded with the kernel's stamp.
 * Prints a line when the first answers have come. On SIGTERM a last packet is sent, its answer awaited for LIMIT ns at most,
 * and then all records are written (struct record). Ends at once when our parent is gone.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { STEADY = 8, PORTS = 14 + 20, PAYLOAD = PORTS + 8, WHOLE = PAYLOAD + 16 };

struct record {
    uint64_t time;                  /* the kernel's stamp: CLOCK_REALTIME, ns */
    uint64_t number, answer;        /* answer: 0 in packets to the guest */
};

static struct record *records;
static size_t count, room;
static uint64_t answers, last_answered;
static volatile sig_atomic_t ending;

static void end(int number)
{
    (void)number;
    ending = 1;
}

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void check(int bad, const char *what)
{
    if (bad) {
        perror(what);
        exit(1);
    }
}

/* Hears the tap's UDP packets to and from `port`; IPv4 without options. */
static int open_ear(const char *interface, uint16_t port)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 12),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, 0, 7),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, 14 + 9),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_UDP, 0, 5),
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, PORTS),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, port, 2, 0),
        BPF_STMT(BPF_LD | BPF_H | BPF_ABS, PORTS + 2),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, port, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, WHOLE),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog filter = { sizeof code / sizeof *code, code };
    struct sockaddr_ll where = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL),
                                 .sll_ifindex = if_nametoindex(interface) };
    int fd = socket(AF_PACKET, SOCK_RAW, 0), on = 1, size = 8 << 20;

    check(fd < 0, "probe-packets: socket");
    check(where.sll_ifindex == 0, interface);
    check(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter), "probe-packets: filter");
    check(setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on), "probe-packets: stamps");
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size))
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    check(bind(fd, (struct sockaddr *)&where, sizeof where), interface);
    return fd;
}

static int open_mouth(const char *address, uint16_t port)
{
    struct sock_filter code[] = { BPF_STMT(BPF_RET | BPF_K, 0) };  /* the ear hears the answers */
    struct sock_fprog filter = { 1, code };
    struct sockaddr_in there = { .sin_family = AF_INET, .sin_port = htons(port) };
    int fd = socket(AF_INET, SOCK_DGRAM, 0);

    check(fd < 0 || inet_pton(AF_INET, address, &there.sin_addr) != 1, address);
    check(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter), "probe-packets: filter");
    check(connect(fd, (struct sockaddr *)&there, sizeof there), address);
    return fd;
}

/* Take what has been heard. */
static void hear(int fd)
{
    for (;;) {
        uint8_t packet[WHOLE];
        union {
            char space[CMSG_SPACE(sizeof(struct timespec))];
            struct cmsghdr align;
        } control;
        struct sockaddr_ll from;
        struct iovec data = { packet, sizeof packet };
        struct msghdr message = { .msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &data, .msg_iovlen = 1,
                                  .msg_control = &control, .msg_controllen = sizeof control };
        struct timespec stamp;
        struct record new;

        if (recvmsg(fd, &message, MSG_DONTWAIT) != WHOLE) {
            if (errno == EAGAIN || errno == EINTR)
                return;
            continue;
        }
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        if (header == NULL || header->cmsg_type != SCM_TIMESTAMPNS)
            continue;
        memcpy(&stamp, CMSG_DATA(header), sizeof stamp);
        new.time = stamp.tv_sec * 1000000000ull + stamp.tv_nsec;
        memcpy(&new.number, packet + PAYLOAD, 8);
        memcpy(&new.answer, packet + PAYLOAD + 8, 8);
        if ((from.sll_pkttype == PACKET_OUTGOING) != (new.answer == 0))
            continue;               /* none of ours */
        if (count == room) {
            room = room ? 2 * room : 4096;
            records = realloc(records, room * sizeof *records);
            check(records == NULL, "probe-packets");
        }
        records[count++] = new;
        if (new.answer) {
            if (++answers == STEADY) {
                puts("answered");
                fflush(stdout);
            }
            last_answered = new.number > last_answered ? new.number : last_answered;
        }
    }
}

int main(int argc, char **argv)
{
    struct sigaction action = { .sa_handler = end };
    struct tpacket_stats stats;
    socklen_t size = sizeof stats;
    pid_t parent = getppid();

    if (argc != 6) {
        fprintf(stderr, "usage: probe-packets INTERFACE ADDRESS PORT PERIOD LIMIT\n");
        return 2;
    }
    int ear = open_ear(argv[1], atoi(argv[3])), mouth = open_mouth(argv[2], atoi(argv[3]));
    uint64_t period = strtoull(argv[4], NULL, 10), limit = strtoull(argv[5], NULL, 10);
    uint64_t number = 0, refused = 0, next = now(), deadline = 0;

    sigaction(SIGTERM, &action, NULL);
    prctl(PR_SET_TIMERSLACK, 1);
    /* Takes a CPU that is free, and none from who is on it. */
    sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){ .sched_priority = 0 });
    while (getppid() == parent) {
        uint64_t t = now();

        if (deadline ? last_answered == number || t >= deadline : 0)
            break;
        if (!deadline && (t >= next || ending)) {
            uint64_t numbers[2] = { number + 1, 0 };

            deadline = ending ? t + limit : 0;
            if (send(mouth, numbers, sizeof numbers, MSG_DONTWAIT) == sizeof numbers)
                number++;
            else
                refused++;
            next = next + period > t ? next + period : t + period;
        }
        uint64_t until = deadline ? deadline : next;
        uint64_t wait = until > (t = now()) ? until - t : 0;
        /* What comes is stamped by the kernel and can wait: one wake-up a packet, not three. Only the last is waited for. */
        struct pollfd heard = { .fd = deadline ? ear : -1, .events = POLLIN };
        struct timespec time = { wait / 1000000000, wait % 1000000000 };
        if (wait && !(ending && !deadline))
            ppoll(&heard, 1, &time, NULL);
        hear(ear);
    }
    check(getsockopt(ear, SOL_PACKET, PACKET_STATISTICS, &stats, &size), "probe-packets: statistics");
    struct { uint64_t sent, refused, missed; } head = { number, refused, stats.tp_drops };
    fwrite(&head, sizeof head, 1, stdout);
    fwrite(records, sizeof *records, count, stdout);
    return 0;
}
