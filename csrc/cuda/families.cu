// families.cu: which kernels a GPU has for a law, in order of preference; the last ones accept everything.
#include "launch.h"

extern "C" {
extern const rs_family rs_matrix_cuda;       // rs_stack_cuda on tensor cores that know sparse matrices, where less than float32 will do
extern const rs_family rs_slice_cuda;        // parallel beam through one slice or a few
extern const rs_family rs_stack_cuda;        // parallel beam along the slices: every slice has the same weights
extern const rs_family rs_upright_cuda;      // detector columns along z: all rows of a column share their path in the plane
extern const rs_family rs_general_cuda;      // anything
extern const rs_family rs_astra_matrix_cuda; // law astra: rs_matrix_cuda where rows lie on slices
extern const rs_family rs_astra_stack_cuda;  // law astra: rs_stack_cuda where rows lie on slices
extern const rs_family rs_astra_cuda;        // the laws of ASTRA, anything

const rs_family *const *rs_cuda_families(int32_t device, int32_t law) {
  static const rs_family *const exact[] = {&rs_matrix_cuda, &rs_slice_cuda, &rs_stack_cuda, &rs_upright_cuda, &rs_general_cuda, nullptr};
  static const rs_family *const astra[] = {&rs_astra_matrix_cuda, &rs_astra_stack_cuda, &rs_astra_cuda, nullptr};
  return (law == RS_EXACT ? exact : astra) + (rs_cuda_capability(device) < 80);
}
}
