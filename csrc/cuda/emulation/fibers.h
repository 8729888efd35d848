// fibers.h: stacks that a thread can switch between, at the price of a function call.
#pragma once
#include <stddef.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

struct rs_fiber {
  rs_fiber *next; // free for its owner
  char *stack;    // lowest address; nullptr for the stack that a thread was born with
  size_t bytes;
  void *shadow; // of address sanitizer
#if defined(__x86_64__)
  void *top; // where its registers lie while it is away
#else
  ucontext_t context;
#endif
};

// Gives the fiber a stack with an inaccessible page below. False without memory. `number` spreads the stacks over cache lines.
bool rs_fiber_create(rs_fiber *fiber, unsigned number);
// Makes it start, or start again, with body() at the next switch. body must not return.
void rs_fiber_start(rs_fiber *fiber, void (*body)());
// Returns when something switches back.
void rs_fiber_switch(rs_fiber *from, rs_fiber *to);
