/** The native library that the tests run against, scripts in processes of their own, and the C compiler. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { deno, type Runtime } from "./runtimes.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Where `make` puts its libraries. */
export const buildFolder: string = join(root, "build");

/** The file that lib/native/library.ts opens in this process. */
export const libraryPath: string =
  process.env["RAYSUM_LIBRARY"] ||
  join(buildFolder, existsSync(join(buildFolder, "libraysum_cuda.so")) ? "libraysum_cuda.so" : "libraysum.so");

export interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ScriptOptions {
  readonly args?: readonly string[];
  /** Environment variables to set; undefined takes one away. */
  readonly environment?: Record<string, string | undefined>;
  /** Deno's permission flags; all by default. */
  readonly permissions?: readonly string[];
}

/** Runs a script, given by its path in the project, and waits for its end. */
export function runScript(runtime: Runtime, script: string, options: ScriptOptions = {}): Ended {
  const { args = [], environment = {}, permissions = ["--allow-all"] } = options;
  const flags = runtime === deno ? permissions : [];
  const variables = Object.entries({ ...process.env, ...environment }).filter(([, value]) => value !== undefined);
  const { status, signal, stdout, stderr } = spawnSync(
    runtime.command,
    [...runtime.script, ...flags, script, ...args],
    {
      cwd: root,
      env: Object.fromEntries(variables),
      encoding: "utf8",
    },
  );
  return { status, stdout, stderr: signal ? `${stderr}ended by ${signal}` : stderr };
}

const compiler = process.env["CC"] || "cc";

/** The reason to skip a test that compiles C, or false. */
export const noCompiler: string | false =
  spawnSync(compiler, ["--version"]).status === 0 ? false : `${compiler} is missing`;

/** Runs the C compiler in the repository, with the flags of the environment variable CFLAGS too. */
export function compile(args: readonly string[]): void {
  const flags = [...(process.env["CFLAGS"]?.split(" ") ?? []), ...args];
  const { status, stderr } = spawnSync(compiler, flags, { cwd: root, encoding: "utf8" });
  if (status !== 0) throw new Error(`${compiler} ${flags.join(" ")}\n${stderr}`);
}
