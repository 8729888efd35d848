// tensor_image.h: pooling, resizing and normalization of images with their channels last.
#pragma once
#include "convolution.h"

#include <math.h>

typedef struct {
  int32_t op, align_corners, half_pixel_centres;
  int64_t batch, in[2], out[2], channels;
  float *target;
  const float *source;
} rs_tensor_resizing;

// Where along the input a pixel of the output lies: between pixel `low` and pixel `high`, `part` of the way.
typedef struct {
  int64_t low, high;
  float part;
} rs_resize_place;

RS_INLINE rs_resize_place rs_resize_at(const rs_tensor_resizing *r, int axis, int64_t i) {
  int64_t in = r->in[axis], out = r->out[axis];
  int aligned = r->align_corners && out > 1;
  float scale = aligned ? (float)(in - 1) / (float)(out - 1) : (float)in / (float)out;
  float at = r->half_pixel_centres ? scale * ((float)i + 0.5f) : scale * (float)i;
  rs_resize_place place;
  if (r->op == RS_RESIZE_NEAREST) {
    int64_t nearest = (int64_t)floorf(r->align_corners ? at + 0.5f : at);
    place.low = place.high = nearest < 0 ? 0 : nearest < in ? nearest : in - 1;
    place.part = 0;
    return place;
  }
  if (r->half_pixel_centres) at -= 0.5f;
  int64_t low = (int64_t)floorf(at), high = (int64_t)ceilf(at);
  place.low = low < 0 ? 0 : low < in ? low : in - 1; // beyond it with aligned corners and half pixel centres at once
  place.high = high < in ? high : in - 1;
  place.part = at - (float)low;
  if (at < 0) place.part = 0;
  return place;
}

typedef struct {
  float *out;
  const float *a, *mean, *variance, *offset, *scale;
  int64_t count, channels;
  float epsilon;
} rs_tensor_normalizing;

RS_INLINE float rs_normalized(const rs_tensor_normalizing *n, float a, int64_t channel) {
  float scale = n->scale ? n->scale[channel] : 1, offset = n->offset ? n->offset[channel] : 0;
  return (a - n->mean[channel]) * (scale / sqrtf(n->variance[channel] + n->epsilon)) + offset;
}
