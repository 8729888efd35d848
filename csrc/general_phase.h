// general_phase.h: how the views of a geometry and the workspace are divided up, for the `rs_general` family.
#pragma once
#include "general_rays.h"
#include "status.h"

#define MOST_ENTRIES INT32_MAX // in a block: indexes in it are int32_t
#define BAND_ENTRIES 196608    // of back in a block and band: they stay in the second-level cache
#define LEAST_BAND 32          // cells; narrower bands cut too many rays
#define SPARE 12               // more columns of entries than there must be, in short rows
#define MARGIN 4               // most rows of entries on both sides of a box

// All views with the same main axis.
typedef struct {
  int main, cross, third;
  int64_t views;
  const int32_t *view;
  int32_t planes, columns, rows; // voxels along the three axes
  int32_t run, pitch;            // planes in a block, entries from plane to plane
  int32_t margin;                // rows of entries around a box
  int64_t blocks;
  int32_t band; // cells of the third axis in a band of back
  int64_t bands;
} general_phase;

static inline int64_t parts(int64_t count, int64_t size) { return (count + size - 1) / size; }
static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// A block of planes and band `band` of bands of `cells` cells. Its entries in the workspace are `room_of` a box.
static inline void make_box(const general_phase *phase, int32_t cells, int64_t block, int64_t band, general_box *box) {
  box->plane = (int32_t)(block * phase->run);
  box->planes = (int32_t)smaller(phase->run, phase->planes - box->plane);
  box->columns = phase->columns + 1;
  box->row = (int32_t)(band * cells) - 1;
  box->rows = (int32_t)smaller(cells, phase->rows - box->row);
  box->margin = phase->margin;
  box->pitch = phase->pitch;
  box->stride = phase->run * phase->pitch;
  box->origin = phase->margin * box->stride + phase->pitch;
}

static inline int64_t room_of(const general_phase *phase, int32_t cells) {
  return ((int64_t)cells + 2 * phase->margin) * phase->run * phase->pitch + 2 * phase->pitch;
}

static inline int32_t make_phase(general_phase *phase, const rs_geometry *geometry, int main) {
  phase->main = main;
  phase->cross = main == RS_X ? RS_Y : RS_X;
  phase->third = RS_Z + RS_Y + RS_X - main - phase->cross;
  phase->planes = geometry->shape[main];
  phase->columns = geometry->shape[phase->cross];
  phase->rows = geometry->shape[phase->third];
  // An entry before the first voxel and two behind the last, or more: see general_box. Long rows are an odd number of cache lines, so
  // that the planes of a block fall into different sets of the cache.
  int64_t pitch = phase->columns + 3;
  pitch = pitch < 128 ? pitch + smaller(SPARE, phase->columns) : (parts(pitch, 16) | 1) * 16;
  phase->pitch = (int32_t)pitch;
  phase->margin = (int32_t)smaller(MARGIN, phase->rows / 16);
  int64_t most = MOST_ENTRIES / (pitch * ((int64_t)phase->rows + 2 * phase->margin + 4));
  if (!most)
    return rs_fail(RS_EARGUMENT, "rays cross slices of %d x %d voxels: expected fewer than 2^31 voxels in a slice", phase->rows,
                   phase->columns);
  phase->run = (int32_t)smaller(smaller(most, GENERAL_PLANES), phase->planes);
  phase->blocks = parts(phase->planes, phase->run);
  int64_t band = BAND_ENTRIES / (phase->run * pitch), cells = (int64_t)phase->rows + 1;
  phase->bands = parts(cells, band < LEAST_BAND ? LEAST_BAND : band);
  phase->band = (int32_t)parts(cells, phase->bands);
  return RS_OK;
}
