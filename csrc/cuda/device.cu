// device.cu: the GPUs: their streams, the numbers of their calls, and what becomes of errors.
//
// A GPU works in order on one stream, so the stream is its queue: a call launches its kernels and returns. Calls are numbered; a
// cudaEvent is recorded only when somebody asks how far a device is.
#include "../device.h"
#include "../memory.h"
#include "launch.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace {

// An event behind the call of that number.
struct mark {
  mark *next;
  int64_t number;
  cudaEvent_t event;
};

struct gpu {
  // What kernels were allowed, found by their addresses: asking the driver takes longer than a launch may. More places than kernels.
  struct {
    const void *kernel;
    size_t shared;
  } allowed[1024] = {};
  pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
  int32_t device = 0; // from 1
  bool started = false;
  char name[320] = "";
  int multiprocessors = 0, capability = 0;
  int64_t shared = 0;
  cudaStream_t own = nullptr, stream = nullptr;
  bool shared_stream = false; // one was given: others may put work on it, and `own` has waited for it
  void *scratch = nullptr;
  int64_t last = 0, completed = 0;
  mark *oldest = nullptr, *newest = nullptr; // recorded and not known to be done
  mark *spares = nullptr;                    // to record again
  bool lost = false;
  char sentence[400] = ""; // why
};

gpu gpus[RS_MAX_DEVICES - 1];
int gpu_total;
char missing[300];
pthread_once_t counted = PTHREAD_ONCE_INIT;
thread_local gpu *current; // the device of the call in hand, for rs_cuda_status

void count_gpus() {
  int driver = 0, runtime = 0;
  cudaRuntimeGetVersion(&runtime);
  cudaError_t error = cudaDriverGetVersion(&driver);
  if (!error && driver) error = cudaGetDeviceCount(&gpu_total);
  cudaGetLastError(); // a missing driver is no error of a later call
  if (gpu_total > RS_MAX_DEVICES - 1) gpu_total = RS_MAX_DEVICES - 1;
  if (error) gpu_total = 0;
  if (gpu_total) return;
  if (!driver)
    snprintf(missing, sizeof missing, "there is no NVIDIA driver here");
  else if (error == cudaErrorInsufficientDriver || (error && driver / 1000 < runtime / 1000))
    snprintf(missing, sizeof missing, "the NVIDIA driver is too old: it has CUDA %d.%d, this library needs %d.0", driver / 1000,
             driver % 1000 / 10, runtime / 1000);
  else
    snprintf(missing, sizeof missing, "the NVIDIA driver (CUDA %d.%d) shows no GPU: %s", driver / 1000, driver % 1000 / 10,
             error ? cudaGetErrorString(error) : "the count is 0");
}

gpu &of(int32_t device) { return gpus[device - 1]; }

// Makes a device the current one of this thread for a call.
struct entered {
  gpu &g;
  gpu *before;
  explicit entered(gpu &entering) : g(entering), before(current) {
    pthread_mutex_lock(&g.lock);
    current = &g;
    cudaSetDevice(g.device - 1);
  }
  ~entered() {
    if (g.lost) cudaGetLastError(); // or another device's next launch would seem to have failed
    current = before;
    pthread_mutex_unlock(&g.lock);
  }
};

// Memory. Called with the registry of allocations locked, by calls that may hold a device's lock: these take none.

void *reserve(int32_t device, int64_t bytes) {
  void *memory = nullptr;
  cudaSetDevice(device - 1);
  if (cudaMalloc(&memory, (size_t)bytes) == cudaSuccess) return memory;
  cudaGetLastError();
  return nullptr;
}

void release(int32_t device, void *memory, int64_t) {
  cudaSetDevice(device - 1);
  cudaFree(memory);
  cudaGetLastError();
}

void available(int32_t device, int64_t *free_bytes, int64_t *total_bytes) {
  size_t left = 0, total = 0;
  cudaSetDevice(device - 1);
  cudaMemGetInfo(&left, &total);
  cudaGetLastError();
  *free_bytes = (int64_t)left;
  *total_bytes = (int64_t)total;
}

void wait_idle(int32_t device) {
  cudaSetDevice(device - 1);
  cudaStreamSynchronize(of(device).stream);
  cudaGetLastError();
}

int32_t start(gpu &g, int32_t device) {
  g.device = device;
  entered in(g);
  cudaDeviceProp properties;
  int32_t status = rs_cuda_status(cudaGetDeviceProperties(&properties, device - 1), "device properties");
  if (!status) status = rs_cuda_status(cudaStreamCreateWithFlags(&g.own, cudaStreamNonBlocking), "stream");
  if (!status) status = rs_cuda_status(cudaMalloc(&g.scratch, RS_SCRATCH_BYTES), "scratch memory");
  if (status) return status;
  g.stream = g.own;
  g.multiprocessors = properties.multiProcessorCount;
  g.capability = 10 * properties.major + properties.minor;
  g.shared = (int64_t)properties.sharedMemPerBlockOptin;
  snprintf(g.name, sizeof g.name, "%.200s, %d multiprocessors, %.1f GiB, compute capability %d.%d", properties.name,
           properties.multiProcessorCount, (double)properties.totalGlobalMem / (1 << 30), properties.major, properties.minor);
  static char names[RS_MAX_DEVICES][24];
  snprintf(names[device], sizeof names[device], "cuda:%d", device - 1);
  rs_memory_source source = {reserve, release, available, wait_idle, names[device]};
  rs_memory_register(device, &source);
  g.started = true;
  return RS_OK;
}

int32_t refuse(gpu &g) { return rs_fail(RS_EDEVICE, "cuda:%d is lost: %s; start the process again", g.device - 1, g.sentence); }

// Is the device lost, by an error that will not go away? `what` has seen it first.
bool is_lost(gpu &g, const char *what) {
  if (g.lost || !g.stream) return g.lost;
  const cudaError_t error = cudaStreamQuery(g.stream);
  cudaGetLastError();
  const bool captures = error >= cudaErrorStreamCaptureUnsupported && error <= cudaErrorStreamCaptureWrongThread;
  if (!error || error == cudaErrorNotReady || captures) return false;
  snprintf(g.sentence, sizeof g.sentence, "%s (%s), seen by %s", cudaGetErrorString(error), cudaGetErrorName(error), what);
  return g.lost = true;
}

// Notes which of the recorded events have passed, up to `event`.
cudaError_t advance(gpu &g, int64_t event) {
  while (g.oldest && g.completed < event) {
    mark *m = g.oldest;
    cudaError_t error = cudaEventQuery(m->event);
    if (error) return error;
    g.completed = m->number;
    g.oldest = m->next;
    m->next = g.spares;
    g.spares = m;
  }
  return cudaSuccess;
}

// Records an event behind the last call, unless that is done or has one.
cudaError_t put_mark(gpu &g) {
  if (g.completed == g.last || (g.oldest && g.newest->number == g.last)) return cudaSuccess;
  mark *m = g.spares;
  if (m) {
    g.spares = m->next;
  } else {
    m = (mark *)calloc(1, sizeof *m);
    if (!m) return cudaErrorMemoryAllocation;
    cudaError_t error = cudaEventCreateWithFlags(&m->event, cudaEventDisableTiming);
    if (error) {
      free(m);
      return error;
    }
  }
  cudaError_t error = cudaEventRecord(m->event, g.stream);
  if (error) {
    m->next = g.spares;
    g.spares = m;
    return error;
  }
  m->number = g.last;
  m->next = nullptr;
  (g.oldest ? g.newest->next : g.oldest) = m;
  g.newest = m;
  return cudaSuccess;
}

} // namespace

extern "C" {

int32_t rs_cuda_count(void) {
  pthread_once(&counted, count_gpus);
  return gpu_total;
}

const char *rs_cuda_missing(void) {
  rs_cuda_count();
  return missing;
}

int32_t rs_cuda_start(int32_t device) {
  gpu &g = of(device);
  pthread_mutex_lock(&g.lock);
  int32_t status = g.lost ? refuse(g) : g.started ? RS_OK : start(g, device);
  pthread_mutex_unlock(&g.lock);
  return status;
}

int32_t rs_cuda_alive(int32_t device) {
  gpu &g = of(device);
  entered in(g);
  return is_lost(g, "an allocation") ? refuse(g) : RS_OK;
}

const char *rs_cuda_name(int32_t device) { return of(device).name; }

int32_t rs_cuda_stream_set(int32_t device, int64_t stream) {
  gpu &g = of(device);
  entered in(g);
  cudaStream_t next = stream ? (cudaStream_t)(intptr_t)stream : g.own;
  // What comes on the new stream must see what was done on the old one.
  cudaEvent_t event;
  int32_t status = rs_cuda_status(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "event");
  if (status) return status;
  status = rs_cuda_status(cudaEventRecord(event, g.stream), "event");
  if (!status) status = rs_cuda_status(cudaStreamWaitEvent(next, event, 0), "the stream given");
  cudaEventDestroy(event);
  if (status) return status;
  g.stream = next;
  g.shared_stream = g.shared_stream || stream;
  return RS_OK;
}

int32_t rs_cuda_launch(int32_t device, const char *name, rs_effect effect, rs_run run, void *arguments) {
  gpu &g = of(device);
  entered in(g);
  if (g.lost && effect != RS_MUST_RUN) return refuse(g);
  int32_t status = run((rs_operation *)&g, arguments);
  if (g.lost && status) return refuse(g);
  if (status == RS_BUSY) return status; // nothing was launched
  if (status) return rs_fail(status, "%s: %s", name, rs_sentence());
  g.last++;
  return RS_OK;
}

int64_t rs_cuda_record(int32_t device) {
  gpu &g = of(device);
  entered in(g);
  rs_cuda_status(put_mark(g), "event");
  return g.last;
}

int32_t rs_cuda_query(int32_t device, int64_t event, int wait) {
  gpu &g = of(device);
  entered in(g);
  if (event > g.last) return rs_fail(RS_EARGUMENT, "event %lld is not one of this queue's", (long long)event);
  if (g.lost) return refuse(g);
  cudaError_t error = cudaSuccess;
  if (g.completed < event) {
    if (!g.oldest || g.newest->number < event) error = put_mark(g);
    if (!error) error = advance(g, event);
    if (wait) {
      while (error == cudaErrorNotReady) {
        error = cudaEventSynchronize(g.oldest->event);
        if (!error) error = advance(g, event);
      }
    }
    if (error == cudaErrorNotReady) return RS_BUSY;
  }
  return rs_cuda_status(error, "the wait for queued work");
}

int32_t rs_cuda_event(int32_t device, void **event) {
  entered in(of(device));
  return *event ? RS_OK : rs_cuda_status(cudaEventCreate((cudaEvent_t *)event), "event");
}

int32_t rs_cuda_mark(rs_operation *operation, void *event) {
  return rs_cuda_status(cudaEventRecord(*(cudaEvent_t *)event, rs_cuda_stream(operation)), "event");
}

int32_t rs_cuda_elapsed(int32_t device, void *first, void *last, double *milliseconds) {
  entered in(of(device));
  cudaError_t error = cudaEventQuery((cudaEvent_t)last);
  if (error == cudaErrorNotReady) return RS_BUSY;
  float between = 0;
  if (!error) error = cudaEventElapsedTime(&between, (cudaEvent_t)first, (cudaEvent_t)last);
  *milliseconds = between;
  return rs_cuda_status(error, "the wait for a mark");
}

// Relaxed: memory may be allocated meanwhile, and what other threads do is none of its business.
int32_t rs_cuda_capture_begin(int32_t device) {
  gpu &g = of(device);
  entered in(g);
  return rs_cuda_status(cudaStreamBeginCapture(g.stream, cudaStreamCaptureModeRelaxed), "capture");
}

int32_t rs_cuda_capture_end(int32_t device, void **program) {
  gpu &g = of(device);
  entered in(g);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  int32_t status = rs_cuda_status(cudaStreamEndCapture(g.stream, &graph), "capture");
  if (!status && program) status = rs_cuda_status(cudaGraphInstantiate(&executable, graph, 0), "capture");
  if (graph) cudaGraphDestroy(graph);
  if (program) *program = executable;
  return status;
}

int32_t rs_cuda_capture_run(rs_operation *operation, void *program) {
  return rs_cuda_status(cudaGraphLaunch(*(cudaGraphExec_t *)program, rs_cuda_stream(operation)), "launch of a capture");
}

// One that is running still ends first.
void rs_cuda_capture_free(void *program) {
  if (program) cudaGraphExecDestroy((cudaGraphExec_t)program);
}

int32_t rs_cuda_owns(int32_t device, const void *address) {
  entered in(of(device));
  cudaPointerAttributes attributes;
  cudaError_t error = cudaPointerGetAttributes(&attributes, address);
  cudaGetLastError();
  if (!error && (attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged) && attributes.device == device - 1)
    return RS_OK;
  return rs_fail(RS_EARGUMENT, "address 0x%llx is not memory of cuda:%d", (unsigned long long)(uintptr_t)address, device - 1);
}

} // extern "C"

cudaStream_t rs_cuda_stream(const rs_operation *operation) { return ((const gpu *)operation)->stream; }

int64_t rs_cuda_number(const rs_operation *operation) { return ((const gpu *)operation)->last + 1; }

bool rs_cuda_idle_since(const rs_operation *operation, int64_t number) {
  const gpu *g = (const gpu *)operation;
  if (g->last == number && !g->shared_stream) return true;
  const bool idle = cudaStreamQuery(g->stream) == cudaSuccess;
  cudaGetLastError();
  return idle;
}

void *rs_cuda_scratch(const rs_operation *operation) { return ((const gpu *)operation)->scratch; }

#ifndef RS_EMULATION
cudaError_t rs_cuda_allow_shared(const void *kernel, size_t shared) {
  size_t place = (uintptr_t)kernel / 16 % 1024;
  while (current->allowed[place].kernel && current->allowed[place].kernel != kernel) place = (place + 1) % 1024;
  auto &allowed = current->allowed[place];
  if (allowed.kernel == kernel && allowed.shared >= shared) return cudaSuccess;
  cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
  if (!error) allowed = {kernel, shared};
  return error;
}

bool rs_cuda_starts_early() { return current->capability >= 90; }
#endif

int rs_cuda_multiprocessors(int32_t device) { return of(device).multiprocessors; }

int rs_cuda_capability(int32_t device) { return of(device).capability; }

int64_t rs_cuda_shared(int32_t device) { return of(device).shared; }

int32_t rs_cuda_status(cudaError_t error, const char *what) {
  if (!error) return RS_OK;
  cudaGetLastError(); // clears an error that can be cleared
  if (current && is_lost(*current, what)) return refuse(*current);
  return rs_fail(error == cudaErrorMemoryAllocation ? RS_EMEMORY : RS_EDEVICE, "%s: %s (%s)", what, cudaGetErrorString(error),
                 cudaGetErrorName(error));
}

int32_t rs_cuda_table(int32_t device, const void *host, int64_t bytes, void **table, int64_t *pointer) {
  gpu &g = of(device);
  entered in(g);
  int32_t status = rs_pool_allocate(device, bytes, pointer), any = device;
  if (status) return status;
  status = rs_resolve(*pointer, bytes, "table", &any, table);
  // In the order of the stream, as the memory may still be read by work of its last owner.
  if (!status) status = rs_cuda_status(cudaMemcpyAsync(*table, host, (size_t)bytes, cudaMemcpyHostToDevice, g.stream), "table");
  if (!status) status = rs_cuda_status(cudaStreamSynchronize(g.stream), "table");
  if (status) {
    rs_cuda_table_free(*pointer);
    *pointer = 0;
  }
  return status;
}

void rs_cuda_table_free(int64_t pointer) {
  if (pointer) rs_free(pointer);
}
