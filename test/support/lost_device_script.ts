// Loses the device cuda:0, which RAYSUM_EMULATED_ILLEGAL_ADDRESS makes fail, and writes down in JSON what comes of it.
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { DeviceArray, device, operator, parallelBeam, RaysumError, sirt, volume } from "../../lib/index.ts";
import { check, native, readInteger } from "../../lib/native/library.ts";

const how = process.argv[2];
const [lost, healthy] = [device("cuda:0"), device("cuda:1")];
const said: Record<string, string> = {};

/** Notes how a call ends. */
async function note(what: string, call: () => unknown): Promise<void> {
  try {
    await call();
    said[what] = "done";
  } catch (error) {
    said[what] = error instanceof RaysumError ? `${error.code}: ${error.message}` : String(error);
  }
}

const operatorOn = (where: typeof lost) =>
  operator(
    volume({ shape: [16, 12, 12], size: 1 }),
    parallelBeam({ angleCount: 7, detectorShape: [16, 14], detectorSize: 1.4 }),
    { device: where },
  );

const A = operatorOn(lost);
const x = DeviceArray.empty([1 << 16], { device: lost });
const view = x.reshape([256, 256]);
const mark = lost.mark();
let capture = 0n;

if (how === "wait") {
  for (let k = 0; k < 10; k++) x.fill(k); // the last is the kernel that fails
  const pending = x.read({ start: 0, count: 1 });
  await note("read that was pending", () => pending);
  await note("wait", () => lost.finished());
}
if (how === "allocation") {
  x.fill(1);
  await delay(100);
  await note("allocation", () => DeviceArray.empty([1 << 26], { device: lost }));
}
if (how === "upload" || how === "large upload") {
  using target = DeviceArray.empty([how === "upload" ? 1 << 16 : 1 << 24], { device: lost });
  x.fill(1);
  await delay(100);
  await note("upload", () => target.write(new Float32Array(target.size)));
}
if (how === "capture") {
  capture = readInteger((out) => native().rs_capture_begin(lost.id, out));
  for (let k = 0; k < 10; k++) x.fill(k);
  check(native().rs_capture_end(capture));
  check(native().rs_capture_run(capture));
  await note("wait", () => lost.finished());
}
if (how === "sirt") {
  const y = DeviceArray.ones(A.rangeShape, { device: lost });
  await note("sirt", () => sirt(A, y, { iterations: 1_000_000 }));
  y.dispose();
}

await note("wait again", () => lost.finished());
await note("blocking wait", () => lost.finishedSync());
await note("mark", () => lost.mark());
await note("elapsed", () => lost.elapsed(mark, mark));
await note("fill", () => x.fill(1));
await note("read", () => x.read());
await note("write", () => x.write(new Float32Array(x.size)));
await note("new array", () => DeviceArray.zeros([4], { device: lost }));
await note("new operator", () => operatorOn(lost));
await note("memory", () => lost.memory());
await note("stream", () => lost.useStream(0n));
await note("description", () => lost.description);

await note("dispose", () => {
  if (capture) check(native().rs_capture_free(capture));
  for (const one of [view, x, A]) one.dispose();
  lost.cancel(0n, 1n);
});

for (const where of [healthy, device("cpu")]) {
  const before = where.memory().arrays;
  await note(`sirt on ${where.name}`, async () => {
    using B = operatorOn(where);
    using image = DeviceArray.full(B.domainShape, 2, { device: where });
    using y = B(image);
    using z = await sirt(B, y, { iterations: 3, initial: image });
    await z.write((await z.read()).map((value) => value + 1));
    const mean = (await z.sum()) / z.size;
    if (Math.abs(mean - 3) > 0.01) throw new Error(`the mean is ${mean}`);
  });
  await note(`arrays left on ${where.name}`, () => {
    const { arrays } = where.memory();
    if (arrays !== before) throw new Error(`${arrays} arrays, ${before} before`);
  });
}
console.log(JSON.stringify(said));
