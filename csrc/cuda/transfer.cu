// transfer.cu: copies between the caller's buffers and the memory of GPUs, through page-locked staging.
//
// A GPU copies from and to page-locked memory by itself at the full rate of the bus, several times faster than one thread copies into
// it. So several threads copy strips into staging, and put each on the bus as soon as it is there.
//
// An upload that finds the stream busy gets a slot of staging for all of it, and the caller goes on. Where nothing but uploads is left
// to do, a large one goes straight: every thread fills two strips of its own in turns and waits for the bus itself. So little staging
// is used again and again that the bus reads it from the last cache, and memory has the caller's data to read and nothing else to do.
#include "../host.h"
#include "../memory.h"
#include "../transfer.h"
#include "launch.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace {

constexpr int64_t SMALL = INT64_C(1) << 20; // the size of small staging; small transfers leave the large alone
constexpr int64_t STRIP = INT64_C(1) << 20; // of one thread
constexpr int SLOTS = 16;                   // of each size at most
constexpr int LARGE_SLOTS = 6;
constexpr int THREADS = 16;
constexpr int64_t OWN_STRIP = INT64_C(2) << 20;   // of an upload that goes straight
constexpr int64_t STRAIGHT = THREADS * OWN_STRIP; // at least: a strip for every thread

struct slot {
  char *memory = nullptr;
  bool held = false;          // by a download, or by an upload until `done` has passed
  cudaEvent_t done = nullptr; // of an upload
};

slot small_slots[SLOTS], large_slots[LARGE_SLOTS];
pthread_mutex_t slots_lock = PTHREAD_MUTEX_INITIALIZER;
rs_queue *copier; // the threads that fill and empty staging
pthread_once_t copier_started = PTHREAD_ONCE_INIT;

// A slot that nobody holds, or null.
slot *find_slot(int64_t bytes) {
  const bool small = bytes <= SMALL;
  for (int i = 0; i < (small ? SLOTS : LARGE_SLOTS); i++) {
    slot *s = small ? &small_slots[i] : &large_slots[i];
    if (s->held && s->done && cudaEventQuery(s->done) != cudaErrorNotReady) {
      cudaEventDestroy(s->done);
      s->done = nullptr;
      s->held = false;
    }
    if (s->held) continue;
    if (!s->memory && cudaHostAlloc((void **)&s->memory, (size_t)(small ? SMALL : RS_TRANSFER_BYTES), cudaHostAllocPortable)) {
      cudaGetLastError();
      s->memory = nullptr;
      return nullptr;
    }
    return s;
  }
  return nullptr;
}

slot *take(int32_t device, int64_t bytes) {
  cudaSetDevice(device - 1); // another one may be lost
  pthread_mutex_lock(&slots_lock);
  slot *s = find_slot(bytes);
  if (s) s->held = true;
  pthread_mutex_unlock(&slots_lock);
  return s;
}

// The strips of the threads, for one upload at a time.
struct {
  pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  char *memory = nullptr;
  int device = -1; // of the events
  struct {
    cudaEvent_t done[2] = {}; // behind the last copy from either strip
    int turn = 0;
  } of[THREADS];
} own;

// A copy by several threads, and from there on to the device where it is an upload.
struct strips {
  rs_task body;
  int64_t strip; // bytes of a task
  char *target;  // not for copy_straight
  const char *source;
  int64_t bytes;
  char *device_target; // or null
  cudaStream_t stream;
  int device;
  int error; // of one that failed
};

// memcpy past the caches: what is copied here is next read by the GPU, or is too large to stay in a cache.
void copy_past_caches(char *target, const char *source, int64_t bytes) {
#ifdef __SSE2__
  const int64_t head = -(intptr_t)target & 15;
  if (bytes > 4096) {
    memcpy(target, source, (size_t)head);
    int64_t i = head;
    for (; i + 64 <= bytes; i += 64) {
      const __m128i *from = (const __m128i *)(source + i);
      const __m128i a = _mm_loadu_si128(from), b = _mm_loadu_si128(from + 1), c = _mm_loadu_si128(from + 2), d = _mm_loadu_si128(from + 3);
      __m128i *to = (__m128i *)(target + i);
      _mm_stream_si128(to, a);
      _mm_stream_si128(to + 1, b);
      _mm_stream_si128(to + 2, c);
      _mm_stream_si128(to + 3, d);
    }
    _mm_sfence();
    target += i, source += i, bytes -= i;
  }
#endif
  memcpy(target, source, (size_t)bytes);
}

int64_t strip_bytes(const strips *s, int64_t start) { return s->bytes - start < s->strip ? s->bytes - start : s->strip; }

// Puts a strip on the bus, and an event behind it where one is given.
void send(strips *s, int64_t start, const char *staging, int64_t bytes, cudaEvent_t done) {
  cudaError_t error = cudaMemcpyAsync(s->device_target + start, staging, (size_t)bytes, cudaMemcpyHostToDevice, s->stream);
  if (!error && done) error = cudaEventRecord(done, s->stream);
  if (error) __atomic_store_n(&s->error, (int)error, __ATOMIC_RELAXED);
}

void copy_strip(void *context, int64_t task, int) {
  strips *s = (strips *)context;
  const int64_t start = task * s->strip, bytes = strip_bytes(s, start);
  copy_past_caches(s->target + start, s->source + start, bytes);
  if (!s->device_target) return;
  cudaSetDevice(s->device);
  send(s, start, s->target + start, bytes, nullptr);
}

void copy_straight(void *context, int64_t task, int worker) {
  strips *s = (strips *)context;
  const int64_t start = task * s->strip, bytes = strip_bytes(s, start);
  auto &mine = own.of[worker];
  const int turn = mine.turn ^= 1;
  char *staging = own.memory + (2 * worker + turn) * OWN_STRIP;
  cudaSetDevice(s->device);
  while (cudaEventQuery(mine.done[turn]) == cudaErrorNotReady) sched_yield();
  memcpy(staging, s->source + start, (size_t)bytes); // not past the caches
  send(s, start, staging, bytes, mine.done[turn]);
}

int32_t run_strips(rs_operation *operation, void *arguments) {
  strips *s = *(strips **)arguments;
  return rs_parallel_for(operation, (s->bytes + s->strip - 1) / s->strip, s->body, s);
}

void start_copier() { copier = rs_queue_create(rs_host_threads() < THREADS ? rs_host_threads() : THREADS); }

void copy_by_threads(strips *s) {
  if (s->bytes > s->strip) pthread_once(&copier_started, start_copier);
  if (s->bytes > s->strip && copier && !rs_queue_push(copier, "copy", RS_MUST_RUN, run_strips, &s, sizeof s))
    rs_queue_drain(copier);
  else
    for (int64_t task = 0; task * s->strip < s->bytes; task++) s->body(s, task, 0);
}

// With own.lock held: memory, and events of this device; false where they cannot be had.
bool own_ready(int device) {
  cudaError_t error = own.memory ? cudaSuccess : cudaHostAlloc((void **)&own.memory, (size_t)(2 * STRAIGHT), cudaHostAllocPortable);
  if (error) own.memory = nullptr;
  if (!error && own.device != device) {
    own.device = -1;
    for (auto &thread : own.of)
      for (cudaEvent_t &done : thread.done) {
        if (done) {
          while (cudaEventQuery(done) == cudaErrorNotReady) sched_yield(); // the strip is on its way to another device
          cudaEventDestroy(done);
        }
        done = nullptr;
        if (!error) error = cudaEventCreateWithFlags(&done, cudaEventDisableTiming);
      }
    if (!error) own.device = device;
  }
  cudaGetLastError(); // another device may be lost
  return !error;
}

struct upload {
  int32_t device;
  char *target;
  const char *source;
  int64_t bytes;
};

int64_t last_straight[RS_MAX_DEVICES]; // the numbers of such calls; with the device's lock held

int32_t run_straight(rs_operation *operation, const upload *u) {
  if (u->bytes < STRAIGHT || !rs_cuda_idle_since(operation, last_straight[u->device])) return RS_BUSY;
  if (pthread_mutex_trylock(&own.lock)) return RS_BUSY;
  int32_t status = RS_BUSY;
  if (own_ready(u->device - 1)) {
    cudaStream_t stream = rs_cuda_stream(operation);
    strips s = {copy_straight, OWN_STRIP, nullptr, u->source, u->bytes, u->target, stream, u->device - 1, 0};
    copy_by_threads(&s);
    if (s.error)
      cudaStreamSynchronize(stream); // what failed may have no event behind it
    else
      last_straight[u->device] = rs_cuda_number(operation);
    status = rs_cuda_status((cudaError_t)s.error, "copy to the device");
  }
  pthread_mutex_unlock(&own.lock);
  return status;
}

// RS_BUSY: all staging is in use, or cannot be had.
int32_t run_upload(rs_operation *operation, void *arguments) {
  const upload *u = (const upload *)arguments;
  const int32_t status = run_straight(operation, u);
  if (status != RS_BUSY) return status;
  slot *staging = take(u->device, u->bytes);
  if (!staging) return RS_BUSY;
  cudaStream_t stream = rs_cuda_stream(operation);
  strips s = {copy_strip, STRIP, staging->memory, u->source, u->bytes, u->target, stream, u->device - 1, 0};
  copy_by_threads(&s);
  cudaError_t error = (cudaError_t)s.error;
  cudaEvent_t done = nullptr;
  if (!error) error = cudaEventCreateWithFlags(&done, cudaEventDisableTiming);
  if (!error) error = cudaEventRecord(done, stream);
  if (error) cudaStreamSynchronize(stream); // staging must not be handed out while a copy reads it
  if (error && done) cudaEventDestroy(done);
  pthread_mutex_lock(&slots_lock);
  staging->done = error ? nullptr : done;
  staging->held = !error;
  pthread_mutex_unlock(&slots_lock);
  return rs_cuda_status(error, "copy to the device");
}

struct few_bytes {
  unsigned char values[1024];
};

__global__ void write_bytes(unsigned char *target, few_bytes source, int bytes) {
  int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < bytes) target[i] = source.values[i];
}

} // namespace

extern "C" {

// A graph keeps the arguments of a launch, and not what a copy from the host would read.
int32_t rs_cuda_constant(rs_operation *operation, void *arguments) {
  const rs_constant *c = (const rs_constant *)arguments;
  int32_t status = RS_OK;
  for (int64_t done = 0; done < c->bytes && !status; done += (int64_t)sizeof(few_bytes)) {
    few_bytes part;
    const int bytes = (int)(c->bytes - done < (int64_t)sizeof part ? c->bytes - done : (int64_t)sizeof part);
    memcpy(part.values, c->values + done, (size_t)bytes);
    status = RS_LAUNCH(write_bytes, (bytes + 255) / 256, 256, 0, rs_cuda_stream(operation), (unsigned char *)c->target + done, part, bytes);
  }
  return status;
}

int32_t rs_cuda_upload(int32_t device, void *target, const void *source, int64_t bytes) {
  upload u = {device, (char *)target, (const char *)source, bytes};
  const int32_t status = rs_cuda_launch(device, "upload", RS_OVERWRITES, run_upload, &u);
  return status == RS_BUSY && rs_cuda_alive(device) ? RS_EDEVICE : status;
}

void *rs_cuda_stage(int32_t device, int64_t bytes) {
  slot *staging = take(device, bytes);
  return staging ? staging->memory : nullptr;
}

int rs_cuda_unstage(void *memory) {
  int found = 0;
  pthread_mutex_lock(&slots_lock);
  for (int i = 0; i < SLOTS + LARGE_SLOTS && !found; i++) {
    slot *s = i < SLOTS ? &small_slots[i] : &large_slots[i - SLOTS];
    found = s->memory == memory;
    if (found) s->held = false;
  }
  pthread_mutex_unlock(&slots_lock);
  return found;
}

void rs_cuda_fetch(void *target, const void *staged, int64_t bytes) {
#ifdef MADV_HUGEPAGE
  // A fresh target has no pages yet: large ones come three times as fast as small ones. Advice alone; an error does not matter.
  const intptr_t page = INT64_C(2) << 20, first = ((intptr_t)target + page - 1) / page * page,
                 last = ((intptr_t)target + bytes) / page * page;
  if (last > first) madvise((void *)first, (size_t)(last - first), MADV_HUGEPAGE);
#endif
  strips s = {copy_strip, STRIP, (char *)target, (const char *)staged, bytes, nullptr, nullptr, 0, 0};
  copy_by_threads(&s);
}

int32_t rs_cuda_copy(rs_operation *operation, void *arguments) {
  const rs_transfer *t = (const rs_transfer *)arguments;
  return rs_cuda_status(cudaMemcpyAsync(t->target, t->source, (size_t)t->bytes, cudaMemcpyDefault, rs_cuda_stream(operation)), "copy");
}

} // extern "C"
