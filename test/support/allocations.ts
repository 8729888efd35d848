import { Buffer } from "node:buffer";

/**
 * Runs `body` and counts the bytes that it asks for as buffers and typed arrays, whether it gets them or not.
 * The system's own figures do not tell: memory that was asked for and never touched costs nothing there.
 */
export async function bytesAskedFor(body: () => Promise<void>): Promise<number> {
  let bytes = 0;
  const globals = globalThis as unknown as Record<string, unknown>;
  const kinds = [ArrayBuffer, Int8Array, Uint8Array, Int16Array, Uint16Array, Int32Array, Uint32Array] as const;
  const replaced = [...kinds, Float32Array, Float64Array].map((Kind) => {
    const width = "BYTES_PER_ELEMENT" in Kind ? Kind.BYTES_PER_ELEMENT : 1;
    globals[Kind.name] = new Proxy(Kind, {
      construct(target, args, newTarget) {
        if (typeof args[0] === "number") bytes += args[0] * width;
        return Reflect.construct(target, args, newTarget);
      },
    });
    return Kind;
  });
  const { alloc } = Buffer;
  Buffer.alloc = ((size: number, ...rest: []) => {
    bytes += size;
    return alloc.call(Buffer, size, ...rest);
  }) as typeof alloc;
  try {
    await body();
  } finally {
    Buffer.alloc = alloc;
    for (const Kind of replaced) globals[Kind.name] = Kind;
  }
  return bytes;
}
