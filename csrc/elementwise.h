// elementwise.h: the arithmetic of one element, shared by the CPU loops and the CUDA kernels.
#pragma once
#include "inline.h"
#include "raysum.h"

#include <math.h>

// The arguments of a call, checked.
typedef struct {
  int32_t op;
  float *out;
  const float *a, *b;
  double *result;
  int64_t count, period;
  double p, q;
  uint64_t seed;
} rs_elements;

typedef struct {
  float *target;
  const float *source;
  int64_t shape[4], target_strides[4], source_strides[4];
} rs_strided;

RS_INLINE float rs_unary_value(int32_t op, float a, double p, double q) {
  switch (op) {
  case RS_ABSOLUTE: return fabsf(a);
  case RS_SQUARE_ROOT: return sqrtf(a);
  case RS_EXPONENTIAL: return expf(a);
  case RS_LOGARITHM: return logf(a);
  case RS_AFFINE: return (float)(p * a + q);
  default: return a < p ? (float)p : a > q ? (float)q : a; // RS_CLAMP; NaN stays NaN
  }
}

RS_INLINE float rs_binary_value(int32_t op, float a, float b) {
  switch (op) {
  case RS_MULTIPLY: return a * b;
  case RS_DIVIDE: return a / b;
  case RS_MINIMUM: return b < a || b != b ? b : a; // NaN in either is NaN
  default: return b > a || b != b ? b : a;         // RS_MAXIMUM
  }
}

RS_INLINE double rs_reduction_term(int32_t op, float a, float b) {
  switch (op) {
  case RS_DOT: return (double)a * b;
  case RS_SQUARED_DIFFERENCE: return ((double)a - b) * ((double)a - b);
  case RS_ABSOLUTE_DIFFERENCE: return fabs((double)a - b);
  default: return a; // RS_SUM, RS_SMALLEST, RS_LARGEST
  }
}

RS_INLINE double rs_reduction_join(int32_t op, double a, double b) {
  switch (op) {
  case RS_SMALLEST: return b < a || b != b ? b : a; // NaN anywhere is NaN
  case RS_LARGEST: return b > a || b != b ? b : a;
  default: return a + b;
  }
}
