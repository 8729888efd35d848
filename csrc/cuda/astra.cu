// astra.cu: the CUDA family of the laws of ASTRA: what csrc/astra.c computes, on a GPU.
//
// The workspace holds one batch item's volume or projections with a border of zeros, laid out for the kernels that read them. Where
// detector columns stand along z, those of astra_beams.h and astra_columns.h (astra_upright.h where rays are supersampled, or there is too
// little work for astra_beams.h, or its windows are too large; astra_fours_back.h for cones whose plane of the source halves volume and
// detector, in precision `half` astra_fours_beams.h, too), for one slice those of astra_line.h, else astra_forward.h and astra_back.h.
#include "astra_plan.h"

extern "C" const rs_family rs_astra_cuda, rs_astra_half_cuda;

namespace {

int accepts(const rs_geometry *) { return 1; }

void release(rs_plan *plan) {
  astra_tables *tables = (astra_tables *)plan->tables;
  rs_cuda_table_free(tables->aimed_pointer);
  rs_cuda_table_free(tables->view_pointer);
  rs_cuda_table_free(tables->beam_pointer);
  rs_cuda_table_free(tables->image_pointer);
  rs_cuda_table_free(tables->pair_pointer);
  free(tables);
  plan->tables = nullptr;
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
  size_forward(geometry, tables);
  size_back(geometry, tables);
  tables->packed_floats = round_up(tables->packed_floats, 16);
  plan->workspace_floats = tables->packed_floats + 2 * tables->blocks + 1;
  if (geometry->precision == RS_PRECISION_HALF && (tables->fours.slots || tables->pair_beams.chunk)) plan->family = &rs_astra_half_cuda;
  return RS_OK;
}

// ---- packing

dim3 pack_grid(int64_t rows, int64_t depth) { return dim3((unsigned)rows, (unsigned)(depth < ASTRA_GRID ? depth : ASTRA_GRID)); }

int32_t clear(const rs_operation *operation, float *to, int64_t slice, int32_t depth) {
  return RS_LAUNCH(astra_clear, dim3((unsigned)parts(slice, 256)), dim3(256), 0, rs_cuda_stream(operation), to, slice, depth);
}

// Packs `depth` slices of height x width, these steps in floats apart, turned: rows of `pitch` floats hold a column of the slice.
int32_t pack_turned(const rs_operation *operation, float *to, const float *from, int32_t depth, int32_t height, int32_t width,
                    int64_t z_step, int64_t y_step, int64_t pitch, int32_t before = 1) {
  const int64_t rows = width + RS_TEXTURE_BORDER, slice = rows * pitch;
  int32_t status = clear(operation, to, slice, depth);
  return status ? status
                : RS_LAUNCH(astra_pack_turned, pack_grid(parts(rows, 32) * parts(pitch, 32), depth), dim3(32, 8), 0,
                            rs_cuda_stream(operation), to + slice, from, depth, height, width, z_step, y_step, pitch, before);
}

int32_t pack_straight(const rs_operation *operation, const rs_geometry *geometry, const float *volume, float *to) {
  const int32_t depth = geometry->shape[RS_Z], height = geometry->shape[RS_Y], width = geometry->shape[RS_X];
  const int64_t rows = height + RS_TEXTURE_BORDER, slice = rows * (width + RS_TEXTURE_BORDER);
  int32_t status = clear(operation, to, slice, depth);
  return status ? status
                : RS_LAUNCH(astra_pack, pack_grid(parts(rows, 8), depth), dim3(32, 8), 0, rs_cuda_stream(operation), to + slice, volume,
                            depth, height, width, (int64_t)height * width, (int64_t)width);
}

// The largest finite absolute value of an item, as fours_largest finds it.
int32_t find_largest(const rs_operation *operation, const float *from, int64_t count, unsigned *largest) {
  cudaStream_t stream = rs_cuda_stream(operation);
  int32_t status = rs_cuda_status(cudaMemsetAsync(largest, 0, sizeof *largest, stream), "largest value");
  return status ? status
                : RS_LAUNCH(fours_largest, dim3((unsigned)parts(count, 256 * FOURS_READS)), dim3(256), 0, stream, from, count, largest);
}

// ---- forward

int32_t forward_upright(const rs_operation *operation, const rs_plan *plan, const rs_output &output, size_t item, const float *volume,
                        double *squares) {
  const astra_tables *tables = (const astra_tables *)plan->tables;
  const rs_geometry *geometry = &plan->geometry;
  const int32_t *shape = geometry->shape;
  const int64_t pitch = line_floats(geometry);
  int32_t status = pack_turned(operation, plan->workspace, volume, shape[RS_Y], shape[RS_Z], shape[RS_X], shape[RS_X],
                               (int64_t)shape[RS_Y] * shape[RS_X], pitch);
  if (status) return status;
  astra_upright_work work = {};
  work.output = output;
  work.item = item;
  work.views = tables->aimed;
  work.squares = squares;
  work.packed = plan->workspace;
  work.step[RS_Z] = 1;
  work.step[RS_Y] = pitch * (shape[RS_X] + RS_TEXTURE_BORDER);
  work.step[RS_X] = pitch;
  for (int k = 0; k < 3; k++) work.count[k] = (float)shape[k];
  work.view_count = geometry->views, work.rows = geometry->rows, work.columns = geometry->columns;
  work.supersampling = geometry->supersampling;
  work.cone = geometry->beam == RS_CONE;
  auto *kernel = tables->per_lane == 8   ? astra_upright_forward<8>
                 : tables->per_lane == 4 ? astra_upright_forward<4>
                 : tables->per_lane == 2 ? astra_upright_forward<2>
                                         : astra_upright_forward<1>;
  return RS_LAUNCH(kernel, dim3((unsigned)tables->blocks), dim3(ASTRA_UPRIGHT_THREADS), 0, rs_cuda_stream(operation), work);
}

int32_t forward_beams(const rs_operation *operation, const rs_plan *plan, const rs_output &output, size_t item, const float *volume,
                      double *squares) {
  const astra_tables *tables = (const astra_tables *)plan->tables;
  const rs_geometry *geometry = &plan->geometry;
  const int32_t *shape = geometry->shape;
  const astra_beams &beams = tables->beams;
  int32_t status = pack_turned(operation, plan->workspace, volume, shape[RS_Y], shape[RS_Z], shape[RS_X], shape[RS_X],
                               (int64_t)shape[RS_Y] * shape[RS_X], beams.length, beams.margin + 1);
  if (status) return status;
  astra_beams_work work = {};
  work.target.output = output;
  work.target.output.target += item;
  if (output.mode == RS_RESIDUAL) work.target.output.measured += item;
  work.target.lanes = {0, geometry->rows, geometry->rows, 0, (int64_t)geometry->views * geometry->columns};
  work.target.sums = squares;
  work.views = tables->aimed, work.beams = tables->beam;
  work.packed = plan->workspace;
  work.step[RS_Z] = 1;
  work.step[RS_Y] = (int64_t)beams.length * (shape[RS_X] + RS_TEXTURE_BORDER);
  work.step[RS_X] = beams.length;
  for (int k = 0; k < 3; k++) work.count[k] = shape[k];
  work.columns = geometry->columns, work.cone = geometry->beam == RS_CONE;
  work.room = beams;
  auto *kernel = beams.chunk == 128 ? astra_beams_forward<4> : beams.chunk == 64 ? astra_beams_forward<2> : astra_beams_forward<1>;
  const dim3 grid((unsigned)tables->beam_count, (unsigned)parts(geometry->rows, beams.chunk));
  return RS_LAUNCH(kernel, grid, dim3(32 * ASTRA_WARPS), astra_beams_bytes(beams), rs_cuda_stream(operation), work);
}

// The same for the rays of half-precision cones.
int32_t forward_fours(const rs_operation *operation, const rs_plan *plan, const rs_output &output, size_t item, const float *volume,
                      double *squares) {
  const astra_tables *tables = (const astra_tables *)plan->tables;
  const rs_geometry *geometry = &plan->geometry;
  const int32_t *shape = geometry->shape;
  const astra_beams &beams = tables->pair_beams;
  const int32_t lines = shape[RS_X] + RS_TEXTURE_BORDER;
  fours_beams_work work = {};
  work.output = output;
  work.output.target += item;
  if (output.mode == RS_RESIDUAL) work.output.measured += item;
  work.views = tables->aimed, work.pairs = tables->pair, work.beams = tables->beam;
  work.packed = (const uint2 *)plan->workspace;
  work.squares = squares;
  unsigned *largest = (unsigned *)(plan->workspace + tables->packed_floats + 2 * tables->blocks);
  work.largest = largest;
  work.step[RS_Z] = 1, work.step[RS_Y] = (int64_t)beams.length * lines, work.step[RS_X] = beams.length;
  for (int k = 0; k < 3; k++) work.count[k] = shape[k];
  work.view_count = geometry->views, work.rows = geometry->rows, work.columns = geometry->columns;
  work.room = beams;
  int32_t status = find_largest(operation, volume, voxel_count(geometry), largest);
  if (!status)
    status = RS_LAUNCH(fours_pack_volume, pack_grid(parts(lines, 32) * parts(beams.length, 32), shape[RS_Y] + RS_TEXTURE_BORDER),
                       dim3(32, 8), 0, rs_cuda_stream(operation), (uint2 *)plan->workspace, volume, shape[RS_Z], shape[RS_Y], shape[RS_X],
                       beams, (const unsigned *)largest);
  auto *kernel = beams.chunk == 64 ? fours_beams_forward<2> : fours_beams_forward<1>;
  const dim3 grid((unsigned)tables->beam_count, (unsigned)parts((geometry->rows + 1) / 2, beams.chunk));
  if (!status) status = RS_LAUNCH(kernel, grid, dim3(32 * FOURS_WARPS), fours_beams_bytes(beams), rs_cuda_stream(operation), work);
  return status;
}

astra_line_work line_work(const rs_plan *plan, const rs_output &output, size_t item, double *squares) {
  const astra_tables *tables = (const astra_tables *)plan->tables;
  const rs_geometry *geometry = &plan->geometry;
  astra_line_work work = {};
  work.output = output;
  work.item = item;
  work.aimed = tables->aimed;
  work.views = tables->view;
  work.squares = squares;
  work.rows = (float2 *)plan->workspace;
  work.view_count = geometry->views;
  work.detectors = geometry->columns;
  work.height = geometry->shape[RS_Y];
  work.width = geometry->shape[RS_X];
  work.columns = work.rows + (int64_t)work.height * (work.width + 2);
  work.cone = geometry->beam == RS_CONE;
  work.fan = is_fan(geometry);
  return work;
}

int32_t forward_line(const rs_operation *operation, const rs_plan *plan, const rs_output &output, size_t item, const float *volume,
                     double *squares) {
  const astra_tables *tables = (const astra_tables *)plan->tables;
  astra_line_work work = line_work(plan, output, item, squares);
  work.supersampling = plan->geometry.supersampling;
  cudaStream_t stream = rs_cuda_stream(operation);
  const int64_t pairs = larger((int64_t)work.height * (work.width + 2), (int64_t)work.width * (work.height + 2));
  int32_t status = RS_LAUNCH(astra_pack_lines, dim3((unsigned)parts(pairs, 256), 2), dim3(256), 0, stream, (float2 *)work.rows,
                             (float2 *)work.columns, volume, work.height, work.width);
  return status ? status : RS_LAUNCH(astra_line_forward, dim3((unsigned)tables->blocks), dim3(256), 0, stream, work);
}

// How the copy of the volume is laid out that views of this main axis read.
void set_layout(const rs_geometry *geometry, int main, float *packed, astra_layout *layout) {
  const astra_axes axes = astra_axes_of(geometry, &geometry->view[0], main);
  const int32_t pitch = geometry->shape[main == RS_X ? RS_Y : RS_X] + RS_TEXTURE_BORDER,
                slice = pitch * (geometry->shape[main == RS_X ? RS_X : RS_Y] + RS_TEXTURE_BORDER);
  layout->packed = packed;
  for (int n = 0; n < 3; n++) {
    const int axis = axes.axis[n];
    layout->step[n] = axis == RS_Z ? slice : (axis == RS_X) == (main == RS_X) ? pitch : 1;
    layout->count[n] = axes.count[n];
  }
}

int32_t forward_general(const rs_operation *operation, const rs_plan *plan, const rs_output &output, size_t item, const float *volume,
                        double *squares) {
  const astra_tables *tables = (const astra_tables *)plan->tables;
  const rs_geometry *geometry = &plan->geometry;
  const int32_t *shape = geometry->shape;
  const bool straight = tables->used[RS_Y] || tables->used[RS_Z];
  float *turned = plan->workspace + (straight ? astra_volume_floats(geometry) : 0);
  int32_t status = straight ? pack_straight(operation, geometry, volume, plan->workspace) : RS_OK;
  if (!status && tables->used[RS_X])
    status = pack_turned(operation, turned, volume, shape[RS_Z], shape[RS_Y], shape[RS_X], (int64_t)shape[RS_Y] * shape[RS_X], shape[RS_X],
                         shape[RS_Y] + RS_TEXTURE_BORDER);
  if (status) return status;
  astra_forward_work work = {};
  work.output = output;
  work.item = item;
  work.views = tables->aimed;
  work.squares = squares;
  work.view_count = geometry->views;
  work.rows = geometry->rows;
  work.columns = geometry->columns;
  work.supersampling = geometry->supersampling;
  work.sub_rows = geometry->law == RS_ASTRA_2D ? 1 : geometry->supersampling;
  work.cone = geometry->beam == RS_CONE;
  work.fan = is_fan(geometry);
  for (int main = 0; main < 3; main++) set_layout(geometry, main, main == RS_X ? turned : plan->workspace, &work.layout[main]);
  return RS_LAUNCH(astra_forward, dim3((unsigned)tables->blocks), dim3(ASTRA_THREADS), 0, rs_cuda_stream(operation), work);
}

int32_t forward(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *volume, int64_t batch, double *norm) {
  const astra_tables *tables = (const astra_tables *)plan->tables;
  const int64_t voxels = voxel_count(&plan->geometry), pixels = pixel_count(&plan->geometry);
  double *squares = norm ? (double *)(plan->workspace + tables->packed_floats) : nullptr;
  auto *run = tables->line               ? forward_line
              : tables->pair_beams.chunk ? forward_fours
              : tables->beams.chunk      ? forward_beams
              : tables->upright          ? forward_upright
                                         : forward_general;
  for (int64_t item = 0; item < batch; item++) {
    int32_t status = run(operation, plan, *output, (size_t)(item * pixels), volume + item * voxels, squares);
    if (!status && norm) status = rs_sum_blocks(operation, squares, tables->blocks, 1, norm + item);
    if (status) return status;
  }
  return RS_OK;
}

// ---- back

// Passes add to each other in the target; an update is clamped once all are in.
rs_output output_of_pass(const rs_output &output, size_t item, bool later, bool last) {
  rs_output part = output;
  part.target = output.target + item;
  if (later && output.mode == RS_STORE) part.mode = RS_ADD;
  if (!last) part.minimum = -INFINITY, part.maximum = INFINITY;
  return part;
}

int32_t back_columns(const rs_operation *operation, const rs_plan *plan, const rs_output &output, size_t item, const float *projections) {
  const astra_tables *tables = (const astra_tables *)plan->tables;
  const rs_geometry *geometry = &plan->geometry;
  const int32_t *shape = geometry->shape;
  const astra_columns &columns = tables->columns;
  cudaStream_t stream = rs_cuda_stream(operation);
  float2 *packed = (float2 *)plan->workspace;
  const dim3 grid((unsigned)(parts(shape[RS_X], STACK_SIDE) * parts(shape[RS_Y], ASTRA_TALL)), (unsigned)parts(shape[RS_Z], columns.chunk));
  astra_columns_work work = {};
  work.packed = packed;
  work.height = shape[RS_Y], work.width = shape[RS_X];
  work.columns = columns;
  work.target.lanes = {0, shape[RS_Z], shape[RS_Z], 0, (int64_t)shape[RS_Y] * shape[RS_X]};
  const bool cone = geometry->beam == RS_CONE;
  auto *kernel = columns.chunk == 128  ? (cone ? astra_columns_back<4, 2> : astra_columns_back<4, 0>)
                 : columns.chunk == 64 ? (cone ? astra_columns_back<2, 2> : astra_columns_back<2, 0>)
                                       : (cone ? astra_columns_back<1, 2> : astra_columns_back<1, 0>);
  for (int32_t first = 0; first < geometry->views; first += tables->per_pass) {
    const bool last = geometry->views - first <= tables->per_pass;
    work.view_count = last ? geometry->views - first : tables->per_pass;
    work.views = tables->view + first;
    work.target.output = output_of_pass(output, item, first > 0, last);
    int32_t status = RS_LAUNCH(astra_pack_columns, pack_grid(parts(columns.lines, 32) * parts(columns.length, 32), work.view_count),
                               dim3(32, 8), 0, stream, packed, projections + (int64_t)first * geometry->columns, work.view_count,
                               geometry->rows, geometry->columns, (int64_t)geometry->views, columns);
    if (!status) status = RS_LAUNCH(kernel, grid, dim3(32 * ASTRA_WARPS), astra_columns_bytes(columns), stream, work);
    if (status) return status;
  }
  return RS_OK;
}

// The same for cones that look the same upside down.
template <typename Kind>
int32_t back_fours(const rs_operation *operation, const rs_plan *plan, const rs_output &output, size_t item, const float *projections) {
  const astra_tables *tables = (const astra_tables *)plan->tables;
  const rs_geometry *geometry = &plan->geometry;
  const int32_t *shape = geometry->shape;
  const astra_columns &columns = tables->fours.columns;
  cudaStream_t stream = rs_cuda_stream(operation);
  constexpr bool half = Kind::SAMPLES == 4;
  const dim3 grid((unsigned)fours_tiles(geometry, half), (unsigned)parts((shape[RS_Z] + 1) / 2, columns.chunk));
  typename Kind::texel *packed = (typename Kind::texel *)plan->workspace;
  fours_columns_work work = {};
  work.packed = packed, work.fours = tables->fours;
  work.depth = shape[RS_Z], work.height = shape[RS_Y], work.width = shape[RS_X];
  unsigned *largest = (unsigned *)(plan->workspace + tables->packed_floats + 2 * tables->blocks);
  work.largest = half ? largest : nullptr;
  int32_t status = half ? find_largest(operation, projections, pixel_count(geometry), largest) : RS_OK;
  auto *kernel = columns.chunk == 64 ? fours_columns_back<Kind, 2> : fours_columns_back<Kind, 1>;
  if constexpr (!half)
    if (columns.chunk == 128) kernel = fours_columns_back<Kind, 4>;
  for (int32_t first = 0; first < tables->image_count && !status; first += tables->per_pass) {
    const bool last = tables->image_count - first <= tables->per_pass;
    work.image_count = last ? tables->image_count - first : tables->per_pass;
    work.images = tables->image + first;
    work.output = output_of_pass(output, item, first > 0, last);
    status = RS_LAUNCH(fours_pack_columns<Kind>, pack_grid(parts(columns.lines, 32) * parts(columns.length, 32), work.image_count),
                       dim3(32, 8), 0, stream, packed, projections, work.images, work.image_count, geometry->rows, geometry->columns,
                       (int64_t)geometry->views, columns, work.largest);
    if (!status) status = RS_LAUNCH(kernel, grid, dim3(32 * FOURS_WARPS), fours_columns_bytes(tables->fours), stream, work);
  }
  return status;
}

int32_t back_line(const rs_operation *operation, const rs_plan *plan, const rs_output &output, size_t item, const float *projections) {
  astra_line_work work = line_work(plan, output, item, nullptr);
  work.supersampling = plan->geometry.voxel_supersampling;
  cudaStream_t stream = rs_cuda_stream(operation);
  int32_t status = RS_LAUNCH(astra_pack_lines, dim3((unsigned)parts((int64_t)work.view_count * (work.detectors + 2), 256)), dim3(256), 0,
                             stream, (float2 *)work.rows, (float2 *)nullptr, projections, work.view_count, work.detectors);
  if (status) return status;
  const dim3 grid((unsigned)(parts(work.width, 32) * parts(work.height, 8 * ASTRA_LINE_VOXELS)));
  auto *kernel = !work.cone ? astra_line_back<0> : plan->geometry.law == RS_ASTRA_2D ? astra_line_back<1> : astra_line_back<2>;
  return RS_LAUNCH(kernel, grid, dim3(256), 0, stream, work);
}

int32_t back_general(const rs_operation *operation, const rs_plan *plan, const rs_output &output, size_t item, const float *projections) {
  const astra_tables *tables = (const astra_tables *)plan->tables;
  const rs_geometry *geometry = &plan->geometry;
  const int32_t *shape = geometry->shape;
  cudaStream_t stream = rs_cuda_stream(operation);
  int32_t status = RS_LAUNCH(astra_pack, pack_grid(parts(geometry->rows + RS_TEXTURE_BORDER, 8), geometry->views), dim3(32, 8), 0, stream,
                             plan->workspace, projections, geometry->views, geometry->rows, geometry->columns, (int64_t)geometry->columns,
                             (int64_t)geometry->views * geometry->columns);
  if (status) return status;
  astra_back_work work = {};
  work.output = output;
  work.item = item;
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
  const dim3 grid((unsigned)(parts(shape[RS_X], 32) * parts(shape[RS_Y], 8) * parts(shape[RS_Z], ASTRA_SLICES)));
  auto *kernel = geometry->law != RS_ASTRA_2D    ? (geometry->beam == RS_PARALLEL ? astra_back<ASTRA_PARALLEL> : astra_back<2>)
                 : geometry->beam == RS_PARALLEL ? astra_back<0>
                                                 : astra_back<1>;
  return RS_LAUNCH(kernel, grid, dim3(32, 8), 0, stream, work);
}

int32_t back(rs_operation *operation, const rs_plan *plan, const rs_output *output, const float *projections, int64_t batch) {
  const astra_tables *tables = (const astra_tables *)plan->tables;
  const int64_t voxels = voxel_count(&plan->geometry), pixels = pixel_count(&plan->geometry);
  const bool half = plan->geometry.precision == RS_PRECISION_HALF;
  auto *run = tables->line_back       ? back_line
              : tables->fours.slots   ? (half ? back_fours<fours_halves> : back_fours<fours_floats>)
              : tables->columns.chunk ? back_columns
                                      : back_general;
  for (int64_t item = 0; item < batch; item++) {
    int32_t status = run(operation, plan, *output, (size_t)(item * voxels), projections + item * pixels);
    if (status) return status;
  }
  return RS_OK;
}

} // namespace

const rs_family rs_astra_cuda = {"astra", accepts, prepare, release, forward, back};
const rs_family rs_astra_half_cuda = {"astra, half", accepts, prepare, release, forward, back}; // as `prepare` says
