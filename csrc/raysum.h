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

#define RS_ABI 7
#define RS_TRANSFER_BYTES 67108864 // the most bytes that one upload or download moves
#define RS_MARKS 64 // that a device remembers
#define RS_OPTIMIZED_TENSORS 64 // the most that one call of rs_tensor_optimize takes
#define RS_VIEW 13 // numbers that describe one view to rs_plan_create

enum rs_status { RS_OK = 0, RS_BUSY = 1, RS_CANCELLED = 2, RS_EARGUMENT = -1, RS_EPOINTER = -2, RS_EMEMORY = -3, RS_EDEVICE = -4, RS_EINTERNAL = -5 };
enum rs_unary_op { RS_ABSOLUTE = 0, RS_SQUARE_ROOT = 1, RS_EXPONENTIAL = 2, RS_LOGARITHM = 3, RS_AFFINE = 4, RS_CLAMP = 5 };
enum rs_binary_op { RS_MULTIPLY = 0, RS_DIVIDE = 1, RS_MINIMUM = 2, RS_MAXIMUM = 3 };
enum rs_reduction { RS_SUM = 0, RS_DOT = 1, RS_SQUARED_DIFFERENCE = 2, RS_ABSOLUTE_DIFFERENCE = 3, RS_SMALLEST = 4, RS_LARGEST = 5 };
enum rs_distribution { RS_UNIFORM = 0, RS_NORMAL = 1 };
enum rs_beam_kind { RS_PARALLEL = 0, RS_CONE = 1 };
// How exact the sums of a projection are at least: relative L2 error and adjoint gap of 2e-6, 1e-5 or 5e-4. Less lets tensor cores work.
enum rs_precision { RS_PRECISION_FLOAT32 = 0, RS_PRECISION_HIGH = 1, RS_PRECISION_HALF = 2 };
enum rs_law { RS_EXACT = 0, RS_ASTRA = 1, RS_ASTRA_2D = 2 }; // Joseph and its transpose; what ASTRA's 3D or 2D CUDA projectors compute

// What rs_memory writes: eight int64_t.
enum rs_memory_counter { RS_BYTES_IN_USE = 0, RS_BYTES_CACHED = 1, RS_BYTES_FREE = 2, RS_BYTES_TOTAL = 3, RS_BYTES_PEAK = 4, RS_ARRAYS_ALIVE = 5, RS_PLANS_ALIVE = 6, RS_DOWNLOADS_OPEN = 7 };

// The geometry that rs_plan_create reads: RS_HEADER numbers at these places, then RS_VIEW numbers a view: four vectors (z, y, x),
// ray direction (parallel) or source position (cone) | detector centre | v: one row up | u: one column sideways, and a radius: 0 for a
// flat detector. Above 0 the detector of a cone beam is part of a cylinder of that radius, which touches the plane of u and v in the
// detector's centre; its axis is parallel to v, on the source's side, and its columns are |u| apart along the arc.
enum rs_geometry_header { RS_BEAM = 0, RS_SHAPE = 1, RS_VOXEL_SIZE = 4, RS_POSITION = 7, RS_VIEWS = 10, RS_ROWS = 11, RS_COLUMNS = 12, RS_DETECTOR_SUPERSAMPLING = 13, RS_LAW = 14, RS_VOXEL_SUPERSAMPLING = 15, RS_PRECISION = 16, RS_HEADER = 17 };

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
RS_API int32_t rs_mark(int32_t device, int64_t *mark); // marks this point of the queue, for rs_elapsed; numbers rise by 1; a device remembers its last RS_MARKS
RS_API int32_t rs_elapsed(int32_t device, int64_t first, int64_t last, double *milliseconds); // between the moments at which the queue got to two marks; RS_BUSY before it is at the last, or the error of queued work (told once)

// Captures: what is called between begin and end on one device is recorded, not done, and can be done again and again. A capture keeps
// all memory and plans that it touches, freed or not, until it is freed itself; memory that it allocates stays its own. While it
// records, waiting, polling, downloads, uploads of more than 4096 bytes (small ones become constants), random numbers and new plans
// are refused.
RS_API int32_t rs_capture_begin(int32_t device, int64_t *capture); // one records at a time
RS_API int32_t rs_capture_end(int64_t capture); // from here on calls are done again
RS_API int32_t rs_capture_run(int64_t capture); // queues everything that was recorded
RS_API int32_t rs_capture_free(int64_t capture); // in queue order; while it records, this ends it

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
RS_API int32_t rs_plan_alike(int64_t plan, int32_t *rows, int32_t *slices); // 1 where all rows (slices) have the same sums of A, so that they can share their weights: `shared` below
RS_API int32_t rs_residual(int64_t plan, int64_t out, int64_t volume, int64_t measured, int64_t weights, int32_t shared, int64_t batch, int64_t norm); // out = weights (measured - A volume); norm = sum of (measured - A volume)^2 where weights > 0; shared: weights of one row, for all
RS_API int32_t rs_update(int64_t plan, int64_t volume, int64_t projections, int64_t scale, int32_t shared, double relaxation, double minimum, double maximum, int64_t batch); // volume = clamp(volume + relaxation scale A^T projections); shared: scale of one slice, for all

// Tensors: what networks need. An element is 4 bytes: float32, or int32 (truth values are int32 0 and 1). Shapes in C order; images
// have their channels last. Unless said otherwise out may be an input, element for element, and must not overlap one in another way.
enum rs_type { RS_FLOAT32 = 0, RS_INT32 = 1 };
enum rs_tensor_cast { RS_CAST_FLOAT_TO_INT = 0, RS_CAST_INT_TO_FLOAT = 1, RS_CAST_FLOAT_TO_TRUTH = 2, RS_CAST_INT_TO_TRUTH = 3 };
enum rs_tensor_map { RS_MAP_ABSOLUTE = 0, RS_MAP_NEGATIVE = 1, RS_MAP_SIGN = 2, RS_MAP_SQUARE = 3, RS_MAP_SQUARE_ROOT = 4, RS_MAP_RECIPROCAL_SQUARE_ROOT = 5, RS_MAP_RECIPROCAL = 6, RS_MAP_EXPONENTIAL = 7, RS_MAP_EXPONENTIAL_MINUS_1 = 8, RS_MAP_LOGARITHM = 9, RS_MAP_LOGARITHM_1_PLUS = 10, RS_MAP_SINE = 11, RS_MAP_COSINE = 12, RS_MAP_TANGENT = 13, RS_MAP_HYPERBOLIC_TANGENT = 14, RS_MAP_ERROR_FUNCTION = 15, RS_MAP_SIGMOID = 16, RS_MAP_SOFTPLUS = 17, RS_MAP_RELU = 18, RS_MAP_LEAKY_RELU = 19, RS_MAP_ELU = 20, RS_MAP_SELU = 21, RS_MAP_STEP = 22, RS_MAP_CLAMP = 23, RS_MAP_FLOOR = 24, RS_MAP_CEILING = 25, RS_MAP_ROUND = 26, RS_MAP_AFFINE = 27, RS_MAP_NOT = 28 };
enum rs_tensor_join { RS_JOIN_ADD = 0, RS_JOIN_SUBTRACT = 1, RS_JOIN_MULTIPLY = 2, RS_JOIN_DIVIDE = 3, RS_JOIN_FLOOR_DIVIDE = 4, RS_JOIN_MODULO = 5, RS_JOIN_POWER = 6, RS_JOIN_MINIMUM = 7, RS_JOIN_MAXIMUM = 8, RS_JOIN_SQUARED_DIFFERENCE = 9, RS_JOIN_PRELU = 10, RS_JOIN_RELU_GRADIENT = 11, RS_JOIN_ELU_GRADIENT = 12, RS_JOIN_ARC_TANGENT = 13, RS_JOIN_EQUAL = 14, RS_JOIN_NOT_EQUAL = 15, RS_JOIN_LESS = 16, RS_JOIN_LESS_EQUAL = 17, RS_JOIN_GREATER = 18, RS_JOIN_GREATER_EQUAL = 19, RS_JOIN_AND = 20, RS_JOIN_OR = 21, RS_JOIN_EXCLUSIVE_OR = 22 };
enum rs_tensor_fold { RS_FOLD_SUM = 0, RS_FOLD_MEAN = 1, RS_FOLD_PRODUCT = 2, RS_FOLD_LARGEST = 3, RS_FOLD_SMALLEST = 4, RS_FOLD_ALL = 5, RS_FOLD_ANY = 6, RS_FOLD_PLACE_OF_LARGEST = 7, RS_FOLD_PLACE_OF_SMALLEST = 8 };
enum rs_tensor_convolution { RS_CONVOLUTION = 0, RS_CONVOLUTION_INPUT_GRADIENT = 1, RS_CONVOLUTION_FILTER_GRADIENT = 2 };
enum rs_convolution_precision { RS_CONVOLVE_FLOAT32 = 0, RS_CONVOLVE_TF32 = 1, RS_CONVOLVE_BF16 = 2 }; // what GPUs round factors to; sums are float32
enum rs_tensor_pool { RS_POOL_LARGEST = 0, RS_POOL_MEAN = 1 };
enum rs_tensor_optimization { RS_OPTIMIZE_DESCENT = 0, RS_OPTIMIZE_MOMENTUM = 1, RS_OPTIMIZE_NESTEROV = 2, RS_OPTIMIZE_ADAM = 3 };
enum rs_tensor_resize { RS_RESIZE_LINEAR = 0, RS_RESIZE_NEAREST = 1 };
// A convolution's shape: numbers at these places. Axes are (z, y, x), z of extent 1 in two dimensions; BEFORE is the zeros in front.
// PRECISION is a wish: a GPU follows it in two dimensions, with stride and dilation 1 and filters up to 3 x 3, and computes in float32 otherwise.
enum rs_convolution_shape { RS_AT_BATCH = 0, RS_AT_IN = 1, RS_AT_IN_CHANNELS = 4, RS_AT_OUT = 5, RS_AT_OUT_CHANNELS = 8, RS_AT_FILTER = 9, RS_AT_STRIDE = 12, RS_AT_DILATION = 15, RS_AT_BEFORE = 18, RS_AT_PRECISION = 21, RS_CONVOLUTION_NUMBERS = 22 };
// What rs_tensor_convolve_fused works on: device pointers, counts of channels, whether there is a RELU, and which arrays are HALVES, at these places.
enum rs_fused_operand { RS_FUSED_OUT = 0, RS_FUSED_OUT_CHANNELS = 3, RS_FUSED_A = 6, RS_FUSED_A_CHANNELS = 9, RS_FUSED_B = 12, RS_FUSED_BIAS = 13, RS_FUSED_ADD = 14, RS_FUSED_MASK = 15, RS_FUSED_RELU = 16, RS_FUSED_HALVES = 17, RS_FUSED_NUMBERS = 18 };
enum rs_fused_halves { RS_HALVES_A = 1, RS_HALVES_OUT = 2, RS_HALVES_B = 4, RS_HALVES_MASK = 8 }; // added up: arrays that hold bf16 numbers, two in the room of a float; in precision BF16, one array, channels a multiple of 8
// What rs_tensor_residual_block works on: extents, precision, counts of channels of x (three, 0: none) and of the two activations, then device
// pointers: x, filters, biases (0: none), the result and the activations, each of which may be 0. Those are bf16 numbers with HALVES, and begin
// at a multiple of 16 bytes.
enum rs_block_operand { RS_BLOCK_BATCH = 0, RS_BLOCK_HEIGHT = 1, RS_BLOCK_WIDTH = 2, RS_BLOCK_PRECISION = 3, RS_BLOCK_X_CHANNELS = 4, RS_BLOCK_CHANNELS = 7, RS_BLOCK_X = 9, RS_BLOCK_FILTERS = 12, RS_BLOCK_BIASES = 15, RS_BLOCK_OUT = 18, RS_BLOCK_KEPT = 19, RS_BLOCK_HALVES = 21, RS_BLOCK_NUMBERS = 22 };

RS_API int32_t rs_tensor_fill(int32_t type, int64_t out, int64_t count, double value); // out = value
RS_API int32_t rs_tensor_cast(int32_t cast, int64_t out, int64_t a, int64_t count); // floats become integers as in JavaScript: towards 0, modulo 2^32
RS_API int32_t rs_tensor_map(int32_t op, int32_t type, int64_t out, int64_t a, int64_t count, double p, double q); // out = op(a); p is the slope of LEAKY_RELU, the value of STEP below 0, the bounds of CLAMP are p and q, AFFINE is p a + q
RS_API int32_t rs_tensor_join(int32_t op, int32_t type, int64_t out, int64_t a, int64_t b, int32_t rank, const int64_t *table); // out = a op b; comparisons give int32; table: extents, strides of out, of a, of b, in elements, rank at most 6; strides may be negative, each element of out is written at most once
RS_API int32_t rs_tensor_select(int64_t out, int64_t condition, int64_t a, int64_t b, int32_t rank, const int64_t *table); // out = condition ? a : b; table: extents, strides of condition, of a, of b
RS_API int32_t rs_tensor_copy(int64_t out, int64_t a, int32_t rank, const int64_t *table); // table: extents, strides of out, of a, as in rs_tensor_join
RS_API int32_t rs_tensor_fold(int32_t op, int32_t type, int64_t out, int64_t a, int64_t outer, int64_t axis, int64_t inner); // [outer, axis, inner] to [outer, inner], in float64; the last two write int32 places; out is apart from a
RS_API int32_t rs_tensor_softmax(int64_t out, int64_t a, int64_t rows, int64_t columns); // along columns
RS_API int32_t rs_tensor_gather(int64_t out, int64_t a, int64_t index, int64_t batch, int64_t outer, int64_t axis, int64_t inner, int64_t picks); // a [batch, outer, axis, inner], index [batch, picks], out [batch, outer, picks, inner]; a number outside the axis picks zeros; out is apart
RS_API int32_t rs_tensor_segment_sum(int32_t type, int64_t out, int64_t a, int64_t index, int64_t rows, int64_t inner, int64_t segments); // out [segments, inner] = sums of the rows of a [rows, inner] with that index; out is apart
RS_API int32_t rs_tensor_product(int64_t out, int64_t a, int64_t b, const int64_t *shape, int32_t transpose_a, int32_t transpose_b); // out [batch, m, n] = a [batch_a, m, k] b [batch_b, k, n]; shape: batch, m, n, k, batch_a, batch_b, the latter repeat; a [k, m] or b [n, k] where transposed; out is apart
RS_API int32_t rs_tensor_convolve(int32_t kind, int64_t out, int64_t a, int64_t b, const int64_t *shape); // convolution: a input, b filter; gradient of the input: a output's gradient, b filter; of the filter: a input, b output's gradient; out is apart
RS_API int32_t rs_tensor_convolve_fused(int32_t kind, const int64_t *operands, const int64_t *shape); // the same on a GPU, where PRECISION is followed: up to three arrays A (0: none), their channels one after the other, are input or output's gradient; the result is likewise split into arrays OUT; to it BIAS [channels] and ADD (the shape of the first OUT) are added, then it is cut off at 0 with RELU, then set to 0 where MASK (its shape, one OUT, which may be OUT itself) is not above 0; each of them may be 0; the gradient of the filter takes none of these
RS_API int32_t rs_tensor_residual_block(const int64_t *block); // on a GPU, with the results of three calls of rs_tensor_convolve_fused in one kernel: x[0] + the third of three 3 x 3 convolutions of all x with ReLU between them, zeros outside the image; writes whichever of the result and the activations is there
RS_API int32_t rs_tensor_residual_block_fits(int32_t device, const int64_t *block, int32_t *fits); // whether a device has that kernel (1 or 0), for all but the pointers: x of 8 channels in all at most, activations of 8, 16, 24 or 32, precision tf32 or bf16, and 227 KiB (tf32) or 126 KiB (bf16) of shared memory
RS_API int32_t rs_tensor_convolve_depthwise(int32_t kind, int64_t out, int64_t a, int64_t b, const int64_t *shape); // the same, each channel apart: filter [..., in channels, multiplier], output channel = channel * multiplier + i
RS_API int32_t rs_tensor_pool(int32_t op, int64_t out, int64_t a, const int64_t *shape); // over windows, without what lies outside the input; out is apart
RS_API int32_t rs_tensor_pool_gradient(int32_t op, int64_t out, int64_t a, int64_t b, const int64_t *shape); // of the input; a is the output's gradient, b the input (0 for MEAN, whose gradient is spread over the whole window, inside the input or not); out is apart
RS_API int32_t rs_tensor_resize(int32_t op, int64_t out, int64_t a, const int64_t *shape, int32_t align_corners, int32_t half_pixel_centres); // shape: batch, in rows, in columns, out rows, out columns, channels; out is apart
RS_API int32_t rs_tensor_resize_gradient(int32_t op, int64_t out, int64_t a, const int64_t *shape, int32_t align_corners, int32_t half_pixel_centres); // the transpose: a has the rows and columns of the result, out those of the input
RS_API int32_t rs_tensor_normalize(int64_t out, int64_t a, int64_t mean, int64_t variance, int64_t offset, int64_t scale, int64_t count, int64_t channels, double epsilon); // scale (a - mean) / sqrt(variance + epsilon) + offset, each per channel; scale and offset may be 0
RS_API int32_t rs_tensor_optimize(int32_t op, int32_t tensors, const int64_t *table, int64_t state, int32_t advance, double beta1, double beta2, double epsilon); // a step of an optimizer in place, on up to RS_OPTIMIZED_TENSORS tensors; table: for each its parameters, its first (momentum, or mean of gradients) and second (mean of their squares) moments, where the optimizer has them, its gradient, and its count of elements; state: float64 rate, beta1^step, beta2^step, on the device; advance counts the step first; beta1 is the share of MOMENTUM, too
