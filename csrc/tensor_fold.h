// tensor_fold.h: reductions along the middle of [outer, axis, inner], and softmax, which is two of them.
#pragma once
#include "tensor_elementwise.h"

typedef struct {
  int32_t op, type;
  void *out;
  const void *a;
  int64_t outer, axis, inner;
} rs_tensor_folding;

RS_INLINE double rs_fold_start(int32_t op) {
  switch (op) {
  case RS_FOLD_PRODUCT:
  case RS_FOLD_ALL: return 1;
  case RS_FOLD_LARGEST: return -INFINITY;
  case RS_FOLD_SMALLEST: return INFINITY;
  default: return 0; // RS_FOLD_SUM, RS_FOLD_MEAN, RS_FOLD_ANY
  }
}

RS_INLINE double rs_fold_join(int32_t op, double a, double b) {
  switch (op) {
  case RS_FOLD_PRODUCT: return a * b;
  case RS_FOLD_LARGEST: return b > a || b != b ? b : a; // NaN anywhere is NaN
  case RS_FOLD_SMALLEST: return b < a || b != b ? b : a;
  case RS_FOLD_ALL: return a != 0 && b != 0;
  case RS_FOLD_ANY: return a != 0 || b != 0;
  default: return a + b; // RS_FOLD_SUM, RS_FOLD_MEAN
  }
}

typedef struct {
  float *out;
  const float *a;
  int64_t rows, columns;
} rs_tensor_rows;
