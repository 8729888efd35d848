// memory.cc: the emulated devices and their memory.
#include "internal.h"

#include <map>
#include <stdio.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace {
struct allocation {
  size_t bytes;
  int device;
  cudaMemoryType type;
};
std::mutex &mutex = *new std::mutex;
std::map<uintptr_t, allocation> &allocations = *new std::map<uintptr_t, allocation>; // by address
std::map<int, size_t> &in_use = *new std::map<int, size_t>;                          // bytes, by device
thread_local int current_device;
typedef std::lock_guard<std::mutex> locked;

size_t capacity() {
  static const size_t bytes = (size_t)rs_setting("RAYSUM_EMULATED_MEMORY", 4LL << 30);
  return bytes;
}

// With the lock held: what a pointer points into.
const allocation *find(const void *pointer, size_t *left) {
  auto after = allocations.upper_bound((uintptr_t)pointer);
  if (after == allocations.begin()) return nullptr;
  const auto &[address, found] = *--after;
  if ((uintptr_t)pointer >= address + found.bytes) return nullptr;
  *left = address + found.bytes - (uintptr_t)pointer;
  return &found;
}

enum place { PAGEABLE, PINNED, DEVICE, OUTSIDE };
place place_of(const void *pointer, size_t bytes) {
  locked lock(mutex);
  size_t left;
  const allocation *found = find(pointer, &left);
  if (!found) return PAGEABLE;
  return left < bytes ? OUTSIDE : found->type == cudaMemoryTypeDevice ? DEVICE : PINNED;
}

cudaError_t allocate(void **pointer, size_t bytes, cudaMemoryType type) {
  if (!pointer) return cudaErrorInvalidValue;
  *pointer = nullptr;
  if (rs_unsafe_call()) return cudaErrorStreamCaptureUnsupported;
  if (cudaError_t failure = rs_health()) return failure;
  if (!bytes) return cudaSuccess;
  locked lock(mutex);
  bool device = type == cudaMemoryTypeDevice;
  if (device && (bytes > capacity() || in_use[current_device] > capacity() - bytes)) return cudaErrorMemoryAllocation;
  void *memory;
  if (posix_memalign(&memory, device ? 256 : 4096, bytes)) return cudaErrorMemoryAllocation;
  memset(memory, 0xff, bytes);
  if (device) in_use[current_device] += bytes;
  allocations[(uintptr_t)memory] = {bytes, current_device, type};
  *pointer = memory;
  return cudaSuccess;
}

cudaError_t release(void *pointer, cudaMemoryType type) {
  if (!pointer) return cudaSuccess;
  if (rs_unsafe_call()) return cudaErrorStreamCaptureUnsupported;
  cudaError_t error = rs_finish();
  locked lock(mutex);
  auto found = allocations.find((uintptr_t)pointer);
  if (found == allocations.end() || found->second.type != type) return cudaErrorInvalidValue;
  if (type == cudaMemoryTypeDevice) in_use[found->second.device] -= found->second.bytes;
  allocations.erase(found);
  free(pointer);
  return error;
}

// A copy of `height` rows.
struct copy {
  char *target;
  const char *source;
  size_t target_pitch, source_pitch, width, height;
  void run() const {
    for (size_t i = 0; i < height; i++) memcpy(target + i * target_pitch, source + i * source_pitch, width);
  }
};

cudaError_t run_copy(const copy &c, cudaMemcpyKind kind, cudaStream_t stream, bool wait) {
  if (!c.width || !c.height) return cudaSuccess;
  if (c.width > c.target_pitch || c.width > c.source_pitch || !c.target || !c.source) return cudaErrorInvalidValue;
  place to = place_of(c.target, (c.height - 1) * c.target_pitch + c.width);
  place from = place_of(c.source, (c.height - 1) * c.source_pitch + c.width);
  if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) return cudaErrorInvalidMemcpyDirection;
  bool fits = to != OUTSIDE && from != OUTSIDE;
  if (kind != cudaMemcpyDefault) {
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    fits = fits && (to == DEVICE) == to_device && (from == DEVICE) == from_device;
  }
  if (!fits) return cudaErrorInvalidValue;
  if (wait && rs_unsafe_call()) return cudaErrorStreamCaptureUnsupported;
  // CUDA stages pageable memory during the call.
  wait = wait || ((to == PAGEABLE || from == PAGEABLE) && !rs_captures(stream));
  cudaError_t error = rs_submit(stream, [c] { c.run(); });
  return error || !wait ? error : rs_finish();
}

cudaError_t fill(void *target, int value, size_t bytes, cudaStream_t stream) {
  if (!bytes) return cudaSuccess;
  if (place_of(target, bytes) != DEVICE) return cudaErrorInvalidValue;
  return rs_submit(stream, [=] { memset(target, value, bytes); });
}
} // namespace

long long rs_setting(const char *name, long long otherwise) {
  const char *value = getenv(name);
  return value && *value ? atoll(value) : otherwise;
}

size_t rs_shared_most() {
  static const size_t bytes = (size_t)rs_setting("RAYSUM_EMULATED_SHARED", RS_SHARED_BYTES);
  return bytes < RS_SHARED_BYTES ? bytes : RS_SHARED_BYTES;
}

int rs_device() { return current_device; }

int rs_device_total() {
  static const int total = (int)rs_setting("RAYSUM_EMULATED_DEVICES", 1);
  return total;
}

cudaError_t cudaGetDeviceCount(int *count) {
  int driver;
  cudaDriverGetVersion(&driver);
  *count = driver < CUDART_VERSION ? 0 : rs_device_total();
  return rs_report(driver < CUDART_VERSION ? cudaErrorInsufficientDriver : *count ? cudaSuccess : cudaErrorNoDevice);
}

static cudaError_t check_device(int device) {
  return rs_report(device >= 0 && device < rs_device_total() ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaSetDevice(int device) {
  cudaError_t error = check_device(device);
  if (!error) current_device = device;
  return error;
}

cudaError_t cudaGetDevice(int *device) {
  *device = current_device;
  return check_device(current_device);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device) {
  if (check_device(device)) return cudaErrorInvalidDevice;
  cudaDeviceProp p = {};
  snprintf(p.name, sizeof p.name, "emulated");
  p.uuid.bytes[0] = (char)device;
  p.totalGlobalMem = capacity();
  p.sharedMemPerBlock = RS_SHARED_DEFAULT;
  p.sharedMemPerBlockOptin = rs_shared_most();
  p.sharedMemPerMultiprocessor = rs_shared_most() + (1 << 10);
  p.reservedSharedMemPerBlock = 1 << 10;
  p.totalConstMem = 64 << 10;
  p.major = 9;
  p.multiProcessorCount = 132;
  p.warpSize = 32;
  p.maxThreadsPerBlock = p.maxThreadsDim[0] = p.maxThreadsDim[1] = RS_BLOCK_THREADS;
  p.maxThreadsDim[2] = 64;
  p.maxGridSize[0] = 0x7fffffff;
  p.maxGridSize[1] = p.maxGridSize[2] = 65535;
  p.maxThreadsPerMultiProcessor = 2048;
  p.maxBlocksPerMultiProcessor = 32;
  p.regsPerBlock = p.regsPerMultiprocessor = 64 << 10;
  p.l2CacheSize = 50 << 20;
  p.memoryBusWidth = 5120;
  p.asyncEngineCount = 1;
  p.concurrentKernels = p.unifiedAddressing = 1;
  p.pciBusID = device;
  *properties = p;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device) {
  cudaDeviceProp p;
  if (cudaGetDeviceProperties(&p, device)) return cudaErrorInvalidDevice;
  switch (attribute) {
  case cudaDevAttrMaxThreadsPerBlock: *value = p.maxThreadsPerBlock; break;
  case cudaDevAttrMaxSharedMemoryPerBlock: *value = (int)p.sharedMemPerBlock; break;
  case cudaDevAttrWarpSize: *value = p.warpSize; break;
  case cudaDevAttrMultiProcessorCount: *value = p.multiProcessorCount; break;
  case cudaDevAttrL2CacheSize: *value = p.l2CacheSize; break;
  case cudaDevAttrMaxThreadsPerMultiProcessor: *value = p.maxThreadsPerMultiProcessor; break;
  case cudaDevAttrComputeCapabilityMajor: *value = p.major; break;
  case cudaDevAttrComputeCapabilityMinor: *value = p.minor; break;
  case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = (int)p.sharedMemPerMultiprocessor; break;
  case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = (int)p.sharedMemPerBlockOptin; break;
  case cudaDevAttrIntegrated:
  case cudaDevAttrCooperativeLaunch:
  case cudaDevAttrMemoryPoolsSupported: *value = 0; break;
  default: return rs_report(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *text, int capacity, int device) {
  if (check_device(device)) return cudaErrorInvalidDevice;
  snprintf(text, (size_t)capacity, "0000:%02X:00.0", device);
  return cudaSuccess;
}

cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer) {
  if (check_device(device) || check_device(peer)) return cudaErrorInvalidDevice;
  *can = device != peer;
  return cudaSuccess;
}

cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned) { return check_device(peer); }

cudaError_t cudaDriverGetVersion(int *version) {
  *version = (int)rs_setting("RAYSUM_EMULATED_DRIVER", CUDART_VERSION); // 0: as where none is installed
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void **pointer, size_t bytes) { return rs_report(allocate(pointer, bytes, cudaMemoryTypeDevice)); }
cudaError_t cudaFree(void *pointer) { return rs_report(release(pointer, cudaMemoryTypeDevice)); }
cudaError_t cudaHostAlloc(void **pointer, size_t bytes, unsigned) { return rs_report(allocate(pointer, bytes, cudaMemoryTypeHost)); }
cudaError_t cudaFreeHost(void *pointer) { return rs_report(release(pointer, cudaMemoryTypeHost)); }

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
  if (cudaError_t failure = rs_health()) return failure;
  locked lock(mutex);
  *total_bytes = capacity();
  *free_bytes = capacity() - in_use[current_device];
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *pointer) {
  locked lock(mutex);
  size_t left;
  const allocation *found = find(pointer, &left);
  void *address = const_cast<void *>(pointer);
  if (!found)
    *attributes = {cudaMemoryTypeUnregistered, -1, nullptr, address};
  else
    *attributes = {found->type, found->device, address, found->type == cudaMemoryTypeDevice ? nullptr : address};
  return cudaSuccess;
}

static copy line(void *target, const void *source, size_t bytes) { return {(char *)target, (const char *)source, bytes, bytes, bytes, 1}; }

cudaError_t cudaMemcpy(void *target, const void *source, size_t bytes, cudaMemcpyKind kind) {
  return rs_report(run_copy(line(target, source, bytes), kind, nullptr, true));
}

cudaError_t cudaMemcpyAsync(void *target, const void *source, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return rs_report(run_copy(line(target, source, bytes), kind, stream, false));
}

cudaError_t cudaMemcpyPeerAsync(void *target, int target_device, const void *source, int source_device, size_t bytes, cudaStream_t stream) {
  if (check_device(target_device) || check_device(source_device)) return cudaErrorInvalidDevice;
  return rs_report(run_copy(line(target, source, bytes), cudaMemcpyDeviceToDevice, stream, false));
}

cudaError_t cudaMemcpy2DAsync(void *target, size_t target_pitch, const void *source, size_t source_pitch, size_t width, size_t height,
                              cudaMemcpyKind kind, cudaStream_t stream) {
  copy rows = {(char *)target, (const char *)source, target_pitch, source_pitch, width, height};
  return rs_report(run_copy(rows, kind, stream, false));
}

cudaError_t cudaMemcpy2D(void *target, size_t target_pitch, const void *source, size_t source_pitch, size_t width, size_t height,
                         cudaMemcpyKind kind) {
  copy rows = {(char *)target, (const char *)source, target_pitch, source_pitch, width, height};
  return rs_report(run_copy(rows, kind, nullptr, true));
}

cudaError_t cudaMemsetAsync(void *target, int value, size_t bytes, cudaStream_t stream) {
  return rs_report(fill(target, value, bytes, stream));
}

cudaError_t cudaMemset(void *target, int value, size_t bytes) {
  cudaError_t error = rs_unsafe_call();
  return rs_report(error ? error : fill(target, value, bytes, nullptr));
}
