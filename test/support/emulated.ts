import { device } from "../../lib/index.ts";

/** Whether the default device is a GPU that the CPU plays (make test-emulated): some hundred times slower than a CPU. */
export const emulated: boolean = device().description.startsWith("emulated");
