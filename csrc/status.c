// status.c: the last error sentence of each thread.
#include "status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char sentence[512];

int32_t rs_fail(int32_t status, const char *format, ...) {
  // Written to the side first: an argument may be the sentence itself.
  char text[sizeof sentence];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  memcpy(sentence, text, sizeof sentence);
  return status;
}

int32_t rs_write_text(uint8_t *text, int32_t capacity, int32_t *length, const char *format, ...) {
  if (capacity <= 0) return rs_fail(RS_EARGUMENT, "a text of at most %d bytes: expected a positive capacity", capacity);
  va_list arguments;
  va_start(arguments, format);
  *length = vsnprintf((char *)text, (size_t)capacity, format, arguments);
  va_end(arguments);
  if (*length >= capacity) *length = capacity - 1;
  return RS_OK;
}

const char *rs_sentence(void) { return sentence; }

int32_t rs_error(uint8_t *text, int32_t capacity) {
  if (!text || capacity <= 0) return 0;
  int32_t length = (int32_t)strlen(sentence);
  if (length > capacity) length = capacity;
  memcpy(text, sentence, (size_t)length);
  return length;
}
