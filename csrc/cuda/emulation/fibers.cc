// fibers.cc: switching stacks, by hand on x86-64 and with ucontext (two system calls a switch) elsewhere.
#include "fibers.h"

#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
static const size_t STACK_BYTES = 512 << 10; // variables keep their distance
#else
static const size_t STACK_BYTES = 128 << 10;
#endif

static rs_fiber *previous; // who switched here
static void (*body_to_start)();

// The first thing after every switch: says goodbye to the stack that was left.
static void arrive(rs_fiber *self) {
#if defined(__SANITIZE_ADDRESS__)
  const void *bottom;
  size_t bytes;
  __sanitizer_finish_switch_fiber(self->shadow, &bottom, &bytes);
  if (!previous->stack) { // known only now
    previous->stack = (char *)bottom;
    previous->bytes = bytes;
  }
#else
  (void)self;
#endif
}

static rs_fiber *arriving;

static void enter() {
  arrive(arriving);
  body_to_start();
  __builtin_trap();
}

#if defined(__x86_64__)
// Keeps the registers that a callee must keep; the rest of the state is the compiler's business, because this is a call.
extern "C" void rs_switch_stacks(void **leave, void *enter);
__asm__(".text\n"
        ".p2align 4\n"
        ".local rs_switch_stacks\n"
        ".type rs_switch_stacks, @function\n"
        "rs_switch_stacks:\n"
        "  pushq %rbp\n"
        "  pushq %rbx\n"
        "  pushq %r12\n"
        "  pushq %r13\n"
        "  pushq %r14\n"
        "  pushq %r15\n"
        "  movq %rsp, (%rdi)\n"
        "  movq %rsi, %rsp\n"
        "  popq %r15\n"
        "  popq %r14\n"
        "  popq %r13\n"
        "  popq %r12\n"
        "  popq %rbx\n"
        "  popq %rbp\n"
        "  ret\n"
        ".size rs_switch_stacks, .-rs_switch_stacks\n");
#endif

bool rs_fiber_create(rs_fiber *fiber, unsigned number) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  char *memory = (char *)mmap(nullptr, STACK_BYTES + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return false;
  mprotect(memory, page, PROT_NONE);
  fiber->stack = memory + page;
  fiber->bytes = STACK_BYTES + number * 320 % page / 64 * 64; // equal offsets would all compete for the same cache lines
  return true;
}

void rs_fiber_start(rs_fiber *fiber, void (*body)()) {
  body_to_start = body;
  fiber->shadow = nullptr;
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(fiber->stack, fiber->bytes); // what an abandoned run has left
#endif
#if defined(__x86_64__)
  void **top = (void **)(fiber->stack + fiber->bytes);
  *--top = nullptr; // the return address that a called function finds, and the alignment that it expects
  *--top = (void *)enter;
  for (int i = 0; i < 6; i++) *--top = nullptr;
  fiber->top = top;
#else
  getcontext(&fiber->context);
  fiber->context.uc_stack.ss_sp = fiber->stack;
  fiber->context.uc_stack.ss_size = fiber->bytes;
  fiber->context.uc_link = nullptr;
  makecontext(&fiber->context, enter, 0);
#endif
}

void rs_fiber_switch(rs_fiber *from, rs_fiber *to) {
  previous = from;
  arriving = to;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from->shadow, to->stack, to->bytes);
#endif
#if defined(__x86_64__)
  rs_switch_stacks(&from->top, to->top);
#else
  swapcontext(&from->context, &to->context);
#endif
  arrive(from);
}
