// raysum.h: the whole ABI of the native library, CPU build and CUDA build alike.
//
// bindings.ts generates lib/native/symbols.ts from this file, so every function is one line: RS_API int32_t name(...); // comment
// Argument kinds: int32_t, int64_t, double, and pointers to the caller's buffer, which is read or written during the call only.
// Every function returns a status: 0 done, above 0 a state, below 0 an error whose sentence rs_error() hands out.
//
// A device pointer is an int64_t: the low 48 bits are the address, the bits above are the generation of its allocation.
// Adding an offset inside the allocation is legal. Every function checks every device pointer (alive, same device, enough bytes
// left) before anything is queued. Functions that take device pointers queue their work, in order, and return.
// Device 0 is the CPU, device 1 the first GPU.
//
// Arrays are float32 in C order. Volumes are (z, y, x); projections are (row, view, column); a batch is an extra leading dimension.
// One declaration a line is what bindings.ts reads.
// clang-format off
#pragma once
#include <stdint.h>

#ifdef __cplusplus
#define RS_API extern "C" __attribute__((visibility("default")))
#else
#define RS_API __attribute__((visibility("default")))
#endif

#define RS_ABI 3
#define RS_TRANSFER_BYTES 67108864 // the most bytes that one upload or download moves
#define RS_VIEW 13 // numbers that describe one view to rs_plan_create

enum rs_status { RS_OK = 0, RS_BUSY = 1, RS_CANCELLED = 2, RS_EARGUMENT = -1, RS_EPOINTER = -2, RS_EMEMORY = -3, RS_EDEVICE = -4, RS_EINTERNAL = -5 };
enum rs_unary_op { RS_ABSOLUTE = 0, RS_SQUARE_ROOT = 1, RS_EXPONENTIAL = 2, RS_LOGARITHM = 3, RS_AFFINE = 4, RS_CLAMP = 5 };
enum rs_binary_op { RS_MULTIPLY = 0, RS_DIVIDE = 1, RS_MINIMUM = 2, RS_MAXIMUM = 3 };
enum rs_reduction { RS_SUM = 0, RS_DOT = 1, RS_SQUARED_DIFFERENCE = 2, RS_ABSOLUTE_DIFFERENCE = 3, RS_SMALLEST = 4, RS_LARGEST = 5 };
enum rs_distribution { RS_UNIFORM = 0, RS_NORMAL = 1 };
enum rs_beam_kind { RS_PARALLEL = 0, RS_CONE = 1 };
enum rs_law { RS_EXACT = 0, RS_ASTRA = 1, RS_ASTRA_2D = 2 }; // Joseph and its transpose; what ASTRA's 3D or 2D CUDA projectors compute

// What rs_memory writes: eight int64_t.
enum rs_memory_counter { RS_BYTES_IN_USE = 0, RS_BYTES_CACHED = 1, RS_BYTES_FREE = 2, RS_BYTES_TOTAL = 3, RS_BYTES_PEAK = 4, RS_ARRAYS_ALIVE = 5, RS_PLANS_ALIVE = 6, RS_DOWNLOADS_OPEN = 7 };

// The geometry that rs_plan_create reads: RS_HEADER numbers at these places, then RS_VIEW numbers a view: four vectors (z, y, x),
// ray direction (parallel) or source position (cone) | detector centre | v: one row up | u: one column sideways, and a radius: 0 for a
// flat detector. Above 0 the detector of a cone beam is part of a cylinder of that radius, which touches the plane of u and v in the
// detector's centre; its axis is parallel to v, on the source's side, and its columns are |u| apart along the arc.
enum rs_geometry_header { RS_BEAM = 0, RS_SHAPE = 1, RS_VOXEL_SIZE = 4, RS_POSITION = 7, RS_VIEWS = 10, RS_ROWS = 11, RS_COLUMNS = 12, RS_DETECTOR_SUPERSAMPLING = 13, RS_LAW = 14, RS_VOXEL_SUPERSAMPLING = 15, RS_HEADER = 16 };

// Library and devices
RS_API int32_t rs_abi(void); // RS_ABI of the library
RS_API int32_t rs_error(uint8_t *text, int32_t capacity); // copies the calling thread's last error sentence (UTF-8, not terminated) and returns its length
RS_API int32_t rs_device_count(int32_t *count); // devices are numbered 0 ... count - 1
RS_API int32_t rs_device_name(int32_t device, uint8_t *text, int32_t capacity, int32_t *length); // for people, e.g. "CPU, 2 threads, avx512"
RS_API int32_t rs_device_missing(uint8_t *text, int32_t capacity, int32_t *length); // why there is no CUDA device, in a sentence; empty where there is one
RS_API int32_t rs_threads(int32_t device, int32_t count, int32_t *threads); // sets the number of threads of a CPU device where count > 0; writes the number in force
RS_API int32_t rs_stream(int32_t device, int64_t stream); // a GPU works on this cudaStream_t of the caller from now on; 0: on its own again
RS_API int32_t rs_memory(int32_t device, int64_t *counters); // eight numbers, see rs_memory_counter
RS_API int32_t rs_memory_trim(int32_t device); // waits for the queue, then gives cached memory back to the system

// The queue of a device
RS_API int32_t rs_record(int32_t device, int64_t *event); // the number of the last call queued; numbers rise
RS_API int32_t rs_query(int32_t device, int64_t event); // RS_OK once everything up to event is done, RS_BUSY before, or the error of queued work (told once)
RS_API int32_t rs_wait(int32_t device, int64_t event); // the same, blocking
RS_API int32_t rs_cancel(int32_t device, int64_t first, int64_t last, int32_t leave_whole); // drops queued work first ... last; what it would have written is unspecified; leave_whole lets a running call that changes its output in place finish

// Memory
RS_API int32_t rs_allocate(int32_t device, int64_t bytes, int64_t *pointer); // contents unspecified
RS_API int32_t rs_free(int64_t pointer); // in queue order: work queued before keeps its memory
RS_API int32_t rs_adopt(int32_t device, int64_t address, int64_t bytes, int64_t *pointer); // registers memory of another owner, who keeps it alive until it was freed here and the queue has passed
RS_API int32_t rs_upload(int64_t pointer, const void *source, int64_t bytes); // at most RS_TRANSFER_BYTES; source is copied before the call returns; RS_BUSY: too much is staged, ask again
RS_API int32_t rs_download_begin(int64_t pointer, int64_t bytes, int64_t *download); // at most RS_TRANSFER_BYTES; queues a copy of what the array holds at this point of the queue
RS_API int32_t rs_download_end(int64_t download, void *target, int64_t bytes); // RS_BUSY until the copy is there; bytes 0 drops it instead
RS_API int32_t rs_copy(int64_t target, int64_t source, int64_t bytes); // same device; the ranges must not overlap
RS_API int32_t rs_copy_strided(int64_t target, int64_t source, const int64_t *shape, const int64_t *target_strides, const int64_t *source_strides); // four dimensions, floats, strides in elements >= 0

// Elementwise: out may be an input, but must not overlap one otherwise. b repeats every `period` elements (period = count: no repetition).
RS_API int32_t rs_fill(int64_t out, int64_t count, double value); // out = value
RS_API int32_t rs_unary(int32_t op, int64_t out, int64_t a, int64_t count, double p, double q); // RS_AFFINE: p a + q; RS_CLAMP: into [p, q]
RS_API int32_t rs_binary(int32_t op, int64_t out, int64_t a, int64_t b, int64_t count, int64_t period); // out = a op b
RS_API int32_t rs_combine(int64_t out, double alpha, int64_t a, double beta, int64_t b, int64_t count, int64_t period); // out = alpha a + beta b
RS_API int32_t rs_multiply_add(int64_t out, double alpha, int64_t a, int64_t b, int64_t count, int64_t period); // out = out + alpha a b
RS_API int32_t rs_reciprocal(int64_t out, int64_t a, int64_t count, double absolute, double relative); // 1 / a, and 0 where a <= max(absolute, relative * largest a)
RS_API int32_t rs_reduce(int32_t op, int64_t out, int64_t a, int64_t b, int64_t count); // writes one float64 to out; b is 0 where the reduction has one operand
RS_API int32_t rs_random(int32_t distribution, int64_t out, int64_t count, int64_t seed, double p, double q); // RS_UNIFORM in [p, q), RS_NORMAL with mean p and deviation q; Philox4x32-10

// Projection. `norm` is 0 or a device pointer to one float64 per batch item.
RS_API int32_t rs_plan_create(int32_t device, const double *geometry, int64_t count, int64_t *plan); // see rs_geometry_header; owns its tables and workspace
RS_API int32_t rs_plan_free(int64_t plan); // in queue order
RS_API int32_t rs_plan_name(int64_t plan, uint8_t *text, int32_t capacity, int32_t *length); // which kernels, for people
RS_API int32_t rs_forward(int64_t plan, int64_t projections, int64_t volume, int64_t batch, int32_t accumulate); // projections = A volume, or += with accumulate
RS_API int32_t rs_back(int64_t plan, int64_t volume, int64_t projections, int64_t batch, int32_t accumulate); // volume = A^T projections, or +=; A^T is the transpose in law RS_EXACT only
RS_API int32_t rs_residual(int64_t plan, int64_t out, int64_t volume, int64_t measured, int64_t weights, int64_t batch, int64_t norm); // out = weights (measured - A volume); norm = sum of (measured - A volume)^2 where weights > 0
RS_API int32_t rs_update(int64_t plan, int64_t volume, int64_t projections, int64_t scale, double relaxation, double minimum, double maximum, int64_t batch); // volume = clamp(volume + relaxation scale A^T projections)
