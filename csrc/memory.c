// memory.c: one table of blocks, sorted by address, for all devices.
#include "memory.h"

#include "capture.h"
#include "cuda_calls.h"
#include "device.h"
#include "status.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define ADDRESS_BITS 48
#define ADDRESS_MASK ((INT64_C(1) << ADDRESS_BITS) - 1)
#define GENERATIONS 32767 // what fits above the address in a positive int64_t; 0 is never used, so 0 is never a pointer
#define ALIGNMENT 256
#ifndef RS_RED_ZONE
#define RS_RED_ZONE 0 // bytes behind every array that address sanitizer watches, on the CPU too
#endif
#if defined(__SANITIZE_ADDRESS__) || RS_RED_ZONE > 0
#include <sanitizer/asan_interface.h>
#define RS_SANITIZED 1
#else
#define RS_SANITIZED 0
#endif
#if defined(__SANITIZE_ADDRESS__) // a segment an array, with what the sanitizer puts around it
#define SEGMENT_BYTES ALIGNMENT
#define SEGMENT_ALIGNMENT ALIGNMENT
#else
#define SEGMENT_BYTES (INT64_C(64) << 20)
#define SEGMENT_ALIGNMENT (INT64_C(2) << 20)
#endif

typedef enum { FREE, LIVE, ADOPTED, KEPT } block_state; // KEPT: freed, and a capture still reads or writes it

typedef struct {
  int64_t address, bytes; // bytes: what the block spans
  int64_t requested;      // what its owner asked for
  int64_t segment;        // address of its segment; neighbours of one segment are merged when free
  int32_t device, generation;
  int32_t owner;     // the slot + 1 of the capture that allocated it, which alone may get it again; 0: the pool
  uint64_t captures; // a bit for every other capture that touches it
  block_state state;
} block;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static block *blocks;
static int64_t block_count, block_capacity;
static int32_t last_generation;
static rs_memory_source sources[RS_MAX_DEVICES];
static int64_t counters[RS_MAX_DEVICES][8];

void rs_memory_register(int32_t device, const rs_memory_source *source) { sources[device] = *source; }

// Index of the first block whose address is above `address`.
static int64_t above(int64_t address) {
  int64_t low = 0, high = block_count;
  while (low < high) {
    int64_t middle = (low + high) / 2;
    if (blocks[middle].address <= address)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

static int insert(int64_t index, block entry) {
  if (block_count == block_capacity) {
    int64_t capacity = block_capacity ? 2 * block_capacity : 256;
    block *grown = realloc(blocks, (size_t)capacity * sizeof *grown);
    if (!grown) return 0;
    blocks = grown;
    block_capacity = capacity;
  }
  memmove(blocks + index + 1, blocks + index, (size_t)(block_count - index) * sizeof *blocks);
  blocks[index] = entry;
  block_count++;
  return 1;
}

static void erase(int64_t index) {
  block_count--;
  memmove(blocks + index, blocks + index + 1, (size_t)(block_count - index) * sizeof *blocks);
}

static int64_t round_up(int64_t bytes, int64_t to) { return (bytes + to - 1) / to * to; }

// Address sanitizer: nothing but arrays may be touched, and new ones are NaN. An emulated GPU then runs every call at once; the CPU
// still has work queued, which keeps what was freed behind it.
static void mark(const block *b) {
#if RS_SANITIZED
  if (b->state != LIVE && (b->owner || b->captures)) return; // a capture goes on using it
  void *memory = (void *)(intptr_t)b->address;
  if (b->state == ADOPTED || (b->device == RS_CPU && !RS_RED_ZONE)) return;
  if (b->device == RS_CPU) sources[RS_CPU].wait_idle(RS_CPU);
  ASAN_POISON_MEMORY_REGION(memory, (size_t)b->bytes);
  if (b->state != LIVE) return;
  // At other times of a captured run other arrays lie here, which may be longer.
  ASAN_UNPOISON_MEMORY_REGION(memory, (size_t)(b->owner ? b->bytes : b->requested));
  memset(memory, 0xff, (size_t)b->requested);
#else
  (void)b;
#endif
}

// The owner that an allocation on a device has now.
static int32_t owner_on(int32_t device) { return rs_capture_recording(device) + 1; }

// The smallest free block that is large enough: an array that stays then does not take a piece of one that larger ones need.
static int64_t find_free(int32_t device, int64_t bytes) {
  int32_t owner = owner_on(device);
  int64_t best = -1;
  for (int64_t i = 0; i < block_count; i++) {
    const block *b = &blocks[i];
    if (b->state != FREE || b->device != device || b->bytes < bytes || (b->owner && b->owner != owner)) continue;
    if (best < 0 || b->bytes < blocks[best].bytes) best = i;
  }
  return best;
}

static int grow(int32_t device, int64_t bytes) {
  // A whole segment first; when the system has no room for that, just what is needed.
  int64_t wanted = round_up(bytes, SEGMENT_ALIGNMENT);
  int64_t sizes[2] = {wanted < SEGMENT_BYTES ? SEGMENT_BYTES : wanted, wanted};
  for (int i = 0; i < 2; i++) {
    void *memory = sources[device].reserve(device, sizes[i]);
    if (!memory) continue;
    int64_t address = (int64_t)(intptr_t)memory;
    block entry = {.address = address, .bytes = sizes[i], .segment = address, .device = device, .state = FREE};
    if (!insert(above(address), entry)) {
      sources[device].release(device, memory, sizes[i]);
      return 0;
    }
    counters[device][RS_BYTES_CACHED] += sizes[i];
    return 1;
  }
  return 0;
}

// With the lock held: returns every segment without a live block to the system, once queued work that may use it has passed.
static void trim(int32_t device) {
  if (owner_on(device)) return; // nothing can be waited for
  sources[device].wait_idle(device);
  for (int64_t i = block_count - 1; i >= 0; i--) {
    block *b = &blocks[i];
    int whole = b->device == device && b->state == FREE && !b->owner && b->address == b->segment &&
                (i + 1 == block_count || blocks[i + 1].segment != b->segment);
    if (!whole) continue;
#if RS_SANITIZED
    ASAN_UNPOISON_MEMORY_REGION((void *)(intptr_t)b->address, (size_t)b->bytes);
#endif
    sources[device].release(device, (void *)(intptr_t)b->address, b->bytes);
    counters[device][RS_BYTES_CACHED] -= b->bytes;
    erase(i);
  }
}

static int64_t hand_out(int64_t index, int64_t requested, block_state state) {
  block *b = &blocks[index];
  last_generation = last_generation % GENERATIONS + 1;
  b->generation = last_generation;
  b->requested = requested;
  b->state = state;
  int32_t owner = b->owner;
  b->owner = state == LIVE ? owner_on(b->device) : 0;
  mark(b);
  int64_t *counter = counters[b->device];
  counter[RS_ARRAYS_ALIVE]++;
  if (state == LIVE && !owner) { // what a capture owns is in use all the time
    counter[RS_BYTES_CACHED] -= b->bytes;
    counter[RS_BYTES_IN_USE] += b->bytes;
    if (counter[RS_BYTES_IN_USE] > counter[RS_BYTES_PEAK]) counter[RS_BYTES_PEAK] = counter[RS_BYTES_IN_USE];
  }
  return (int64_t)b->generation << ADDRESS_BITS | b->address;
}

static int32_t out_of_memory(int32_t device, int64_t bytes) {
  int64_t available = 0, total = 0;
  sources[device].available(device, &available, &total);
  const double mib = 1.0 / (1 << 20);
  return rs_fail(RS_EMEMORY, "%s: out of memory: %.1f MiB asked, %.1f MiB in use, %.1f MiB cached, %.1f MiB of %.1f MiB free",
                 sources[device].name, (double)bytes * mib, (double)counters[device][RS_BYTES_IN_USE] * mib,
                 (double)counters[device][RS_BYTES_CACHED] * mib, (double)available * mib, (double)total * mib);
}

int32_t rs_pool_allocate(int32_t device, int64_t bytes, int64_t *pointer) {
  if (bytes <= 0 || bytes > ADDRESS_MASK) return rs_fail(RS_EARGUMENT, "%lld bytes: expected 1 to 2^48 - 1", (long long)bytes);
  int64_t span = round_up(bytes + RS_RED_ZONE, ALIGNMENT);
  pthread_mutex_lock(&lock);
  int64_t index = find_free(device, span);
  if (index < 0 && grow(device, span)) index = find_free(device, span);
  if (index < 0) {
    trim(device);
    if (grow(device, span)) index = find_free(device, span);
  }
  if (index < 0) {
    int32_t status = out_of_memory(device, bytes);
    pthread_mutex_unlock(&lock);
    return device != RS_CPU && rs_cuda_alive(device) ? RS_EDEVICE : status; // a lost device has no memory either
  }
  if (blocks[index].bytes > span) {
    block rest = blocks[index];
    rest.address += span;
    rest.bytes -= span;
    if (insert(index + 1, rest)) blocks[index].bytes = span; // without host memory for the entry the block stays whole
  }
  *pointer = hand_out(index, bytes, LIVE);
  pthread_mutex_unlock(&lock);
  return RS_OK;
}

int32_t rs_pool_trim(int32_t device) {
  pthread_mutex_lock(&lock);
  trim(device);
  pthread_mutex_unlock(&lock);
  return RS_OK;
}

// With the lock held: the live block that a pointer points into, or an error.
static int32_t find_live(int64_t pointer, const char *what, int64_t *index) {
  int64_t address = pointer & ADDRESS_MASK, generation = pointer >> ADDRESS_BITS;
  int64_t i = above(address) - 1;
  if (generation <= 0 || i < 0 || address >= blocks[i].address + blocks[i].bytes)
    return rs_fail(RS_EPOINTER, "%s 0x%llx is not a device pointer of this library", what, (unsigned long long)pointer);
  if (blocks[i].state == FREE || blocks[i].state == KEPT || blocks[i].generation != generation)
    return rs_fail(RS_EPOINTER, "%s 0x%llx is stale: its memory was freed", what, (unsigned long long)pointer);
  *index = i;
  return RS_OK;
}

int32_t rs_resolve(int64_t pointer, int64_t bytes, const char *what, int32_t *device, void **address) {
  int64_t i = 0;
  pthread_mutex_lock(&lock);
  int32_t status = find_live(pointer, what, &i);
  if (!status) {
    const block *b = &blocks[i];
    int64_t left = b->address + b->requested - (pointer & ADDRESS_MASK);
    if (*device < 0) *device = b->device;
    if (b->device != *device)
      status = rs_fail(RS_EDEVICE, "%s is on device %d and the others are on device %d", what, b->device, *device);
    else if (bytes < 0 || bytes > left)
      status = rs_fail(RS_EPOINTER, "%s 0x%llx: %lld bytes are needed and %lld are left in its allocation", what,
                       (unsigned long long)pointer, (long long)bytes, (long long)(left > 0 ? left : 0));
    *address = (void *)(intptr_t)(pointer & ADDRESS_MASK);
    int slot = rs_capture_recording(b->device);
    if (!status && slot >= 0 && b->owner != slot + 1) blocks[i].captures |= UINT64_C(1) << slot;
  }
  pthread_mutex_unlock(&lock);
  return status;
}

// With the lock held: joins a free block with its free neighbours.
static void merge(int64_t i) {
  block *b = &blocks[i], *next = b + 1, *previous = b - 1;
  if (i + 1 < block_count && next->state == FREE && next->segment == b->segment && next->owner == b->owner) {
    b->bytes += next->bytes;
    erase(i + 1);
  }
  if (i > 0 && previous->state == FREE && previous->segment == b->segment && previous->owner == b->owner) {
    previous->bytes += b->bytes;
    erase(i);
  }
}

// With the lock held: a block that nobody has goes back to the pool, or to the capture that owns it.
static void give_back(int64_t i) {
  block *b = &blocks[i];
  if (!b->owner) {
    counters[b->device][RS_BYTES_IN_USE] -= b->bytes;
    counters[b->device][RS_BYTES_CACHED] += b->bytes;
  }
  b->state = FREE;
  mark(b);
  merge(i);
}

int32_t rs_free(int64_t pointer) {
  int64_t i = 0;
  pthread_mutex_lock(&lock);
  int32_t status = find_live(pointer, "pointer", &i);
  if (!status && blocks[i].address != (pointer & ADDRESS_MASK))
    status = rs_fail(RS_EPOINTER, "pointer 0x%llx points inside an allocation: expected its start", (unsigned long long)pointer);
  if (!status && blocks[i].state == ADOPTED && blocks[i].captures)
    status =
        rs_fail(RS_EARGUMENT, "pointer 0x%llx is foreign memory that a capture uses: free the capture first", (unsigned long long)pointer);
  if (!status) {
    counters[blocks[i].device][RS_ARRAYS_ALIVE]--;
    if (blocks[i].state == ADOPTED)
      erase(i);
    else if (blocks[i].captures)
      blocks[i].state = KEPT;
    else
      give_back(i);
  }
  pthread_mutex_unlock(&lock);
  return status;
}

int32_t rs_adopt(int32_t device, int64_t address, int64_t bytes, int64_t *pointer) {
  if (rs_device_check(device)) return RS_EDEVICE;
  if (address <= 0 || address > ADDRESS_MASK || address % 4 || bytes <= 0 || bytes > ADDRESS_MASK - address)
    return rs_fail(RS_EARGUMENT, "address 0x%llx with %lld bytes: expected a multiple of 4 below 2^48 and a positive size",
                   (unsigned long long)address, (long long)bytes);
  if (device != RS_CPU && rs_cuda_owns(device, (const void *)(intptr_t)address)) return RS_EARGUMENT;
  pthread_mutex_lock(&lock);
  int64_t i = above(address);
  int taken = (i > 0 && blocks[i - 1].address + blocks[i - 1].bytes > address) || (i < block_count && blocks[i].address < address + bytes);
  block entry = {.address = address, .bytes = bytes, .segment = address, .device = device, .state = ADOPTED};
  int32_t status = RS_OK;
  if (taken)
    status = rs_fail(RS_EARGUMENT, "address 0x%llx with %lld bytes overlaps memory that is registered already", (unsigned long long)address,
                     (long long)bytes);
  else if (!insert(i, entry))
    status = rs_fail(RS_EMEMORY, "no host memory for the table of allocations");
  else
    *pointer = hand_out(i, bytes, ADOPTED);
  pthread_mutex_unlock(&lock);
  return status;
}

void rs_memory_forget(int32_t slot) {
  pthread_mutex_lock(&lock);
  for (int64_t i = block_count - 1; i >= 0; i--) { // backwards: what goes back may join with blocks behind it
    block *b = &blocks[i];
    int owned = b->owner == slot + 1;
    b->captures &= ~(UINT64_C(1) << slot);
    if (owned) b->owner = 0;
    if ((b->state == KEPT && !b->captures) || (b->state == FREE && owned)) give_back(i);
  }
  pthread_mutex_unlock(&lock);
}

void rs_memory_count(int32_t device, int32_t counter, int64_t change) {
  pthread_mutex_lock(&lock);
  counters[device][counter] += change;
  pthread_mutex_unlock(&lock);
}

int32_t rs_memory(int32_t device, int64_t *out) {
  if (rs_device_check(device)) return RS_EDEVICE;
  pthread_mutex_lock(&lock);
  memcpy(out, counters[device], sizeof counters[device]);
  pthread_mutex_unlock(&lock);
  sources[device].available(device, &out[RS_BYTES_FREE], &out[RS_BYTES_TOTAL]);
  return RS_OK;
}
