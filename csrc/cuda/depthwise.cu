// depthwise.cu: depthwise convolutions and matrix products on the GPU, straight from their definition: every element of a result has
// a thread.
#include "convolution_places.h"

namespace {

// A thread sums an element of the filter over a segment of the output's pixels; neighbouring threads read neighbouring channels. With
// one segment the sum is the result.
__global__ void depthwise_filter_gradient(rs_tensor_convolving w, int64_t elements, int64_t segments, double *partials) {
  const rs_convolution &c = w.shape;
  const int64_t multiplier = c.out_channels / c.in_channels, pixels = c.batch * rs_volume_of(c.out);
  RS_OVER(thread, elements * segments) {
    const int64_t i = thread % elements, segment = thread / elements;
    const int64_t m = i % multiplier, in_channel = i / multiplier % c.in_channels, tap = i / multiplier / c.in_channels;
    const int64_t out_channel = in_channel * multiplier + m;
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

} // namespace

extern "C" {

int32_t rs_cuda_tensor_convolve_depthwise(rs_operation *o, void *arguments) {
  const rs_tensor_convolving &w = *(const rs_tensor_convolving *)arguments;
  const rs_convolution &c = w.shape;
  if (w.op == RS_CONVOLUTION) return RS_OVER_ELEMENTS(depthwise, o, c.batch * rs_volume_of(c.out) * c.out_channels, w);
  if (w.op == RS_CONVOLUTION_INPUT_GRADIENT)
    return RS_OVER_ELEMENTS(depthwise_input_gradient, o, c.batch * rs_volume_of(c.in) * c.in_channels, w);
  const int64_t elements = rs_volume_of(c.filter) * c.out_channels;
  const int64_t most = RS_SCRATCH_BYTES / 8 / elements, pixels = c.batch * rs_volume_of(c.out) / 64;
  const int64_t wanted = most < pixels ? most : pixels, segments = wanted < 2 ? 1 : wanted < 4096 ? wanted : 4096;
  double *partials = (double *)rs_cuda_scratch(o);
  int32_t status = RS_LAUNCH(depthwise_filter_gradient, rs_blocks_of(elements * segments), RS_THREADS, 0, rs_cuda_stream(o), w, elements,
                             segments, partials);
  if (status || segments == 1) return status;
  return RS_LAUNCH(sum_segments, rs_blocks_of(elements), RS_THREADS, 0, rs_cuda_stream(o), w.out, elements, segments,
                   (const double *)partials);
}

int32_t rs_cuda_tensor_product(rs_operation *o, void *arguments) {
  const rs_tensor_producing &p = *(const rs_tensor_producing *)arguments;
  return RS_OVER_ELEMENTS(product, o, p.batch * p.m * p.n, p);
}

} // extern "C"
