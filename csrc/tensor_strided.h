// tensor_strided.h: elementwise work on operands with strides of their own: broadcasting, transposing, slicing, padding, joining.
#pragma once
#include "tensor_elementwise.h"

#define RS_OPERANDS 4

// Extents in C order, and for every operand its strides in elements; the last dimension moves fastest.
typedef struct {
  int32_t op, type, rank, operands;
  int64_t count;
  int64_t extent[RS_TENSOR_RANK], stride[RS_OPERANDS][RS_TENSOR_RANK];
  void *operand[RS_OPERANDS]; // out first
} rs_tensor_strided;

// Where element number `at` lies in an operand.
RS_INLINE int64_t rs_strided_offset(const rs_tensor_strided *s, int operand, int64_t at) {
  int64_t offset = 0;
  for (int k = s->rank - 1; k >= 0; k--) {
    offset += at % s->extent[k] * s->stride[operand][k];
    at /= s->extent[k];
  }
  return offset;
}

RS_INLINE int32_t rs_join_is_comparison(int32_t op) { return op >= RS_JOIN_EQUAL && op <= RS_JOIN_GREATER_EQUAL; }

RS_INLINE float rs_join_float(int32_t op, float a, float b) {
  switch (op) {
  case RS_JOIN_ADD: return a + b;
  case RS_JOIN_SUBTRACT: return a - b;
  case RS_JOIN_MULTIPLY: return a * b;
  case RS_JOIN_DIVIDE: return a / b;
  case RS_JOIN_FLOOR_DIVIDE: return floorf(a / b);
  case RS_JOIN_MODULO: {
    float rest = fmodf(a, b);
    return (a < 0) == (b < 0) ? rest : fmodf(rest + b, b); // the sign of b
  }
  case RS_JOIN_POWER: return powf(a, b);
  case RS_JOIN_MINIMUM: return b < a || b != b ? b : a; // NaN in either is NaN
  case RS_JOIN_MAXIMUM: return b > a || b != b ? b : a;
  case RS_JOIN_SQUARED_DIFFERENCE: return (a - b) * (a - b);
  case RS_JOIN_PRELU: return a < 0 ? b * a : a;
  case RS_JOIN_RELU_GRADIENT: return b > 0 ? a : 0;              // a: gradient of the result, b: the result
  case RS_JOIN_ELU_GRADIENT: return b >= 0 ? a : a * (b + 1.0f); // the same
  default: return atan2f(a, b);                                  // RS_JOIN_ARC_TANGENT
  }
}

RS_INLINE int32_t rs_join_int(int32_t op, int32_t a, int32_t b) {
  switch (op) {
  case RS_JOIN_ADD: return (int32_t)((uint32_t)a + (uint32_t)b);
  case RS_JOIN_SUBTRACT: return (int32_t)((uint32_t)a - (uint32_t)b);
  case RS_JOIN_MULTIPLY: return (int32_t)((uint32_t)a * (uint32_t)b);
  case RS_JOIN_FLOOR_DIVIDE: return b ? rs_int_of(floor((double)a / b)) : 0;
  case RS_JOIN_MODULO: {
    int64_t rest = b ? (int64_t)a % b : 0;
    return (int32_t)((a < 0) == (b < 0) || !b ? rest : (rest + b) % b);
  }
  case RS_JOIN_POWER: return rs_int_of(pow(a, b));
  case RS_JOIN_MINIMUM: return b < a ? b : a;
  case RS_JOIN_MAXIMUM: return b > a ? b : a;
  case RS_JOIN_SQUARED_DIFFERENCE: return (int32_t)(((uint32_t)a - (uint32_t)b) * ((uint32_t)a - (uint32_t)b));
  case RS_JOIN_AND: return a && b;
  case RS_JOIN_OR: return a || b;
  case RS_JOIN_EXCLUSIVE_OR: return !a != !b;
  case RS_JOIN_EQUAL: return a == b;
  case RS_JOIN_NOT_EQUAL: return a != b;
  case RS_JOIN_LESS: return a < b;
  case RS_JOIN_LESS_EQUAL: return a <= b;
  case RS_JOIN_GREATER: return a > b;
  default: return a >= b; // RS_JOIN_GREATER_EQUAL
  }
}

RS_INLINE int32_t rs_compare_float(int32_t op, float a, float b) {
  switch (op) {
  case RS_JOIN_EQUAL: return a == b;
  case RS_JOIN_NOT_EQUAL: return a != b;
  case RS_JOIN_LESS: return a < b;
  case RS_JOIN_LESS_EQUAL: return a <= b;
  case RS_JOIN_GREATER: return a > b;
  default: return a >= b; // RS_JOIN_GREATER_EQUAL
  }
}
