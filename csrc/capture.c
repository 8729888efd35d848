// capture.c: captures by number, and the list of calls that one is on the CPU.
#include "capture.h"

#include "cuda_calls.h"
#include "device.h"
#include "memory.h"
#include "plan.h"
#include "status.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS 64 // a bit for each in the tables of memory and plans

typedef struct command command;
struct command {
  command *next;
  const char *name;
  rs_run run;
  size_t bytes;
  _Alignas(16) unsigned char arguments[];
};

// The calls of a capture on the CPU.
typedef struct {
  command *first, **end;
  size_t most; // bytes of arguments
} list;

typedef struct {
  int64_t number; // 0: nobody has this slot
  int32_t device;
  void *program; // a list, or the graph of a GPU
} capture;

static capture captures[SLOTS];
static int64_t last_number;
static atomic_int recording = -1; // the slot of the one that records
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

int rs_capture_recording(int32_t device) {
  int slot = atomic_load(&recording);
  return slot >= 0 && captures[slot].device == device ? slot : -1;
}

int32_t rs_capture_refuse(int32_t device, const char *what) {
  if (rs_capture_recording(device) < 0) return RS_OK;
  return rs_fail(RS_EARGUMENT, "%s inside a capture: only what the device can do again by itself is captured", what);
}

int32_t rs_capture_append(const char *name, rs_run run, const void *arguments, size_t bytes) {
  list *calls = captures[atomic_load(&recording)].program;
  command *added = malloc(sizeof *added + bytes);
  if (!added) return rs_fail(RS_EMEMORY, "%s: no host memory for %zu bytes of arguments", name, bytes);
  *added = (command){.name = name, .run = run, .bytes = bytes};
  memcpy(added->arguments, arguments, bytes);
  *calls->end = added;
  calls->end = &added->next;
  if (bytes > calls->most) calls->most = bytes;
  return RS_OK;
}

static list *new_list(void) {
  list *calls = calloc(1, sizeof *calls);
  if (calls) calls->end = &calls->first;
  return calls;
}

// An operation of the CPU's queue.
static int32_t run_calls(rs_operation *operation, void *arguments) {
  const list *calls = *(list **)arguments;
  void *copy = malloc(calls->most + 1); // a call may change its arguments
  if (!copy) return rs_fail(RS_EMEMORY, "no host memory for %zu bytes of arguments", calls->most);
  int32_t status = RS_OK;
  for (const command *c = calls->first; c && !status; c = c->next) {
    memcpy(copy, c->arguments, c->bytes);
    status = c->run(operation, copy);
    if (status < 0) rs_fail(status, "%s: %s", c->name, rs_sentence());
  }
  free(copy);
  return status;
}

static int32_t run_drop(rs_operation *operation, void *arguments) {
  (void)operation;
  list *calls = *(list **)arguments;
  for (command *c = calls->first, *next; c; c = next) {
    next = c->next;
    free(c);
  }
  free(calls);
  return RS_OK;
}

// With the lock held: the capture of that number, or NULL after an error.
static capture *find(int64_t number) {
  for (int slot = 0; slot < SLOTS; slot++)
    if (number > 0 && captures[slot].number == number) return &captures[slot];
  rs_fail(RS_EPOINTER, "capture %lld is not alive", (long long)number);
  return NULL;
}

static int records(const capture *c) { return atomic_load(&recording) == c - captures; }

// With the lock held: from here on calls are done again.
static int32_t stop(capture *c, int keep) {
  atomic_store(&recording, -1);
  return c->device == RS_CPU ? RS_OK : rs_cuda_capture_end(c->device, keep ? &c->program : NULL);
}

// With the lock held
static int32_t forget(capture *c) {
  int32_t status = RS_OK;
  if (c->device != RS_CPU)
    rs_cuda_capture_free(c->program);
  else // the queue may still work through the list
    status = rs_queue_push(rs_cpu_queue(), "capture_free", RS_MUST_RUN, run_drop, &c->program, sizeof c->program);
  if (status) return status;
  rs_memory_forget((int32_t)(c - captures));
  rs_plan_forget((int32_t)(c - captures));
  *c = (capture){0};
  return RS_OK;
}

static int32_t begin(int32_t device, int64_t *number) {
  int slot = 0;
  while (slot < SLOTS && captures[slot].number) slot++;
  if (slot == SLOTS) return rs_fail(RS_EARGUMENT, "%d captures are alive: free one first", SLOTS);
  if (atomic_load(&recording) >= 0) return rs_fail(RS_EARGUMENT, "a capture is recording already: end it first");
  capture made = {.number = ++last_number, .device = device};
  if (device == RS_CPU && !(made.program = new_list())) return rs_fail(RS_EMEMORY, "no host memory for a capture");
  int32_t status = device == RS_CPU ? RS_OK : rs_cuda_capture_begin(device);
  if (status) return status;
  captures[slot] = made;
  atomic_store(&recording, slot);
  *number = made.number;
  return RS_OK;
}

int32_t rs_capture_begin(int32_t device, int64_t *number) {
  if (rs_device_check(device)) return RS_EDEVICE;
  pthread_mutex_lock(&lock);
  int32_t status = begin(device, number);
  pthread_mutex_unlock(&lock);
  return status;
}

int32_t rs_capture_end(int64_t number) {
  pthread_mutex_lock(&lock);
  capture *c = find(number);
  int32_t status = RS_EPOINTER;
  if (c) status = records(c) ? stop(c, 1) : rs_fail(RS_EARGUMENT, "capture %lld does not record", (long long)number);
  pthread_mutex_unlock(&lock);
  return status;
}

int32_t rs_capture_run(int64_t number) {
  pthread_mutex_lock(&lock);
  capture *c = find(number);
  int32_t status = c ? rs_capture_refuse(c->device, "running a capture") : RS_EPOINTER;
  if (!status) status = rs_device_push(c->device, "capture", RS_IN_PLACE, run_calls, rs_cuda_capture_run, &c->program, sizeof c->program);
  pthread_mutex_unlock(&lock);
  return status;
}

int32_t rs_capture_free(int64_t number) {
  pthread_mutex_lock(&lock);
  capture *c = find(number);
  int32_t status = c ? RS_OK : RS_EPOINTER;
  if (c && records(c)) stop(c, 0); // an error there leaves no graph
  if (c) status = forget(c);
  pthread_mutex_unlock(&lock);
  return status;
}
