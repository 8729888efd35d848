import { existsSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const folder = process.env["RAYSUM_DATA"] ?? fileURLToPath(new URL("../../../shared/data", import.meta.url));

/** The tooth of TomoPy, a real parallel-beam scan: 181 views of 2 rows and 640 columns, axis near column 296. */
export const tooth: string = join(folder, "tooth.h5");

/** Why tests of the real scan cannot run here, or false where they can. */
export const noRealScan: string | false = existsSync(tooth) ? false : "no real scan: set RAYSUM_DATA";

/** The title of such a test: runtimes do not print why a test was skipped. */
export function onRealScan(title: string): string {
  return noRealScan === false ? title : `${title} (${noRealScan})`;
}
