// tensor.h: what the calls on tensors share. An element is 4 bytes: float32, or int32, which is also how truth values are kept.
#pragma once
#include "cuda_calls.h"
#include "device.h"
#include "elementwise.h"
#include "raysum.h"
#include "status.h"

#define RS_TENSOR_RANK 6
#define RS_TENSOR_CHUNK 32768 // elements of a task: long enough to outweigh its start, short enough to share out small arrays
#define RS_TENSOR_MOST (INT64_C(1) << 40)

static inline int32_t rs_tensor_push(const rs_check *check, const char *name, rs_run cpu, rs_run cuda, void *arguments, size_t bytes) {
  if (check->status) return check->status;
  return rs_device_push(check->device, name, RS_IN_PLACE, cpu, cuda, arguments, bytes); // out may be an input
}

static inline void rs_check_choice(rs_check *check, int32_t value, int32_t most, const char *what) {
  if (!check->status && (value < 0 || value > most)) check->status = rs_fail(RS_EARGUMENT, "%s %d does not exist", what, value);
}

// The product of counts, each of at least 1; fails where one is not or the product is beyond any memory.
static inline int64_t rs_check_product(rs_check *check, const char *what, int counts, const int64_t *count) {
  int64_t product = 1;
  for (int k = 0; k < counts && !check->status; k++) {
    if (count[k] <= 0 || count[k] > RS_TENSOR_MOST / product)
      check->status =
          rs_fail(RS_EARGUMENT, "%s: extent %lld: expected a positive count, and at most 2^40 elements", what, (long long)count[k]);
    else
      product *= count[k];
  }
  return product;
}

// Fails where a range of elements shares memory with out.
static inline void rs_check_apart_from(rs_check *check, const void *out, int64_t out_count, const void *in, int64_t count,
                                       const char *what) {
  const char *a = (const char *)out, *b = (const char *)in;
  if (!check->status && a < b + 4 * count && b < a + 4 * out_count) check->status = rs_fail(RS_EARGUMENT, "out and %s share memory", what);
}

// An operand of `count` elements, apart from out.
static inline void *rs_check_operand(rs_check *check, int64_t pointer, int64_t count, const void *out, int64_t out_count,
                                     const char *what) {
  void *address = rs_check_floats(check, pointer, count, what);
  rs_check_apart_from(check, out, out_count, address, count, what);
  return address;
}
