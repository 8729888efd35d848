import { spawnSync } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Runs a script of the project in the runtime that runs the tests. */
export function runScript(script: string, args: readonly string[]): { status: number; stdout: string; stderr: string } {
  const first = "Deno" in globalThis ? ["run", "-A", "--no-check"] : ["run"];
  const { status, stdout, stderr } = spawnSync(process.execPath, [...first, script, ...args], {
    cwd: root,
    encoding: "utf8",
    env: { ...process.env, NO_COLOR: "1" },
  });
  return { status: status ?? -1, stdout, stderr };
}
