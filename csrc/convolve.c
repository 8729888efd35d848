// convolve.c: convolutions on the CPU, channels last. A register tile of PIXELS neighbouring output pixels and two vectors of output
// channels runs over all filter elements and input channels. The gradient of the input is a convolution too: of the output's
// gradient, with zeros between its pixels where the stride is more than 1, with the filter turned over and transposed.
#include "convolution.h"
#include "scratch.h"
#include "simd.h"

#define PIXELS (RS_LANES == 16 ? 12 : RS_LANES == 8 ? 6 : 5)
#define PANEL (2 * RS_LANES) // channels of a tile
#define CACHE (1 << 20)      // bytes of packed rows that a task should keep within

// target(t) = sum over k of source(t * step + k * dilation - before) weights(k). Source positions count in steps of 1 / up: between
// the source's pixels, and outside, there are zeros.
typedef struct {
  const float *source, *weights;
  const float **slot; // the packed rows of every thread
  float *target, *packed;
  int64_t batch, size[3], channels, target_size[3], target_channels;
  int64_t filter[3], step[3], dilation[3], before[3], up[3];
  int64_t panels, span, rows, slots; // a packed row's pixels; target rows of a task; packed rows of a task
  const float *given;                // the filter as the caller has it
  int turned;
} gathering;

static int64_t at_least(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t panel_width(const gathering *g, int64_t panel) { return g->target_channels - panel * PANEL > RS_LANES ? PANEL : RS_LANES; }

// A task: one filter element of one panel, [source channel][panel channel], with zeros behind the last channel.
static void weights_task(void *context, int64_t task, int worker) {
  (void)worker;
  const gathering *g = context;
  int64_t taps = rs_volume_of(g->filter), tap = task % taps, panel = task / taps, width = panel_width(g, panel), first = panel * PANEL;
  float *to = (float *)g->weights + taps * g->channels * first + tap * g->channels * width;
  const float *from = g->given + (g->turned ? taps - 1 - tap : tap) * g->channels * g->target_channels;
  for (int64_t c = 0; c < g->channels; c++)
    for (int64_t k = 0; k < width; k++) {
      int64_t channel = first + k;
      to[c * width + k] = channel >= g->target_channels ? 0
                          : g->turned                   ? from[channel * g->channels + c]
                                                        : from[c * g->target_channels + channel];
    }
}

// The source row at (z, y) of an item, with zeros where there is no pixel; NULL where the whole row is zeros.
static const float *pack_row(const gathering *g, int64_t item, int64_t z, int64_t y, float *packed) {
  if (z < 0 || y < 0 || z % g->up[0] || y % g->up[1] || z / g->up[0] >= g->size[0] || y / g->up[1] >= g->size[1]) return NULL;
  const float *row = g->source + ((item * g->size[0] + z / g->up[0]) * g->size[1] + y / g->up[1]) * g->size[2] * g->channels;
  int64_t before = g->before[2], channels = g->channels;
  if (g->up[2] == 1) {
    int64_t first = at_least(0, -before), end = at_most(g->size[2], g->span - before); // of the source's pixels
    int64_t lead = at_most(at_least(before + first, 0), g->span), count = at_least(end - first, 0);
    memset(packed, 0, (size_t)(lead * channels) * sizeof(float));
    memcpy(packed + lead * channels, row + first * channels, (size_t)(count * channels) * sizeof(float));
    memset(packed + (lead + count) * channels, 0, (size_t)((g->span - lead - count) * channels) * sizeof(float));
    return packed;
  }
  memset(packed, 0, (size_t)(g->span * channels) * sizeof(float));
  for (int64_t x = 0; x < g->size[2]; x++) {
    int64_t to = x * g->up[2] + before;
    if (to >= 0 && to < g->span) memcpy(packed + to * channels, row + x * channels, (size_t)channels * sizeof(float));
  }
  return packed;
}

// PIXELS pixels by one or two vectors of channels.
static inline __attribute__((always_inline)) void tile(const gathering *g, const float *const *rows, int64_t row_step, int64_t x,
                                                       const float *weights, int vectors, float *out, int64_t count, int64_t width) {
  rs_vf low[PIXELS], high[PIXELS];
  for (int p = 0; p < PIXELS; p++) low[p] = high[p] = (rs_vf){0};
  int64_t channels = g->channels, stride = g->step[2] * channels;
  for (int64_t d = 0; d < g->filter[0]; d++)
    for (int64_t h = 0; h < g->filter[1]; h++) {
      const float *row = rows[d * row_step + h * g->dilation[1]];
      if (!row) {
        weights += g->filter[2] * channels * vectors * RS_LANES;
        continue;
      }
      for (int64_t w = 0; w < g->filter[2]; w++) {
        const float *s = row + (x * g->step[2] + w * g->dilation[2]) * channels;
        for (int64_t c = 0; c < channels; c++, weights += vectors * RS_LANES) {
          rs_vf w0 = rs_load(weights), w1 = vectors == 2 ? rs_load(weights + RS_LANES) : w0;
#pragma GCC unroll 12
          for (int p = 0; p < PIXELS; p++) {
            float v = s[p * stride + c];
            low[p] += w0 * v;
            if (vectors == 2) high[p] += w1 * v;
          }
        }
      }
    }
#pragma GCC unroll 12
  for (int p = 0; p < PIXELS; p++) {
    if (p >= count) break;
    float *to = out + p * g->target_channels;
    if (width == vectors * RS_LANES) {
      rs_store(to, low[p]);
      if (vectors == 2) rs_store(to + RS_LANES, high[p]);
    } else {
      float both[PANEL];
      rs_store(both, low[p]);
      rs_store(both + RS_LANES, high[p]);
      memcpy(to, both, (size_t)width * sizeof(float));
    }
  }
}

static void rows_task(void *context, int64_t task, int worker) {
  const gathering *g = context;
  int64_t blocks = (g->target_size[1] + g->rows - 1) / g->rows;
  int64_t block = task % blocks, z = task / blocks % g->target_size[0], item = task / blocks / g->target_size[0];
  int64_t start = block * g->rows, end = at_most(start + g->rows, g->target_size[1]);
  int64_t top = start * g->step[1] - g->before[1], per_depth = g->slots / g->filter[0];
  const float **rows = g->slot + worker * g->slots;
  float *packed = g->packed + worker * g->slots * g->span * g->channels;
  for (int64_t k = 0; k < g->slots; k++) rows[k] = NULL;
  for (int64_t d = 0; d < g->filter[0]; d++)
    for (int64_t y = start; y < end; y++)
      for (int64_t h = 0; h < g->filter[1]; h++) {
        int64_t below = (y - start) * g->step[1] + h * g->dilation[1], slot = d * per_depth + below;
        if (!rows[slot])
          rows[slot] =
              pack_row(g, item, z * g->step[0] + d * g->dilation[0] - g->before[0], top + below, packed + slot * g->span * g->channels);
      }
  int64_t taps = rs_volume_of(g->filter), width_all = g->target_size[2];
  for (int64_t panel = 0; panel < g->panels; panel++) {
    int64_t first = panel * PANEL, width = at_most(g->target_channels - first, PANEL);
    const float *weights = g->weights + taps * g->channels * first;
    for (int64_t y = start; y < end; y++) {
      float *out = g->target + ((item * g->target_size[0] + z) * g->target_size[1] + y) * width_all * g->target_channels + first;
      const float *const *from = rows + (y - start) * g->step[1];
      for (int64_t x = 0; x < width_all; x += PIXELS, out += PIXELS * g->target_channels)
        if (panel_width(g, panel) == PANEL)
          tile(g, from, per_depth, x, weights, 2, out, width_all - x, width);
        else
          tile(g, from, per_depth, x, weights, 1, out, width_all - x, width);
    }
  }
}

static int64_t slots_of(const gathering *g, int64_t rows) {
  return g->filter[0] * ((rows - 1) * g->step[1] + (g->filter[1] - 1) * g->dilation[1] + 1);
}

static int32_t gather(rs_operation *operation, gathering *g) {
  int64_t padded = (g->target_size[2] + PIXELS - 1) / PIXELS * PIXELS;
  g->panels = (g->target_channels + PANEL - 1) / PANEL;
  g->span = (padded - 1) * g->step[2] + (g->filter[2] - 1) * g->dilation[2] + 1;
  // Several rows a task share the rows they read, as long as these stay in the cache and there are tasks for many threads.
  int64_t row_bytes = g->span * g->channels * 4, all_rows = g->batch * g->target_size[0] * g->target_size[1];
  for (g->rows = 8; g->rows > 1; g->rows /= 2)
    if (slots_of(g, g->rows) * row_bytes <= CACHE && all_rows / g->rows >= 64) break;
  g->slots = slots_of(g, g->rows);
  int64_t weights = rs_volume_of(g->filter) * g->channels * (g->panels * PANEL);
  int64_t threads = rs_operation_threads(operation);
  int64_t packed = threads * g->slots * g->span * g->channels;
  float *scratch = rs_scratch((size_t)(weights + packed) * sizeof(float) + (size_t)(threads * g->slots) * sizeof(float *));
  if (!scratch) return RS_EMEMORY;
  g->slot = (const float **)scratch;
  g->weights = scratch + 2 * threads * g->slots;
  g->packed = (float *)g->weights + weights;
  int32_t status = rs_parallel_for(operation, g->panels * rs_volume_of(g->filter), weights_task, g);
  if (status) return status;
  int64_t blocks = (g->target_size[1] + g->rows - 1) / g->rows;
  return rs_parallel_for(operation, g->batch * g->target_size[0] * blocks, rows_task, g);
}

static int32_t forward(rs_operation *operation, const rs_tensor_convolving *work) {
  const rs_convolution *c = &work->shape;
  gathering g = {.source = work->a, .given = work->b, .target = work->out, .batch = c->batch};
  g.channels = c->in_channels;
  g.target_channels = c->out_channels;
  for (int k = 0; k < 3; k++) {
    g.size[k] = c->in[k];
    g.target_size[k] = c->out[k];
    g.filter[k] = c->filter[k];
    g.step[k] = c->stride[k];
    g.dilation[k] = c->dilation[k];
    g.before[k] = c->before[k];
    g.up[k] = 1;
  }
  return gather(operation, &g);
}

static int32_t input_gradient(rs_operation *operation, const rs_tensor_convolving *work) {
  const rs_convolution *c = &work->shape;
  gathering g = {.source = work->a, .given = work->b, .target = work->out, .batch = c->batch, .turned = 1};
  g.channels = c->out_channels;
  g.target_channels = c->in_channels;
  for (int k = 0; k < 3; k++) {
    g.size[k] = c->out[k];
    g.target_size[k] = c->in[k];
    g.filter[k] = c->filter[k];
    g.step[k] = 1;
    g.dilation[k] = c->dilation[k];
    g.before[k] = (c->filter[k] - 1) * c->dilation[k] - c->before[k];
    g.up[k] = c->stride[k];
  }
  return gather(operation, &g);
}

// The gradient of the filter: for every filter element a product of the input's and the output gradient's pixels, [channels] by
// [channels]. The channels of one of the two are the lanes; sums run in float32 along a row and in float64 over rows, and how the
// rows are cut into segments depends on the shape alone.
typedef struct {
  const rs_tensor_convolving *work;
  int by_input; // the lanes are the input's channels
  int64_t lanes, others, panels;
  int64_t rows, segments, length;
  double *partial; // [segment][filter element][other channel][lane channel]
} filtering;

// acc[other][lane] += other[other] lane[lane] over `count` pixels.
static inline __attribute__((always_inline)) void outer_tile(const float *other, int64_t other_stride, const float *lane,
                                                             int64_t lane_stride, int64_t count, int others, int vectors, float *sums) {
  rs_vf low[PIXELS], high[PIXELS];
  for (int p = 0; p < others; p++) low[p] = high[p] = (rs_vf){0};
  for (int64_t i = 0; i < count; i++, other += other_stride, lane += lane_stride) {
    rs_vf l = rs_load(lane), h = vectors == 2 ? rs_load(lane + RS_LANES) : l;
#pragma GCC unroll 12
    for (int p = 0; p < others; p++) {
      low[p] += l * other[p];
      if (vectors == 2) high[p] += h * other[p];
    }
  }
#pragma GCC unroll 12
  for (int p = 0; p < others; p++) {
    rs_store(sums + p * PANEL, low[p]);
    if (vectors == 2) rs_store(sums + p * PANEL + RS_LANES, high[p]);
  }
}

#define OUTER_CASE(N)                                                        \
  case N:                                                                    \
    if (vectors == 2)                                                        \
      outer_tile(other, other_stride, lane, lane_stride, count, N, 2, sums); \
    else                                                                     \
      outer_tile(other, other_stride, lane, lane_stride, count, N, 1, sums); \
    return;

static void outer(const float *other, int64_t other_stride, const float *lane, int64_t lane_stride, int64_t count, int64_t others,
                  int vectors, float *sums) {
  switch (others) {
    OUTER_CASE(1)
    OUTER_CASE(2)
    OUTER_CASE(3)
    OUTER_CASE(4)
    OUTER_CASE(5)
#if RS_LANES > 4
    OUTER_CASE(6)
#endif
#if RS_LANES > 8
    OUTER_CASE(7)
    OUTER_CASE(8)
    OUTER_CASE(9)
    OUTER_CASE(10)
    OUTER_CASE(11)
    OUTER_CASE(12)
#endif
  }
}

// The pixels [low, high) of an output row that meet filter column w inside the input.
static void columns_within(const rs_convolution *c, int64_t w, int64_t *low, int64_t *high) {
  int64_t shift = w * c->dilation[2] - c->before[2], stride = c->stride[2];
  *low = shift >= 0 ? 0 : (-shift + stride - 1) / stride;
  *high = at_most(c->out[2], shift >= c->in[2] ? 0 : (c->in[2] - 1 - shift) / stride + 1);
}

static void filter_task(void *context, int64_t task, int worker) {
  (void)worker;
  const filtering *f = context;
  const rs_convolution *c = &f->work->shape;
  int64_t panel = task % f->panels, segment = task / f->panels, taps = rs_volume_of(c->filter);
  int64_t first = panel * PANEL, width = at_most(f->lanes - first, PANEL);
  int vectors = width > RS_LANES ? 2 : 1;
  double *partial = f->partial + segment * taps * f->others * f->lanes + first;
  for (int64_t i = 0; i < taps * f->others; i++) memset(partial + i * f->lanes, 0, (size_t)width * sizeof(double));
  const float *input = f->work->a, *gradient = f->work->b;
  const float *lanes = f->by_input ? input : gradient;
  const float *lanes_end = lanes + (f->by_input ? c->batch * rs_volume_of(c->in) : f->rows * c->out[2]) * f->lanes;
  int64_t blocks = (f->others + PIXELS - 1) / PIXELS, in_step = c->stride[2] * c->in_channels;
  int64_t lane_stride = f->by_input ? in_step : c->out_channels, other_stride = f->by_input ? c->out_channels : in_step;
  int64_t end = at_most((segment + 1) * f->length, f->rows);
  float sums[PIXELS * PANEL], last[PANEL];
  for (int64_t row = segment * f->length; row < end; row++) {
    int64_t y = row % c->out[1], z = row / c->out[1] % c->out[0], item = row / c->out[1] / c->out[0];
    for (int64_t tap = 0; tap < taps; tap++) {
      int64_t w = tap % c->filter[2], h = tap / c->filter[2] % c->filter[1], d = tap / c->filter[2] / c->filter[1];
      int64_t in_z = rs_convolution_at(c, 0, z, d), in_y = rs_convolution_at(c, 1, y, h), low, high;
      columns_within(c, w, &low, &high);
      if (in_z < 0 || in_z >= c->in[0] || in_y < 0 || in_y >= c->in[1] || low >= high) continue;
      int64_t in_x = rs_convolution_at(c, 2, low, w);
      const float *in = input + (((item * c->in[0] + in_z) * c->in[1] + in_y) * c->in[2] + in_x) * c->in_channels;
      const float *out = gradient + (row * c->out[2] + low) * c->out_channels;
      const float *lane = (f->by_input ? in : out) + first, *other = f->by_input ? out : in;
      // Whole vectors are read, with what follows a pixel in memory in the lanes too many; only the tensor's end is in the way.
      int64_t safe = at_most(high - low, at_least(0, (lanes_end - lane - vectors * RS_LANES + lane_stride) / lane_stride));
      if (lanes_end - lane < vectors * RS_LANES) safe = 0;
      for (int64_t block = 0; block < blocks; block++) {
        int64_t start = f->others * block / blocks, count = f->others * (block + 1) / blocks - start;
        double *to = partial + (tap * f->others + start) * f->lanes;
        for (int64_t pixel = 0; pixel < high - low;) {
          const float *from = lane + pixel * lane_stride;
          int64_t pixels = safe - pixel;
          if (pixels <= 0) {
            memset(last, 0, sizeof last);
            memcpy(last, from, (size_t)width * sizeof(float));
            from = last;
            pixels = 1;
          }
          outer(other + start + pixel * other_stride, other_stride, from, lane_stride, pixels, count, vectors, sums);
          for (int64_t p = 0; p < count; p++)
            for (int64_t k = 0; k < width; k++) to[p * f->lanes + k] += sums[p * PANEL + k];
          pixel += pixels;
        }
      }
    }
  }
}

// A task: one filter element, summed over segments.
static void filter_sum_task(void *context, int64_t tap, int worker) {
  (void)worker;
  const filtering *f = context;
  int64_t size = f->others * f->lanes, taps = rs_volume_of(f->work->shape.filter);
  for (int64_t i = 0; i < f->others; i++)
    for (int64_t k = 0; k < f->lanes; k++) {
      double sum = 0;
      for (int64_t segment = 0; segment < f->segments; segment++) sum += f->partial[(segment * taps + tap) * size + i * f->lanes + k];
      f->work->out[tap * size + (f->by_input ? k * f->others + i : i * f->lanes + k)] = (float)sum;
    }
}

static int32_t filter_gradient(rs_operation *operation, const rs_tensor_convolving *work) {
  const rs_convolution *c = &work->shape;
  filtering f = {.work = work, .rows = c->batch * c->out[0] * c->out[1]};
  f.by_input = c->out_channels < RS_LANES && c->in_channels > c->out_channels;
  f.lanes = f.by_input ? c->in_channels : c->out_channels;
  f.others = f.by_input ? c->out_channels : c->in_channels;
  f.panels = (f.lanes + PANEL - 1) / PANEL;
  int64_t taps = rs_volume_of(c->filter), size = taps * f.others * f.lanes;
  const int64_t most = INT64_C(1) << 22; // partial sums
  int64_t segments = at_least(1, at_most(at_most(f.rows / 4, 64), most / size));
  f.length = (f.rows + segments - 1) / segments;
  f.segments = (f.rows + f.length - 1) / f.length;
  f.partial = rs_scratch((size_t)(f.segments * size) * sizeof(double));
  if (!f.partial) return RS_EMEMORY;
  int32_t status = rs_parallel_for(operation, f.segments * f.panels, filter_task, &f);
  return status ? status : rs_parallel_for(operation, taps, filter_sum_task, &f);
}

static int32_t convolve(rs_operation *operation, const rs_tensor_convolving *work) {
  switch (work->op) {
  case RS_CONVOLUTION: return forward(operation, work);
  case RS_CONVOLUTION_INPUT_GRADIENT: return input_gradient(operation, work);
  default: return filter_gradient(operation, work); // RS_CONVOLUTION_FILTER_GRADIENT
  }
}

extern int32_t RS_NAME(rs_product)(rs_operation *operation, const rs_tensor_producing *p); // product.c

const rs_products RS_NAME(rs_products) = {convolve, RS_NAME(rs_product)};
