// device.c: the devices: the CPU with its queue, and the GPUs of the CUDA library; and the checks of device pointers.
#define _GNU_SOURCE
#include "device.h"

#include "capture.h"
#include "cuda_calls.h"
#include "host.h"
#include "memory.h"
#include "plan.h"
#include "status.h"

#include <pthread.h>
#include <string.h>

static rs_queue *cpu_queue;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void wait_idle(int32_t device) {
  (void)device;
  rs_queue_drain(cpu_queue);
}

static void start(void) {
  cpu_queue = rs_queue_create(rs_host_threads());
  rs_memory_register(RS_CPU, &(rs_memory_source){rs_host_reserve, rs_host_release, rs_host_memory, wait_idle, "CPU"});
}

rs_queue *rs_cpu_queue(void) { return cpu_queue; }

static int32_t count_gpus(void) { return rs_cuda_count ? rs_cuda_count() : 0; }

int32_t rs_device_check(int32_t device) {
  if (device > RS_CPU && device <= count_gpus()) return rs_cuda_start(device);
  if (device != RS_CPU)
    return rs_fail(RS_EDEVICE, "device %d does not exist: this library has device 0 (CPU) and %d GPUs", device, count_gpus());
  pthread_once(&once, start);
  return cpu_queue ? RS_OK : rs_fail(RS_EDEVICE, "the CPU device could not start a thread");
}

int32_t rs_device_push(int32_t device, const char *name, rs_effect effect, rs_run cpu, rs_run cuda, void *arguments, size_t bytes) {
  if (device != RS_CPU) return rs_cuda_launch(device, name, effect, cuda, arguments); // into the graph, where a capture records
  if (effect != RS_MUST_RUN && rs_capture_recording(device) >= 0) return rs_capture_append(name, cpu, arguments, bytes);
  return rs_queue_push(cpu_queue, name, effect, cpu, arguments, bytes);
}

void *rs_check_bytes(rs_check *check, int64_t pointer, int64_t bytes, const char *what) {
  void *address = NULL;
  if (!check->status) check->status = rs_resolve(pointer, bytes, what, &check->device, &address);
  return address;
}

static void *check_elements(rs_check *check, int64_t pointer, int64_t count, int64_t size, const char *what) {
  if (!check->status && (count <= 0 || count > INT64_MAX / size))
    check->status = rs_fail(RS_EARGUMENT, "%s has %lld elements: expected a positive count", what, (long long)count);
  if (check->status) return NULL;
  void *address = rs_check_bytes(check, pointer, count * size, what);
  if (!check->status && pointer % size)
    check->status = rs_fail(RS_EPOINTER, "%s 0x%llx is misaligned: expected a multiple of %lld bytes", what, (unsigned long long)pointer,
                            (long long)size);
  return address;
}

float *rs_check_floats(rs_check *check, int64_t pointer, int64_t count, const char *what) {
  return check_elements(check, pointer, count, sizeof(float), what);
}

double *rs_check_doubles(rs_check *check, int64_t pointer, int64_t count, const char *what) {
  return check_elements(check, pointer, count, sizeof(double), what);
}

void rs_check_bytes_apart(rs_check *check, const void *first, int64_t a_bytes, const void *second, int64_t b_bytes, const char *what) {
  const char *a = first, *b = second;
  if (!check->status && a < b + b_bytes && b < a + a_bytes) check->status = rs_fail(RS_EARGUMENT, "%s share memory", what);
}

void rs_check_apart(rs_check *check, const void *a, int64_t a_count, const void *b, int64_t b_count, const char *what) {
  if (!check->status) rs_check_bytes_apart(check, a, a_count * 4, b, b_count * 4, what); // counts that were refused may overflow
}

int32_t rs_abi(void) { return RS_ABI; }

int32_t rs_device_count(int32_t *count) {
  *count = 1 + count_gpus();
  return RS_OK;
}

int32_t rs_device_name(int32_t device, uint8_t *text, int32_t capacity, int32_t *length) {
  if (rs_device_check(device)) return RS_EDEVICE;
  if (device != RS_CPU) return rs_write_text(text, capacity, length, "%s", rs_cuda_name(device));
  return rs_write_text(text, capacity, length, "CPU, %d threads, %s", rs_queue_threads(cpu_queue), rs_simd_name());
}

int32_t rs_device_missing(uint8_t *text, int32_t capacity, int32_t *length) {
  return rs_write_text(text, capacity, length, "%s", rs_cuda_missing ? rs_cuda_missing() : "this is the library for the CPU alone");
}

int32_t rs_threads(int32_t device, int32_t count, int32_t *threads) {
  if (rs_device_check(device)) return RS_EDEVICE;
  if (device != RS_CPU) return rs_fail(RS_EARGUMENT, "device %d is a GPU: expected the CPU, whose threads can be set", device);
  int32_t status = count > 0 ? rs_queue_set_threads(cpu_queue, count) : RS_OK;
  *threads = rs_queue_threads(cpu_queue);
  return status;
}

int32_t rs_stream(int32_t device, int64_t stream) {
  if (rs_device_check(device)) return RS_EDEVICE;
  if (device == RS_CPU) return rs_fail(RS_EARGUMENT, "device 0 is the CPU: expected a GPU, which has a stream");
  if (rs_capture_refuse(device, "another stream")) return RS_EARGUMENT;
  return rs_cuda_stream_set(device, stream);
}

int32_t rs_memory_trim(int32_t device) {
  if (rs_device_check(device)) return RS_EDEVICE;
  int32_t status = rs_capture_refuse(device, "giving memory back to the system");
  return status ? status : rs_pool_trim(device);
}

int32_t rs_record(int32_t device, int64_t *event) {
  if (rs_device_check(device)) return RS_EDEVICE;
  if (rs_capture_refuse(device, "asking how far the device is")) return RS_EARGUMENT;
  *event = device == RS_CPU ? rs_queue_last(cpu_queue) : rs_cuda_record(device);
  return RS_OK;
}

int32_t rs_query(int32_t device, int64_t event) {
  if (rs_device_check(device)) return RS_EDEVICE;
  if (rs_capture_refuse(device, "asking how far the device is")) return RS_EARGUMENT;
  return device == RS_CPU ? rs_queue_query(cpu_queue, event) : rs_cuda_query(device, event, 0);
}

int32_t rs_wait(int32_t device, int64_t event) {
  if (rs_device_check(device)) return RS_EDEVICE;
  if (rs_capture_refuse(device, "waiting for the device")) return RS_EARGUMENT;
  return device == RS_CPU ? rs_queue_wait(cpu_queue, event) : rs_cuda_query(device, event, 1);
}

int32_t rs_cancel(int32_t device, int64_t first, int64_t last, int32_t leave_whole) {
  if (device > RS_CPU && device <= count_gpus()) return RS_OK; // what a GPU was given, it does, unless it is lost
  if (rs_device_check(device)) return RS_EDEVICE;
  rs_queue_cancel(cpu_queue, first, last, leave_whole);
  return RS_OK;
}

int32_t rs_allocate(int32_t device, int64_t bytes, int64_t *pointer) {
  return rs_device_check(device) ? RS_EDEVICE : rs_pool_allocate(device, bytes, pointer);
}
