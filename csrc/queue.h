// queue.h: the CPU device's in-order queue and its threads.
//
// A call queues an operation; one dispatcher thread runs the operations in order and spreads each over the pool with
// rs_parallel_for. An operation can be cancelled before and while it runs; a running one stops at its next task.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rs_queue rs_queue;
typedef struct rs_operation rs_operation;

// Runs on the dispatcher thread. `arguments` is the operation's own copy. Returns a status; an error has called rs_fail.
typedef int32_t (*rs_run)(rs_operation *operation, void *arguments);

// One task of a parallel loop; `worker` is below rs_queue_threads().
typedef void (*rs_task)(void *context, int64_t task, int worker);

rs_queue *rs_queue_create(int threads); // NULL when the threads cannot be started
int rs_queue_threads(const rs_queue *queue);
int32_t rs_queue_set_threads(rs_queue *queue, int threads); // waits until the queue is empty

// What a cancelled call leaves behind: a target without meaning; a target that was whole before; or something that is never freed,
// so that it must run in any case.
typedef enum { RS_OVERWRITES, RS_IN_PLACE, RS_MUST_RUN } rs_effect;

// Queues a call, with a copy of `arguments`. `name` must be a literal: it names the call when an error surfaces.
int32_t rs_queue_push(rs_queue *queue, const char *name, rs_effect effect, rs_run run, const void *arguments, size_t bytes);

int64_t rs_queue_last(rs_queue *queue);                 // number of the last operation queued
int rs_queue_idle(rs_queue *queue);                     // everything queued has ended
int32_t rs_queue_query(rs_queue *queue, int64_t event); // RS_OK, RS_BUSY or the error of an operation up to event
int32_t rs_queue_wait(rs_queue *queue, int64_t event);  // the same, blocking
void rs_queue_drain(rs_queue *queue);                   // blocks until everything queued has ended; tells no error
// leave_whole: an operation in place that runs already is left to finish.
void rs_queue_cancel(rs_queue *queue, int64_t first, int64_t last, int leave_whole);

// Runs body(context, 0 ... tasks - 1, worker) over the pool, in no order, and returns when all are done: RS_OK, or RS_CANCELLED
// when the operation was cancelled and tasks were left out. Only from inside an operation.
int32_t rs_parallel_for(rs_operation *operation, int64_t tasks, rs_task body, void *context);
int rs_operation_threads(const rs_operation *operation);

#ifdef __cplusplus
}
#endif
