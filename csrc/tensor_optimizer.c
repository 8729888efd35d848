// tensor_optimizer.c: the CPU loop over tensor_optimizer.h.
#include "tensor_optimizer.h"

#include <stdlib.h>

typedef struct {
  int32_t op;
  const rs_optimized *tensor;
  rs_optimizer_factors factors;
} optimizer_work;

// With the optimizer a constant in each loop, the loops are vectorized.
#define OPTIMIZE_LOOP(OP)                                                   \
  case OP:                                                                  \
    for (int64_t i = start; i < end; i++) rs_optimize(OP, &factors, &t, i); \
    return;

static void optimize_task(void *context, int64_t task, int worker) {
  (void)worker;
  const optimizer_work *work = context;
  const rs_optimizer_factors factors = work->factors;
  const rs_optimized t = *work->tensor;
  int64_t start = task * RS_TENSOR_CHUNK, end = start + RS_TENSOR_CHUNK < t.count ? start + RS_TENSOR_CHUNK : t.count;
  switch (work->op) {
    OPTIMIZE_LOOP(RS_OPTIMIZE_DESCENT)
    OPTIMIZE_LOOP(RS_OPTIMIZE_MOMENTUM)
    OPTIMIZE_LOOP(RS_OPTIMIZE_NESTEROV)
    OPTIMIZE_LOOP(RS_OPTIMIZE_ADAM)
  }
}

static int32_t run_optimize(rs_operation *operation, void *arguments) {
  rs_optimizer_step *o = arguments;
  if (o->advance) {
    o->state[1] *= o->beta1;
    o->state[2] *= o->beta2;
  }
  optimizer_work work = {.op = o->op, .factors = rs_optimizer_factors_of(o)};
  int32_t status = RS_OK;
  for (int k = 0; k < o->tensors && !status; k++) {
    work.tensor = &o->tensor[k];
    status = rs_parallel_for(operation, (work.tensor->count + RS_TENSOR_CHUNK - 1) / RS_TENSOR_CHUNK, optimize_task, &work);
  }
  return status;
}

// An array of a step, which no other may share memory with; gradients, which are only read, may among themselves.
typedef struct {
  const char *start, *end, *what;
  int read_only;
} range;

static int by_start(const void *a, const void *b) {
  const char *one = ((const range *)a)->start, *other = ((const range *)b)->start;
  return (one > other) - (one < other);
}

static void check_ranges(rs_check *check, range *ranges, int count) {
  qsort(ranges, (size_t)count, sizeof *ranges, by_start);
  const range *last = NULL, *last_written = NULL; // of those so far, the ones that end last
  for (int k = 0; k < count && !check->status; k++) {
    const range *now = &ranges[k], *before = now->read_only ? last_written : last;
    if (before && now->start < before->end) check->status = rs_fail(RS_EARGUMENT, "%s and %s share memory", before->what, now->what);
    if (!last || now->end > last->end) last = now;
    if (!now->read_only && (!last_written || now->end > last_written->end)) last_written = now;
  }
}

int32_t rs_tensor_optimize(int32_t op, int32_t tensors, const int64_t *table, int64_t state, int32_t advance, double beta1, double beta2,
                           double epsilon) {
  rs_check check = RS_CHECK;
  rs_optimizer_step o = {.op = op, .beta1 = beta1, .beta2 = beta2, .epsilon = epsilon, .advance = advance, .tensors = tensors};
  rs_check_choice(&check, op, RS_OPTIMIZE_ADAM, "optimizer");
  if (!check.status && !(beta1 >= 0 && beta1 < 1 && beta2 >= 0 && beta2 < 1 && epsilon >= 0))
    check.status = rs_fail(RS_EARGUMENT, "betas %g and %g, epsilon %g: expected betas from 0 to below 1, epsilon of at least 0", beta1,
                           beta2, epsilon);
  if (!check.status && (tensors < 1 || tensors > RS_OPTIMIZED_TENSORS))
    check.status = rs_fail(RS_EARGUMENT, "%d tensors: expected 1 to %d", tensors, RS_OPTIMIZED_TENSORS);
  static const char *const names[] = {"parameters", "first", "second", "gradient"};
  const int has[] = {1, op != RS_OPTIMIZE_DESCENT, op == RS_OPTIMIZE_ADAM, 1};
  range ranges[4 * RS_OPTIMIZED_TENSORS + 1];
  int used = 0;
  for (int k = 0; k < tensors && !check.status; k++) {
    const int64_t *row = table + 5 * k, count = row[4];
    float *array[4] = {NULL};
    for (int i = 0; i < 4 && !check.status; i++) {
      if (!has[i]) continue;
      array[i] = rs_check_floats(&check, row[i], count, names[i]);
      if (!check.status) ranges[used++] = (range){(char *)array[i], (char *)(array[i] + count), names[i], i == 3};
    }
    o.tensor[k] = (rs_optimized){array[0], array[1], array[2], array[3], count};
  }
  o.state = rs_check_doubles(&check, state, 3, "state");
  if (!check.status) {
    ranges[used++] = (range){(char *)o.state, (char *)(o.state + 3), "state", 0};
    check_ranges(&check, ranges, used);
  }
  return rs_tensor_push(&check, "tensor_optimize", run_optimize, rs_cuda_tensor_optimize, &o, sizeof o);
}
