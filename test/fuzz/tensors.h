// tensors.h: calls on tensors for the fuzz target abi.c, with shapes that fit small arrays, or nearly.
#pragma once

static int32_t choice_near(uint32_t count) { return byte() < 250 ? (int32_t)below(count) : (int32_t)absurd(); }

// Extents and strides of up to six axes for `operands` arrays that are packed, repeated along an axis, or anything.
static int64_t fill_table(int64_t *table, int32_t rank, int operands) {
  int64_t elements = 1;
  for (int k = rank - 1; k >= 0; k--) {
    int64_t extent = 1 + below(k < 3 ? 6 : 3);
    for (int i = 0; i < operands; i++) table[(1 + i) * rank + k] = below(8) ? elements : below(2) ? 0 : count_near((int64_t)below(40) - 20);
    table[k] = count_near(extent);
    elements *= extent;
  }
  return 4 * elements;
}

static void tensor_elements(void) {
  int64_t count = 1 + (int64_t)below(250) * (MOST_ELEMENTS / 250), size = 4 * count, table[4 * 8];
  int64_t out = good_pointer(size), a = below(3) ? good_pointer(size) : out;
  int32_t type = choice_near(2), rank = below(16) ? 1 + (int32_t)below(6) : (int32_t)below(9);
  switch (below(8)) {
  case 0: told(rs_tensor_fill(type, out, count_near(count), number_near(small_number()))); break;
  case 1: told(rs_tensor_cast(choice_near(4), out, a, count_near(count))); break;
  case 2:
    told(rs_tensor_map(choice_near(29), type, out, a, count_near(count), number_near(small_number()), number_near(small_number())));
    break;
  case 3:
    size = fill_table(table, rank, 3);
    told(rs_tensor_join(choice_near(23), type, good_pointer(size), good_pointer(size), good_pointer(size), rank, table));
    break;
  case 4:
    size = fill_table(table, rank, 3);
    told(rs_tensor_select(good_pointer(size), good_pointer(size), good_pointer(size), good_pointer(size), rank, table));
    break;
  case 5:
    size = fill_table(table, rank, 2);
    told(rs_tensor_copy(good_pointer(size), good_pointer(size), rank, table));
    break;
  case 6: {
    int64_t channels = 1 + below(40);
    count = channels * (1 + below(40));
    told(rs_tensor_normalize(good_pointer(4 * count), good_pointer(4 * count), good_pointer(4 * channels), good_pointer(4 * channels),
                             below(2) ? 0 : good_pointer(4 * channels), below(2) ? 0 : good_pointer(4 * channels), count_near(count),
                             count_near(channels), number_near(1e-3)));
    break;
  }
  default: {
    int32_t tensors = 1 + (int32_t)below(4);
    for (int k = 0; k < 5 * tensors; k++) table[k] = k % 5 < 4 ? good_pointer(size) : count_near(count);
    told(rs_tensor_optimize(choice_near(4), below(16) ? tensors : -tensors, table, good_pointer(24), (int32_t)below(3), number_near(0.9),
                            number_near(0.999), number_near(1e-7)));
  }
  }
}

static void tensor_reorder(void) {
  int64_t outer = 1 + below(8), axis = 1 + below(20), inner = 1 + below(8), batch = 1 + below(3), picks = 1 + below(20);
  int64_t whole = 4 * outer * axis * inner, shape[6] = {batch, outer, inner, axis, below(2) ? batch : 1, below(2) ? batch : 1};
  switch (below(5)) {
  case 0:
    told(rs_tensor_fold(choice_near(9), choice_near(2), good_pointer(4 * outer * inner), good_pointer(whole), count_near(outer),
                        count_near(axis), count_near(inner)));
    break;
  case 1:
    told(rs_tensor_softmax(good_pointer(4 * outer * axis), good_pointer(4 * outer * axis), count_near(outer), count_near(axis)));
    break;
  case 2:
    told(rs_tensor_gather(good_pointer(4 * batch * outer * picks * inner), good_pointer(whole * batch), good_pointer(4 * batch * picks),
                          count_near(batch), count_near(outer), count_near(axis), count_near(inner), count_near(picks)));
    break;
  case 3:
    told(rs_tensor_segment_sum(choice_near(2), good_pointer(4 * picks * inner), good_pointer(4 * axis * inner), good_pointer(4 * axis),
                               count_near(axis), count_near(inner), count_near(picks)));
    break;
  default: {
    int64_t out = good_pointer(4 * batch * outer * inner), a = good_pointer(whole * batch), b = good_pointer(whole * batch);
    for (int k = 0; k < 6; k++) shape[k] = count_near(shape[k]);
    told(rs_tensor_product(out, a, b, shape, (int32_t)below(3), (int32_t)below(3)));
  }
  }
}

static void tensor_image(void) {
  int64_t shape[RS_CONVOLUTION_NUMBERS], in = 1, out = 1, filter = 1;
  shape[RS_AT_BATCH] = 1 + below(2);
  shape[RS_AT_IN_CHANNELS] = 1 + below(9);
  shape[RS_AT_OUT_CHANNELS] = 1 + below(9);
  shape[RS_AT_PRECISION] = below(3);
  for (int k = 0; k < 3; k++) {
    int64_t size = 1 + (k ? below(14) : below(3)), taps = 1 + below(3), stride = 1 + below(3), dilation = 1 + below(2), before = below(3);
    int64_t reach = dilation * (taps - 1) + 1, seen = size + before + below(3) - reach;
    shape[RS_AT_IN + k] = size;
    shape[RS_AT_FILTER + k] = taps;
    shape[RS_AT_STRIDE + k] = stride;
    shape[RS_AT_DILATION + k] = dilation;
    shape[RS_AT_BEFORE + k] = before;
    shape[RS_AT_OUT + k] = seen < 0 ? 1 : seen / stride + 1;
    in *= size, out *= shape[RS_AT_OUT + k], filter *= taps;
  }
  int64_t channels = shape[RS_AT_IN_CHANNELS], batch = shape[RS_AT_BATCH], more = shape[RS_AT_OUT_CHANNELS];
  int depthwise = below(4) == 0;
  if (depthwise) more *= channels, shape[RS_AT_OUT_CHANNELS] = more;
  int32_t kind = choice_near(3);
  int64_t sizes[3] = {4 * batch * in * channels, 4 * batch * out * more, 4 * filter * more * (depthwise ? 1 : channels)};
  int64_t x = good_pointer(sizes[0]), y = good_pointer(sizes[1]), w = good_pointer(sizes[2]);
  int64_t target = kind == 1 ? x : kind == 2 ? w : y, a = kind == 1 ? y : x, b = kind == 2 ? y : w;
  if (byte() > 240) shape[below(RS_CONVOLUTION_NUMBERS)] = absurd();
  switch (below(7)) {
  case 0: told(rs_tensor_pool(choice_near(2), y, x, shape)); break;
  case 1: told(rs_tensor_pool_gradient(choice_near(2), good_pointer(sizes[0]), y, below(2) ? 0 : x, shape)); break;
  case 2: {
    int64_t resize[6] = {batch, 1 + below(12), 1 + below(12), 1 + below(12), 1 + below(12), channels};
    int64_t from = good_pointer(4 * batch * resize[1] * resize[2] * channels),
            to = good_pointer(4 * batch * resize[3] * resize[4] * channels);
    for (int k = 0; k < 6; k++) resize[k] = count_near(resize[k]);
    if (below(2))
      told(rs_tensor_resize(choice_near(2), to, from, resize, (int32_t)below(2), (int32_t)below(2)));
    else
      told(rs_tensor_resize_gradient(choice_near(2), from, to, resize, (int32_t)below(2), (int32_t)below(2)));
    break;
  }
  case 3: {
    int64_t operands[RS_FUSED_NUMBERS] = {target, 0, 0, more, 0, 0, a, 0, 0, channels, 0, 0, b, 0, 0, 0, below(2), 0};
    if (byte() > 128) operands[below(RS_FUSED_NUMBERS)] = byte() > 128 ? absurd() : pointer_to(4);
    told(rs_tensor_convolve_fused(kind, operands, shape));
    break;
  }
  case 4: {
    int64_t rows = 1 + below(14), columns = 1 + below(14), wide = 4 * batch * rows * columns, hidden = 8 * (1 + below(5)),
            halves = below(2);
    int64_t block[RS_BLOCK_NUMBERS] = {batch, rows, columns, below(4), channels, below(3), 0, hidden, 8};
    int64_t all = channels + block[RS_BLOCK_X_CHANNELS + 1], widths[4] = {all, hidden, 8, channels};
    for (int k = 0; k < 2; k++) block[RS_BLOCK_X + k] = good_pointer(wide * block[RS_BLOCK_X_CHANNELS + k]);
    for (int k = 0; k < 3; k++) {
      block[RS_BLOCK_FILTERS + k] = good_pointer(4 * 9 * widths[k] * widths[k + 1]);
      if (below(2)) block[RS_BLOCK_BIASES + k] = good_pointer(4 * widths[k + 1]);
      if (below(3)) block[k < 2 ? RS_BLOCK_KEPT + k : RS_BLOCK_OUT] = good_pointer(wide * widths[k + 1] / (k < 2 ? 1 + halves : 1));
    }
    block[RS_BLOCK_HALVES] = halves;
    if (byte() > 128) block[below(RS_BLOCK_NUMBERS)] = byte() > 128 ? absurd() : pointer_to(4);
    int32_t fits = 0;
    told(rs_tensor_residual_block_fits((int32_t)below(2), block, &fits));
    told(rs_tensor_residual_block(block));
    break;
  }
  default:
    if (depthwise)
      told(rs_tensor_convolve_depthwise(kind, target, a, b, shape));
    else
      told(rs_tensor_convolve(kind, target, a, b, shape));
  }
}
