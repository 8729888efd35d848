// convolution.c: what convolutions, depthwise convolutions, pooling and matrix products check, and the plain ones of them.
#include "convolution.h"

#include <string.h>

rs_convolution rs_check_convolution(rs_check *check, const int64_t *table, int64_t elements[3]) {
  rs_convolution c = {.batch = table[RS_AT_BATCH], .in_channels = table[RS_AT_IN_CHANNELS], .out_channels = table[RS_AT_OUT_CHANNELS]};
  for (int k = 0; k < 3; k++) {
    c.in[k] = table[RS_AT_IN + k];
    c.out[k] = table[RS_AT_OUT + k];
    c.filter[k] = table[RS_AT_FILTER + k];
    c.stride[k] = table[RS_AT_STRIDE + k];
    c.dilation[k] = table[RS_AT_DILATION + k];
    c.before[k] = table[RS_AT_BEFORE + k];
    const int64_t limit = 1 << 24; // so that sums of products of these fit
    if (!check->status && (c.stride[k] < 1 || c.stride[k] > limit || c.dilation[k] < 1 || c.dilation[k] > limit || c.before[k] < -limit ||
                           c.before[k] > limit || c.in[k] > limit || c.out[k] > limit || c.filter[k] > limit))
      check->status =
          rs_fail(RS_EARGUMENT,
                  "axis %d: input %lld, output %lld, filter %lld, stride %lld, dilation %lld, zeros before %lld: expected positive "
                  "counts, zeros between -2^24 and 2^24",
                  k, (long long)c.in[k], (long long)c.out[k], (long long)c.filter[k], (long long)c.stride[k], (long long)c.dilation[k],
                  (long long)c.before[k]);
  }
  c.precision = table[RS_AT_PRECISION];
  if (!check->status && (c.precision < RS_CONVOLVE_FLOAT32 || c.precision > RS_CONVOLVE_BF16))
    check->status = rs_fail(RS_EARGUMENT, "precision %lld does not exist", (long long)c.precision);
  elements[0] = rs_check_product(check, "input", 5, (const int64_t[]){c.batch, c.in[0], c.in[1], c.in[2], c.in_channels});
  elements[1] = rs_check_product(check, "output", 5, (const int64_t[]){c.batch, c.out[0], c.out[1], c.out[2], c.out_channels});
  elements[2] = rs_check_product(check, "filter", 3, c.filter);
  return c;
}

// Resolves out, a and b of a convolution of a kind.
static void resolve(rs_check *check, rs_tensor_convolving *w, int64_t out, int64_t a, int64_t b, int64_t elements[3]) {
  int64_t input = elements[0], output = elements[1], filter = elements[2];
  int64_t out_count = w->op == RS_CONVOLUTION ? output : w->op == RS_CONVOLUTION_INPUT_GRADIENT ? input : filter;
  w->out = rs_check_floats(check, out, out_count, "out");
  w->a = rs_check_operand(check, a, w->op == RS_CONVOLUTION_INPUT_GRADIENT ? output : input, w->out, out_count, "a");
  w->b = rs_check_operand(check, b, w->op == RS_CONVOLUTION_FILTER_GRADIENT ? output : filter, w->out, out_count, "b");
}

static int32_t run_convolve(rs_operation *operation, void *arguments) { return rs_products_here()->convolve(operation, arguments); }

int32_t rs_tensor_convolve(int32_t kind, int64_t out, int64_t a, int64_t b, const int64_t *shape) {
  rs_check check = RS_CHECK;
  int64_t elements[3];
  rs_check_choice(&check, kind, RS_CONVOLUTION_FILTER_GRADIENT, "kind");
  rs_tensor_convolving w = {.op = kind, .shape = rs_check_convolution(&check, shape, elements)};
  elements[2] = rs_check_product(&check, "filter", 3, (const int64_t[]){elements[2], w.shape.in_channels, w.shape.out_channels});
  resolve(&check, &w, out, a, b, elements);
  w.device = check.device;
  return rs_tensor_push(&check, "tensor_convolve", run_convolve, rs_cuda_tensor_convolve, &w, sizeof w);
}

// Pieces of an array of pixels, whose channels must add up to `channels`; with halves a float holds two.
static rs_channel_pieces pieces_of(rs_check *check, const int64_t *pointers, const int64_t *counts, int64_t pixels, int64_t channels,
                                   int halves, const char *what) {
  rs_channel_pieces pieces = {0};
  int64_t sum = 0;
  for (int k = 0; k < 3 && !check->status && pointers[k]; k++) {
    if (counts[k] < 1 || counts[k] > channels - sum)
      check->status = rs_fail(RS_EARGUMENT, "%s %d has %lld channels: expected a positive count, and no more than %lld in all", what, k,
                              (long long)counts[k], (long long)channels);
    if (check->status) break;
    pieces.channels[k] = counts[k];
    pieces.at[k] = rs_check_floats(check, pointers[k], pixels * counts[k] / (halves ? 2 : 1), what);
    sum += counts[k];
  }
  if (!check->status && sum != channels)
    check->status = rs_fail(RS_EARGUMENT, "%s has %lld channels in all: expected %lld", what, (long long)sum, (long long)channels);
  return pieces;
}

static const float *optional_floats(rs_check *check, int64_t pointer, int64_t count, const char *what) {
  return pointer ? rs_check_floats(check, pointer, count, what) : NULL;
}

// Halves are one array each, of bf16 numbers and channels by 8.
static void check_halves(rs_check *check, const rs_tensor_fusing *f, const int64_t *operands) {
  const rs_convolution *c = &f->shape;
  int back = f->op == RS_CONVOLUTION_INPUT_GRADIENT, of_filter = f->op == RS_CONVOLUTION_FILTER_GRADIENT;
  int64_t source = back ? c->out_channels : c->in_channels, result = back ? c->in_channels : c->out_channels;
  int halves = f->halves, allowed = of_filter ? RS_HALVES_A | RS_HALVES_B : RS_HALVES_A | RS_HALVES_OUT | RS_HALVES_MASK;
  int fits = !(halves & ~allowed) && (!halves || c->precision == RS_CONVOLVE_BF16);
  if (halves & RS_HALVES_A) fits = fits && source % 8 == 0 && operands[RS_FUSED_A_CHANNELS] == source;
  if (halves & RS_HALVES_OUT) fits = fits && result % 8 == 0 && operands[RS_FUSED_OUT_CHANNELS] == result && !operands[RS_FUSED_ADD];
  if (halves & (RS_HALVES_B | RS_HALVES_MASK)) fits = fits && result % 8 == 0;
  if (!check->status && !fits)
    check->status =
        rs_fail(RS_EARGUMENT, "halves %d: expected arrays of the call with a multiple of 8 channels, in precision bf16", halves);
}

int32_t rs_tensor_convolve_fused(int32_t kind, const int64_t *operands, const int64_t *shape) {
  rs_check check = RS_CHECK;
  int64_t elements[3];
  rs_check_choice(&check, kind, RS_CONVOLUTION_FILTER_GRADIENT, "kind");
  rs_tensor_fusing f = {.op = kind, .relu = operands[RS_FUSED_RELU] != 0, .shape = rs_check_convolution(&check, shape, elements)};
  const rs_convolution *c = &f.shape;
  int64_t filter = rs_check_product(&check, "filter", 3, (const int64_t[]){elements[2], c->in_channels, c->out_channels});
  if (!check.status && !rs_convolution_fuses(c))
    check.status = rs_fail(RS_EARGUMENT, "a fused convolution: expected two dimensions, stride and dilation 1, a filter of at most 3 x 3 "
                                         "and a precision other than float32");
  int back = kind == RS_CONVOLUTION_INPUT_GRADIENT, of_filter = kind == RS_CONVOLUTION_FILTER_GRADIENT;
  f.halves = (int32_t)operands[RS_FUSED_HALVES];
  check_halves(&check, &f, operands);
  if (check.status) return check.status;
  int64_t inputs = elements[0] / c->in_channels, outputs = elements[1] / c->out_channels; // pixels
  int64_t pixels = back ? inputs : outputs, channels = back ? c->in_channels : c->out_channels;
  if (of_filter) pixels = filter / channels;
  f.out = pieces_of(&check, operands + RS_FUSED_OUT, operands + RS_FUSED_OUT_CHANNELS, pixels, channels, f.halves & RS_HALVES_OUT, "out");
  f.a = pieces_of(&check, operands + RS_FUSED_A, operands + RS_FUSED_A_CHANNELS, back ? outputs : inputs,
                  back ? c->out_channels : c->in_channels, f.halves & RS_HALVES_A, "a");
  int64_t b_count = of_filter ? elements[1] / (f.halves & RS_HALVES_B ? 2 : 1) : filter;
  int64_t mask_count = pixels * channels / (f.halves & RS_HALVES_MASK ? 2 : 1);
  f.b = rs_check_floats(&check, operands[RS_FUSED_B], b_count, "b");
  f.bias = optional_floats(&check, operands[RS_FUSED_BIAS], channels, "bias");
  f.add = optional_floats(&check, operands[RS_FUSED_ADD], pixels * f.out.channels[0], "add");
  f.mask = optional_floats(&check, operands[RS_FUSED_MASK], mask_count, "mask");
  if (!check.status && ((f.mask || of_filter) && f.out.channels[0] != channels))
    check.status = rs_fail(RS_EARGUMENT, "out is split: expected one array with a mask, or of a filter");
  if (!check.status && of_filter && (f.bias || f.add || f.mask || f.relu))
    check.status = rs_fail(RS_EARGUMENT, "the gradient of a filter takes no bias, sum, mask or ReLU");
  if (!check.status && check.device == RS_CPU)
    check.status = rs_fail(RS_EDEVICE, "fused convolutions run on a GPU, and these arrays are on the CPU");
  for (int k = 0; k < 3; k++) {
    if (!f.out.at[k]) continue;
    int64_t count = pixels * f.out.channels[k] / (f.halves & RS_HALVES_OUT ? 2 : 1);
    for (int n = 0; n < 3; n++)
      if (f.a.at[n])
        rs_check_apart_from(&check, f.out.at[k], count, f.a.at[n],
                            (back ? outputs : inputs) * f.a.channels[n] / (f.halves & RS_HALVES_A ? 2 : 1), "a");
    rs_check_apart_from(&check, f.out.at[k], count, f.b, b_count, "b");
    if (f.bias) rs_check_apart_from(&check, f.out.at[k], count, f.bias, channels, "bias");
    if (f.add) rs_check_apart_from(&check, f.out.at[k], count, f.add, pixels * f.out.channels[0], "add");
    // A mask may be overwritten: each of its elements decides about the one that takes its place.
    int replaces = f.mask == f.out.at[k] && mask_count == count;
    if (f.mask && !replaces) rs_check_apart_from(&check, f.out.at[k], count, f.mask, mask_count, "mask");
  }
  f.device = check.device;
  return rs_tensor_push(&check, "tensor_convolve_fused", NULL, rs_cuda_tensor_convolve_fused, &f, sizeof f);
}

// Residual blocks: what of them is not a pointer. `channels` gets those of x in all.
static rs_tensor_residual block_of(const int64_t *block, int64_t *channels) {
  rs_tensor_residual b = {.halves = block[RS_BLOCK_HALVES] != 0, .precision = block[RS_BLOCK_PRECISION]};
  b.batch = block[RS_BLOCK_BATCH], b.height = block[RS_BLOCK_HEIGHT], b.width = block[RS_BLOCK_WIDTH];
  for (int k = 0; k < 2; k++) b.channels[k] = block[RS_BLOCK_CHANNELS + k];
  *channels = 0;
  for (int k = 0; k < 3; k++) {
    const int64_t count = block[RS_BLOCK_X_CHANNELS + k];
    *channels += count < 0 || count > RS_BLOCK_MOST_X ? RS_BLOCK_MOST_X + 1 : count;
  }
  return b;
}

static int block_fits(int32_t device, const rs_tensor_residual *b, int64_t channels, int64_t first) {
  const int64_t extents[3] = {b->batch, b->height, b->width}, most = INT32_MAX;
  int64_t pixels = 1;
  for (int k = 0; k < 3; k++) {
    if (extents[k] < 1 || extents[k] > most / pixels) return 0;
    pixels *= extents[k];
  }
  if (first < 1 || channels > RS_BLOCK_MOST_X) return 0;
  for (int k = 0; k < 2; k++)
    if (b->channels[k] < 8 || b->channels[k] > RS_BLOCK_MOST_CHANNELS || b->channels[k] % 8) return 0;
  if (b->precision != RS_CONVOLVE_BF16 && (b->precision != RS_CONVOLVE_TF32 || b->halves)) return 0;
  return device != RS_CPU && rs_cuda_tensor_residual_fits(device, b->precision);
}

int32_t rs_tensor_residual_block_fits(int32_t device, const int64_t *block, int32_t *fits) {
  if (rs_device_check(device)) return RS_EDEVICE;
  int64_t channels;
  const rs_tensor_residual b = block_of(block, &channels);
  *fits = block_fits(device, &b, channels, block[RS_BLOCK_X_CHANNELS]);
  return RS_OK;
}

int32_t rs_tensor_residual_block(const int64_t *block) {
  rs_check check = RS_CHECK;
  int64_t channels;
  rs_tensor_residual b = block_of(block, &channels);
  const int64_t first = block[RS_BLOCK_X_CHANNELS];
  // Every extent that counts below is small, or the first check fails.
  const int64_t pixels = rs_check_product(&check, "images", 3, (const int64_t[]){b.batch, b.height, b.width});
  const int64_t widths[4] = {channels, b.channels[0], b.channels[1], first};
  rs_check_product(&check, "images", 2, (const int64_t[]){pixels, RS_BLOCK_MOST_CHANNELS});
  for (int k = 0; k < 4; k++)
    if (!check.status && (widths[k] < 1 || widths[k] > RS_BLOCK_MOST_CHANNELS))
      check.status =
          rs_fail(RS_EARGUMENT, "a residual block with %lld channels: expected 1 to %d", (long long)widths[k], RS_BLOCK_MOST_CHANNELS);
  if (check.status) return check.status;
  b.x = pieces_of(&check, block + RS_BLOCK_X, block + RS_BLOCK_X_CHANNELS, pixels, channels, 0, "x");
  const void *read[9];
  int64_t read_counts[9];
  const char *names[9];
  int reads = 0;
  for (int k = 0; k < 3; k++) {
    const int64_t filter = 9 * widths[k] * widths[k + 1];
    b.filters[k] = rs_check_floats(&check, block[RS_BLOCK_FILTERS + k], filter, "filter");
    b.biases[k] = optional_floats(&check, block[RS_BLOCK_BIASES + k], widths[k + 1], "bias");
    if (b.x.at[k]) read[reads] = b.x.at[k], names[reads] = "x", read_counts[reads++] = pixels * b.x.channels[k];
    read[reads] = b.filters[k], names[reads] = "filter", read_counts[reads++] = filter;
    if (b.biases[k]) read[reads] = b.biases[k], names[reads] = "bias", read_counts[reads++] = widths[k + 1];
  }
  // What is written: the result and the activations.
  const int64_t counts[3] = {pixels * first, pixels * b.channels[0] / (b.halves ? 2 : 1), pixels * b.channels[1] / (b.halves ? 2 : 1)};
  b.out = (float *)optional_floats(&check, block[RS_BLOCK_OUT], counts[0], "out");
  for (int k = 0; k < 2; k++) {
    b.kept[k] = (float *)optional_floats(&check, block[RS_BLOCK_KEPT + k], counts[k + 1], "activation");
    if (!check.status && (uintptr_t)b.kept[k] % 16)
      check.status = rs_fail(RS_EARGUMENT, "activation %d does not begin at a multiple of 16 bytes", k);
  }
  float *const written[3] = {b.out, b.kept[0], b.kept[1]};
  for (int k = 0; k < 3; k++) {
    if (!written[k]) continue;
    for (int n = 0; n < reads; n++) rs_check_apart_from(&check, written[k], counts[k], read[n], read_counts[n], names[n]);
    for (int n = k + 1; n < 3; n++)
      if (written[n]) rs_check_apart_from(&check, written[k], counts[k], written[n], counts[n], "activation");
  }
  b.device = check.device;
  if (!check.status && check.device == RS_CPU)
    check.status = rs_fail(RS_EDEVICE, "residual blocks run on a GPU, and these arrays are on the CPU");
  if (!check.status && !block_fits(check.device, &b, channels, first))
    check.status = rs_fail(RS_EARGUMENT, "no kernel of this device computes this residual block: ask rs_tensor_residual_block_fits");
  return rs_tensor_push(&check, "tensor_residual_block", NULL, rs_cuda_tensor_residual, &b, sizeof b);
}

// Depthwise: every channel has a filter of its own for each of `multiplier` output channels.

static void depthwise_row(void *context, int64_t row, int worker) {
  (void)worker;
  const rs_tensor_convolving *w = context;
  const rs_convolution *c = &w->shape;
  int64_t channels = c->in_channels, multiplier = c->out_channels / channels;
  int64_t y = row % c->out[1], z = row / c->out[1] % c->out[0], item = row / c->out[1] / c->out[0];
  float *out = w->out + row * c->out[2] * c->out_channels;
  memset(out, 0, (size_t)(c->out[2] * c->out_channels) * sizeof(float));
  const float *filter = w->b;
  for (int64_t d = 0; d < c->filter[0]; d++)
    for (int64_t h = 0; h < c->filter[1]; h++) {
      int64_t in_z = rs_convolution_at(c, 0, z, d), in_y = rs_convolution_at(c, 1, y, h);
      if (in_z < 0 || in_z >= c->in[0] || in_y < 0 || in_y >= c->in[1]) {
        filter += c->filter[2] * c->out_channels;
        continue;
      }
      const float *in = w->a + ((item * c->in[0] + in_z) * c->in[1] + in_y) * c->in[2] * channels;
      for (int64_t k = 0; k < c->filter[2]; k++, filter += c->out_channels)
        for (int64_t x = 0; x < c->out[2]; x++) {
          int64_t in_x = rs_convolution_at(c, 2, x, k);
          if (in_x < 0 || in_x >= c->in[2]) continue;
          for (int64_t q = 0; q < channels; q++)
            for (int64_t m = 0; m < multiplier; m++)
              out[x * c->out_channels + q * multiplier + m] += in[in_x * channels + q] * filter[q * multiplier + m];
        }
    }
}

// An input row of the gradient gathers from the output rows that it had a part in.
static void depthwise_input_row(void *context, int64_t row, int worker) {
  (void)worker;
  const rs_tensor_convolving *w = context;
  const rs_convolution *c = &w->shape;
  int64_t channels = c->in_channels, multiplier = c->out_channels / channels;
  int64_t in_y = row % c->in[1], in_z = row / c->in[1] % c->in[0], item = row / c->in[1] / c->in[0];
  float *out = w->out + row * c->in[2] * channels;
  memset(out, 0, (size_t)(c->in[2] * channels) * sizeof(float));
  for (int64_t d = 0; d < c->filter[0]; d++)
    for (int64_t h = 0; h < c->filter[1]; h++) {
      int64_t z = in_z + c->before[0] - d * c->dilation[0], y = in_y + c->before[1] - h * c->dilation[1];
      if (z < 0 || y < 0 || z % c->stride[0] || y % c->stride[1] || z / c->stride[0] >= c->out[0] || y / c->stride[1] >= c->out[1])
        continue;
      const float *gradient = w->a + ((item * c->out[0] + z / c->stride[0]) * c->out[1] + y / c->stride[1]) * c->out[2] * c->out_channels;
      for (int64_t k = 0; k < c->filter[2]; k++) {
        const float *filter = w->b + ((d * c->filter[1] + h) * c->filter[2] + k) * c->out_channels;
        for (int64_t x = 0; x < c->out[2]; x++) {
          int64_t in_x = rs_convolution_at(c, 2, x, k);
          if (in_x < 0 || in_x >= c->in[2]) continue;
          for (int64_t q = 0; q < channels; q++)
            for (int64_t m = 0; m < multiplier; m++)
              out[in_x * channels + q] += gradient[x * c->out_channels + q * multiplier + m] * filter[q * multiplier + m];
        }
      }
    }
}

// A task: one element of the filter, and one channel.
static void depthwise_filter(void *context, int64_t task, int worker) {
  (void)worker;
  const rs_tensor_convolving *w = context;
  const rs_convolution *c = &w->shape;
  int64_t channels = c->in_channels, multiplier = c->out_channels / channels;
  int64_t q = task % channels, tap = task / channels;
  int64_t k = tap % c->filter[2], h = tap / c->filter[2] % c->filter[1], d = tap / c->filter[2] / c->filter[1];
  for (int64_t m = 0; m < multiplier; m++) {
    double sum = 0;
    for (int64_t row = 0; row < c->batch * c->out[0] * c->out[1]; row++) {
      int64_t in_y = rs_convolution_at(c, 1, row % c->out[1], h), in_z = rs_convolution_at(c, 0, row / c->out[1] % c->out[0], d);
      if (in_z < 0 || in_z >= c->in[0] || in_y < 0 || in_y >= c->in[1]) continue;
      const float *in = w->a + ((row / c->out[1] / c->out[0] * c->in[0] + in_z) * c->in[1] + in_y) * c->in[2] * channels + q;
      const float *gradient = w->b + row * c->out[2] * c->out_channels + q * multiplier + m;
      for (int64_t x = 0; x < c->out[2]; x++) {
        int64_t in_x = rs_convolution_at(c, 2, x, k);
        if (in_x >= 0 && in_x < c->in[2]) sum += (double)in[in_x * channels] * gradient[x * c->out_channels];
      }
    }
    w->out[task * multiplier + m] = (float)sum;
  }
}

static int32_t run_depthwise(rs_operation *operation, void *arguments) {
  const rs_tensor_convolving *w = arguments;
  const rs_convolution *c = &w->shape;
  switch (w->op) {
  case RS_CONVOLUTION: return rs_parallel_for(operation, c->batch * c->out[0] * c->out[1], depthwise_row, arguments);
  case RS_CONVOLUTION_INPUT_GRADIENT: return rs_parallel_for(operation, c->batch * c->in[0] * c->in[1], depthwise_input_row, arguments);
  default: return rs_parallel_for(operation, rs_volume_of(c->filter) * c->in_channels, depthwise_filter, arguments);
  }
}

int32_t rs_tensor_convolve_depthwise(int32_t kind, int64_t out, int64_t a, int64_t b, const int64_t *shape) {
  rs_check check = RS_CHECK;
  int64_t elements[3];
  rs_check_choice(&check, kind, RS_CONVOLUTION_FILTER_GRADIENT, "kind");
  rs_tensor_convolving w = {.op = kind, .shape = rs_check_convolution(&check, shape, elements)};
  if (!check.status && w.shape.out_channels % w.shape.in_channels)
    check.status = rs_fail(RS_EARGUMENT, "%lld output channels of %lld input channels: expected a multiple",
                           (long long)w.shape.out_channels, (long long)w.shape.in_channels);
  elements[2] = rs_check_product(&check, "filter", 2, (const int64_t[]){elements[2], w.shape.out_channels});
  resolve(&check, &w, out, a, b, elements);
  return rs_tensor_push(&check, "tensor_convolve_depthwise", run_depthwise, rs_cuda_tensor_convolve_depthwise, &w, sizeof w);
}

static int32_t run_product(rs_operation *operation, void *arguments) { return rs_products_here()->product(operation, arguments); }

int32_t rs_tensor_product(int64_t out, int64_t a, int64_t b, const int64_t *shape, int32_t transpose_a, int32_t transpose_b) {
  rs_check check = RS_CHECK;
  rs_tensor_producing p = {.batch = shape[0], .m = shape[1], .n = shape[2], .k = shape[3], .batch_a = shape[4], .batch_b = shape[5]};
  int64_t out_count = rs_check_product(&check, "product", 3, (const int64_t[]){p.batch, p.m, p.n});
  int64_t a_count = rs_check_product(&check, "a", 3, (const int64_t[]){p.batch_a, p.m, p.k});
  int64_t b_count = rs_check_product(&check, "b", 3, (const int64_t[]){p.batch_b, p.k, p.n});
  p.a_row = transpose_a ? 1 : p.k;
  p.a_column = transpose_a ? p.m : 1;
  p.b_row = transpose_b ? 1 : p.n;
  p.b_column = transpose_b ? p.k : 1;
  p.out = rs_check_floats(&check, out, out_count, "out");
  p.a = rs_check_operand(&check, a, a_count, p.out, out_count, "a");
  p.b = rs_check_operand(&check, b, b_count, p.out, out_count, "b");
  return rs_tensor_push(&check, "tensor_product", run_product, rs_cuda_tensor_product, &p, sizeof p);
}
