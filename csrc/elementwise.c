// elementwise.c: the CPU loops over elementwise.h and random.h, in chunks over the pool.
#include "elementwise.h"

#include "capture.h"
#include "cuda_calls.h"
#include "device.h"
#include "random.h"
#include "status.h"

#include <string.h>

#define CHUNK 32768 // elements of a task: long enough to outweigh its start, short enough to share out small arrays
#define MAX_PARTIALS 2048

static int32_t over_chunks(rs_operation *operation, rs_elements *e, rs_task task) {
  return rs_parallel_for(operation, (e->count + CHUNK - 1) / CHUNK, task, e);
}

static int64_t chunk_end(const rs_elements *e, int64_t start) { return start + CHUNK < e->count ? start + CHUNK : e->count; }

// Calls run(out, a, b, count) on stretches in which b does not repeat.
#define OVER_PERIODS(e, task, BODY)                                                                                     \
  int64_t start = (task)*CHUNK, end = chunk_end(e, start);                                                              \
  while (start < end) {                                                                                                 \
    int64_t phase = start % (e)->period, count = (e)->period - phase < end - start ? (e)->period - phase : end - start; \
    float *out = (e)->out + start;                                                                                      \
    const float *a = (e)->a + start, *b = (e)->b + phase;                                                               \
    for (int64_t i = 0; i < count; i++) BODY;                                                                           \
    start += count;                                                                                                     \
  }

static void fill_task(void *context, int64_t task, int worker) {
  (void)worker;
  rs_elements *e = context;
  int64_t start = task * CHUNK, end = chunk_end(e, start);
  float value = (float)e->p;
  for (int64_t i = start; i < end; i++) e->out[i] = value;
}

static void unary_task(void *context, int64_t task, int worker) {
  (void)worker;
  rs_elements *e = context;
  int64_t start = task * CHUNK, end = chunk_end(e, start);
  double p = e->p, q = e->q;
  if (e->op == RS_AFFINE) // apart from the others so that it is vectorized; in float64 so that a / 3 is not a * float32(1 / 3)
    for (int64_t i = start; i < end; i++) e->out[i] = (float)(p * e->a[i] + q);
  else
    for (int64_t i = start; i < end; i++) e->out[i] = rs_unary_value(e->op, e->a[i], p, q);
}

static void binary_task(void *context, int64_t task, int worker) {
  (void)worker;
  rs_elements *e = context;
  // The switch outside the loop lets each loop be vectorized.
  switch (e->op) {
  case RS_MULTIPLY: {
    OVER_PERIODS(e, task, out[i] = a[i] * b[i]) break;
  }
  case RS_DIVIDE: {
    OVER_PERIODS(e, task, out[i] = a[i] / b[i]) break;
  }
  default: {
    OVER_PERIODS(e, task, out[i] = rs_binary_value(e->op, a[i], b[i]))
  }
  }
}

static void combine_task(void *context, int64_t task, int worker) {
  (void)worker;
  rs_elements *e = context;
  float alpha = (float)e->p, beta = (float)e->q;
  OVER_PERIODS(e, task, out[i] = alpha * a[i] + beta * b[i])
}

static void multiply_add_task(void *context, int64_t task, int worker) {
  (void)worker;
  rs_elements *e = context;
  float alpha = (float)e->p;
  OVER_PERIODS(e, task, out[i] += alpha * a[i] * b[i])
}

static void reciprocal_task(void *context, int64_t task, int worker) {
  (void)worker;
  rs_elements *e = context;
  int64_t start = task * CHUNK, end = chunk_end(e, start);
  float least = (float)e->p;
  for (int64_t i = start; i < end; i++) e->out[i] = e->a[i] <= least ? 0 : 1 / e->a[i]; // NaN stays NaN
}

static void random_task(void *context, int64_t task, int worker) {
  (void)worker;
  rs_elements *e = context;
  int64_t start = task * CHUNK, end = chunk_end(e, start);
  for (int64_t i = start; i < end; i += 4) {
    float four[4];
    rs_random_block(e->op, (uint64_t)i / 4, e->seed, e->p, e->q, four);
    memcpy(e->out + i, four, (size_t)(end - i < 4 ? end - i : 4) * sizeof(float));
  }
}

typedef struct {
  rs_elements e;
  int64_t chunk;
  double partial[MAX_PARTIALS];
} reduction;

static void reduce_task(void *context, int64_t task, int worker) {
  (void)worker;
  reduction *r = context;
  const rs_elements *e = &r->e;
  int64_t start = task * r->chunk, end = start + r->chunk < e->count ? start + r->chunk : e->count;
  const float *b = e->b ? e->b : e->a;
  // Eight running values: independent additions overlap, and each stays short.
  double value[8] = {0};
  int used = 0;
  for (int64_t i = start; i < end && used < 8; i++, used++) value[used] = rs_reduction_term(e->op, e->a[i], b[i]);
  for (int64_t i = start + used; i < end; i++) {
    double *v = &value[(i - start) & 7];
    *v = rs_reduction_join(e->op, *v, rs_reduction_term(e->op, e->a[i], b[i]));
  }
  for (int i = 1; i < used; i++) value[0] = rs_reduction_join(e->op, value[0], value[i]);
  r->partial[task] = value[0];
}

static int32_t reduce(rs_operation *operation, const rs_elements *e, double *result) {
  reduction r;
  r.e = *e;
  // The chunk depends on the count alone, so the result does not depend on the number of threads.
  r.chunk = e->count / MAX_PARTIALS + 1 > CHUNK ? e->count / MAX_PARTIALS + 1 : CHUNK;
  int64_t tasks = (e->count + r.chunk - 1) / r.chunk;
  int32_t status = rs_parallel_for(operation, tasks, reduce_task, &r);
  if (status) return status;
  *result = r.partial[0];
  for (int64_t i = 1; i < tasks; i++) *result = rs_reduction_join(e->op, *result, r.partial[i]);
  return RS_OK;
}

static int32_t run_fill(rs_operation *o, void *e) { return over_chunks(o, e, fill_task); }
static int32_t run_unary(rs_operation *o, void *e) { return over_chunks(o, e, unary_task); }
static int32_t run_binary(rs_operation *o, void *e) { return over_chunks(o, e, binary_task); }
static int32_t run_combine(rs_operation *o, void *e) { return over_chunks(o, e, combine_task); }
static int32_t run_multiply_add(rs_operation *o, void *e) { return over_chunks(o, e, multiply_add_task); }
static int32_t run_random(rs_operation *o, void *e) { return over_chunks(o, e, random_task); }
static int32_t run_reduce(rs_operation *o, void *e) { return reduce(o, e, ((rs_elements *)e)->result); }

static int32_t run_reciprocal(rs_operation *operation, void *arguments) {
  rs_elements *e = arguments;
  if (e->q > 0) {
    rs_elements largest = *e;
    double value;
    largest.op = RS_LARGEST;
    int32_t status = reduce(operation, &largest, &value);
    if (status) return status;
    if (e->q * value > e->p) e->p = e->q * value;
  }
  return over_chunks(operation, e, reciprocal_task);
}

static int32_t push(const rs_check *check, const char *name, rs_run cpu, rs_run cuda, rs_elements *e) {
  if (check->status) return check->status;
  return rs_device_push(check->device, name, RS_IN_PLACE, cpu, cuda, e, sizeof *e); // out may be an input
}

static void check_period(rs_check *check, int64_t count, int64_t period) {
  if (!check->status && (period <= 0 || count % period))
    check->status = rs_fail(RS_EARGUMENT, "period %lld does not divide the count %lld", (long long)period, (long long)count);
}

// `out` may be `in`, element for element. Any other overlap would let one chunk read what another has written.
static void check_same_or_apart(rs_check *check, const rs_elements *e, const float *in, int64_t count, const char *what) {
  if (in != e->out || count != e->count) rs_check_apart(check, e->out, e->count, in, count, what);
}

static void check_op(rs_check *check, int32_t op, int32_t most) {
  if (!check->status && (op < 0 || op > most)) check->status = rs_fail(RS_EARGUMENT, "operation %d does not exist", op);
}

int32_t rs_fill(int64_t out, int64_t count, double value) {
  rs_check check = RS_CHECK;
  rs_elements e = {.count = count, .p = value};
  e.out = rs_check_floats(&check, out, count, "out");
  return push(&check, "fill", run_fill, rs_cuda_fill, &e);
}

int32_t rs_unary(int32_t op, int64_t out, int64_t a, int64_t count, double p, double q) {
  rs_check check = RS_CHECK;
  rs_elements e = {.op = op, .count = count, .p = p, .q = q};
  check_op(&check, op, RS_CLAMP);
  e.out = rs_check_floats(&check, out, count, "out");
  e.a = rs_check_floats(&check, a, count, "a");
  check_same_or_apart(&check, &e, e.a, count, "out and a");
  return push(&check, "unary", run_unary, rs_cuda_unary, &e);
}

// out, a and b of a call in which b repeats.
static rs_elements periodic(rs_check *check, int64_t out, int64_t a, int64_t b, int64_t count, int64_t period) {
  rs_elements e = {.count = count, .period = period};
  e.out = rs_check_floats(check, out, count, "out");
  e.a = rs_check_floats(check, a, count, "a");
  e.b = rs_check_floats(check, b, period, "b");
  check_period(check, count, period);
  check_same_or_apart(check, &e, e.a, count, "out and a");
  check_same_or_apart(check, &e, e.b, period, "out and b");
  return e;
}

int32_t rs_binary(int32_t op, int64_t out, int64_t a, int64_t b, int64_t count, int64_t period) {
  rs_check check = RS_CHECK;
  check_op(&check, op, RS_MAXIMUM);
  rs_elements e = periodic(&check, out, a, b, count, period);
  e.op = op;
  return push(&check, "binary", run_binary, rs_cuda_binary, &e);
}

int32_t rs_combine(int64_t out, double alpha, int64_t a, double beta, int64_t b, int64_t count, int64_t period) {
  rs_check check = RS_CHECK;
  rs_elements e = periodic(&check, out, a, b, count, period);
  e.p = alpha;
  e.q = beta;
  return push(&check, "combine", run_combine, rs_cuda_combine, &e);
}

int32_t rs_multiply_add(int64_t out, double alpha, int64_t a, int64_t b, int64_t count, int64_t period) {
  rs_check check = RS_CHECK;
  rs_elements e = periodic(&check, out, a, b, count, period);
  e.p = alpha;
  return push(&check, "multiply_add", run_multiply_add, rs_cuda_multiply_add, &e);
}

int32_t rs_reciprocal(int64_t out, int64_t a, int64_t count, double absolute, double relative) {
  rs_check check = RS_CHECK;
  rs_elements e = {.count = count, .p = absolute, .q = relative};
  e.out = rs_check_floats(&check, out, count, "out");
  e.a = rs_check_floats(&check, a, count, "a");
  if (!check.status && !(absolute >= 0 && relative >= 0))
    check.status = rs_fail(RS_EARGUMENT, "thresholds %g and %g: expected numbers of at least 0", absolute, relative);
  check_same_or_apart(&check, &e, e.a, count, "out and a");
  return push(&check, "reciprocal", run_reciprocal, rs_cuda_reciprocal, &e);
}

int32_t rs_reduce(int32_t op, int64_t out, int64_t a, int64_t b, int64_t count) {
  rs_check check = RS_CHECK;
  rs_elements e = {.op = op, .count = count};
  check_op(&check, op, RS_LARGEST);
  int two = op >= RS_DOT && op <= RS_ABSOLUTE_DIFFERENCE;
  e.result = rs_check_doubles(&check, out, 1, "out");
  e.a = rs_check_floats(&check, a, count, "a");
  if (two) e.b = rs_check_floats(&check, b, count, "b");
  return push(&check, "reduce", run_reduce, rs_cuda_reduce, &e);
}

int32_t rs_random(int32_t distribution, int64_t out, int64_t count, int64_t seed, double p, double q) {
  rs_check check = RS_CHECK;
  rs_elements e = {.op = distribution, .count = count, .seed = (uint64_t)seed, .p = p, .q = q};
  check_op(&check, distribution, RS_NORMAL);
  e.out = rs_check_floats(&check, out, count, "out");
  if (!check.status) check.status = rs_capture_refuse(check.device, "random numbers"); // they would be the same every time
  return push(&check, "random", run_random, rs_cuda_random, &e);
}

static void strided_task(void *context, int64_t task, int worker) {
  (void)worker;
  const rs_strided *s = context;
  int64_t i = task / s->shape[1], j = task % s->shape[1];
  for (int64_t k = 0; k < s->shape[2]; k++) {
    float *target = s->target + i * s->target_strides[0] + j * s->target_strides[1] + k * s->target_strides[2];
    const float *source = s->source + i * s->source_strides[0] + j * s->source_strides[1] + k * s->source_strides[2];
    for (int64_t l = 0; l < s->shape[3]; l++) target[l * s->target_strides[3]] = source[l * s->source_strides[3]];
  }
}

static int32_t run_strided(rs_operation *operation, void *arguments) {
  rs_strided *s = arguments;
  return rs_parallel_for(operation, s->shape[0] * s->shape[1], strided_task, s);
}

int32_t rs_copy_strided(int64_t target, int64_t source, const int64_t *shape, const int64_t *target_strides,
                        const int64_t *source_strides) {
  rs_check check = RS_CHECK;
  rs_strided s;
  int64_t count = 1, target_count = 1, source_count = 1; // elements copied, and the last one touched plus one
  for (int k = 0; k < 4; k++) {
    const int64_t limit = INT64_C(1) << 48;
    if (shape[k] <= 0 || shape[k] > limit || target_strides[k] < 0 || target_strides[k] > limit || source_strides[k] < 0 ||
        source_strides[k] > limit)
      return rs_fail(RS_EARGUMENT, "dimension %d: extent %lld, strides %lld and %lld: expected a positive extent and strides of at least 0",
                     k, (long long)shape[k], (long long)target_strides[k], (long long)source_strides[k]);
    int64_t steps = shape[k] - 1;
    if ((steps && target_strides[k] > (limit - target_count) / steps) || (steps && source_strides[k] > (limit - source_count) / steps))
      return rs_fail(RS_EARGUMENT, "dimension %d: extent %lld with strides %lld and %lld reaches beyond any allocation", k,
                     (long long)shape[k], (long long)target_strides[k], (long long)source_strides[k]);
    if (shape[k] > limit / count)
      return rs_fail(RS_EARGUMENT, "dimension %d: extent %lld: more than 2^48 elements", k, (long long)shape[k]);
    count *= shape[k];
    target_count += steps * target_strides[k];
    source_count += steps * source_strides[k];
    s.shape[k] = shape[k];
    s.target_strides[k] = target_strides[k];
    s.source_strides[k] = source_strides[k];
  }
  if (count > target_count)
    return rs_fail(RS_EARGUMENT, "%lld elements into %lld: the target strides write some element more than once", (long long)count,
                   (long long)target_count);
  s.target = rs_check_floats(&check, target, target_count, "copy target");
  s.source = rs_check_floats(&check, source, source_count, "copy source");
  rs_check_apart(&check, s.target, target_count, s.source, source_count, "copy target and source");
  if (check.status) return check.status;
  return rs_device_push(check.device, "copy_strided", RS_OVERWRITES, run_strided, rs_cuda_copy_strided, &s, sizeof s);
}
