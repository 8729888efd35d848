// plan.h: a plan is a projection geometry made ready for a device: kernels chosen, tables and workspace in place.
#pragma once
#include "geometry.h"
#include "output.h"
#include "queue.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rs_plan rs_plan;

// A family of kernels for one class of geometries. All families of a law compute the same operators.
// `volume` and `projections` hold `batch` items in the public layout, one behind the other; so do output->target and
// output->measured, while output->weights is one item that all share.
typedef struct {
  const char *name;
  int (*accepts)(const rs_geometry *geometry);
  // Sets plan->tables and plan->workspace_floats. RS_OK, or an error after which the plan owns no tables.
  int32_t (*prepare)(rs_plan *plan);
  void (*release)(rs_plan *plan); // frees plan->tables
  // norm: NULL, or a place for a sum of squares per batch item (mode RS_RESIDUAL).
  int32_t (*forward)(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *volume, int64_t batch,
                     double *norm);
  int32_t (*back)(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *projections, int64_t batch);
} rs_family;

struct rs_plan {
  int32_t device;
  rs_geometry geometry;
  const rs_family *family;
  void *tables;              // of the family
  int64_t workspace_floats;  // of the family
  float *workspace;          // 64-byte aligned, contents unspecified between calls
  int64_t workspace_pointer; // its allocation
  int32_t rows_alike;        // of the family: every row has the same sums of A, and output->shared may be set in forward projection
  int32_t slices_alike;      // the same of slices and back projection
  uint64_t captures;         // a bit for every capture that calls it
  int freed;                 // by its owner; the last of those captures releases it
};

// While a capture records on a device, it keeps the plans that are called there. This releases those that the capture in that slot had,
// as far as they were freed meanwhile.
void rs_plan_forget(int32_t slot);

// The families of a law for a device, in order of preference; the last accepts everything. dispatch.c.
const rs_family *const *rs_families(int32_t device, int32_t law); // ends with NULL
const char *rs_simd_name(void);                                   // "avx512", "avx2" or "plain"

#define RS_DECLARE_FAMILY(name) extern const rs_family name##_avx512, name##_avx2, name##_plain;
RS_DECLARE_FAMILY(rs_slice)   // parallel beam through one slice or a few, rows on slices: lanes are rays or voxels
RS_DECLARE_FAMILY(rs_stack)   // parallel beam along the slices: every slice has the same weights
RS_DECLARE_FAMILY(rs_upright) // detector columns along z: all rows of a column share their path in the plane
RS_DECLARE_FAMILY(rs_general) // anything
RS_DECLARE_FAMILY(rs_astra)   // the laws of ASTRA, anything

#ifdef __cplusplus
}
#endif
