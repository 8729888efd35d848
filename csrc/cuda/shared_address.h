// shared_address.h: places in shared memory as instructions take them that CUDA has no functions for.
#pragma once
#include "launch.h"

#ifdef RS_EMULATION
typedef const char *shared_address;
static inline shared_address shared_hold(const void *shared) { return (const char *)shared; }
#else
typedef unsigned shared_address;

// In a register from now on: the compiler would find the address anew, from where the block lies in its cluster, wherever it is needed.
__device__ static inline shared_address shared_hold(const void *shared) {
  shared_address address = (unsigned)__cvta_generic_to_shared(shared);
  asm volatile("" : "+r"(address));
  return address;
}
#endif
