import assert from "node:assert/strict";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import process from "node:process";
import { after, describe, it } from "node:test";
import { RaysumError } from "../lib/errors.ts";
import { openLibrary } from "../lib/native/library.ts";
import { RS_ABI } from "../lib/native/symbols.ts";
import { compile, libraryPath, noCompiler, runScript } from "./support/child.ts";
import { thisRuntime } from "./support/runtimes.ts";

const folder = mkdtempSync(join(tmpdir(), "raysum-library-"));
after(() => rmSync(folder, { recursive: true }));
const whole = readFileSync(libraryPath);

function write(name: string, bytes: Uint8Array | string): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

/** A shared library of one C source. */
function build(name: string, source: string): string {
  const path = join(folder, `${name}.so`);
  compile(["-shared", "-fPIC", "-o", path, write(`${name}.c`, source)]);
  return path;
}

/** What is said about each of the paths, which all must be refused. */
function reasons(...paths: string[]): string[] {
  let message = "";
  assert.throws(
    () => openLibrary(paths),
    (error) => {
      assert.ok(error instanceof RaysumError);
      assert.equal(error.code, "library");
      message = error.message;
      return true;
    },
  );
  const lines = message.split("\n");
  assert.equal(lines[0], "the native library could not be opened. Tried:");
  assert.equal(lines.at(-1), "Build it with `make`, or set RAYSUM_LIBRARY to the path of a library that fits.");
  return paths.map((path) => {
    const line = lines.find((one) => one.startsWith(`  ${path}: `));
    assert.ok(line, `${path} is not in: ${message}`);
    return line.slice(path.length + 4);
  });
}

describe("opening the native library", () => {
  it("opens the built one, and a copy of it elsewhere", () => {
    assert.equal(openLibrary([libraryPath]).rs_abi(), RS_ABI);
    const copy = join(folder, "copy.so");
    copyFileSync(libraryPath, copy);
    assert.equal(openLibrary([copy]).rs_abi(), RS_ABI);
  });

  it("takes the first path that fits", () => {
    const paths = [join(folder, "missing.so"), write("short.so", whole.subarray(0, 5000)), libraryPath];
    assert.equal(openLibrary(paths).rs_abi(), RS_ABI);
  });

  it("lists every path with its reason, and the fix", () => {
    const missing = join(folder, "missing.so");
    const text = write("text.so", "not a library, but long enough to hold the header of one".repeat(4));
    const [first, second] = reasons(missing, text);
    assert.equal(first, "no such file");
    assert.equal(second, "not a shared library");
  });

  it("refuses a folder", () => {
    const path = join(folder, "folder.so");
    mkdirSync(path);
    assert.match(reasons(path)[0]!, /director/i);
  });

  it("refuses a library that was cut off, however long it is", () => {
    for (const length of [0, 1, 63])
      assert.equal(reasons(write("cut.so", whole.subarray(0, length)))[0], "not a shared library");
    for (const length of [64, 65, 4096, whole.length >> 1, whole.length - 4096, whole.length - 1]) {
      const [reason] = reasons(write("cut.so", whole.subarray(0, length)));
      assert.equal(reason, `truncated: ${length} bytes of ${whole.length}`);
    }
  });

  it("refuses a library of another machine", () => {
    const machines = { 183: "arm64", 62: "x64", 243: "riscv64", 21: "machine 21" };
    for (const [number, name] of Object.entries(machines)) {
      if (name === process.arch) continue;
      const foreign = Uint8Array.from(whole);
      new DataView(foreign.buffer).setUint16(18, Number(number), true);
      assert.equal(reasons(write("foreign.so", foreign))[0], `built for ${name}, this is ${process.arch}`);
    }
  });

  it("refuses a library of another ABI", { skip: noCompiler }, () => {
    const path = build("abi", "int rs_abi(void) { return 999; }");
    assert.equal(reasons(path)[0], `has ABI 999, these sources need ABI ${RS_ABI}`);
  });

  it("refuses a library that lacks functions, and names one", { skip: noCompiler }, () => {
    assert.match(reasons(build("other", "int other(void) { return 0; }"))[0]!, /rs_abi/);
    assert.match(reasons(build("bare", `int rs_abi(void) { return ${RS_ABI}; }`))[0]!, /rs_\w+/);
  });
});

describe("RAYSUM_LIBRARY", () => {
  const run = (path: string) => {
    const environment = { RAYSUM_LIBRARY: path, RAYSUM_DEVICE: "cpu" };
    const { status, stdout, stderr } = runScript(thisRuntime, "test/support/runtime_script.ts", { environment });
    assert.equal(status, 0, stderr);
    return JSON.parse(stdout.split("\n")[1]!) as { device?: string; message?: string };
  };

  it("names the one library to open, from the working folder if the path is relative", () => {
    const copy = join(folder, "chosen.so");
    copyFileSync(libraryPath, copy);
    assert.equal(run(copy).device, "cpu");
    assert.equal(run(relative(process.cwd(), copy)).device, "cpu");
  });

  it("is not passed over when it does not fit", () => {
    const path = write("wrong.so", "wrong");
    const { message } = run(path);
    assert.deepEqual(message!.split("\n").slice(1, -1), [`  ${path}: not a shared library`]);
  });
});
