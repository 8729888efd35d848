// convolution_fused.cu: convolutions on tensor cores, with what surrounds them in a network: inputs that stand side by side, bias, sum,
// ReLU and its gradient.
#include "convolution_filter.h"
#include "convolution_product.h"

namespace {

bool by_quads(const rs_channel_pieces &pieces, int64_t channels) {
  return pieces.channels[0] == channels && channels % 4 == 0 && (uintptr_t)pieces.at[0] % 16 == 0;
}

tiled problem_of(const rs_tensor_fusing &f) {
  const rs_convolution &c = f.shape;
  const int back = f.op == RS_CONVOLUTION_INPUT_GRADIENT;
  const int64_t *result = back ? c.in : c.out, *source = back ? c.out : c.in;
  tiled p = {};
  p.a = f.a, p.out = f.out;
  p.b = f.b, p.bias = f.bias, p.add = f.add, p.mask = f.mask;
  p.relu = f.relu, p.backwards = back, p.device = f.device, p.halves = f.halves;
  p.height = (int)result[1], p.width = (int)result[2];
  p.source_height = (int)source[1], p.source_width = (int)source[2];
  p.taps_y = (int)c.filter[1], p.taps_x = (int)c.filter[2];
  p.above = (int)(back ? c.filter[1] - 1 - c.before[1] : c.before[1]);
  p.before = (int)(back ? c.filter[2] - 1 - c.before[2] : c.before[2]);
  p.channels = (int)(back ? c.out_channels : c.in_channels), p.columns = (int)(back ? c.in_channels : c.out_channels);
  p.quads = by_quads(f.a, p.channels);
  p.across = (p.width + TILE_COLUMNS - 1) / TILE_COLUMNS, p.down = (p.height + TILE_ROWS - 1) / TILE_ROWS;
  p.tiles = c.batch * p.across * p.down;
  return p;
}

template <int PRECISION> int32_t run(rs_operation *o, const rs_tensor_fusing &f) {
  const tiled p = problem_of(f);
  if (f.op != RS_CONVOLUTION_FILTER_GRADIENT) return run_product<PRECISION>(o, p);
  const rs_channel_pieces gradient = {{(float *)f.b}, {f.shape.out_channels}};
  return run_filter_product<PRECISION>(o, p, gradient, by_quads(gradient, f.shape.out_channels));
}

} // namespace

extern "C" int32_t rs_cuda_tensor_convolve_fused(rs_operation *o, void *arguments) {
  const rs_tensor_fusing &f = *(const rs_tensor_fusing *)arguments;
  return f.shape.precision == RS_CONVOLVE_TF32 ? run<RS_CONVOLVE_TF32>(o, f) : run<RS_CONVOLVE_BF16>(o, f);
}
