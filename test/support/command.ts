import { type Ended, runScript as run } from "./child.ts";
import { thisRuntime } from "./runtimes.ts";

/** Runs a script of the project in the runtime that runs the tests. */
export function runScript(script: string, args: readonly string[], environment: Record<string, string> = {}): Ended {
  return run(thisRuntime, script, { args, environment: { NO_COLOR: "1", ...environment } });
}
