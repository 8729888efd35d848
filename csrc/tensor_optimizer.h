// tensor_optimizer.h: a step of Adam (D. P. Kingma and J. Ba, ICLR 2015) on one tensor of parameters.
#pragma once
#include "tensor.h"

#include <math.h>

typedef struct {
  float *parameters, *first, *second; // and the running means of gradients and of their squares
  const float *gradient;
  double *state; // rate, beta1^step, beta2^step
  int64_t count;
  int32_t advance;
  double beta1, beta2, epsilon;
} rs_tensor_adaptation;

typedef struct {
  float beta1, beta2, rate, second_scale, epsilon; // rate / (1 - beta1^step), 1 / (1 - beta2^step)
} rs_adam_factors;

RS_INLINE rs_adam_factors rs_adam_factors_of(const rs_tensor_adaptation *a) {
  rs_adam_factors f = {(float)a->beta1, (float)a->beta2, (float)(a->state[0] / (1 - a->state[1])), (float)(1 / (1 - a->state[2])),
                       (float)a->epsilon};
  return f;
}

RS_INLINE void rs_adam(const rs_adam_factors *f, float g, float *parameter, float *first, float *second) {
  *first += (1 - f->beta1) * (g - *first);
  *second += (1 - f->beta2) * (g * g - *second);
  *parameter -= f->rate * *first / (sqrtf(*second * f->second_scale) + f->epsilon);
}
