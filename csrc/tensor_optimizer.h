// tensor_optimizer.h: steps of optimizers on tensors of parameters: gradient descent, with momentum, as Y. Nesterov has it (I. Sutskever et
// al., ICML 2013), and Adam (D. P. Kingma and J. Ba, ICLR 2015).
#pragma once
#include "tensor.h"

#include <math.h>

typedef struct {
  float *parameters, *first, *second; // and its moments, where the optimizer has them
  const float *gradient;
  int64_t count;
} rs_optimized;

// At most 4 KB, which a kernel takes as its arguments.
typedef struct {
  double *state; // rate, beta1^step, beta2^step
  double beta1, beta2, epsilon;
  int32_t op, advance, tensors;
  rs_optimized tensor[RS_OPTIMIZED_TENSORS];
} rs_optimizer_step;

typedef struct {
  float beta1, beta2, rate, second_scale, epsilon; // of Adam: rate / (1 - beta1^step), 1 / (1 - beta2^step)
} rs_optimizer_factors;

RS_INLINE rs_optimizer_factors rs_optimizer_factors_of(const rs_optimizer_step *o) {
  rs_optimizer_factors f = {(float)o->beta1, (float)o->beta2, (float)o->state[0], 1, (float)o->epsilon};
  if (o->op == RS_OPTIMIZE_ADAM) {
    f.rate = (float)(o->state[0] / (1 - o->state[1]));
    f.second_scale = (float)(1 / (1 - o->state[2]));
  }
  return f;
}

RS_INLINE void rs_optimize(int32_t op, const rs_optimizer_factors *f, const rs_optimized *t, int64_t i) {
  float slope = t->gradient[i];
  if (op == RS_OPTIMIZE_ADAM) {
    float *first = &t->first[i], *second = &t->second[i];
    *first += (1 - f->beta1) * (slope - *first);
    *second += (1 - f->beta2) * (slope * slope - *second);
    t->parameters[i] -= f->rate * *first / (sqrtf(*second * f->second_scale) + f->epsilon);
    return;
  }
  if (op != RS_OPTIMIZE_DESCENT) {
    float speed = f->beta1 * t->first[i] + slope;
    t->first[i] = speed;
    slope = op == RS_OPTIMIZE_NESTEROV ? f->beta1 * speed + slope : speed;
  }
  t->parameters[i] -= f->rate * slope;
}
