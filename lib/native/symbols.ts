// Written by csrc/bindings.ts from csrc/raysum.h. Do not edit.

export const RS_ABI = 7;
export const RS_TRANSFER_BYTES = 67108864;
export const RS_MARKS = 64;
export const RS_OPTIMIZED_TENSORS = 64;
export const RS_VIEW = 13;

export const Status = {
  OK: 0,
  BUSY: 1,
  CANCELLED: 2,
  EARGUMENT: -1,
  EPOINTER: -2,
  EMEMORY: -3,
  EDEVICE: -4,
  EINTERNAL: -5,
} as const;

export const UnaryOp = {
  ABSOLUTE: 0,
  SQUARE_ROOT: 1,
  EXPONENTIAL: 2,
  LOGARITHM: 3,
  AFFINE: 4,
  CLAMP: 5,
} as const;

export const BinaryOp = {
  MULTIPLY: 0,
  DIVIDE: 1,
  MINIMUM: 2,
  MAXIMUM: 3,
} as const;

export const Reduction = {
  SUM: 0,
  DOT: 1,
  SQUARED_DIFFERENCE: 2,
  ABSOLUTE_DIFFERENCE: 3,
  SMALLEST: 4,
  LARGEST: 5,
} as const;

export const Distribution = {
  UNIFORM: 0,
  NORMAL: 1,
} as const;

export const BeamKind = {
  PARALLEL: 0,
  CONE: 1,
} as const;

export const Precision = {
  PRECISION_FLOAT32: 0,
  PRECISION_HIGH: 1,
  PRECISION_HALF: 2,
} as const;

export const Law = {
  EXACT: 0,
  ASTRA: 1,
  ASTRA_2D: 2,
} as const;

export const MemoryCounter = {
  BYTES_IN_USE: 0,
  BYTES_CACHED: 1,
  BYTES_FREE: 2,
  BYTES_TOTAL: 3,
  BYTES_PEAK: 4,
  ARRAYS_ALIVE: 5,
  PLANS_ALIVE: 6,
  DOWNLOADS_OPEN: 7,
} as const;

export const GeometryHeader = {
  BEAM: 0,
  SHAPE: 1,
  VOXEL_SIZE: 4,
  POSITION: 7,
  VIEWS: 10,
  ROWS: 11,
  COLUMNS: 12,
  DETECTOR_SUPERSAMPLING: 13,
  LAW: 14,
  VOXEL_SUPERSAMPLING: 15,
  PRECISION: 16,
  HEADER: 17,
} as const;

export const Type = {
  FLOAT32: 0,
  INT32: 1,
} as const;

export const TensorCast = {
  CAST_FLOAT_TO_INT: 0,
  CAST_INT_TO_FLOAT: 1,
  CAST_FLOAT_TO_TRUTH: 2,
  CAST_INT_TO_TRUTH: 3,
} as const;

export const TensorMap = {
  MAP_ABSOLUTE: 0,
  MAP_NEGATIVE: 1,
  MAP_SIGN: 2,
  MAP_SQUARE: 3,
  MAP_SQUARE_ROOT: 4,
  MAP_RECIPROCAL_SQUARE_ROOT: 5,
  MAP_RECIPROCAL: 6,
  MAP_EXPONENTIAL: 7,
  MAP_EXPONENTIAL_MINUS_1: 8,
  MAP_LOGARITHM: 9,
  MAP_LOGARITHM_1_PLUS: 10,
  MAP_SINE: 11,
  MAP_COSINE: 12,
  MAP_TANGENT: 13,
  MAP_HYPERBOLIC_TANGENT: 14,
  MAP_ERROR_FUNCTION: 15,
  MAP_SIGMOID: 16,
  MAP_SOFTPLUS: 17,
  MAP_RELU: 18,
  MAP_LEAKY_RELU: 19,
  MAP_ELU: 20,
  MAP_SELU: 21,
  MAP_STEP: 22,
  MAP_CLAMP: 23,
  MAP_FLOOR: 24,
  MAP_CEILING: 25,
  MAP_ROUND: 26,
  MAP_AFFINE: 27,
  MAP_NOT: 28,
} as const;

export const TensorJoin = {
  JOIN_ADD: 0,
  JOIN_SUBTRACT: 1,
  JOIN_MULTIPLY: 2,
  JOIN_DIVIDE: 3,
  JOIN_FLOOR_DIVIDE: 4,
  JOIN_MODULO: 5,
  JOIN_POWER: 6,
  JOIN_MINIMUM: 7,
  JOIN_MAXIMUM: 8,
  JOIN_SQUARED_DIFFERENCE: 9,
  JOIN_PRELU: 10,
  JOIN_RELU_GRADIENT: 11,
  JOIN_ELU_GRADIENT: 12,
  JOIN_ARC_TANGENT: 13,
  JOIN_EQUAL: 14,
  JOIN_NOT_EQUAL: 15,
  JOIN_LESS: 16,
  JOIN_LESS_EQUAL: 17,
  JOIN_GREATER: 18,
  JOIN_GREATER_EQUAL: 19,
  JOIN_AND: 20,
  JOIN_OR: 21,
  JOIN_EXCLUSIVE_OR: 22,
} as const;

export const TensorFold = {
  FOLD_SUM: 0,
  FOLD_MEAN: 1,
  FOLD_PRODUCT: 2,
  FOLD_LARGEST: 3,
  FOLD_SMALLEST: 4,
  FOLD_ALL: 5,
  FOLD_ANY: 6,
  FOLD_PLACE_OF_LARGEST: 7,
  FOLD_PLACE_OF_SMALLEST: 8,
} as const;

export const TensorConvolution = {
  CONVOLUTION: 0,
  CONVOLUTION_INPUT_GRADIENT: 1,
  CONVOLUTION_FILTER_GRADIENT: 2,
} as const;

export const ConvolutionPrecision = {
  CONVOLVE_FLOAT32: 0,
  CONVOLVE_TF32: 1,
  CONVOLVE_BF16: 2,
} as const;

export const TensorPool = {
  POOL_LARGEST: 0,
  POOL_MEAN: 1,
} as const;

export const TensorOptimization = {
  OPTIMIZE_DESCENT: 0,
  OPTIMIZE_MOMENTUM: 1,
  OPTIMIZE_NESTEROV: 2,
  OPTIMIZE_ADAM: 3,
} as const;

export const TensorResize = {
  RESIZE_LINEAR: 0,
  RESIZE_NEAREST: 1,
} as const;

export const ConvolutionShape = {
  AT_BATCH: 0,
  AT_IN: 1,
  AT_IN_CHANNELS: 4,
  AT_OUT: 5,
  AT_OUT_CHANNELS: 8,
  AT_FILTER: 9,
  AT_STRIDE: 12,
  AT_DILATION: 15,
  AT_BEFORE: 18,
  AT_PRECISION: 21,
  CONVOLUTION_NUMBERS: 22,
} as const;

export const FusedOperand = {
  FUSED_OUT: 0,
  FUSED_OUT_CHANNELS: 3,
  FUSED_A: 6,
  FUSED_A_CHANNELS: 9,
  FUSED_B: 12,
  FUSED_BIAS: 13,
  FUSED_ADD: 14,
  FUSED_MASK: 15,
  FUSED_RELU: 16,
  FUSED_HALVES: 17,
  FUSED_NUMBERS: 18,
} as const;

export const FusedHalves = {
  HALVES_A: 1,
  HALVES_OUT: 2,
  HALVES_B: 4,
  HALVES_MASK: 8,
} as const;

export const BlockOperand = {
  BLOCK_BATCH: 0,
  BLOCK_HEIGHT: 1,
  BLOCK_WIDTH: 2,
  BLOCK_PRECISION: 3,
  BLOCK_X_CHANNELS: 4,
  BLOCK_CHANNELS: 7,
  BLOCK_X: 9,
  BLOCK_FILTERS: 12,
  BLOCK_BIASES: 15,
  BLOCK_OUT: 18,
  BLOCK_KEPT: 19,
  BLOCK_HALVES: 21,
  BLOCK_NUMBERS: 22,
} as const;

export const symbols = {
  rs_abi: [],
  rs_error: ["buffer", "i32"],
  rs_device_count: ["buffer"],
  rs_device_name: ["i32", "buffer", "i32", "buffer"],
  rs_device_missing: ["buffer", "i32", "buffer"],
  rs_threads: ["i32", "i32", "buffer"],
  rs_stream: ["i32", "i64"],
  rs_memory: ["i32", "buffer"],
  rs_memory_trim: ["i32"],
  rs_record: ["i32", "buffer"],
  rs_query: ["i32", "i64"],
  rs_wait: ["i32", "i64"],
  rs_cancel: ["i32", "i64", "i64", "i32"],
  rs_mark: ["i32", "buffer"],
  rs_elapsed: ["i32", "i64", "i64", "buffer"],
  rs_capture_begin: ["i32", "buffer"],
  rs_capture_end: ["i64"],
  rs_capture_run: ["i64"],
  rs_capture_free: ["i64"],
  rs_allocate: ["i32", "i64", "buffer"],
  rs_free: ["i64"],
  rs_adopt: ["i32", "i64", "i64", "buffer"],
  rs_upload: ["i64", "buffer", "i64"],
  rs_download_begin: ["i64", "i64", "buffer"],
  rs_download_end: ["i64", "buffer", "i64"],
  rs_copy: ["i64", "i64", "i64"],
  rs_copy_strided: ["i64", "i64", "buffer", "buffer", "buffer"],
  rs_fill: ["i64", "i64", "f64"],
  rs_unary: ["i32", "i64", "i64", "i64", "f64", "f64"],
  rs_binary: ["i32", "i64", "i64", "i64", "i64", "i64"],
  rs_combine: ["i64", "f64", "i64", "f64", "i64", "i64", "i64"],
  rs_multiply_add: ["i64", "f64", "i64", "i64", "i64", "i64"],
  rs_reciprocal: ["i64", "i64", "i64", "f64", "f64"],
  rs_reduce: ["i32", "i64", "i64", "i64", "i64"],
  rs_random: ["i32", "i64", "i64", "i64", "f64", "f64"],
  rs_plan_create: ["i32", "buffer", "i64", "buffer"],
  rs_plan_free: ["i64"],
  rs_plan_name: ["i64", "buffer", "i32", "buffer"],
  rs_forward: ["i64", "i64", "i64", "i64", "i32"],
  rs_back: ["i64", "i64", "i64", "i64", "i32"],
  rs_plan_alike: ["i64", "buffer", "buffer"],
  rs_residual: ["i64", "i64", "i64", "i64", "i64", "i32", "i64", "i64"],
  rs_update: ["i64", "i64", "i64", "i64", "i32", "f64", "f64", "f64", "i64"],
  rs_tensor_fill: ["i32", "i64", "i64", "f64"],
  rs_tensor_cast: ["i32", "i64", "i64", "i64"],
  rs_tensor_map: ["i32", "i32", "i64", "i64", "i64", "f64", "f64"],
  rs_tensor_join: ["i32", "i32", "i64", "i64", "i64", "i32", "buffer"],
  rs_tensor_select: ["i64", "i64", "i64", "i64", "i32", "buffer"],
  rs_tensor_copy: ["i64", "i64", "i32", "buffer"],
  rs_tensor_fold: ["i32", "i32", "i64", "i64", "i64", "i64", "i64"],
  rs_tensor_softmax: ["i64", "i64", "i64", "i64"],
  rs_tensor_gather: ["i64", "i64", "i64", "i64", "i64", "i64", "i64", "i64"],
  rs_tensor_segment_sum: ["i32", "i64", "i64", "i64", "i64", "i64", "i64"],
  rs_tensor_product: ["i64", "i64", "i64", "buffer", "i32", "i32"],
  rs_tensor_convolve: ["i32", "i64", "i64", "i64", "buffer"],
  rs_tensor_convolve_fused: ["i32", "buffer", "buffer"],
  rs_tensor_residual_block: ["buffer"],
  rs_tensor_residual_block_fits: ["i32", "buffer", "buffer"],
  rs_tensor_convolve_depthwise: ["i32", "i64", "i64", "i64", "buffer"],
  rs_tensor_pool: ["i32", "i64", "i64", "buffer"],
  rs_tensor_pool_gradient: ["i32", "i64", "i64", "i64", "buffer"],
  rs_tensor_resize: ["i32", "i64", "i64", "buffer", "i32", "i32"],
  rs_tensor_resize_gradient: ["i32", "i64", "i64", "buffer", "i32", "i32"],
  rs_tensor_normalize: ["i64", "i64", "i64", "i64", "i64", "i64", "i64", "i64", "f64"],
  rs_tensor_optimize: ["i32", "i32", "buffer", "i64", "i32", "f64", "f64", "f64"],
} as const;
