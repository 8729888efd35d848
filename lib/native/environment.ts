import process from "node:process";

/** An environment variable, or undefined where it is not set, empty, or the runtime does not let us look. */
export function environment(name: string): string | undefined {
  try {
    return process.env[name] || undefined;
  } catch {
    return undefined; // Deno without --allow-env
  }
}
