import { stat } from "node:fs/promises";
import { RaysumError } from "../errors.ts";
import { describe } from "../options.ts";

/** `file` error with the words `path: sentence`. */
export function refuse(path: string, sentence: string, cause?: unknown): never {
  throw new RaysumError("file", `${path}: ${sentence}`, { cause });
}

/** The first line of what another library says about its failure. */
export function reasonOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n", 1)[0]!;
}

/** At most the first 60 characters of a file's own text, in printable form. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}...` : text);
}

/** `argument` error unless `path` can name a file. */
export function checkPath(path: unknown): void {
  if (typeof path !== "string" || path === "" || path.includes("\0"))
    throw new RaysumError("argument", `path ${describe(path)}: expected the name of a file`);
}

/** Size in bytes of the regular file `path`; opening anything else (a pipe, say) could wait for ever. */
export async function fileSize(path: string): Promise<number> {
  checkPath(path);
  const status = await stat(path).catch((error) => refuse(path, `cannot be read: ${reasonOf(error)}`, error));
  return status.isFile() ? status.size : refuse(path, "is not a regular file");
}
