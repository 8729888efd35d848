// tensor_fold.c: the CPU loops over tensor_fold.h, in float64. How a reduction is cut into parts depends on the shape alone, so its
// result does not depend on the number of threads.
#include "tensor_fold.h"

#include "scratch.h"

#define BLOCK 64          // neighbouring columns of a task
#define MOST_SEGMENTS 64  // parts of a long axis
#define SEGMENT (1 << 16) // elements of a part, at least

typedef struct {
  const rs_tensor_folding *f;
  int64_t blocks, segments, length; // of inner; of axis; of one segment
  double *partial;                  // [segment][outer][inner]
} folding;

static inline __attribute__((always_inline)) double element(const rs_tensor_folding *f, int64_t i) {
  return f->type == RS_FLOAT32 ? (double)((const float *)f->a)[i] : (double)((const int32_t *)f->a)[i];
}

static inline __attribute__((always_inline)) void fold_block(const rs_tensor_folding *f, int32_t op, int64_t at, int64_t count,
                                                             int64_t width, double *result) {
  if (f->inner == 1) {
    // Running values in eight lanes: independent additions overlap, and each stays short.
    double value[8];
    for (int k = 0; k < 8; k++) value[k] = rs_fold_start(op);
    int64_t i = 0;
    for (; i + 8 <= count; i += 8)
      for (int k = 0; k < 8; k++) value[k] = rs_fold_join(op, value[k], element(f, at + i + k));
    for (; i < count; i++) value[0] = rs_fold_join(op, value[0], element(f, at + i));
    for (int k = 1; k < 8; k++) value[0] = rs_fold_join(op, value[0], value[k]);
    *result = value[0];
    return;
  }
  for (int64_t k = 0; k < width; k++) result[k] = rs_fold_start(op);
  for (int64_t i = 0; i < count; i++, at += f->inner)
    for (int64_t k = 0; k < width; k++) result[k] = rs_fold_join(op, result[k], element(f, at + k));
}

static void fold_task(void *context, int64_t task, int worker) {
  (void)worker;
  const folding *w = context;
  const rs_tensor_folding *f = w->f;
  int64_t segment = task % w->segments, column = task / w->segments % w->blocks * BLOCK, row = task / w->segments / w->blocks;
  int64_t start = segment * w->length, count = f->axis - start < w->length ? f->axis - start : w->length;
  int64_t width = f->inner - column < BLOCK ? f->inner - column : BLOCK;
  double *result = w->partial + (segment * f->outer + row) * f->inner + column;
  int64_t at = (row * f->axis + start) * f->inner + column;
  // A constant operation and type in the hot cases lets the loop be vectorized.
  if (f->type == RS_FLOAT32 && (f->op == RS_FOLD_SUM || f->op == RS_FOLD_MEAN)) {
    rs_tensor_folding constant = *f;
    constant.type = RS_FLOAT32;
    fold_block(&constant, RS_FOLD_SUM, at, count, width, result);
  } else
    fold_block(f, f->op, at, count, width, result);
}

static void finish_task(void *context, int64_t task, int worker) {
  (void)worker;
  const folding *w = context;
  const rs_tensor_folding *f = w->f;
  int64_t columns = f->outer * f->inner, end = (task + 1) * RS_TENSOR_CHUNK < columns ? (task + 1) * RS_TENSOR_CHUNK : columns;
  for (int64_t i = task * RS_TENSOR_CHUNK; i < end; i++) {
    double value = w->partial[i];
    for (int64_t segment = 1; segment < w->segments; segment++) value = rs_fold_join(f->op, value, w->partial[segment * columns + i]);
    if (f->op == RS_FOLD_MEAN) value /= (double)f->axis;
    if (f->type == RS_FLOAT32)
      ((float *)f->out)[i] = (float)value;
    else
      ((int32_t *)f->out)[i] = rs_int_of(value);
  }
}

static void place_task(void *context, int64_t task, int worker) {
  (void)worker;
  const folding *w = context;
  const rs_tensor_folding *f = w->f;
  int64_t column = task % w->blocks * BLOCK, row = task / w->blocks;
  int64_t width = f->inner - column < BLOCK ? f->inner - column : BLOCK;
  for (int64_t k = 0; k < width; k++) {
    int64_t at = row * f->axis * f->inner + column + k, place = 0;
    double best = element(f, at);
    for (int64_t i = 1; i < f->axis; i++) {
      double value = element(f, at + i * f->inner);
      if (f->op == RS_FOLD_PLACE_OF_LARGEST ? value > best : value < best) {
        best = value;
        place = i;
      }
    }
    ((int32_t *)f->out)[row * f->inner + column + k] = (int32_t)place;
  }
}

static int32_t run_fold(rs_operation *operation, void *arguments) {
  const rs_tensor_folding *f = arguments;
  folding w = {.f = f, .blocks = (f->inner + BLOCK - 1) / BLOCK};
  if (f->op >= RS_FOLD_PLACE_OF_LARGEST) return rs_parallel_for(operation, f->outer * w.blocks, place_task, &w);
  int64_t columns = f->outer * f->inner, tasks = f->outer * w.blocks, parts = f->axis * columns / SEGMENT;
  w.segments = tasks >= MOST_SEGMENTS || parts < 2 ? 1 : parts < MOST_SEGMENTS ? parts : MOST_SEGMENTS;
  w.length = (f->axis + w.segments - 1) / w.segments;
  w.segments = (f->axis + w.length - 1) / w.length;
  w.partial = rs_scratch((size_t)(w.segments * columns) * sizeof(double));
  if (!w.partial) return RS_EMEMORY;
  int32_t status = rs_parallel_for(operation, tasks * w.segments, fold_task, &w);
  return status ? status : rs_parallel_for(operation, (columns + RS_TENSOR_CHUNK - 1) / RS_TENSOR_CHUNK, finish_task, &w);
}

int32_t rs_tensor_fold(int32_t op, int32_t type, int64_t out, int64_t a, int64_t outer, int64_t axis, int64_t inner) {
  rs_check check = RS_CHECK;
  rs_tensor_folding f = {.op = op, .type = type, .outer = outer, .axis = axis, .inner = inner};
  rs_check_choice(&check, op, RS_FOLD_PLACE_OF_SMALLEST, "reduction");
  rs_check_choice(&check, type, RS_INT32, "type");
  int64_t count = rs_check_product(&check, "reduction", 3, (const int64_t[]){outer, axis, inner});
  f.out = rs_check_floats(&check, out, count / (axis > 0 ? axis : 1), "out");
  f.a = rs_check_operand(&check, a, count, f.out, check.status ? 0 : count / axis, "a");
  return rs_tensor_push(&check, "tensor_fold", run_fold, rs_cuda_tensor_fold, &f, sizeof f);
}

static void softmax_task(void *context, int64_t row, int worker) {
  (void)worker;
  const rs_tensor_rows *r = context;
  float *out = r->out + row * r->columns;
  const float *a = r->a + row * r->columns;
  float largest = a[0];
  double sum = 0;
  for (int64_t i = 1; i < r->columns; i++) largest = a[i] > largest ? a[i] : largest;
  for (int64_t i = 0; i < r->columns; i++) sum += out[i] = expf(a[i] - largest);
  for (int64_t i = 0; i < r->columns; i++) out[i] = (float)(out[i] / sum);
}

static int32_t run_softmax(rs_operation *operation, void *arguments) {
  rs_tensor_rows *r = arguments;
  return rs_parallel_for(operation, r->rows, softmax_task, r);
}

int32_t rs_tensor_softmax(int64_t out, int64_t a, int64_t rows, int64_t columns) {
  rs_check check = RS_CHECK;
  rs_tensor_rows r = {.rows = rows, .columns = columns};
  int64_t count = rs_check_product(&check, "softmax", 2, (const int64_t[]){rows, columns});
  r.out = rs_check_floats(&check, out, count, "out");
  r.a = rs_check_floats(&check, a, count, "a");
  if (r.a != r.out) rs_check_apart_from(&check, r.out, count, r.a, count, "a");
  return rs_tensor_push(&check, "tensor_softmax", run_softmax, rs_cuda_tensor_softmax, &r, sizeof r);
}
