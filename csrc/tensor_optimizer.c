// tensor_optimizer.c: the CPU loop over tensor_optimizer.h.
#include "tensor_optimizer.h"

static void adam_task(void *context, int64_t task, int worker) {
  (void)worker;
  const rs_tensor_adaptation *a = context;
  rs_adam_factors factors = rs_adam_factors_of(a);
  int64_t start = task * RS_TENSOR_CHUNK, end = start + RS_TENSOR_CHUNK < a->count ? start + RS_TENSOR_CHUNK : a->count;
  for (int64_t i = start; i < end; i++) rs_adam(&factors, a->gradient[i], &a->parameters[i], &a->first[i], &a->second[i]);
}

static int32_t run_adam(rs_operation *operation, void *arguments) {
  rs_tensor_adaptation *a = arguments;
  if (a->advance) {
    a->state[1] *= a->beta1;
    a->state[2] *= a->beta2;
  }
  return rs_parallel_for(operation, (a->count + RS_TENSOR_CHUNK - 1) / RS_TENSOR_CHUNK, adam_task, a);
}

int32_t rs_tensor_adam(int64_t parameters, int64_t first, int64_t second, int64_t gradient, int64_t count, int64_t state, int32_t advance,
                       double beta1, double beta2, double epsilon) {
  rs_check check = RS_CHECK;
  rs_tensor_adaptation a = {.count = count, .advance = advance, .beta1 = beta1, .beta2 = beta2, .epsilon = epsilon};
  if (!(beta1 >= 0 && beta1 < 1 && beta2 >= 0 && beta2 < 1 && epsilon >= 0))
    check.status = rs_fail(RS_EARGUMENT, "betas %g and %g, epsilon %g: expected betas from 0 to below 1, epsilon of at least 0", beta1,
                           beta2, epsilon);
  a.parameters = rs_check_floats(&check, parameters, count, "parameters");
  a.first = rs_check_operand(&check, first, count, a.parameters, count, "first");
  a.second = rs_check_operand(&check, second, count, a.parameters, count, "second");
  rs_check_apart_from(&check, a.first, count, a.second, count, "second");
  a.gradient = rs_check_operand(&check, gradient, count, a.parameters, count, "gradient");
  a.state = rs_check_doubles(&check, state, 3, "state");
  rs_check_apart_from(&check, a.parameters, count, a.state, 6, "state");
  return rs_tensor_push(&check, "tensor_adam", run_adam, rs_cuda_tensor_adam, &a, sizeof a);
}
