import { existsSync, readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { type Device, DeviceArray, hollowBox } from "raysum";
import { readNpy, readSafetensors, writeSafetensors } from "raysum/io";
import { learnedPrimalDual, type Network, resumeTraining, saveTraining } from "raysum/nets";
import { figure, imagePanel, linePanel, type Panel } from "raysum/plot";
import { adam, arrayOf, type CapturedStep, type ConvPrecision, capture, tensorOf } from "raysum/tfjs";
import { sliceOperator, tf, useDevice } from "./tensorflow.ts";
import { progressBar } from "./terminal.ts";

export interface TrainingOptions {
  readonly N: number;
  readonly epochs: number;
  /** Slices a step. */
  readonly batch: number;
  readonly rate: number;
  /** Of the network. */
  readonly iterations: number;
  readonly noise: number;
  readonly seed: number;
  /** Whether the device repeats a step by itself. */
  readonly captured: boolean;
  readonly convPrecision: ConvPrecision;
  readonly recompute: boolean;
  readonly device: Device;
  readonly law: "exact" | "astra";
  /** A file to go on from, and to write after every epoch. */
  readonly checkpoint?: string;
  /** A folder with a training run of PyTorch, which then says N, epochs and so on. */
  readonly reference?: string;
  readonly out: string;
  readonly quiet: boolean;
}

interface Manifest {
  readonly N: number;
  readonly epochs: number;
  readonly batch: number;
  readonly unrolledIterations: number;
  readonly losses: readonly number[];
}

/** Some slices: what is measured of them, and what they are. */
interface Batch {
  readonly sinograms: tf.Tensor4D;
  readonly images: tf.Tensor4D;
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

/** The mean of each epoch. */
function byEpoch(losses: readonly number[], epochs: number): number[] {
  const steps = losses.length / epochs;
  return Array.from({ length: epochs }, (_, k) => mean(losses.slice(k * steps, (k + 1) * steps)));
}

/** The slices of the hollow box and their noisy sinograms, in batches, on the device. */
async function batches(options: TrainingOptions, size: number): Promise<Batch[]> {
  const { N, noise, seed, device, law, reference } = options;
  using A = sliceOperator(N, N, { device, law });
  using phantom = hollowBox(A);
  using y = A(phantom);
  if (reference !== undefined) y.writeSync((await readNpy(join(reference, "sinogram_noisy.npy"))).data as Float32Array);
  else {
    using random = DeviceArray.normal(A.rangeShape, { device, seed, deviation: noise * (await y.max()) });
    y.addAssign(random);
  }
  const some = (array: DeviceArray, start: number, stop: number) => {
    const part = array.part(start, stop);
    return tensorOf(part.reshape([...part.shape, 1])) as tf.Tensor4D;
  };
  return Array.from({ length: Math.ceil(N / size) }, (_, k) => {
    const [start, stop] = [k * size, Math.min((k + 1) * size, N)];
    return { sinograms: some(y, start, stop), images: some(phantom, start, stop) };
  });
}

/** Makes steps, one after the other: a function from a batch to its loss, and what ends them. */
function stepper(minimize: (batch: Batch) => tf.Scalar, captured: boolean) {
  let step: CapturedStep<tf.Scalar> | undefined;
  let inputs: { sinograms: tf.Tensor4D; images: tf.Tensor4D } | undefined;
  const captureFirst = ({ sinograms, images }: Batch): tf.Scalar => {
    const copy = (tensor: tf.Tensor4D) => tensorOf(arrayOf(tensor)) as tf.Tensor4D;
    const own = { sinograms: copy(sinograms), images: copy(images) };
    inputs = own;
    step = capture(() => minimize(own), { inputs: own }); // a step as well
    return step.outputs;
  };
  return {
    /** The loss arrives while the device works on the next step. */
    next(batch: Batch): Promise<ArrayLike<number>> {
      const loss = !captured ? minimize(batch) : step ? step.run({ ...batch }) : captureFirst(batch);
      const value = loss.data();
      if (!captured) loss.dispose();
      return value;
    },
    end(): void {
      step?.dispose();
      if (inputs) tf.dispose([inputs.sinograms, inputs.images]);
    },
  };
}

interface Run {
  readonly losses: readonly number[];
  /** Of the steps that were taken now, and not before the checkpoint. */
  readonly stepMilliseconds: number;
}

/** Where a run was. */
interface Position {
  readonly epoch: number;
  readonly losses: number[];
}

/** One step for every batch of every epoch; the loss of each step. */
async function run(network: Network, data: readonly Batch[], options: TrainingOptions): Promise<Run> {
  const { epochs, rate, captured, quiet, checkpoint } = options;
  const optimizer = adam(rate);
  const training = { network, optimizer };
  const resumed = checkpoint !== undefined && existsSync(checkpoint);
  const { epoch: first, losses } = resumed
    ? ((await resumeTraining(checkpoint, training)) as Position)
    : { epoch: 0, losses: [] };
  const [before, total] = [losses.length, epochs * data.length];
  const bar = progressBar("training", { quiet });
  const start = performance.now();
  const take = async (loss: PromiseLike<ArrayLike<number>>) => {
    losses.push((await loss)[0]!);
    const seconds = (performance.now() - start) / 1000 / (losses.length - before);
    const recent = mean(losses.slice(-data.length));
    bar(losses.length, total, seconds * (total - losses.length), `loss ${recent.toPrecision(3)}`);
  };
  const steps = stepper(({ sinograms, images }) => {
    const error = () => tf.mean(tf.squaredDifference(network(sinograms), images)) as tf.Scalar;
    return optimizer.minimize(error, true, [...network.variables.values()])!;
  }, captured);
  for (let epoch = first; epoch < epochs; epoch++) {
    let queued: Promise<ArrayLike<number>> | undefined;
    for (const batch of data) {
      const last = queued;
      queued = steps.next(batch);
      if (last) await take(last);
    }
    if (queued) await take(queued);
    if (checkpoint !== undefined) await saveTraining(checkpoint, training, { epoch: epoch + 1, losses });
  }
  const stepMilliseconds = (performance.now() - start) / (losses.length - before);
  steps.end();
  optimizer.dispose();
  return { losses, stepMilliseconds };
}

/** Sinogram, output and target of three slices, a row each. */
async function pictures(network: Network, data: readonly Batch[], { N, batch }: TrainingOptions): Promise<Panel[]> {
  const panels: Panel[] = [];
  for (const z of [0, N / 4, N / 2]) {
    const { sinograms, images } = data[Math.floor(z / batch)]!;
    const one = (tensor: tf.Tensor4D) => tf.slice(tensor, [z % batch, 0, 0, 0], [1, -1, -1, 1]);
    const [input, target] = [one(sinograms), one(images)];
    const output = network(input);
    const picture = async (tensor: tf.Tensor4D) => ({
      data: await tensor.data(),
      shape: tensor.shape.slice(1, 3) as [number, number],
    });
    const space = {
      xLabel: "x (volume widths)",
      yLabel: "y (volume widths)",
      xRange: [-0.5, 0.5],
      yRange: [-0.5, 0.5],
      valueRange: [0, 1],
      colorLabel: "attenuation",
      origin: "lower",
    } as const;
    panels.push(
      imagePanel({
        ...(await picture(input)),
        title: `Slice ${z}: input`,
        xLabel: "u (volume widths)",
        yLabel: "angle (degrees)",
        xRange: [-0.75, 0.75],
        yRange: [0, 180],
        valueRange: [0, 0.9],
        colorLabel: "line integral",
        aspect: "fill",
      }),
      imagePanel({ ...(await picture(output)), ...space, title: "Output" }),
      imagePanel({ ...(await picture(target)), ...space, title: "Target" }),
    );
    tf.dispose([input, target, output]);
  }
  return panels;
}

export interface Trained {
  readonly description: string;
  readonly device: string;
  readonly law: string;
  readonly N: number;
  readonly epochs: number;
  readonly batch: number;
  readonly steps: number;
  readonly seconds: number;
  readonly stepMilliseconds: number;
  readonly peakBytes: number;
  /** Mean squared errors: the mean over an epoch, PyTorch's, and over all slices in the end. */
  readonly firstEpochLoss: number;
  readonly lastEpochLoss: number;
  readonly referenceLoss?: number;
  readonly wholeError: number;
  readonly files: readonly string[];
}

/** Trains a learned primal-dual network on the noisy slices of a hollow box; writes figures and its weights. */
export async function train(given: TrainingOptions): Promise<Trained> {
  const folder = given.reference;
  const manifest: Manifest | undefined = folder && JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8"));
  const options: TrainingOptions = manifest
    ? { ...given, ...manifest, iterations: manifest.unrolledIterations, rate: 1e-4, law: "astra" }
    : given;
  const { N, epochs, batch, iterations, seed, recompute, device, law, out } = options;
  if (given.captured && N % batch !== 0)
    throw new Error(`--batch_size ${batch}: expected a divisor of ${N}, as all captured steps are of one size`);
  await useDevice(device, options.convPrecision);
  using A = sliceOperator(N, 1, { device, law });
  const network = learnedPrimalDual(A, { iterations, recompute, seed });
  if (folder !== undefined) network.load(await readSafetensors(join(folder, "weights0.safetensors")));
  const data = await batches(options, batch);
  const begin = performance.now();
  const { losses, stepMilliseconds } = await run(network, data, options);
  const seconds = (performance.now() - begin) / 1000;
  const peakBytes = device.memory().peak;

  let squares = 0;
  for (const { sinograms, images } of data) {
    const sum = tf.tidy(() => tf.sum(tf.squaredDifference(network(sinograms), images)));
    squares += (await sum.data())[0]!;
    sum.dispose();
  }

  await mkdir(out, { recursive: true });
  const path = (name: string) => join(out, name);
  const curve = (name: string, values: readonly number[]) => ({
    name,
    x: values.map((_, k) => k + 1),
    y: values,
  });
  const ours = byEpoch(losses, epochs);
  const theirs = manifest && byEpoch(manifest.losses, epochs);
  const loss = linePanel({
    title: `Learned primal-dual, N = ${N}`,
    xLabel: "epoch",
    yLabel: "mean squared error",
    yScale: "log",
    series: [curve("Raysum", ours), ...(theirs ? [curve("PyTorch, tomosipo and ASTRA", theirs)] : [])],
  });
  const slices = await figure(await pictures(network, data, options), {
    columns: 3,
    title: `Learned primal-dual after ${epochs} epochs`,
  });
  await slices.save(path("slices.png"));
  await (await figure([loss])).save(path("loss.png"));
  await writeSafetensors(path("weights.safetensors"), await network.save());
  network.dispose();
  for (const tensors of data) tf.dispose([tensors.sinograms, tensors.images]);
  return {
    device: device.name,
    description: `${device.description}; ${A.description}`,
    law,
    N,
    epochs,
    batch,
    steps: losses.length,
    seconds,
    stepMilliseconds,
    peakBytes,
    firstEpochLoss: ours[0]!,
    lastEpochLoss: ours.at(-1)!,
    ...(theirs && { referenceLoss: theirs.at(-1)! }),
    wholeError: squares / N ** 3,
    files: ["slices.png", "loss.png", "weights.safetensors"].map(path),
  };
}
