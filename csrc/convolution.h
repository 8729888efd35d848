// convolution.h: the shape of a convolution or pooling in three dimensions, channels last (NDHWC, filters DHWIO). Two dimensions
// are a depth of 1.
#pragma once
#include "tensor.h"

// The table of the ABI: rs_convolution_shape says what stands where.
typedef struct {
  int64_t batch;
  int64_t in[3], in_channels, out[3], out_channels;
  int64_t filter[3], stride[3], dilation[3];
  int64_t before[3]; // zeros in front of the input
  int64_t precision;
} rs_convolution;

typedef struct {
  int32_t op, device;
  rs_convolution shape;
  float *out;
  const float *a, *b;
} rs_tensor_convolving;

// Arrays whose channels follow one another.
typedef struct {
  float *at[3];
  int64_t channels[3];
} rs_channel_pieces;

typedef struct {
  int32_t op, device, relu, halves;
  rs_convolution shape;
  rs_channel_pieces out, a;
  const float *b, *bias, *add, *mask;
} rs_tensor_fusing;

// x + the third of three 3 x 3 convolutions with ReLU between them; `out` and `kept`, the activations, may be null.
#define RS_BLOCK_MOST_X 8 // channels
#define RS_BLOCK_MOST_CHANNELS 32
typedef struct {
  int32_t device, halves;
  int64_t precision, batch, height, width;
  int64_t channels[2]; // of the activations
  rs_channel_pieces x; // the first one is added to the result
  const float *filters[3], *biases[3];
  float *out, *kept[2];
} rs_tensor_residual;

// Whether a GPU computes a convolution in the precision that it asks for, with fused operands where there are any.
RS_INLINE int rs_convolution_fuses(const rs_convolution *c) {
  for (int k = 0; k < 3; k++)
    if (c->stride[k] != 1 || c->dilation[k] != 1 || c->filter[k] > (k ? 3 : 1)) return 0;
  const int64_t most = INT32_MAX; // pixels of an image
  return c->precision != RS_CONVOLVE_FLOAT32 && c->before[0] == 0 && c->in[0] == 1 && c->out[0] == 1 && c->in[1] * c->in[2] <= most &&
         c->out[1] * c->out[2] <= most && c->in_channels * c->out_channels <= most;
}

// Element (i, j, k) of the input that meets filter element (d, h, w) at output (z, y, x), along one axis; outside 0 ... in - 1 it is 0.
RS_INLINE int64_t rs_convolution_at(const rs_convolution *c, int axis, int64_t out, int64_t filter) {
  return out * c->stride[axis] + filter * c->dilation[axis] - c->before[axis];
}

RS_INLINE int64_t rs_volume_of(const int64_t *extent) { return extent[0] * extent[1] * extent[2]; }

// Reads and checks a table. `elements` gets the counts of input, output and filter; the filter's channels are the caller's to count.
rs_convolution rs_check_convolution(rs_check *check, const int64_t *table, int64_t elements[3]);

// The work that is compiled once a target (csrc/dispatch.c picks one): convolutions and matrix products.
typedef struct {
  float *out;
  const float *a, *b;
  int64_t batch, m, n, k, batch_a, batch_b;
  int64_t a_row, a_column, b_row, b_column; // strides in elements
} rs_tensor_producing;

typedef struct {
  int32_t (*convolve)(rs_operation *operation, const rs_tensor_convolving *c);
  int32_t (*product)(rs_operation *operation, const rs_tensor_producing *p);
} rs_products;

extern const rs_products rs_products_avx512, rs_products_avx2, rs_products_plain;
const rs_products *rs_products_here(void); // dispatch.c
