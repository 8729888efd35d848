/**
 * What went wrong, in one word:
 * - `argument`: a value that was given is outside what is allowed; nothing was touched
 * - `shape`: an array does not have the shape that is needed here
 * - `device`: arrays of different devices were mixed, or there is no such device, or it has failed and is lost to this process
 * - `disposed`: an array, operator or pointer is used after it was freed
 * - `memory`: the device has not enough memory
 * - `library`: the native library could not be found or does not fit these sources
 * - `file`: a file is missing, damaged or of an unexpected layout
 * - `internal`: a defect of Raysum itself
 */
export type ErrorCode = "argument" | "shape" | "device" | "disposed" | "memory" | "library" | "file" | "internal";

/** Every error that Raysum itself throws: a `code` to branch on, and a sentence with the offending value. */
export class RaysumError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "RaysumError";
    this.code = code;
  }
}
