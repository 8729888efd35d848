// astra.cu: the CUDA family of the laws of ASTRA: what csrc/astra.c computes, on a GPU.
//
// The workspace holds the volume or the projections with a border of zeros, one batch item at a time: volumes for every main axis in
// use, laid out as astra_tables.h says; then the sums of squares of forward's blocks.
#include "astra_back.h"
#include "astra_forward.h"
#include "astra_pack.h"

#include <cstdlib>

namespace {

struct astra_tables {
  astra_aimed *aimed;
  astra_view *view;
  int64_t aimed_pointer, view_pointer;
  bool used[3]; // main axes
  int64_t packed_floats, blocks;
  int32_t high;
};

int64_t parts(int64_t count, int64_t size) { return (count + size - 1) / size; }

int accepts(const rs_geometry *) { return 1; }

void release(rs_plan *plan) {
  astra_tables *tables = (astra_tables *)plan->tables;
  rs_cuda_table_free(tables->aimed_pointer);
  rs_cuda_table_free(tables->view_pointer);
  free(tables);
  plan->tables = nullptr;
}

bool is_fan(const rs_geometry *geometry) { return geometry->law == RS_ASTRA_2D && geometry->beam == RS_CONE; }

int32_t fill_tables(rs_plan *plan, astra_tables *tables, astra_aimed *aimed, astra_view *view) {
  const rs_geometry *geometry = &plan->geometry;
  for (int32_t i = 0; i < geometry->views; i++) {
    const rs_view *from = &geometry->view[i];
    astra_aimed &to = aimed[i];
    to.main = is_fan(geometry) ? RS_Y : astra_main_axis(geometry, from);
    to.fan = astra_fan_of(geometry, from);
    const int mains[2] = {to.main, RS_X}; // the second one in fans alone
    for (int k = 0; k <= is_fan(geometry); k++) {
      const astra_axes axes = astra_axes_of(geometry, mains[k]);
      to.frame[k] = astra_frame_of(geometry, from, &axes);
      tables->used[mains[k]] = true;
    }
    astra_make_view(geometry, from, &view[i]);
  }
  int32_t status =
      rs_cuda_table(plan->device, aimed, geometry->views * (int64_t)sizeof *aimed, (void **)&tables->aimed, &tables->aimed_pointer);
  return status ? status
                : rs_cuda_table(plan->device, view, geometry->views * (int64_t)sizeof *view, (void **)&tables->view, &tables->view_pointer);
}

int32_t prepare(rs_plan *plan) {
  const rs_geometry *geometry = &plan->geometry;
  if (astra_check(geometry)) return RS_EARGUMENT;
  astra_tables *tables = (astra_tables *)calloc(1, sizeof *tables);
  astra_aimed *aimed = (astra_aimed *)calloc((size_t)geometry->views, sizeof *aimed);
  astra_view *view = (astra_view *)malloc((size_t)geometry->views * sizeof *view);
  plan->tables = tables;
  int32_t status = tables && aimed && view ? fill_tables(plan, tables, aimed, view)
                                           : rs_fail(RS_EMEMORY, "no host memory for the tables of %d views", geometry->views);
  free(aimed);
  free(view);
  if (status) {
    if (tables) release(plan);
    return status;
  }
  const int64_t volume = astra_volume_floats(geometry) * (tables->used[RS_X] + (tables->used[RS_Y] || tables->used[RS_Z])),
                images = astra_image_floats(geometry) * geometry->views;
  tables->high = geometry->rows < 8 ? geometry->rows : 8;
  tables->blocks =
      parts(parts(geometry->rows, tables->high) * tables->high * parts(geometry->columns, 32) * geometry->views, ASTRA_THREADS / 32);
  tables->packed_floats = parts(volume > images ? volume : images, 16) * 16;
  plan->workspace_floats = tables->packed_floats + 2 * tables->blocks;
  return RS_OK;
}

int64_t voxel_count(const rs_geometry *g) { return (int64_t)g->shape[0] * g->shape[1] * g->shape[2]; }
int64_t pixel_count(const rs_geometry *g) { return (int64_t)g->rows * g->views * g->columns; }

dim3 pack_grid(int64_t rows, int64_t depth) { return dim3((unsigned)rows, (unsigned)(depth < ASTRA_GRID ? depth : ASTRA_GRID)); }

// Packs a volume, turned or not.
int32_t pack_volume(const rs_operation *operation, const rs_geometry *geometry, const float *volume, bool turned, float *to) {
  const int32_t depth = geometry->shape[RS_Z], height = geometry->shape[RS_Y], width = geometry->shape[RS_X];
  const int64_t rows = (turned ? width : height) + RS_TEXTURE_BORDER, pitch = (turned ? height : width) + RS_TEXTURE_BORDER,
                slice = rows * pitch;
  cudaStream_t stream = rs_cuda_stream(operation);
  int32_t status = RS_LAUNCH(astra_clear, dim3((unsigned)parts(slice, 256)), dim3(256), 0, stream, to, slice, depth);
  if (status) return status;
  return turned ? RS_LAUNCH(astra_pack_turned, pack_grid(parts(rows, 32) * parts(pitch, 32), depth), dim3(32, 8), 0, stream, to + slice,
                            volume, depth, height, width)
                : RS_LAUNCH(astra_pack, pack_grid(parts(rows, 8), depth), dim3(32, 8), 0, stream, to + slice, volume, depth, height, width,
                            (int64_t)height * width, (int64_t)width);
}

// The copies of the volume that views of this main axis read, and where the next one begins.
void set_layout(const rs_geometry *geometry, int main, float *packed, astra_layout *layout) {
  const astra_axes axes = astra_axes_of(geometry, main);
  const int32_t pitch = geometry->shape[main == RS_X ? RS_Y : RS_X] + RS_TEXTURE_BORDER,
                slice = pitch * (geometry->shape[main == RS_X ? RS_X : RS_Y] + RS_TEXTURE_BORDER);
  layout->packed = packed;
  for (int n = 0; n < 3; n++) {
    const int axis = axes.axis[n];
    layout->step[n] = axis == RS_Z ? slice : (axis == RS_X) == (main == RS_X) ? pitch : 1;
    layout->count[n] = axes.count[n];
  }
}

int32_t forward(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *volume, int64_t batch, double *norm) {
  const astra_tables *tables = (const astra_tables *)plan->tables;
  const rs_geometry *geometry = &plan->geometry;
  const bool flat = geometry->law == RS_ASTRA_2D, straight = tables->used[RS_Y] || tables->used[RS_Z];
  float *turned = plan->workspace + (straight ? astra_volume_floats(geometry) : 0);
  astra_forward_work work = {};
  work.output = *output;
  work.views = tables->aimed;
  work.squares = norm ? (double *)(plan->workspace + tables->packed_floats) : nullptr;
  work.view_count = geometry->views;
  work.rows = geometry->rows;
  work.columns = geometry->columns;
  work.supersampling = geometry->supersampling;
  work.sub_rows = flat ? 1 : geometry->supersampling;
  work.slab = astra_axes_of(geometry, RS_Y).slab;
  work.cone = geometry->beam == RS_CONE;
  work.fan = is_fan(geometry);
  work.high = tables->high;
  for (int main = 0; main < 3; main++) set_layout(geometry, main, main == RS_X ? turned : plan->workspace, &work.layout[main]);
  for (int64_t item = 0; item < batch; item++) {
    const float *from = volume + item * voxel_count(geometry);
    work.item = (size_t)(item * pixel_count(geometry));
    int32_t status = straight ? pack_volume(operation, geometry, from, false, plan->workspace) : RS_OK;
    if (!status && tables->used[RS_X]) status = pack_volume(operation, geometry, from, true, turned);
    if (!status) status = RS_LAUNCH(astra_forward, dim3((unsigned)tables->blocks), dim3(ASTRA_THREADS), 0, rs_cuda_stream(operation), work);
    if (!status && norm) status = rs_sum_blocks(operation, work.squares, tables->blocks, 1, norm + item);
    if (status) return status;
  }
  return RS_OK;
}

int32_t back(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *projections, int64_t batch) {
  const astra_tables *tables = (const astra_tables *)plan->tables;
  const rs_geometry *geometry = &plan->geometry;
  const int32_t *shape = geometry->shape;
  cudaStream_t stream = rs_cuda_stream(operation);
  astra_back_work work = {};
  work.output = *output;
  work.views = tables->view;
  work.packed = plan->workspace;
  work.view_count = geometry->views;
  work.rows = geometry->rows;
  work.columns = geometry->columns;
  work.depth = shape[RS_Z];
  work.height = shape[RS_Y];
  work.width = shape[RS_X];
  work.sub_rows = geometry->voxel_supersampling;
  work.sub_slices = geometry->law == RS_ASTRA_2D ? 1 : geometry->voxel_supersampling;
  const dim3 grid((unsigned)parts(parts(shape[RS_X], 32) * parts(shape[RS_Y], 8) * parts(shape[RS_Z], ASTRA_SLICES), 1)), block(32, 8);
  for (int64_t item = 0; item < batch; item++) {
    work.item = (size_t)(item * voxel_count(geometry));
    int32_t status = RS_LAUNCH(astra_pack, pack_grid(parts(geometry->rows + RS_TEXTURE_BORDER, 8), geometry->views), dim3(32, 8), 0, stream,
                               plan->workspace, projections + item * pixel_count(geometry), geometry->views, geometry->rows,
                               geometry->columns, (int64_t)geometry->columns, (int64_t)geometry->views * geometry->columns);
    if (status) return status;
    if (geometry->beam == RS_PARALLEL)
      status = RS_LAUNCH(astra_back<0>, grid, block, 0, stream, work);
    else if (geometry->law == RS_ASTRA_2D)
      status = RS_LAUNCH(astra_back<1>, grid, block, 0, stream, work);
    else
      status = RS_LAUNCH(astra_back<2>, grid, block, 0, stream, work);
    if (status) return status;
  }
  return RS_OK;
}

} // namespace

extern "C" const rs_family rs_astra_cuda = {"astra", accepts, prepare, release, forward, back};
