// general_kernel.h: the inner loops of the `rs_general` family: one ray through one block of planes, a lane a plane.
#pragma once
#include "general_rays.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define GENERAL_INLINE static inline __attribute__((always_inline))

// Weights of the nearer and the further neighbour along both axes.
typedef struct {
  rs_vf near_a, far_a, near_b, far_b;
} general_weights;

// One axis in float64: the cells on the planes first ... first + RS_LANES - 1, and the weights.
GENERAL_INLINE general_indexes general_exact(double position, double slope, int first, rs_vf *near, rs_vf *far) {
  static const double way[GENERAL_PLANES] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7}; // from the middle plane
  general_hf nears[2], fars[2];
  general_hi cells[2];
  for (int k = 0; k < 2; k++) {
    general_vd at;
    memcpy(&at, way + first + k * GENERAL_WIDE, sizeof at);
    at = (position - 0.5) + at * slope;
    at -= general_round(at, &cells[k]);
    nears[k] = __builtin_convertvector(0.5 - at, general_hf);
    fars[k] = __builtin_convertvector(0.5 + at, general_hf);
  }
  *near = __builtin_shufflevector(nears[0], nears[1], GENERAL_LANES);
  *far = __builtin_shufflevector(fars[0], fars[1], GENERAL_LANES);
  return (general_indexes)__builtin_shufflevector(cells[0], cells[1], GENERAL_LANES);
}

// The entry of the cell, for the planes first ... first + RS_LANES - 1 of ray i. Lanes outside the box, in rays that are not inside, get
// one that belongs to no voxel.
GENERAL_INLINE general_indexes general_sample(const general_box *box, const general_ways *ways, const general_rays *rays, int i, int first,
                                              const int kind, general_weights *weights) {
  const rs_vi plane = (rs_vi){GENERAL_LANES} + first, way = plane - GENERAL_MIDDLE;
  general_indexes column, row;
  if (kind == GENERAL_GRAZES) {
    column = general_exact(rays->exact_a[i], rays->exact_slope_a[i], first, &weights->near_a, &weights->far_a) + 1;
    row = general_exact(rays->exact_b[i], rays->exact_slope_b[i], first, &weights->near_b, &weights->far_b) - (uint32_t)box->row;
  } else {
    const float room = 12582912.0f;
    const rs_vf planes = __builtin_convertvector(way, rs_vf);
    rs_vf at_a = rs_splat(rays->a[i]) + planes * rays->slope_a[i], at_b = rs_splat(rays->b[i]) + planes * rays->slope_b[i];
    rs_vf cell_a = at_a + room, cell_b = at_b + room, whole_b = cell_b - room;
    at_a -= cell_a - room;
    at_b -= whole_b;
    *weights = (general_weights){0.5f - at_a, 0.5f + at_a, 0.5f - at_b, 0.5f + at_b};
    if (kind == GENERAL_INSIDE) {
      general_indexes steps;
      memcpy(&steps, ways->entries[rays->way[i]] + first, sizeof steps);
      return (general_indexes)(cell_a + whole_b * ways->stride) + steps + rays->index[i];
    }
    column = (general_indexes)cell_a + (general_indexes)way * rays->column_step[i] + rays->column[i];
    row = (general_indexes)cell_b + (general_indexes)way * rays->row_step[i] + rays->row[i];
  }
  general_indexes in =
      (general_indexes)((column < (uint32_t)box->columns) & (row < (uint32_t)box->rows) & ((general_indexes)plane < (uint32_t)box->planes));
  general_indexes index = row * (uint32_t)box->stride + (general_indexes)plane * (uint32_t)box->pitch + column;
  return (index & in) + (~in & (uint32_t)box->columns) + (uint32_t)box->origin;
}

typedef float general_four __attribute__((vector_size(16)));

// quad[k] = the four neighbours of the samples k, 4 + k, ... of a vector.
GENERAL_INLINE void general_load_quads(const float *base, const uint32_t *index, rs_vf *quad) {
#pragma GCC unroll 4
  for (int k = 0; k < 4; k++) {
#if defined(__AVX512F__)
    __m512 all = _mm512_castps128_ps512(_mm_loadu_ps(base + 2 * (size_t)index[k]));
    all = _mm512_insertf32x4(all, _mm_loadu_ps(base + 2 * (size_t)index[4 + k]), 1);
    all = _mm512_insertf32x4(all, _mm_loadu_ps(base + 2 * (size_t)index[8 + k]), 2);
    quad[k] = (rs_vf)_mm512_insertf32x4(all, _mm_loadu_ps(base + 2 * (size_t)index[12 + k]), 3);
#elif defined(__AVX2__)
    __m256 all = _mm256_castps128_ps256(_mm_loadu_ps(base + 2 * (size_t)index[k]));
    quad[k] = (rs_vf)_mm256_insertf128_ps(all, _mm_loadu_ps(base + 2 * (size_t)index[4 + k]), 1);
#else
    memcpy(&quad[k], base + 2 * (size_t)index[k], sizeof quad[k]);
#endif
  }
}

// Samples of a ray on their way: the entries, and the weights.
typedef struct {
  uint32_t index[GENERAL_PLANES];
  float near_a[GENERAL_PLANES], far_a[GENERAL_PLANES], near_b[GENERAL_PLANES], far_b[GENERAL_PLANES];
} __attribute__((aligned(64))) general_samples;

GENERAL_INLINE void general_list(const general_box *box, const general_ways *ways, const general_rays *rays, int i, const int kind,
                                 general_samples *samples) {
  for (int first = 0; first < GENERAL_PLANES; first += RS_LANES) {
    general_weights w;
    general_indexes index = general_sample(box, ways, rays, i, first, kind, &w);
    memcpy(samples->index + first, &index, sizeof index);
    rs_store(samples->near_a + first, w.near_a);
    rs_store(samples->far_a + first, w.far_a);
    rs_store(samples->near_b + first, w.near_b);
    rs_store(samples->far_b + first, w.far_b);
  }
}

// The samples added up over vectors of planes.
GENERAL_INLINE rs_vf general_gather(const general_samples *samples, const float *base) {
  const rs_vi lane = {GENERAL_LANES}, group = lane / 4 * 4, odd = (lane & 1) * RS_LANES, second = (lane >> 1 & 1) * RS_LANES;
  rs_vf total = {0};
  for (int first = 0; first < GENERAL_PLANES; first += RS_LANES) {
    rs_vf quad[4];
    general_load_quads(base, samples->index + first, quad);
    rs_vf near01 = rs_pick(quad[0], quad[1], group + (lane & 3) / 2 + odd),
          far01 = rs_pick(quad[0], quad[1], group + (lane & 3) / 2 + 2 + odd);
    rs_vf near23 = rs_pick(quad[2], quad[3], group + (lane & 3) / 2 + odd),
          far23 = rs_pick(quad[2], quad[3], group + (lane & 3) / 2 + 2 + odd);
    rs_vf near = rs_pick(near01, near23, group + (lane & 1) + second), next_near = rs_pick(near01, near23, group + (lane & 1) + 2 + second);
    rs_vf far = rs_pick(far01, far23, group + (lane & 1) + second), next_far = rs_pick(far01, far23, group + (lane & 1) + 2 + second);
    rs_vf near_a = rs_load(samples->near_a + first), far_a = rs_load(samples->far_a + first);
    total += rs_load(samples->near_b + first) * (near_a * near + far_a * far) +
             rs_load(samples->far_b + first) * (near_a * next_near + far_a * next_far);
  }
  return total;
}

// Folds 2 half vectors into half as many: lanes of one group of 2 half come to lie in a group of half.
GENERAL_INLINE void general_halve(rs_vf *v, const int half) {
  const rs_vi lane = {GENERAL_LANES}, low = lane % half + lane / (2 * half) * (2 * half) + lane / half % 2 * RS_LANES;
  for (int k = 0; k < half; k++) v[k] = rs_pick(v[k], v[k + half], low) + rs_pick(v[k], v[k + half], low + half);
}

// Lane k of the result is the sum over the lanes of v[k], for RS_LANES vectors, which are lost.
GENERAL_INLINE rs_vf general_fold(rs_vf *v) {
  if (RS_LANES > 8) general_halve(v, RS_LANES / 2);
  if (RS_LANES > 4) general_halve(v, 4);
  general_halve(v, 2);
  general_halve(v, 1);
  return v[0];
}

// What the rays i ... i + count - 1, at most RS_LANES, find in a box. First where their samples are, then the samples: loads of a part of
// what was just stored are slow.
GENERAL_INLINE rs_vf general_gather_rays(const general_box *box, const general_ways *ways, const general_rays *rays, int i, int count,
                                         const float *base) {
  general_samples samples[RS_LANES];
  int ray[RS_LANES], listed = 0;
  rs_vf found[RS_LANES];
  for (int k = 0; k < count; k++) {
    ray[listed] = k;
    if (rays->kind[i + k] == GENERAL_INSIDE)
      general_list(box, ways, rays, i + k, GENERAL_INSIDE, &samples[listed++]);
    else if (rays->kind[i + k] == GENERAL_CUTS)
      general_list(box, ways, rays, i + k, GENERAL_CUTS, &samples[listed++]);
    else if (rays->kind[i + k] == GENERAL_GRAZES && general_near(rays, i + k))
      general_list(box, ways, rays, i + k, GENERAL_GRAZES, &samples[listed++]);
    else
      found[k] = (rs_vf){0};
  }
  for (int k = count; k < RS_LANES; k++) found[k] = (rs_vf){0};
  for (int n = 0; n < listed; n++) found[ray[n]] = general_gather(&samples[n], base);
  rs_vf all = general_fold(found);
  return (rs_vf)((rs_vi)(all * rs_load(rays->scale + i)) & (all != 0)); // lengths of rays that find nothing may be infinite
}

// Samples on their way to the volume: their entries, and what is added to the numbers of each and of the entry behind it.
typedef struct {
  uint32_t index[RS_LANES];
  float value[4 * RS_LANES];
} __attribute__((aligned(64))) general_slot;

GENERAL_INLINE void general_add_four(float *at, general_four more) {
  general_four old;
  memcpy(&old, at, sizeof old);
  old += more;
  memcpy(at, &old, sizeof old);
}

// Adds a slot. Loads are what takes longest, so two samples' indexes and values come at once.
GENERAL_INLINE void general_add(const general_slot *slot, float *base) {
#pragma GCC unroll 8
  for (int n = 0; n < RS_LANES; n += 2) {
    uint64_t two;
    memcpy(&two, slot->index + n, sizeof two);
    general_four near, far;
#if defined(__AVX2__)
    __m256 both = _mm256_load_ps(slot->value + 4 * n);
    near = (general_four)_mm256_castps256_ps128(both), far = (general_four)_mm256_extractf128_ps(both, 1);
#else
    memcpy(&near, slot->value + 4 * n, sizeof near);
    memcpy(&far, slot->value + 4 * n + 4, sizeof far);
#endif
    general_add_four(base + 2 * (two & UINT32_MAX), near);
    general_add_four(base + 2 * (two >> 32), far);
  }
}

// Lists value times the weights of ray i, a slot for each vector of planes.
GENERAL_INLINE void general_share(const general_box *box, const general_ways *ways, const general_rays *rays, int i, const int kind,
                                  float value, general_slot *slot) {
  const rs_vi lane = {GENERAL_LANES};
  const rs_vi low1 = (lane >> 1) + (lane & 1) * RS_LANES, high1 = low1 + RS_LANES / 2;                       // a0 b0 a1 b1 ...
  const rs_vi low2 = (lane >> 2) * 2 + (lane & 1) + (lane >> 1 & 1) * RS_LANES, high2 = low2 + RS_LANES / 2; // the same by pairs
  for (int first = 0; first < GENERAL_PLANES; first += RS_LANES, slot++) {
    general_weights w;
    general_indexes index = general_sample(box, ways, rays, i, first, kind, &w);
    rs_vf row = value * w.near_b, next = value * w.far_b;
    rs_vf row_near = row * w.near_a, row_far = row * w.far_a, next_near = next * w.near_a, next_far = next * w.far_a;
    rs_vf near_low = rs_pick(row_near, next_near, low1), near_high = rs_pick(row_near, next_near, high1);
    rs_vf far_low = rs_pick(row_far, next_far, low1), far_high = rs_pick(row_far, next_far, high1);
    memcpy(slot->index, &index, sizeof index);
    rs_store(slot->value, rs_pick(near_low, far_low, low2));
    rs_store(slot->value + RS_LANES, rs_pick(near_low, far_low, high2));
    rs_store(slot->value + 2 * RS_LANES, rs_pick(near_high, far_high, low2));
    rs_store(slot->value + 3 * RS_LANES, rs_pick(near_high, far_high, high2));
  }
}

// Adds value[k] times the weights of rays k = i ... i + count - 1, at most GENERAL_BATCH, to a box: first where their samples are, then
// the sums. Neighbouring rays share voxels: with others between them a voxel was stored before it is loaded again.
#define GENERAL_BATCH 16
#define GENERAL_APART 4
GENERAL_INLINE void general_scatter_rays(const general_box *box, const general_ways *ways, const general_rays *rays, int i, int count,
                                         const float *value, float *base) {
  general_slot slot[GENERAL_BATCH][GENERAL_PLANES / RS_LANES];
  int listed = 0;
  for (int from = 0; from < GENERAL_APART; from++)
    for (int k = from; k < count; k += GENERAL_APART) {
      if (rays->kind[i + k] == GENERAL_INSIDE)
        general_share(box, ways, rays, i + k, GENERAL_INSIDE, value[i + k] * rays->scale[i + k], slot[listed++]);
      else if (rays->kind[i + k] == GENERAL_CUTS)
        general_share(box, ways, rays, i + k, GENERAL_CUTS, value[i + k] * rays->scale[i + k], slot[listed++]);
      else if (rays->kind[i + k] == GENERAL_GRAZES && general_near(rays, i + k))
        general_share(box, ways, rays, i + k, GENERAL_GRAZES, value[i + k] * rays->scale[i + k], slot[listed++]);
    }
  for (int n = 0; n < listed; n++)
    for (int part = 0; part < GENERAL_PLANES / RS_LANES; part++) general_add(&slot[n][part], base);
}
