// convolution_fused.cu: convolutions on tensor cores, with what surrounds them in a network: inputs that stand side by side, bias, sum,
// ReLU and its gradient.
#include "convolution_filter.h"
#include "convolution_product.h"

namespace {

bool by_sixteen_bytes(const void *pointer) { return (uintptr_t)pointer % 16 == 0; }

tile_source source_of(const rs_channel_pieces &pieces, int halves, int64_t channels, const int64_t *size) {
  const int quads = pieces.channels[0] == channels && channels % 4 == 0 && by_sixteen_bytes(pieces.at[0]);
  return {pieces, halves, quads, (int)channels, (int)size[1], (int)size[2]};
}

tiled problem_of(const rs_tensor_fusing &f) {
  const rs_convolution &c = f.shape;
  const int back = f.op == RS_CONVOLUTION_INPUT_GRADIENT;
  const int64_t *result = back ? c.in : c.out;
  tiled p = {};
  p.source = source_of(f.a, f.halves & RS_HALVES_A, back ? c.out_channels : c.in_channels, back ? c.out : c.in);
  p.out = f.out;
  p.b = f.b, p.bias = f.bias, p.add = f.add, p.mask = f.mask;
  p.relu = f.relu, p.backwards = back, p.device = f.device, p.halves = f.halves;
  p.height = (int)result[1], p.width = (int)result[2];
  p.taps_y = (int)c.filter[1], p.taps_x = (int)c.filter[2];
  p.above = (int)(back ? c.filter[1] - 1 - c.before[1] : c.before[1]);
  p.before = (int)(back ? c.filter[2] - 1 - c.before[2] : c.before[2]);
  p.columns = (int)(back ? c.in_channels : c.out_channels);
  p.quads = !back && p.columns % 4 == 0 && by_sixteen_bytes(f.b);
  p.runs = p.columns % 4 == 0 && f.out.channels[0] == p.columns && !f.add && by_sixteen_bytes(f.out.at[0]) && by_sixteen_bytes(f.mask);
  p.across = (p.width + TILE_COLUMNS - 1) / TILE_COLUMNS, p.down = (p.height + TILE_ROWS - 1) / TILE_ROWS;
  p.images = c.batch, p.tiles = c.batch * p.across * p.down;
  return p;
}

template <int PRECISION> int32_t run(rs_operation *o, const rs_tensor_fusing &f) {
  const tiled p = problem_of(f);
  if (f.op != RS_CONVOLUTION_FILTER_GRADIENT) return run_product<PRECISION>(o, p);
  return run_filter_product<PRECISION>(o, p,
                                       source_of({{(float *)f.b}, {f.shape.out_channels}}, f.halves & RS_HALVES_B, p.columns, f.shape.out));
}

} // namespace

extern "C" int32_t rs_cuda_tensor_convolve_fused(rs_operation *o, void *arguments) {
  const rs_tensor_fusing &f = *(const rs_tensor_fusing *)arguments;
  return f.shape.precision == RS_CONVOLVE_TF32 ? run<RS_CONVOLVE_TF32>(o, f) : run<RS_CONVOLVE_BF16>(o, f);
}
