// device.h: the devices of this library, and the checks that every call with device pointers starts with.
#pragma once
#include "queue.h"

#include <stdint.h>

#define RS_CPU 0

// The queue of a CPU device, started at first use. NULL, with a sentence, when there is no such device.
rs_queue *rs_device_queue(int32_t device);

// Says which arguments a call has: resolves each pointer to an address on one device before anything is queued.
typedef struct {
  int32_t device; // below 0 until the first pointer was seen
  int32_t status; // the first error; later checks are then left out
} rs_check;

#define RS_CHECK ((rs_check){-1, RS_OK})

float *rs_check_floats(rs_check *check, int64_t pointer, int64_t count, const char *what);
double *rs_check_doubles(rs_check *check, int64_t pointer, int64_t count, const char *what);
void *rs_check_bytes(rs_check *check, int64_t pointer, int64_t bytes, const char *what);
// Fails where two ranges of floats share memory.
void rs_check_apart(rs_check *check, const void *a, int64_t a_count, const void *b, int64_t b_count, const char *what);
