// convolution.cu: convolutions on the GPU as products of matrices that are never written down. Pixels are the rows, channels of the
// result the columns, and the sum runs over filter elements and channels of the source, gathered into shared memory as they come.
// All in float32; sums have one order, so results repeat bit by bit. convolution_fused.cu has the ones on tensor cores.
#include "convolution_places.h"

namespace {

constexpr int PIXELS = 128;         // rows of a block, one gathered by each of its threads
constexpr int COLUMNS = 32;         // channels of the result
constexpr int DEPTH = 8;            // channels of the source at a time
constexpr int ROWS = 8, ACROSS = 4; // of a thread: a tile of its own in registers

// The convolution, or the gradient of its input: both gather from a source, whose channels run fastest.
struct gathering {
  rs_tensor_convolving w;
  int backwards;
  int64_t rows, channels, columns; // pixels of the result; channels of the source and of the result
};

// Where the source's pixel lies that result pixel p meets through a tap, or null.
__device__ inline const float *source_of(const gathering &g, const place &p, int64_t z, int64_t y, int64_t x) {
  const rs_convolution &c = g.w.shape;
  if (!g.backwards) {
    const int64_t row = row_of(c, p.item, p.at, z, y), in_x = rs_convolution_at(&c, 2, p.at[2], x);
    return row < 0 || in_x < 0 || in_x >= c.in[2] ? nullptr : g.w.a + (row + in_x) * g.channels;
  }
  const int64_t out_z = output_of(c, 0, p.at[0], z), out_y = output_of(c, 1, p.at[1], y), out_x = output_of(c, 2, p.at[2], x);
  if (out_z < 0 || out_y < 0 || out_x < 0) return nullptr;
  return g.w.a + (((p.item * c.out[0] + out_z) * c.out[1] + out_y) * c.out[2] + out_x) * g.channels;
}

__global__ void __launch_bounds__(PIXELS) gather(gathering g) {
  alignas(16) __shared__ float source[DEPTH][PIXELS], filter[DEPTH][COLUMNS];
  const rs_convolution &c = g.w.shape;
  const int64_t first_row = (int64_t)blockIdx.x * PIXELS, first_column = (int64_t)blockIdx.y * COLUMNS;
  const int64_t own = first_row + threadIdx.x < g.rows ? first_row + threadIdx.x : g.rows - 1; // the pixel that this thread gathers
  const place p = place_of(own, g.backwards ? c.in : c.out, 1);
  const int left = threadIdx.x % (COLUMNS / ACROSS) * ACROSS, top = threadIdx.x / (COLUMNS / ACROSS) * ROWS;
  float sums[ROWS][ACROSS] = {};
  int64_t tap = 0;
  for (int64_t z = 0; z < c.filter[0]; z++)
    for (int64_t y = 0; y < c.filter[1]; y++)
      for (int64_t x = 0; x < c.filter[2]; x++, tap++) {
        const float *from = source_of(g, p, z, y, x);
        for (int64_t depth = 0; depth < g.channels; depth += DEPTH) {
          __syncthreads(); // the last tile was read
          for (int k = 0; k < DEPTH; k++) source[k][threadIdx.x] = from && depth + k < g.channels ? from[depth + k] : 0;
          for (int i = threadIdx.x; i < DEPTH * COLUMNS; i += PIXELS) {
            // The filter is [tap][in channel][out channel]: along its rows forward, along its columns backwards.
            const int k = i / COLUMNS, n = i % COLUMNS;
            const int64_t channel = depth + k, column = first_column + n;
            const int64_t at =
                g.backwards ? (tap * g.columns + column) * g.channels + channel : (tap * g.channels + channel) * g.columns + column;
            filter[k][n] = channel < g.channels && column < g.columns ? g.w.b[at] : 0;
          }
          __syncthreads();
#pragma unroll
          for (int k = 0; k < DEPTH; k++) {
            float rows[ROWS], across[ACROSS];
#pragma unroll
            for (int r = 0; r < ROWS; r++) rows[r] = source[k][top + r];
#pragma unroll
            for (int n = 0; n < ACROSS; n++) across[n] = filter[k][left + n];
#pragma unroll
            for (int r = 0; r < ROWS; r++)
#pragma unroll
              for (int n = 0; n < ACROSS; n++) sums[r][n] += rows[r] * across[n];
          }
        }
      }
  for (int r = 0; r < ROWS; r++)
    for (int n = 0; n < ACROSS; n++)
      if (first_row + top + r < g.rows && first_column + left + n < g.columns)
        g.w.out[(first_row + top + r) * g.columns + first_column + left + n] = sums[r][n];
}

// The gradient of the filter: for every tap the product [in channels] by [out channels], summed over a segment of the output's pixels
// in float32 and over segments in float64.
constexpr int SIDE = 32;  // channels of a tile, both ways
constexpr int CHUNK = 16; // pixels at a time
constexpr int THREADS = 64;

__global__ void __launch_bounds__(THREADS)
    filter_segments(rs_tensor_convolving w, int64_t segments, int64_t tiles_in, int64_t tiles_out, float *partials) {
  alignas(16) __shared__ float input[CHUNK][SIDE], gradient[CHUNK][SIDE];
  __shared__ int64_t places[CHUNK]; // of the input's pixels; below 0 outside
  const rs_convolution &c = w.shape;
  const int64_t pixels = c.batch * rs_volume_of(c.out), segment = blockIdx.x, tap = blockIdx.y / tiles_in / tiles_out;
  const int64_t first_in = blockIdx.y / tiles_out % tiles_in * SIDE, first_out = blockIdx.y % tiles_out * SIDE;
  const int64_t z = tap / c.filter[2] / c.filter[1], y = tap / c.filter[2] % c.filter[1], x = tap % c.filter[2];
  const int left = threadIdx.x % 8 * 4, top = threadIdx.x / 8 * 4;
  float sums[4][4] = {};
  const int64_t end = pixels * (segment + 1) / segments;
  for (int64_t start = pixels * segment / segments; start < end; start += CHUNK) {
    __syncthreads(); // the last chunk was read
    if (threadIdx.x < CHUNK) {
      const int64_t pixel = start + threadIdx.x;
      const place p = place_of(pixel < end ? pixel : end - 1, c.out, 1);
      const int64_t row = row_of(c, p.item, p.at, z, y), in_x = rs_convolution_at(&c, 2, p.at[2], x);
      places[threadIdx.x] = pixel >= end || row < 0 || in_x < 0 || in_x >= c.in[2] ? -1 : row + in_x;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < CHUNK * SIDE; i += THREADS) {
      const int pixel = i / SIDE, channel = i % SIDE;
      const int64_t at = places[pixel];
      input[pixel][channel] = at >= 0 && first_in + channel < c.in_channels ? w.a[at * c.in_channels + first_in + channel] : 0;
      gradient[pixel][channel] =
          at >= 0 && first_out + channel < c.out_channels ? w.b[(start + pixel) * c.out_channels + first_out + channel] : 0;
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < CHUNK; k++) {
      float rows[4], across[4];
#pragma unroll
      for (int r = 0; r < 4; r++) rows[r] = input[k][top + r];
#pragma unroll
      for (int n = 0; n < 4; n++) across[n] = gradient[k][left + n];
#pragma unroll
      for (int r = 0; r < 4; r++)
#pragma unroll
        for (int n = 0; n < 4; n++) sums[r][n] += rows[r] * across[n];
    }
  }
  float *to = partials + segment * rs_volume_of(c.filter) * c.in_channels * c.out_channels;
  for (int r = 0; r < 4; r++)
    for (int n = 0; n < 4; n++) {
      const int64_t in = first_in + top + r, out = first_out + left + n;
      if (in < c.in_channels && out < c.out_channels) to[(tap * c.in_channels + in) * c.out_channels + out] = sums[r][n];
    }
}

__global__ void sum_segments(float *out, int64_t elements, int64_t segments, const float *partials) {
  RS_OVER(i, elements) {
    double sum = 0;
    for (int64_t segment = 0; segment < segments; segment++) sum += partials[segment * elements + i];
    out[i] = (float)sum;
  }
}

int32_t run_gather(rs_operation *o, const rs_tensor_convolving &w, int backwards) {
  const rs_convolution &c = w.shape;
  const gathering g = {w, backwards, c.batch * rs_volume_of(backwards ? c.in : c.out), backwards ? c.out_channels : c.in_channels,
                       backwards ? c.in_channels : c.out_channels};
  const dim3 grid((unsigned)((g.rows + PIXELS - 1) / PIXELS), (unsigned)((g.columns + COLUMNS - 1) / COLUMNS));
  return RS_LAUNCH(gather, grid, PIXELS, 0, rs_cuda_stream(o), g);
}

int32_t run_filter_gradient(rs_operation *o, const rs_tensor_convolving &w) {
  const rs_convolution &c = w.shape;
  const int64_t taps = rs_volume_of(c.filter), elements = taps * c.in_channels * c.out_channels;
  const int64_t tiles_in = (c.in_channels + SIDE - 1) / SIDE, tiles_out = (c.out_channels + SIDE - 1) / SIDE;
  // As many segments as the scratch memory holds, of at least 256 pixels; with one, the result is the only partial sum.
  const int64_t room = RS_SCRATCH_BYTES / 4 / elements, most = c.batch * rs_volume_of(c.out) / 256;
  const int64_t wanted = room < most ? room : most, segments = wanted < 2 ? 1 : wanted < 256 ? wanted : 256;
  float *partials = segments == 1 ? w.out : (float *)rs_cuda_scratch(o);
  const dim3 grid((unsigned)segments, (unsigned)(taps * tiles_in * tiles_out));
  int32_t status = RS_LAUNCH(filter_segments, grid, THREADS, 0, rs_cuda_stream(o), w, segments, tiles_in, tiles_out, partials);
  if (status || segments == 1) return status;
  return RS_LAUNCH(sum_segments, rs_blocks_of(elements), RS_THREADS, 0, rs_cuda_stream(o), w.out, elements, segments,
                   (const float *)partials);
}

} // namespace

extern "C" int32_t rs_cuda_tensor_convolve(rs_operation *o, void *arguments) {
  const rs_tensor_convolving &w = *(const rs_tensor_convolving *)arguments;
  if (rs_convolution_fuses(&w.shape)) {
    const rs_convolution &c = w.shape;
    const int back = w.op == RS_CONVOLUTION_INPUT_GRADIENT;
    rs_tensor_fusing f = {};
    f.op = w.op, f.device = w.device;
    f.shape = c;
    f.out = {{w.out}, {back ? c.in_channels : c.out_channels}};
    f.a = {{(float *)w.a}, {back ? c.out_channels : c.in_channels}};
    f.b = w.b;
    return rs_cuda_tensor_convolve_fused(o, &f);
  }
  if (w.op == RS_CONVOLUTION_FILTER_GRADIENT) return run_filter_gradient(o, w);
  return run_gather(o, w, w.op == RS_CONVOLUTION_INPUT_GRADIENT);
}
