// slice_tables.h: what the `rs_slice` family knows about a geometry before any data is seen.
#pragma once
#include "plan.h"
#include "simd.h"
#include "status.h"

#include <math.h>
#include <stdlib.h>

// Slices of all batch items together; with more of them the lanes of `rs_stack` are better used. Measured on 256 x 256 voxels.
#define SLICE_MOST (RS_LANES == 16 ? 13 : RS_LANES == 8 ? 4 : 1)
#define SLICE_LONGEST (1 << 18)           // voxels or columns of a row
#define SLICE_CHANNELS 4                  // most images or sinograms that share one computation of weights
#define SLICE_RUN 16                      // forward: planes worked off at a time; both ways: bundles of a block
#define SLICE_ROWS (RS_LANES > 8 ? 4 : 2) // back: planes whose sums are in registers together
#define SLICE_MARGIN (3 * RS_LANES)       // zeros on either side of an image or a sinogram: more than two vectors
#define SLICE_GROUP 16                    // floats that rows and margins are rounded to

// Positions are counted from a nearby voxel or column in units of 2^-23: all that the mantissa of a float32 in [1, 2) holds.
#define SLICE_BITS 23
#define SLICE_ONE ((double)(1 << SLICE_BITS))
#define SLICE_PART ((1 << SLICE_BITS) - 1)
#define SLICE_FINE_BITS 40 // of the int64_t positions that voxels of a tile are counted from

// Voxels between columns on a plane. Below 1 a voxel sees more than two columns; from 2 on, neighbouring rays outrun two vectors.
#define SLICE_FINEST (1 - 1e-7)
#define SLICE_COARSEST 1.99
#define SLICE_SAME 1e-8 // voxels by which rays may differ and share their weights

// An image is seen with its planes across the main axis as rows. Rays are made to run the same way by turning the image over.
enum { SLICE_TRANSPOSED = 1, SLICE_FLIP_PLANES = 2, SLICE_FLIP_CROSS = 4 };

typedef struct {
  int32_t view, variant;       // SLICE_TRANSPOSED ...
  int32_t reversed;            // columns run the other way
  float length;                // of ray between two planes
  double start, column, plane; // plane s is crossed at start + column i + plane s by column i; column > 0, plane >= 0
} slice_view;

// Up to SLICE_CHANNELS views whose rays are the same, each in its own variant of the image.
typedef struct {
  int32_t views;
  slice_view view[SLICE_CHANNELS];
  double start, column, plane;                  // forward, as above
  double origin, along_cross, along_plane;      // back: voxel (s, x) lies at column origin + along_cross x + along_plane s
  int32_t align;                                // forward: voxels that a cell may be rounded down to, a power of two
  int64_t cross_step, plane_step;               // of RS_LANES voxels and of SLICE_ROWS planes, in 2^-SLICE_FINE_BITS
  int32_t columns[RS_LANES], planes[SLICE_RUN]; // column n and plane n
  int32_t voxels[RS_LANES], rows[SLICE_ROWS];   // along_cross n, and along_plane counted from the last of the rows
  float pitch, above, below;                    // column, 1 + column, 1 - 2 column
} slice_bundle;

// Up to SLICE_RUN bundles in the same variants, with similar slopes.
typedef struct {
  int32_t bundles, views;        // views in each bundle
  int64_t first, slot;           // bundle, and place of its first view in the packed projections
  int32_t planes, cross;         // voxels
  int32_t image[SLICE_CHANNELS]; // places in the list of variants
} slice_block;

typedef struct {
  rs_plan stack; // the same geometry for `rs_stack`, which takes large batches
  int64_t blocks, bundles;
  slice_block *block;
  slice_bundle *bundle;
  int32_t variants, variant[8];                                 // those that occur
  int32_t items;                                                // batch items (or slices of them) packed at a time
  int64_t image_row, image_floats, view_row, projection_floats; // projection_floats: of an item
} slice_tables;

static inline int64_t slice_smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t slice_parts(int64_t count, int64_t size) { return (count + size - 1) / size; }

static slice_view slice_view_of(const rs_geometry *geometry, int32_t index) {
  const rs_view *v = &geometry->view[index];
  double slope = v->origin[v->cross] / v->origin[v->main];
  double last_plane = geometry->shape[v->main] - 1, last_column = geometry->columns - 1;
  slice_view view = {.view = index,
                     .variant = v->main == RS_X ? SLICE_TRANSPOSED : 0,
                     .length = (float)rs_ray_length(geometry, v, 0, 0),
                     .start = v->corner[v->cross] - v->corner[v->main] * slope,
                     .column = v->u[v->cross] - v->u[v->main] * slope,
                     .plane = slope};
  if (view.plane < 0) {
    view.start += view.plane * last_plane;
    view.plane = -view.plane;
    view.variant ^= SLICE_FLIP_PLANES;
  }
  if (view.column < 0) {
    view.start += view.column * last_column;
    view.column = -view.column;
    view.reversed = 1;
  }
  // Half a turn keeps the slope. Of the two the one that starts first; neither when the rays are centred on the image.
  double turned = geometry->shape[v->cross] - 1 - view.start - view.plane * last_plane - view.column * last_column;
  if (turned < view.start - 1e-6) {
    view.start = turned;
    view.variant ^= SLICE_FLIP_PLANES | SLICE_FLIP_CROSS;
    view.reversed ^= 1;
  }
  return view;
}

static int slice_accepts(const rs_geometry *geometry) {
  if (geometry->beam != RS_PARALLEL || geometry->supersampling != 1) return 0;
  // Offsets inside a run of planes are int32_t; `rs_stack` accepts all that is left.
  if (geometry->shape[RS_Y] > SLICE_LONGEST || geometry->shape[RS_X] > SLICE_LONGEST || geometry->columns > SLICE_LONGEST) return 0;
  if (geometry->shape[RS_Z] > SLICE_MOST || geometry->rows != geometry->shape[RS_Z]) return 0;
  for (int32_t i = 0; i < geometry->views; i++) {
    const rs_view *v = &geometry->view[i];
    if (v->main == RS_Z) return 0;
    if (fabs(v->origin[RS_Z]) > 1e-12 * fabs(v->origin[v->main])) return 0;
    if (fabs(v->u[RS_Z]) > 1e-12 * hypot(v->u[RS_Y], v->u[RS_X])) return 0;
    if (hypot(v->v[RS_Y], v->v[RS_X]) > 1e-12 * fabs(v->v[RS_Z])) return 0;
    // Row r lies on slice r.
    if (fabs(v->corner[RS_Z]) > 1e-9 || (geometry->rows > 1 && fabs(v->v[RS_Z] - 1) > 1e-9)) return 0;
    double pitch = slice_view_of(geometry, i).column;
    if (!(pitch >= SLICE_FINEST && pitch <= SLICE_COARSEST)) return 0;
  }
  return 1;
}

// ---- bundles of views

static int slice_compare_views(const void *a, const void *b) {
  const slice_view *p = a, *q = b;
  if (p->plane != q->plane) return p->plane < q->plane ? -1 : 1;
  return p->view < q->view ? -1 : 1;
}

// Does the bundle have room for a view with the same rays in another variant? Only a square image can be transposed.
static int slice_fits(const rs_geometry *geometry, const slice_bundle *bundle, const slice_view *view) {
  if (bundle->views == SLICE_CHANNELS) return 0;
  int square = geometry->shape[RS_Y] == geometry->shape[RS_X];
  for (int k = 0; k < bundle->views; k++) {
    int difference = bundle->view[k].variant ^ view->variant;
    if (!difference || (!square && (difference & SLICE_TRANSPOSED))) return 0;
  }
  double most = slice_smaller(geometry->shape[RS_Y], geometry->shape[RS_X]);
  return fabs(bundle->plane - view->plane) * most + fabs(bundle->column - view->column) * geometry->columns +
             fabs(bundle->start - view->start) <
         SLICE_SAME;
}

static void slice_fill_bundle(slice_bundle *bundle) {
  double column = bundle->column, plane = bundle->plane;
  // The last ray of a vector still sees two voxels of the two vectors that are loaded.
  for (bundle->align = RS_LANES; bundle->align > 1 && column * (RS_LANES - 1) + 1 + bundle->align >= 2 * RS_LANES - 0.01;)
    bundle->align /= 2;
  bundle->along_cross = 1 / column;
  bundle->along_plane = -plane / column;
  bundle->origin = -bundle->start / column;
  bundle->cross_step = llrint(ldexp(bundle->along_cross * RS_LANES, SLICE_FINE_BITS));
  bundle->plane_step = llrint(ldexp(bundle->along_plane * SLICE_ROWS, SLICE_FINE_BITS));
  for (int n = 0; n < RS_LANES; n++) {
    bundle->columns[n] = (int32_t)lrint(column * n * SLICE_ONE);
    bundle->voxels[n] = (int32_t)lrint(bundle->along_cross * n * SLICE_ONE);
  }
  for (int n = 0; n < SLICE_RUN; n++) bundle->planes[n] = (int32_t)lrint(plane * n * SLICE_ONE);
  for (int n = 0; n < SLICE_ROWS; n++) bundle->rows[n] = (int32_t)lrint(bundle->along_plane * (n + 1 - SLICE_ROWS) * SLICE_ONE);
  bundle->pitch = (float)column;
  bundle->above = (float)(1 + column);
  bundle->below = (float)(1 - 2 * column);
}

static int slice_compare_members(const void *a, const void *b) {
  const slice_view *p = a, *q = b;
  return p->variant - q->variant;
}

// The variants of a bundle, as one number.
static int32_t slice_signature(const slice_bundle *bundle) {
  int32_t signature = 0;
  for (int k = 0; k < bundle->views; k++) signature |= 1 << bundle->view[k].variant;
  return signature;
}

static int slice_compare_bundles(const void *a, const void *b) {
  const slice_bundle *p = a, *q = b;
  int32_t first = slice_signature(p), second = slice_signature(q);
  if (first != second) return first < second ? -1 : 1;
  if (p->plane != q->plane) return p->plane < q->plane ? -1 : 1;
  return p->view[0].view < q->view[0].view ? -1 : 1;
}

static int32_t slice_make_bundles(slice_tables *tables, const rs_geometry *geometry) {
  slice_view *view = malloc((size_t)geometry->views * sizeof *view);
  tables->bundle = calloc((size_t)geometry->views, sizeof *tables->bundle);
  tables->block = calloc((size_t)geometry->views, sizeof *tables->block);
  if (!view || !tables->bundle || !tables->block) {
    free(view);
    return rs_fail(RS_EMEMORY, "no host memory for the tables of %d views", geometry->views);
  }
  for (int32_t i = 0; i < geometry->views; i++) view[i] = slice_view_of(geometry, i);
  qsort(view, (size_t)geometry->views, sizeof *view, slice_compare_views);
  for (int32_t i = 0; i < geometry->views; i++) {
    // The most recent bundles are those with nearly the same slope.
    int64_t k = tables->bundles, oldest = k > 16 ? k - 16 : 0;
    while (k > oldest && !slice_fits(geometry, &tables->bundle[k - 1], &view[i])) k--;
    slice_bundle *bundle = &tables->bundle[k > oldest ? k - 1 : tables->bundles++];
    if (!bundle->views) bundle->start = view[i].start, bundle->column = view[i].column, bundle->plane = view[i].plane;
    bundle->view[bundle->views++] = view[i];
  }
  free(view);
  for (int64_t k = 0; k < tables->bundles; k++) {
    slice_bundle *bundle = &tables->bundle[k];
    qsort(bundle->view, (size_t)bundle->views, sizeof *bundle->view, slice_compare_members);
    slice_fill_bundle(bundle);
  }
  qsort(tables->bundle, (size_t)tables->bundles, sizeof *tables->bundle, slice_compare_bundles);
  return RS_OK;
}

// ---- blocks of bundles

static int32_t slice_place(slice_tables *tables, int32_t variant) {
  for (int32_t k = 0; k < tables->variants; k++)
    if (tables->variant[k] == variant) return k;
  tables->variant[tables->variants] = variant;
  return tables->variants++;
}

static void slice_make_blocks(slice_tables *tables, const rs_geometry *geometry) {
  int64_t slot = 0;
  slice_block *block = NULL;
  for (int64_t k = 0; k < tables->bundles; k++) {
    const slice_bundle *bundle = &tables->bundle[k];
    if (!block || block->bundles == SLICE_RUN || slice_signature(bundle) != slice_signature(bundle - 1)) {
      block = &tables->block[tables->blocks++];
      int transposed = bundle->view[0].variant & SLICE_TRANSPOSED;
      *block = (slice_block){.views = bundle->views, .first = k, .slot = slot};
      block->planes = geometry->shape[transposed ? RS_X : RS_Y];
      block->cross = geometry->shape[transposed ? RS_Y : RS_X];
      for (int n = 0; n < bundle->views; n++) block->image[n] = slice_place(tables, bundle->view[n].variant);
    }
    block->bundles++;
    slot += bundle->views;
  }
}
