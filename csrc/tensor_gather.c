// tensor_gather.c: the CPU loops over tensor_gather.h.
#include "tensor_gather.h"

#include <string.h>

static void gather_task(void *context, int64_t task, int worker) {
  (void)worker;
  const rs_tensor_gathering *g = context;
  int64_t pick = task % g->picks, outer = task / g->picks, batch = outer / g->outer;
  int64_t place = g->index[batch * g->picks + pick];
  int32_t *out = g->out + task * g->inner;
  if (place < 0 || place >= g->axis)
    memset(out, 0, (size_t)g->inner * sizeof *out);
  else
    memcpy(out, g->a + (outer * g->axis + place) * g->inner, (size_t)g->inner * sizeof *out);
}

static int32_t run_gather(rs_operation *operation, void *arguments) {
  rs_tensor_gathering *g = arguments;
  return rs_parallel_for(operation, g->batch * g->outer * g->picks, gather_task, g);
}

int32_t rs_tensor_gather(int64_t out, int64_t a, int64_t index, int64_t batch, int64_t outer, int64_t axis, int64_t inner, int64_t picks) {
  rs_check check = RS_CHECK;
  rs_tensor_gathering g = {.batch = batch, .outer = outer, .axis = axis, .inner = inner, .picks = picks};
  int64_t a_count = rs_check_product(&check, "gather source", 4, (const int64_t[]){batch, outer, axis, inner});
  int64_t out_count = rs_check_product(&check, "gather result", 4, (const int64_t[]){batch, outer, picks, inner});
  int64_t index_count = rs_check_product(&check, "gather index", 2, (const int64_t[]){batch, picks});
  g.out = (int32_t *)rs_check_floats(&check, out, out_count, "out");
  g.a = rs_check_operand(&check, a, a_count, g.out, out_count, "a");
  g.index = rs_check_operand(&check, index, index_count, g.out, out_count, "index");
  return rs_tensor_push(&check, "tensor_gather", run_gather, rs_cuda_tensor_gather, &g, sizeof g);
}

#define BLOCK 256 // columns of a task

static void segment_task(void *context, int64_t task, int worker) {
  (void)worker;
  const rs_tensor_segments *s = context;
  int64_t start = task * BLOCK, width = s->inner - start < BLOCK ? s->inner - start : BLOCK;
  for (int64_t k = 0; k < s->segments; k++) memset((int32_t *)s->out + k * s->inner + start, 0, (size_t)width * 4);
  for (int64_t row = 0; row < s->rows; row++) {
    int64_t segment = s->index[row];
    if (segment < 0 || segment >= s->segments) continue;
    int64_t to = segment * s->inner + start, from = row * s->inner + start;
    if (s->type == RS_FLOAT32)
      for (int64_t i = 0; i < width; i++) ((float *)s->out)[to + i] += ((const float *)s->a)[from + i];
    else
      for (int64_t i = 0; i < width; i++) ((uint32_t *)s->out)[to + i] += ((const uint32_t *)s->a)[from + i];
  }
}

static int32_t run_segment_sum(rs_operation *operation, void *arguments) {
  rs_tensor_segments *s = arguments;
  return rs_parallel_for(operation, (s->inner + BLOCK - 1) / BLOCK, segment_task, s);
}

int32_t rs_tensor_segment_sum(int32_t type, int64_t out, int64_t a, int64_t index, int64_t rows, int64_t inner, int64_t segments) {
  rs_check check = RS_CHECK;
  rs_tensor_segments s = {.type = type, .rows = rows, .inner = inner, .segments = segments};
  rs_check_choice(&check, type, RS_INT32, "type");
  int64_t a_count = rs_check_product(&check, "rows", 2, (const int64_t[]){rows, inner});
  int64_t out_count = rs_check_product(&check, "segments", 2, (const int64_t[]){segments, inner});
  s.out = rs_check_floats(&check, out, out_count, "out");
  s.a = rs_check_operand(&check, a, a_count, s.out, out_count, "a");
  s.index = rs_check_operand(&check, index, rows, s.out, out_count, "index");
  return rs_tensor_push(&check, "tensor_segment_sum", run_segment_sum, rs_cuda_tensor_segment_sum, &s, sizeof s);
}
