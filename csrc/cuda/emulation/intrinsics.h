// intrinsics.h: CUDA's arithmetic, bit and memory intrinsics for the emulation.
#pragma once
#include "vectors.h"

#include <limits.h>

// Least and largest, as CUDA overloads them: mixed signs compare as unsigned, and a NaN loses against a number.
#define RS_MINMAX(result, a_type, b_type)                                                                \
  static inline result min(a_type a, b_type b) { return (result)a < (result)b ? (result)a : (result)b; } \
  static inline result max(a_type a, b_type b) { return (result)a > (result)b ? (result)a : (result)b; }
#define RS_MINMAX_MIXED(type)                            \
  RS_MINMAX(type, type, type)                            \
  RS_MINMAX(unsigned type, unsigned type, unsigned type) \
  RS_MINMAX(unsigned type, type, unsigned type)          \
  RS_MINMAX(unsigned type, unsigned type, type)
RS_MINMAX_MIXED(int)
RS_MINMAX_MIXED(long)
RS_MINMAX_MIXED(long long)
#undef RS_MINMAX_MIXED
#undef RS_MINMAX
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
static inline double min(double a, double b) { return fmin(a, b); }
static inline double max(double a, double b) { return fmax(a, b); }
static inline double min(float a, double b) { return fmin(a, b); }
static inline double max(float a, double b) { return fmax(a, b); }
static inline double min(double a, float b) { return fmin(a, b); }
static inline double max(double a, float b) { return fmax(a, b); }

// Functions that CUDA adds to the C library's, some of which newer C libraries have too.
extern "C" {
inline float rsqrtf(float x) noexcept { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) noexcept { return 1.0 / sqrt(x); }
inline float sinpif(float x) noexcept { return (float)sin(M_PI * fmod(x, 2.0)); }
inline float cospif(float x) noexcept { return (float)cos(M_PI * fmod(x, 2.0)); }
inline double sinpi(double x) noexcept { return sin(M_PI * fmod(x, 2.0)); }
inline double cospi(double x) noexcept { return cos(M_PI * fmod(x, 2.0)); }
}
static inline void sincospif(float x, float *sine, float *cosine) { *sine = sinpif(x), *cosine = cospif(x); }
static inline void sincospi(double x, double *sine, double *cosine) { *sine = sinpi(x), *cosine = cospi(x); }

// Arithmetic with a stated rounding, which the compiler must not fuse with its neighbours.
template <class T> static inline T rs_rounded(T value) {
  __asm__("" : "+g"(value));
  return value;
}
static inline float __fadd_rn(float a, float b) { return rs_rounded(a + b); }
static inline float __fadd_rd(float a, float b) { // what float64 leaves out of the sum (Knuth) settles ties with it
  const double sum = (double)a + b, other = sum - a, rest = (a - (sum - other)) + (b - other);
  const float nearest = (float)sum;
  return nearest > sum || (nearest == sum && rest < 0) ? nextafterf(nearest, -INFINITY) : nearest;
}
static inline float __fsub_rn(float a, float b) { return rs_rounded(a - b); }
static inline float __fmul_rn(float a, float b) { return rs_rounded(a * b); }
static inline float __fdiv_rn(float a, float b) { return rs_rounded(a / b); }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
static inline float __frcp_rn(float a) { return 1.0f / a; }
static inline float __frsqrt_rn(float a) { return (float)(1.0 / sqrt((double)a)); }
static inline double __dadd_rn(double a, double b) { return rs_rounded(a + b); }
static inline double __dsub_rn(double a, double b) { return rs_rounded(a - b); }
static inline double __dmul_rn(double a, double b) { return rs_rounded(a * b); }
static inline double __ddiv_rn(double a, double b) { return rs_rounded(a / b); }
static inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
static inline double __drcp_rn(double a) { return 1.0 / a; }
static inline double __dsqrt_rn(double a) { return sqrt(a); }

// The quick ones are exact here.
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __saturatef(float x) { return fminf(fmaxf(x, 0.0f), 1.0f); }
// Macros, because the C library has functions of these names.
#define __sinf sinf
#define __cosf cosf
#define __sincosf sincosf
#define __expf expf
#define __logf logf
#define __log2f log2f
#define __powf powf

// Conversions: saturating, NaN becomes 0, as on the device and unlike casts in C.
template <class Integer> static inline Integer rs_saturated(double x, double least, double above, Integer smallest, Integer largest) {
  return x != x ? 0 : x <= least ? smallest : x >= above ? largest : (Integer)x;
}
#define RS_CONVERT(from, from_name, to, to_name, least, above, smallest, largest)                                                 \
  static inline to __##from_name##2##to_name##_rd(from x) { return rs_saturated<to>(floor(x), least, above, smallest, largest); } \
  static inline to __##from_name##2##to_name##_ru(from x) { return rs_saturated<to>(ceil(x), least, above, smallest, largest); }  \
  static inline to __##from_name##2##to_name##_rn(from x) { return rs_saturated<to>(rint(x), least, above, smallest, largest); }  \
  static inline to __##from_name##2##to_name##_rz(from x) { return rs_saturated<to>(trunc(x), least, above, smallest, largest); }
RS_CONVERT(float, float, int, int, -0x1p31, 0x1p31, INT_MIN, INT_MAX)
RS_CONVERT(float, float, unsigned, uint, 0, 0x1p32, 0u, UINT_MAX)
RS_CONVERT(float, float, long long, ll, -0x1p63, 0x1p63, LLONG_MIN, LLONG_MAX)
RS_CONVERT(double, double, int, int, -0x1p31, 0x1p31, INT_MIN, INT_MAX)
RS_CONVERT(double, double, unsigned, uint, 0, 0x1p32, 0u, UINT_MAX)
RS_CONVERT(double, double, long long, ll, -0x1p63, 0x1p63, LLONG_MIN, LLONG_MAX)
#undef RS_CONVERT
static inline float __int2float_rn(int x) { return (float)x; }
static inline float __uint2float_rn(unsigned x) { return (float)x; }
static inline float __ll2float_rn(long long x) { return (float)x; }
static inline double __int2double_rn(int x) { return x; }
static inline float __double2float_rn(double x) { return (float)x; }

// Bits
template <class To, class From> static inline To rs_bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "the same size");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
static inline int __float_as_int(float x) { return rs_bits<int>(x); }
static inline unsigned __float_as_uint(float x) { return rs_bits<unsigned>(x); }
static inline float __int_as_float(int x) { return rs_bits<float>(x); }
static inline float __uint_as_float(unsigned x) { return rs_bits<float>(x); }
static inline long long __double_as_longlong(double x) { return rs_bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return rs_bits<double>(x); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __ffsll(long long x) { return __builtin_ffsll(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
static inline unsigned __brev(unsigned x) {
  x = (x >> 1 & 0x55555555u) | (x & 0x55555555u) << 1;
  x = (x >> 2 & 0x33333333u) | (x & 0x33333333u) << 2;
  x = (x >> 4 & 0x0f0f0f0fu) | (x & 0x0f0f0f0fu) << 4;
  return __builtin_bswap32(x);
}
static inline int __mulhi(int a, int b) { return (int)((long long)a * b >> 32); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((unsigned long long)a * b >> 32); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)((unsigned __int128)a * b >> 64);
}

// Loads and stores with a cache hint
template <class T> static inline T __ldg(const T *from) { return *from; }
template <class T> static inline T __ldca(const T *from) { return *from; }
template <class T> static inline T __ldcg(const T *from) { return *from; }
template <class T> static inline T __ldcs(const T *from) { return *from; }
template <class T> static inline T __ldlu(const T *from) { return *from; }
template <class T> static inline void __stcg(T *to, T value) { *to = value; }
template <class T> static inline void __stcs(T *to, T value) { *to = value; }
template <class T> static inline void __stwt(T *to, T value) { *to = value; }

// Atomics on integers. One device thread runs at a time, so that plain operations are atomic.
#define RS_ATOMICS(type)                                                                                                   \
  static inline type rs_swap(type *at, type value) {                                                                       \
    type old = *at;                                                                                                        \
    *at = value;                                                                                                           \
    return old;                                                                                                            \
  }                                                                                                                        \
  static inline type atomicExch(type *at, type value) { return rs_swap(at, value); }                                       \
  static inline type atomicCAS(type *at, type expected, type value) { return rs_swap(at, *at == expected ? value : *at); } \
  static inline type atomicAdd(type *at, type value) { return rs_swap(at, *at + value); }                                  \
  static inline type atomicMin(type *at, type value) { return rs_swap(at, value < *at ? value : *at); }                    \
  static inline type atomicMax(type *at, type value) { return rs_swap(at, value > *at ? value : *at); }                    \
  static inline type atomicAnd(type *at, type value) { return rs_swap(at, *at & value); }                                  \
  static inline type atomicOr(type *at, type value) { return rs_swap(at, *at | value); }                                   \
  static inline type atomicXor(type *at, type value) { return rs_swap(at, *at ^ value); }
RS_ATOMICS(int)
RS_ATOMICS(unsigned)
RS_ATOMICS(unsigned long long)
#undef RS_ATOMICS
static inline unsigned atomicInc(unsigned *at, unsigned limit) { return rs_swap(at, *at >= limit ? 0 : *at + 1); }
static inline unsigned atomicDec(unsigned *at, unsigned limit) { return rs_swap(at, *at == 0 || *at > limit ? limit : *at - 1); }

static inline void __threadfence() { __asm__ volatile("" ::: "memory"); }
static inline void __threadfence_block() { __threadfence(); }
static inline void __threadfence_system() { __threadfence(); }
static inline void __nanosleep(unsigned) {}
[[noreturn]] static inline void __trap() { abort(); }
