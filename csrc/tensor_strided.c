// tensor_strided.c: the CPU loops over tensor_strided.h, run by run of the last dimension.
#include "tensor_strided.h"

// Calls `row` on the stretches of the last dimension that make up a task.
typedef void (*strided_row)(const rs_tensor_strided *s, const int64_t *offset, int64_t count);

typedef struct {
  const rs_tensor_strided *s;
  strided_row row;
} strided_work;

static void strided_task(void *context, int64_t task, int worker) {
  (void)worker;
  const strided_work *work = context;
  const rs_tensor_strided *s = work->s;
  int64_t at = task * RS_TENSOR_CHUNK, end = at + RS_TENSOR_CHUNK < s->count ? at + RS_TENSOR_CHUNK : s->count;
  int last = s->rank - 1;
  int64_t index[RS_TENSOR_RANK], offset[RS_OPERANDS] = {0};
  for (int64_t k = last, rest = at; k >= 0; k--) {
    index[k] = rest % s->extent[k];
    rest /= s->extent[k];
  }
  for (int i = 0; i < s->operands; i++) offset[i] = rs_strided_offset(s, i, at);
  for (;;) {
    int64_t count = s->extent[last] - index[last] < end - at ? s->extent[last] - index[last] : end - at;
    work->row(s, offset, count);
    at += count;
    if (at >= end) return;
    // The row ended: back to its start, and on by one in the dimension before, with carry.
    for (int i = 0; i < s->operands; i++) offset[i] -= index[last] * s->stride[i][last];
    index[last] = 0;
    for (int k = last - 1; k >= 0; k--) {
      for (int i = 0; i < s->operands; i++) offset[i] += s->stride[i][k];
      if (++index[k] < s->extent[k]) break;
      for (int i = 0; i < s->operands; i++) offset[i] -= s->extent[k] * s->stride[i][k];
      index[k] = 0;
    }
  }
}

static int32_t over_rows(rs_operation *operation, const rs_tensor_strided *s, strided_row row) {
  strided_work work = {s, row};
  return rs_parallel_for(operation, (s->count + RS_TENSOR_CHUNK - 1) / RS_TENSOR_CHUNK, strided_task, &work);
}

static void copy_row(const rs_tensor_strided *s, const int64_t *offset, int64_t count) {
  int last = s->rank - 1;
  int32_t *out = (int32_t *)s->operand[0] + offset[0];
  const int32_t *a = (const int32_t *)s->operand[1] + offset[1];
  int64_t out_stride = s->stride[0][last], a_stride = s->stride[1][last];
  if (out_stride == 1 && a_stride == 1)
    for (int64_t i = 0; i < count; i++) out[i] = a[i];
  else
    for (int64_t i = 0; i < count; i++) out[i * out_stride] = a[i * a_stride];
}

static void select_row(const rs_tensor_strided *s, const int64_t *offset, int64_t count) {
  int last = s->rank - 1;
  int32_t *out = (int32_t *)s->operand[0] + offset[0];
  const int32_t *condition = (const int32_t *)s->operand[1] + offset[1], *a = (const int32_t *)s->operand[2] + offset[2],
                *b = (const int32_t *)s->operand[3] + offset[3];
  int64_t cs = s->stride[1][last], as = s->stride[2][last], bs = s->stride[3][last];
  for (int64_t i = 0; i < count; i++) out[i] = condition[i * cs] ? a[i * as] : b[i * bs];
}

// A row of a call with two operands. The common strides have loops of their own, which are vectorized.
#define ROW(T, O, EXPRESSION)                                                          \
  {                                                                                    \
    int last = s->rank - 1;                                                            \
    O *out = (O *)s->operand[0] + offset[0];                                           \
    const T *pa = (const T *)s->operand[1] + offset[1];                                \
    const T *pb = (const T *)s->operand[2] + offset[2];                                \
    int64_t os = s->stride[0][last], as = s->stride[1][last], bs = s->stride[2][last]; \
    if (os == 1 && as == 1 && bs == 1) {                                               \
      for (int64_t i = 0; i < count; i++) {                                            \
        T a = pa[i], b = pb[i];                                                        \
        out[i] = EXPRESSION;                                                           \
      }                                                                                \
    } else if (os == 1 && as == 1 && bs == 0) {                                        \
      T b = *pb;                                                                       \
      for (int64_t i = 0; i < count; i++) {                                            \
        T a = pa[i];                                                                   \
        out[i] = EXPRESSION;                                                           \
      }                                                                                \
    } else {                                                                           \
      for (int64_t i = 0; i < count; i++) {                                            \
        T a = pa[i * as], b = pb[i * bs];                                              \
        out[i * os] = EXPRESSION;                                                      \
      }                                                                                \
    }                                                                                  \
    return;                                                                            \
  }

#define FLOAT_CASE(OP) \
  case OP: ROW(float, float, rs_join_float(OP, a, b))

static void join_float_row(const rs_tensor_strided *s, const int64_t *offset, int64_t count) {
  switch (s->op) {
    FLOAT_CASE(RS_JOIN_ADD)
    FLOAT_CASE(RS_JOIN_SUBTRACT)
    FLOAT_CASE(RS_JOIN_MULTIPLY)
    FLOAT_CASE(RS_JOIN_DIVIDE)
    FLOAT_CASE(RS_JOIN_MINIMUM)
    FLOAT_CASE(RS_JOIN_MAXIMUM)
    FLOAT_CASE(RS_JOIN_SQUARED_DIFFERENCE)
    FLOAT_CASE(RS_JOIN_PRELU)
    FLOAT_CASE(RS_JOIN_RELU_GRADIENT)
  default: ROW(float, float, rs_join_float(s->op, a, b))
  }
}

static void compare_float_row(const rs_tensor_strided *s, const int64_t *offset, int64_t count)
    ROW(float, int32_t, rs_compare_float(s->op, a, b))

        static void join_int_row(const rs_tensor_strided *s, const int64_t *offset, int64_t count)
            ROW(int32_t, int32_t, rs_join_int(s->op, a, b))

                static int32_t run_join(rs_operation *operation, void *arguments) {
  const rs_tensor_strided *s = arguments;
  if (s->type == RS_INT32) return over_rows(operation, s, join_int_row);
  return over_rows(operation, s, rs_join_is_comparison(s->op) ? compare_float_row : join_float_row);
}

static int32_t run_select(rs_operation *operation, void *s) { return over_rows(operation, s, select_row); }
static int32_t run_copy(rs_operation *operation, void *s) { return over_rows(operation, s, copy_row); }

// Reads the extents; out is in C order until a caller says otherwise.
static rs_tensor_strided layout(rs_check *check, int32_t rank, const int64_t *table, int32_t operands) {
  rs_tensor_strided s = {.rank = rank, .operands = operands};
  if (rank < 1 || rank > RS_TENSOR_RANK) {
    check->status = rs_fail(RS_EARGUMENT, "rank %d: expected 1 to %d", rank, RS_TENSOR_RANK);
    return s;
  }
  s.count = rs_check_product(check, "extents", rank, table);
  if (check->status) return s;
  int64_t stride = 1;
  for (int k = rank - 1; k >= 0; k--) {
    s.extent[k] = table[k];
    s.stride[0][k] = stride;
    stride *= table[k];
  }
  return s;
}

// Reads an operand's strides and resolves it: all that lies between the lowest and the highest element it touches.
static void operand(rs_check *check, rs_tensor_strided *s, int which, int64_t pointer, const int64_t *strides, const char *what) {
  int64_t low = 0, high = 0;
  if (check->status) return;
  for (int k = 0; k < s->rank; k++) {
    if (strides) s->stride[which][k] = strides[k];
    int64_t stride = s->stride[which][k], steps = s->extent[k] - 1;
    if (stride > RS_TENSOR_MOST || stride < -RS_TENSOR_MOST ||
        (steps && (stride > RS_TENSOR_MOST / steps || stride < -RS_TENSOR_MOST / steps))) {
      check->status =
          rs_fail(RS_EARGUMENT, "%s: stride %lld over %lld steps reaches beyond any allocation", what, (long long)stride, (long long)steps);
      return;
    }
    if (stride < 0) low += steps * stride;
    if (stride > 0) high += steps * stride;
  }
  int32_t *first = (int32_t *)rs_check_floats(check, (int64_t)((uint64_t)pointer + (uint64_t)low * 4), high - low + 1, what);
  s->operand[which] = first ? first - low : NULL;
  if (which == 0 || check->status) return;
  // The same element of out and an operand may share memory; any other overlap would let one task read what another has written.
  int same = s->operand[which] == s->operand[0];
  for (int k = 0; k < s->rank; k++) same = same && (s->extent[k] == 1 || s->stride[which][k] == s->stride[0][k]);
  int64_t out_low = 0, out_high = 0;
  for (int k = 0; k < s->rank; k++) {
    int64_t reach = (s->extent[k] - 1) * s->stride[0][k];
    if (reach < 0) out_low += reach;
    if (reach > 0) out_high += reach;
  }
  if (!same) rs_check_apart_from(check, (int32_t *)s->operand[0] + out_low, out_high - out_low + 1, first, high - low + 1, what);
}

int32_t rs_tensor_join(int32_t op, int32_t type, int64_t out, int64_t a, int64_t b, int32_t rank, const int64_t *table) {
  rs_check check = RS_CHECK;
  rs_check_choice(&check, op, RS_JOIN_EXCLUSIVE_OR, "operation");
  rs_check_choice(&check, type, RS_INT32, "type");
  int only_float = op == RS_JOIN_DIVIDE || (op >= RS_JOIN_PRELU && op <= RS_JOIN_ARC_TANGENT), only_int = op >= RS_JOIN_AND;
  if (!check.status && (type == RS_INT32 ? only_float : only_int))
    check.status = rs_fail(RS_EARGUMENT, "operation %d does not exist for elements of type %d", op, type);
  if (check.status) return check.status;
  rs_tensor_strided s = layout(&check, rank, table, 3);
  s.op = op;
  s.type = type;
  operand(&check, &s, 0, out, table + rank, "out");
  operand(&check, &s, 1, a, table + 2 * rank, "a");
  operand(&check, &s, 2, b, table + 3 * rank, "b");
  return rs_tensor_push(&check, "tensor_join", run_join, rs_cuda_tensor_join, &s, sizeof s);
}

int32_t rs_tensor_select(int64_t out, int64_t condition, int64_t a, int64_t b, int32_t rank, const int64_t *table) {
  rs_check check = RS_CHECK;
  rs_tensor_strided s = layout(&check, rank, table, 4);
  operand(&check, &s, 0, out, NULL, "out");
  operand(&check, &s, 1, condition, table + rank, "condition");
  operand(&check, &s, 2, a, table + 2 * rank, "a");
  operand(&check, &s, 3, b, table + 3 * rank, "b");
  return rs_tensor_push(&check, "tensor_select", run_select, rs_cuda_tensor_select, &s, sizeof s);
}

int32_t rs_tensor_copy(int64_t out, int64_t a, int32_t rank, const int64_t *table) {
  rs_check check = RS_CHECK;
  rs_tensor_strided s = layout(&check, rank, table, 2);
  operand(&check, &s, 0, out, table + rank, "out");
  operand(&check, &s, 1, a, table + 2 * rank, "a");
  return rs_tensor_push(&check, "tensor_copy", run_copy, rs_cuda_tensor_copy, &s, sizeof s);
}
