// host.h: what the machine grants this process.
#pragma once
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Threads: the processor mask and the container's quota, or RAYSUM_THREADS.
int rs_host_threads(void);

// Memory, in the form of rs_memory_source; `device` does not matter. rs_host_reserve returns NULL where it would take more than is free.
void *rs_host_reserve(int32_t device, int64_t bytes);
void rs_host_release(int32_t device, void *memory, int64_t bytes);
void rs_host_memory(int32_t device, int64_t *free_bytes, int64_t *total_bytes);

#ifdef __cplusplus
}
#endif
