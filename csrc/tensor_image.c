// tensor_image.c: the CPU loops over tensor_image.h.
#include "tensor_image.h"

#include <string.h>

// The part [low, high) of a window along one axis that lies inside the input.
static void window(const rs_convolution *c, int axis, int64_t out, int64_t *low, int64_t *high) {
  int64_t start = rs_convolution_at(c, axis, out, 0), dilation = c->dilation[axis], in = c->in[axis];
  *low = start >= 0 ? 0 : (-start + dilation - 1) / dilation;
  *high = start >= in ? 0 : (in - 1 - start) / dilation + 1;
  if (*high > c->filter[axis]) *high = c->filter[axis];
}

// Calls BODY for every input pixel of the window at output (z, y, x); `pixel` is its number.
#define OVER_WINDOW(c, item, z, y, x, BODY)                                                                                       \
  int64_t zl, zh, yl, yh, xl, xh;                                                                                                 \
  window(c, 0, z, &zl, &zh);                                                                                                      \
  window(c, 1, y, &yl, &yh);                                                                                                      \
  window(c, 2, x, &xl, &xh);                                                                                                      \
  for (int64_t wz = zl; wz < zh; wz++)                                                                                            \
    for (int64_t wy = yl; wy < yh; wy++)                                                                                          \
      for (int64_t wx = xl; wx < xh; wx++) {                                                                                      \
        int64_t pixel =                                                                                                           \
            (((item) * (c)->in[0] + rs_convolution_at(c, 0, z, wz)) * (c)->in[1] + rs_convolution_at(c, 1, y, wy)) * (c)->in[2] + \
            rs_convolution_at(c, 2, x, wx);                                                                                       \
        BODY                                                                                                                      \
      }

// A task: one row of the output.
static void pool_row(void *context, int64_t row, int worker) {
  (void)worker;
  const rs_tensor_convolving *w = context;
  const rs_convolution *c = &w->shape;
  int64_t channels = c->in_channels, y = row % c->out[1], z = row / c->out[1] % c->out[0], item = row / c->out[1] / c->out[0];
  for (int64_t x = 0; x < c->out[2]; x++) {
    float *out = w->out + (row * c->out[2] + x) * channels;
    int largest = w->op == RS_POOL_LARGEST, pixels = 0;
    for (int64_t q = 0; q < channels; q++) out[q] = largest ? -INFINITY : 0;
    OVER_WINDOW(c, item, z, y, x, {
      const float *in = w->a + pixel * channels;
      pixels++;
      for (int64_t q = 0; q < channels; q++)
        if (!largest)
          out[q] += in[q];
        else if (in[q] > out[q]) // NaN is left out
          out[q] = in[q];
    })
    if (!largest && pixels)
      for (int64_t q = 0; q < channels; q++) out[q] /= (float)pixels;
  }
}

#define CHANNELS 16 // of a task of a gradient

// A task: some channels of an item. Windows overlap, so they are added up one after the other.
static void pool_gradient_task(void *context, int64_t task, int worker) {
  (void)worker;
  const rs_tensor_convolving *w = context;
  const rs_convolution *c = &w->shape;
  int64_t channels = c->in_channels, blocks = (channels + CHANNELS - 1) / CHANNELS;
  int64_t first = task % blocks * CHANNELS, width = channels - first < CHANNELS ? channels - first : CHANNELS, item = task / blocks;
  int64_t pixels_in = rs_volume_of(c->in), pixels_out = rs_volume_of(c->out);
  for (int64_t i = 0; i < pixels_in; i++) memset(w->out + (item * pixels_in + i) * channels + first, 0, (size_t)width * sizeof(float));
  for (int64_t i = 0; i < pixels_out; i++) {
    int64_t x = i % c->out[2], y = i / c->out[2] % c->out[1], z = i / c->out[2] / c->out[1];
    const float *gradient = w->a + (item * pixels_out + i) * channels + first;
    if (w->op == RS_POOL_MEAN) { // by the whole window, also where it reaches outside: as TensorFlow.js defines this gradient
      float part = 1.0f / (float)rs_volume_of(c->filter);
      OVER_WINDOW(c, item, z, y, x, {
        float *out = w->out + pixel * channels + first;
        for (int64_t q = 0; q < width; q++) out[q] += gradient[q] * part;
      })
      continue;
    }
    float best[CHANNELS];
    int64_t place[CHANNELS]; // the first of the largest takes it all
    for (int64_t q = 0; q < width; q++) place[q] = -1;
    OVER_WINDOW(c, item, z, y, x, {
      const float *in = w->b + pixel * channels + first;
      for (int64_t q = 0; q < width; q++)
        if (place[q] < 0 || in[q] > best[q]) {
          best[q] = in[q];
          place[q] = pixel;
        }
    })
    for (int64_t q = 0; q < width; q++)
      if (place[q] >= 0) w->out[place[q] * channels + first + q] += gradient[q];
  }
}

static int32_t run_pool(rs_operation *operation, void *arguments) {
  const rs_tensor_convolving *w = arguments;
  return rs_parallel_for(operation, w->shape.batch * w->shape.out[0] * w->shape.out[1], pool_row, arguments);
}

static int32_t run_pool_gradient(rs_operation *operation, void *arguments) {
  const rs_tensor_convolving *w = arguments;
  return rs_parallel_for(operation, w->shape.batch * ((w->shape.in_channels + CHANNELS - 1) / CHANNELS), pool_gradient_task, arguments);
}

static rs_tensor_convolving pooling(rs_check *check, int32_t op, const int64_t *shape, int64_t elements[3]) {
  rs_check_choice(check, op, RS_POOL_MEAN, "pooling");
  rs_tensor_convolving w = {.op = op, .shape = rs_check_convolution(check, shape, elements)};
  if (!check->status && w.shape.in_channels != w.shape.out_channels)
    check->status = rs_fail(RS_EARGUMENT, "pooling of %lld channels to %lld: expected the same number", (long long)w.shape.in_channels,
                            (long long)w.shape.out_channels);
  return w;
}

int32_t rs_tensor_pool(int32_t op, int64_t out, int64_t a, const int64_t *shape) {
  rs_check check = RS_CHECK;
  int64_t elements[3];
  rs_tensor_convolving w = pooling(&check, op, shape, elements);
  w.out = rs_check_floats(&check, out, elements[1], "out");
  w.a = rs_check_operand(&check, a, elements[0], w.out, elements[1], "a");
  return rs_tensor_push(&check, "tensor_pool", run_pool, rs_cuda_tensor_pool, &w, sizeof w);
}

int32_t rs_tensor_pool_gradient(int32_t op, int64_t out, int64_t a, int64_t b, const int64_t *shape) {
  rs_check check = RS_CHECK;
  int64_t elements[3];
  rs_tensor_convolving w = pooling(&check, op, shape, elements);
  w.out = rs_check_floats(&check, out, elements[0], "out");
  w.a = rs_check_operand(&check, a, elements[1], w.out, elements[0], "a");
  if (op == RS_POOL_LARGEST) w.b = rs_check_operand(&check, b, elements[0], w.out, elements[0], "b");
  return rs_tensor_push(&check, "tensor_pool_gradient", run_pool_gradient, rs_cuda_tensor_pool_gradient, &w, sizeof w);
}

// Resizing

static void resize_row(void *context, int64_t row, int worker) {
  (void)worker;
  const rs_tensor_resizing *r = context;
  int64_t item = row / r->out[0], channels = r->channels;
  rs_resize_place y = rs_resize_at(r, 0, row % r->out[0]);
  const float *low = r->source + (item * r->in[0] + y.low) * r->in[1] * channels;
  const float *high = r->source + (item * r->in[0] + y.high) * r->in[1] * channels;
  for (int64_t i = 0; i < r->out[1]; i++) {
    rs_resize_place x = rs_resize_at(r, 1, i);
    float *out = r->target + (row * r->out[1] + i) * channels;
    for (int64_t q = 0; q < channels; q++) {
      float a = low[x.low * channels + q], b = high[x.low * channels + q];
      float top = a + (low[x.high * channels + q] - a) * x.part, bottom = b + (high[x.high * channels + q] - b) * x.part;
      out[q] = top + (bottom - top) * y.part;
    }
  }
}

// A task: some channels of an item; source is the gradient of the result here.
static void resize_gradient_task(void *context, int64_t task, int worker) {
  (void)worker;
  const rs_tensor_resizing *r = context;
  int64_t channels = r->channels, blocks = (channels + CHANNELS - 1) / CHANNELS, item = task / blocks;
  int64_t first = task % blocks * CHANNELS, width = channels - first < CHANNELS ? channels - first : CHANNELS;
  float *target = r->target + item * r->in[0] * r->in[1] * channels + first;
  for (int64_t i = 0; i < r->in[0] * r->in[1]; i++) memset(target + i * channels, 0, (size_t)width * sizeof(float));
  for (int64_t i = 0; i < r->out[0]; i++) {
    rs_resize_place y = rs_resize_at(r, 0, i);
    for (int64_t j = 0; j < r->out[1]; j++) {
      rs_resize_place x = rs_resize_at(r, 1, j);
      const float *gradient = r->source + ((item * r->out[0] + i) * r->out[1] + j) * channels + first;
      float *low = target + y.low * r->in[1] * channels, *high = target + y.high * r->in[1] * channels;
      for (int64_t q = 0; q < width; q++) {
        float top = gradient[q] * (1 - y.part), bottom = gradient[q] * y.part;
        low[x.low * channels + q] += top * (1 - x.part);
        low[x.high * channels + q] += top * x.part;
        high[x.low * channels + q] += bottom * (1 - x.part);
        high[x.high * channels + q] += bottom * x.part;
      }
    }
  }
}

static int32_t run_resize(rs_operation *operation, void *arguments) {
  const rs_tensor_resizing *r = arguments;
  return rs_parallel_for(operation, r->batch * r->out[0], resize_row, arguments);
}

static int32_t run_resize_gradient(rs_operation *operation, void *arguments) {
  const rs_tensor_resizing *r = arguments;
  return rs_parallel_for(operation, r->batch * ((r->channels + CHANNELS - 1) / CHANNELS), resize_gradient_task, arguments);
}

static rs_tensor_resizing resizing(rs_check *check, int32_t op, const int64_t *shape, int32_t align_corners, int32_t half, int64_t *in,
                                   int64_t *out) {
  rs_check_choice(check, op, RS_RESIZE_NEAREST, "resizing");
  rs_tensor_resizing r = {.op = op, .align_corners = align_corners, .half_pixel_centres = half, .batch = shape[0], .channels = shape[5]};
  for (int k = 0; k < 2; k++) {
    r.in[k] = shape[1 + k];
    r.out[k] = shape[3 + k];
  }
  *in = rs_check_product(check, "input", 4, (const int64_t[]){r.batch, r.in[0], r.in[1], r.channels});
  *out = rs_check_product(check, "output", 4, (const int64_t[]){r.batch, r.out[0], r.out[1], r.channels});
  return r;
}

int32_t rs_tensor_resize(int32_t op, int64_t out, int64_t a, const int64_t *shape, int32_t align_corners, int32_t half_pixel_centres) {
  rs_check check = RS_CHECK;
  int64_t in_count, out_count;
  rs_tensor_resizing r = resizing(&check, op, shape, align_corners, half_pixel_centres, &in_count, &out_count);
  r.target = rs_check_floats(&check, out, out_count, "out");
  r.source = rs_check_operand(&check, a, in_count, r.target, out_count, "a");
  return rs_tensor_push(&check, "tensor_resize", run_resize, rs_cuda_tensor_resize, &r, sizeof r);
}

int32_t rs_tensor_resize_gradient(int32_t op, int64_t out, int64_t a, const int64_t *shape, int32_t align_corners,
                                  int32_t half_pixel_centres) {
  rs_check check = RS_CHECK;
  int64_t in_count, out_count;
  rs_tensor_resizing r = resizing(&check, op, shape, align_corners, half_pixel_centres, &in_count, &out_count);
  r.target = rs_check_floats(&check, out, in_count, "out");
  r.source = rs_check_operand(&check, a, out_count, r.target, in_count, "a");
  return rs_tensor_push(&check, "tensor_resize_gradient", run_resize_gradient, rs_cuda_tensor_resize_gradient, &r, sizeof r);
}

// Normalization

static void normalize_task(void *context, int64_t task, int worker) {
  (void)worker;
  const rs_tensor_normalizing *n = context;
  int64_t end = (task + 1) * RS_TENSOR_CHUNK < n->count ? (task + 1) * RS_TENSOR_CHUNK : n->count;
  int64_t channel = task * RS_TENSOR_CHUNK % n->channels;
  for (int64_t i = task * RS_TENSOR_CHUNK; i < end; i++) {
    n->out[i] = rs_normalized(n, n->a[i], channel);
    if (++channel == n->channels) channel = 0;
  }
}

static int32_t run_normalize(rs_operation *operation, void *arguments) {
  const rs_tensor_normalizing *n = arguments;
  return rs_parallel_for(operation, (n->count + RS_TENSOR_CHUNK - 1) / RS_TENSOR_CHUNK, normalize_task, arguments);
}

int32_t rs_tensor_normalize(int64_t out, int64_t a, int64_t mean, int64_t variance, int64_t offset, int64_t scale, int64_t count,
                            int64_t channels, double epsilon) {
  rs_check check = RS_CHECK;
  rs_tensor_normalizing n = {.count = count, .channels = channels, .epsilon = (float)epsilon};
  if (channels < 1 || count < 1 || count % channels)
    check.status = rs_fail(RS_EARGUMENT, "%lld elements of %lld channels: expected a multiple", (long long)count, (long long)channels);
  n.out = rs_check_floats(&check, out, count, "out");
  n.a = rs_check_floats(&check, a, count, "a");
  if (n.a != n.out) rs_check_apart_from(&check, n.out, count, n.a, count, "a");
  n.mean = rs_check_operand(&check, mean, channels, n.out, count, "mean");
  n.variance = rs_check_operand(&check, variance, channels, n.out, count, "variance");
  if (offset) n.offset = rs_check_operand(&check, offset, channels, n.out, count, "offset");
  if (scale) n.scale = rs_check_operand(&check, scale, channels, n.out, count, "scale");
  return rs_tensor_push(&check, "tensor_normalize", run_normalize, rs_cuda_tensor_normalize, &n, sizeof n);
}
