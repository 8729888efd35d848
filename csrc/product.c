// product.c: products of matrices on the CPU, compiled once a target. A register tile of ROWS rows and two vectors of columns runs over
// k; the columns of b are packed, so that either operand may be transposed.
#include "convolution.h"
#include "simd.h"

#define ROWS (RS_LANES == 16 ? 12 : RS_LANES == 8 ? 6 : 5)
#define PANEL (2 * RS_LANES)
#define DEPTH 256 // of k, packed at a time
#define BAND 96   // rows of a task

int32_t RS_NAME(rs_product)(rs_operation *operation, const rs_tensor_producing *p);

static int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }

static void tile(const rs_tensor_producing *p, const float *a, int64_t rows, const float *packed, int64_t depth, float *out, int64_t width,
                 int first) {
  rs_vf low[ROWS], high[ROWS];
  const float *row[ROWS];
  for (int r = 0; r < ROWS; r++) {
    low[r] = high[r] = (rs_vf){0};
    row[r] = a + at_most(r, rows - 1) * p->a_row; // rows too many repeat the last
  }
  for (int64_t k = 0; k < depth; k++, packed += PANEL) {
    rs_vf l = rs_load(packed), h = rs_load(packed + RS_LANES);
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; r++) {
      float v = row[r][k * p->a_column];
      low[r] += l * v;
      high[r] += h * v;
    }
  }
  float both[PANEL];
  for (int r = 0; r < ROWS && r < rows; r++) {
    rs_store(both, low[r]);
    rs_store(both + RS_LANES, high[r]);
    float *to = out + r * p->n;
    for (int64_t j = 0; j < width; j++) to[j] = first ? both[j] : to[j] + both[j];
  }
}

static void product_task(void *context, int64_t task, int worker) {
  (void)worker;
  const rs_tensor_producing *p = context;
  int64_t panels = (p->n + PANEL - 1) / PANEL, bands = (p->m + BAND - 1) / BAND;
  int64_t panel = task % panels, band = task / panels % bands, item = task / panels / bands;
  int64_t first = panel * PANEL, width = at_most(p->n - first, PANEL), end = at_most((band + 1) * BAND, p->m);
  const float *a = p->a + item % p->batch_a * p->m * p->k, *b = p->b + item % p->batch_b * p->k * p->n + first * p->b_column;
  float *out = p->out + item * p->m * p->n + first;
  float packed[DEPTH * PANEL];
  for (int64_t k = 0; k < p->k; k += DEPTH) {
    int64_t depth = at_most(p->k - k, DEPTH);
    for (int64_t i = 0; i < depth; i++)
      for (int64_t j = 0; j < PANEL; j++) packed[i * PANEL + j] = j < width ? b[(k + i) * p->b_row + j * p->b_column] : 0;
    for (int64_t row = band * BAND; row < end; row += ROWS)
      tile(p, a + row * p->a_row + k * p->a_column, at_most(end - row, ROWS), packed, depth, out + row * p->n, width, k == 0);
  }
}

int32_t RS_NAME(rs_product)(rs_operation *operation, const rs_tensor_producing *p) {
  int64_t panels = (p->n + PANEL - 1) / PANEL, bands = (p->m + BAND - 1) / BAND;
  return rs_parallel_for(operation, p->batch * bands * panels, product_task, (void *)p);
}
