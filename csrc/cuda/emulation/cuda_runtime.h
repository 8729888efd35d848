// cuda_runtime.h: CUDA on the CPU, for tests only.
//
// Compiled by g++ with this folder first in its include path, the .cu files of the project become a library whose device "cuda:0" is
// emulated: blocks run one after the other, the threads of a block as fibers (fibers.cc, block.cc), and the runtime's calls are queued
// for one worker thread (runtime.cc). So a machine without a GPU can run every test of the kernels, also under address sanitizer.
// It is test equipment: it says whether kernels are right, nothing of how fast they are, and it covers what this project uses.
//
// Stricter than hardware, so that mistakes show:
//  - device memory and dynamic shared memory are NaN (all bits set) until written;
//  - threads run in rising order in one stretch between barriers and in falling order in the next, so that a missing barrier shows;
//  - __syncthreads at different places of the source, or with threads that have returned, fails the launch, as does a warp operation
//    that some lane of its mask never reaches: cudaGetErrorString names both threads;
//  - threads that wait for an mbarrier (rs_arrival) that nobody completes fail the launch, too;
//  - there are no atomics on floating-point numbers, whose results would depend on the order.
// Not emulated: <<<>>> (use RS_LAUNCH), textures, inline PTX, clusters, cooperative groups, blocks that wait for one another.
#pragma once
#include "vectors.h"
#include "intrinsics.h"
#include "runtime.h"
#include "threads.h"
