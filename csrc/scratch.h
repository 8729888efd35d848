// scratch.h: host memory for the operation that runs on the CPU device, handed on from one to the next: fresh memory costs more
// than most of what is done with it. Only from inside an operation, before its parallel loops.
#pragma once
#include <stddef.h>

void *rs_scratch(size_t bytes); // 64-byte aligned, contents unspecified; NULL, with a sentence, where there is no memory
