// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The syscall gate (cprtest/observe/gate.py), by seccomp user notification, see seccomp_unotify(2).
 *
 *   gate launch OUTBOX SHARED TOKEN PROGRAM ARGUMENT...
 *       puts itself under the filter in SHARED, sends the listener to OUTBOX, becomes PROGRAM.
 *   gate supervise CONTROL INBOX SHARED
 *       answers the notifications of all that was launched, one record each in SHARED. Calls that the test
 *       has rules for (header.asks) are left parked until CONTROL has the test's answer; all others go on at
 *       once, and the test's Python hears nothing of them.
 *
 * It knows no names of calls and no rules: those are in Python. The layout of SHARED, a memfd, is in gate-log.h.
 */
#define _GNU_SOURCE
#include "gate-log.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV /* Linux 5.19 */
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS /* Linux 6.6 */
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, uint64_t)
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP 1
#endif
#define KCMP_FILE 0

#define CALIBRATIONS 8
#define CLIENTS 64
#define FILES 4096

struct client {
    int listener, pidfd;
    uint32_t token, pid, err;
};

struct file {
    char device[80];
    uint32_t token, pid;
    int fd, number;
};

static struct header *header;
static struct record *records;
static struct client clients[CLIENTS];
static int nclients;
static struct file files[FILES];
static int nfiles;

static void die(const char *what)
{
    fprintf(stderr, "gate: %s: %s\n", what, strerror(errno));
    exit(125);
}

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

/* Send with two descriptors, or none. By sendmmsg, which no filter of ours ever traps. */
static int send_message(int sock, const struct message *message, const int *fds)
{
    union {
        char space[CMSG_SPACE(2 * sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec part = {(void *)message, sizeof(*message)};
    struct mmsghdr m = {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}};
    if (fds) {
        m.msg_hdr.msg_control = &control;
        m.msg_hdr.msg_controllen = sizeof(control);
        struct cmsghdr *c = CMSG_FIRSTHDR(&m.msg_hdr);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(2 * sizeof(int));
        memcpy(CMSG_DATA(c), fds, 2 * sizeof(int));
    }
    return sendmmsg(sock, &m, 1, MSG_NOSIGNAL);
}

/* ---- launch ---- */

static int install(int shared)
{
    static struct sock_filter code[512];
    uint64_t length;
    if (pread(shared, &length, sizeof(length), FILTER_OFFSET) != sizeof(length) ||
        length > sizeof(code) / sizeof(code[0]) ||
        pread(shared, code, length * sizeof(code[0]), FILTER_OFFSET + sizeof(length)) < 0)
        die("filter");
    struct sock_fprog program = {length, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        die("PR_SET_NO_NEW_PRIVS");
    prctl(PR_SET_PTRACER, -1, 0, 0, 0); /* where Yama wants to be asked; elsewhere it fails */
    unsigned long flags = SECCOMP_FILTER_FLAG_NEW_LISTENER;
    int listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                           flags | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &program);
    if (listener < 0 && errno == EINVAL)
        listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
    if (listener < 0)
        die(errno == EBUSY ? "this process is under another seccomp listener already" : "seccomp");
    return listener;
}

static int launch(char **argv)
{
    int outbox = atoi(argv[0]), shared = atoi(argv[1]);
    struct message hello = {HELLO, atoi(argv[2]), getpid(), 0};
    int fds[2] = {0, syscall(SYS_pidfd_open, getpid(), 0)};
    if (fds[1] < 0)
        die("pidfd_open");
    fds[0] = install(shared);
    if (send_message(outbox, &hello, fds) != 1)
        die("sending the listener, the gate's supervisor is gone");
    close(fds[0]);
    close(fds[1]);
    close(outbox);
    close(shared);
    /* Returns when the supervisor is there and the test has its own copy of the listener. */
    if (ioctl(-1, CALIBRATE, 0))
        die("the gate's supervisor is gone");
    for (int i = 0; i < CALIBRATIONS; i++)
        ioctl(-1, CALIBRATE, now());
    execv(argv[3], argv + 3);
    die(argv[3]);
    return 125;
}

/* ---- supervise ---- */

/* The number of the open file among all those seen of its device; a file that travelled keeps its number. */
static int number_of(struct record *r)
{
    int next = 0, own = 0, comparable = 1;
    for (int i = 0; i < nfiles; i++) {
        struct file *f = &files[i];
        if (strcmp(f->device, r->device))
            continue;
        if (f->token == r->token && f->fd == r->fd)
            return f->number;
        own += f->token == r->token;
        next = f->number >= next ? f->number + 1 : next;
    }
    int number = -1;
    for (int i = 0; i < nfiles && number < 0; i++) {
        struct file *f = &files[i];
        if (strcmp(f->device, r->device))
            continue;
        long order = syscall(SYS_kcmp, f->pid, r->tid, KCMP_FILE, (long)f->fd, (long)r->fd);
        if (order == 0)
            number = f->number;
        else if (order < 0 && (errno == ENOSYS || errno == EPERM))
            comparable = 0;
    }
    if (number < 0)
        number = comparable ? next : own;
    if (!comparable)
        r->flags |= BY_ORDER;
    if (nfiles < FILES) {
        struct file *f = &files[nfiles++];
        strcpy(f->device, r->device);
        f->token = r->token;
        f->pid = r->tid;
        f->fd = r->fd;
        f->number = number;
    }
    return number;
}

static uint32_t peek(pid_t tid, uint64_t address, void *to, size_t size)
{
    struct iovec here = {to, size}, there = {(void *)address, size};
    ssize_t got = process_vm_readv(tid, &here, 1, &there, 1, 0);
    return got < 0 ? 0 : got;
}

static void reply(const struct client *client, uint64_t id, int how, int value)
{
    struct seccomp_notif_resp response = {.id = id};
    if (how == CONTINUE)
        response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    else
        response.error = value < 0 ? value : 0;
    ioctl(client->listener, SECCOMP_IOCTL_NOTIF_SEND, &response); /* ENOENT: it was killed meanwhile */
}

static void finish(const struct client *client, struct record *r, int how, int value)
{
    r->how = how;
    r->value = value;
    __atomic_store_n(&r->answered, now(), __ATOMIC_RELEASE);
    reply(client, r->id, how, value);
}

static int is_asked(uint32_t command)
{
    uint32_t asked = __atomic_load_n(&header->asked, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < asked && i < ASKS; i++)
        if (header->asks[i] == command)
            return 1;
    return 0;
}

/* m: of a sendmsg, as is_plain() read it. */
static void look(struct record *r, const struct msghdr *m)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%u/fd/%d", r->tid, r->fd);
    ssize_t length = readlink(path, r->device, sizeof(r->device) - 1);
    r->device[length < 0 ? 0 : length] = 0;
    if (r->syscall == SYS_ioctl) {
        r->file = number_of(r);
        r->size = r->argument < 4096 ? 0 : peek(r->tid, r->argument, r->memory, 64);
        return;
    }
    r->file = -1;
    if (m->msg_controllen)
        r->size = peek(r->tid, (uint64_t)m->msg_control, r->memory,
                       m->msg_controllen < sizeof(r->memory) ? m->msg_controllen : sizeof(r->memory));
}

/* Most of a monitor's messages carry no descriptors. If the memory cannot be read, it may be one that does. */
static int is_plain(const struct seccomp_notif *call, struct msghdr *m)
{
    return peek(call->pid, call->data.args[1], m, sizeof(*m)) == sizeof(*m) && !m->msg_controllen;
}

static void notified(int control, struct client *client)
{
    struct seccomp_notif call = {0};
    if (ioctl(client->listener, SECCOMP_IOCTL_NOTIF_RECV, &call))
        return; /* it was killed between poll and here */
    uint64_t t = now();
    if (call.data.nr == SYS_ioctl && (uint32_t)call.data.args[1] == CALIBRATE) {
        uint64_t called = call.data.args[2];
        if (called && t - called > client->err)
            client->err = t - called;
        reply(client, call.id, ANSWER, 0);
        return;
    }
    struct msghdr m = {0};
    if (call.data.nr == SYS_sendmsg && is_plain(&call, &m)) {
        reply(client, call.id, CONTINUE, 0);
        return;
    }
    uint64_t index = header->count;
    struct record *r = &records[index % RECORDS];
    memset(r, 0, sizeof(*r));
    r->t = t;
    r->id = call.id;
    r->token = client->token;
    r->tid = call.pid;
    r->syscall = call.data.nr;
    r->command = r->syscall == SYS_sendmsg ? SENDMSG : (uint32_t)call.data.args[1];
    r->fd = call.data.args[0];
    r->argument = call.data.args[2];
    r->err = client->err;
    look(r, &m);
    int asked = is_asked(r->command);
    __atomic_store_n(&header->count, index + 1, __ATOMIC_RELEASE);
    if (asked) {
        struct message ask = {ASK, client->token, client->pid, index};
        send_message(control, &ask, NULL); /* if the test is gone, it stays parked until it is killed */
        return;
    }
    finish(client, r, CONTINUE, 0);
}

static void hello(int control, int inbox)
{
    struct message message;
    char space[CMSG_SPACE(2 * sizeof(int))];
    struct iovec part = {&message, sizeof(message)};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof(space)};
    struct cmsghdr *c;
    if (recvmsg(inbox, &m, MSG_CMSG_CLOEXEC) != sizeof(message) || !(c = CMSG_FIRSTHDR(&m)))
        return;
    if (nclients == CLIENTS) {
        errno = EMFILE;
        die("too many programs at once");
    }
    int fds[2];
    memcpy(fds, CMSG_DATA(c), sizeof(fds));
    ioctl(fds[0], SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP); /* faster, where known */
    clients[nclients++] = (struct client){fds[0], fds[1], message.token, message.pid, 0};
    send_message(control, &message, fds);
}

static void gone(int control, int n)
{
    struct client *client = &clients[n];
    struct message message = {GONE, client->token, client->pid, 0};
    send_message(control, &message, NULL);
    int kept = 0;
    for (int i = 0; i < nfiles; i++)
        if (files[i].token != client->token)
            files[kept++] = files[i];
    nfiles = kept;
    close(client->listener);
    close(client->pidfd);
    *client = clients[--nclients];
}

/* 0 when the test is gone. */
static int answered(int control)
{
    struct answer answer;
    ssize_t got = recv(control, &answer, sizeof(answer), 0);
    if (got <= 0)
        return 0;
    struct record *r = &records[answer.index % RECORDS];
    for (int i = 0; i < nclients; i++)
        if (clients[i].token == r->token)
            finish(&clients[i], r, answer.how, answer.value);
    return 1;
}

static int supervise(char **argv)
{
    int control = atoi(argv[0]), inbox = atoi(argv[1]), shared = atoi(argv[2]);
    size_t size = RECORDS_OFFSET + RECORDS * sizeof(struct record);
    void *mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, shared, 0);
    if (mapped == MAP_FAILED)
        die("mmap");
    header = mapped;
    records = (void *)((char *)mapped + RECORDS_OFFSET);
    signal(SIGINT, SIG_IGN); /* Ctrl-C is the test's business, and it still needs us to end in order */
    for (;;) {
        struct pollfd polled[CLIENTS + 2] = {{control, POLLIN, 0}, {inbox, POLLIN, 0}};
        for (int i = 0; i < nclients; i++)
            polled[i + 2] = (struct pollfd){clients[i].listener, POLLIN, 0};
        int before = nclients;
        if (poll(polled, before + 2, -1) < 0)
            continue;
        for (int i = before - 1; i >= 0; i--) { /* downwards: gone() moves the last one */
            if (polled[i + 2].revents & POLLIN)
                notified(control, &clients[i]);
            else if (polled[i + 2].revents)
                gone(control, i);
        }
        if (polled[1].revents & POLLIN)
            hello(control, inbox);
        if (polled[0].revents && !answered(control))
            break;
    }
    /* Nobody would see what they do from here on. */
    for (int i = 0; i < nclients; i++)
        syscall(SYS_pidfd_send_signal, clients[i].pidfd, SIGKILL, NULL, 0);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc >= 6 && !strcmp(argv[1], "launch"))
        return launch(argv + 2);
    if (argc == 5 && !strcmp(argv[1], "supervise"))
        return supervise(argv + 2);
    fprintf(stderr, "gate is started by cprtest/observe/gate.py\n");
    return 2;
}
