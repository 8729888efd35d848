// host.c: how many threads and how much memory this process may use, on Linux.
#define _GNU_SOURCE
#include "host.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static atomic_int_least64_t reserved;

int rs_host_threads(void) {
  const char *wanted = getenv("RAYSUM_THREADS");
  int count = wanted ? atoi(wanted) : 0;
  if (count > 0) return count;
  cpu_set_t mask;
  count = sched_getaffinity(0, sizeof mask, &mask) ? 1 : CPU_COUNT(&mask);
  FILE *file = fopen("/sys/fs/cgroup/cpu.max", "r");
  if (file) {
    long quota = 0, period = 0;
    if (fscanf(file, "%ld %ld", &quota, &period) == 2 && quota > 0 && period > 0) {
      int limit = (int)((quota + period - 1) / period);
      if (limit < count) count = limit;
    }
    fclose(file);
  }
  return count < 1 ? 1 : count;
}

// The number in a file of the kernel, or -1 where there is none ("max" means no limit).
static int64_t read_number(const char *path) {
  long long number = -1;
  FILE *file = fopen(path, "r");
  if (!file) return -1;
  if (fscanf(file, "%lld", &number) != 1) number = -1;
  fclose(file);
  return number;
}

// Memory that the system has granted and that was not touched yet still counts as free there: at least what is reserved beyond all
// that this process holds.
static int64_t untouched(void) {
  long long pages, resident = 0, shared = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (!file) return 0;
  if (fscanf(file, "%lld %lld %lld", &pages, &resident, &shared) != 3) resident = shared = 0;
  fclose(file);
  int64_t bytes = atomic_load(&reserved) - (resident - shared) * sysconf(_SC_PAGESIZE);
  return bytes > 0 ? bytes : 0;
}

void rs_host_memory(int32_t device, int64_t *free_bytes, int64_t *total_bytes) {
  (void)device;
  FILE *file = fopen("/proc/meminfo", "r");
  *free_bytes = *total_bytes = INT64_MAX;
  if (!file) return;
  char line[128];
  while (fgets(line, sizeof line, file)) {
    long long kib;
    if (sscanf(line, "MemTotal: %lld", &kib) == 1) *total_bytes = kib * 1024;
    if (sscanf(line, "MemAvailable: %lld", &kib) == 1) *free_bytes = kib * 1024;
  }
  fclose(file);
  // A container may be allowed less than the machine has.
  int64_t limit = read_number("/sys/fs/cgroup/memory.max"), used = read_number("/sys/fs/cgroup/memory.current");
  if (limit > 0 && used >= 0) {
    if (limit < *total_bytes) *total_bytes = limit;
    if (limit - used < *free_bytes) *free_bytes = limit > used ? limit - used : 0;
  }
  int64_t promised = untouched();
  *free_bytes = *free_bytes > promised ? *free_bytes - promised : 0;
}

// Linux hands out more than it has and kills the process later, so ask what is there first.
void *rs_host_reserve(int32_t device, int64_t bytes) {
  int64_t available, total;
  rs_host_memory(device, &available, &total);
  if (bytes > available) return NULL;
  void *memory = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return NULL;
#ifdef MADV_HUGEPAGE
  madvise(memory, (size_t)bytes, MADV_HUGEPAGE);
#endif
  atomic_fetch_add(&reserved, bytes);
  return memory;
}

void rs_host_release(int32_t device, void *memory, int64_t bytes) {
  (void)device;
  munmap(memory, (size_t)bytes);
  atomic_fetch_sub(&reserved, bytes);
}
