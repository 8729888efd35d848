// dispatch.c: which kernels a device runs; on the CPU, which of their compiled copies this processor can run.
#include "convolution.h"
#include "cuda_calls.h"
#include "device.h"
#include "plan.h"
#include "raysum.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
  const char *name;
  const rs_family *exact[5], *astra[2];
  const rs_products *products;
} target;

static const target plain = {
    "plain", {&rs_slice_plain, &rs_stack_plain, &rs_upright_plain, &rs_general_plain, NULL}, {&rs_astra_plain, NULL}, &rs_products_plain};

#if defined(__x86_64__)
static const target avx512 = {"avx512",
                              {&rs_slice_avx512, &rs_stack_avx512, &rs_upright_avx512, &rs_general_avx512, NULL},
                              {&rs_astra_avx512, NULL},
                              &rs_products_avx512};
static const target avx2 = {
    "avx2", {&rs_slice_avx2, &rs_stack_avx2, &rs_upright_avx2, &rs_general_avx2, NULL}, {&rs_astra_avx2, NULL}, &rs_products_avx2};

static const target *choose(void) {
  const char *most = getenv("RAYSUM_SIMD"); // lets tests run the narrower kernels on a wide machine
  int wide = !most || !strcmp(most, "avx512"), middle = wide || !strcmp(most, "avx2");
  __builtin_cpu_init();
  if (wide && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl"))
    return &avx512;
  if (middle && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &avx2;
  return &plain;
}
#else
static const target *choose(void) { return &plain; }
#endif

const rs_family *const *rs_families(int32_t device, int32_t law) {
  if (device != RS_CPU) return rs_cuda_families(device, law);
  return law == RS_EXACT ? choose()->exact : choose()->astra;
}

const rs_products *rs_products_here(void) { return choose()->products; }

const char *rs_simd_name(void) { return choose()->name; }
