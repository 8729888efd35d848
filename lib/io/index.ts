export {
  type DataExchange,
  type DataExchangeFile,
  type DataExchangeOptions,
  openDataExchange,
  readDataExchange,
} from "./data_exchange.ts";
export type { HostArray } from "./host_array.ts";
export { createNpy, type NpyReader, openNpy, readNpy, writeNpy } from "./npy.ts";
export { readSafetensors, readSafetensorsMetadata, writeSafetensors } from "./safetensors.ts";
export type { SlabWriter } from "./slab_writer.ts";
export { openTiffStack, readTiffStack, type TiffStack } from "./tiff.ts";
export { createTiff, type TiffStackOptions, writeTiff, writeTiffStack } from "./tiff_writer.ts";
