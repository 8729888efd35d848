/** What a user can do wrong: every row is refused in a sentence, leaves nothing on the device, and the next call works. */
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import {
  concatenate,
  coneBeam,
  coneBeamVectors,
  DeviceArray,
  device,
  type ErrorCode,
  fanBeam,
  fromAstra,
  geometryFromJson,
  hollowBox,
  operator,
  parallelBeam,
  parallelBeamVectors,
  RaysumError,
  reciprocal,
  rotate,
  scope,
  sirt,
  toAstra,
  volume,
} from "../lib/index.ts";
import { openDataExchange, readDataExchange, readNpy, readTiffStack, writeNpy } from "../lib/io/index.ts";
import { absorption, findRotationCentre, flatFieldCorrect } from "../lib/preprocess/index.ts";

type Row = readonly [what: string, call: () => unknown, code: ErrorCode, sentence: string];

const folder = await mkdtemp(join(tmpdir(), "raysum-bad-input-"));
after(() => rm(folder, { recursive: true }));
const file = (name: string) => join(folder, name);
await writeFile(file("text.npy"), "this is text, not numbers");
await writeFile(file("text.tif"), "this is text, not an image");
await writeFile(file("text.h5"), "this is text, not a scan");
await writeNpy(file("whole.npy"), { shape: [2, 3], data: new Float32Array(6) });

const box = volume({ shape: [4, 6, 8] });
const beam = parallelBeam({ angleCount: 5, detectorShape: [4, 10] });
const A = operator(box, beam);
const [x, y] = [DeviceArray.ones(A.domainShape), DeviceArray.ones(A.rangeShape)];
const [x2, y2] = [DeviceArray.ones([2, ...A.domainShape]), DeviceArray.ones([3, ...A.rangeShape])];
const gone = DeviceArray.ones(A.domainShape);
gone.dispose();
const closed = operator(box, beam);
closed.dispose();
const transferred = new Float32Array(192);
structuredClone(transferred.buffer, { transfer: [transferred.buffer] });
const hole = [4, 6, 8];
delete hole[1];
/** A device of the same library that this machine does not have, as if the array came from there. */
const elsewhere = Object.create(DeviceArray.prototype, {
  device: { value: { name: "cuda:7" } },
  shape: { value: A.domainShape },
}) as DeviceArray;
const rows = { detectorShape: [4, 10], angleCount: 5 } as const;
const fan = { angleCount: 5, detectorCount: 10, sourceOriginDistance: 20, sourceDetectorDistance: 30 } as const;
const vectors = {
  detectorShape: [2, 2],
  detectorCentres: [0, 5, 0],
  detectorV: [1, 0, 0],
  detectorU: [0, 0, 1],
} as const;
const host = (...shape: number[]) => ({ shape, data: new Float32Array(shape.reduce((n, m) => n * m, 1)) });

// biome-ignore format: a row a line
const geometry: readonly Row[] = [
  ["a volume without options", () => volume(undefined as never), "argument", "volume: the options are undefined"],
  ["a misspelled option", () => volume({ shape: [2, 2, 2], voxelsize: 1 } as never), "argument", 'there is no option "voxelsize": expected shape, size, voxelSize, extent, position'],
  ["size and voxelSize", () => volume({ shape: [2, 2, 2], size: 1, voxelSize: 1 } as never), "argument", "give one of the two"],
  ["a shape of bigints", () => volume({ shape: [2n, 2, 2] } as never), "argument", "shape [2n, 2, 2]: expected [z, y, x], 3 finite numbers"],
  ["a shape with a hole", () => volume({ shape: hole } as never), "argument", "shape [4, undefined, 8]"],
  ["more voxels than can be counted", () => volume({ shape: [2 ** 53, 1, 1] }), "argument", "shape [9007199254740992, 1, 1]: every count must be positive"],
  ["more voxels than an axis may have", () => volume({ shape: [2 ** 21, 1, 1] }), "argument", "every count must be at most 1048576"],
  ["a negative size", () => volume({ shape: [4, 4], size: [-1, 1] }), "argument", "size [-1, 1]: expected a positive number, or [y, x]"],
  ["an infinite size", () => volume({ shape: [1, 1, 1], size: Number.POSITIVE_INFINITY }), "argument", "size Infinity"],
  ["a slice with the size of a box", () => volume({ shape: [4, 4], voxelSize: [1, 1, 1] } as never), "argument", "voxelSize [1, 1, 1]: expected a positive number, or [y, x]"],
  [
    "an extent from high to low",
    () =>
      volume({
        shape: [2, 2],
        extent: [
          [1, 0],
          [0, 1],
        ],
      }),
    "argument",
    "expected [[y0, y1], [x0, x1]], each from low to high",
  ],
  ["a crop along no axis", () => box.crop({ Z: { start: 1 } } as never), "argument", 'crop: there is no option "Z": expected z, y, x'],
  ["angleCount and angles", () => parallelBeam({ ...rows, angles: [0] } as never), "argument", "angleCount and angles [5, [0]]: give one of the two"],
  ["angles as float32", () => parallelBeam({ detectorShape: [4, 10], angles: new Float32Array(2) } as never), "argument", "angles a Float32Array: expected a list"],
  ["angles with a hole", () => parallelBeam({ detectorShape: [4, 10], angles: hole }), "argument", "angles [4, undefined, 8]"],
  ["2^40 angles", () => parallelBeam({ detectorShape: [4, 10], angleCount: 2 ** 40 }), "argument", "angleCount 1099511627776: expected at most 1048576"],
  ["a detector of both forms", () => parallelBeam({ ...rows, detectorCount: 10 } as never), "argument", "detectorShape and detectorCount [[4, 10], 10]: give one of the two"],
  ["a fan with rows", () => fanBeam({ ...fan, detectorShape: [1, 10] } as never), "argument", 'fanBeam: there is no option "detectorShape"'],
  ["a fan without pixels", () => fanBeam({ ...fan, detectorCount: undefined } as never), "argument", "detectorCount undefined: expected one positive integer"],
  ["a fan with an offset up", () => fanBeam({ ...fan, detectorOffset: [0, 1] } as never), "argument", "detectorOffset [0, 1]: expected one finite number, along u"],
  ["a cone without distances", () => coneBeam(rows as never), "argument", "sourceOriginDistance undefined: expected one positive number"],
  ["a source on the wrong side", () => coneBeam({ ...rows, sourceOriginDistance: -5, sourceDetectorDistance: 9 }), "argument", "sourceOriginDistance -5"],
  ["a source in the detector's plane", () => coneBeamVectors({ ...vectors, sourcePositions: [1, 5, 3] }), "argument", "sourcePositions[0] [1, 5, 3]: must not lie in the plane of the detector"],
  ["rays in the detector's plane", () => parallelBeamVectors({ ...vectors, rayDirections: [0, 0, 1] }), "argument", "must not run in the plane of the detector"],
  ["vectors with a hole", () => parallelBeamVectors({ ...vectors, rayDirections: Object.assign(new Array(2), [[0, 1, 0]]) as never }), "argument", "rayDirections[1] undefined"],
  ["sources of another count", () => coneBeamVectors({ ...vectors, sourcePositions: new Float64Array(6), detectorCentres: new Float64Array(9) }), "argument", "2 sourcePositions, 3 detectorCentres"],
  ["views that are not there", () => beam.select({ views: [5] }), "argument", "views [5]: expected indexes from 0 to 4"],
  ["a misspelled selection", () => beam.select({ view: [0] } as never), "argument", 'select: there is no option "view"'],
  ["binning that leaves a rest", () => beam.bin({ columns: 3 }), "argument", "columns 3: must divide the 10 columns"],
  ["a transform that is none", () => beam.transform([0, 0, 1] as never), "argument", "transform [0, 0, 1]: expected a Transform"],
  ["an angle in place of angles", () => rotate({ axis: [1, 0, 0], angles: 0.3 } as never), "argument", "angles 0.3: expected a list"],
  ["beams that are none", () => concatenate([beam, box] as never), "argument", "beams[1]"],
  ["JSON of something else", () => geometryFromJson('{"kind":"sphere"}'), "argument", 'kind of the geometry "sphere"'],
  ["no JSON", () => geometryFromJson("volume"), "argument", "is no JSON"],
  ["ASTRA without dictionaries", () => fromAstra(undefined as never), "argument", "volumeGeometry undefined"],
  ["a box to ASTRA in 2D", () => toAstra({ volume: box, beam }, { dimensions: 2 }), "argument", "a two-dimensional volume has one slice"],
];

// biome-ignore format: a row a line
const arrays: readonly Row[] = [
  ["a shape that is a number", () => DeviceArray.empty(3 as never), "shape", "shape 3: expected a list of counts"],
  ["a shape with a hole", () => DeviceArray.empty(hole), "shape", "shape [4, undefined, 8]: every count must be a positive whole number"],
  ["a shape of half a voxel", () => DeviceArray.zeros([1.5]), "shape", "shape [1.5]"],
  ["more elements than 2^53", () => DeviceArray.zeros([2 ** 27, 2 ** 27]), "shape", "more than 2^53 elements"],
  ["more bytes than 2^48", () => DeviceArray.zeros([2 ** 50]), "argument", "4503599627370496 bytes: expected 1 to 2^48 - 1"],
  ["more memory than there is", () => DeviceArray.zeros([2 ** 44]), "memory", "out of memory: 67108864.0 MiB asked"],
  ["too few values", () => DeviceArray.from([1, 2, 3], [2, 2]), "shape", "3 values for the shape [2, 2]"],
  ["values that are text", () => DeviceArray.from([1, "2"] as never, [2]), "argument", 'data[1] "2": expected a number'],
  ["values with a hole", () => DeviceArray.from(hole, [3]), "argument", "data[1] undefined: expected a number"],
  ["values of bigints", () => DeviceArray.from([1n, 2n] as never, [2]), "argument", "data[0] 1n: expected a number"],
  ["values of float64", () => DeviceArray.from(new Float64Array(2) as never, [2]), "argument", "data is a Float64Array: expected a Float32Array or a list of numbers"],
  ["nested values", () => DeviceArray.from([[1, 2]] as never, [1]), "argument", "data[0] an Array: expected a number"],
  ["values that were transferred", () => DeviceArray.from(transferred, [192]), "argument", "data is a Float32Array whose buffer was transferred away"],
  ["a device by its name", () => DeviceArray.zeros([2], { device: "cpu" } as never), "argument", 'device "cpu": expected a Device, such as device("cpu")'],
  ["a name in place of options", () => DeviceArray.zeros([2], "cpu" as never), "argument", 'the options are "cpu": expected an object'],
  ["a device that is not there", () => device("gpu"), "device", 'there is no device "gpu": this library has cpu'],
  [
    "half a thread",
    () => {
      device("cpu").threads = 0.5;
    },
    "argument",
    "threads 0.5: expected a whole number from 1 to 256",
  ],
  ["a mark that is a number", () => device("cpu").elapsed(3 as never), "argument", "event 3: expected what mark() gave, a bigint"],
  ["an event that is a number", () => device("cpu").finished(3 as never), "argument", "event 3: expected what record() gave, a bigint"],
  ["a seed that is text", () => DeviceArray.uniform([2], { seed: "1" } as never), "argument", 'seed "1": expected a whole number'],
  ["a deviation by another name", () => DeviceArray.normal([2], { seed: 1, stddev: 2 } as never), "argument", 'there is no option "stddev": expected device, seed, mean, deviation'],
  ["nothing to add", () => x.add(undefined as never), "argument", "add: the operand is undefined: expected a DeviceArray"],
  ["host values to multiply with", () => x.mul(new Float32Array(192) as never), "argument", "mul: the operand is a Float32Array"],
  ["another shape", () => x.add(y), "shape", "add: shapes [4, 6, 8] and [4, 5, 10]"],
  ["an array of another device", () => x.add(elsewhere), "device", "and one on cuda:7"],
  ["a disposed array", () => gone.add(1), "disposed", "this array [4, 6, 8] was disposed"],
  ["a disposed operand", () => x.add(gone), "disposed", "this array [4, 6, 8] was disposed"],
  ["a part of itself", () => x.part(0, 3).addAssign(x.part(1, 4)), "argument", "out and b share memory"],
  ["a value that is text", () => x.fill("1" as never), "argument", 'value "1": expected a number'],
  ["crossed bounds", () => x.clamp(2, 1), "argument", "clamp(2, 1): expected minimum <= maximum"],
  ["a bound that is text", () => x.clamp("0" as never, 1), "argument", 'minimum "0": expected a number'],
  ["a misspelled threshold", () => reciprocal(x, { relativ: 1 } as never), "argument", 'there is no option "relativ"'],
  ["reading past the end", () => x.readSync({ start: 190, count: 3 }), "argument", "elements 190 ... 193: expected a part of 0 ... 192"],
  ["reading by another word", () => x.read({ begin: 3 } as never), "argument", 'there is no option "begin": expected start, count, into'],
  ["reading into too little", () => x.read({ into: new Float32Array(5) }), "shape", "into has 5 elements: expected 192"],
  ["reading into what was transferred", () => x.readSync({ into: transferred }), "argument", "into is a Float32Array whose buffer was transferred away"],
  ["writing what was transferred", () => x.write(transferred), "argument", "values is a Float32Array whose buffer was transferred away"],
  ["writing doubles", () => x.writeSync(new Float64Array(3) as never), "argument", "values is a Float64Array: expected a Float32Array"],
  ["writing before the start", () => x.writeSync(new Float32Array(1), -1), "argument", "elements -1 ... 0"],
  ["a reshape of another size", () => x.reshape([5, 5]), "shape", "[4, 6, 8] cannot be reshaped to [5, 5]"],
  ["an address that is a number", () => DeviceArray.adopt(4096 as never, [2], device()), "argument", "address 4096: expected a bigint"],
  ["an address on no device", () => DeviceArray.adopt(4096n, [2], undefined as never), "argument", "device undefined: expected the Device that the memory is on"],
  ["a misaligned address", () => DeviceArray.adopt(4097n, [2], device("cpu")), "argument", "expected a multiple of 4"],
  ["a promise in a scope", () => scope(async () => x.clone()), "argument", "the function returned a promise"],
  ["a scope of nothing", () => scope(undefined as never), "argument", "scope: undefined: expected a function"],
  ["a phantom of nothing", () => hollowBox({} as never), "shape", "domainShape undefined: expected a list of counts"],
];

// biome-ignore format: a row a line
const projections: readonly Row[] = [
  ["beam and volume the wrong way round", () => operator(beam as never, box as never), "argument", "operator: the first argument is a Beam: expected a volume"],
  ["no beam", () => operator(box, undefined as never), "argument", "operator: the second argument is undefined: expected a beam"],
  ["a misspelled option", () => operator(box, beam, { detectorSuperSampling: 2 } as never), "argument", 'there is no option "detectorSuperSampling": expected device, law, precision, detectorSupersampling'],
  ["a law that is none", () => operator(box, beam, { law: "strip" as never }), "argument", 'law "strip": expected "exact", "astra" or "astra2d"'],
  ["a precision that is none", () => operator(box, beam, { precision: "double" as never }), "argument", 'precision "double": expected "float32", "high" or "half"'],
  ["a law in two dimensions for a box", () => operator(box, beam, { law: "astra2d" }), "argument", "law astra2d"],
  ["supersampling that is text", () => operator(box, beam, { detectorSupersampling: "2" as never }), "argument", 'detectorSupersampling "2": expected a whole number from 1 to 16'],
  ["too much supersampling", () => operator(box, beam, { detectorSupersampling: 17 }), "argument", "detectorSupersampling 17"],
  ["voxel supersampling in law exact", () => operator(box, beam, { voxelSupersampling: 2 }), "argument", "it has no meaning for an exact transpose"],
  ["voxels of 5e-324", () => operator(volume({ shape: [2, 2, 2], voxelSize: 5e-324 }), beam), "argument", "leave the range of float64"],
  ["host values", () => A(new Float32Array(192) as never), "argument", "the argument is a Float32Array: expected a DeviceArray"],
  ["a volume of another shape", () => scope(() => A(DeviceArray.zeros([4, 6, 7]))), "shape", "[4, 6, 7]: expected [4, 6, 8], with any leading batch dimensions"],
  ["a volume for the transpose", () => A.T(x), "shape", "the argument has the shape [4, 6, 8]: expected [4, 5, 10]"],
  ["out by another name", () => A(x, { into: y } as never), "argument", 'there is no option "into": expected out, accumulate'],
  ["out of another shape", () => A(x, { out: x2 }), "shape", "out is [2, 4, 6, 8] on "],
  ["out of another batch", () => A(x2, { out: y }), "shape", "expected [2, 4, 5, 10]"],
  [
    "out that is the argument's memory",
    () =>
      scope(() => {
        const both = DeviceArray.zeros([400]);
        A(both.part(0, 192).reshape([4, 6, 8]), { out: both.part(100, 300).reshape([4, 5, 10]) });
      }),
    "argument",
    "projections and volume share memory",
  ],
  ["adding to nothing", () => A(x, { accumulate: true }), "argument", "accumulate: there is no out to add to"],
  ["accumulating yes", () => A(x, { out: y, accumulate: "yes" as never }), "argument", 'accumulate "yes": expected true or false'],
  ["a volume of another device", () => A(elsewhere), "device", "the argument is on cuda:7, the operator is on "],
  ["a disposed volume", () => A(gone), "disposed", "this array [4, 6, 8] was disposed"],
  ["a disposed operator", () => closed(x), "disposed", "this operator was disposed"],
  ["the sums of a disposed operator", () => closed.rowSums(), "disposed", "this operator was disposed"],
  ["a residual without weights", () => A.residual(x, y, {} as never), "argument", "weights is undefined: expected a DeviceArray"],
  ["weights of the volume", () => A.residual(x, y, { weights: x }), "shape", "weights has the shape [4, 6, 8]"],
  ["a batch against another", () => A.residual(x2, y2, { weights: y }), "shape", "y has the shape [3, 4, 5, 10]: expected [2, 4, 5, 10]"],
  ["a norm of the wrong size", () => A.residual(x, y, { weights: y, norm: y }), "shape", "norm has the shape [4, 5, 10]"],
  ["a scale of the projections", () => A.update(x, y, { scale: y }), "shape", "scale has the shape [4, 5, 10]"],
  ["a scale that is updated", () => A.update(x, y, { scale: x }), "argument", "volume and scale share memory"],
  ["a step of NaN", () => scope(() => A.update(x, y, { scale: x.clone(), relaxation: Number.NaN })), "argument", "expected a finite relaxation"],
  ["a step that is text", () => scope(() => A.update(x, y, { scale: x.clone(), relaxation: "1" as never })), "argument", 'relaxation "1": expected a number'],
  ["crossed bounds", () => scope(() => A.update(x, y, { scale: x.clone(), minimum: 2, maximum: 1 })), "argument", "minimum 2, maximum 1"],
];

// biome-ignore format: a row a line
const iterations: readonly Row[] = [
  ["without options", () => sirt(A, y, undefined as never), "argument", "sirt: the options are undefined: expected an object"],
  ["with something else for the operator", () => sirt("A" as never, y, { iterations: 1 }), "argument", 'sirt: the first argument is "A": expected an operator'],
  ["with host data", () => sirt(A, new Float32Array(200) as never, { iterations: 1 }), "argument", "sirt: the second argument is a Float32Array"],
  ["with a misspelled count", () => sirt(A, y, { iteration: 3 } as never), "argument", 'sirt: there is no option "iteration": expected iterations'],
  ["with steps of a run's options", () => sirt.steps(A, y, { iterations: 1, onProgress: () => {} } as never).next(), "argument", 'there is no option "onProgress"'],
  ["with a negative count", () => sirt(A, y, { iterations: -1 }), "argument", "iterations -1: expected a whole number of at least 0"],
  ["with half an iteration", () => sirt(A, y, { iterations: 1.5 }), "argument", "iterations 1.5"],
  ["with a count that is text", () => sirt(A, y, { iterations: "3" as never }), "argument", 'iterations "3"'],
  ["without end", () => sirt(A, y, { iterations: Number.POSITIVE_INFINITY }), "argument", "iterations Infinity"],
  ["with crossed bounds", () => sirt(A, y, { iterations: 1, min: 2, max: 1 }), "argument", "min 2 and max 1: expected min <= max"],
  ["with a bound of NaN", () => sirt(A, y, { iterations: 1, min: Number.NaN }), "argument", "min NaN"],
  ["with a bound that is text", () => sirt(A, y, { iterations: 1, max: "1" as never }), "argument", 'max "1": expected a number'],
  ["without a step", () => sirt(A, y, { iterations: 1, relaxation: 0 }), "argument", "relaxation 0: expected a number between 0 and 2"],
  ["with too long a step", () => sirt(A, y, { iterations: 1, relaxation: 2 }), "argument", "relaxation 2"],
  ["with an unknown onAbort", () => sirt(A, y, { iterations: 1, onAbort: "stop" as never }), "argument", 'onAbort "stop": expected "throw" or "return"'],
  ["with a signal that is none", () => sirt(A, y, { iterations: 1, signal: {} as never }), "argument", "signal is an Object: expected an AbortSignal"],
  ["with progress that is no function", () => sirt(A, y, { iterations: 1, onProgress: 3 as never }), "argument", "onProgress is 3: expected a function"],
  ["of a volume", () => sirt(A, x, { iterations: 1 }), "shape", "y has the shape [4, 6, 8]: expected [4, 5, 10]"],
  ["from projections", () => sirt(A, y, { iterations: 1, initial: y }), "shape", "initial has the shape [4, 5, 10]: expected [4, 6, 8]"],
  ["from another batch", () => sirt(A, y2, { iterations: 1, initial: x2 }), "shape", "initial has the shape [2, 4, 6, 8]: expected [3, 4, 6, 8]"],
  ["with a mask of the other side", () => sirt(A, y, { iterations: 1, volumeMask: y }), "shape", "volumeMask has the shape [4, 5, 10]"],
  ["with a mask of the other side too", () => sirt(A, y, { iterations: 1, projectionMask: x }), "shape", "projectionMask has the shape [4, 6, 8]"],
  ["with a mask that is true", () => sirt(A, y, { iterations: 1, volumeMask: true as never }), "argument", "volumeMask is true: expected a DeviceArray"],
  ["with a disposed operator", () => sirt(closed, y, { iterations: 1 }), "disposed", "this operator was disposed"],
];

// biome-ignore format: a row a line
const files: readonly Row[] = [
  ["without a name", () => readNpy(undefined as never), "argument", "path undefined: expected the name of a file"],
  ["with a NUL in the name", () => readNpy("a\0b.npy"), "argument", 'path "a\\u0000b.npy": expected the name of a file'],
  ["that is absent", () => readNpy(file("none.npy")), "file", "none.npy: cannot be read: "],
  ["that is a folder", () => readNpy(folder), "file", "is not a regular file"],
  ["of text as NPY", () => readNpy(file("text.npy")), "file", "does not begin as a NPY file"],
  ["of NPY as TIFF", () => readTiffStack([file("whole.npy")]), "file", "does not begin as a TIFF file"],
  ["of text as TIFF", () => readTiffStack(file("text.tif")), "file", "does not begin as a TIFF file"],
  ["of NPY as HDF5", () => readDataExchange(file("whole.npy")), "file", "cannot be opened as HDF5"],
  ["of text as HDF5", () => openDataExchange(file("text.h5")), "file", "cannot be opened as HDF5"],
  ["written into a folder that is absent", () => writeNpy(file("none/x.npy"), host(2)), "file", "cannot be written: "],
  ["written over a folder", () => writeNpy(folder, host(2)), "file", "cannot be written: "],
  ["written with too little data", () => writeNpy(file("x.npy"), { shape: [3], data: new Float32Array(2) }), "shape", "data has 2 elements, shape [3] needs 3"],
  ["written from a list", () => writeNpy(file("x.npy"), { shape: [2], data: [1, 2] } as never), "argument", "expected { shape, data } with a Float32Array as data"],
  ["corrected without flats", () => flatFieldCorrect(host(2, 3, 4), {} as never), "argument", "flats: expected { shape, data }"],
  ["corrected with flats of another detector", () => flatFieldCorrect(host(2, 3, 4), { flats: host(1, 2, 5) }), "shape", "flats have 2 rows and 5 columns"],
  ["of no transmission", () => absorption(host(2), { floor: 0 }), "argument", "floor 0: expected one positive transmission"],
  ["without an axis", () => findRotationCentre(host(4, 5, 6), new Float64Array(4)), "shape", "sinogram"],
];

const tables = {
  "a geometry": geometry,
  "an array": arrays,
  "a projection": projections,
  SIRT: iterations,
  "a file": files,
};

for (const [thing, table] of Object.entries(tables))
  describe(`${thing} is refused`, () => {
    for (const [what, call, code, sentence] of table)
      it(what, async () => {
        const before = device().memory();
        await assert.rejects(
          async () => await call(),
          (error: unknown) => {
            assert.ok(error instanceof RaysumError, `${String(error)} is not a RaysumError`);
            assert.equal(error.code, code, error.message);
            assert.ok(error.message.includes(sentence), `"${error.message}" does not say "${sentence}"`);
            return true;
          },
        );
        const now = device().memory();
        for (const held of ["arrays", "operators", "inUse"] as const)
          assert.ok(now[held] <= before[held], `${held}: ${before[held]} before and ${now[held]} after`);
        assert.ok(now.inUse + now.cached <= before.inUse + before.cached, "memory was taken from the system");
      });
  });

describe("after all of that", () => {
  it("the library works as before", async () => {
    assert.ok(Object.values(tables).flat().length >= 100);
    using phantom = hollowBox(A);
    using measured = A(phantom);
    using found = await sirt(A, measured, { iterations: 20, min: 0 });
    const [error, size] = [await found.distance(phantom), await phantom.norm()];
    assert.ok(error < 0.7 * size, `${error} of ${size}`);
    for (const one of [A, x, y, x2, y2]) one.dispose();
  });
});
