import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { type DeviceArray, type Operator, sirt } from "raysum";
import { figure, type Panel } from "raysum/plot";
import { progressBar } from "./terminal.ts";

export interface RunOptions {
  readonly iterations: number;
  readonly relaxation: number;
  readonly min?: number;
  readonly max?: number;
  readonly quiet: boolean;
}

export interface Run {
  readonly x: DeviceArray;
  /** Norm of y - A x before each iteration. */
  readonly residuals: number[];
  readonly millisecondsPerIteration: number;
}

/** The fused SIRT with a progress bar. */
export async function runSirt(A: Operator, y: DeviceArray, label: string, options: RunOptions): Promise<Run> {
  const { iterations, relaxation, min, max, quiet } = options;
  const bar = progressBar(label, { quiet });
  const residuals: number[] = [];
  let seconds = 0;
  const x = await sirt(A, y, {
    iterations,
    relaxation,
    ...(min !== undefined && { min }),
    ...(max !== undefined && { max }),
    onProgress: ({ iteration, residual, elapsed, remaining }) => {
      residuals.push(residual);
      seconds = elapsed;
      bar(iteration, iterations, remaining, `residual ${residual.toPrecision(4)}`);
    },
  });
  return { x, residuals, millisecondsPerIteration: (1000 * seconds) / iterations };
}

/** Saves each panel as a picture of its own, named after it; returns the paths. */
export async function savePanels(panels: Record<string, Panel>, folder: string): Promise<string[]> {
  await mkdir(folder, { recursive: true });
  const paths: string[] = [];
  for (const [name, panel] of Object.entries(panels)) {
    const path = join(folder, `${name}.png`);
    await (await figure([panel])).save(path);
    paths.push(path);
  }
  return paths;
}
