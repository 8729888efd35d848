import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { devices } from "../lib/index.ts";
import { compareReferences } from "./support/reference.ts";

const folder = fileURLToPath(new URL("reference", import.meta.url));

describe("what ASTRA and tomosipo computed", () => {
  for (const device of devices())
    it(`is found again on ${device.name}`, async () => {
      const failures: string[] = [];
      let compared = 0;
      for await (const { name, law, what, error, limit, reason } of compareReferences(folder, device)) {
        if (!reason) compared++;
        // Every reference in the repository is one that the library covers. NaN is no agreement.
        if (reason || !(error <= limit)) failures.push(`${name} ${law} ${what}: ${reason ?? `${error} > ${limit}`}`);
      }
      assert.deepEqual(failures, []);
      assert.ok(compared >= 60, `${compared} comparisons`);
    });
});
