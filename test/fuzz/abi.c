// A libFuzzer target over the C ABI: bytes become calls with good and bad arguments. `make fuzz` builds and runs it.
//
// Whatever is called, the library answers with a status and, below 0, a sentence; touches no memory but that of live arrays (the
// sanitizers watch); and has nothing left once everything that was made is freed. The numbers a good call needs are kept small, so
// that an input is many calls and little work.
#define _GNU_SOURCE
#include "raysum.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_LIVE 24
#define MOST_VIEWS 24
#define MOST_ELEMENTS 6000
#define MOST_SAMPLES (1 << 27) // that the projections of an input may take
#define CHECK(condition)                                                               \
  do {                                                                                 \
    if (!(condition)) fprintf(stderr, "line %d: %s\n", __LINE__, #condition), abort(); \
  } while (0)

// The bytes of an input, and 0 behind their end.
static const uint8_t *bytes, *bytes_end;
static uint32_t byte(void) { return bytes < bytes_end ? *bytes++ : 0; }
static uint32_t below(uint32_t count) { return byte() % count; }
static int64_t word(void) {
  uint64_t value = 0;
  for (int i = 0; i < 8; i++) value = value << 8 | byte();
  return (int64_t)value;
}

// What is alive. Freed pointers and numbers stay behind the live ones, to be used by mistake.
typedef struct {
  int64_t pointer, bytes;
} array;
static array arrays[MOST_LIVE], freed[MOST_LIVE];
static struct {
  int64_t number, rows, views, columns, shape[3];
  double samples;
} plans[MOST_LIVE];
static struct { int64_t number, bytes; } downloads[MOST_LIVE];
static int array_count, freed_count, plan_count, download_count;
static float owned[4096]; // memory that is adopted
static uint8_t *host;     // the caller's side of transfers
static int64_t capture;   // that records, or 0
static double samples;    // that the projections of this input have taken

static int32_t told(int32_t status) {
  uint8_t text[512];
  CHECK(status >= RS_EINTERNAL && status <= RS_CANCELLED && status != RS_EINTERNAL && status != RS_CANCELLED);
  if (status < 0) {
    int32_t length = rs_error(text, sizeof text);
    CHECK(length > 0 && length < 512);
    for (int32_t i = 0; i < length; i++) CHECK(text[i] >= ' ' && text[i] < 127);
  }
  return status;
}

static int64_t absurd(void) {
  static const int64_t list[] = {
      0,       -1,      INT64_MIN,        INT64_MAX,        INT64_MAX / 4,         INT32_MAX, INT32_MIN, 1, 3, INT64_C(1) << 32,
      1 << 20, 1 << 30, INT64_C(1) << 46, INT64_C(1) << 48, (INT64_C(1) << 62) + 1};
  uint32_t i = below(sizeof list / sizeof *list + 1);
  return i < sizeof list / sizeof *list ? list[i] : word();
}

static double absurd_number(void) {
  static const double list[] = {NAN,    INFINITY, -INFINITY, 0,  -0.0, 1e300, -1e300, 1e-300,
                                5e-324, 1e38,     1e39,      -1, 1e9,  1e-9,  0.5,    2147483648.0};
  uint32_t i = below(sizeof list / sizeof *list + 1);
  if (i < sizeof list / sizeof *list) return list[i];
  int64_t bits = word();
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

// Mostly what is asked for, sometimes anything.
static int64_t count_near(int64_t count) {
  uint32_t kind = byte();
  if (kind < 220) return count;
  return kind < 235 ? count + (int64_t)below(9) - 4 : absurd();
}
static double number_near(double number) { return byte() < 240 ? number : absurd_number(); }

static double small_number(void) { return ((int32_t)byte() - 128) / 32.0; }

// A pointer to `bytes` in some array, or a bad one: stale, shifted, another generation, anything.
static int64_t pointer_to(int64_t size) {
  uint32_t kind = byte();
  if (kind >= 240 && freed_count > 0) return freed[below((uint32_t)freed_count)].pointer + below(3) * 4;
  if (kind >= 236) return absurd();
  if (array_count == 0) return 0;
  array *a = &arrays[below((uint32_t)array_count)];
  for (int i = 0; i < array_count && a->bytes < size; i++) a = &arrays[i]; // one that fits, where there is one
  if (kind >= 232) return a->pointer ^ (int64_t)(UINT64_C(1) << below(64));
  if (kind >= 228) return a->pointer + (int64_t)below(16);
  if (kind >= 200 && size >= 0 && a->bytes >= size) return a->pointer + (a->bytes - size) / 8 * 8; // its last elements
  return a->pointer;
}

static void add_array(int64_t pointer, int64_t size) { arrays[array_count++] = (array){pointer, size}; }

static void allocate(void) {
  int64_t pointer = 0, size = count_near(4 * (1 + (int64_t)below(250) * (MOST_ELEMENTS / 250)) + (below(8) ? 0 : below(4)));
  if (size > 1 << 26 && size < INT64_C(1) << 44) size = INT64_C(1) << 44; // more than any machine has, rather than all of this one
  if (array_count == MOST_LIVE || told(rs_allocate(below(16) ? 0 : (int32_t)absurd(), size, &pointer))) return;
  CHECK(pointer > 0);
  add_array(pointer, size);
}

static void adopt(void) {
  int64_t offset = below(200), size = count_near(4 * (1 + (int64_t)below(255)) * 8), pointer = 0;
  int64_t address = (int64_t)(intptr_t)(owned + offset);
  if (byte() > 240) address = absurd();
  if (byte() > 240 && array_count > 0) address = arrays[below((uint32_t)array_count)].pointer & ((INT64_C(1) << 48) - 1);
  if (array_count == MOST_LIVE || told(rs_adopt(0, address, size, &pointer))) return;
  // Memory that is not there may be registered, but is the caller's fault to use.
  int mine = address >= (int64_t)(intptr_t)owned && address + size <= (int64_t)(intptr_t)(owned + 4096);
  if (mine)
    add_array(pointer, size);
  else
    CHECK(told(rs_free(pointer)) == RS_OK);
}

static void free_array(void) {
  if (array_count == 0 || byte() > 230) {
    int64_t pointer = pointer_to(1);
    for (int i = 0; i < array_count; i++)
      if (arrays[i].pointer == pointer) return; // a good one, freed below
    told(rs_free(pointer));
    return;
  }
  uint32_t i = below((uint32_t)array_count);
  int32_t status = told(rs_free(arrays[i].pointer));
  if (status && capture) { // memory of another owner that a capture uses stays until that is freed
    CHECK(told(rs_capture_free(capture)) == RS_OK);
    capture = 0;
    status = told(rs_free(arrays[i].pointer));
  }
  CHECK(status == RS_OK);
  freed[freed_count < MOST_LIVE ? freed_count++ : (int)below(MOST_LIVE)] = arrays[i];
  arrays[i] = arrays[--array_count];
}

static void set3(double *to, double z, double y, double x) { to[0] = z, to[1] = y, to[2] = x; }

// A geometry of one of the kinds that the kernels tell apart, with a number or two off.
static void create_plan(void) {
  double numbers[RS_HEADER + RS_VIEW * MOST_VIEWS] = {0};
  int64_t views = 1 + below(MOST_VIEWS), count = RS_HEADER + RS_VIEW * views, number = 0;
  uint32_t kind = below(6), one_slice = below(3) == 0;
  double angle = below(2) ? 0 : small_number(), step = below(3) ? acos(-1) * (1 + below(2)) / (double)views : small_number() / 4,
         pixel = kind & 1 ? 1 : 0.25 + below(16) / 8.0;
  numbers[RS_BEAM] = kind >= 3 ? RS_CONE : RS_PARALLEL;
  for (int k = 0; k < 3; k++) {
    numbers[RS_SHAPE + k] = 1 + below(k == 0 ? 40 : 24);
    numbers[RS_VOXEL_SIZE + k] = kind & 2 ? 0.25 + below(16) / 8.0 : 1;
    numbers[RS_POSITION + k] = below(3) ? 0 : small_number();
  }
  numbers[RS_VIEWS] = (double)views;
  numbers[RS_ROWS] = 1 + below(40);
  numbers[RS_COLUMNS] = 1 + below(40);
  numbers[RS_PRECISION] = below(3);
  if (one_slice) numbers[RS_SHAPE] = numbers[RS_ROWS] = 1;
  numbers[RS_DETECTOR_SUPERSAMPLING] = below(4) ? 1 : 1 + below(3);
  numbers[RS_LAW] = below(2) ? RS_EXACT : below(3);
  numbers[RS_PRECISION] = (double)below(4);
  numbers[RS_VOXEL_SUPERSAMPLING] = numbers[RS_LAW] == RS_EXACT || below(2) ? 1 : 1 + below(3);
  double height = below(2) ? numbers[RS_VOXEL_SIZE] : pixel, distance = 1 + below(60), shift = below(3) ? 0 : small_number(),
         radius = below(3) * (double)below(60);
  for (int64_t i = 0; i < views; i++) {
    double *view = numbers + RS_HEADER + RS_VIEW * i, a = angle + step * (double)i;
    double c = cos(a), s = sin(a), back = numbers[RS_BEAM] == RS_CONE ? distance : 1;
    set3(view, 0, -c * back, -s * back);
    set3(view + 3, below(4) ? 0 : small_number(), c * distance + shift * s, s * distance - shift * c);
    set3(view + 6, height, 0, 0);
    set3(view + 9, 0, -s * pixel, c * pixel);
    view[12] = kind == 4 ? radius : 0;
    if (kind == 2 || kind == 5)
      for (int k = 0; k < 12; k++) view[k] += small_number();
  }
  for (uint32_t off = byte(); off > 200 && off < 255; off = byte()) {
    uint32_t place = byte();
    numbers[place % (uint32_t)count] = place & 1 ? absurd_number() : (double)absurd();
  }
  // One number may be 2^20: no geometry of more memory or work than a small machine has.
  double size = numbers[RS_SHAPE] * numbers[RS_SHAPE + 1] * numbers[RS_SHAPE + 2];
  double rays =
      numbers[RS_ROWS] * numbers[RS_COLUMNS] * numbers[RS_VIEWS] * numbers[RS_DETECTOR_SUPERSAMPLING] * numbers[RS_DETECTOR_SUPERSAMPLING];
  double longest = fmax(numbers[RS_SHAPE], fmax(numbers[RS_SHAPE + 1], numbers[RS_SHAPE + 2])),
         work = rays * longest + size * numbers[RS_VIEWS] * pow(numbers[RS_VOXEL_SUPERSAMPLING], 3);
  if (!(size <= 1 << 24 && rays <= 1 << 24 && work <= 1 << 26)) numbers[RS_BEAM] = 2;
  double *exact = malloc(sizeof *exact * (size_t)count); // so that one number too many is seen
  memcpy(exact, numbers, sizeof *exact * (size_t)count);
  int64_t given = byte() < 245 ? count : below(20);
  int32_t status = plan_count == MOST_LIVE ? RS_BUSY : told(rs_plan_create(0, exact, given < count ? given : count, &number));
  free(exact);
  if (status) return;
  plans[plan_count].number = number;
  plans[plan_count].rows = (int64_t)numbers[RS_ROWS];
  plans[plan_count].views = (int64_t)numbers[RS_VIEWS];
  plans[plan_count].columns = (int64_t)numbers[RS_COLUMNS];
  for (int k = 0; k < 3; k++) plans[plan_count].shape[k] = (int64_t)numbers[RS_SHAPE + k];
  plans[plan_count].samples = work;
  plan_count++;
}

static void free_plan(void) {
  if (plan_count == 0 || byte() > 230) {
    int64_t number = absurd();
    for (int i = 0; i < plan_count; i++)
      if (plans[i].number == number) return;
    CHECK(told(rs_plan_free(number)) < 0);
    return;
  }
  uint32_t i = below((uint32_t)plan_count);
  int64_t number = plans[i].number;
  CHECK(told(rs_plan_free(number)) == RS_OK);
  CHECK(rs_plan_free(number) == RS_EPOINTER);
  plans[i] = plans[--plan_count];
}

// Arrays of what a call needs, where none that is alive would do.
static int64_t good_pointer(int64_t size) {
  int64_t pointer = 0;
  if (array_count == MOST_LIVE || byte() > 200 || size > 1 << 20) return pointer_to(size);
  if (told(rs_allocate(0, size, &pointer))) return 0;
  add_array(pointer, size);
  return pointer;
}

static void project(void) {
  if (plan_count == 0) {
    told(rs_forward(absurd(), pointer_to(4), pointer_to(4), 1, 0));
    return;
  }
  uint32_t i = below((uint32_t)plan_count);
  int64_t number = byte() < 250 ? plans[i].number : absurd(), batch = 1 + below(3);
  int64_t one = 4 * plans[i].rows * plans[i].views * plans[i].columns,
          volume = 4 * plans[i].shape[0] * plans[i].shape[1] * plans[i].shape[2];
  samples += plans[i].samples * (double)batch;
  if (samples > MOST_SAMPLES) return;
  int64_t y = good_pointer(one * batch), x = good_pointer(volume * batch);
  int32_t accumulate = (int32_t)below(3);
  switch (below(4)) {
  case 0: told(rs_forward(number, y, x, count_near(batch), accumulate)); break;
  case 1: told(rs_back(number, x, y, count_near(batch), accumulate)); break;
  case 2: {
    int64_t measured = below(3) ? good_pointer(one * batch) : y, weights = good_pointer(one);
    told(rs_residual(number, y, x, measured, weights, below(2), count_near(batch), below(2) ? 0 : pointer_to(8 * batch)));
    break;
  }
  default: told(rs_update(number, x, y, good_pointer(volume), below(2), number_near(1), number_near(-1), number_near(1), count_near(batch)));
  }
}

static void elementwise(void) {
  int64_t count = 1 + (int64_t)below(250) * (MOST_ELEMENTS / 250), size = 4 * count;
  int64_t period = below(3) ? count : 1 + below(16);
  if (count % period && byte() < 250) period = 1;
  int64_t out = pointer_to(size), a = below(3) ? pointer_to(size) : out, b = pointer_to(4 * period);
  count = count_near(count);
  period = count_near(period);
  double p = number_near(small_number()), q = number_near(small_number());
  int32_t op = byte() < 250 ? (int32_t)below(7) : (int32_t)absurd();
  switch (below(9)) {
  case 0: told(rs_fill(out, count, p)); break;
  case 1: told(rs_unary(op, out, a, count, p, q)); break;
  case 2: told(rs_binary(op, out, a, b, count, period)); break;
  case 3: told(rs_combine(out, p, a, q, b, count, period)); break;
  case 4: told(rs_multiply_add(out, p, a, b, count, period)); break;
  case 5: told(rs_reciprocal(out, a, count, fabs(p), q)); break;
  case 6: told(rs_reduce(op, pointer_to(8), a, pointer_to(size), count)); break;
  case 7: told(rs_random(op, out, count, word(), p, q)); break;
  default: told(rs_copy(out, pointer_to(size), count_near(size)));
  }
}

static void copy_strided(void) {
  int64_t shape[4], to[4], from[4], steps = 1;
  for (int k = 3; k >= 0; k--) {
    shape[k] = count_near(1 + below(6));
    to[k] = count_near(below(8) ? steps : below(40));
    from[k] = count_near(below(3) ? steps : below(40));
    steps *= shape[k] > 0 && shape[k] < 7 ? shape[k] : 1;
  }
  told(rs_copy_strided(pointer_to(4 * steps), pointer_to(4 * steps), shape, to, from));
}

static void transfer(void) {
  int64_t size = count_near(4 * (1 + (int64_t)below(250) * (MOST_ELEMENTS / 250))), pointer = pointer_to(size);
  if (below(2)) {
    if (size > 0 && size <= 4 * MOST_ELEMENTS) memset(host, (int)byte(), (size_t)size);
    if (size <= 4 * MOST_ELEMENTS) told(rs_upload(pointer, host, size));
    return;
  }
  int64_t number = 0;
  if (download_count == MOST_LIVE || told(rs_download_begin(pointer, size, &number))) return;
  downloads[download_count].number = number;
  downloads[download_count++].bytes = size;
}

static void end_download(void) {
  if (download_count == 0 || byte() > 240) {
    int64_t number = absurd(); // which may be one of ours
    if (told(rs_download_end(number, host, 0)) != RS_OK) return;
    int i = 0;
    while (i < download_count && downloads[i].number != number) i++;
    CHECK(i < download_count);
    downloads[i] = downloads[--download_count];
    return;
  }
  uint32_t i = below((uint32_t)download_count);
  int64_t size = downloads[i].bytes, given = below(4) ? size : below(2) ? 0 : size + 4;
  if (size > 4 * MOST_ELEMENTS) given = 0;
  int32_t status = told(rs_download_end(downloads[i].number, host, given));
  if (status == RS_OK) downloads[i] = downloads[--download_count];
}

#include "tensors.h"

static void queue(void) {
  int64_t event = 0, counters[8];
  int32_t threads = 0, length = 0;
  double milliseconds = 0;
  uint8_t text[64];
  int32_t device = below(20) ? 0 : (int32_t)absurd(), capacity = below(4) ? (int32_t)sizeof text : (int32_t)below(sizeof text) - 2;
  switch (below(11)) {
  case 0:
    told(rs_record(device, &event));
    told(rs_query(0, event));
    break;
  case 1: told(rs_query(device, absurd())); break;
  case 2: told(rs_wait(device, absurd())); break;
  case 3:
    told(rs_record(0, &event));
    told(rs_cancel(device, event - below(8), event + below(3), (int32_t)below(2)));
    break;
  case 4: told(rs_cancel(device, absurd(), absurd(), (int32_t)below(2))); break;
  case 5:
    told(rs_threads(device, byte() < 250 ? (int32_t)below(4) : (int32_t)absurd(), &threads));
    CHECK(device || (threads >= 1 && threads <= 256));
    if (threads > 4) told(rs_threads(0, 2, &threads));
    break;
  case 6: told(rs_memory_trim(device)); break;
  case 7:
    if (told(rs_memory(device, counters)) == RS_OK) CHECK(counters[RS_ARRAYS_ALIVE] >= array_count);
    break;
  case 8:
    if (told(rs_device_name(device, text, capacity, &length)) == RS_OK) CHECK(length >= 0 && length < capacity);
    break;
  case 9: {
    if (told(rs_mark(device, &event))) break; // some of what is asked for is behind it, or forgotten, or anything
    int64_t first = count_near(event - below(80)), last = count_near(event - below(2));
    int32_t status = told(rs_elapsed(0, first, last, &milliseconds));
    CHECK(status != RS_OK || (milliseconds >= 0 && first <= last && first > event - RS_MARKS));
    break;
  }
  default:
    if (told(rs_plan_name(plan_count ? plans[0].number : absurd(), text, capacity, &length)) == RS_OK)
      CHECK(length >= 0 && length < capacity);
  }
}

// A capture that begins, ends, runs and is freed, in this order or not, around whatever else is called.
static void record(void) {
  int64_t number = byte() < 240 ? capture : absurd();
  switch (below(4)) {
  case 0: {
    int64_t made = 0;
    if (told(rs_capture_begin(below(16) ? 0 : (int32_t)absurd(), &made)) == RS_OK && capture)
      CHECK(told(rs_capture_free(made)) == RS_OK); // one at a time is kept here
    else if (made)
      capture = made;
    break;
  }
  case 1: told(rs_capture_end(number)); break;
  case 2:
    samples += MOST_SAMPLES / 16.0;
    if (samples <= MOST_SAMPLES) told(rs_capture_run(number));
    break;
  default:
    if (told(rs_capture_free(number)) == RS_OK) capture = 0;
  }
}

static void free_everything(void) {
  int64_t event = 0, counters[8];
  if (capture) CHECK(told(rs_capture_free(capture)) == RS_OK);
  capture = 0;
  samples = 0;
  while (plan_count > 0) CHECK(told(rs_plan_free(plans[--plan_count].number)) == RS_OK);
  while (array_count > 0) CHECK(told(rs_free(arrays[--array_count].pointer)) == RS_OK);
  CHECK(told(rs_record(0, &event)) == RS_OK && told(rs_wait(0, event)) == RS_OK);
  while (download_count > 0) CHECK(told(rs_download_end(downloads[--download_count].number, host, 0)) == RS_OK);
  CHECK(rs_memory(0, counters) == RS_OK);
  CHECK(counters[RS_ARRAYS_ALIVE] == 0 && counters[RS_PLANS_ALIVE] == 0 && counters[RS_DOWNLOADS_OPEN] == 0);
  CHECK(counters[RS_BYTES_IN_USE] == 0);
  if (counters[RS_BYTES_CACHED] > 1 << 28) CHECK(told(rs_memory_trim(0)) == RS_OK);
  freed_count = 0;
}

int LLVMFuzzerInitialize(int *count, char ***names) {
  (void)count, (void)names;
  setenv("RAYSUM_THREADS", "2", 1);
  host = malloc(4 * MOST_ELEMENTS);
  return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static void (*const calls[])(void) = {allocate,        allocate,       adopt,        free_array, create_plan,  create_plan,
                                        free_plan,       project,        project,      project,    elementwise,  elementwise,
                                        elementwise,     copy_strided,   transfer,     transfer,   end_download, queue,
                                        tensor_elements, tensor_reorder, tensor_image, record};
  static const char *const targets[] = {"avx512", "avx2", "plain"};
  bytes = data;
  bytes_end = data + size;
  setenv("RAYSUM_SIMD", targets[below(3)], 1);
  while (bytes < bytes_end) calls[below(sizeof calls / sizeof *calls)]();
  free_everything();
  return 0;
}
