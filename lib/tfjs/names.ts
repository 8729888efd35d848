import type { Device } from "../device.ts";

/** The name of a device's backend: `raysum-cpu`, `raysum-cuda:0`. */
export function backendName(device: Device): string {
  return `raysum-${device.name}`;
}
