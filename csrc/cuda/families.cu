// families.cu: which kernels a GPU has for a law, in order of preference; the last ones accept everything.
#include "launch.h"

extern "C" {
extern const rs_family rs_stack_cuda; // parallel beam along the slices: every slice has the same weights
extern const rs_family rs_astra_cuda; // the laws of ASTRA, anything
}

extern "C" const rs_family *const *rs_cuda_families(int32_t law) {
  static const rs_family *const exact[] = {&rs_stack_cuda, nullptr};
  static const rs_family *const astra[] = {&rs_astra_cuda, nullptr};
  return law == RS_EXACT ? exact : astra;
}
