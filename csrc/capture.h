// capture.h: recording what is called on a device, to do it again and again.
//
// While a capture records, rs_device_push hands calls to it instead of the device. On the CPU a capture is the list of those calls with
// their arguments; on a GPU it is a graph of what they launch.
#pragma once
#include "queue.h"

#ifdef __cplusplus
extern "C" {
#endif

// The slot (below 64) of the capture that records on the device, or -1.
int rs_capture_recording(int32_t device);

// RS_OK, or an error where a capture records on the device: `what` cannot be repeated.
int32_t rs_capture_refuse(int32_t device, const char *what);

// Appends a call to the capture that records on the CPU.
int32_t rs_capture_append(const char *name, rs_run run, const void *arguments, size_t bytes);

#ifdef __cplusplus
}
#endif
