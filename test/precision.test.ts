/** The option `precision`: what is refused, and what the operators promise, for data of every kind and any number of views. */

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { operator, type Precision, parallelBeam, RaysumError, volume } from "../lib/index.ts";

const box = volume({ shape: [2, 8, 8] });
const beam = parallelBeam({ angleCount: 3, detectorShape: [2, 12] });

describe("precision", () => {
  it("is float32 unless asked for, and is kept by the operator", () => {
    for (const precision of ["float32", "high", "half"] as const) {
      using A = operator(box, beam, { precision });
      assert.equal(A.precision, precision);
    }
    using A = operator(box, beam);
    assert.equal(A.precision, "float32");
  });

  it("refuses what it does not know", () => {
    for (const precision of ["double", "High", "", 16, null, {}, "toString"])
      assert.throws(
        () => operator(box, beam, { precision: precision as Precision }),
        (error) =>
          error instanceof RaysumError &&
          error.code === "argument" &&
          /^precision .*: expected "float32", "high" or "half"$/.test(error.message),
      );
  });
});
