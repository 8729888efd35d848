// The case of tomosipo's benchmark: a hollow box, 3N/2 views, a detector half again as wide as the volume, 5 % noise.
import { join } from "node:path";
import {
  type Device,
  DeviceArray,
  hollowBox,
  type Law,
  type Operator,
  operator,
  parallelBeam,
  reciprocal,
  scope,
  volume,
} from "raysum";
import { figure, imagePanel, linePanel } from "raysum/plot";
import { type RunOptions, runSirt, savePanels } from "./run.ts";
import { projection, slice, usualRange } from "./slices.ts";
import { progressBar } from "./terminal.ts";

export interface SimulatedOptions extends RunOptions {
  readonly device: Device;
  readonly law: Law;
  readonly size: number;
  readonly noise: number;
  readonly seed: number;
  readonly out: string;
}

interface Timed {
  readonly x: DeviceArray;
  readonly millisecondsPerIteration: number;
}

/** SIRT as it is written on paper, one line an iteration. */
async function oneLine(A: Operator, y: DeviceArray, options: SimulatedOptions): Promise<Timed> {
  const { iterations, min, max, relaxation, quiet } = options;
  const bar = progressBar("one-line SIRT", { quiet });
  const unseen = A.law === "exact" ? {} : { absolute: 1e-6, relative: 0 };
  using R = scope(() => reciprocal(A.rowSums(), unseen));
  using C = scope(() => reciprocal(A.columnSums(), unseen).mulAssign(relaxation));
  const x = DeviceArray.zeros(A.domainShape, { device: A.device });
  await A.device.finished();
  const start = performance.now();
  let before = A.device.record();
  for (let done = 1; done <= iterations; done++) {
    scope(() => x.addAssign(C.mul(A.T(R.mul(y.sub(A(x)))))));
    if (min !== undefined || max !== undefined) scope(() => x.assign(x.clamp(min ?? -Infinity, max ?? Infinity)));
    // Two iterations are in flight, as in the fused form: the device does not wait for us.
    const queued = A.device.record();
    await A.device.finished(done < iterations ? before : queued);
    before = queued;
    const seconds = (performance.now() - start) / 1000;
    bar(done, iterations, (seconds / done) * (iterations - done));
  }
  return { x, millisecondsPerIteration: (performance.now() - start) / iterations };
}

/** Reconstructs the simulated scan both ways, writes the figures and returns what was measured. */
export async function simulated(options: SimulatedOptions): Promise<Record<string, unknown>> {
  const { size, iterations, noise, seed, device, law, out } = options;
  const views = (3 * size) / 2;
  using A = operator(
    volume({ shape: [size, size, size], size: 1 }),
    parallelBeam({ angleCount: views, detectorShape: [size, views], detectorSize: [1, 1.5] }),
    { device, law },
  );
  using phantom = hollowBox(A);
  using clean = A(phantom);
  const deviation = noise * (await clean.max());
  using y = clean.clone();
  {
    using random = DeviceArray.normal(A.rangeShape, { device, seed, deviation });
    y.addAssign(random);
  }
  const slow = await oneLine(A, y, options);
  const fast = await runSirt(A, y, "fused SIRT   ", options);
  using _slow = slow.x;
  using x = fast.x;
  using difference = x.sub(phantom);
  const phantomNorm = await phantom.norm();
  const result = {
    device: device.name,
    description: `${device.description}; ${A.description}`,
    law: A.law,
    size,
    views,
    iterations,
    noise,
    relativeError: (await difference.norm()) / phantomNorm,
    meanAbsoluteError: await x.meanAbsoluteDifference(phantom),
    oneLineAgainstFused: (await x.distance(slow.x)) / (await x.norm()),
    oneLineMilliseconds: slow.millisecondsPerIteration,
    fusedMilliseconds: fast.millisecondsPerIteration,
    residual: fast.residuals.at(-1) ?? Number.NaN,
  };

  const middle = size >> 1;
  const space = {
    xLabel: "x (volume widths)",
    yLabel: "y (volume widths)",
    xRange: [-0.5, 0.5],
    yRange: [-0.5, 0.5],
  } as const;
  const axes = { xLabel: "u (volume widths)", xRange: [-0.75, 0.75] } as const;
  const sinogram = {
    ...axes,
    yLabel: "angle (degrees)",
    yRange: [0, 180],
    colorLabel: "line integral",
    aspect: "fill",
  } as const;
  const cleanMiddle = await slice(clean, middle);
  const noisyMiddle = await slice(y, middle);
  const reconstructed = await slice(x, middle);
  const wrong = await slice(difference, middle);
  const largest = Math.max(...usualRange(wrong.data).map(Math.abs));
  const panels = {
    phantom: imagePanel({
      ...(await slice(phantom, middle)),
      ...space,
      title: "Phantom, middle slice",
      colorLabel: "attenuation",
      origin: "lower",
    }),
    projection: imagePanel({
      ...(await projection(y, views >> 3)),
      ...axes,
      yLabel: "v (volume widths)",
      yRange: [-0.5, 0.5],
      title: "Projection at 22.5 degrees, noisy",
      colorLabel: "line integral",
      origin: "lower",
    }),
    sinogram: imagePanel({ ...cleanMiddle, ...sinogram, title: "Sinogram, middle row" }),
    sinogram_noisy: imagePanel({ ...noisyMiddle, ...sinogram, title: `Sinogram with ${noise * 100} % noise` }),
    reconstruction: imagePanel({
      ...reconstructed,
      ...space,
      valueRange: usualRange(reconstructed.data),
      title: `SIRT, ${iterations} iterations`,
      colorLabel: "attenuation",
      origin: "lower",
    }),
    difference: imagePanel({
      ...wrong,
      ...space,
      valueRange: [-largest, largest],
      title: "Reconstruction − phantom",
      colorLabel: "attenuation",
      colormap: "diverging",
      origin: "lower",
    }),
    residual: linePanel({
      title: "Convergence",
      xLabel: "iteration",
      yLabel: "residual ‖y − Ax‖",
      yScale: "log",
      series: [{ name: "SIRT", x: fast.residuals.map((_, i) => i + 1), y: fast.residuals }],
    }),
  };
  const figures = await savePanels(panels, out);
  const overview = join(out, "overview.png");
  const { phantom: original, sinogram_noisy, reconstruction, difference: error, residual, projection: view } = panels;
  await (await figure([original, sinogram_noisy, view, reconstruction, error, residual])).save(overview);
  return { ...result, figures: [...figures, overview] };
}
