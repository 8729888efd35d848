/** The runtimes that the tests run in: npm brings Bun, Deno and a Node with node:ffi, the system its own Node. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { isBuiltin } from "node:module";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { patience } from "./patience.ts";

export interface Runtime {
  readonly name: string;
  /** Why it cannot run here, or false. */
  readonly missing: string | false;
  readonly command: string;
  /** The flags before a script. */
  readonly script: readonly string[];
  /** The flags before test files, which leave a JUnit report in the file `report`. */
  readonly test: (report: string) => readonly string[];
}

const bin = (folder: string, name: string) =>
  fileURLToPath(new URL(`../../${folder}node_modules/.bin/${name}`, import.meta.url));

export const bun: Runtime = {
  name: "Bun",
  missing: false,
  command: bin("", "bun"),
  script: ["run"],
  test: (report) => ["test", `--timeout=${120_000 * patience}`, "--reporter=junit", `--reporter-outfile=${report}`],
};

export const deno: Runtime = {
  name: "Deno",
  missing: !existsSync(bin("", "deno")) && "npm has not brought it",
  command: bin("", "deno"),
  script: ["run", "--no-prompt", "--no-check"],
  test: (report) => ["test", "-A", "--no-check", `--junit-path=${report}`],
};

interface FoundNode {
  readonly command: string;
  readonly major: number;
  readonly minor: number;
}

function foundNode(command: string, version: string): FoundNode {
  const [, major, minor] = /^v(\d+)\.(\d+)/.exec(version) ?? [];
  return { command, major: Number(major ?? 0), minor: Number(minor ?? 0) };
}

const hasFfi = ({ major, minor }: FoundNode) => major > 26 || (major === 26 && minor >= 9);

function nodeRuntime(name: string, command: string, missing: string | false, flags: readonly string[]): Runtime {
  const reporters = ["--test-reporter=spec", "--test-reporter-destination=stdout", "--test-reporter=junit"];
  const test = (report: string) => [...flags, "--test", ...reporters, `--test-reporter-destination=${report}`];
  return { name, missing, command, script: flags, test };
}

function nodeWithFfi(node: FoundNode | undefined): Runtime {
  return nodeRuntime("Node with node:ffi", node?.command ?? "node", !node && "there is no Node 26.9 or newer", []);
}

/** A Node before 24 cannot read the sources: support/typescript.js lets it. */
function nodeWithKoffi(node: FoundNode | undefined): Runtime {
  const flags: string[] = [];
  if (node && hasFfi(node)) flags.push("--no-experimental-ffi");
  if (node && node.major < 24) flags.push(`--import=${new URL("typescript.js", import.meta.url).href}`);
  return nodeRuntime("Node with koffi", node?.command ?? "node", !node && "there is no Node 20 or newer", flags);
}

/** Every runtime, also one that is missing. */
export function allRuntimes(): readonly Runtime[] {
  const nodes = ["node", bin("node_modules/.cache/node/", "node")].map((command) =>
    foundNode(command, spawnSync(command, ["--version"], { encoding: "utf8" }).stdout ?? ""),
  );
  return [bun, deno, nodeWithFfi(nodes.find(hasFfi)), nodeWithKoffi(nodes.find(({ major }) => major >= 20))];
}

function ownRuntime(): Runtime {
  if (process.versions["deno"]) return deno;
  if (process.versions["bun"]) return bun;
  const node = foundNode(process.execPath, process.version);
  return isBuiltin("node:ffi") ? nodeWithFfi(node) : nodeWithKoffi(node);
}

/** The runtime of this process. */
export const thisRuntime: Runtime = ownRuntime();
