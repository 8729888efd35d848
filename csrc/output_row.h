// output_row.h: the epilogues of output.h on the CPU.
#pragma once
#include "output.h"

#include <string.h>

// Sixteen values, in as many registers as the target needs.
typedef float rs_output_lanes __attribute__((vector_size(64)));
typedef int32_t rs_output_mask __attribute__((vector_size(64)));

// Finishes `count` neighbouring values that belong at target[index ...]. Returns the sum of (measured - value)^2 over weights > 0 in
// mode RS_RESIDUAL and 0 otherwise.
static inline double rs_output_row(const rs_output *output, size_t index, const float *values, int count) {
  float *target = output->target + index;
  double squares = 0;
  switch (output->mode) {
  case RS_STORE:
    for (int i = 0; i < count; i++) target[i] = values[i];
    break;
  case RS_ADD:
    for (int i = 0; i < count; i++) target[i] += values[i];
    break;
  case RS_RESIDUAL: {
    // float32 sums of every 16th value of one short row, float64 across them: accurate to 1e-7 whatever the size of the stack.
    const float *weights = output->weights + index, *measured = output->measured + index;
    rs_output_lanes sums = {0};
    int i = 0;
    for (; i + 16 <= count; i += 16) {
      rs_output_lanes m, v, w; // loaded before the store, since target may be measured
      memcpy(&m, measured + i, sizeof m);
      memcpy(&v, values + i, sizeof v);
      memcpy(&w, weights + i, sizeof w);
      v = m - v;
      m = v * v;
      sums += (rs_output_lanes)((rs_output_mask)m & (w > 0));
      v *= w;
      memcpy(target + i, &v, sizeof v);
    }
    for (int k = 0; i < count; i++, k++) {
      float difference = measured[i] - values[i];
      sums[k] += weights[i] > 0 ? difference * difference : 0;
      target[i] = weights[i] * difference;
    }
    for (int k = 0; k < 16; k++) squares += sums[k];
    break;
  }
  case RS_UPDATE: {
    const float *weights = output->weights + index;
    for (int i = 0; i < count; i++) {
      float next = target[i] + output->relaxation * weights[i] * values[i];
      next = next < output->minimum ? output->minimum : next;
      target[i] = next > output->maximum ? output->maximum : next;
    }
    break;
  }
  }
  return squares;
}
