// slice_blocks.h: how the rays of a forward projection through one slice are shared out to blocks. See slice_forward.h.
#pragma once
#include "slice_forward.h"

#include <math.h>
#include <stdlib.h>

constexpr int32_t SLICE_MOST_SLOTS = 16;

template <typename T> struct slice_list {
  T *at;
  int64_t count, room;
};
// False without memory.
template <typename T> static inline bool slice_append(slice_list<T> *list, const T &one) {
  if (list->count == list->room) {
    T *more = (T *)realloc(list->at, (size_t)(2 * list->room + 64) * sizeof(T));
    if (!more) return false;
    list->at = more;
    list->room = 2 * list->room + 64;
  }
  list->at[list->count++] = one;
  return true;
}

struct slice_block_list {
  slice_list<slice_block> blocks;
  slice_list<stack_window> windows;
  slice_list<slice_strip> strips;
  slice_block *heads; // one of each group
  int32_t channels;   // 2 where the second half of the planes is the first, turned over
  int32_t groups, slots, voxels, rays;
  int32_t most_voxels, most_rays; // of a block
  int64_t share_floats;
  bool full; // of host memory
};

// The columns of a view that see the planes first ... last - 1, from *from on.
static inline int32_t slice_seen(const stack_plane &plane, const stack_view &view, int32_t first, int32_t last, int32_t *from) {
  const int32_t cross = view.main == RS_Y ? plane.nx : plane.ny;
  const double a = view.plane * first, b = view.plane * (last - 1);
  const double one = (-1 - view.start - fmax(a, b)) / view.column, other = (cross - view.start - fmin(a, b)) / view.column;
  const double low = fmax(floor(fmin(one, other)), 0), high = fmin(ceil(fmax(one, other)), plane.columns - 1);
  *from = low <= high ? (int32_t)low : 0;
  return low <= high ? (int32_t)(high - low) + 1 : 0;
}

// Of so many planes, those that have blocks.
static inline int32_t slice_planes(int32_t planes, const slice_block_list &list) { return (planes + list.channels - 1) / list.channels; }

// What the rays of a block see of some planes; nothing where that lies beside the volume.
static inline stack_window slice_see(const stack_plane &plane, const stack_view *views, const slice_block &block, int32_t first,
                                     int32_t last) {
  double least = INFINITY, most = -INFINITY;
  for (int v = 0; v < block.views; v++)
    for (int end = 0; end < 4; end++) {
      const double p = stack_voxel_of(views[block.view + v], block.column + (end & 1) * (block.columns - 1), end & 2 ? last - 1 : first);
      least = fmin(least, p), most = fmax(most, p);
    }
  // What rounding of fixed-point positions may need.
  const double low = floor(least - 1e-5), high = floor(most + 1e-5);
  if (!(high >= -1 && low < (views[block.view].main == RS_Y ? plane.nx : plane.ny))) return {0, 0};
  return {(int32_t)low, (int32_t)fmin(high - low + 1, INT32_MAX)};
}

// Appends the blocks of some views on a strip, in as few parts of their columns as there is room for. False where there is none.
static inline bool slice_add_strip(const stack_plane &plane, const stack_view *views, slice_block block, slice_block_list *list) {
  int32_t low = INT32_MAX, high = 0;
  for (int v = 0; v < block.views; v++) {
    int32_t from, count = slice_seen(plane, views[block.view + v], block.first, block.last, &from);
    if (!count) continue;
    low = from < low ? from : low;
    high = from + count > high ? from + count : high;
  }
  if (low >= high) return true;
  const int64_t blocks = list->blocks.count, windows = list->windows.count;
  for (int32_t parts = 1;; parts++) {
    block.columns = (high - low + parts - 1) / parts;
    if (block.columns < 32 && parts > 1) return false;
    bool fits = block.columns * list->slots <= list->most_rays;
    int32_t voxels = 0;
    for (block.column = low; block.column < high && fits; block.column += block.columns) {
      slice_block next = block;
      next.columns = next.columns < high - next.column ? next.columns : high - next.column;
      next.window = (int32_t)list->windows.count;
      list->full |= !slice_append(&list->blocks, next);
      for (int32_t from = block.first; from < block.last && fits; from += SLICE_BAND) {
        const int32_t to = from + SLICE_BAND < block.last ? from + SLICE_BAND : block.last;
        const stack_window window = slice_see(plane, views, next, from, to);
        list->full |= !slice_append(&list->windows, window);
        voxels = window.count > voxels ? window.count : voxels;
        fits = voxels <= list->most_voxels;
      }
    }
    if (fits) {
      const int32_t across = (high - low) * list->slots;
      for (int64_t k = blocks; k < list->blocks.count; k++) {
        slice_block &one = list->blocks.at[k];
        one.across = across;
        one.share = list->share_floats + (one.column - low) * list->slots;
      }
      list->full |= !slice_append(&list->strips, slice_strip{list->share_floats, low, high - low});
      list->share_floats += (int64_t)across * list->channels;
      list->voxels = voxels > list->voxels ? voxels : list->voxels;
      list->rays = block.columns * list->slots > list->rays ? block.columns * list->slots : list->rays;
      return true;
    }
    list->blocks.count = blocks;
    list->windows.count = windows;
  }
}

// Appends the blocks of some views, all strips of them. False, and the list as it was, where there is no room for a strip.
static inline bool slice_add_group(const stack_plane &plane, const stack_view *views, slice_block block, int32_t strip,
                                   slice_block_list *list) {
  const slice_block_list before = *list;
  const int32_t planes = slice_planes(views[block.view].main == RS_Y ? plane.ny : plane.nx, *list);
  for (block.first = 0; block.first < planes; block.first += strip) {
    block.last = block.first + strip < planes ? block.first + strip : planes;
    if (slice_add_strip(plane, views, block, list)) continue;
    list->blocks.count = before.blocks.count, list->windows.count = before.windows.count, list->strips.count = before.strips.count;
    list->voxels = before.voxels, list->rays = before.rays, list->share_floats = before.share_floats;
    return false;
  }
  if (before.blocks.count == list->blocks.count) { // rays that miss the volume have somebody to say so
    block.first = block.last = 0;
    list->full |= !slice_append(&list->blocks, block);
  }
  for (int64_t k = before.blocks.count; k < list->blocks.count; k++) {
    list->blocks.at[k].count = (int32_t)(list->blocks.count - before.blocks.count);
    list->blocks.at[k].strips = (int32_t)list->strips.count - block.begin;
  }
  return true;
}

static inline bool slice_make_list(const stack_plane &plane, const stack_view *views, int32_t strip, slice_block_list *list) {
  list->blocks.count = list->windows.count = list->strips.count = 0;
  list->groups = list->voxels = list->rays = 0;
  list->share_floats = 0;
  slice_block block = {};
  for (; block.view < plane.views; block.view += block.views, list->groups++) {
    for (block.views = 1; block.views < list->slots && block.view + block.views < plane.views; block.views++)
      if (views[block.view + block.views].main != views[block.view].main) break;
    block.group = list->groups;
    block.begin = (int32_t)list->strips.count;
    // Views on the two sides of a main axis, 45 and 135 degrees, are neighbours here that see little in common.
    for (; !slice_add_group(plane, views, block, strip, list); block.views /= 2)
      if (block.views == 1) return false;
  }
  return true;
}

// How many rays, and voxels of a plane, a block may have with so many bytes of shared memory.
static inline void slice_fit(int64_t bytes, slice_block_list *list) {
  const int64_t one = list->channels * (int64_t)sizeof(float), rays = bytes / 5 / one / SLICE_PAIRS * SLICE_PAIRS;
  const int32_t few = rays < SLICE_PAIRS ? SLICE_PAIRS : (int32_t)rays, most_rays = SLICE_RAYS / list->channels;
  list->most_rays = few < most_rays ? few : most_rays;
  const int64_t voxels = (bytes - one * slice_padded(list->most_rays)) / (2 * one * SLICE_STEP);
  const int32_t most_voxels = SLICE_VOXELS / list->channels / SLICE_NEXT * SLICE_NEXT;
  list->most_voxels = voxels < most_voxels ? (int32_t)voxels / SLICE_NEXT * SLICE_NEXT : most_voxels;
}

// The views of a block and the height of strips with which `room` blocks at a time are soon done: bringing a plane to shared memory takes
// as long as the rays of about three views, and all blocks pay for about 24 planes beside their own. Returns the height.
static inline int32_t slice_choose(const stack_plane &plane, int64_t room, slice_block_list *list) {
  const int32_t width = plane.ny > plane.nx ? plane.ny : plane.nx, planes = slice_planes(width, *list);
  const int32_t most = (planes + SLICE_BAND - 1) / SLICE_BAND;
  int32_t best = planes;
  double least = INFINITY;
  for (int32_t slots = SLICE_MOST_SLOTS; slots > 0; slots /= 2) {
    const int64_t narrow = (width + list->most_voxels - 1) / list->most_voxels,
                  few = ((int64_t)width * slots + list->most_rays - 1) / list->most_rays, parts = narrow > few ? narrow : few;
    for (int32_t strips = 1; strips <= most; strips++) {
      const int32_t strip = (most + strips - 1) / strips * SLICE_BAND;
      const int64_t blocks = (plane.views + slots - 1) / slots * parts * ((planes + strip - 1) / strip);
      const double cost = (double)((blocks + room - 1) / room) * (strip + 24) * (slots + 3) * width / parts;
      if (cost < least) least = cost, best = strip, list->slots = slots;
    }
  }
  return best;
}

// Those with most rays and planes first.
static inline int slice_compare_blocks(const void *a, const void *b) {
  const slice_block *p = (const slice_block *)a, *q = (const slice_block *)b;
  const int64_t left = (int64_t)(p->last - p->first) * p->columns, right = (int64_t)(q->last - q->first) * q->columns;
  if (left != right) return left > right ? -1 : 1;
  return p->share < q->share ? -1 : p->share > q->share;
}

// Blocks for a GPU that runs two of them at a time on a multiprocessor: of as many views as leave work for all, and see few enough voxels.
// RS_OK or RS_EMEMORY; slice_free_blocks frees them in both cases.
static inline int32_t slice_make_blocks(const stack_plane &plane, const stack_view *views, int32_t device, slice_block_list *list) {
  const int64_t room = 2 * rs_cuda_multiprocessors(device);
  slice_fit(rs_cuda_shared(device) - STACK_STATIC, list);
  const int32_t strip = slice_choose(plane, room, list);
  while (!slice_make_list(plane, views, strip, list)) list->slots /= 2;
  if (list->full) return rs_fail(RS_EMEMORY, "no host memory for the tables of %d views", plane.views);
  // The last to begin are short, so that no multiprocessor is long without work.
  qsort(list->blocks.at, (size_t)list->blocks.count, sizeof *list->blocks.at, slice_compare_blocks);
  list->heads = (slice_block *)malloc((size_t)list->groups * sizeof *list->heads);
  if (!list->heads) return rs_fail(RS_EMEMORY, "no host memory for the tables of %d views", plane.views);
  for (int64_t k = 0; k < list->blocks.count; k++) list->heads[list->blocks.at[k].group] = list->blocks.at[k];
  return RS_OK;
}

static inline void slice_free_blocks(slice_block_list *list) {
  free(list->heads);
  free(list->blocks.at);
  free(list->strips.at);
  free(list->windows.at);
}
