// scratch.c
#include "scratch.h"

#include "status.h"

#include <stdlib.h>

void *rs_scratch(size_t bytes) {
  static void *memory; // of the CPU queue's dispatcher: operations run one at a time
  static size_t capacity;
  if (bytes > capacity) {
    free(memory);
    capacity = (bytes + 63) / 64 * 64;
    memory = aligned_alloc(64, capacity);
    if (!memory) {
      capacity = 0;
      rs_fail(RS_EMEMORY, "no host memory for a workspace of %zu bytes", bytes);
    }
  }
  return memory;
}
