/* The partition of an id in a cluster: by the CRC-16 of XMODEM that Redis Cluster takes of keys. */
#ifndef FEATURESTORE_PARTITION_H
#define FEATURESTORE_PARTITION_H

#include <stddef.h>
#include <stdint.h>

#define SLOTS 16384
#define MOST_ID 256 /* bytes of an id */

static uint16_t crc_of_byte[256];

/* Has to be called before `partition_of`. */
static void fill_crc_table(void)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        unsigned crc = byte << 8;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1;
        crc_of_byte[byte] = (uint16_t)crc;
    }
}

/* Return which of `count` partitions, of which there are at most SLOTS, has an id. */
static uint32_t partition_of(const char *id, size_t size, uint32_t count)
{
    uint16_t crc = 0;
    for (size_t at = 0; at < size; at++)
        crc = (uint16_t)(crc << 8 ^ crc_of_byte[(crc >> 8 ^ (unsigned char)id[at]) & 0xff]);
    return crc % SLOTS * count / SLOTS;
}

#endif
