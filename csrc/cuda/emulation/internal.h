// internal.h: what the parts of the emulation share.
#pragma once
#include "runtime.h"

#include <functional>
#include <mutex>

#define RS_BLOCK_THREADS 1024
#define RS_SHARED_BYTES (227 << 10)
#define RS_SHARED_DEFAULT (48 << 10) // without cudaFuncAttributeMaxDynamicSharedMemorySize

typedef std::function<void()> rs_task;

// Sets the calling thread's last error, and returns it.
cudaError_t rs_report(cudaError_t error);
int rs_device();                                             // the calling thread's
int rs_device_total();                                       // how many there are
size_t rs_shared_most();                                     // bytes of shared memory that a block may have
long long rs_setting(const char *name, long long otherwise); // of the environment

// streams.cc: every stream's work, in the order of its calls, for one worker thread. Whatever CUDA leaves undefined, this is one order
// that CUDA allows.
cudaError_t rs_submit(cudaStream_t stream, rs_task task); // queues it, or records it where the stream captures
cudaError_t rs_finish();                                  // waits for everything queued; tells a failure
cudaError_t rs_health();                                  // the failure of the calling thread's device
cudaError_t rs_unsafe_call(); // for calls that a capture forbids: an error, and the capture is broken, while there is one
bool rs_captures(cudaStream_t stream);
