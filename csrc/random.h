// random.h: counter-based random numbers, the same on every device and for every number of threads.
//
// Philox4x32-10: J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
// Element i takes word i % 4 of the block with counter i / 4; normal deviates by Box and Muller (1958) from pairs of words.
#pragma once
#include "elementwise.h"

RS_INLINE void rs_philox(uint64_t counter, uint64_t seed, uint32_t out[4]) {
  uint32_t c[4] = {(uint32_t)counter, (uint32_t)(counter >> 32), 0, 0}, key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
  for (int round = 0; round < 10; round++) {
    uint64_t p = (uint64_t)0xD2511F53u * c[0], q = (uint64_t)0xCD9E8D57u * c[2];
    uint32_t next[4] = {(uint32_t)(q >> 32) ^ c[1] ^ key[0], (uint32_t)q, (uint32_t)(p >> 32) ^ c[3] ^ key[1], (uint32_t)p};
    for (int i = 0; i < 4; i++) c[i] = next[i];
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  for (int i = 0; i < 4; i++) out[i] = c[i];
}

// Four neighbouring elements: uniform in [p, q), or normal with mean p and deviation q.
RS_INLINE void rs_random_block(int32_t distribution, uint64_t block, uint64_t seed, double p, double q, float out[4]) {
  uint32_t word[4];
  rs_philox(block, seed, word);
  for (int i = 0; i < 4; i += 2) {
    if (distribution == RS_UNIFORM) {
      for (int k = i; k < i + 2; k++) {
        float value = (float)(p + (q - p) * ((word[k] >> 8) * (1.0 / 16777216.0)));
        out[k] = value < q ? value : nextafterf(value, -INFINITY); // rounding must not reach q
      }
    } else {
      double radius = sqrt(-2 * log((word[i] + 1.0) * (1.0 / 4294967296.0))),
             angle = 6.283185307179586 * (word[i + 1] * (1.0 / 4294967296.0));
      out[i] = (float)(p + q * radius * cos(angle));
      out[i + 1] = (float)(p + q * radius * sin(angle));
    }
  }
}
