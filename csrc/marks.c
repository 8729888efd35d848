// marks.c: points of a device's queue, and the time between two of them.
#define _GNU_SOURCE
#include "capture.h"
#include "cuda_calls.h"
#include "device.h"
#include "memory.h"
#include "raysum.h"
#include "status.h"

#include <pthread.h>
#include <time.h>

typedef struct {
  int64_t call;   // of the CPU's queue, which writes ...
  double seconds; // ... this
  void *event;    // of a GPU
} mark;

// Mark n of a device is at n % RS_MARKS until the next one of that place: nobody has to free one.
static struct {
  int64_t last;
  mark marks[RS_MARKS];
} rings[RS_MAX_DEVICES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int32_t run_mark(rs_operation *operation, void *arguments) {
  (void)operation;
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  (*(mark **)arguments)->seconds = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
  return RS_OK;
}

// With the lock held
static int32_t put(int32_t device, int64_t *number) {
  mark *marks = rings[device].marks, *m = &marks[(rings[device].last + 1) % RS_MARKS];
  int32_t status = RS_OK;
  if (device != RS_CPU && !rings[device].last) // all at once: making one would count where the first times are short
    for (int k = 0; k < RS_MARKS && !status; k++) status = rs_cuda_event(device, &marks[k].event);
  void *argument = device == RS_CPU ? m : m->event;
  if (!status) status = rs_device_push(device, "mark", RS_MUST_RUN, run_mark, rs_cuda_mark, &argument, sizeof argument);
  if (status) return status;
  if (device == RS_CPU) m->call = rs_queue_last(rs_cpu_queue());
  *number = ++rings[device].last;
  return RS_OK;
}

int32_t rs_mark(int32_t device, int64_t *number) {
  if (rs_device_check(device)) return RS_EDEVICE;
  if (rs_capture_refuse(device, "a mark")) return RS_EARGUMENT;
  pthread_mutex_lock(&lock);
  int32_t status = put(device, number);
  pthread_mutex_unlock(&lock);
  return status;
}

// With the lock held
static int32_t elapsed(int32_t device, int64_t first, int64_t last, double *milliseconds) {
  const int64_t newest = rings[device].last, oldest = newest > RS_MARKS ? newest - RS_MARKS + 1 : 1;
  for (int k = 0; k < 2; k++) {
    int64_t number = k ? last : first;
    if (number < oldest || number > newest)
      return rs_fail(RS_EARGUMENT, "mark %lld is not one of the last %d of this device", (long long)number, RS_MARKS);
  }
  if (first > last)
    return rs_fail(RS_EARGUMENT, "mark %lld is behind mark %lld: expected the earlier one first", (long long)first, (long long)last);
  mark *from = &rings[device].marks[first % RS_MARKS], *to = &rings[device].marks[last % RS_MARKS];
  if (device != RS_CPU) return rs_cuda_elapsed(device, from->event, to->event, milliseconds);
  int32_t status = rs_queue_query(rs_cpu_queue(), to->call);
  if (!status) *milliseconds = 1000 * (to->seconds - from->seconds);
  return status;
}

int32_t rs_elapsed(int32_t device, int64_t first, int64_t last, double *milliseconds) {
  if (rs_device_check(device)) return RS_EDEVICE;
  if (rs_capture_refuse(device, "asking how far the device is")) return RS_EARGUMENT;
  pthread_mutex_lock(&lock);
  int32_t status = elapsed(device, first, last, milliseconds);
  pthread_mutex_unlock(&lock);
  return status;
}
