import process from "node:process";

/** A duration for people: "850 ms", "12.3 s", "4 min 05 s". */
export function formatSeconds(seconds: number): string {
  if (seconds < 1) return `${(seconds * 1000).toPrecision(3)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  return `${Math.floor(seconds / 60)} min ${String(Math.floor(seconds % 60)).padStart(2, "0")} s`;
}

/**
 * A progress bar on standard error: redrawn in place on a terminal, one line per tenth of the work elsewhere, nothing when quiet.
 */
export function progressBar(label: string, { quiet = false }: { quiet?: boolean } = {}) {
  const terminal = process.stderr.isTTY === true;
  let drawn = 0;
  let tenth = 0;
  return (done: number, total: number, remaining: number, note = ""): void => {
    if (quiet) return;
    const last = done === total;
    const text = `${label} ${String(done).padStart(String(total).length)}/${total}  ${note}`;
    const left = last ? "" : `  ${formatSeconds(remaining)} left`;
    if (terminal) {
      const now = performance.now();
      if (!last && now - drawn < 50) return;
      drawn = now;
      const width = 24;
      const filled = Math.round((width * done) / total);
      const bar = "█".repeat(filled) + "░".repeat(width - filled);
      process.stderr.write(`\r\x1b[K${bar} ${text}${left}${last ? "\n" : ""}`);
    } else if (last || Math.floor((10 * done) / total) > tenth) {
      tenth = Math.floor((10 * done) / total);
      process.stderr.write(`${text}${left}\n`);
    }
  };
}

/** Ends the program with an error as a user should see it: the sentence, not the stack. */
export function fail(error: unknown): never {
  process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
  process.exit(1);
}
