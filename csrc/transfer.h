// transfer.h: the arguments of a copy.
#pragma once
#include <stdint.h>

typedef struct {
  void *target, *source;
  int64_t bytes;
} rs_transfer;

// Few bytes that travel with the call: an upload inside a capture.
#define RS_CONSTANT_BYTES 4096
typedef struct {
  void *target;
  int64_t bytes;
  unsigned char values[RS_CONSTANT_BYTES];
} rs_constant;
