// status.h: how a function says that something is wrong: it keeps a sentence for rs_error and returns a status.
#pragma once
#include "raysum.h"

#ifdef __cplusplus
extern "C" {
#endif

// Keeps the sentence for the calling thread and returns `status`.
__attribute__((format(printf, 2, 3))) int32_t rs_fail(int32_t status, const char *format, ...);

// Writes a text for people, cut to the capacity, and its length: what rs_device_name and its kin hand out.
__attribute__((format(printf, 4, 5))) int32_t rs_write_text(uint8_t *text, int32_t capacity, int32_t *length, const char *format, ...);

// The calling thread's last sentence.
const char *rs_sentence(void);

#ifdef __cplusplus
}
#endif
