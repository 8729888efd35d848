// tensor_elementwise.h: the arithmetic of one element, shared by the CPU loops and the CUDA kernels.
#pragma once
#include "tensor.h"

#include <math.h>

typedef struct {
  int32_t op, type;
  void *out;
  const void *a;
  int64_t count;
  double p, q;
} rs_tensor_elements;

RS_INLINE float rs_map_float(int32_t op, float a, float p, float q) {
  switch (op) {
  case RS_MAP_ABSOLUTE: return fabsf(a);
  case RS_MAP_NEGATIVE: return -a;
  case RS_MAP_SIGN: return a > 0 ? 1.0f : a < 0 ? -1.0f : 0.0f;
  case RS_MAP_SQUARE: return a * a;
  case RS_MAP_SQUARE_ROOT: return sqrtf(a);
  case RS_MAP_RECIPROCAL_SQUARE_ROOT: return 1 / sqrtf(a);
  case RS_MAP_RECIPROCAL: return 1 / a;
  case RS_MAP_EXPONENTIAL: return expf(a);
  case RS_MAP_EXPONENTIAL_MINUS_1: return expm1f(a);
  case RS_MAP_LOGARITHM: return logf(a);
  case RS_MAP_LOGARITHM_1_PLUS: return log1pf(a);
  case RS_MAP_SINE: return sinf(a);
  case RS_MAP_COSINE: return cosf(a);
  case RS_MAP_TANGENT: return (float)tan((double)a); // in float32 large arguments lose the last bits that tests look at
  case RS_MAP_HYPERBOLIC_TANGENT: return tanhf(a);
  case RS_MAP_ERROR_FUNCTION: return erff(a);
  case RS_MAP_SIGMOID: return 1 / (1 + expf(-a));
  case RS_MAP_SOFTPLUS: return a > 0 ? a + log1pf(expf(-a)) : log1pf(expf(a));
  case RS_MAP_RELU: return a < 0 ? 0 : a;
  case RS_MAP_LEAKY_RELU: return a < 0 ? p * a : a;
  case RS_MAP_ELU: return a >= 0 ? a : expm1f(a);
  case RS_MAP_SELU: return a >= 0 ? 1.0507009873554805f * a : 1.7580993408473766f * expm1f(a); // Klambauer et al., NIPS 2017
  case RS_MAP_STEP: return a > 0 ? 1 : a != a ? a : p;
  case RS_MAP_CLAMP: return a < p ? p : a > q ? q : a; // NaN stays NaN
  case RS_MAP_FLOOR: return floorf(a);
  case RS_MAP_CEILING: return ceilf(a);
  case RS_MAP_ROUND: return rintf(a); // halves to even
  default: return p * a + q;          // RS_MAP_AFFINE
  }
}

RS_INLINE int32_t rs_map_int(int32_t op, int32_t a, int32_t p, int32_t q) {
  switch (op) {
  case RS_MAP_ABSOLUTE: return a < 0 ? (int32_t)(0 - (uint32_t)a) : a;
  case RS_MAP_NEGATIVE: return (int32_t)(0 - (uint32_t)a);
  case RS_MAP_SIGN: return (a > 0) - (a < 0);
  case RS_MAP_SQUARE: return (int32_t)((uint32_t)a * (uint32_t)a);
  case RS_MAP_RELU: return a < 0 ? 0 : a;
  case RS_MAP_STEP: return a > 0 ? 1 : p;
  case RS_MAP_CLAMP: return a < p ? p : a > q ? q : a;
  case RS_MAP_NOT: return !a;
  default: return a; // RS_MAP_FLOOR, RS_MAP_CEILING, RS_MAP_ROUND
  }
}

RS_INLINE int32_t rs_map_has_int(int32_t op) {
  return op == RS_MAP_ABSOLUTE || op == RS_MAP_NEGATIVE || op == RS_MAP_SIGN || op == RS_MAP_SQUARE || op == RS_MAP_RELU ||
         op == RS_MAP_STEP || op == RS_MAP_CLAMP || op == RS_MAP_NOT || (op >= RS_MAP_FLOOR && op <= RS_MAP_ROUND);
}

// As JavaScript stores a number in an Int32Array: towards 0, modulo 2^32, and 0 for what is not finite.
RS_INLINE int32_t rs_int_of(double a) {
  if (!(fabs(a) < 9e18)) return 0;
  return (int32_t)(uint32_t)(int64_t)a;
}
