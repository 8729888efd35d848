// transfer.h: the arguments of a copy.
#pragma once
#include <stdint.h>

typedef struct {
  void *target, *source;
  int64_t bytes;
} rs_transfer;
