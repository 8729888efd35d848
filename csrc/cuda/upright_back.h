// upright_back.h: the transpose of upright_forward.h as a gather.
//
// A warp owns CELLS neighbouring voxels along the cross axis, lanes are slices. The rays between two of these voxels add to both, so what
// a ray holds at the height of a slice (TAPS rows, with the weights of forward) is found once and used twice. Where rays are does not
// depend on the slice either: each block prepares a list of rays for every plane and view in shared memory. Projections are copied with
// rows innermost, times the length of ray between two planes, with zeros before and behind.
#pragma once
#include "bend.h"
#include "upright_problem.h"

namespace {

constexpr int CELLS = 8;              // voxels of a thread along the cross axis
constexpr int MOST_LAYERS = 4;        // and along z, at most, 32 slices apart
constexpr int RAYS = 2048;            // rays that a block prepares at once
constexpr int FEWEST = 16, MOST = 32; // places in a list of rays, whose last one is behind the end

// [row][view][column] to [view][column][row], times the length of ray between two planes, for views first ... of the tables.
__global__ void __launch_bounds__(THREADS) pack_projections(upright_problem p, int32_t first, const float *projections, float *packed) {
  __shared__ float tile[32][33];
  const int64_t across = (p.columns + 31) / 32, along = (p.line + 31) / 32;
  const int32_t number = (int32_t)(blockIdx.x / (across * along));
  const int32_t x = (int32_t)(blockIdx.x % across) * 32, y = (int32_t)(blockIdx.x / across % along) * 32 - p.guard;
  const int32_t i = threadIdx.x % 32, place = p.order[first + number];
  const ray_view &view = p.view[first + number];
  const ray r = aim(view, y, x + i);
  const float inverse = (float)(1 / r.way[0]), across_ = (float)(r.way[1] * view.voxel[1]) * inverse;
  const float up = (float)(r.way[2] * view.voxel[2]) * inverse, step = view.cone ? (float)(view.v[2] * view.voxel[2]) * inverse : 0;
  const float flat = (float)(view.voxel[0] * view.voxel[0]) + across_ * across_;
  for (int32_t j = threadIdx.x / 32; j < 32; j += WARPS) {
    const bool inside = y + j >= 0 && y + j < p.rows && x + i < p.columns;
    const float rise = up + (float)j * step;
    tile[j][i] = inside ? projections[((int64_t)(y + j) * p.views + place) * p.columns + x + i] * sqrtf(flat + rise * rise) : 0;
  }
  __syncthreads();
  for (int32_t j = threadIdx.x / 32; j < 32; j += WARPS)
    if (x + j < p.columns && y + i + p.guard < p.line)
      packed[((int64_t)number * p.columns + x + j) * p.line + y + i + p.guard] = tile[i][j];
}

// The rays of a view that pass a row of cells on a plane: ray n is at (across + n across_step) / (depth + n depth_step) cells. On a curved
// detector steps are along its tangent in ray 0: it is sin(n turn) of them, and 1 - cos(n turn) of what is `bent`, for n.
struct list {
  float across, across_step, across_bent, depth, depth_step, depth_bent;
  float rows;                    // rows a slice, divided by depth
  float row, row_step, row_bent; // where slice 0 of the block's middle is seen, from `base`
  float half_turn;               // in half turns; 0: flat
  int32_t base, column, turn, count;
  int32_t taps; // rows that a slice may see
};

// One of them. Slice k of the middle sees the row (row + k rows), and half a row less where it sees an even number of them, from a
// pixel; `offset` is where that is among the projections of the view, less RAY_ROOM_BITS, modulo 2^32. Behind the last one: INFINITY.
struct member {
  float across, row, rows;
  uint32_t offset;
};

// The list for the cells low - 1 ... high, where `low` is the first voxel and `high` the one behind the last.
template <bool CURVED>
__device__ void prepare_list(const upright_problem &p, const ray_view &view, int32_t plane, int32_t low, int32_t high, double middle,
                             list &out) {
  const bool curved = CURVED && view.turn != 0; // else the compiler has less to keep
  ray r = aim(view, 0, 0);
  const double far = plane - r.point[0], *w = r.way;
  double column[2], u[3], axis[3];
  for (int k = 0; k < 2; k++) {
    const double from[3] = {far, (k ? high : low - 1) - r.point[1], 0}, side = from[1];
    // source + (w + c u) t = (plane, side), or (w t + c u) for parallel rays.
    if (curved)
      column[k] = bent_column(view, from);
    else
      column[k] = (side * w[0] - far * w[1]) / (view.cone ? far * view.u[1] - side * view.u[0] : w[0] * view.u[1] - w[1] * view.u[0]);
  }
  const bool rising = column[0] < column[1];
  const double least = fmin(column[0], column[1]), most = fmax(column[0], column[1]);
  const int32_t first = (int32_t)ceil(fmin(fmax(least, 0.0), (double)p.columns));
  const int32_t last = (int32_t)floor(fmin(fmax(most, -1.0), p.columns - 1.0));
  out.count = plane < p.shape[view.main] ? min(max(last - first + 1, 0), p.slots - 1) : 0;
  if (out.count == 0) return;
  out.column = rising ? first : last;
  out.turn = rising ? 1 : -1;
  r = aim(view, 0, out.column);
  for (int k = 0; k < 3; k++) u[k] = view.u[k], axis[k] = 0;
  if (curved) tangent(view, out.column, u, axis);
  const double way = plane - r.point[0], side = r.point[1] - (low - 1), rise = r.point[2] - middle;
  const double q = view.cone ? 1 / (way * view.v[2]) : 1 / (w[0] * view.v[2]);
  const double row = -(rise * r.way[0] + way * r.way[2]) * q;
  const double whole = fmin(fmax(rint(row), -1e6), 1e6);
  out.base = (int32_t)whole;
  out.row = (float)(row - whole);
  if (view.cone) {
    const double step = curved ? out.turn / view.turn : out.turn;
    out.row_step = (float)(step * -(rise * u[0] + way * u[2]) * q), out.row_bent = (float)(-(rise * axis[0] + way * axis[2]) * q);
    out.across = (float)(side * r.way[0] + way * r.way[1]);
    out.across_step = (float)(step * (side * u[0] + way * u[1])), out.across_bent = (float)(side * axis[0] + way * axis[1]);
    out.depth = (float)r.way[0], out.depth_step = (float)(step * u[0]), out.depth_bent = (float)axis[0];
  } else {
    out.row_step = (float)(out.turn * -(u[2] * w[0] - u[0] * w[2]) * q);
    out.across = (float)(side * w[0] + way * w[1]), out.across_step = (float)(out.turn * (u[1] * w[0] - u[0] * w[1]));
    out.depth = (float)w[0], out.depth_step = out.depth_bent = 0;
  }
  out.rows = (float)q;
  const float end = (float)(out.count - 1) * (curved ? (float)view.turn : 1);
  float deepest = fmaxf(fabsf(out.depth), fabsf(out.depth + end * out.depth_step));
  if (CURVED) { // sin(n turn) is at most n turn, and 1 - cos(n turn) half its square
    out.half_turn = (float)(view.turn * (0.5 / 3.14159265358979323846));
    deepest += 0.5f * end * end * fabsf(out.depth_bent);
  }
  const float rows = fabsf(out.rows) * deepest; // a slice, at most
  out.taps = rows < 0.9999f ? 2 : rows < 1.4998f ? 3 : 4;
}

template <bool CURVED> __device__ inline member prepare_member(const upright_problem &p, const list &l, int32_t n) {
  if (n == l.count) return {INFINITY, 0, 0, 0};
  float k = (float)n, depth = l.depth, row = l.row, across = l.across;
  if (CURVED && l.half_turn != 0) {
    float sine, cosine;
    sincospif(k * l.half_turn, &sine, &cosine);
    k = 2 * sine * cosine, sine *= 2 * sine;
    depth += sine * l.depth_bent, row += sine * l.row_bent, across += sine * l.across_bent;
  }
  depth += k * l.depth_step, row += k * l.row_step, across += k * l.across_step;
  const float whole = rintf(row);
  member out = {across / depth, row - whole, l.rows * depth, 0};
  int32_t base = l.base + (int32_t)whole;
  if (base < -p.guard / 2 || base > p.rows + p.guard / 2) base = -p.guard / 2, out.row = 0; // where all slices see zeros
  if (l.taps % 2 == 0) out.row -= 0.5f;
  out.offset = (uint32_t)((l.column + n * l.turn) * p.line + base + p.guard) - RAY_ROOM_BITS;
  return out;
}

// What a ray holds at a slice. `pitch`: slices a row.
template <int TAPS> __device__ inline float sample(const float *projection, const member &ray, float pitch, float slice) {
  const float at = fmaf(slice, ray.rows, ray.row), room = at + RAY_ROOM, part = (at - (room - RAY_ROOM)) * pitch;
  const float *from = projection + (ray.offset + __float_as_uint(room));
  if (TAPS == 3) {
    const float side = 1 - pitch;
    return fmaf(__saturatef(side - part), from[-1], fmaf(__saturatef(1 - fabsf(part)), from[0], __saturatef(side + part) * from[1]));
  }
  const float near = 1 - 0.5f * pitch, side = 1 - 1.5f * pitch;
  float value = fmaf(__saturatef(near - part), from[0], __saturatef(near + part) * from[1]);
  if (TAPS == 4) value = fmaf(__saturatef(side - part), from[-1], fmaf(__saturatef(side + part), from[2], value));
  return value;
}

// Adds the rays of a list to a row of cells.
template <int TAPS, int LAYERS_>
__device__ inline void spread(const member *rays, const float *projection, float slice, float (*total)[CELLS]) {
  member ray = *rays;
#pragma unroll
  for (int cell = 0; cell <= CELLS; cell++) {
    while (ray.across < (float)(cell + 1)) {
      const float far = ray.across - (float)cell, near = 1 - far, pitch = reciprocal(fabsf(ray.rows));
#pragma unroll
      for (int k = 0; k < LAYERS_; k++) {
        const float value = sample<TAPS>(projection, ray, pitch, slice + (float)(32 * k));
        if (cell > 0) total[k][cell - 1] += near * value;
        if (cell < CELLS) total[k][cell] += far * value;
      }
      ray = *++rays;
    }
  }
}

// A block owns WARPS planes, CELLS voxels across and 32 LAYERS_ slices; views first ... of the tables, all of one main axis.
template <int LAYERS_, bool CURVED>
__global__ void __launch_bounds__(THREADS) back(upright_problem p, rs_output output, int32_t first, int32_t count, const float *packed) {
  constexpr int DEPTH = 32 * LAYERS_;
  __shared__ list lists[RAYS / FEWEST];
  __shared__ member members[RAYS + 64];
  const int32_t main = p.view[first].main, cross = main == RS_X ? RS_Y : RS_X;
  const int64_t across = (p.shape[cross] + CELLS - 1) / CELLS, along = (p.shape[main] + WARPS - 1) / WARPS;
  const int32_t low = (int32_t)(blockIdx.x % across) * CELLS, high = min(low + CELLS, p.shape[cross]);
  const int32_t plane = (int32_t)(blockIdx.x / across % along) * WARPS, slice = (int32_t)(blockIdx.x / across / along) * DEPTH;
  const int32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int32_t stage = RAYS / (WARPS * p.slots); // views that are prepared at once
  float total[LAYERS_][CELLS] = {{0}};
  for (int32_t begin = 0; begin < count; begin += stage) {
    const int32_t views = min(stage, count - begin);
    __syncthreads();
    if ((int32_t)threadIdx.x < views * WARPS)
      prepare_list<CURVED>(p, p.view[first + begin + threadIdx.x / WARPS], plane + threadIdx.x % WARPS, low, high, slice + DEPTH / 2 - 0.5,
                           lists[threadIdx.x]);
    __syncthreads();
    for (int32_t i = threadIdx.x; i < views * WARPS * p.slots; i += THREADS) {
      const list &l = lists[i / p.slots];
      if (i % p.slots <= l.count) members[i] = prepare_member<CURVED>(p, l, i % p.slots);
    }
    __syncthreads();
    for (int32_t view = 0; view < views; view++) {
      const list &l = lists[view * WARPS + warp];
      if (l.count == 0) continue;
      const member *rays = members + (view * WARPS + warp) * p.slots;
      const float *projection = packed + (int64_t)(begin + view) * p.columns * p.line;
      const float middle = (float)lane - (DEPTH / 2 - 0.5f);
      switch (l.taps) {
      case 2: spread<2, LAYERS_>(rays, projection, middle, total); break;
      case 3: spread<3, LAYERS_>(rays, projection, middle, total); break;
      default: spread<4, LAYERS_>(rays, projection, middle, total);
      }
    }
  }
  // Through shared memory, so that neighbours along x are written together.
  float *store = (float *)members;
  static_assert(WARPS * CELLS * (DEPTH + 1) * sizeof *store <= sizeof members && WARPS == 8 && CELLS == 8, "a block's voxels fit");
  __syncthreads();
#pragma unroll
  for (int k = 0; k < LAYERS_; k++)
#pragma unroll
    for (int cell = 0; cell < CELLS; cell++) store[(cell * WARPS + warp) * (DEPTH + 1) + 32 * k + lane] = total[k][cell];
  __syncthreads();
  const int x = threadIdx.x % 8, y = threadIdx.x / 8 % 8, cell = main == RS_X ? y * WARPS + x : x * WARPS + y;
  const int32_t at_x = (main == RS_X ? plane : low) + x, at_y = (main == RS_X ? low : plane) + y;
  if (at_x >= p.shape[RS_X] || at_y >= p.shape[RS_Y]) return;
  constexpr int STEP = THREADS / (WARPS * CELLS), TOGETHER = 8; // slices
  for (int first = threadIdx.x / (WARPS * CELLS); first < DEPTH; first += TOGETHER * STEP)
    rs_finish_all<TOGETHER>(
        output, 0, [&](int k) { return slice + first + k * STEP < p.shape[RS_Z]; },
        [&](int k) { return ((size_t)(slice + first + k * STEP) * p.shape[RS_Y] + at_y) * p.shape[RS_X] + at_x; },
        [&](int k) { return store[cell * (DEPTH + 1) + first + k * STEP]; });
}

} // namespace
