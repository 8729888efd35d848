// convolution.cu: convolutions and matrix products on the GPU, straight from their definition: every element of a result has a thread
// or, where it sums over a whole batch, a block.
#include "../convolution.h"
#include "threads.h"

namespace {

struct place {
  int64_t item, at[3], channel;
};

__device__ inline place place_of(int64_t i, const int64_t extent[3], int64_t channels) {
  place p;
  p.channel = i % channels;
  i /= channels;
  for (int axis = 2; axis >= 0; axis--) {
    p.at[axis] = i % extent[axis];
    i /= extent[axis];
  }
  p.item = i;
  return p;
}

// Element (d, h, w) of the input that meets tap (z, y, x) of the filter at an output; the first pixel of its row, or below 0 outside.
__device__ inline int64_t row_of(const rs_convolution &c, int64_t item, const int64_t out[3], int64_t z, int64_t y) {
  const int64_t in_z = rs_convolution_at(&c, 0, out[0], z), in_y = rs_convolution_at(&c, 1, out[1], y);
  if (in_z < 0 || in_z >= c.in[0] || in_y < 0 || in_y >= c.in[1]) return -1;
  return ((item * c.in[0] + in_z) * c.in[1] + in_y) * c.in[2];
}

__global__ void forward(rs_tensor_convolving w) {
  const rs_convolution &c = w.shape;
  RS_OVER(i, c.batch * rs_volume_of(c.out) * c.out_channels) {
    const place p = place_of(i, c.out, c.out_channels);
    float sum = 0;
    for (int64_t z = 0; z < c.filter[0]; z++)
      for (int64_t y = 0; y < c.filter[1]; y++) {
        const int64_t row = row_of(c, p.item, p.at, z, y);
        if (row < 0) continue;
        for (int64_t x = 0; x < c.filter[2]; x++) {
          const int64_t in_x = rs_convolution_at(&c, 2, p.at[2], x);
          if (in_x < 0 || in_x >= c.in[2]) continue;
          const float *in = w.a + (row + in_x) * c.in_channels;
          const float *filter = w.b + ((z * c.filter[1] + y) * c.filter[2] + x) * c.in_channels * c.out_channels + p.channel;
          for (int64_t k = 0; k < c.in_channels; k++) sum += in[k] * filter[k * c.out_channels];
        }
      }
    w.out[i] = sum;
  }
}

// The output that an input pixel has a part in through a tap, along one axis; below 0 where there is none.
__device__ inline int64_t output_of(const rs_convolution &c, int axis, int64_t in, int64_t tap) {
  const int64_t at = in + c.before[axis] - tap * c.dilation[axis];
  return at >= 0 && at % c.stride[axis] == 0 && at / c.stride[axis] < c.out[axis] ? at / c.stride[axis] : -1;
}

__global__ void input_gradient(rs_tensor_convolving w) {
  const rs_convolution &c = w.shape;
  RS_OVER(i, c.batch * rs_volume_of(c.in) * c.in_channels) {
    const place p = place_of(i, c.in, c.in_channels);
    float sum = 0;
    for (int64_t z = 0; z < c.filter[0]; z++)
      for (int64_t y = 0; y < c.filter[1]; y++) {
        const int64_t out_z = output_of(c, 0, p.at[0], z), out_y = output_of(c, 1, p.at[1], y);
        if (out_z < 0 || out_y < 0) continue;
        for (int64_t x = 0; x < c.filter[2]; x++) {
          const int64_t out_x = output_of(c, 2, p.at[2], x);
          if (out_x < 0) continue;
          const float *gradient = w.a + (((p.item * c.out[0] + out_z) * c.out[1] + out_y) * c.out[2] + out_x) * c.out_channels;
          const float *filter = w.b + (((z * c.filter[1] + y) * c.filter[2] + x) * c.in_channels + p.channel) * c.out_channels;
          for (int64_t k = 0; k < c.out_channels; k++) sum += gradient[k] * filter[k];
        }
      }
    w.out[i] = sum;
  }
}

// A thread sums an element of the filter over a segment of the output's pixels; neighbouring threads read neighbouring channels. With
// one segment the sum is the result. `multiplier` above 0: depthwise, with that many outputs a channel.
__global__ void filter_gradient(rs_tensor_convolving w, int64_t multiplier, int64_t elements, int64_t segments, double *partials) {
  const rs_convolution &c = w.shape;
  const int64_t last = multiplier ? multiplier : c.out_channels, pixels = c.batch * rs_volume_of(c.out);
  RS_OVER(thread, elements * segments) {
    const int64_t i = thread % elements, segment = thread / elements;
    const int64_t m = i % last, in_channel = i / last % c.in_channels, tap = i / last / c.in_channels;
    const int64_t out_channel = multiplier ? in_channel * multiplier + m : m;
    const int64_t z = tap / c.filter[2] / c.filter[1], y = tap / c.filter[2] % c.filter[1], x = tap % c.filter[2];
    double sum = 0;
    for (int64_t pixel = pixels * segment / segments; pixel < pixels * (segment + 1) / segments; pixel++) {
      const place p = place_of(pixel, c.out, 1);
      const int64_t row = row_of(c, p.item, p.at, z, y), in_x = rs_convolution_at(&c, 2, p.at[2], x);
      if (row >= 0 && in_x >= 0 && in_x < c.in[2])
        sum += (double)w.a[(row + in_x) * c.in_channels + in_channel] * w.b[pixel * c.out_channels + out_channel];
    }
    if (segments == 1)
      w.out[i] = (float)sum;
    else
      partials[thread] = sum;
  }
}

__global__ void sum_segments(float *out, int64_t elements, int64_t segments, const double *partials) {
  RS_OVER(i, elements) {
    double sum = 0;
    for (int64_t segment = 0; segment < segments; segment++) sum += partials[segment * elements + i];
    out[i] = (float)sum;
  }
}

__global__ void depthwise(rs_tensor_convolving w) {
  const rs_convolution &c = w.shape;
  const int64_t multiplier = c.out_channels / c.in_channels;
  RS_OVER(i, c.batch * rs_volume_of(c.out) * c.out_channels) {
    const place p = place_of(i, c.out, c.out_channels);
    float sum = 0;
    for (int64_t z = 0; z < c.filter[0]; z++)
      for (int64_t y = 0; y < c.filter[1]; y++) {
        const int64_t row = row_of(c, p.item, p.at, z, y);
        if (row < 0) continue;
        for (int64_t x = 0; x < c.filter[2]; x++) {
          const int64_t in_x = rs_convolution_at(&c, 2, p.at[2], x);
          if (in_x < 0 || in_x >= c.in[2]) continue;
          sum += w.a[(row + in_x) * c.in_channels + p.channel / multiplier] *
                 w.b[((z * c.filter[1] + y) * c.filter[2] + x) * c.out_channels + p.channel];
        }
      }
    w.out[i] = sum;
  }
}

__global__ void depthwise_input_gradient(rs_tensor_convolving w) {
  const rs_convolution &c = w.shape;
  const int64_t multiplier = c.out_channels / c.in_channels;
  RS_OVER(i, c.batch * rs_volume_of(c.in) * c.in_channels) {
    const place p = place_of(i, c.in, c.in_channels);
    float sum = 0;
    for (int64_t z = 0; z < c.filter[0]; z++)
      for (int64_t y = 0; y < c.filter[1]; y++)
        for (int64_t x = 0; x < c.filter[2]; x++) {
          const int64_t out_z = output_of(c, 0, p.at[0], z), out_y = output_of(c, 1, p.at[1], y), out_x = output_of(c, 2, p.at[2], x);
          if (out_z < 0 || out_y < 0 || out_x < 0) continue;
          const float *gradient = w.a + (((p.item * c.out[0] + out_z) * c.out[1] + out_y) * c.out[2] + out_x) * c.out_channels;
          const float *filter = w.b + ((z * c.filter[1] + y) * c.filter[2] + x) * c.out_channels;
          for (int64_t k = p.channel * multiplier; k < (p.channel + 1) * multiplier; k++) sum += gradient[k] * filter[k];
        }
    w.out[i] = sum;
  }
}

__global__ void product(rs_tensor_producing p) {
  RS_OVER(i, p.batch * p.m * p.n) {
    const int64_t column = i % p.n, row = i / p.n % p.m, item = i / p.n / p.m;
    const float *a = p.a + item % p.batch_a * p.m * p.k + row * p.a_row, *b = p.b + item % p.batch_b * p.k * p.n + column * p.b_column;
    float sum = 0;
    for (int64_t k = 0; k < p.k; k++) sum += a[k * p.a_column] * b[k * p.b_row];
    p.out[i] = sum;
  }
}

const rs_tensor_convolving &convolving(const void *arguments) { return *(const rs_tensor_convolving *)arguments; }

int32_t run_filter_gradient(rs_operation *o, const rs_tensor_convolving &w, int64_t multiplier) {
  const rs_convolution &c = w.shape;
  const int64_t elements = rs_volume_of(c.filter) * c.in_channels * (multiplier ? multiplier : c.out_channels);
  const int64_t most = RS_SCRATCH_BYTES / 8 / elements, pixels = c.batch * rs_volume_of(c.out) / 64;
  const int64_t segments = most < 2 || pixels < 2 ? 1 : most < pixels ? most : pixels;
  double *partials = (double *)rs_cuda_scratch(o);
  int32_t status = RS_LAUNCH(filter_gradient, rs_blocks_of(elements * segments), RS_THREADS, 0, rs_cuda_stream(o), w, multiplier, elements,
                             segments, partials);
  if (status || segments == 1) return status;
  return RS_LAUNCH(sum_segments, rs_blocks_of(elements), RS_THREADS, 0, rs_cuda_stream(o), w.out, elements, segments,
                   (const double *)partials);
}

} // namespace

extern "C" {

int32_t rs_cuda_tensor_convolve(rs_operation *o, void *arguments) {
  const rs_tensor_convolving &w = convolving(arguments);
  const rs_convolution &c = w.shape;
  switch (w.op) {
  case RS_CONVOLUTION: return RS_OVER_ELEMENTS(forward, o, c.batch * rs_volume_of(c.out) * c.out_channels, w);
  case RS_CONVOLUTION_INPUT_GRADIENT: return RS_OVER_ELEMENTS(input_gradient, o, c.batch * rs_volume_of(c.in) * c.in_channels, w);
  default: return run_filter_gradient(o, w, 0);
  }
}

int32_t rs_cuda_tensor_convolve_depthwise(rs_operation *o, void *arguments) {
  const rs_tensor_convolving &w = convolving(arguments);
  const rs_convolution &c = w.shape;
  switch (w.op) {
  case RS_CONVOLUTION: return RS_OVER_ELEMENTS(depthwise, o, c.batch * rs_volume_of(c.out) * c.out_channels, w);
  case RS_CONVOLUTION_INPUT_GRADIENT: return RS_OVER_ELEMENTS(depthwise_input_gradient, o, c.batch * rs_volume_of(c.in) * c.in_channels, w);
  default: return run_filter_gradient(o, w, c.out_channels / c.in_channels);
  }
}

int32_t rs_cuda_tensor_product(rs_operation *o, void *arguments) {
  const rs_tensor_producing &p = *(const rs_tensor_producing *)arguments;
  return RS_OVER_ELEMENTS(product, o, p.batch * p.m * p.n, p);
}

} // extern "C"
