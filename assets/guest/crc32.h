/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stddef.h>
#include <stdint.h>

/* CRC-32 as in zlib. */
static inline uint32_t crc32(const void *start, size_t size)
{
    const unsigned char *data = start;
    static uint32_t table[256];
    uint32_t crc = ~0u;

    for (uint32_t n = table[255] ? 256 : 0; n < 256; n++) {
        table[n] = n;
        for (int bit = 0; bit < 8; bit++)
            table[n] = table[n] & 1 ? table[n] >> 1 ^ 0xedb88320 : table[n] >> 1;
    }
    while (size--)
        crc = table[(crc ^ *data++) & 0xff] ^ crc >> 8;
    return ~crc;
}
