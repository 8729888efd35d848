// tensor_elementwise.c: the CPU loops over tensor_elementwise.h.
#include "tensor_elementwise.h"

#define OVER_CHUNK(e, task) \
  for (int64_t i = (task)*RS_TENSOR_CHUNK, end = i + RS_TENSOR_CHUNK < (e)->count ? i + RS_TENSOR_CHUNK : (e)->count; i < end; i++)

static int32_t over_chunks(rs_operation *operation, rs_tensor_elements *e, rs_task task) {
  return rs_parallel_for(operation, (e->count + RS_TENSOR_CHUNK - 1) / RS_TENSOR_CHUNK, task, e);
}

static void fill_task(void *context, int64_t task, int worker) {
  (void)worker;
  const rs_tensor_elements *e = context;
  float *to_float = e->out, value = (float)e->p;
  int32_t *to_int = e->out, integer = rs_int_of(e->p);
  if (e->type == RS_FLOAT32)
    OVER_CHUNK(e, task) to_float[i] = value;
  else
    OVER_CHUNK(e, task) to_int[i] = integer;
}

static void cast_task(void *context, int64_t task, int worker) {
  (void)worker;
  const rs_tensor_elements *e = context;
  const float *from_float = e->a;
  const int32_t *from_int = e->a;
  float *to_float = e->out;
  int32_t *to_int = e->out;
  switch (e->op) {
  case RS_CAST_FLOAT_TO_INT: OVER_CHUNK(e, task) to_int[i] = rs_int_of(from_float[i]); return;
  case RS_CAST_INT_TO_FLOAT: OVER_CHUNK(e, task) to_float[i] = (float)from_int[i]; return;
  case RS_CAST_FLOAT_TO_TRUTH: OVER_CHUNK(e, task) to_int[i] = from_float[i] != 0; return;
  default: OVER_CHUNK(e, task) to_int[i] = from_int[i] != 0; // RS_CAST_INT_TO_TRUTH
  }
}

// With the operation a constant in each loop, the loops of simple operations are vectorized.
#define MAP_LOOP(OP) \
  case OP: OVER_CHUNK(e, task) out[i] = rs_map_float(OP, a[i], p, q); return;

static void map_float_task(void *context, int64_t task, int worker) {
  (void)worker;
  const rs_tensor_elements *e = context;
  float *out = e->out;
  const float *a = e->a;
  float p = (float)e->p, q = (float)e->q;
  switch (e->op) {
    MAP_LOOP(RS_MAP_ABSOLUTE)
    MAP_LOOP(RS_MAP_NEGATIVE)
    MAP_LOOP(RS_MAP_SQUARE)
    MAP_LOOP(RS_MAP_SQUARE_ROOT)
    MAP_LOOP(RS_MAP_RECIPROCAL)
    MAP_LOOP(RS_MAP_RELU)
    MAP_LOOP(RS_MAP_LEAKY_RELU)
    MAP_LOOP(RS_MAP_STEP)
    MAP_LOOP(RS_MAP_CLAMP)
    MAP_LOOP(RS_MAP_AFFINE)
  default: OVER_CHUNK(e, task) out[i] = rs_map_float(e->op, a[i], p, q);
  }
}

static void map_int_task(void *context, int64_t task, int worker) {
  (void)worker;
  const rs_tensor_elements *e = context;
  int32_t *out = e->out;
  const int32_t *a = e->a;
  int32_t p = rs_int_of(e->p), q = rs_int_of(e->q);
  OVER_CHUNK(e, task) out[i] = rs_map_int(e->op, a[i], p, q);
}

static int32_t run_fill(rs_operation *operation, void *e) { return over_chunks(operation, e, fill_task); }
static int32_t run_cast(rs_operation *operation, void *e) { return over_chunks(operation, e, cast_task); }

static int32_t run_map(rs_operation *operation, void *arguments) {
  rs_tensor_elements *e = arguments;
  return over_chunks(operation, e, e->type == RS_FLOAT32 ? map_float_task : map_int_task);
}

int32_t rs_tensor_fill(int32_t type, int64_t out, int64_t count, double value) {
  rs_check check = RS_CHECK;
  rs_tensor_elements e = {.type = type, .count = count, .p = value};
  rs_check_choice(&check, type, RS_INT32, "type");
  e.out = rs_check_floats(&check, out, count, "out");
  return rs_tensor_push(&check, "tensor_fill", run_fill, rs_cuda_tensor_fill, &e, sizeof e);
}

// out and a, which may be the same.
static rs_tensor_elements elements(rs_check *check, int64_t out, int64_t a, int64_t count) {
  rs_tensor_elements e = {.count = count};
  e.out = rs_check_floats(check, out, count, "out");
  e.a = rs_check_floats(check, a, count, "a");
  if (e.a != e.out) rs_check_apart_from(check, e.out, count, e.a, count, "a");
  return e;
}

int32_t rs_tensor_cast(int32_t cast, int64_t out, int64_t a, int64_t count) {
  rs_check check = RS_CHECK;
  rs_check_choice(&check, cast, RS_CAST_INT_TO_TRUTH, "cast");
  rs_tensor_elements e = elements(&check, out, a, count);
  e.op = cast;
  return rs_tensor_push(&check, "tensor_cast", run_cast, rs_cuda_tensor_cast, &e, sizeof e);
}

int32_t rs_tensor_map(int32_t op, int32_t type, int64_t out, int64_t a, int64_t count, double p, double q) {
  rs_check check = RS_CHECK;
  rs_check_choice(&check, op, RS_MAP_NOT, "operation");
  rs_check_choice(&check, type, RS_INT32, "type");
  if (!check.status && (type == RS_INT32 ? !rs_map_has_int(op) : op == RS_MAP_NOT))
    check.status = rs_fail(RS_EARGUMENT, "operation %d does not exist for elements of type %d", op, type);
  rs_tensor_elements e = elements(&check, out, a, count);
  e.op = op;
  e.type = type;
  e.p = p;
  e.q = q;
  return rs_tensor_push(&check, "tensor_map", run_map, rs_cuda_tensor_map, &e, sizeof e);
}
