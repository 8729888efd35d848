import process from "node:process";

/** How many times as long as usual things may take: RAYSUM_PATIENCE, for builds with sanitizers and for emulated devices. */
export const patience: number = Number(process.env["RAYSUM_PATIENCE"] ?? 1);
