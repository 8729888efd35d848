// device.h: the devices of this library, and the checks that every call with device pointers starts with.
#pragma once
#include "queue.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RS_CPU 0

// RS_OK, or RS_EDEVICE with a sentence where there is no such device. Starts a device at its first use.
int32_t rs_device_check(int32_t device);

// Hands a checked call to its device: the CPU queues it and runs `cpu` later; a GPU's `cuda` launches its kernels at once on the
// device's stream. Neither keeps `arguments`; `cuda` may change them. `name` must be a literal.
int32_t rs_device_push(int32_t device, const char *name, rs_effect effect, rs_run cpu, rs_run cuda, void *arguments, size_t bytes);

// Says which arguments a call has: resolves each pointer to an address on one device before anything is queued.
typedef struct {
  int32_t device; // below 0 until the first pointer was seen
  int32_t status; // the first error; later checks are then left out
} rs_check;

#define RS_CHECK ((rs_check){-1, RS_OK})

float *rs_check_floats(rs_check *check, int64_t pointer, int64_t count, const char *what);
double *rs_check_doubles(rs_check *check, int64_t pointer, int64_t count, const char *what);
void *rs_check_bytes(rs_check *check, int64_t pointer, int64_t bytes, const char *what);
// Fails where two ranges share memory: of floats, of bytes.
void rs_check_apart(rs_check *check, const void *a, int64_t a_count, const void *b, int64_t b_count, const char *what);
void rs_check_bytes_apart(rs_check *check, const void *a, int64_t a_bytes, const void *b, int64_t b_bytes, const char *what);

// The queue of the CPU device, once rs_device_check has passed.
rs_queue *rs_cpu_queue(void);

#ifdef __cplusplus
}
#endif
