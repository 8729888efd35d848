// plan.c: plans and the calls on them: forward, back, and the two halves of a SIRT iteration.
#include "plan.h"

#include "capture.h"
#include "device.h"
#include "memory.h"
#include "status.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

// Live plans by their number, oldest first, so that a number which is no longer there is refused.
typedef struct {
  int64_t number;
  rs_plan *plan;
} entry;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static entry *entries;
static int64_t entry_count, entry_capacity, last_number;

static int64_t index_of(int64_t number) {
  int64_t low = 0, high = entry_count;
  while (low < high) {
    int64_t middle = (low + high) / 2;
    if (entries[middle].number < number)
      low = middle + 1;
    else
      high = middle;
  }
  return low < entry_count && entries[low].number == number ? low : -1;
}

static rs_plan *find(rs_check *check, int64_t number) {
  pthread_mutex_lock(&lock);
  int64_t i = index_of(number);
  rs_plan *plan = i < 0 || entries[i].plan->freed ? NULL : entries[i].plan;
  int slot = plan ? rs_capture_recording(plan->device) : -1;
  if (slot >= 0) plan->captures |= UINT64_C(1) << slot;
  pthread_mutex_unlock(&lock);
  if (!plan)
    check->status = rs_fail(RS_EPOINTER, "plan %lld is not alive", (long long)number);
  else
    check->device = plan->device;
  return plan;
}

static int32_t enter(rs_plan *plan, int64_t *number) {
  pthread_mutex_lock(&lock);
  int32_t status = RS_OK;
  if (entry_count == entry_capacity) {
    int64_t capacity = entry_capacity ? 2 * entry_capacity : 64;
    entry *grown = realloc(entries, (size_t)capacity * sizeof *grown);
    if (grown) {
      entries = grown;
      entry_capacity = capacity;
    } else {
      status = rs_fail(RS_EMEMORY, "no host memory for the table of plans");
    }
  }
  if (!status) entries[entry_count++] = (entry){ *number = ++last_number, plan};
  pthread_mutex_unlock(&lock);
  return status;
}

static void release(rs_plan *plan) {
  if (plan->tables) plan->family->release(plan);
  rs_geometry_release(&plan->geometry);
  free(plan);
}

int32_t rs_plan_create(int32_t device, const double *numbers, int64_t count, int64_t *number) {
  if (rs_device_check(device)) return RS_EDEVICE;
  if (rs_capture_refuse(device, "a new plan")) return RS_EARGUMENT;
  rs_plan *plan = calloc(1, sizeof *plan);
  if (!plan) return rs_fail(RS_EMEMORY, "no host memory for a plan");
  plan->device = device;
  int32_t status = rs_geometry_read(&plan->geometry, numbers, count);
  if (!status) {
    const rs_family *const *families = rs_families(device, plan->geometry.law);
    while (*families && !(*families)->accepts(&plan->geometry)) families++;
    plan->family = *families;
    status = plan->family ? plan->family->prepare(plan) : rs_fail(RS_EARGUMENT, "device %d has no kernels for this geometry", device);
  }
  if (!status && plan->workspace_floats > 0) {
    int32_t any = device;
    void *address = NULL;
    status = rs_pool_allocate(device, plan->workspace_floats * (int64_t)sizeof(float), &plan->workspace_pointer);
    if (!status) status = rs_resolve(plan->workspace_pointer, 0, "workspace", &any, &address);
    plan->workspace = address;
  }
  if (!status) status = enter(plan, number);
  if (status) {
    if (plan->workspace_pointer) rs_free(plan->workspace_pointer);
    release(plan);
    return status;
  }
  rs_memory_count(device, RS_PLANS_ALIVE, 1);
  return RS_OK;
}

static int32_t run_release(rs_operation *operation, void *arguments) {
  (void)operation;
  release(*(rs_plan **)arguments);
  return RS_OK;
}

static int32_t plan_free(rs_plan *plan, int64_t number) {
  // Queued calls hold the plan itself, so it goes when the queue has passed; its workspace may be handed out again at once.
  int64_t workspace = plan->workspace_pointer;
  int32_t device = plan->device, status = rs_device_push(device, "plan_free", RS_MUST_RUN, run_release, run_release, &plan, sizeof plan);
  if (status) return status;
  pthread_mutex_lock(&lock);
  int64_t i = index_of(number);
  memmove(entries + i, entries + i + 1, (size_t)(--entry_count - i) * sizeof *entries);
  pthread_mutex_unlock(&lock);
  rs_memory_count(device, RS_PLANS_ALIVE, -1);
  return workspace ? rs_free(workspace) : RS_OK;
}

int32_t rs_plan_free(int64_t number) {
  rs_check check = RS_CHECK;
  rs_plan *plan = find(&check, number);
  if (check.status) return check.status;
  pthread_mutex_lock(&lock);
  plan->freed = plan->captures != 0;
  pthread_mutex_unlock(&lock);
  return plan->freed ? RS_OK : plan_free(plan, number);
}

void rs_plan_forget(int32_t slot) {
  for (int64_t i = 0;;) {
    pthread_mutex_lock(&lock);
    while (i < entry_count) {
      rs_plan *plan = entries[i].plan;
      plan->captures &= ~(UINT64_C(1) << slot);
      if (plan->freed && !plan->captures) break;
      i++;
    }
    entry found = i < entry_count ? entries[i] : (entry){0, NULL};
    pthread_mutex_unlock(&lock);
    if (!found.plan || plan_free(found.plan, found.number)) return;
  }
}

int32_t rs_plan_name(int64_t number, uint8_t *text, int32_t capacity, int32_t *length) {
  rs_check check = RS_CHECK;
  rs_plan *plan = find(&check, number);
  if (check.status) return check.status;
  return rs_write_text(text, capacity, length, "%s, %s", plan->family->name, plan->device == RS_CPU ? rs_simd_name() : "cuda");
}

typedef struct {
  const rs_plan *plan;
  rs_output output;
  const float *input;
  int64_t batch;
  double *norm;
} projection;

static int32_t run_forward(rs_operation *operation, void *arguments) {
  projection *p = arguments;
  return p->plan->family->forward(operation, p->plan, &p->output, p->input, p->batch, p->norm);
}

static int32_t run_back(rs_operation *operation, void *arguments) {
  projection *p = arguments;
  return p->plan->family->back(operation, p->plan, &p->output, p->input, p->batch);
}

static int64_t volume_count(const rs_plan *plan) {
  const int32_t *n = plan->geometry.shape;
  return (int64_t)n[0] * n[1] * n[2];
}

static int64_t projection_count(const rs_plan *plan) {
  return (int64_t)plan->geometry.rows * plan->geometry.views * plan->geometry.columns;
}

static void check_batch(rs_check *check, int64_t batch) {
  if (!check->status && (batch <= 0 || batch > (INT64_C(1) << 32)))
    check->status = rs_fail(RS_EARGUMENT, "batch is %lld: expected a positive count", (long long)batch);
}

static int32_t push(const rs_check *check, const char *name, rs_run run, projection *p) {
  if (check->status) return check->status;
  rs_effect effect = p->output.mode == RS_ADD || p->output.mode == RS_UPDATE ? RS_IN_PLACE : RS_OVERWRITES;
  return rs_device_push(check->device, name, effect, run, run, p, sizeof *p);
}

int32_t rs_forward(int64_t number, int64_t projections, int64_t volume, int64_t batch, int32_t accumulate) {
  rs_check check = RS_CHECK;
  projection p = {.plan = find(&check, number), .batch = batch};
  check_batch(&check, batch);
  if (check.status) return check.status;
  int64_t in = volume_count(p.plan) * batch, out = projection_count(p.plan) * batch;
  p.output.mode = accumulate ? RS_ADD : RS_STORE;
  p.output.target = rs_check_floats(&check, projections, out, "projections");
  p.input = rs_check_floats(&check, volume, in, "volume");
  rs_check_apart(&check, p.output.target, out, p.input, in, "projections and volume");
  return push(&check, "forward", run_forward, &p);
}

int32_t rs_back(int64_t number, int64_t volume, int64_t projections, int64_t batch, int32_t accumulate) {
  rs_check check = RS_CHECK;
  projection p = {.plan = find(&check, number), .batch = batch};
  check_batch(&check, batch);
  if (check.status) return check.status;
  int64_t in = projection_count(p.plan) * batch, out = volume_count(p.plan) * batch;
  p.output.mode = accumulate ? RS_ADD : RS_STORE;
  p.output.target = rs_check_floats(&check, volume, out, "volume");
  p.input = rs_check_floats(&check, projections, in, "projections");
  rs_check_apart(&check, p.output.target, out, p.input, in, "volume and projections");
  return push(&check, "back", run_back, &p);
}

int32_t rs_plan_alike(int64_t number, int32_t *rows, int32_t *slices) {
  rs_check check = RS_CHECK;
  const rs_plan *plan = find(&check, number);
  if (check.status) return check.status;
  *rows = plan->rows_alike;
  *slices = plan->slices_alike;
  return RS_OK;
}

// How many weights there are: of one item, or where they are shared of one of its rows or slices.
static int64_t count_weights(rs_check *check, int64_t one, int32_t units, int32_t shared, int32_t alike, const char *what) {
  if (shared && !alike && !check->status)
    check->status = rs_fail(RS_EARGUMENT, "shared weights: expected a plan whose %s are alike, see rs_plan_alike", what);
  return shared ? one / units : one;
}

int32_t rs_residual(int64_t number, int64_t out, int64_t volume, int64_t measured, int64_t weights, int32_t shared, int64_t batch,
                    int64_t norm) {
  rs_check check = RS_CHECK;
  projection p = {.plan = find(&check, number), .batch = batch};
  check_batch(&check, batch);
  if (check.status) return check.status;
  int64_t one = projection_count(p.plan), all = one * batch, in = volume_count(p.plan) * batch;
  int64_t some = count_weights(&check, one, p.plan->geometry.rows, shared, p.plan->rows_alike, "rows");
  p.output.mode = RS_RESIDUAL;
  p.output.shared = shared != 0;
  p.output.target = rs_check_floats(&check, out, all, "out");
  p.output.measured = rs_check_floats(&check, measured, all, "measured");
  p.output.weights = rs_check_floats(&check, weights, some, "weights");
  p.input = rs_check_floats(&check, volume, in, "volume");
  if (norm) p.norm = rs_check_doubles(&check, norm, batch, "norm");
  rs_check_apart(&check, p.output.target, all, p.input, in, "out and volume");
  rs_check_apart(&check, p.output.target, all, p.output.weights, some, "out and weights");
  return push(&check, "residual", run_forward, &p);
}

int32_t rs_update(int64_t number, int64_t volume, int64_t projections, int64_t scale, int32_t shared, double relaxation, double minimum,
                  double maximum, int64_t batch) {
  rs_check check = RS_CHECK;
  projection p = {.plan = find(&check, number), .batch = batch};
  check_batch(&check, batch);
  if (!check.status && (!isfinite(relaxation) || !(minimum <= maximum)))
    check.status = rs_fail(RS_EARGUMENT, "relaxation %g, minimum %g, maximum %g: expected a finite relaxation and minimum <= maximum",
                           relaxation, minimum, maximum);
  if (check.status) return check.status;
  int64_t one = volume_count(p.plan), all = one * batch, in = projection_count(p.plan) * batch;
  int64_t some = count_weights(&check, one, p.plan->geometry.shape[RS_Z], shared, p.plan->slices_alike, "slices");
  p.output = (rs_output){.mode = RS_UPDATE, .relaxation = (float)relaxation, .minimum = (float)minimum, .maximum = (float)maximum};
  p.output.shared = shared != 0;
  p.output.target = rs_check_floats(&check, volume, all, "volume");
  p.output.weights = rs_check_floats(&check, scale, some, "scale");
  p.input = rs_check_floats(&check, projections, in, "projections");
  rs_check_apart(&check, p.output.target, all, p.input, in, "volume and projections");
  rs_check_apart(&check, p.output.target, all, p.output.weights, some, "volume and scale");
  return push(&check, "update", run_back, &p);
}
