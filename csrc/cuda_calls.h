// cuda_calls.h: the CUDA half of the library as the other half sees it (csrc/cuda).
//
// Everything here is weak: the CPU library is linked without it, rs_cuda_count is then null and no GPU is ever asked for anything.
// GPUs are numbered as devices are, from 1.
#pragma once
#include "plan.h"
#include "queue.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RS_WEAK __attribute__((weak, visibility("hidden")))

RS_WEAK int32_t rs_cuda_count(void);
RS_WEAK const char *rs_cuda_missing(void);        // why there are none, in a sentence; "" where there are some
RS_WEAK int32_t rs_cuda_start(int32_t device);    // at every use; the first makes the stream; an error once the device is lost
RS_WEAK int32_t rs_cuda_alive(int32_t device);    // asks the driver: an error where the device is lost
RS_WEAK const char *rs_cuda_name(int32_t device); // for people
RS_WEAK int32_t rs_cuda_stream_set(int32_t device, int64_t stream);
RS_WEAK int32_t rs_cuda_launch(int32_t device, const char *name, rs_effect effect, rs_run run, void *arguments);
RS_WEAK int64_t rs_cuda_record(int32_t device);
RS_WEAK int32_t rs_cuda_query(int32_t device, int64_t event, int wait); // RS_OK, RS_BUSY (never with wait) or the error of queued work
RS_WEAK int32_t rs_cuda_event(int32_t device, void **event);            // makes one where it is null
RS_WEAK int32_t rs_cuda_mark(rs_operation *operation, void *event);     // records it; a pointer to it
RS_WEAK int32_t rs_cuda_elapsed(int32_t device, void *first, void *last, double *milliseconds); // RS_BUSY before the last event
RS_WEAK int32_t rs_cuda_owns(int32_t device, const void *address); // RS_OK where the driver knows the address as this device's memory

// Captures. end: where `program` is null what was recorded is dropped; an error leaves none.
RS_WEAK int32_t rs_cuda_capture_begin(int32_t device);
RS_WEAK int32_t rs_cuda_capture_end(int32_t device, void **program);
RS_WEAK int32_t rs_cuda_capture_run(rs_operation *operation, void *program); // a pointer to it
RS_WEAK void rs_cuda_capture_free(void *program);                            // takes null, too

// Transfers. Staging is page-locked memory, which the GPU copies from and to by itself.
RS_WEAK int32_t rs_cuda_upload(int32_t device, void *target, const void *source, int64_t bytes); // RS_BUSY: all staging is in use
RS_WEAK void *rs_cuda_stage(int32_t device, int64_t bytes);
RS_WEAK int rs_cuda_unstage(void *memory);                                   // 0 where it is not staging
RS_WEAK void rs_cuda_fetch(void *target, const void *staged, int64_t bytes); // a copy by several threads

// The calls, with the structs of their CPU twins (elementwise.h, transfer.h).
RS_WEAK int32_t rs_cuda_constant(rs_operation *operation, void *constant);
RS_WEAK int32_t rs_cuda_copy(rs_operation *operation, void *transfer);
RS_WEAK int32_t rs_cuda_copy_strided(rs_operation *operation, void *strided);
RS_WEAK int32_t rs_cuda_fill(rs_operation *operation, void *elements);
RS_WEAK int32_t rs_cuda_unary(rs_operation *operation, void *elements);
RS_WEAK int32_t rs_cuda_binary(rs_operation *operation, void *elements);
RS_WEAK int32_t rs_cuda_combine(rs_operation *operation, void *elements);
RS_WEAK int32_t rs_cuda_multiply_add(rs_operation *operation, void *elements);
RS_WEAK int32_t rs_cuda_random(rs_operation *operation, void *elements);
RS_WEAK int32_t rs_cuda_reduce(rs_operation *operation, void *elements);
RS_WEAK int32_t rs_cuda_reciprocal(rs_operation *operation, void *elements);

// The calls on tensors (tensor_elementwise.h, tensor_strided.h, tensor_fold.h, tensor_gather.h, tensor_image.h, convolution.h).
RS_WEAK int32_t rs_cuda_tensor_pool(rs_operation *operation, void *arguments);
RS_WEAK int32_t rs_cuda_tensor_pool_gradient(rs_operation *operation, void *arguments);
RS_WEAK int32_t rs_cuda_tensor_resize(rs_operation *operation, void *arguments);
RS_WEAK int32_t rs_cuda_tensor_resize_gradient(rs_operation *operation, void *arguments);
RS_WEAK int32_t rs_cuda_tensor_normalize(rs_operation *operation, void *arguments);
RS_WEAK int32_t rs_cuda_tensor_fill(rs_operation *operation, void *arguments);
RS_WEAK int32_t rs_cuda_tensor_cast(rs_operation *operation, void *arguments);
RS_WEAK int32_t rs_cuda_tensor_map(rs_operation *operation, void *arguments);
RS_WEAK int32_t rs_cuda_tensor_fold(rs_operation *operation, void *arguments);
RS_WEAK int32_t rs_cuda_tensor_softmax(rs_operation *operation, void *arguments);
RS_WEAK int32_t rs_cuda_tensor_join(rs_operation *operation, void *arguments);
RS_WEAK int32_t rs_cuda_tensor_select(rs_operation *operation, void *arguments);
RS_WEAK int32_t rs_cuda_tensor_copy(rs_operation *operation, void *arguments);
RS_WEAK int32_t rs_cuda_tensor_gather(rs_operation *operation, void *arguments);
RS_WEAK int32_t rs_cuda_tensor_segment_sum(rs_operation *operation, void *arguments);
RS_WEAK int32_t rs_cuda_tensor_optimize(rs_operation *operation, void *arguments);
RS_WEAK int32_t rs_cuda_tensor_convolve(rs_operation *operation, void *arguments);
RS_WEAK int32_t rs_cuda_tensor_convolve_fused(rs_operation *operation, void *arguments);
RS_WEAK int32_t rs_cuda_tensor_residual(rs_operation *operation, void *arguments);
RS_WEAK int32_t rs_cuda_tensor_residual_fits(int32_t device, int64_t precision); // whether shared memory suffices
RS_WEAK int32_t rs_cuda_tensor_convolve_depthwise(rs_operation *operation, void *arguments);
RS_WEAK int32_t rs_cuda_tensor_product(rs_operation *operation, void *arguments);

RS_WEAK const rs_family *const *rs_cuda_families(int32_t device, int32_t law); // as rs_families

#ifdef __cplusplus
}
#endif
