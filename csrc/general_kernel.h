// general_kernel.h: the inner loops of the `rs_general` family: one ray through one block of planes, a lane a plane.
#pragma once
#include "general_rays.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define GENERAL_INLINE static inline __attribute__((always_inline))

typedef uint32_t general_indexes __attribute__((vector_size(RS_LANES * 4)));

#if RS_LANES == 16
#define GENERAL_LANES 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
#elif RS_LANES == 8
#define GENERAL_LANES 0, 1, 2, 3, 4, 5, 6, 7
#else
#define GENERAL_LANES 0, 1, 2, 3
#endif

// near[lane] = base[index[lane]], far[lane] = base[index[lane] + 1]
GENERAL_INLINE void general_load_pairs(const float *base, general_indexes index, rs_vf *near, rs_vf *far) {
#if defined(__AVX512F__) || defined(__AVX2__)
  const rs_vi lane = {GENERAL_LANES}, even = 2 * lane, odd = even + 1;
#endif
#if defined(__AVX512F__)
  // 64-bit gathers bring both neighbours with one load.
  __m512i all = (__m512i)index;
  rs_vf low = (rs_vf)_mm512_i32gather_pd(_mm512_castsi512_si256(all), base, 4);
  rs_vf high = (rs_vf)_mm512_i32gather_pd(_mm512_extracti64x4_epi64(all, 1), base, 4);
  *near = rs_pick(low, high, even);
  *far = rs_pick(low, high, odd);
#elif defined(__AVX2__)
  __m256i all = (__m256i)index;
  rs_vf low = (rs_vf)_mm256_i32gather_pd((const double *)base, _mm256_castsi256_si128(all), 4);
  rs_vf high = (rs_vf)_mm256_i32gather_pd((const double *)base, _mm256_extracti128_si256(all, 1), 4);
  *near = rs_pick(low, high, even);
  *far = rs_pick(low, high, odd);
#else
  for (int k = 0; k < RS_LANES; k++) (*near)[k] = base[index[k]], (*far)[k] = base[index[k] + 1];
#endif
}

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
    at = position + at * slope;
    at -= general_round(at, &cells[k]);
    nears[k] = __builtin_convertvector(0.5 - at, general_hf);
    fars[k] = __builtin_convertvector(0.5 + at, general_hf);
  }
  *near = __builtin_shufflevector(nears[0], nears[1], GENERAL_LANES);
  *far = __builtin_shufflevector(fars[0], fars[1], GENERAL_LANES);
  return (general_indexes)__builtin_shufflevector(cells[0], cells[1], GENERAL_LANES);
}

// Index of the nearest neighbour, for the planes first ... first + RS_LANES - 1 of ray i. Lanes outside the box, in rays that are not
// inside, get a place that belongs to no voxel.
GENERAL_INLINE general_indexes general_sample(const general_box *box, const general_rays *rays, int i, int first, const int kind,
                                              general_weights *weights) {
  const rs_vi plane = (rs_vi){GENERAL_LANES} + first, way = plane - GENERAL_MIDDLE;
  const general_indexes ahead = (general_indexes)way;
  general_indexes column, row;
  if (kind == GENERAL_GRAZES) {
    column = general_exact(rays->exact_a[i], rays->exact_slope_a[i], first, &weights->near_a, &weights->far_a) + 1;
    row = general_exact(rays->exact_b[i], rays->exact_slope_b[i], first, &weights->near_b, &weights->far_b) - (uint32_t)box->row;
  } else {
    const float room = 12582912.0f;
    const rs_vf planes = __builtin_convertvector(way, rs_vf);
    rs_vf at_a = rs_splat(rays->a[i]) + planes * rays->slope_a[i], at_b = rs_splat(rays->b[i]) + planes * rays->slope_b[i];
    rs_vf cell_a = at_a + room, cell_b = at_b + room;
    at_a -= cell_a - room;
    at_b -= cell_b - room;
    *weights = (general_weights){0.5f - at_a, 0.5f + at_a, 0.5f - at_b, 0.5f + at_b};
    column = (general_indexes)cell_a, row = (general_indexes)cell_b;
    if (kind == GENERAL_INSIDE) return ahead * rays->step[i] + row * (uint32_t)box->stride + column + rays->index[i];
    column += ahead * rays->column_step[i] + rays->column[i];
    row += ahead * rays->row_step[i] + rays->row[i];
  }
  general_indexes in =
      (general_indexes)((column < (uint32_t)box->columns) & (row < (uint32_t)box->rows) & ((general_indexes)plane < (uint32_t)box->planes));
  general_indexes index = row * (uint32_t)box->stride + (general_indexes)plane * (uint32_t)box->pitch + column;
  return (index & in) | (~in & (uint32_t)box->columns);
}

// *sum += the samples of ray i times its length.
GENERAL_INLINE void general_gather_ray(const general_box *box, const general_rays *rays, int i, const int kind, const float *base,
                                       rs_vf *sum) {
  const float *next = base + box->stride;
  rs_vf total = {0};
  for (int first = 0; first < GENERAL_PLANES; first += RS_LANES) {
    if (kind != GENERAL_INSIDE && first >= box->planes) break;
    rs_vf near, far, next_near, next_far;
    general_weights w;
    general_indexes index = general_sample(box, rays, i, first, kind, &w);
    general_load_pairs(base, index, &near, &far);
    general_load_pairs(next, index, &next_near, &next_far);
    total += w.near_b * (w.near_a * near + w.far_a * far) + w.far_b * (w.near_a * next_near + w.far_a * next_far);
  }
  *sum += rays->scale[i] * total;
}

// Folds 2 half vectors into half as many: lanes of one group of 2 half come to lie in a group of half.
GENERAL_INLINE void general_halve(rs_vf *v, const int half) {
  const rs_vi lane = {GENERAL_LANES}, low = lane % half + lane / (2 * half) * (2 * half) + lane / half % 2 * RS_LANES;
  for (int k = 0; k < half; k++) v[k] = rs_pick(v[k], v[k + half], low) + rs_pick(v[k], v[k + half], low + half);
}

// sum[k] += the sum over the lanes of v[k], for RS_LANES vectors, which are lost.
GENERAL_INLINE void general_fold(rs_vf *v, float *sum) {
  if (RS_LANES > 8) general_halve(v, RS_LANES / 2);
  if (RS_LANES > 4) general_halve(v, 4);
  general_halve(v, 2);
  general_halve(v, 1);
  rs_store(sum, rs_load(sum) + v[0]);
}

// Samples on their way to the volume: where the nearest neighbour's entry lies, and what is added to it, to the voxel in the next row,
// and to the two behind these.
typedef struct {
  uint32_t index[RS_LANES];
  float value[4 * RS_LANES];
} __attribute__((aligned(64))) general_slot;

// They wait for a few rays: processors are slow to load a part of what was just stored, and finding samples (which takes arithmetic)
// and adding them (which takes loads and stores) go on side by side.
#define GENERAL_SLOTS 32
typedef struct {
  int newest;
  general_slot slot[GENERAL_SLOTS];
} general_queue;

static inline void general_open(general_queue *queue, uint32_t nowhere) {
  memset(queue, 0, sizeof *queue);
  for (int k = 0; k < GENERAL_SLOTS; k++)
    for (int n = 0; n < RS_LANES; n++) queue->slot[k].index[n] = nowhere;
}

// Adds a slot: one load, one sum and one store a sample.
GENERAL_INLINE void general_add(const general_slot *slot, float *base) {
  typedef float four __attribute__((vector_size(16)));
#pragma GCC unroll 16
  for (int n = 0; n < RS_LANES; n++) {
    float *at = base + 2 * (size_t)slot->index[n];
    four old, more;
    memcpy(&old, at, sizeof old);
    memcpy(&more, slot->value + 4 * n, sizeof more);
    old += more;
    memcpy(at, &old, sizeof old);
  }
}

// Lists value times the weights of ray i, and adds what was listed GENERAL_SLOTS - 1 vectors before.
GENERAL_INLINE void general_scatter_ray(const general_box *box, const general_rays *rays, int i, const int kind, float value,
                                        general_queue *queue, float *base) {
  const rs_vi lane = {GENERAL_LANES};
  const rs_vi low1 = (lane >> 1) + (lane & 1) * RS_LANES, high1 = low1 + RS_LANES / 2;                       // a0 b0 a1 b1 ...
  const rs_vi low2 = (lane >> 2) * 2 + (lane & 1) + (lane >> 1 & 1) * RS_LANES, high2 = low2 + RS_LANES / 2; // the same by pairs
  for (int first = 0; first < GENERAL_PLANES; first += RS_LANES) {
    if (kind != GENERAL_INSIDE && first >= box->planes) break;
    general_weights w;
    general_indexes index = general_sample(box, rays, i, first, kind, &w);
    rs_vf row = value * w.near_b, next = value * w.far_b;
    rs_vf row_near = row * w.near_a, row_far = row * w.far_a, next_near = next * w.near_a, next_far = next * w.far_a;
    rs_vf near_low = rs_pick(row_near, next_near, low1), near_high = rs_pick(row_near, next_near, high1);
    rs_vf far_low = rs_pick(row_far, next_far, low1), far_high = rs_pick(row_far, next_far, high1);
    queue->newest = (queue->newest + 1) % GENERAL_SLOTS;
    general_slot *slot = &queue->slot[queue->newest];
    memcpy(slot->index, &index, sizeof index);
    rs_store(slot->value, rs_pick(near_low, far_low, low2));
    rs_store(slot->value + RS_LANES, rs_pick(near_low, far_low, high2));
    rs_store(slot->value + 2 * RS_LANES, rs_pick(near_high, far_high, low2));
    rs_store(slot->value + 3 * RS_LANES, rs_pick(near_high, far_high, high2));
    general_add(&queue->slot[(queue->newest + 1) % GENERAL_SLOTS], base);
  }
}

// Adds what is left.
static inline void general_close(general_queue *queue, float *base) {
  for (int k = 2; k <= GENERAL_SLOTS; k++) general_add(&queue->slot[(queue->newest + k) % GENERAL_SLOTS], base);
}
