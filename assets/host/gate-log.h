// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the gate's supervisor and the test share: a memfd with a header, the filter, and records, and the messages between
 * them. cprtest/observe/gate_log.py has the same layout.
 */
#include <stdint.h>

#define FILTER_OFFSET 4096
#define RECORDS_OFFSET 8192
#define RECORDS 32768
#define ASKS 64
#define SENDMSG 0xffffffff   /* in asks: sendmsg that carries control data */
#define CALIBRATE 0x67617465 /* an ioctl command of ours: its argument is the time of the call */

enum { CONTINUE, ANSWER };           /* how a call was answered; a negative value is an error */
enum { HELLO = 1, GONE = 2, ASK = 3 };
enum { BY_ORDER = 1 };               /* record.flags: file was not found by comparing, but counted */

struct header {
    uint64_t count; /* of records, ever; record n is at n % RECORDS */
    uint32_t asked, asks[ASKS];
};

struct record {
    uint64_t t, answered, id, argument; /* ns, CLOCK_MONOTONIC; answered: 0 while parked */
    uint32_t token, tid, syscall, command;
    int32_t fd, file, how, value;
    uint32_t err, size, flags, unused; /* err: ns, how long a wake-up took at worst in calibration */
    char device[80];
    unsigned char memory[352]; /* what argument points to: `size` bytes */
};
_Static_assert(sizeof(struct record) == 512, "cprtest/observe/gate_log.py");

struct message {
    uint32_t kind, token, pid, index;
};

struct answer {
    uint32_t index;
    int32_t how, value;
};
