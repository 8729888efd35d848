import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { generate } from "../csrc/bindings.ts";
import * as written from "../lib/native/symbols.ts";

const read = (path: string) => readFileSync(new URL(path, import.meta.url), "utf8");

describe("csrc/bindings.ts", () => {
  it("writes lib/native/symbols.ts as it stands there", () => {
    assert.equal(generate(read("../csrc/raysum.h")), read("../lib/native/symbols.ts"));
  });

  it("takes over every declaration, constant and enumeration of the header", () => {
    const header = read("../csrc/raysum.h");
    const names = [...header.matchAll(/^RS_API \w+ (\w+)\(/gm)].map(([, name]) => name);
    assert.deepEqual(Object.keys(written.symbols), names);
    assert.ok(names.length > 30);
    assert.equal(written.RS_ABI, Number(/#define RS_ABI (\d+)/.exec(header)![1]));
    const tables = header.match(/^(enum |#define RS_\w+ \d)/gm)!;
    assert.equal(Object.keys(written).length, tables.length + 1);
  });

  it("turns every argument kind into the one of the boundary", () => {
    const line =
      "RS_API int32_t rs_x(int32_t a, int64_t b, double c, const void *d, int64_t *e, uint8_t *f); // all kinds";
    assert.match(generate(line), /^ {2}rs_x: \["i32", "i64", "f64", "buffer", "buffer", "buffer"\],$/m);
    assert.match(generate("RS_API int32_t rs_y(void); // none"), /^ {2}rs_y: \[\],$/m);
  });

  it("turns enumerations into frozen tables", () => {
    const text = generate("enum rs_two_words { RS_FIRST_ONE = 0, RS_SECOND = -5 };");
    assert.ok(text.includes("export const TwoWords = {\n  FIRST_ONE: 0,\n  SECOND: -5,\n} as const;"), text);
  });

  it("refuses argument kinds that runtimes treat differently", () => {
    for (const kind of ["float", "size_t", "bool", "uint64_t", "int", "struct geometry", "unsigned int32_t"])
      assert.throws(
        () => generate(`RS_API int32_t rs_x(int32_t a, ${kind} b); // no`),
        new RegExp(`rs_x: '${kind} b' is none of the argument kinds`),
      );
  });

  it("refuses declarations of another form", () => {
    const forms = {
      "another result": "RS_API void rs_x(int32_t a); // no status",
      "a returned pointer": "RS_API int32_t *rs_x(int32_t a); // a pointer",
      "no comment": "RS_API int32_t rs_x(int32_t a);",
      "two lines": "RS_API int32_t rs_x(int32_t a,\n  int32_t b); // two lines",
      "another prefix": "RS_API int32_t other(int32_t a); // another prefix",
      "a callback": "RS_API int32_t rs_x(int32_t (*done)(int32_t)); // a callback",
    };
    const good = "RS_API int32_t rs_y(void); // good\n";
    for (const [what, line] of Object.entries(forms))
      assert.throws(() => generate(good + line), /2 declarations, 1 of the expected form/, what);
  });
});
