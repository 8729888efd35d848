// Written by csrc/bindings.ts from csrc/raysum.h. Do not edit.

export const RS_ABI = 3;
export const RS_TRANSFER_BYTES = 67108864;
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
  HEADER: 16,
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
  rs_residual: ["i64", "i64", "i64", "i64", "i64", "i64", "i64"],
  rs_update: ["i64", "i64", "i64", "i64", "f64", "f64", "f64", "i64"],
} as const;
