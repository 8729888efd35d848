import assert from "node:assert/strict";
import { type ErrorCode, RaysumError } from "../../lib/errors.ts";

/** For assert.throws and assert.rejects: a RaysumError of that code, whose sentence matches. */
export function raysumError(code: ErrorCode, sentence: RegExp): (error: unknown) => true {
  return (error) => {
    assert.ok(error instanceof RaysumError, `${String(error)} is not a RaysumError`);
    assert.equal(error.code, code);
    assert.match(error.message, sentence);
    return true;
  };
}
