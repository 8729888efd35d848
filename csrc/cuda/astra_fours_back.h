// astra_fours_back.h: astra_columns.h for the cone beams of astra_fours.h: voxels that share a place are worked off together: four in
// float16, with a view and its opposite; two in float32, a voxel and its mirror image.
//
// A block owns FOURS_WARPS x FOURS_PLACES voxels of a slice (in float16 of half a slice) in a chunk of slices of the lower half, and those
// that share their places. Lanes are slices, a warp owns a row of FOURS_PLACES voxels. The windows of steps come to a ring of slots
// (ring.h), so that warps do not wait for one another; each makes its own tables, for FOURS_STEPS steps at a time.
#pragma once
#include "astra_fours.h"
#include "ring.h"

// A packed image. In float16: the views whose pixels are its two words, -1: zeros; and how the voxels of a block see the first view, and
// the second: a view without an opposite is seen by those that are turned. So an image serves two steps: at the second one the words have
// changed places. In float32: one view, one step, and the second word is the mirror image.
struct fours_image {
  astra_view view[2];
  int32_t source[2];
};

struct fours_columns {
  astra_columns columns; // packed, but for the differences
  int32_t slots;         // windows of steps that shared memory holds
  float factor;          // what is left to multiply by
};

struct fours_columns_work {
  rs_output output; // of the batch item
  const fours_image *images;
  const void *packed;
  const unsigned *largest; // of what was packed; null in float32
  int32_t image_count, depth, height, width;
  fours_columns fours;
};

constexpr int FOURS_WIDE = 32; // most columns of a window: a lane sends one
constexpr int FOURS_SLOTS = 6; // at most
static_assert(ring_ahead(FOURS_SLOTS) <= FOURS_STEPS, "windows must be found in time");

static inline size_t fours_columns_bytes(const fours_columns &fours) {
  constexpr size_t PLACES = FOURS_WARPS * FOURS_PLACES;
  const astra_columns &c = fours.columns;
  const size_t stages = fours.slots * (size_t)c.wide * c.high * sizeof(uint2) + FOURS_STEPS * PLACES * sizeof(fours_entry),
               tile = PLACES * (c.chunk + 1) * sizeof(float);
  return stages > tile ? stages : tile;
}

// Four samples in float16, as a place's slices see them.
struct fours_halves {
  using texel = uint2;
  static constexpr int SAMPLES = 4;
  uint32_t fraction, pair;
  __device__ explicit fours_halves(uint32_t line) : fraction(line & 255), pair(fraction * 0x10001u) {}
  __device__ static uint2 pack(float scale, const float (&values)[4]) {
    return make_uint2(half_pair(scale * values[0], scale * values[1]), half_pair(scale * values[2], scale * values[3]));
  }
  __device__ void add(float (&sum)[4], float share, uint32_t at, uint2 self, uint2 second, uint2 first, uint2 both) const {
    const fours_weights w = fours_weigh(at, fraction, pair, FOURS_HALF, FOURS_BELOW);
    const float2 here = half_floats(fours_mix(w, self.x, first.x, second.x, both.x)),
                 turned = half_floats(fours_mix(w, self.y, first.y, second.y, both.y));
    sum[0] = fmaf(share, here.x, sum[0]);
    sum[1] = fmaf(share, here.y, sum[1]);
    sum[2] = fmaf(share, turned.x, sum[2]);
    sum[3] = fmaf(share, turned.y, sum[3]);
  }
};

// Two in float32. Weights as astra_shared has them, from 2^23 and the fraction.
struct fours_floats {
  using texel = float2;
  static constexpr int SAMPLES = 2;
  float far, near, above;
  __device__ explicit fours_floats(uint32_t line) {
    constexpr float UNIT = 1 / 256.0f, UP = UNIT + UNIT / 65536, DOWN = UNIT - UNIT / 65536;
    const float fraction = rs_magic_byte<0>(line);
    far = fmaf(fraction, UP, -RS_MAGIC * UP);
    near = fmaf(fraction, DOWN, -RS_MAGIC * DOWN);
    above = fmaf(fraction, UNIT, ASTRA_ROUND - RS_MAGIC * UNIT);
  }
  __device__ static float2 pack(float, const float (&values)[2]) { return make_float2(values[0], values[1]); }
  __device__ void add(float (&sum)[2], float share, uint32_t at, float2 self, float2 second, float2 first, float2 both) const {
    const float fraction = fmaf(rs_magic_byte<2>(at), 1 / 256.0f, -RS_MAGIC / 256), w_both = fmaf(far, fraction, ASTRA_ROUND) - ASTRA_ROUND,
                w_first = above - fmaf(near, fraction, ASTRA_ROUND), w_second = fraction - w_both, w_self = (1 - fraction) - w_first;
    sum[0] = fmaf(share, fmaf(w_both, both.x, fmaf(w_second, second.x, fmaf(w_first, first.x, w_self * self.x))), sum[0]);
    sum[1] = fmaf(share, fmaf(w_both, both.y, fmaf(w_second, second.y, fmaf(w_first, first.y, w_self * self.y))), sum[1]);
  }
};

template <typename Kind>
__global__ void fours_pack_columns(typename Kind::texel *to, const float *from, const fours_image *images, int32_t image_count,
                                   int32_t rows, int32_t columns, int64_t views, astra_columns packed, const unsigned *largest) {
  constexpr int SAMPLES = Kind::SAMPLES;
  __shared__ typename Kind::texel tile[32][33];
  const int32_t across = (packed.lines + 31) / 32, line0 = blockIdx.x % across * 32, at0 = blockIdx.x / across * 32,
                column = line0 + threadIdx.x - 1, row = at0 + threadIdx.y - packed.margin - 1;
  const int64_t pitch = 8 * views * columns;
  const float scale = largest ? half_scale(*largest) : 1;
  for (int64_t n = blockIdx.y; n < image_count; n += gridDim.y) {
    float values[4][SAMPLES]; // all on their way together
#pragma unroll
    for (int s = 0; s < SAMPLES; s += 2) {
      const int32_t view = images[n].source[s / 2];
      const bool seen = view >= 0 && (uint32_t)column < (uint32_t)columns;
      const int64_t here = (row * views + view) * columns + column, mirrored = ((rows - 1 - row) * views + view) * columns + column;
#pragma unroll
      for (int k = 0; k < 4; k++) {
        const bool inside = seen && (uint32_t)(row + 8 * k) < (uint32_t)rows;
        values[k][s] = inside ? from[here + k * pitch] : 0;
        values[k][s + 1] = inside ? from[mirrored - k * pitch] : 0;
      }
    }
#pragma unroll
    for (int k = 0; k < 4; k++) tile[threadIdx.y + 8 * k][threadIdx.x] = Kind::pack(scale, values[k]);
    __syncthreads();
    const int32_t line = line0 + threadIdx.y, at = at0 + threadIdx.x;
    typename Kind::texel *target = to + (n * packed.lines + line) * packed.length + at;
#pragma unroll
    for (int k = 0; k < 4; k++)
      if (line + 8 * k < packed.lines && at < packed.length)
        target[(int64_t)k * 8 * packed.length] = tile[threadIdx.x][threadIdx.y + 8 * k];
    __syncthreads();
  }
}

template <typename Kind, int VEC> __global__ void __launch_bounds__(32 * FOURS_WARPS, 2) fours_columns_back(fours_columns_work work) {
  using texel = typename Kind::texel;
  constexpr int CHUNK = 32 * VEC, PLACES = FOURS_WARPS * FOURS_PLACES, SAMPLES = Kind::SAMPLES;
  RS_SHARED(texel, pixels);
  __shared__ ring_arrivals ring;
  const shared_address ring_at = shared_hold(&ring);
  __shared__ fours_window windows[4][FOURS_STEPS]; // those in use, and as many to come
  const astra_columns c = work.fours.columns;
  const int32_t size = c.wide * c.high, slots = work.fours.slots, steps = SAMPLES / 2 * work.image_count;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, tiles = (work.width + FOURS_PLACES - 1) / FOURS_PLACES;
  const int y0 = blockIdx.x / tiles * FOURS_WARPS, x0 = blockIdx.x % tiles * FOURS_PLACES, z0 = blockIdx.y * CHUNK;
  fours_entry *table = (fours_entry *)(pixels + slots * size) + warp * FOURS_STEPS * FOURS_PLACES; // of the warp
  const texel *packed = (const texel *)work.packed;

  auto image_of = [&](int32_t n) { return n < work.image_count ? n : n - work.image_count; };
  auto view_of = [&](int32_t n) -> const astra_view & { return work.images[image_of(n)].view[n >= work.image_count]; };
  auto find = [&](int first_step) { // the windows of FOURS_STEPS steps, by one warp: four corners, both ends
    const int32_t n = min(first_step + lane / 8, steps - 1);
    const astra_seen seen = astra_see<2>(view_of(n), min(y0 + lane % 2 * (FOURS_WARPS - 1), work.height - 1),
                                         min(x0 + lane / 2 % 2 * (FOURS_PLACES - 1), work.width - 1));
    const int32_t column = __double2int_rd((seen.column - 0.5) * (1 / RS_TEXTURE_SCALE));
    int32_t first = column, last = column,
            row = __double2int_rd((seen.row + seen.step * (z0 + lane / 4 % 2 * (CHUNK - 1)) - 0.5) * (1 / RS_TEXTURE_SCALE));
    for (int k = 1; k < 8; k *= 2) {
      first = min(first, __shfl_xor_sync(0xffffffffu, first, k));
      last = max(last, __shfl_xor_sync(0xffffffffu, last, k));
      row = min(row, __shfl_xor_sync(0xffffffffu, row, k));
    }
    first = min(max(first, 0), c.lines - c.wide);
    row = min(max(row + c.margin, 0) & ~1, c.length - c.high);
    if (lane % 8 == 0) windows[first_step / FOURS_STEPS % 4][lane / 8] = {first, row, min(max(last - first, 0) + 3, c.wide)};
    __syncwarp();
  };
  auto send = [&](int n, int slot) { // a step, by one warp: a lane sends a column
    const fours_window window = windows[n / FOURS_STEPS % 4][n % FOURS_STEPS];
    ring_send(ring, slot, lane < c.wide, pixels + slot * size + lane * c.high,
              packed + ((int64_t)image_of(n) * c.lines + window.column + lane) * c.length + window.row,
              lane < window.wide ? c.high * (unsigned)sizeof(texel) : 0);
  };
  auto find_and_send = [&](int n, int slot) { // the windows of the next FOURS_STEPS steps are found with the first of these
    if (n % FOURS_STEPS == 0) find(n + FOURS_STEPS);
    send(n, slot);
  };
  auto make = [&](int32_t first) { // the tables of FOURS_STEPS steps: a lane makes a place of a step
    const int32_t n = min(first + lane / FOURS_PLACES, steps - 1);
    const fours_window window = windows[first / FOURS_STEPS % 4][lane / FOURS_PLACES];
    const astra_seen seen = astra_see<2>(view_of(n), min(y0 + warp, work.height - 1), min(x0 + lane % FOURS_PLACES, work.width - 1));
    const uint32_t column = min(max(__double2int_rd(seen.column), 0), 256 * (c.lines - 2));
    const double row = seen.row + seen.step * (z0 + 16) + RS_TEXTURE_SCALE * (c.margin - window.row);
    const int32_t line = min(max((int32_t)(column >> 8) - window.column, 0), c.wide - 2);
    table[lane] = {(uint32_t)(line * c.high * (int32_t)sizeof(texel)) << 8 | (column & 255), (uint32_t)(int64_t)rint(row * 65536),
                   (int32_t)rint(seen.step * (32 * 65536.0)), __float_as_uint(seen.share)};
  };

  if (threadIdx.x == 0) ring_prepare(ring, slots, 1, c.wide, FOURS_WARPS);
  if (warp < 2) find(warp * FOURS_STEPS);
  __syncthreads();
  for (int n = 0; warp == 0 && n < min(steps, ring_ahead(slots)); n++) send(n, n);
  const int32_t ahead = (lane - 16) * (1 << 27);
  float sum[FOURS_PLACES][VEC][SAMPLES] = {};
  auto exchange = [&] { // the sums of the two words
#pragma unroll
    for (int p = 0; p < FOURS_PLACES; p++)
#pragma unroll
      for (int k = 0; k < VEC; k++)
#pragma unroll
        for (int s = 0; s < SAMPLES / 2; s++) {
          const float kept = sum[p][k][s];
          sum[p][k][s] = sum[p][k][SAMPLES / 2 + s];
          sum[p][k][SAMPLES / 2 + s] = kept;
        }
  };
  ring_place at_step;
#pragma unroll 1
  for (int32_t end = work.image_count; at_step.load < steps; end = steps) {
#pragma unroll 1
    for (; at_step.load < end; ring_go_on<FOURS_WARPS>(ring_at, at_step, steps, slots, find_and_send)) {
      ring_wait(ring_full(ring_at, at_step.slot), at_step.phase);
      if (at_step.load % FOURS_STEPS == 0) {
        make(at_step.load);
        __syncwarp();
      }
      const fours_entry *places = table + at_step.load % FOURS_STEPS * FOURS_PLACES;
      const char *slot = (const char *)(pixels + at_step.slot * size);
#pragma unroll
      for (int p = 0; p < FOURS_PLACES; p++) {
        const uint4 shared = *(const uint4 *)(places + p);
        const Kind place(shared.x);
        const char *line = slot + (shared.x >> 8), *next = line + c.high * sizeof(texel);
        uint32_t at = shared.y + (uint32_t)__mulhi((int32_t)shared.z, ahead);
#pragma unroll
        for (int k = 0; k < VEC; k++, at += shared.z) {
          const texel *near = (const texel *)line + fours_whole(at), *far = (const texel *)next + fours_whole(at);
          place.add(sum[p][k], __uint_as_float(shared.w), at, near[0], near[1], far[0], far[1]);
        }
      }
    }
    if (SAMPLES == 4) exchange();
  }

  const float unscale = (work.largest ? half_unscale(*work.largest) : 1) * work.fours.factor;
  const int32_t x = x0 + threadIdx.x % FOURS_PLACES, y = y0 + threadIdx.x / FOURS_PLACES % FOURS_WARPS;
  const int64_t place = (int64_t)y * work.width + x, turned = (int64_t)work.height * work.width - 1 - place;
  float *tile = (float *)pixels;
#pragma unroll
  for (int kind = 0; kind < SAMPLES; kind++) {
    __syncthreads(); // what stood there was read
#pragma unroll
    for (int p = 0; p < FOURS_PLACES; p++)
#pragma unroll
      for (int k = 0; k < VEC; k++) tile[(warp * FOURS_PLACES + p) * (CHUNK + 1) + lane + 32 * k] = sum[p][k][kind];
    __syncthreads();
    constexpr int STEP = 32 * FOURS_WARPS / PLACES;
    const bool mine = y < work.height && x < work.width && (SAMPLES == 2 || (kind & 2 ? place < turned : place <= turned));
    const float *values = tile + threadIdx.x % PLACES * (CHUNK + 1);
    for (int32_t from = threadIdx.x / PLACES; from < CHUNK && mine; from += 8 * STEP)
      rs_finish_all<8>(
          work.output, 0,
          [&](int k) {
            const int32_t z = z0 + from + k * STEP, mirrored = work.depth - 1 - z;
            return kind & 1 ? z < mirrored : z <= mirrored;
          },
          [&](int k) {
            const int32_t z = z0 + from + k * STEP;
            return (size_t)(kind & 1 ? work.depth - 1 - z : z) * work.height * work.width + (kind & 2 ? turned : place);
          },
          [&](int k) { return unscale * values[from + k * STEP]; });
  }
}

// ---- on the host

// The images for all views: at most one a view. `opposite` as of fours_pair, null in float32; `taken`: room for a number a view. Weights
// come with a power of two, so that no share is above 1; *exponent is that.
static inline int32_t fours_make_images(const rs_geometry *geometry, const astra_view *view, const int32_t *opposite, int32_t *taken,
                                        fours_image *images, int *exponent) {
  float most = 0;
  int32_t count = 0;
  for (int32_t n = 0; n < geometry->views; n++) {
    taken[n] = 0;
    for (int corner = 0; corner < 4; corner++) most = fmaxf(most, fours_see(view[n], corner, geometry->shape).share);
  }
  frexpf(most, exponent);
  for (int32_t n = 0; n < geometry->views; n++) {
    if (taken[n]) continue;
    int32_t m = opposite ? opposite[n] : -1;
    if (m < n || taken[m]) m = -1;
    if (m >= 0) taken[m] = 1;
    fours_image image = {{view[n], m < 0 ? fours_turn(view[n], geometry->shape) : view[m]}, {n, m}};
    for (astra_view &seen : image.view) seen.weight = ldexp(seen.weight, -*exponent);
    images[count++] = image;
  }
  return count;
}

// Finds the room that windows need with chunks of so many slices, and how many slots there are. `half`: two views an image. False where
// this is no way to do it.
static inline bool fours_measure_columns(const rs_geometry *geometry, const fours_image *images, int32_t count, int exponent, int32_t chunk,
                                         bool half, int64_t room, fours_columns *to) {
  astra_reach reach;
  if (abs(exponent) > 60 ||
      !astra_measure_views<2>(
          geometry, count * (1 + half), [=](int32_t n) -> const astra_view & { return images[n % count].view[n / count]; },
          {FOURS_WARPS, FOURS_PLACES, chunk, (geometry->shape[RS_Z] + 1) / 2}, &reach))
    return false;
  const double wide = reach.wide / RS_TEXTURE_SCALE + 4, high = reach.high / RS_TEXTURE_SCALE + 6;
  const double before = fmax(0, -reach.rows.low) / RS_TEXTURE_SCALE, end = fmax(0, reach.rows.high) / RS_TEXTURE_SCALE,
               most = 2 * (geometry->rows + high);
  // Rows are counted in 8 bits, and 32 steps must fit into 31; shares below 2^-10 of the largest would lose digits.
  if (!(wide <= FOURS_WIDE && high <= 250 && reach.step < 3.9 * RS_TEXTURE_SCALE && before < most && end < most &&
        reach.shares.low > 1. / 1024))
    return false;
  astra_columns &c = to->columns;
  c.lines = geometry->columns + RS_TEXTURE_BORDER;
  c.wide = wide < c.lines ? (int32_t)wide : c.lines;
  c.high = (int32_t)high & ~1;
  c.margin = ((int32_t)before + 4) & ~1;
  c.length = ((int32_t)fmax(c.margin + end, high) + 8) & ~1;
  c.chunk = chunk;
  to->factor = ldexpf(half ? FOURS_WEIGHT : 1, exponent);
  for (int64_t limit : {room / 2 - (1 << 10), room}) // first for two blocks on a multiprocessor
    for (to->slots = FOURS_SLOTS; to->slots > 1; to->slots--)
      if ((int64_t)fours_columns_bytes(*to) <= limit) return true;
  return false;
}

// The tiles of voxels; in float16 of those whose place comes before that of the turned one.
static inline int64_t fours_tiles(const rs_geometry *geometry, bool half) {
  const int32_t height = half ? (geometry->shape[RS_Y] + 1) / 2 : geometry->shape[RS_Y];
  return (int64_t)((height + FOURS_WARPS - 1) / FOURS_WARPS) * ((geometry->shape[RS_X] + FOURS_PLACES - 1) / FOURS_PLACES);
}

// As astra_plan_columns. Two blocks run on a multiprocessor; with as many sums, float32 has chunks twice as large.
static inline bool fours_plan_columns(const rs_geometry *geometry, const fours_image *images, int32_t count, int exponent, bool half,
                                      int32_t device, fours_columns *to) {
  const int64_t tiles = fours_tiles(geometry, half), places = 2 * rs_cuda_multiprocessors(device), depth = (geometry->shape[RS_Z] + 1) / 2;
  int32_t best = 32;
  double least = INFINITY, cost = 1;
  for (int32_t chunk = half ? 64 : 128; chunk >= 32; chunk /= 2, cost *= 0.58) {
    const double rounds = cost * (double)((tiles * ((depth + chunk - 1) / chunk) + places - 1) / places);
    if (rounds <= least) least = rounds, best = chunk;
  }
  for (int32_t chunk = best; chunk >= 32; chunk /= 2)
    if (fours_measure_columns(geometry, images, count, exponent, chunk, half, astra_room_of(device), to)) return true;
  to->slots = 0;
  return false;
}
