// What others need for the same work, to be printed beside our figures. Measured on one NVIDIA H100 80GB HBM3 (driver 580.159, CUDA
// 13.0) on 2026-11-22: tomosipo 0.7 with ASTRA Toolbox 2.5.99, PyTorch 2.11.0; random data on the GPU, one public call, warm, medians.
export const baseline = {
  name: "tomosipo + ASTRA, H100",
  /** Milliseconds of [forward, back] by work and size. */
  projections: {
    parallel: { 128: [2.21, 1.55], 256: [21.3, 14.7], 512: [350, 213] },
    cone: { 128: [4.24, 1.57], 256: [28.2, 15.5], 512: [383, 223] },
    slice: { 128: [0.294, 0.296], 256: [0.43, 0.337], 512: [1.139, 0.84], 1024: [5.8, 3.87] },
  } as Readonly<Record<string, Readonly<Record<number, readonly [number, number]>>>>,
  /** SIRT from host data to a host result, milliseconds an iteration: tomosipo's loop, ASTRA's SIRT3D_CUDA. */
  sirt: {
    parallel: { 64: [1.61, 2.2], 128: [3.22, 7.25], 256: [36.1, 45.1], 512: [620, 644] },
    cone: { 256: [46.1, 54.4] },
  } as Readonly<Record<string, Readonly<Record<number, readonly [number, number]>>>>,
};
