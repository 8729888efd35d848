// general_window.h: which rays of a view can have a sample in a box, for the `rs_general` family.
#pragma once
#include "general_rays.h"

// The columns of a fine row that hold every ray with a sample in a box: for each limit of the box, those on its right side where it
// meets the first or the last plane. That is where start + row (number of the row) + column (number of the column) > 0 on a flat
// detector, and where start + row (number of the row) + cos(angle - peak) > 0 on a curved one.
typedef struct {
  double turn, middle; // of a curved detector: angle between columns, column at angle 0
  int edges;
  struct {
    int low; // flat: the columns are above `low`, else below
    double start[2], row[2];
    double column[2]; // flat: -1 / column
    double peak[2];   // curved
  } edge[4];
} general_window;

// A function start + row r + column c + rise (...) of the fine rows r and columns c of a view, see rs_bend.
typedef struct {
  double start, row, column, rise;
} general_linear;

// Whether it is above 0 everywhere on the detector.
static inline int general_positive(const rs_geometry *geometry, const rs_view *view, const general_linear *f) {
  const double last = geometry->fine_columns - 1, half = 0.5 * view->turn * last;
  double column[3] = {0, last, 0};
  if (view->turn != 0) { // the lowest point between the ends, if there is one
    const double lowest = atan2(-f->column / view->turn, f->rise);
    column[2] = fabs(lowest) < half ? (lowest + half) / view->turn : 0;
  }
  for (int k = 0; k < 3; k++) {
    double along, rise, value;
    rs_bend(view, geometry->fine_columns, column[k], &along, &rise);
    value = f->start + f->column * along + f->rise * rise;
    if (!(value > 0 && value + f->row * (geometry->fine_rows - 1) > 0)) return 0;
  }
  return 1;
}

static inline void general_frame(const rs_geometry *geometry, const rs_view *view, const general_box *box, general_window *window) {
  const int m = view->main, axis[2] = {view->cross, general_third(view)}, cone = geometry->beam == RS_CONE;
  const double slack = 0.01; // voxels, far above the rounding errors here
  const double from[2] = {-1 - slack, box->row - slack}, to[2] = {box->columns - 1 + slack, box->row + box->rows + slack};
  window->edges = 0;
  window->turn = view->turn;
  window->middle = 0.5 * (geometry->fine_columns - 1);
  // A position on a plane is centre + p / d, both functions of row and column.
  general_linear d = {1, 0, 0, 0};
  if (cone) d = (general_linear){view->corner[m] - view->origin[m], view->v[m], view->u[m], view->axis[m]};
  const double sign = d.start > 0 ? 1 : -1;
  d = (general_linear){sign * d.start, sign * d.row, sign * d.column, sign * d.rise};
  if (!general_positive(geometry, view, &d)) return; // rays along the planes: no limits
  for (int k = 0; k < 4; k++) {
    const int a = axis[k / 2], above = k % 2 == 0;
    const double limit = above ? from[k / 2] : to[k / 2], side = above ? 1 : -1;
    int low = 1, high = 1;
    for (int end = 0; end < 2; end++) {
      const double plane = box->plane + (end ? box->planes - 1 : 0);
      double centre = 0;
      general_linear p;
      if (cone) {
        const double height = sign * (plane - view->origin[m]);
        centre = view->origin[a];
        p = (general_linear){height * (view->corner[a] - view->origin[a]), height * view->v[a], height * view->u[a],
                             height * view->axis[a]};
      } else {
        const double slope = view->origin[a] / view->origin[m];
        p = (general_linear){view->corner[a] + (plane - view->corner[m]) * slope, view->v[a] - view->v[m] * slope,
                             view->u[a] - view->u[m] * slope, 0};
      }
      // Rays are on the right side where side (p - (limit - centre) d) > 0.
      const double far = limit - centre, start = side * (p.start - far * d.start), row = side * (p.row - far * d.row);
      const double column = side * (p.column - far * d.column) + 0.0, rise = side * (p.rise - far * d.rise); // no -0
      double share = 1;
      if (view->turn != 0) {
        const double sine = column / view->turn;
        share = 1 / (hypot(sine, rise) + 1e-300);
        window->edge[window->edges].peak[end] = atan2(sine, -rise);
      }
      window->edge[window->edges].start[end] = share * (view->turn != 0 ? start + column * window->middle + rise : start);
      window->edge[window->edges].row[end] = share * row;
      window->edge[window->edges].column[end] = -1 / column;
      low &= column >= 0;
      high &= column < 0;
    }
    window->edge[window->edges].low = low;
    window->edges += low | high | (view->turn != 0); // else every column may be right on one of the planes
  }
}

// The angles *low ... *high, less than a half turn apart, of a row of a curved detector that are on the right side of an edge.
static inline void general_clip_angles(const general_window *window, int edge, int32_t row, double *low, double *high) {
  double least = INFINITY, most = -INFINITY;
  for (int end = 0; end < 2; end++) {
    const double level = window->edge[edge].start[end] + window->edge[edge].row[end] * row, peak = window->edge[edge].peak[end];
    if (level >= 1) return;
    if (level <= -1) continue;
    const double reach = acos(-level);
    for (int turn = -1; turn <= 1; turn++) {
      double from = peak - reach + turn * GENERAL_TURN, to = peak + reach + turn * GENERAL_TURN;
      from = from > *low ? from : *low, to = to < *high ? to : *high;
      if (from <= to) least = from < least ? from : least, most = to > most ? to : most;
    }
  }
  *low = least;
  *high = most;
}

// Narrows the columns *first ... *end - 1 of a fine row.
static inline void general_clip(const general_window *window, int32_t row, int32_t *first, int32_t *end) {
  double low = *first, high = *end - 1;
  if (window->turn != 0) {
    low = (low - window->middle) * window->turn, high = (high - window->middle) * window->turn;
    for (int k = 0; k < window->edges && low <= high; k++) general_clip_angles(window, k, row, &low, &high);
    low = low / window->turn + window->middle - 0.01, high = high / window->turn + window->middle + 0.01;
    low = low > *first ? low : *first, high = high < *end - 1 ? high : *end - 1;
  }
  for (int k = 0; k < window->edges && window->turn == 0; k++) {
    double a = (window->edge[k].start[0] + window->edge[k].row[0] * row) * window->edge[k].column[0];
    double b = (window->edge[k].start[1] + window->edge[k].row[1] * row) * window->edge[k].column[1];
    if (window->edge[k].low) {
      double least = a < b ? a : b;
      low = least > low ? least : low;
    } else {
      double most = a > b ? a : b;
      high = most < high ? most : high;
    }
  }
  if (!(low <= high))
    *end = *first;
  else
    *first = (int32_t)low, *end = (int32_t)high + 2 < *end ? (int32_t)high + 2 : *end;
}
