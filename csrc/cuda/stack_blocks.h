// stack_blocks.h: how the views and columns of a forward projection are shared out to blocks, so that the rays of each see few voxels.
#pragma once
#include "stack_forward.h"

#include <math.h>
#include <stdlib.h>

constexpr int32_t STACK_MOST_VOXELS = 100; // of a plane that the rays of a block may see
constexpr int64_t STACK_STATIC = 2 << 10;  // bytes of shared memory beside stages, and to spare

struct stack_block_list {
  int64_t count, room;
  stack_block *block;
};

// How lanes go through the shared memory of a block: in chunks of at most so many, with so many bytes for stages.
struct stack_room {
  int32_t lanes;
  int64_t bytes;
};

// A tile must fit, too.
static inline stack_room stack_room_of(int32_t device) {
  const int64_t bytes = rs_cuda_shared(device) - STACK_STATIC;
  const int64_t tiles[2] = {STACK_TILE_FLOATS<4> * (int64_t)sizeof(float), STACK_TILE_FLOATS<2> * (int64_t)sizeof(float)};
  return {bytes >= tiles[0] ? 128 : bytes >= tiles[1] ? 64 : 32, bytes};
}

// The even number of planes or views of a stage for which there is room, with this room for rows in each.
static inline int32_t stack_stage(const stack_room &room, int32_t rows) {
  const int64_t one = 2 * (rows * room.lanes + STACK_WARPS * STACK_ENTRY) * (int64_t)sizeof(float), count = room.bytes / one & ~1;
  return count < STACK_MOST_PLANES ? (int32_t)count : STACK_MOST_PLANES;
}

// Between which positions the rays of a block cross a plane.
static inline void stack_see_plane(const stack_view *views, const stack_block &block, int32_t s, double *low, double *high) {
  *low = STACK_FAR, *high = -STACK_FAR;
  for (int v = 0; v < block.views; v++)
    for (int side = 0; side < 2; side++) {
      const double p = stack_voxel_of(views[block.view + v], block.column + side * (block.pieces * STACK_SIDE - 1), s);
      *low = fmin(*low, p), *high = fmax(*high, p);
    }
}

// The planes that the rays of a block touch, and the most voxels that they see of one: 0 where the block touches none. Positions are
// linear in the plane, so what lies between the outermost rays is widest on the first or the last plane.
static inline int32_t stack_measure(const stack_plane &plane, const stack_view *views, stack_block *block) {
  const bool upright = views[block->view].main == RS_Y;
  const int32_t main_count = upright ? plane.ny : plane.nx, cross = upright ? plane.nx : plane.ny;
  double first = main_count, last = -1;
  for (int v = 0; v < block->views; v++) {
    const stack_view &view = views[block->view + v];
    const double a = stack_voxel_of(view, block->column, 0), b = stack_voxel_of(view, block->column + block->pieces * STACK_SIDE - 1, 0);
    // Planes where the rightmost ray is above -1 and the leftmost below `cross`, and one more to be safe.
    double from = 0, to = main_count - 1, right = fmax(a, b) + 1, left = fmin(a, b) - cross;
    if (fabs(view.plane) < 1e-9) {
      if (right < -1 || left > 1) continue;
    } else {
      const double enter = (view.plane > 0 ? -right : -left) / view.plane, leave = (view.plane > 0 ? -left : -right) / view.plane;
      from = fmax(from, enter - 1);
      to = fmin(to, leave + 1);
      if (from > to) continue;
    }
    first = fmin(first, floor(from));
    last = fmax(last, ceil(to));
  }
  block->first = (int32_t)first;
  block->last = (int32_t)fmin(last, main_count - 1) + 1;
  if (block->first >= block->last) {
    block->first = block->last = 0;
    return 0;
  }
  double most = 0;
  for (int end = 0; end < 2; end++) {
    double low, high;
    stack_see_plane(views, *block, end ? block->last - 1 : block->first, &low, &high);
    most = fmax(most, floor(high - low + 2 * plane.slack) + 4); // wherever the lowest lies in its voxel
  }
  return (int32_t)fmin(most, INT32_MAX);
}

// The same for windows that end a little outside the volume.
static inline int32_t stack_measure_window(const stack_plane &plane, const stack_view *views, stack_block *block) {
  const int32_t most = stack_measure(plane, views, block);
  const int32_t cross = (views[block->view].main == RS_Y ? plane.nx : plane.ny) + 2 * STACK_OUTSIDE;
  return most < STACK_OUTSIDE ? STACK_OUTSIDE : most < cross ? most : cross;
}

// The largest window of any block of this shape, for a group of views.
static inline int32_t stack_measure_group(const stack_plane &plane, const stack_view *views, stack_block block) {
  int32_t most = 0;
  for (block.column = 0; block.column < plane.columns; block.column += block.pieces * STACK_SIDE) {
    const int32_t voxels = stack_measure_window(plane, views, &block);
    most = voxels > most ? voxels : most;
  }
  return most;
}

// Chooses the shape of the blocks that begin with a view, from views whose columns run the same way: others see little in common. A plane
// takes a time for its voxels and about as long as 80 of them beside that; the more warps share it the better. `views` is 0 where no shape
// fits.
static inline stack_block stack_choose(const stack_room &room, const stack_plane &plane, const stack_view *views, int32_t view,
                                       int32_t *voxels) {
  constexpr double ASIDE = 80;
  stack_block best = {};
  double least = INFINITY;
  auto alike = [&](const stack_view &other) { return other.main == views[view].main && (other.column < 0) == (views[view].column < 0); };
  int32_t left = 1;
  while (left < STACK_MOST_VIEWS && view + left < plane.views && alike(views[view + left])) left++;
  for (int32_t count = left; count > 0; count = count > 8 ? 8 : count > 4 ? 4 : count - 1)
    for (int32_t pieces = 1; count * pieces <= STACK_THREADS / 32; pieces *= 2) {
      if (pieces > 1 && pieces / 2 * STACK_SIDE >= plane.columns) break;
      stack_block block = {view, count, 0, pieces, 0, 0, 0, 0};
      if (ASIDE / (count * pieces) >= least) continue;
      const int32_t most = stack_measure_group(plane, views, block);
      const double time = (ASIDE + most) / (count * pieces);
      if (most > STACK_MOST_VOXELS || !stack_stage(room, most) || time >= least) continue;
      best = block;
      least = time;
      *voxels = most;
    }
  return best;
}

// Long blocks begin first, so that the last ones to end are short.
static inline int stack_compare_blocks(const void *a, const void *b) {
  const stack_block *p = (const stack_block *)a, *q = (const stack_block *)b;
  if (p->last - p->first != q->last - q->first) return p->last - p->first > q->last - q->first ? -1 : 1;
  if (p->view != q->view) return p->view < q->view ? -1 : 1;
  return p->column < q->column ? -1 : 1;
}

// RS_OK, or RS_EMEMORY. The list has no blocks where a view does not fit.
static inline int32_t stack_make_blocks(const stack_room &room, const stack_plane &plane, const stack_view *views, stack_block_list *list) {
  *list = {};
  for (int32_t v = 0; v < plane.views; v++)
    if (plane.supersampling > 1 || fabs(views[v].column) > 2) return RS_OK;
  stack_block block;
  for (int32_t view = 0; view < plane.views; view += block.views) {
    int32_t voxels = 0;
    block = stack_choose(room, plane, views, view, &voxels);
    if (!block.views) {
      free(list->block);
      *list = {};
      return RS_OK;
    }
    for (; block.column < plane.columns; block.column += block.pieces * STACK_SIDE) {
      if (list->count == list->room) {
        list->room = 2 * list->room + 64;
        stack_block *more = (stack_block *)realloc(list->block, (size_t)list->room * sizeof *more);
        if (!more) {
          free(list->block);
          return rs_fail(RS_EMEMORY, "no host memory for the tables of %d views", plane.views);
        }
        list->block = more;
      }
      block.voxels = stack_measure_window(plane, views, &block);
      block.planes = stack_stage(room, block.voxels);
      list->block[list->count++] = block;
    }
  }
  qsort(list->block, (size_t)list->count, sizeof *list->block, stack_compare_blocks);
  return RS_OK;
}

// The most columns of a view that a block of back projection sees, or 0 where a voxel sees more than two.
static inline int32_t stack_count_columns(const stack_plane &plane, const stack_view *views) {
  double most = 0;
  if (plane.supersampling > 1) return 0;
  for (int32_t v = 0; v < plane.views; v++) {
    if (fabs(views[v].column) < 1 - 1e-7) return 0;
    most = fmax(most, fabs(views[v].along_y) + fabs(views[v].along_x));
  }
  return (int32_t)floor((STACK_SIDE - 1) * most) + 4;
}
