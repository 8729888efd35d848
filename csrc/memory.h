// memory.h: the registry of live allocations, and a caching pool for every device.
//
// Freed memory stays in the pool and is handed out again: the smallest block that is large enough, of several the one at the lowest
// address, so that a program which repeats itself sees the same addresses. Because a device works in order, memory may be handed out again as soon as it was freed: whoever gets it queues
// later work than whoever had it.
#pragma once
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RS_MAX_DEVICES 33 // the CPU and up to 32 GPUs

// How a device gets memory from the system. reserve returns NULL when there is none; wait_idle returns when the queue is empty.
// Called with the registry locked, so that nobody frees memory of queued work meanwhile: they must not call back.
typedef struct {
  void *(*reserve)(int32_t device, int64_t bytes);
  void (*release)(int32_t device, void *address, int64_t bytes);
  void (*available)(int32_t device, int64_t *free_bytes, int64_t *total_bytes);
  void (*wait_idle)(int32_t device);
  const char *name;
} rs_memory_source;

void rs_memory_register(int32_t device, const rs_memory_source *source);
int32_t rs_pool_allocate(int32_t device, int64_t bytes, int64_t *pointer);
int32_t rs_pool_trim(int32_t device);

// The address behind a device pointer. Fails unless the allocation is alive and holds `bytes` from there. Where *device is below 0
// it is set to the pointer's device, otherwise the pointer must belong to it. `what` names the argument in the error.
int32_t rs_resolve(int64_t pointer, int64_t bytes, const char *what, int32_t *device, void **address);

// While a capture records on a device, it keeps every allocation that is resolved there, and allocations made there stay its own. This
// gives back what the capture in that slot had, as far as it was freed meanwhile.
void rs_memory_forget(int32_t slot);

// Counts plans and downloads for rs_memory.
void rs_memory_count(int32_t device, int32_t counter, int64_t change);

#ifdef __cplusplus
}
#endif
