// Runs the bundled specs on one device's backend, in the runtime that runs this. Usage: suite.ts <bundle> <device>
// The last line is JSON: what passed and failed, and which kernels left the device.
import { createRequire } from "node:module";
import process from "node:process";
import { device } from "../../lib/index.ts";
import { backendName, fallbacks, nativeKernels, register, type TensorFlow } from "../../lib/tfjs/index.ts";

/** What is used here of the package jasmine, which has no types. */
interface Ended {
  readonly status: string;
  readonly fullName: string;
  readonly failedExpectations: readonly { readonly message: string }[];
}
interface Runner {
  exitOnCompletion: boolean;
  loadConfig(config: object): void;
  clearReporters(): void;
  addReporter(reporter: { specDone(spec: Ended): void; suiteDone(suite: Ended): void }): void;
  execute(): Promise<unknown>;
}
const Jasmine: new () => Runner = createRequire(import.meta.url)("jasmine");

const [bundle, name] = process.argv.slice(2) as [string, string];
Object.assign(globalThis, {
  raysumSuite: (tf: TensorFlow) => {
    register(tf, { convPrecision: "float32" }); // specs allow differences of 1e-3, also where numbers are large
    return backendName(device(name));
  },
});

const result = { passed: 0, failed: 0, skipped: 0, failures: [] as string[] };
const jasmine = new Jasmine();
jasmine.exitOnCompletion = false;
jasmine.loadConfig({ spec_files: [bundle], random: false });
jasmine.clearReporters();
jasmine.addReporter({
  specDone: ({ status, fullName, failedExpectations }) => {
    if (status === "passed") result.passed++;
    else if (status === "failed") {
      result.failed++;
      result.failures.push(`${fullName}: ${failedExpectations[0]?.message}`);
    } else result.skipped++;
  },
  suiteDone: ({ fullName, failedExpectations }) => {
    for (const { message } of failedExpectations) result.failures.push(`${fullName}: ${message}`);
    result.failed += failedExpectations.length;
  },
});
await jasmine.execute();
console.log(JSON.stringify({ ...result, fallbacks: [...fallbacks()], native: nativeKernels.length }));
process.exit(0);
