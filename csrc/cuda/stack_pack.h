// stack_pack.h: between the public layouts, where one slice or row lies behind the other, and the lanes of the `rs_stack_cuda` family.
#pragma once
#include "split.h"
#include "stack_plan.h"

constexpr int STACK_PACK_THREADS = 256;
constexpr int STACK_PACK_SPAN = 32; // places that a block packs

// A lane reads a weighted sum of planes of its item: the terms begin[unit] ... begin[unit + 1] - 1 of a sparse matrix.
struct stack_source {
  const float *input;
  stack_lanes lanes; // unit_step: between planes
  const int64_t *begin;
  const int32_t *index;
  const float *weight;
  // Places come in lines: rows of voxels, or the columns of a view in the order of `view`, times its weight.
  int32_t lines, line;
  const stack_view *view; // or null
};

// Where packed places go: [chunk][line][margin + place + margin][lane], [chunk][place][margin + line + margin][lane], or both. Margins
// become zero.
struct stack_packed {
  float *along, *across; // or null
  int32_t margin;
};

// A tile of packing is tile[place][column]. Columns are ordered so that no access meets a bank of shared memory twice, where a thread packs
// MANY neighbouring lanes of a place: neighbours are a whole group of threads apart.
template <int WIDTH, int MANY> __device__ static inline int stack_lane_of(int column) {
  return column % (WIDTH / MANY) * MANY + column / (WIDTH / MANY);
}

// What each column reads of a line: its lane's terms.
template <int WIDTH> struct stack_columns {
  int64_t item[WIDTH], first[WIDTH]; // where the line lies in plane 0 of the item, and in the first term's plane, or -1

  int64_t begin[WIDTH];
  int32_t terms[WIDTH];
  float weight[WIDTH]; // of the first term
  float scale;         // of the line
};

// Do four places always lie at a multiple of 16 bytes?
__device__ static inline bool stack_in_fours(const stack_source &source) {
  return source.line % 4 == 0 && reinterpret_cast<uintptr_t>(source.input) % 16 == 0;
}

// Reads the places from ... from + count - 1 of all columns, VEC of them a thread, and many at a time.
template <int VEC, int WIDTH>
__device__ static inline void stack_read(const stack_source &source, const stack_columns<WIDTH> &columns, int32_t from, int32_t count,
                                         float (&tile)[STACK_PACK_SPAN][WIDTH + 1]) {
  constexpr int NEXT = STACK_PACK_THREADS * VEC / STACK_PACK_SPAN, TOGETHER = WIDTH / NEXT < 8 ? WIDTH / NEXT : 8; // reads on their way
  const int t = threadIdx.x % (STACK_PACK_SPAN / VEC) * VEC;
  const bool inside = t < count;
  const float *input = source.input + from + t, scale = columns.scale;
  for (int c = threadIdx.x / (STACK_PACK_SPAN / VEC); c < WIDTH; c += NEXT * TOGETHER) {
    stack_vector<VEC> sum[TOGETHER] = {};
#pragma unroll
    for (int n = 0; n < TOGETHER; n++) {
      const int64_t first = columns.first[c + n * NEXT];
      if (inside & (first >= 0)) sum[n] = stack_load<VEC>(input + first);
    }
#pragma unroll
    for (int n = 0; n < TOGETHER; n++) {
      const int at = c + n * NEXT;
      for (float &value : sum[n].lane) value *= columns.weight[at];
#pragma unroll 1
      for (int k = 1; k < columns.terms[at] && inside; k++) {
        const int64_t e = columns.begin[at] + k;
        stack_add(sum[n], source.weight[e], stack_load<VEC>(input + columns.item[at] + source.index[e] * source.lanes.unit_step));
      }
#pragma unroll
      for (int k = 0; k < VEC; k++) tile[t + k][at] = scale * sum[n].lane[k];
    }
  }
}

// Finds the columns of a line for the lanes of a chunk. All threads of the block call it, and meet at its end.
template <int WIDTH, int MANY>
__device__ static inline void stack_find(const stack_source &source, int64_t chunk, int32_t line, stack_columns<WIDTH> &columns) {
  static_assert(WIDTH <= STACK_PACK_THREADS, "a thread for each column");
  const int c = threadIdx.x;
  if (c < WIDTH) {
    const int64_t offset = (int64_t)(source.view ? source.view[line].view : line) * source.line;
    if (c == 0) columns.scale = source.view ? source.view[line].weight : 1;
    const int64_t lane = chunk * WIDTH + stack_lane_of<WIDTH, MANY>(c);
    columns.terms[c] = 0, columns.first[c] = -1, columns.weight[c] = 0;
    if (lane < source.lanes.count) {
      const stack_place place = stack_place_of(source.lanes, lane);
      const int64_t begin = source.begin[place.unit], item = place.item * source.lanes.item_size + offset;
      columns.begin[c] = begin, columns.item[c] = item;
      columns.terms[c] = (int32_t)(source.begin[place.unit + 1] - begin);
      if (columns.terms[c])
        columns.first[c] = item + source.index[begin] * source.lanes.unit_step, columns.weight[c] = source.weight[begin];
    }
  }
  __syncthreads();
}

// Fills a tile: all threads of the block call it, and meet at its end.
template <int WIDTH>
__device__ static inline void stack_gather(const stack_source &source, const stack_columns<WIDTH> &columns, int32_t from, int32_t count,
                                           float (&tile)[STACK_PACK_SPAN][WIDTH + 1]) {
  if (stack_in_fours(source))
    stack_read<4>(source, columns, from, count, tile);
  else
    stack_read<1>(source, columns, from, count, tile);
  __syncthreads();
}

// Has threads use all of a tile: use(place, group) packs the lanes MANY * group ... MANY * group + MANY - 1, which lie in the columns
// group + k WIDTH / MANY. Neighbouring threads have neighbouring groups; a thread always has the same one.
template <int WIDTH, int MANY, typename Use> __device__ static inline void stack_spread(int32_t count, Use use) {
  constexpr int GROUPS = WIDTH / MANY;
  static_assert(GROUPS <= 32 && STACK_PACK_SPAN == 32, "a warp has whole places, GROUPS of them apart");
  const int t = threadIdx.x % 32;
  for (int p = threadIdx.x / 32; p < GROUPS; p += STACK_PACK_THREADS / 32)
    if (p + t / GROUPS * GROUPS < count) use(p + t / GROUPS * GROUPS, t % GROUPS);
}

template <int VEC> __global__ void __launch_bounds__(STACK_PACK_THREADS, 6) stack_pack(stack_source source, stack_packed packed) {
  constexpr int WIDTH = 32 * VEC, GROUPS = WIDTH / 4;
  __shared__ float tile[STACK_PACK_SPAN][WIDTH + 1];
  __shared__ stack_columns<WIDTH> columns;
  const int64_t chunk = blockIdx.y;
  const int32_t pieces = (source.line + STACK_PACK_SPAN - 1) / STACK_PACK_SPAN;
  const int32_t line = blockIdx.x / pieces, from = blockIdx.x % pieces * STACK_PACK_SPAN;
  const int32_t margin = packed.margin, count = source.line - from < STACK_PACK_SPAN ? source.line - from : STACK_PACK_SPAN;
  rs_await();
  stack_find<WIDTH, 4>(source, chunk, line, columns);
  stack_gather(source, columns, from, count, tile);
  auto write = [&](float *target, int64_t step) {
    stack_spread<WIDTH, 4>(count, [&](int p, int g) {
      const float *lanes = tile[p] + g;
      *reinterpret_cast<float4 *>(target + p * step + 4 * g) = make_float4(lanes[0], lanes[GROUPS], lanes[2 * GROUPS], lanes[3 * GROUPS]);
    });
  };
  auto clear = [&](float *target, int64_t step, int32_t places) {
    for (int p = threadIdx.x / GROUPS; p < places; p += STACK_PACK_THREADS / GROUPS)
      *reinterpret_cast<float4 *>(target + p * step + threadIdx.x % GROUPS * 4) = make_float4(0, 0, 0, 0);
  };
  if (packed.along) {
    float *start = packed.along + (chunk * source.lines + line) * (source.line + 2 * margin) * WIDTH;
    write(start + (margin + from) * WIDTH, WIDTH);
    if (from == 0) clear(start, WIDTH, margin);
    if (from + count == source.line) clear(start + (margin + source.line) * WIDTH, WIDTH, margin);
  }
  if (packed.across) {
    const int64_t step = (source.lines + 2 * (int64_t)margin) * WIDTH;
    float *start = packed.across + (chunk * source.line + from) * step;
    write(start + (margin + line) * WIDTH, step);
    for (int k = 0; k < margin && line == 0; k++) clear(start + k * WIDTH, step, count);
    for (int k = 0; k < margin && line == source.lines - 1; k++) clear(start + (margin + source.lines + k) * WIDTH, step, count);
  }
}

// What a kernel writes: a tile of STACK_SIDE neighbours in each of `rows` lines, for a chunk of lanes.
constexpr int STACK_SIDE = 16;
constexpr int STACK_THREADS = 512;
template <int VEC> constexpr int STACK_TILE_STRIDE = 32 * VEC + 4; // floats between the places of a tile

struct stack_target {
  rs_output output;
  stack_lanes lanes;
  double *sums; // or null: a sum of squares for each lane and block, [lane - sums_first][block]
  int64_t sums_first;
  float *shares;     // [tile][blockIdx.z][STACK_TILE_FLOATS], where several blocks add up a tile
  unsigned *arrived; // [tile], see rs_last_block
};

template <int VEC> constexpr int STACK_TILE_FLOATS = STACK_SIDE *STACK_SIDE *STACK_TILE_STRIDE<VEC>;

// Of gridDim.z blocks that have a share of a tile each, in shared memory, the last to come adds them up there and goes on: true.
template <int VEC> __device__ static inline bool stack_join(const stack_target &target, float *tile) {
  if (gridDim.z == 1) return true;
  constexpr int COUNT = STACK_TILE_FLOATS<VEC> / 4, TOGETHER = 4; // places of a thread whose parts are on their way at the same time
  const int64_t number = (int64_t)blockIdx.y * gridDim.x + blockIdx.x;
  float4 *shares = reinterpret_cast<float4 *>(target.shares) + number * gridDim.z * COUNT, *sum = reinterpret_cast<float4 *>(tile);
  for (int n = threadIdx.x; n < COUNT; n += blockDim.x) __stcg(shares + blockIdx.z * COUNT + n, sum[n]);
  if (!rs_last_block(target.arrived + number, gridDim.z)) return false;
  for (int first = threadIdx.x; first < COUNT; first += TOGETHER * blockDim.x) {
    float4 all[TOGETHER];
    auto add = [&](unsigned k) { // the part of block k
#pragma unroll
      for (int n = 0; n < TOGETHER; n++) {
        const int at = first + n * blockDim.x;
        const float4 one = __ldcg(shares + k * COUNT + (at < COUNT ? at : first));
        all[n] = k ? make_float4(all[n].x + one.x, all[n].y + one.y, all[n].z + one.z, all[n].w + one.w) : one;
      }
    };
    add(0);
#pragma unroll 2
    for (unsigned k = 1; k < gridDim.z; k++) add(k);
#pragma unroll
    for (int n = 0; n < TOGETHER; n++)
      if (first + n * (int)blockDim.x < COUNT) sum[first + n * blockDim.x] = all[n];
  }
  __syncthreads();
  return true;
}

// A line of a tile as stack_finish writes it.
struct stack_written {
  size_t offset;
  float scale;
  int32_t width;
};

// Do all arrays have their lanes at multiples of 16 bytes?
__device__ static inline bool stack_in_fours(const stack_target &target) {
  const rs_output &output = target.output;
  const uintptr_t all = reinterpret_cast<uintptr_t>(output.target) | reinterpret_cast<uintptr_t>(output.weights) |
                        reinterpret_cast<uintptr_t>(output.measured);
  return all % 16 == 0 && (target.lanes.item_size | target.lanes.unit_step) % 4 == 0;
}

// Finishes a tile in shared memory, tile[row][STACK_SIDE][lane], of which the first width(row) places of `rows` rows exist, at most
// STACK_SIDE. offset(row) is where a row starts in its unit, scale(row) multiplies its values; each is asked for once. All threads of the
// block call it, when the tile is written; its sums of squares are number `number` of `numbers` of the chunk. A thread has four places of
// a row, and several rows.
template <int VEC, typename Width, typename Offset, typename Scale>
__device__ static inline void stack_finish(const stack_target &target, const float *tile, int rows, int64_t chunk, Width width,
                                           Offset offset, Scale scale, unsigned number = blockIdx.x, unsigned numbers = gridDim.x) {
  constexpr int WIDTH = 32 * VEC, TOGETHER = 4, FOURS = STACK_SIDE / 4;
  __shared__ stack_written lines[STACK_SIDE];
  if (threadIdx.x < (unsigned)rows) lines[threadIdx.x] = {offset(threadIdx.x), scale(threadIdx.x), width(threadIdx.x)};
  if (threadIdx.x >= (unsigned)rows && threadIdx.x < STACK_SIDE) lines[threadIdx.x] = {0, 0, 0};
  __syncthreads();
  const bool fours = stack_in_fours(target);
  const int column = threadIdx.x % FOURS * 4;
  for (int l = threadIdx.x / FOURS; l < WIDTH; l += blockDim.x / FOURS) {
    const int64_t lane = chunk * WIDTH + l;
    double squares = 0;
    if (lane < target.lanes.count) {
      const stack_place place = stack_place_of(target.lanes, lane);
      const size_t item = (size_t)(place.item * target.lanes.item_size), unit = (size_t)(place.unit * target.lanes.unit_step) + column;
      for (int first = 0; first < rows; first += TOGETHER)
        squares += rs_finish_fours<TOGETHER>(
            target.output, item, target.output.shared ? unit - column : 0, fours, [&](int k) { return lines[first + k].width - column; },
            [&](int k) { return unit + lines[first + k].offset; },
            [&](int k, int j) {
              return lines[first + k].scale * tile[((first + k) * STACK_SIDE + column + j) * STACK_TILE_STRIDE<VEC> + l];
            });
    }
    if (!target.sums) continue;
    for (int half = FOURS / 2; half > 0; half /= 2) squares += __shfl_down_sync(0xffffffffu, squares, half, FOURS);
    if (column == 0 && lane < target.lanes.count) target.sums[(target.lanes.first + lane - target.sums_first) * numbers + number] = squares;
  }
}
