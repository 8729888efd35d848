// simd.h: one vector of float32 lanes, as wide as this translation unit's target. The Makefile compiles every file that includes
// this once a target (RS_TARGET = avx512, avx2, plain); RS_NAME gives each copy its own symbols and dispatch.c picks at load.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define RS_JOIN2(a, b) a##_##b
#define RS_JOIN(a, b) RS_JOIN2(a, b)
#define RS_NAME(name) RS_JOIN(name, RS_TARGET)

#if defined(__AVX512F__)
#define RS_LANES 16
#elif defined(__AVX2__)
#define RS_LANES 8
#else
#define RS_LANES 4
#endif

typedef float rs_vf __attribute__((vector_size(RS_LANES * 4)));
typedef int32_t rs_vi __attribute__((vector_size(RS_LANES * 4)));

static inline rs_vf rs_load(const float *p) {
  rs_vf v;
  memcpy(&v, p, sizeof v);
  return v;
}
static inline void rs_store(float *p, rs_vf v) { memcpy(p, &v, sizeof v); }
static inline rs_vf rs_splat(float x) { return x - (rs_vf){0}; }

// Lane k of the result is element index[k], modulo 2 RS_LANES, of the 2 RS_LANES elements low, high.
static inline rs_vf rs_pick(rs_vf low, rs_vf high, rs_vi index) {
#if defined(__GNUC__) && !defined(__clang__)
  return __builtin_shuffle(low, high, index);
#else
  float both[2 * RS_LANES];
  rs_store(both, low);
  rs_store(both + RS_LANES, high);
  rs_vf v;
  for (int k = 0; k < RS_LANES; k++) v[k] = both[index[k] & (2 * RS_LANES - 1)];
  return v;
#endif
}

// The first `count` lanes, and zeros.
static inline rs_vf rs_load_some(const float *p, int64_t count) {
  if (count >= RS_LANES) return rs_load(p);
  float full[RS_LANES] = {0};
  for (int64_t k = 0; k < count; k++) full[k] = p[k];
  return rs_load(full);
}

// Transposes RS_LANES vectors, in log2(RS_LANES) rounds that swap the off-diagonal squares of side d.
static inline __attribute__((always_inline)) void rs_transpose(rs_vf *row) {
  rs_vi lane;
  for (int k = 0; k < RS_LANES; k++) lane[k] = k;
#pragma GCC unroll 4
  for (int d = 1; d < RS_LANES; d *= 2) {
    rs_vi low = lane + (((lane & d) != 0) & (RS_LANES - d)), high = low + d;
#pragma GCC unroll 16
    for (int i = 0; i < RS_LANES; i++)
      if (!(i & d)) {
        rs_vf a = row[i], b = row[i + d];
        row[i] = rs_pick(a, b, low);
        row[i + d] = rs_pick(a, b, high);
      }
  }
}
