// device.c: the CPU device: its memory, its queue, and transfers between the caller's buffers and device memory.
#define _GNU_SOURCE
#include "device.h"

#include "host.h"
#include "memory.h"
#include "plan.h"
#include "status.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STAGED_BYTES (INT64_C(256) << 20) // uploads that wait in staging before rs_upload says RS_BUSY

static rs_queue *cpu_queue;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static atomic_int_least64_t staged;

static void wait_idle(int32_t device) {
  (void)device;
  rs_queue_drain(cpu_queue);
}

static void start(void) {
  cpu_queue = rs_queue_create(rs_host_threads());
  rs_memory_register(RS_CPU, &(rs_memory_source){rs_host_reserve, rs_host_release, rs_host_memory, wait_idle, "CPU"});
}

rs_queue *rs_device_queue(int32_t device) {
  if (device != RS_CPU) {
    rs_fail(RS_EDEVICE, "device %d does not exist: this library has device 0 (CPU)", device);
    return NULL;
  }
  pthread_once(&once, start);
  if (!cpu_queue) rs_fail(RS_EDEVICE, "the CPU device could not start a thread");
  return cpu_queue;
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

static void check_apart(rs_check *check, const char *a, int64_t a_bytes, const char *b, int64_t b_bytes, const char *what) {
  if (!check->status && a < b + b_bytes && b < a + a_bytes) check->status = rs_fail(RS_EARGUMENT, "%s share memory", what);
}

void rs_check_apart(rs_check *check, const void *a, int64_t a_count, const void *b, int64_t b_count, const char *what) {
  check_apart(check, a, a_count * 4, b, b_count * 4, what);
}

int32_t rs_abi(void) { return RS_ABI; }

int32_t rs_device_count(int32_t *count) {
  *count = 1;
  return RS_OK;
}

int32_t rs_device_name(int32_t device, uint8_t *text, int32_t capacity, int32_t *length) {
  rs_queue *queue = rs_device_queue(device);
  if (!queue) return RS_EDEVICE;
  *length = snprintf((char *)text, (size_t)capacity, "CPU, %d threads, %s", rs_queue_threads(queue), rs_simd_name());
  if (*length >= capacity) *length = capacity - 1;
  return RS_OK;
}

int32_t rs_threads(int32_t device, int32_t count, int32_t *threads) {
  rs_queue *queue = rs_device_queue(device);
  if (!queue) return RS_EDEVICE;
  int32_t status = count > 0 ? rs_queue_set_threads(queue, count) : RS_OK;
  *threads = rs_queue_threads(queue);
  return status;
}

int32_t rs_memory_trim(int32_t device) { return rs_device_queue(device) ? rs_pool_trim(device) : RS_EDEVICE; }

int32_t rs_record(int32_t device, int64_t *event) {
  rs_queue *queue = rs_device_queue(device);
  if (!queue) return RS_EDEVICE;
  *event = rs_queue_last(queue);
  return RS_OK;
}

int32_t rs_query(int32_t device, int64_t event) {
  rs_queue *queue = rs_device_queue(device);
  return queue ? rs_queue_query(queue, event) : RS_EDEVICE;
}

int32_t rs_wait(int32_t device, int64_t event) {
  rs_queue *queue = rs_device_queue(device);
  return queue ? rs_queue_wait(queue, event) : RS_EDEVICE;
}

int32_t rs_cancel(int32_t device, int64_t first, int64_t last, int32_t leave_whole) {
  rs_queue *queue = rs_device_queue(device);
  if (!queue) return RS_EDEVICE;
  rs_queue_cancel(queue, first, last, leave_whole);
  return RS_OK;
}

int32_t rs_allocate(int32_t device, int64_t bytes, int64_t *pointer) {
  return rs_device_queue(device) ? rs_pool_allocate(device, bytes, pointer) : RS_EDEVICE;
}

// Transfers

// Staging of large transfers is kept for the next one: fresh memory costs more than the copy into it.
#define SPARES 2
#define LARGE (INT64_C(1) << 20)
static void *spares[SPARES];
static pthread_mutex_t spare_lock = PTHREAD_MUTEX_INITIALIZER;

static void *take_staging(int64_t bytes) {
  void *memory = NULL;
  if (bytes < LARGE) return malloc((size_t)bytes);
  pthread_mutex_lock(&spare_lock);
  for (int i = 0; i < SPARES && !memory; i++) {
    memory = spares[i];
    spares[i] = NULL;
  }
  pthread_mutex_unlock(&spare_lock);
  return memory ? memory : malloc(RS_TRANSFER_BYTES);
}

static void give_staging(void *memory, int64_t bytes) {
  if (memory && bytes >= LARGE) {
    pthread_mutex_lock(&spare_lock);
    for (int i = 0; i < SPARES && memory; i++) {
      if (spares[i]) continue;
      spares[i] = memory;
      memory = NULL;
    }
    pthread_mutex_unlock(&spare_lock);
  }
  free(memory);
}

static int32_t check_transfer(int64_t bytes) {
  if (bytes > 0 && bytes <= RS_TRANSFER_BYTES) return RS_OK;
  return rs_fail(RS_EARGUMENT, "a transfer of %lld bytes: expected 1 to %d", (long long)bytes, RS_TRANSFER_BYTES);
}

typedef struct {
  void *target, *source;
  int64_t bytes;
} transfer;

static int32_t run_upload(rs_operation *operation, void *arguments) {
  (void)operation;
  transfer *t = arguments;
  memcpy(t->target, t->source, (size_t)t->bytes);
  give_staging(t->source, t->bytes);
  atomic_fetch_sub(&staged, t->bytes);
  return RS_OK;
}

int32_t rs_upload(int64_t pointer, const void *source, int64_t bytes) {
  rs_check check = RS_CHECK;
  if (check_transfer(bytes)) return RS_EARGUMENT;
  void *target = rs_check_bytes(&check, pointer, bytes, "upload target");
  if (check.status) return check.status;
  rs_queue *queue = rs_device_queue(check.device);
  if (rs_queue_idle(queue)) { // nothing queued reads or writes the array: no staging needed
    memcpy(target, source, (size_t)bytes);
    return RS_OK;
  }
  if (atomic_load(&staged) + bytes > STAGED_BYTES) return RS_BUSY;
  transfer t = {target, take_staging(bytes), bytes};
  if (!t.source) return rs_fail(RS_EMEMORY, "no host memory to stage an upload of %lld bytes", (long long)bytes);
  memcpy(t.source, source, (size_t)bytes);
  int32_t status = rs_queue_push(queue, "upload", RS_MUST_RUN, run_upload, &t, sizeof t);
  if (status)
    give_staging(t.source, bytes);
  else
    atomic_fetch_add(&staged, bytes);
  return status;
}

// A download keeps its own copy until it is fetched, so that later calls may overwrite the array.
typedef struct download download;
struct download {
  download *next;
  int64_t number, bytes, event;
  int32_t device;
  void *copy;
};

static download *downloads;
static int64_t last_download;
static pthread_mutex_t download_lock = PTHREAD_MUTEX_INITIALIZER;

static int32_t run_copy(rs_operation *operation, void *arguments) {
  (void)operation;
  transfer *t = arguments;
  memcpy(t->target, t->source, (size_t)t->bytes);
  return RS_OK;
}

int32_t rs_download_begin(int64_t pointer, int64_t bytes, int64_t *number) {
  rs_check check = RS_CHECK;
  if (check_transfer(bytes)) return RS_EARGUMENT;
  void *source = rs_check_bytes(&check, pointer, bytes, "download source");
  if (check.status) return check.status;
  download *d = malloc(sizeof *d);
  void *copy = take_staging(bytes);
  if (!d || !copy) {
    free(d);
    give_staging(copy, bytes);
    return rs_fail(RS_EMEMORY, "no host memory to stage a download of %lld bytes", (long long)bytes);
  }
  rs_queue *queue = rs_device_queue(check.device);
  transfer t = {copy, source, bytes};
  int32_t status = rs_queue_push(queue, "download", RS_OVERWRITES, run_copy, &t, sizeof t);
  if (status) {
    free(d);
    give_staging(copy, bytes);
    return status;
  }
  pthread_mutex_lock(&download_lock);
  *d = (download){downloads, ++last_download, bytes, rs_queue_last(queue), check.device, copy};
  downloads = d;
  *number = d->number;
  pthread_mutex_unlock(&download_lock);
  rs_memory_count(check.device, RS_DOWNLOADS_OPEN, 1);
  return RS_OK;
}

int32_t rs_download_end(int64_t number, void *target, int64_t bytes) {
  pthread_mutex_lock(&download_lock);
  download **link = &downloads;
  while (*link && (*link)->number != number) link = &(*link)->next;
  download *d = *link;
  int32_t status;
  if (!d || (bytes && bytes != d->bytes)) {
    status = d ? rs_fail(RS_EARGUMENT, "download %lld has %lld bytes, not %lld", (long long)number, (long long)d->bytes, (long long)bytes)
               : rs_fail(RS_EARGUMENT, "download %lld is not open", (long long)number);
    pthread_mutex_unlock(&download_lock);
    return status;
  }
  status = rs_queue_query(rs_device_queue(d->device), d->event);
  if (status != RS_BUSY) *link = d->next; // also when queued work has failed: the caller is told and need not end it again
  pthread_mutex_unlock(&download_lock);
  if (status == RS_BUSY) return status;
  if (bytes && !status) memcpy(target, d->copy, (size_t)bytes);
  rs_memory_count(d->device, RS_DOWNLOADS_OPEN, -1);
  give_staging(d->copy, d->bytes);
  free(d);
  return status;
}

int32_t rs_copy(int64_t target, int64_t source, int64_t bytes) {
  rs_check check = RS_CHECK;
  if (bytes <= 0) return rs_fail(RS_EARGUMENT, "a copy of %lld bytes: expected a positive number", (long long)bytes);
  void *to = rs_check_bytes(&check, target, bytes, "copy target");
  void *from = rs_check_bytes(&check, source, bytes, "copy source");
  check_apart(&check, to, bytes, from, bytes, "copy target and source");
  if (check.status) return check.status;
  transfer t = {to, from, bytes};
  return rs_queue_push(rs_device_queue(check.device), "copy", RS_OVERWRITES, run_copy, &t, sizeof t);
}
