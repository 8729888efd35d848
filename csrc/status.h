// status.h: how a function says that something is wrong: it keeps a sentence for rs_error and returns a status.
#pragma once
#include "raysum.h"

#ifdef __cplusplus
extern "C" {
#endif

// Keeps the sentence for the calling thread and returns `status`.
__attribute__((format(printf, 2, 3))) int32_t rs_fail(int32_t status, const char *format, ...);

// The calling thread's last sentence.
const char *rs_sentence(void);

#ifdef __cplusplus
}
#endif
