// tensor_gather.h: picking rows by number, and its transpose, adding rows up by number.
#pragma once
#include "tensor.h"

// a is [batch, outer, axis, inner], index [batch, picks], out [batch, outer, picks, inner]: 4-byte elements of any type.
// A number outside 0 ... axis - 1 picks zeros.
typedef struct {
  int32_t *out;
  const int32_t *a, *index;
  int64_t batch, outer, axis, inner, picks;
} rs_tensor_gathering;

// a is [rows, inner], index [rows], out [segments, inner]: row r is added to segment index[r], in order; others are left out.
typedef struct {
  int32_t type;
  void *out;
  const void *a;
  const int32_t *index;
  int64_t rows, inner, segments;
} rs_tensor_segments;
