// streams.cc: streams, events, graphs and launches, carried out in order by a worker thread.
#include "internal.h"
#include "threads.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

struct rs_capture {
  std::vector<rs_task> tasks;
  cudaStream_t origin;
  cudaStreamCaptureMode mode;
  std::thread::id thread;
  bool broken;
};
struct CUstream_st {
  int device;
  bool blocking;
  uint64_t last; // number of its last task
  std::shared_ptr<rs_capture> capture;
};
struct CUevent_st {
  int device;
  bool timing;
  uint64_t last; // number of the task that ends it
  bool asked;    // since it was recorded
  std::shared_ptr<double> time;
  std::shared_ptr<rs_capture> capture; // recorded in a capture
};
struct CUgraph_st {
  std::vector<rs_task> tasks;
};
struct CUgraphExec_st {
  std::shared_ptr<const std::vector<rs_task>> tasks;
};

namespace {
struct line_of_work {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::pair<int, rs_task>> tasks; // of a device
  uint64_t submitted = 0, finished = 0;
  bool started = false;
  std::map<int, std::pair<cudaError_t, std::string>> failures; // of devices, until cudaDeviceReset, as a CUDA context is lost
  std::set<cudaStream_t> streams;
  std::set<std::shared_ptr<rs_capture>> captures;
  std::map<int, CUstream_st> default_streams;
};
// Never destroyed: the worker may still be busy while the process ends.
line_of_work &work = *new line_of_work;
thread_local cudaError_t last_error;
typedef std::unique_lock<std::mutex> locked;

void run_work() {
  locked lock(work.mutex);
  for (;;) {
    work.changed.wait(lock, [] { return !work.tasks.empty(); });
    auto [device, task] = std::move(work.tasks.front());
    work.tasks.pop_front();
    bool skip = work.failures.count(device);
    lock.unlock();
    if (!skip) task();
    task = nullptr;
    lock.lock();
    work.finished++;
    work.changed.notify_all();
  }
}

// With the lock held, as all below
cudaStream_t find(cudaStream_t stream) {
  if (stream) return work.streams.count(stream) ? stream : nullptr;
  CUstream_st &own = work.default_streams[rs_device()];
  own.device = rs_device();
  own.blocking = true;
  return &own;
}

uint64_t push(int device, rs_task task) {
  if (!work.started) {
    std::thread(run_work).detach();
    work.started = true;
  }
  work.tasks.emplace_back(device, std::move(task));
  work.changed.notify_all();
  return ++work.submitted;
}

// Every call then waits until it is carried out.
bool blocking() {
#if defined(__SANITIZE_ADDRESS__)
  return true; // memory.c counts on it
#else
  static const bool wanted = getenv("CUDA_LAUNCH_BLOCKING") && atoi(getenv("CUDA_LAUNCH_BLOCKING"));
  return wanted;
#endif
}

cudaError_t health(int device) {
  auto failure = work.failures.find(device);
  return failure == work.failures.end() ? cudaSuccess : failure->second.first;
}

cudaError_t wait_until(locked &lock, int device, uint64_t number) {
  work.changed.wait(lock, [number] { return work.finished >= number; });
  return health(device);
}

cudaError_t query(int device, uint64_t number) { return work.finished < number ? cudaErrorNotReady : health(device); }

cudaError_t submit(cudaStream_t stream, rs_task task, bool whole_device_stream) {
  if (cudaError_t failure = health(stream->device)) return failure;
  if (stream->capture) {
    if (stream->capture->broken) return cudaErrorStreamCaptureInvalidated;
    stream->capture->tasks.push_back(std::move(task));
    return cudaSuccess;
  }
  for (const auto &capture : work.captures) {
    if (!whole_device_stream || !capture->origin->blocking || capture->origin->device != stream->device) continue;
    capture->broken = true; // the default stream waits for the captured one
    return cudaErrorStreamCaptureImplicit;
  }
  stream->last = push(stream->device, std::move(task));
  if (blocking()) {
    uint64_t number = stream->last;
    locked lock(work.mutex, std::adopt_lock);
    work.changed.wait(lock, [number] { return work.finished >= number; });
    lock.release();
  }
  return cudaSuccess;
}

cudaError_t unsafe_call() {
  for (const auto &capture : work.captures) {
    bool forbidden = capture->mode == cudaStreamCaptureModeGlobal ||
                     (capture->mode == cudaStreamCaptureModeThreadLocal && capture->thread == std::this_thread::get_id());
    if (!forbidden) continue;
    capture->broken = true;
    return cudaErrorStreamCaptureUnsupported;
  }
  return cudaSuccess;
}
} // namespace

// Errors
cudaError_t rs_report(cudaError_t error) {
  if (error) last_error = error;
  return error;
}

cudaError_t cudaPeekAtLastError() {
  locked lock(work.mutex);
  return last_error ? last_error : health(rs_device());
}

cudaError_t cudaGetLastError() {
  locked lock(work.mutex);
  cudaError_t error = last_error ? last_error : health(rs_device());
  last_error = cudaSuccess;
  return error;
}

#define RS_ERRORS(X)                                                                                                \
  X(cudaSuccess, "no error")                                                                                        \
  X(cudaErrorInvalidValue, "invalid argument")                                                                      \
  X(cudaErrorMemoryAllocation, "out of memory")                                                                     \
  X(cudaErrorInitializationError, "initialization error")                                                           \
  X(cudaErrorInvalidConfiguration, "invalid configuration argument")                                                \
  X(cudaErrorInvalidMemcpyDirection, "invalid copy direction for memcpy")                                           \
  X(cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version")                    \
  X(cudaErrorNoDevice, "no CUDA-capable device is detected")                                                        \
  X(cudaErrorInvalidDevice, "invalid device ordinal")                                                               \
  X(cudaErrorInvalidResourceHandle, "invalid resource handle")                                                      \
  X(cudaErrorIllegalState, "the operation cannot be performed in the present state")                                \
  X(cudaErrorNotReady, "device not ready")                                                                          \
  X(cudaErrorIllegalAddress, "an illegal memory access was encountered")                                            \
  X(cudaErrorPeerAccessAlreadyEnabled, "peer access is already enabled")                                            \
  X(cudaErrorNotSupported, "operation not supported")                                                               \
  X(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing")                          \
  X(cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture")                   \
  X(cudaErrorStreamCaptureMerge, "operation would result in a merge of separate capture sequences")                 \
  X(cudaErrorStreamCaptureUnmatched, "capture was not ended in the same stream as it began")                        \
  X(cudaErrorStreamCaptureIsolation, "dependency created on uncaptured work in another stream")                     \
  X(cudaErrorStreamCaptureImplicit, "operation would make the legacy stream depend on a capturing blocking stream") \
  X(cudaErrorCapturedEvent, "operation not permitted on an event last recorded in a capturing stream")              \
  X(cudaErrorStreamCaptureWrongThread, "attempt to terminate a thread-local capture sequence from another thread")

const char *cudaGetErrorName(cudaError_t error) {
#define RS_NAME(code, sentence) \
  case code: return #code;
  switch (error) {
    RS_ERRORS(RS_NAME)
  case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
  }
  return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t error) {
#define RS_SENTENCE(code, sentence) \
  case code: return sentence;
  switch (error) {
    RS_ERRORS(RS_SENTENCE)
  case cudaErrorLaunchFailure: {
    thread_local std::string sentence;
    locked lock(work.mutex);
    sentence = "unspecified launch failure";
    for (const auto &[device, failure] : work.failures)
      if (failure.first == error) sentence += ": " + failure.second;
    return sentence.c_str();
  }
  }
  return "unrecognized error code";
}

// Work
cudaError_t rs_submit(cudaStream_t stream, rs_task task) {
  locked lock(work.mutex);
  cudaStream_t own = find(stream);
  if (!own || own->device != rs_device()) return rs_report(cudaErrorInvalidResourceHandle);
  return rs_report(submit(own, std::move(task), !stream));
}

cudaError_t rs_finish() {
  locked lock(work.mutex);
  return rs_report(wait_until(lock, rs_device(), work.submitted));
}

cudaError_t rs_health() {
  locked lock(work.mutex);
  return rs_report(health(rs_device()));
}

cudaError_t rs_unsafe_call() {
  locked lock(work.mutex);
  return rs_report(unsafe_call());
}

bool rs_captures(cudaStream_t stream) {
  locked lock(work.mutex);
  cudaStream_t own = find(stream);
  return own && own->capture;
}

cudaError_t cudaDeviceSynchronize() {
  cudaError_t error = rs_unsafe_call();
  return error ? error : rs_finish();
}

cudaError_t cudaDeviceReset() {
  rs_finish();
  locked lock(work.mutex);
  work.failures.erase(rs_device());
  last_error = cudaSuccess;
  return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data) {
  return function ? rs_submit(stream, [function, data] { function(data); }) : rs_report(cudaErrorInvalidValue);
}

cudaError_t rs_emulate(dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream, std::function<void()> thread) {
  bool grid_fits = grid.x >= 1 && grid.x <= 0x7fffffffu && grid.y >= 1 && grid.y <= 65535 && grid.z >= 1 && grid.z <= 65535;
  bool block_fits = block.x >= 1 && block.x <= 1024 && block.y >= 1 && block.y <= 1024 && block.z >= 1 && block.z <= 64 &&
                    block.x * block.y * block.z <= RS_BLOCK_THREADS;
  if (!grid_fits || !block_fits || shared_bytes > rs_shared_most()) return rs_report(cudaErrorInvalidConfiguration);
  return rs_submit(stream, [grid, block, shared_bytes, thread = std::move(thread), device = rs_device()] {
    static long long until_failure = rs_setting("RAYSUM_EMULATED_ILLEGAL_ADDRESS", 0); // this many kernels of the first device
    const bool illegal = device == 0 && until_failure > 0 && --until_failure == 0;
    const char *failure = illegal ? "" : rs_run_grid(grid, block, shared_bytes, thread);
    if (!illegal && !*failure) return;
    locked lock(work.mutex);
    work.failures[device] = {illegal ? cudaErrorIllegalAddress : cudaErrorLaunchFailure, failure};
  });
}

// Streams
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int) {
  if (flags > cudaStreamNonBlocking) return rs_report(cudaErrorInvalidValue);
  locked lock(work.mutex);
  *stream = new CUstream_st{rs_device(), flags == cudaStreamDefault, 0, nullptr};
  work.streams.insert(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) { return cudaStreamCreateWithPriority(stream, flags, 0); }
cudaError_t cudaStreamCreate(cudaStream_t *stream) { return cudaStreamCreateWithPriority(stream, cudaStreamDefault, 0); }

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  locked lock(work.mutex);
  if (!work.streams.erase(stream)) return rs_report(cudaErrorInvalidResourceHandle);
  if (stream->capture) stream->capture->broken = true;
  delete stream;
  return cudaSuccess;
}

static cudaError_t settle_stream(cudaStream_t stream, bool wait) {
  locked lock(work.mutex);
  cudaStream_t own = find(stream);
  if (!own) return rs_report(cudaErrorInvalidResourceHandle);
  if (own->capture) {
    own->capture->broken = true;
    return rs_report(cudaErrorStreamCaptureUnsupported);
  }
  return rs_report(wait ? wait_until(lock, own->device, stream ? own->last : work.submitted)
                        : query(own->device, stream ? own->last : work.submitted));
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return settle_stream(stream, true); }
cudaError_t cudaStreamQuery(cudaStream_t stream) { return settle_stream(stream, false); }

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  locked lock(work.mutex);
  cudaStream_t own = find(stream);
  if (!own || !event) return rs_report(cudaErrorInvalidResourceHandle);
  if (event->capture == own->capture) return cudaSuccess; // recorded before this call, so it will be carried out before
  if (own->capture) {
    own->capture->broken = true;
    return rs_report(event->capture ? cudaErrorStreamCaptureMerge : cudaErrorStreamCaptureIsolation);
  }
  own->capture = event->capture; // joins the capture that the event was recorded in
  return cudaSuccess;
}

// Events
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags) {
  if (cudaError_t failure = rs_health()) return failure;
  *event = new CUevent_st{rs_device(), !(flags & cudaEventDisableTiming), 0, true, nullptr, nullptr};
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  if (!event) return rs_report(cudaErrorInvalidResourceHandle);
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  locked lock(work.mutex);
  cudaStream_t own = find(stream);
  if (!own || !event || own->device != event->device) return rs_report(cudaErrorInvalidResourceHandle);
  event->capture = own->capture;
  if (own->capture) return rs_report(own->capture->broken ? cudaErrorStreamCaptureInvalidated : cudaSuccess);
  auto time = event->time = std::make_shared<double>();
  auto stamp = [time] { *time = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count(); };
  cudaError_t error = submit(own, stamp, !stream);
  event->last = own->last;
  event->asked = false;
  return rs_report(error);
}

static cudaError_t settle_event(cudaEvent_t event, bool wait) {
  locked lock(work.mutex);
  if (!event) return rs_report(cudaErrorInvalidResourceHandle);
  if (event->capture) {
    event->capture->broken = true;
    return rs_report(cudaErrorCapturedEvent);
  }
  cudaError_t error = wait ? unsafe_call() : cudaSuccess;
  // Whoever asks again and again must not find all work done at once, as no GPU does that.
  if (!wait && blocking() && !event->asked) error = cudaErrorNotReady;
  event->asked = true;
  return rs_report(error ? error : wait ? wait_until(lock, event->device, event->last) : query(event->device, event->last));
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) { return settle_event(event, true); }
cudaError_t cudaEventQuery(cudaEvent_t event) { return settle_event(event, false); }

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end) {
  locked lock(work.mutex);
  if (!start || !end || !start->timing || !end->timing || !start->time || !end->time) return rs_report(cudaErrorInvalidResourceHandle);
  if (work.finished < start->last || work.finished < end->last) return rs_report(cudaErrorNotReady);
  *milliseconds = (float)(*end->time - *start->time);
  return cudaSuccess;
}

// Graphs
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  locked lock(work.mutex);
  cudaStream_t own = stream ? find(stream) : nullptr; // the default stream cannot be captured
  if (!own) return rs_report(stream ? cudaErrorInvalidResourceHandle : cudaErrorStreamCaptureUnsupported);
  if (own->capture) return rs_report(cudaErrorIllegalState);
  own->capture.reset(new rs_capture{{}, own, mode, std::this_thread::get_id(), false});
  work.captures.insert(own->capture);
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
  locked lock(work.mutex);
  cudaStream_t own = find(stream);
  *graph = nullptr;
  if (!own || !own->capture) return rs_report(own ? cudaErrorIllegalState : cudaErrorInvalidResourceHandle);
  std::shared_ptr<rs_capture> capture = own->capture;
  if (capture->origin != own) return rs_report(cudaErrorStreamCaptureUnmatched);
  if (capture->mode != cudaStreamCaptureModeRelaxed && capture->thread != std::this_thread::get_id())
    return rs_report(cudaErrorStreamCaptureWrongThread);
  for (cudaStream_t joined : work.streams)
    if (joined->capture == capture) joined->capture = nullptr;
  work.captures.erase(capture);
  if (capture->broken) return rs_report(cudaErrorStreamCaptureInvalidated);
  *graph = new CUgraph_st{std::move(capture->tasks)};
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status) {
  locked lock(work.mutex);
  cudaStream_t own = find(stream);
  if (!own) return rs_report(cudaErrorInvalidResourceHandle);
  *status = !own->capture          ? cudaStreamCaptureStatusNone
            : own->capture->broken ? cudaStreamCaptureStatusInvalidated
                                   : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long) {
  if (!graph) return rs_report(cudaErrorInvalidValue);
  *executable = new CUgraphExec_st{std::make_shared<const std::vector<rs_task>>(graph->tasks)};
  return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t executable, cudaStream_t) {
  return executable ? cudaSuccess : rs_report(cudaErrorInvalidValue);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  if (!executable) return rs_report(cudaErrorInvalidValue);
  return rs_submit(stream, [tasks = executable->tasks, device = rs_device()] {
    for (const rs_task &task : *tasks) {
      locked lock(work.mutex);
      if (health(device)) return;
      lock.unlock();
      task();
    }
  });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}
