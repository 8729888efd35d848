// output.h: what becomes of a projected value: stored, added, or used at once by an iterative method.
#pragma once
#include <stddef.h>
#include <stdint.h>

typedef enum {
  RS_STORE,    // target = value
  RS_ADD,      // target += value
  RS_RESIDUAL, // target = weights (measured - value)
  RS_UPDATE    // target = clamp(target + relaxation weights value)
} rs_output_mode;

typedef struct {
  rs_output_mode mode;
  float *target;         // one batch item: a whole volume or projection stack in the public layout
  const float *weights;  // RS_RESIDUAL, RS_UPDATE: same layout as target, but where `shared` of one row or slice alone
  const float *measured; // RS_RESIDUAL
  float relaxation, minimum, maximum;
  int32_t shared; // all rows or slices have the same weights; for plans of which rs_plan says so
} rs_output;
