// transfer.c: copies between the caller's buffers and device memory, and inside device memory.
#include "capture.h"
#include "cuda_calls.h"
#include "device.h"
#include "memory.h"
#include "status.h"
#include "transfer.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define STAGED_BYTES (INT64_C(256) << 20) // uploads that wait in staging before rs_upload says RS_BUSY

static atomic_int_least64_t staged;

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

static int32_t run_upload(rs_operation *operation, void *arguments) {
  (void)operation;
  rs_transfer *t = arguments;
  memcpy(t->target, t->source, (size_t)t->bytes);
  give_staging(t->source, t->bytes);
  atomic_fetch_sub(&staged, t->bytes);
  return RS_OK;
}

static int32_t run_constant(rs_operation *operation, void *arguments) {
  (void)operation;
  rs_constant *c = arguments;
  memcpy(c->target, c->values, (size_t)c->bytes);
  return RS_OK;
}

static int32_t record_upload(int32_t device, void *target, const void *source, int64_t bytes) {
  if (bytes > RS_CONSTANT_BYTES)
    return rs_fail(
        RS_EARGUMENT,
        "an upload of %lld bytes inside a capture, which would repeat the same data: upload before, into memory that the capture reads",
        (long long)bytes);
  rs_constant c = {.target = target, .bytes = bytes};
  memcpy(c.values, source, (size_t)bytes);
  return rs_device_push(device, "constant", RS_OVERWRITES, run_constant, rs_cuda_constant, &c,
                        offsetof(rs_constant, values) + (size_t)bytes);
}

int32_t rs_upload(int64_t pointer, const void *source, int64_t bytes) {
  rs_check check = RS_CHECK;
  if (check_transfer(bytes)) return RS_EARGUMENT;
  void *target = rs_check_bytes(&check, pointer, bytes, "upload target");
  if (check.status) return check.status;
  if (rs_capture_recording(check.device) >= 0) return record_upload(check.device, target, source, bytes);
  if (check.device != RS_CPU) return rs_cuda_upload(check.device, target, source, bytes);
  rs_queue *queue = rs_cpu_queue();
  if (rs_queue_idle(queue)) { // nothing queued reads or writes the array: no staging needed
    memcpy(target, source, (size_t)bytes);
    return RS_OK;
  }
  if (atomic_load(&staged) + bytes > STAGED_BYTES) return RS_BUSY;
  rs_transfer t = {target, take_staging(bytes), bytes};
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
  void *copy; // in staging
};

static download *downloads;
static int64_t last_download;
static pthread_mutex_t download_lock = PTHREAD_MUTEX_INITIALIZER;

// A GPU's staging is page-locked. Without any left, plain memory will do: the driver then waits for the copy.
static void *take_copy(int32_t device, int64_t bytes) {
  void *copy = device == RS_CPU ? take_staging(bytes) : rs_cuda_stage(device, bytes);
  return copy || device == RS_CPU ? copy : malloc((size_t)bytes);
}

static void give_copy(int32_t device, void *copy, int64_t bytes) {
  if (device == RS_CPU)
    give_staging(copy, bytes);
  else if (!rs_cuda_unstage(copy))
    free(copy);
}

static int32_t run_copy(rs_operation *operation, void *arguments) {
  (void)operation;
  rs_transfer *t = arguments;
  memcpy(t->target, t->source, (size_t)t->bytes);
  return RS_OK;
}

int32_t rs_download_begin(int64_t pointer, int64_t bytes, int64_t *number) {
  rs_check check = RS_CHECK;
  if (check_transfer(bytes)) return RS_EARGUMENT;
  void *source = rs_check_bytes(&check, pointer, bytes, "download source");
  if (!check.status) check.status = rs_capture_refuse(check.device, "a download");
  if (check.status) return check.status;
  download *d = malloc(sizeof *d);
  void *copy = take_copy(check.device, bytes);
  if (!d || !copy) {
    free(d);
    if (copy) give_copy(check.device, copy, bytes);
    return rs_fail(RS_EMEMORY, "no host memory to stage a download of %lld bytes", (long long)bytes);
  }
  rs_transfer t = {copy, source, bytes};
  int64_t event = 0;
  int32_t status = rs_device_push(check.device, "download", RS_OVERWRITES, run_copy, rs_cuda_copy, &t, sizeof t);
  if (!status) status = rs_record(check.device, &event);
  if (status) {
    free(d);
    give_copy(check.device, copy, bytes);
    return status;
  }
  pthread_mutex_lock(&download_lock);
  *d = (download){downloads, ++last_download, bytes, event, check.device, copy};
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
  if (!d)
    status = rs_fail(RS_EARGUMENT, "download %lld is not open", (long long)number);
  else if (bytes && bytes != d->bytes)
    status = rs_fail(RS_EARGUMENT, "download %lld has %lld bytes, not %lld", (long long)number, (long long)d->bytes, (long long)bytes);
  else
    status = rs_capture_refuse(d->device, "the end of a download");
  if (status) { // it stays open
    pthread_mutex_unlock(&download_lock);
    return status;
  }
  status = rs_query(d->device, d->event);
  if (status != RS_BUSY) *link = d->next; // also when queued work has failed: the caller is told and need not end it again
  pthread_mutex_unlock(&download_lock);
  if (status == RS_BUSY) return status;
  if (bytes && !status) {
    if (d->device == RS_CPU)
      memcpy(target, d->copy, (size_t)bytes);
    else
      rs_cuda_fetch(target, d->copy, bytes);
  }
  rs_memory_count(d->device, RS_DOWNLOADS_OPEN, -1);
  give_copy(d->device, d->copy, d->bytes);
  free(d);
  return status;
}

int32_t rs_copy(int64_t target, int64_t source, int64_t bytes) {
  rs_check check = RS_CHECK;
  if (bytes <= 0) return rs_fail(RS_EARGUMENT, "a copy of %lld bytes: expected a positive number", (long long)bytes);
  void *to = rs_check_bytes(&check, target, bytes, "copy target");
  void *from = rs_check_bytes(&check, source, bytes, "copy source");
  rs_check_bytes_apart(&check, to, bytes, from, bytes, "copy target and source");
  if (check.status) return check.status;
  rs_transfer t = {to, from, bytes};
  return rs_device_push(check.device, "copy", RS_OVERWRITES, run_copy, rs_cuda_copy, &t, sizeof t);
}
