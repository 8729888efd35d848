// stack_kernel.h: the inner loops of the `rs_stack` family, the same sum in both directions.
#pragma once
#include "stack_tables.h"

#define STACK_INLINE static inline __attribute__((always_inline))

#define STACK_STRETCH 4 // forward: voxels across; rays that cross the middle of a run of planes there are worked off together
#define STACK_STAGE 8   // forward: runs whose samples are computed ahead, so that their latencies hide behind one another

// One output value per lane that grows by what its samples `first` ... `last` - 1 see.
typedef struct {
  float *sum;
  const float *base;
  int32_t first, last;
  int32_t offset[STACK_RUN];           // floats from the base to the sample's first neighbour
  float weight[STACK_TAPS][STACK_RUN]; // of its neighbours, which are `step` floats apart
} stack_run;

STACK_INLINE void stack_gather(const int vectors, const int taps, const stack_run *run, int runs, int64_t step) {
  for (const stack_run *end = run + runs; run < end; run++) {
    rs_vf even[STACK_VECTORS], odd[STACK_VECTORS];
    for (int k = 0; k < vectors; k++) even[k] = odd[k] = (rs_vf){0};
    for (int n = run->first; n < run->last; n++) {
      const float *data = run->base + run->offset[n];
      int tap = 0;
      for (; tap + 1 < taps; tap += 2, data += 2 * step) {
        rs_vf a = rs_splat(run->weight[tap][n]), b = rs_splat(run->weight[tap + 1][n]);
        for (int k = 0; k < vectors; k++) even[k] += a * rs_load(data + k * RS_LANES);
        for (int k = 0; k < vectors; k++) odd[k] += b * rs_load(data + step + k * RS_LANES);
      }
      if (tap < taps) {
        rs_vf a = rs_splat(run->weight[tap][n]);
        for (int k = 0; k < vectors; k++) even[k] += a * rs_load(data + k * RS_LANES);
      }
    }
    for (int k = 0; k < vectors; k++) rs_store(run->sum + k * RS_LANES, rs_load(run->sum + k * RS_LANES) + (even[k] + odd[k]));
  }
}

// Real functions, so that nothing else competes for the registers of the inner loop.
typedef void (*stack_gather_function)(const stack_run *run, int runs, int taps, int64_t step);
#define STACK_GATHER(vectors)                                                                        \
  static void stack_gather_pairs_##vectors(const stack_run *run, int runs, int taps, int64_t step) { \
    (void)taps;                                                                                      \
    stack_gather(vectors, 2, run, runs, step);                                                       \
  }                                                                                                  \
  static void stack_gather_any_##vectors(const stack_run *run, int runs, int taps, int64_t step) {   \
    stack_gather(vectors, taps, run, runs, step);                                                    \
  }
STACK_GATHER(1)
STACK_GATHER(2)
STACK_GATHER(3)
STACK_GATHER(4)

static stack_gather_function stack_gather_of(int vectors, int taps) {
  static const stack_gather_function pairs[] = {stack_gather_pairs_1, stack_gather_pairs_2, stack_gather_pairs_3, stack_gather_pairs_4};
  static const stack_gather_function any[] = {stack_gather_any_1, stack_gather_any_2, stack_gather_any_3, stack_gather_any_4};
  return taps == 2 ? pairs[vectors - 1] : any[vectors - 1];
}

// The smallest integer not below x, inside [low, high]; low for NaN.
static inline int32_t stack_ceiling(double x, int32_t low, int32_t high) {
  if (!(x > low)) return low;
  if (x >= high) return high;
  int32_t whole = (int32_t)x;
  return whole + (x > whole);
}

STACK_INLINE rs_vi stack_splat(int32_t x) { return x - (rs_vi){0}; }
STACK_INLINE rs_vi stack_count(void) { // 0, 1 ...
  rs_vi count;
  for (int k = 0; k < RS_LANES; k++) count[k] = k;
  return count;
}
STACK_INLINE rs_vi stack_load(const int32_t *from) {
  rs_vi v;
  memcpy(&v, from, sizeof v);
  return v;
}
STACK_INLINE rs_vi stack_select(rs_vi mask, rs_vi a, rs_vi b) { return (a & mask) | (b & ~mask); }
STACK_INLINE rs_vf stack_fraction(rs_vi position) {
  return __builtin_convertvector(position & ((1 << STACK_BITS) - 1), rs_vf) * (float)(1 / STACK_ONE);
}
STACK_INLINE rs_vf stack_positive(rs_vf x) { return (rs_vf)((rs_vi)x & (x > 0)); }
// max(0, 1 - |distance|)
STACK_INLINE rs_vf stack_hat(rs_vf distance) { return stack_positive(1 - (rs_vf)((rs_vi)distance & INT32_MAX)); }

// ---- forward: a column is the weighted sum of the voxels beside its rays, over the planes of the main axis

typedef struct {
  const stack_group *group;
  int32_t supersampling, vectors;
  int32_t main_count, cross_count; // voxels along the main and the cross axis
  int64_t main_step, cross_step;   // floats between them
  const float *volume;             // voxel (0, 0); behind every border lie `margin` zero voxels
  int32_t from, to;                // columns
  int64_t view_step;               // floats between the sums of two views
  float *sums;                     // [view][to - from][lanes], zero at the start
} stack_forward_work;

// The planes of a run on which a column sees voxels. The margin of zeros forgives what rounding lets through.
static inline int stack_clip(const stack_forward_work *work, double position, double slope, stack_run *run) {
  double a = (1 - work->group->forward_taps - position) / slope, b = (work->cross_count - position) / slope;
  int32_t planes = run->last;
  run->first = stack_ceiling((a < b ? a : b) - 1e-6, 0, planes);
  run->last = stack_ceiling((a < b ? b : a) + 1e-6, 0, planes);
  return run->first < run->last;
}

// Neighbours and weights on the planes of a run whose first plane the column crosses at `position`.
static inline void stack_forward_samples(const stack_forward_work *work, int view, double position, int32_t plane, stack_run *run) {
  const stack_group *group = work->group;
  int64_t fixed = (int64_t)((position + STACK_FAR) * STACK_ONE + 0.5), reference = (fixed >> STACK_BITS) - STACK_FAR;
  run->base = work->volume + plane * work->main_step + reference * work->cross_step;
  rs_vi from = stack_splat((int32_t)(fixed & ((1 << STACK_BITS) - 1)));
  for (int n = 0; n < STACK_RUN; n += RS_LANES) {
    rs_vi at = from + stack_load(group->planes[view] + n);
    rs_vi offset = (at >> STACK_BITS) * (int32_t)work->cross_step + (stack_count() + n) * (int32_t)work->main_step;
    memcpy(run->offset + n, &offset, sizeof offset);
    rs_vf rest = stack_fraction(at);
    if (group->forward_taps == 2 && work->supersampling == 1) {
      rs_store(run->weight[0] + n, 1 - rest);
      rs_store(run->weight[1] + n, rest);
      continue;
    }
    for (int tap = 0; tap < group->forward_taps; tap++) {
      rs_vf weight = {0};
      for (int q = 0; q < work->supersampling; q++) weight += stack_hat(rest + (group->pitch[view] * (float)q - (float)tap));
      rs_store(run->weight[tap] + n, weight);
    }
  }
}

// Adds what the columns see on one run of planes.
static void stack_forward_planes(const stack_forward_work *work, int32_t plane) {
  const stack_group *group = work->group;
  stack_gather_function gather = stack_gather_of(work->vectors, group->forward_taps);
  const int lanes = work->vectors * RS_LANES;
  int32_t planes = (int32_t)stack_smaller(STACK_RUN, work->main_count - plane);
  // Columns cross the middle of these planes at middle[view] + column[view] i.
  double middle[STACK_RUN], low = INFINITY, high = -INFINITY;
  for (int v = 0; v < group->views; v++) {
    middle[v] = group->start[v] + group->plane[v] * (plane + 0.5 * (planes - 1));
    double a = middle[v] + group->column[v] * work->from, b = middle[v] + group->column[v] * (work->to - 1);
    low = a < low ? a : low;
    low = b < low ? b : low;
    high = a > high ? a : high;
    high = b > high ? b : high;
  }
  // A ray moves across by at most the number of planes.
  int32_t outside = STACK_RUN / 2 + group->forward_taps;
  int32_t edge = stack_ceiling(low - 1, -outside, work->cross_count + outside);
  int32_t end = stack_ceiling(high, -outside, work->cross_count + outside);
  int32_t bound[STACK_RUN]; // the column from which each view goes on
  for (int v = 0; v < group->views; v++) bound[v] = stack_ceiling((edge - middle[v]) / group->column[v], work->from, work->to);
  stack_run run[STACK_STAGE];
  int runs = 0;
  while (edge <= end) {
    edge += STACK_STRETCH;
    for (int v = 0; v < group->views; v++) {
      int32_t next = stack_ceiling((edge - middle[v]) / group->column[v], work->from, work->to);
      int32_t i = next < bound[v] ? next : bound[v], last = next < bound[v] ? bound[v] : next;
      bound[v] = next;
      double slope = group->plane[v], drift = slope * (planes - 1), first = group->start[v] + slope * plane;
      double least = 1 - group->forward_taps - (drift < 0 ? drift : 0), most = work->cross_count - (drift > 0 ? drift : 0);
      float *sum = work->sums + v * work->view_step + (int64_t)(i - work->from) * lanes;
      for (; i < last; i++, sum += lanes) {
        double position = first + group->column[v] * i;
        run[runs].first = 0;
        run[runs].last = planes;
        if (!(position >= least && position < most) && !stack_clip(work, position, slope, &run[runs])) continue;
        run[runs].sum = sum;
        stack_forward_samples(work, v, position, plane, &run[runs]);
        if (++runs < STACK_STAGE) continue;
        gather(run, runs, group->forward_taps, work->cross_step);
        runs = 0;
      }
    }
  }
  gather(run, runs, group->forward_taps, work->cross_step);
}

// ---- back: a voxel is the weighted sum of the columns whose rays pass it, over the views

typedef struct {
  const stack_group *group;
  int32_t supersampling, vectors;
  int32_t columns, padding;    // zero columns before the first and behind the last
  int64_t view_step;           // floats between two views
  const float *projections;    // [view of the group][padding + columns + padding][lanes]
  int32_t y, x, height, width; // a tile of voxels
  float *sums;                 // [height][width][lanes], zero at the start
} stack_back_work;

// Where the first voxel of a patch lies on the detector of each view: column `reference` and `corner` parts of STACK_ONE.
typedef struct {
  int32_t reference[STACK_RUN], corner[STACK_RUN];
} stack_patch;

static inline void stack_back_patch(const stack_back_work *work, int32_t y, int32_t x, stack_patch *patch) {
  const stack_group *group = work->group;
  double far = STACK_FAR - 1;
  for (int n = 0; n < STACK_RUN; n++) {
    double c = group->origin[n] + group->along_y[n] * y + group->along_x[n] * x;
    c = c > -far ? c : -far;
    c = c < work->columns + far ? c : work->columns + far;
    int64_t fixed = (int64_t)((c + STACK_FAR) * STACK_ONE + 0.5);
    patch->reference[n] = (int32_t)(fixed >> STACK_BITS) - STACK_FAR;
    patch->corner[n] = (int32_t)(fixed & ((1 << STACK_BITS) - 1));
  }
}

// The views' first columns that see voxel (y, x) of a patch, and their weights.
static inline void stack_back_samples(const stack_back_work *work, int32_t lanes, const stack_patch *patch, int y, int x, stack_run *run) {
  const stack_group *group = work->group;
  rs_vi low = stack_splat(-work->padding), high = stack_splat(work->columns);
  for (int n = 0; n < STACK_RUN; n += RS_LANES) {
    rs_vi at = stack_load(patch->corner + n) + stack_load(group->steps_y[y] + n) + stack_load(group->steps_x[x] + n);
    rs_vi column = (at >> STACK_BITS) + stack_load(patch->reference + n);
    column = stack_select(column > low, column, low);
    column = stack_select(column < high, column, high); // off the detector are zeros, whatever the weights
    rs_vi offset = (column + work->padding) * lanes + (stack_count() + n) * (int32_t)work->view_step;
    memcpy(run->offset + n, &offset, sizeof offset);
    rs_vf pitch = rs_load(group->pitch + n), rest = stack_fraction(at);
    if (group->back_taps == 2 && work->supersampling == 1) {
      rs_store(run->weight[0] + n, stack_positive(1 - pitch * rest));
      rs_store(run->weight[1] + n, stack_positive(1 - pitch * (1 - rest)));
      continue;
    }
    for (int tap = 0; tap < group->back_taps; tap++) {
      rs_vf weight = {0};
      for (int q = 0; q < work->supersampling; q++) {
        rs_vf columns = (float)(tap * work->supersampling + q) - (float)work->supersampling * rest;
        weight += stack_hat(pitch * columns + rs_load(group->shift + n));
      }
      rs_store(run->weight[tap] + n, weight);
    }
  }
}

// Adds what the voxels of the tile see in one group of views.
static void stack_back_views(const stack_back_work *work) {
  const stack_group *group = work->group;
  stack_gather_function gather = stack_gather_of(work->vectors, group->back_taps);
  const int lanes = work->vectors * RS_LANES;
  stack_run run[STACK_PATCH];
  for (int x = 0; x < STACK_PATCH; x++) {
    run[x].base = work->projections;
    run[x].first = 0;
    run[x].last = group->views;
  }
  stack_patch patch;
  for (int32_t top = 0; top < work->height; top += STACK_PATCH)
    for (int32_t left = 0; left < work->width; left += STACK_PATCH) {
      int height = (int)stack_smaller(STACK_PATCH, work->height - top), width = (int)stack_smaller(STACK_PATCH, work->width - left);
      stack_back_patch(work, work->y + top, work->x + left, &patch);
      for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
          run[x].sum = work->sums + ((int64_t)(top + y) * work->width + left + x) * lanes;
          stack_back_samples(work, lanes, &patch, y, x, &run[x]);
        }
        gather(run, width, group->back_taps, lanes);
      }
    }
}
