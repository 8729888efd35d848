// inline.h: functions that C, C++ and CUDA device code share.
#pragma once

#ifdef __CUDACC__
#define RS_INLINE __host__ __device__ static inline
#else
#define RS_INLINE static inline
#endif
