// queue.c: one dispatcher thread that runs operations in order, and a pool of workers for the loops inside them.
#define _GNU_SOURCE
#include "queue.h"

#include "status.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define MAX_THREADS 256
#define SPINS 400 // looks before a worker sleeps: loops inside one operation follow each other within microseconds

struct rs_operation {
  rs_operation *next;
  rs_queue *queue;
  int64_t number;
  const char *name;
  rs_effect effect;
  rs_run run;
  atomic_int cancelled;
  _Alignas(16) unsigned char arguments[];
};

typedef struct {
  rs_queue *queue;
  int index;
} worker_start;

struct rs_queue {
  pthread_mutex_t lock;
  pthread_cond_t queued, finished;
  pthread_t dispatcher;
  rs_operation *head, *tail; // waiting, oldest first
  rs_operation *running;
  int64_t last, completed;
  struct {
    int64_t number; // 0: none
    int32_t status;
    char text[512];
  } failure; // the first error that was not told yet

  // The pool. Worker 0 is the dispatcher.
  int threads;
  pthread_t workers[MAX_THREADS];
  worker_start starts[MAX_THREADS];
  pthread_mutex_t pool_lock;
  pthread_cond_t loop_opened, loop_left;
  atomic_uint loop; // rises with every loop and when the pool closes
  int open, active, closing;
  rs_operation *operation;
  rs_task body;
  void *context;
  int64_t tasks;
  atomic_int_least64_t next_task, tasks_done;
};

static void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

static void run_tasks(rs_queue *queue, int worker) {
  int64_t done = 0;
  for (;;) {
    if (atomic_load_explicit(&queue->operation->cancelled, memory_order_relaxed)) break;
    int64_t task = atomic_fetch_add(&queue->next_task, 1);
    if (task >= queue->tasks) break;
    queue->body(queue->context, task, worker);
    done++;
  }
  atomic_fetch_add(&queue->tasks_done, done);
}

static void *worker_main(void *argument) {
  rs_queue *queue = ((worker_start *)argument)->queue;
  int index = ((worker_start *)argument)->index;
  unsigned seen = 0;
  for (;;) {
    for (int i = 0; i < SPINS && atomic_load(&queue->loop) == seen; i++) relax();
    pthread_mutex_lock(&queue->pool_lock);
    while (atomic_load(&queue->loop) == seen && !queue->closing) pthread_cond_wait(&queue->loop_opened, &queue->pool_lock);
    seen = atomic_load(&queue->loop);
    if (queue->closing) break;
    int join = queue->open; // a worker that wakes after the loop has ended leaves it alone
    queue->active += join;
    pthread_mutex_unlock(&queue->pool_lock);
    if (!join) continue;
    run_tasks(queue, index);
    pthread_mutex_lock(&queue->pool_lock);
    if (--queue->active == 0) pthread_cond_signal(&queue->loop_left);
    pthread_mutex_unlock(&queue->pool_lock);
  }
  pthread_mutex_unlock(&queue->pool_lock);
  return NULL;
}

int32_t rs_parallel_for(rs_operation *operation, int64_t tasks, rs_task body, void *context) {
  rs_queue *queue = operation->queue;
  queue->operation = operation;
  queue->body = body;
  queue->context = context;
  queue->tasks = tasks;
  atomic_store(&queue->next_task, 0);
  atomic_store(&queue->tasks_done, 0);
  if (tasks > 1 && queue->threads > 1) {
    pthread_mutex_lock(&queue->pool_lock);
    queue->open = 1;
    atomic_fetch_add(&queue->loop, 1);
    pthread_cond_broadcast(&queue->loop_opened);
    pthread_mutex_unlock(&queue->pool_lock);
    run_tasks(queue, 0);
    pthread_mutex_lock(&queue->pool_lock);
    queue->open = 0;
    while (queue->active > 0) pthread_cond_wait(&queue->loop_left, &queue->pool_lock);
    pthread_mutex_unlock(&queue->pool_lock);
  } else {
    run_tasks(queue, 0);
  }
  return atomic_load(&queue->tasks_done) == tasks ? RS_OK : RS_CANCELLED;
}

int rs_operation_threads(const rs_operation *operation) { return operation->queue->threads; }

static void finish(rs_queue *queue, rs_operation *operation, int32_t status) {
  pthread_mutex_lock(&queue->lock);
  if (status < 0 && !queue->failure.number) {
    queue->failure.number = operation->number;
    queue->failure.status = status;
    rs_fail(status, "%s: %s", operation->name, rs_sentence());
    strncpy(queue->failure.text, rs_sentence(), sizeof queue->failure.text - 1);
  }
  queue->running = NULL;
  queue->completed = operation->number;
  pthread_cond_broadcast(&queue->finished);
  pthread_mutex_unlock(&queue->lock);
  free(operation);
}

static void *dispatcher_main(void *argument) {
  rs_queue *queue = argument;
  for (;;) {
    pthread_mutex_lock(&queue->lock);
    while (!queue->head) pthread_cond_wait(&queue->queued, &queue->lock);
    rs_operation *operation = queue->head;
    queue->head = operation->next;
    if (!queue->head) queue->tail = NULL;
    queue->running = operation;
    pthread_mutex_unlock(&queue->lock);
    int32_t status = atomic_load(&operation->cancelled) ? RS_CANCELLED : operation->run(operation, operation->arguments);
    finish(queue, operation, status);
  }
  return NULL;
}

// Fewer workers than asked for are fewer threads.
static void start_workers(rs_queue *queue, int threads) {
  queue->closing = 0;
  queue->threads = 1;
  for (int i = 1; i < threads && i < MAX_THREADS; i++) {
    queue->starts[i] = (worker_start){queue, i};
    if (pthread_create(&queue->workers[i], NULL, worker_main, &queue->starts[i])) return;
    queue->threads = i + 1;
  }
}

rs_queue *rs_queue_create(int threads) {
  rs_queue *queue = calloc(1, sizeof *queue);
  if (!queue) return NULL;
  pthread_mutex_init(&queue->lock, NULL);
  pthread_mutex_init(&queue->pool_lock, NULL);
  pthread_cond_init(&queue->queued, NULL);
  pthread_cond_init(&queue->finished, NULL);
  pthread_cond_init(&queue->loop_opened, NULL);
  pthread_cond_init(&queue->loop_left, NULL);
  start_workers(queue, threads);
  if (pthread_create(&queue->dispatcher, NULL, dispatcher_main, queue)) return NULL;
  return queue;
}

int rs_queue_threads(const rs_queue *queue) { return queue->threads; }

// An operation of its own: on the dispatcher, between two others, no loop is open.
static int32_t run_set_threads(rs_operation *operation, void *arguments) {
  rs_queue *queue = operation->queue;
  pthread_mutex_lock(&queue->pool_lock);
  queue->closing = 1;
  atomic_fetch_add(&queue->loop, 1);
  pthread_cond_broadcast(&queue->loop_opened);
  pthread_mutex_unlock(&queue->pool_lock);
  for (int i = 1; i < queue->threads; i++) pthread_join(queue->workers[i], NULL);
  start_workers(queue, *(int *)arguments);
  return RS_OK;
}

int32_t rs_queue_push(rs_queue *queue, const char *name, rs_effect effect, rs_run run, const void *arguments, size_t bytes) {
  rs_operation *operation = malloc(sizeof *operation + bytes);
  if (!operation) return rs_fail(RS_EMEMORY, "%s: no host memory for %zu bytes of arguments", name, bytes);
  operation->next = NULL;
  operation->queue = queue;
  operation->name = name;
  operation->effect = effect;
  operation->run = run;
  atomic_init(&operation->cancelled, 0);
  memcpy(operation->arguments, arguments, bytes);
  pthread_mutex_lock(&queue->lock);
  operation->number = ++queue->last;
  if (queue->tail)
    queue->tail->next = operation;
  else
    queue->head = operation;
  queue->tail = operation;
  pthread_cond_signal(&queue->queued);
  pthread_mutex_unlock(&queue->lock);
  return RS_OK;
}

int32_t rs_queue_set_threads(rs_queue *queue, int threads) {
  int32_t status = rs_queue_push(queue, "threads", RS_MUST_RUN, run_set_threads, &threads, sizeof threads);
  if (status) return status;
  rs_queue_drain(queue);
  if (queue->threads < threads) return rs_fail(RS_EDEVICE, "only %d of %d threads could be started", queue->threads, threads);
  return RS_OK;
}

int64_t rs_queue_last(rs_queue *queue) {
  pthread_mutex_lock(&queue->lock);
  int64_t last = queue->last;
  pthread_mutex_unlock(&queue->lock);
  return last;
}

int rs_queue_idle(rs_queue *queue) {
  pthread_mutex_lock(&queue->lock);
  int idle = queue->completed == queue->last;
  pthread_mutex_unlock(&queue->lock);
  return idle;
}

// With the lock held: the status of everything up to `event`.
static int32_t tell(rs_queue *queue, int64_t event) {
  if (queue->failure.number && queue->failure.number <= event && queue->completed >= queue->failure.number) {
    queue->failure.number = 0;
    return rs_fail(queue->failure.status, "%s", queue->failure.text);
  }
  return queue->completed >= event ? RS_OK : RS_BUSY;
}

int32_t rs_queue_query(rs_queue *queue, int64_t event) {
  pthread_mutex_lock(&queue->lock);
  int32_t status =
      event > queue->last ? rs_fail(RS_EARGUMENT, "event %lld is not one of this queue's", (long long)event) : tell(queue, event);
  pthread_mutex_unlock(&queue->lock);
  return status;
}

int32_t rs_queue_wait(rs_queue *queue, int64_t event) {
  pthread_mutex_lock(&queue->lock);
  if (event > queue->last) {
    pthread_mutex_unlock(&queue->lock);
    return rs_fail(RS_EARGUMENT, "event %lld is not one of this queue's", (long long)event);
  }
  while (queue->completed < event) pthread_cond_wait(&queue->finished, &queue->lock);
  int32_t status = tell(queue, event);
  pthread_mutex_unlock(&queue->lock);
  return status;
}

void rs_queue_drain(rs_queue *queue) {
  pthread_mutex_lock(&queue->lock);
  for (int64_t event = queue->last; queue->completed < event;) pthread_cond_wait(&queue->finished, &queue->lock);
  pthread_mutex_unlock(&queue->lock);
}

static void cancel(rs_operation *operation, int64_t first, int64_t last) {
  if (operation->number >= first && operation->number <= last && operation->effect != RS_MUST_RUN) atomic_store(&operation->cancelled, 1);
}

void rs_queue_cancel(rs_queue *queue, int64_t first, int64_t last, int leave_whole) {
  pthread_mutex_lock(&queue->lock);
  rs_operation *running = queue->running;
  if (running && !(leave_whole && running->effect == RS_IN_PLACE)) cancel(running, first, last);
  for (rs_operation *operation = queue->head; operation; operation = operation->next) cancel(operation, first, last);
  pthread_mutex_unlock(&queue->lock);
}
