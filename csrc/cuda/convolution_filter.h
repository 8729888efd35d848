// convolution_filter.h: the gradient of a convolution's filter on tensor cores.
// For every tap it is a product of input channels by output channels whose
// depth are pixels. Blocks sum their tiles, and a second kernel sums the
// blocks: always in the same order.
#pragma once
#include "convolution_tiles.h"

// Three warps have a row of the filter each, where it has so many; two such
// groups share the rows of a tile.
constexpr int FILTER_GROUPS = 2, FILTER_THREADS = 3 * 32 * FILTER_GROUPS;
constexpr int WIDE = 32; // channels of the rows of a product, whichever side they are of

// Words from pixel to pixel in which rs_turned meets no bank twice.
template <int PRECISION, int WORDS> constexpr int turned_stride = PRECISION == RS_CONVOLVE_TF32 ? (WORDS == 8 ? 8 : WORDS + 8) : WORDS + 4;

// SWAPPED: rows are output channels, else input channels. EIGHTS: columns by 8
// of the other side.
template <int PRECISION, int EIGHTS, bool SWAPPED> struct filter_sides {
  static constexpr int PER = rs_per_word<PRECISION>;
  static constexpr int NARROW = EIGHTS * 8;
  static constexpr int NARROW_WORDS = NARROW / PER < 8 ? 8 : NARROW / PER, WIDE_WORDS = WIDE / PER;
  static constexpr int IN = SWAPPED ? NARROW : WIDE,
                       OUT = SWAPPED ? WIDE : NARROW; // channels
  static constexpr int IN_WORDS = SWAPPED ? NARROW_WORDS : WIDE_WORDS, OUT_WORDS = SWAPPED ? WIDE_WORDS : NARROW_WORDS;
  static constexpr int IN_STRIDE = turned_stride<PRECISION, IN_WORDS>, OUT_STRIDE = turned_stride<PRECISION, OUT_WORDS>;
  // The sums leave registers for values of the next tile of both sides, or of
  // one in bf16. A tile of tf32 is sent, and two blocks take turns at sending
  // and multiplying.
  static constexpr bool BOTH = EIGHTS == 1, AHEAD = BOTH || PER == 2;
  static constexpr int IN_ROOM = !BOTH ? 32 : SWAPPED ? 16 * PER : 60, OUT_ROOM = !BOTH ? 24 : SWAPPED ? 44 : 12 * PER;
  static constexpr int WORDS = (TILE_ROWS + 2) * PITCH * IN_STRIDE + TILE_ROWS * TILE_COLUMNS * OUT_STRIDE;
};

// Words of `right` for EIGHTS times 8 columns.
template <int PRECISION, int EIGHTS> __device__ inline void narrow_words(uint32_t (&right)[EIGHTS][2], const uint32_t *at, int stride) {
  if constexpr (PRECISION == RS_CONVOLVE_TF32) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int n = 0; n < EIGHTS; n++)
#pragma unroll
      for (int k = 0; k < 2; k++) right[n][k] = at[(lane % 4 + k * 4) * stride + n * 8 + lane / 4];
  } else {
#pragma unroll
    for (int n = 0; n < EIGHTS; n += 2) {
      uint32_t words[4];
      rs_turned<PRECISION>(words, at + n * 4, stride);
      right[n][0] = words[0], right[n][1] = words[2];
      if (n + 1 < EIGHTS) right[n + 1][0] = words[1], right[n + 1][1] = words[3];
    }
  }
}

template <int COLUMNS> struct filter_columns { static constexpr int most = COLUMNS; };

// p's result is the output's gradient's image: tiles are of its pixels.
// `gradient` are its channels.
template <int PRECISION, int EIGHTS, bool SWAPPED>
__global__ void __launch_bounds__(FILTER_THREADS, 2) filter_tiles(tiled p, tile_source gradient, float *partials) {
  using sides = filter_sides<PRECISION, EIGHTS, SWAPPED>;
  constexpr int DEPTH = 8 * sides::PER; // pixels of a product
  RS_SHARED(uint32_t, input);
  uint32_t *output = input + (TILE_ROWS + 2) * PITCH * sides::IN_STRIDE;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, tap_y = warp % 3, group = warp / 3;
  const int tiles_out = (p.columns + sides::OUT - 1) / sides::OUT;
  const int first_in = (int)blockIdx.y / tiles_out * sides::IN, first_out = (int)blockIdx.y % tiles_out * sides::OUT;
  float sums[3][2][EIGHTS][4] = {};
  // The next tile, or what of it fits beside the sums, is on its way from
  // device memory while this one is worked off.
  using input_staging = staging<PRECISION, sides::IN_WORDS, PITCH, sides::IN_ROOM, false>;
  input_staging next_input;
  using output_staging = staging<PRECISION, sides::OUT_WORDS, TILE_COLUMNS, sides::OUT_ROOM, false>;
  output_staging next_output;
  const auto input_at = [&](const tile_place &place) {
    return tile_window{place.image, TILE_ROWS + 2, place.top - p.above, place.left - p.before, first_in};
  };
  const auto output_at = [&](const tile_place &place) { return tile_window{place.image, TILE_ROWS, place.top, place.left, first_out}; };
  tile_place place = tile_at(p, blockIdx.x);
  for (bool begun = false;; begun = true) {
    if (place.image < p.images) {
      if (!sides::BOTH && begun && gridDim.y == 1) { // all channels
        expect(p.source, input_at(place), PITCH, FILTER_THREADS);
        expect(gradient, output_at(place), TILE_COLUMNS, FILTER_THREADS);
      }
      if constexpr (sides::AHEAD) next_input.ask(p.source, input_at(place), FILTER_THREADS);
      if constexpr (sides::BOTH) next_output.ask(gradient, output_at(place), FILTER_THREADS);
    }
    // ACROSS: columns of the filter, without branches between products where
    // there are 3.
    const auto multiply = [&](auto across) {
      for (int row = group; row < TILE_ROWS; row += FILTER_GROUPS)
#pragma unroll(sides::AHEAD && !sides::BOTH ? 1 : 4) // as registers allow
        for (int column = 0; column < TILE_COLUMNS; column += DEPTH) {
          const uint32_t *out_at = output + (row * TILE_COLUMNS + column) * sides::OUT_STRIDE;
          const uint32_t *in_at = input + ((row + tap_y) * PITCH + column) * sides::IN_STRIDE;
          uint32_t left[2][4], right[EIGHTS][2];
          if (SWAPPED) {
            for (int m = 0; m < 2; m++) rs_turned<PRECISION>(left[m], out_at + m * (16 / sides::PER), sides::OUT_STRIDE);
          } else
            narrow_words<PRECISION, EIGHTS>(right, out_at, sides::OUT_STRIDE);
#pragma unroll
          for (int x = 0; x < decltype(across)::most; x++) {
            if (SWAPPED)
              narrow_words<PRECISION, EIGHTS>(right, in_at + x * sides::IN_STRIDE, sides::IN_STRIDE);
            else
              for (int m = 0; m < 2; m++)
                rs_turned<PRECISION>(left[m], in_at + x * sides::IN_STRIDE + m * (16 / sides::PER), sides::IN_STRIDE);
#pragma unroll
            for (int m = 0; m < 2; m++)
#pragma unroll
              for (int n = 0; n < EIGHTS; n++) rs_multiply<PRECISION>(sums[x][m][n], left[m], right[n]);
          }
        }
    };
    if (begun && tap_y < p.taps_y) p.taps_x == 1 ? multiply(filter_columns<1>()) : multiply(filter_columns<3>());
    __syncthreads(); // the last tile was read
    if (place.image >= p.images) break;
    if constexpr (sides::AHEAD)
      next_input.put(input, sides::IN_STRIDE, p.source, input_at(place), FILTER_THREADS);
    else
      stage<input_staging>(input, sides::IN_STRIDE, p.source, input_at(place), FILTER_THREADS);
    if constexpr (sides::BOTH)
      next_output.put(output, sides::OUT_STRIDE, gradient, output_at(place), FILTER_THREADS);
    else
      stage<output_staging>(output, sides::OUT_STRIDE, gradient, output_at(place), FILTER_THREADS);
    if constexpr (!sides::AHEAD) {
      staged<input_staging>(input, sides::IN_STRIDE, p.source, input_at(place), FILTER_THREADS);
      staged<output_staging>(output, sides::OUT_STRIDE, gradient, output_at(place), FILTER_THREADS);
    }
    __syncthreads();
    place = tile_after(p, place);
  }
  // Of the rows' two halves each group hands one over to the other group, and
  // writes the sum of the other one.
  float4 *shared = (float4 *)input + tap_y * FILTER_GROUPS * 3 * EIGHTS * 32 + lane;
  const auto half = [&](int which, int i) {
    const float(&low)[4] = sums[i / EIGHTS][0][i % EIGHTS], (&high)[4] = sums[i / EIGHTS][1][i % EIGHTS];
    return which ? make_float4(high[0], high[1], high[2], high[3]) : make_float4(low[0], low[1], low[2], low[3]);
  };
#pragma unroll
  for (int i = 0; i < 3 * EIGHTS; i++) shared[(group * 3 * EIGHTS + i) * 32] = half(1 - group, i);
  __syncthreads();
  if (tap_y >= p.taps_y) return;
  // A thread's sums are pairs of output channels, neighbours but where rows are
  // output channels in bf16.
  constexpr int NEXT = SWAPPED && sides::PER == 2 ? 8 : 1;
  const bool pairs = NEXT == 1 && p.columns % 2 == 0 && (uintptr_t)partials % sizeof(float2) == 0;
  float *to = partials + ((int64_t)blockIdx.x * p.taps_y + tap_y) * p.taps_x * p.source.channels * p.columns;
#pragma unroll
  for (int i = 0; i < 3 * EIGHTS; i++) {
    const float4 own = half(group, i), more = shared[((1 - group) * 3 * EIGHTS + i) * 32];
    const float all[2][2] = {{own.x + more.x, own.y + more.y}, {own.z + more.z, own.w + more.w}}; // [row][column]
    if (i / EIGHTS >= p.taps_x) continue;
#pragma unroll
    for (int k = 0; k < 2; k++) {
      const int row = group * 16 + (sides::PER == 1 ? lane / 4 * 2 + (SWAPPED ? 0 : k) : lane / 4 + (SWAPPED ? 0 : k * 8));
      const int column = i % EIGHTS * 8 + lane % 4 * 2 + (SWAPPED ? k : 0);
      const int in = first_in + (SWAPPED ? column : row), out = first_out + (SWAPPED ? row : column);
      const float first = SWAPPED ? all[0][k] : all[k][0], second = SWAPPED ? all[1][k] : all[k][1];
      float *at = to + (int64_t)(i / EIGHTS * p.source.channels + in) * p.columns + out;
      const bool one = in < p.source.channels && out < p.columns, two = one && out + NEXT < p.columns; // no branches
      if (one & pairs) *(float2 *)at = make_float2(first, second);
      if (one & !pairs) at[0] = first;
      if (two & !pairs) at[NEXT] = second;
    }
  }
}

// Latency is what this kernel is made of, so a thread asks for its next numbers
// before it adds: with two blocks for each of 132 multiprocessors it has 33.
constexpr int SUM_ELEMENTS = 32, SUM_SLICES = 8, SUM_TOGETHER = 33;

// out = the sum over segments of partials [segments][elements].
__global__ void __launch_bounds__(SUM_ELEMENTS *SUM_SLICES) sum_tiles(float *out, int64_t elements, int segments, const float *partials) {
  __shared__ double sums[SUM_SLICES][SUM_ELEMENTS];
  const int slice = threadIdx.x / SUM_ELEMENTS, column = threadIdx.x % SUM_ELEMENTS;
  const int64_t element = (int64_t)blockIdx.x * SUM_ELEMENTS + column;
  double sum = 0;
  for (int first = slice; first < segments; first += SUM_SLICES * SUM_TOGETHER) {
    uint32_t words[SUM_TOGETHER];
#pragma unroll
    for (int k = 0; k < SUM_TOGETHER; k++) {
      const int segment = first + k * SUM_SLICES;
      get_words<1>(words + k, element < elements && segment < segments, place_of_value(partials, segment * elements + element));
    }
#pragma unroll
    for (int k = 0; k < SUM_TOGETHER; k++) sum += __uint_as_float(words[k]); // 0 beyond the last one
  }
  sums[slice][column] = sum;
  __syncthreads();
  if (slice || element >= elements) return;
  for (int k = 1; k < SUM_SLICES; k++) sum += sums[k][column];
  out[element] = (float)sum;
}

template <int PRECISION, int EIGHTS, bool SWAPPED> int32_t run_filter_tiles(rs_operation *o, tiled p, const tile_source &gradient) {
  using sides = filter_sides<PRECISION, EIGHTS, SWAPPED>;
  const int64_t elements = (int64_t)p.taps_y * p.taps_x * p.source.channels * p.columns, room = RS_SCRATCH_BYTES / 4 / elements;
  const size_t shared = sizeof(uint32_t) * sides::WORDS;
  int64_t segments = rs_cuda_multiprocessors(p.device) * 2;
  segments = segments < p.tiles ? segments : p.tiles;
  segments = segments < room ? segments : room < 1 ? 1 : room;
  float *partials = segments == 1 ? p.out.at[0] : (float *)rs_cuda_scratch(o);
  const int64_t pairs = (int64_t)((p.source.channels + sides::IN - 1) / sides::IN) * ((p.columns + sides::OUT - 1) / sides::OUT);
  const dim3 grid((unsigned)segments, (unsigned)pairs);
  p.step = tile_at(p, grid.x);
  int32_t status =
      RS_LAUNCH((filter_tiles<PRECISION, EIGHTS, SWAPPED>), grid, FILTER_THREADS, shared, rs_cuda_stream(o), p, gradient, partials);
  if (status || segments == 1) return status;
  return RS_LAUNCH(sum_tiles, dim3((unsigned)((elements + SUM_ELEMENTS - 1) / SUM_ELEMENTS)), SUM_ELEMENTS * SUM_SLICES, 0,
                   rs_cuda_stream(o), p.out.at[0], elements, (int)segments, (const float *)partials);
}

template <int PRECISION> int32_t run_filter_product(rs_operation *o, const tiled &p, const tile_source &gradient) {
  if (p.source.channels <= 8) return run_filter_tiles<PRECISION, 1, true>(o, p, gradient);
  const int64_t wide = sizeof(uint32_t) * filter_sides<PRECISION, 4, false>::WORDS;
  if (p.columns <= 8 || wide > rs_cuda_shared(p.device)) return run_filter_tiles<PRECISION, 1, false>(o, p, gradient);
  return run_filter_tiles<PRECISION, 4, false>(o, p, gradient);
}
