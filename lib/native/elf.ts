import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import process from "node:process";

const machines: Record<number, string> = { 62: "x64", 183: "arm64", 243: "riscv64" };

function reason(error: unknown): string {
  if ((error as { code?: string }).code === "ENOENT") return "no such file";
  return error instanceof Error ? error.message : String(error);
}

/**
 * Why a file cannot be a shared library of this machine, or undefined when it looks whole. The system's loader maps a truncated
 * library without complaint and the process dies at the first missing page, so the file is looked at first.
 */
export function libraryDefect(path: string): string | undefined {
  let file: number;
  try {
    file = openSync(path, "r");
  } catch (error) {
    return reason(error);
  }
  try {
    const size = fstatSync(file).size;
    const header = new DataView(new ArrayBuffer(64));
    if (readSync(file, header, 0, 64, 0) < 64 || header.getUint32(0) !== 0x7f454c46) return "not a shared library";
    const machine = machines[header.getUint16(18, true)] ?? `machine ${header.getUint16(18, true)}`;
    if (machine !== process.arch) return `built for ${machine}, this is ${process.arch}`;
    const sectionsEnd = Number(header.getBigUint64(40, true)) + header.getUint16(58, true) * header.getUint16(60, true);
    if (sectionsEnd > size) return `truncated: ${size} bytes of ${sectionsEnd}`;
    return undefined;
  } catch (error) {
    return reason(error);
  } finally {
    closeSync(file);
  }
}
