// stack_pack.h: between the public layouts, where one slice or row lies behind the other, and the lanes of the `rs_stack` family.
#pragma once
#include "output_row.h"
#include "stack_tables.h"

#define STACK_SPAN 64 // voxels or columns that are handed to rs_output_row at a time

// Lanes are pairs (batch item, row or slice), the latter fastest. A lane reads a weighted sum of `matrix` planes of its item.
typedef struct {
  const float *input;
  int64_t item_size, plane_step; // of the input
  const stack_matrix *matrix;
  int64_t first; // lane of the block
  int32_t lanes; // of the block
  int32_t units; // lanes of an item
} stack_source;

// Does any lane of the block read anything?
static int stack_reads(const stack_source *source) {
  for (int32_t k = 0; k < source->lanes; k++) {
    int64_t unit = (source->first + k) % source->units;
    if (source->matrix->begin[unit] < source->matrix->begin[unit + 1]) return 1;
  }
  return 0;
}

// Writes target[i stride + k] = scale * (what lane + k reads at offset + i) for i in [0, count) and k in [0, RS_LANES).
static void stack_pack(const stack_source *source, int32_t lane, int64_t offset, int32_t count, float scale, float *target,
                       int64_t stride) {
  const stack_matrix *matrix = source->matrix;
  const float *item[RS_LANES];
  int64_t begin[RS_LANES], end[RS_LANES];
  for (int k = 0; k < RS_LANES; k++) {
    int64_t place = source->first + lane + k, unit = place % source->units;
    item[k] = source->input + place / source->units * source->item_size + offset;
    begin[k] = matrix->begin[unit];
    end[k] = lane + k < source->lanes ? matrix->begin[unit + 1] : begin[k];
  }
  rs_vf factor = rs_splat(scale);
  for (int32_t i = 0; i < count; i += RS_LANES) {
    int32_t some = count - i;
    rs_vf row[RS_LANES];
    for (int k = 0; k < RS_LANES; k++) {
      rs_vf sum = {0};
      for (int64_t e = begin[k]; e < end[k]; e++) {
        const float *from = item[k] + matrix->index[e] * source->plane_step + i;
        sum += rs_splat(matrix->weight[e]) * (some < RS_LANES ? rs_load_some(from, some) : rs_load(from));
      }
      row[k] = sum;
    }
    rs_transpose(row);
    for (int k = 0; k < RS_LANES; k++)
      if (k < some) rs_store(target + (i + k) * stride, factor * row[k]);
  }
}

// Where the lanes of a block go: unit u of an item at u * unit_step of the item's target.
typedef struct {
  const rs_output *output;
  int64_t item_size, unit_step;
  int64_t first;
  int32_t lanes, units;
} stack_target;

// Finishes up to STACK_SPAN neighbours of RS_LANES lanes: value i of lane + k is scale * from[i stride + k] and belongs at `offset` + i of
// its unit. squares: NULL or a sum per lane.
static void stack_unpack(const stack_target *target, int32_t lane, const float *from, int64_t stride, int32_t count, float scale,
                         int64_t offset, double *squares) {
  float line[RS_LANES][STACK_SPAN];
  int64_t shift[RS_LANES], index[RS_LANES];
  int64_t item = (target->first + lane) / target->units, unit = (target->first + lane) % target->units;
  for (int k = 0; k < RS_LANES; k++) {
    shift[k] = item * target->item_size;
    index[k] = unit * target->unit_step + offset;
    if (++unit == target->units) unit = 0, item++;
    // The lanes' lines are far apart: ask for them all before the first is written.
    for (int32_t i = 0; i < count && lane + k < target->lanes; i += 16) {
      __builtin_prefetch(target->output->target + shift[k] + index[k] + i, 1);
      if (target->output->weights && !target->output->shared) __builtin_prefetch(target->output->weights + index[k] + i);
      if (target->output->measured) __builtin_prefetch(target->output->measured + shift[k] + index[k] + i);
    }
  }
  rs_vf factor = rs_splat(scale);
  for (int32_t i = 0; i < count; i += RS_LANES) {
    rs_vf row[RS_LANES];
    for (int k = 0; k < RS_LANES; k++) row[k] = i + k < count ? factor * rs_load(from + (i + k) * stride) : (rs_vf){0};
    rs_transpose(row);
    for (int k = 0; k < RS_LANES; k++) rs_store(line[k] + i, row[k]);
  }
  rs_output output = *target->output;
  for (int k = 0; k < RS_LANES && lane + k < target->lanes; k++) {
    output.target = target->output->target + shift[k] + index[k];
    if (output.measured) output.measured = target->output->measured + shift[k] + index[k];
    if (output.weights) output.weights = target->output->weights + (output.shared ? offset : index[k]);
    double sum = rs_output_row(&output, 0, line[k], count);
    if (squares) squares[lane + k] += sum;
  }
}
