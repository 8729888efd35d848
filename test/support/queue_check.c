// Checks csrc/queue.c from the inside, where operations can be made to fail and to wait. Usage: queue_check CASE
#include "queue.h"
#include "status.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                               \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      fprintf(stderr, "line %d: %s (last sentence: %s)\n", __LINE__, #condition, rs_sentence());                       \
      exit(1);                                                                                                         \
    }                                                                                                                  \
  } while (0)

static rs_queue *queue;

static int64_t push(const char *name, rs_effect effect, rs_run run, const void *arguments, size_t bytes) {
  CHECK(rs_queue_push(queue, name, effect, run, arguments, bytes) == RS_OK);
  return rs_queue_last(queue);
}

static int32_t run_failing(rs_operation *operation, void *text) {
  (void)operation;
  return rs_fail(RS_EMEMORY, "%s", (const char *)text);
}

static int64_t push_failing(const char *name, const char *text) {
  return push(name, RS_OVERWRITES, run_failing, text, strlen(text) + 1);
}

static int32_t run_counting(rs_operation *operation, void *counter) {
  (void)operation;
  atomic_fetch_add(*(atomic_int **)counter, 1);
  return RS_OK;
}

static int64_t push_counting(rs_effect effect, atomic_int *counter) {
  return push("count", effect, run_counting, &counter, sizeof counter);
}

// An operation that waits at a gate inside a task of its loop, and tells how many tasks have run.
typedef struct {
  atomic_int entered, open, tasks;
} gate;

static void gated_task(void *context, int64_t task, int worker) {
  (void)task, (void)worker;
  gate *g = context;
  atomic_store(&g->entered, 1);
  while (!atomic_load(&g->open)) sched_yield();
  atomic_fetch_add(&g->tasks, 1);
}

static int32_t run_gated(rs_operation *operation, void *g) { return rs_parallel_for(operation, 1000, gated_task, *(gate **)g); }

static int64_t push_gated(rs_effect effect, gate *g) {
  int64_t number = push("gated", effect, run_gated, &g, sizeof g);
  while (!atomic_load(&g->entered)) sched_yield();
  return number;
}

// The first error is told once, with the name of its call, to whoever asks about it or later work; others are dropped.
static void errors(void) {
  atomic_int counter = 0;
  int64_t before = push_counting(RS_OVERWRITES, &counter);
  int64_t first = push_failing("first", "no memory");
  push_failing("second", "nor here");
  int64_t last = push_counting(RS_OVERWRITES, &counter);
  CHECK(rs_queue_wait(queue, before) == RS_OK);
  rs_queue_drain(queue);
  CHECK(rs_queue_query(queue, before) == RS_OK);
  CHECK(rs_queue_query(queue, last) == RS_EMEMORY);
  CHECK(!strcmp(rs_sentence(), "first: no memory"));
  CHECK(rs_queue_query(queue, first) == RS_OK && rs_queue_wait(queue, last) == RS_OK);
  CHECK(atomic_load(&counter) == 2); // work after the error went on
  CHECK(rs_queue_wait(queue, push_failing("third", "again")) == RS_EMEMORY && !strcmp(rs_sentence(), "third: again"));
  CHECK(rs_queue_query(queue, last + 100) == RS_EARGUMENT && rs_queue_wait(queue, last + 100) == RS_EARGUMENT);
}

// What waits for the queue without being asked about it leaves the error for those who ask.
static void kept_errors(void) {
  int64_t failing = push_failing("call", "text");
  rs_queue_drain(queue);
  CHECK(rs_queue_set_threads(queue, 2) == RS_OK && rs_queue_threads(queue) == 2);
  CHECK(rs_queue_wait(queue, failing) == RS_EMEMORY && !strcmp(rs_sentence(), "call: text"));
}

typedef struct {
  atomic_int runs[1000];
  atomic_int wrong_worker;
  int64_t tasks;
} loop;

static void counting_task(void *context, int64_t task, int worker) {
  loop *l = context;
  atomic_fetch_add(&l->runs[task], 1);
  if (worker < 0 || worker >= rs_queue_threads(queue)) atomic_store(&l->wrong_worker, 1);
}

static int32_t run_loop(rs_operation *operation, void *argument) {
  loop *l = *(loop **)argument;
  for (int turn = 0; turn < 3; turn++) CHECK(rs_parallel_for(operation, l->tasks, counting_task, l) == RS_OK);
  return RS_OK;
}

// Every task of a loop runs once, for any number of threads and tasks.
static void loops(void) {
  static loop l;
  for (int threads = 1; threads <= 5; threads++) {
    CHECK(rs_queue_set_threads(queue, threads) == RS_OK && rs_queue_threads(queue) == threads);
    for (l.tasks = 0; l.tasks <= 1000; l.tasks = 3 * l.tasks + 1) {
      loop *pointer = &l;
      memset(l.runs, 0, sizeof l.runs);
      for (int turn = 0; turn < 20; turn++) push("loop", RS_OVERWRITES, run_loop, &pointer, sizeof pointer);
      CHECK(rs_queue_wait(queue, rs_queue_last(queue)) == RS_OK && !l.wrong_worker);
      for (int64_t k = 0; k < 1000; k++) CHECK(l.runs[k] == (k < l.tasks ? 60 : 0));
    }
  }
}

// A running call stops at its next task; waiting ones do not start, but for those that must run; the rest is untouched.
static void cancelling(void) {
  gate g = {0};
  atomic_int dropped = 0, must = 0, later = 0;
  int64_t running = push_gated(RS_OVERWRITES, &g);
  push_counting(RS_OVERWRITES, &dropped);
  push_counting(RS_IN_PLACE, &dropped);
  int64_t last = push_counting(RS_MUST_RUN, &must);
  push_counting(RS_OVERWRITES, &later);
  CHECK(rs_queue_query(queue, running) == RS_BUSY && !rs_queue_idle(queue));
  rs_queue_cancel(queue, running, last, 0);
  atomic_store(&g.open, 1);
  CHECK(rs_queue_wait(queue, rs_queue_last(queue)) == RS_OK && rs_queue_idle(queue));
  CHECK(g.tasks < 1000 && dropped == 0 && must == 1 && later == 1);
}

// leave_whole lets a running call in place finish, and no other.
static void leaving_whole(void) {
  gate in_place = {0}, overwriting = {0};
  atomic_int waiting = 0;
  int64_t running = push_gated(RS_IN_PLACE, &in_place);
  int64_t last = push_counting(RS_IN_PLACE, &waiting);
  rs_queue_cancel(queue, running, last, 1);
  atomic_store(&in_place.open, 1);
  CHECK(rs_queue_wait(queue, last) == RS_OK && in_place.tasks == 1000 && waiting == 0);
  running = push_gated(RS_OVERWRITES, &overwriting);
  rs_queue_cancel(queue, running, running, 1);
  atomic_store(&overwriting.open, 1);
  CHECK(rs_queue_wait(queue, running) == RS_OK && overwriting.tasks < 1000);
}

int main(int count, char **names) {
  static const struct {
    const char *name;
    void (*run)(void);
  } cases[] = {{"errors", errors}, {"kept_errors", kept_errors}, {"loops", loops}, {"cancelling", cancelling}, {"leaving_whole", leaving_whole}};
  queue = rs_queue_create(2);
  CHECK(queue && count == 2);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    if (strcmp(cases[i].name, names[1])) continue;
    cases[i].run();
    puts("checked");
    return 0;
  }
  return 2;
}
