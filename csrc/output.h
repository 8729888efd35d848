// output.h: what becomes of a projected value: stored, added, or used at once by an iterative method.
#pragma once
#include <stddef.h>

typedef enum {
  RS_STORE,    // target = value
  RS_ADD,      // target += value
  RS_RESIDUAL, // target = weights (measured - value)
  RS_UPDATE    // target = clamp(target + relaxation weights value)
} rs_output_mode;

typedef struct {
  rs_output_mode mode;
  float *target;         // one batch item: a whole volume or projection stack in the public layout
  const float *weights;  // RS_RESIDUAL, RS_UPDATE: same layout as target
  const float *measured; // RS_RESIDUAL
  float relaxation, minimum, maximum;
} rs_output;

// Finishes `count` neighbouring values that belong at target[index ...]. Returns the sum of (measured - value)^2 over weights > 0 in
// mode RS_RESIDUAL and 0 otherwise.
static inline double rs_output_row(const rs_output *output, size_t index, const float *values, int count) {
  float *target = output->target + index;
  const float *weights = output->weights + index, *measured = output->measured + index;
  double squares = 0;
  switch (output->mode) {
  case RS_STORE:
    for (int i = 0; i < count; i++) target[i] = values[i];
    break;
  case RS_ADD:
    for (int i = 0; i < count; i++) target[i] += values[i];
    break;
  case RS_RESIDUAL: {
    // float32 inside one short row, float64 across rows: accurate to 1e-7 whatever the size of the stack.
    float sum = 0;
    for (int i = 0; i < count; i++) {
      float difference = measured[i] - values[i];
      sum += weights[i] > 0 ? difference * difference : 0;
      target[i] = weights[i] * difference;
    }
    squares = sum;
    break;
  }
  case RS_UPDATE:
    for (int i = 0; i < count; i++) {
      float next = target[i] + output->relaxation * weights[i] * values[i];
      next = next < output->minimum ? output->minimum : next;
      target[i] = next > output->maximum ? output->maximum : next;
    }
    break;
  }
  return squares;
}
