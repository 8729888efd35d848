// tensor_image.cu: the CUDA kernels over tensor_image.h. Gradients gather: no two threads write to the same place.
#include "../tensor_image.h"
#include "threads.h"

namespace {

// The part [low, high) of a window along one axis that lies inside the input.
__device__ inline void window(const rs_convolution &c, int axis, int64_t out, int64_t *low, int64_t *high) {
  const int64_t start = rs_convolution_at(&c, axis, out, 0), dilation = c.dilation[axis], in = c.in[axis];
  *low = start >= 0 ? 0 : (-start + dilation - 1) / dilation;
  *high = start >= in ? 0 : (in - 1 - start) / dilation + 1;
  if (*high > c.filter[axis]) *high = c.filter[axis];
}

struct window3 {
  int64_t low[3], high[3];
};

__device__ inline window3 window_at(const rs_convolution &c, const int64_t out[3]) {
  window3 w;
  for (int axis = 0; axis < 3; axis++) window(c, axis, out[axis], &w.low[axis], &w.high[axis]);
  return w;
}

// The number of the input pixel that filter element `tap` meets at `out`.
__device__ inline int64_t pixel_at(const rs_convolution &c, int64_t item, const int64_t out[3], int64_t z, int64_t y, int64_t x) {
  return ((item * c.in[0] + rs_convolution_at(&c, 0, out[0], z)) * c.in[1] + rs_convolution_at(&c, 1, out[1], y)) * c.in[2] +
         rs_convolution_at(&c, 2, out[2], x);
}

#define OVER_WINDOW(w, z, y, x)                    \
  for (int64_t z = w.low[0]; z < w.high[0]; z++)   \
    for (int64_t y = w.low[1]; y < w.high[1]; y++) \
      for (int64_t x = w.low[2]; x < w.high[2]; x++)

__global__ void pool(rs_tensor_convolving p) {
  const rs_convolution &c = p.shape;
  RS_OVER(i, c.batch * rs_volume_of(c.out) * c.in_channels) {
    const int64_t channel = i % c.in_channels, pixel = i / c.in_channels, item = pixel / rs_volume_of(c.out);
    const int64_t out[3] = {pixel / c.out[2] / c.out[1] % c.out[0], pixel / c.out[2] % c.out[1], pixel % c.out[2]};
    const window3 w = window_at(c, out);
    float largest = -INFINITY, sum = 0;
    int count = 0;
    OVER_WINDOW(w, z, y, x) {
      const float value = p.a[pixel_at(c, item, out, z, y, x) * c.in_channels + channel];
      if (value > largest) largest = value; // NaN is left out
      sum += value;
      count++;
    }
    p.out[i] = p.op == RS_POOL_LARGEST ? largest : count ? sum / (float)count : 0;
  }
}

__global__ void pool_gradient(rs_tensor_convolving p) {
  const rs_convolution &c = p.shape;
  RS_OVER(i, c.batch * rs_volume_of(c.in) * c.in_channels) {
    const int64_t channel = i % c.in_channels, pixel = i / c.in_channels, item = pixel / rs_volume_of(c.in);
    const int64_t in[3] = {pixel / c.in[2] / c.in[1] % c.in[0], pixel / c.in[2] % c.in[1], pixel % c.in[2]};
    float sum = 0;
    for (int64_t tap = rs_volume_of(c.filter) - 1; tap >= 0; tap--) { // windows in the order of the output
      const int64_t part[3] = {tap / c.filter[2] / c.filter[1], tap / c.filter[2] % c.filter[1], tap % c.filter[2]};
      int64_t out[3];
      bool meets = true;
      for (int axis = 0; axis < 3; axis++) {
        const int64_t at = in[axis] + c.before[axis] - part[axis] * c.dilation[axis];
        out[axis] = at / c.stride[axis];
        meets = meets && at >= 0 && at % c.stride[axis] == 0 && out[axis] < c.out[axis];
      }
      if (!meets) continue;
      const float gradient = p.a[(((item * c.out[0] + out[0]) * c.out[1] + out[1]) * c.out[2] + out[2]) * c.in_channels + channel];
      if (p.op == RS_POOL_MEAN) { // by the whole window, also where it reaches outside: as TensorFlow.js defines this gradient
        sum += gradient / (float)rs_volume_of(c.filter);
        continue;
      }
      const window3 w = window_at(c, out);
      int64_t best = -1; // the first of the largest takes it all
      float largest = 0;
      OVER_WINDOW(w, z, y, x) {
        const int64_t other = pixel_at(c, item, out, z, y, x);
        const float value = p.b[other * c.in_channels + channel];
        if (best < 0 || value > largest) {
          best = other;
          largest = value;
        }
      }
      if (best == pixel) sum += gradient;
    }
    p.out[i] = sum;
  }
}

__global__ void resize(rs_tensor_resizing r) {
  RS_OVER(i, r.batch * r.out[0] * r.out[1] * r.channels) {
    const int64_t channel = i % r.channels, pixel = i / r.channels, item = pixel / r.out[1] / r.out[0];
    const rs_resize_place y = rs_resize_at(&r, 0, pixel / r.out[1] % r.out[0]), x = rs_resize_at(&r, 1, pixel % r.out[1]);
    const float *low = r.source + (item * r.in[0] + y.low) * r.in[1] * r.channels + channel;
    const float *high = r.source + (item * r.in[0] + y.high) * r.in[1] * r.channels + channel;
    const float a = low[x.low * r.channels], b = high[x.low * r.channels];
    const float top = a + (low[x.high * r.channels] - a) * x.part, bottom = b + (high[x.high * r.channels] - b) * x.part;
    r.target[i] = top + (bottom - top) * y.part;
  }
}

// The output pixels along an axis that input pixel `at` can have a part in.
__device__ inline void reach(const rs_tensor_resizing &r, int axis, int64_t at, int64_t *first, int64_t *last) {
  const int64_t in = r.in[axis], out = r.out[axis];
  const int aligned = r.align_corners && out > 1;
  const float scale = aligned ? (float)(in - 1) / (float)(out - 1) : (float)in / (float)out;
  *first = at == 0 || scale == 0 ? 0 : (int64_t)floorf((float)(at - 1) / scale) - 2;
  *last = at == in - 1 || scale == 0 ? out - 1 : (int64_t)ceilf(((float)at + 1.5f) / scale) + 1;
  if (*first < 0) *first = 0;
  if (*last > out - 1) *last = out - 1;
}

// What input pixel `at` weighs in an output pixel.
__device__ inline float share(const rs_resize_place &place, int64_t at) {
  return (place.low == at ? 1 - place.part : 0) + (place.high == at ? place.part : 0);
}

__global__ void resize_gradient(rs_tensor_resizing r) {
  RS_OVER(i, r.batch * r.in[0] * r.in[1] * r.channels) {
    const int64_t channel = i % r.channels, pixel = i / r.channels, item = pixel / r.in[1] / r.in[0];
    const int64_t row = pixel / r.in[1] % r.in[0], column = pixel % r.in[1];
    int64_t top, bottom, left, right;
    reach(r, 0, row, &top, &bottom);
    reach(r, 1, column, &left, &right);
    float sum = 0;
    for (int64_t y = top; y <= bottom; y++) {
      const float vertical = share(rs_resize_at(&r, 0, y), row);
      if (vertical == 0) continue;
      for (int64_t x = left; x <= right; x++) {
        const float weight = vertical * share(rs_resize_at(&r, 1, x), column);
        if (weight != 0) sum += weight * r.source[((item * r.out[0] + y) * r.out[1] + x) * r.channels + channel];
      }
    }
    r.target[i] = sum;
  }
}

__global__ void normalize(rs_tensor_normalizing n) { RS_OVER(i, n.count) n.out[i] = rs_normalized(&n, n.a[i], i % n.channels); }

} // namespace

extern "C" {

int32_t rs_cuda_tensor_pool(rs_operation *o, void *arguments) {
  const rs_tensor_convolving &p = *(const rs_tensor_convolving *)arguments;
  return RS_OVER_ELEMENTS(pool, o, p.shape.batch * rs_volume_of(p.shape.out) * p.shape.in_channels, p);
}
int32_t rs_cuda_tensor_pool_gradient(rs_operation *o, void *arguments) {
  const rs_tensor_convolving &p = *(const rs_tensor_convolving *)arguments;
  return RS_OVER_ELEMENTS(pool_gradient, o, p.shape.batch * rs_volume_of(p.shape.in) * p.shape.in_channels, p);
}
int32_t rs_cuda_tensor_resize(rs_operation *o, void *arguments) {
  const rs_tensor_resizing &r = *(const rs_tensor_resizing *)arguments;
  return RS_OVER_ELEMENTS(resize, o, r.batch * r.out[0] * r.out[1] * r.channels, r);
}
int32_t rs_cuda_tensor_resize_gradient(rs_operation *o, void *arguments) {
  const rs_tensor_resizing &r = *(const rs_tensor_resizing *)arguments;
  return RS_OVER_ELEMENTS(resize_gradient, o, r.batch * r.in[0] * r.in[1] * r.channels, r);
}
int32_t rs_cuda_tensor_normalize(rs_operation *o, void *arguments) {
  const rs_tensor_normalizing &n = *(const rs_tensor_normalizing *)arguments;
  return RS_OVER_ELEMENTS(normalize, o, n.count, n);
}

} // extern "C"
