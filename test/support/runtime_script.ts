// The same source in every runtime: says when it is imported, then uses a device and prints one line of JSON.
import { DeviceArray, device, hollowBox, RaysumError, scope } from "../../lib/index.ts";

console.log("imported");
try {
  const where = device();
  using phantom = hollowBox({ domainShape: [5, 5, 5], device: where });
  using noise = DeviceArray.uniform([5, 5], { seed: 7, device: where });
  using result = scope(() => phantom.add(noise).mul(2).clamp(0.5, 3.5));
  const values = await result.read();
  console.log(
    JSON.stringify({
      device: where.name,
      description: where.description,
      values: Array.from(values),
      sum: await result.sum(),
      blocking: result.readSync().every((value, k) => value === values[k]),
      arrays: where.memory().arrays,
    }),
  );
} catch (error) {
  if (!(error instanceof RaysumError)) throw error;
  console.log(JSON.stringify({ code: error.code, message: error.message }));
}
