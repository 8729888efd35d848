// Single values of the exact projector and its transpose in float64, to tell how accurate a device is at sizes where the whole
// operator would take hours in float64.
import type { Operator, View } from "raysum";

type Vector = readonly [number, number, number];

const dot = (a: Vector, b: Vector): number => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const subtract = (a: Vector, b: Vector): Vector => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
const cross = (a: Vector, b: Vector): Vector => [
  a[1] * b[2] - a[2] * b[1],
  a[2] * b[0] - a[0] * b[2],
  a[0] * b[1] - a[1] * b[0],
];

const vector = (at: (k: number) => number): Vector => [at(0), at(1), at(2)];

/** Where the line of a ray meets the planes of its view's main axis, in voxels: position = start + slice * slope. */
interface Ray {
  readonly main: number;
  /** The other two axes. */
  readonly others: readonly [number, number];
  readonly start: readonly [number, number];
  readonly slope: readonly [number, number];
  /** Of the ray between two planes. */
  readonly length: number;
}

/** The point of a view's detector `up` rows and `side` columns from its centre. */
function pixelOf({ source, centre, v, u, curvatureRadius = 0 }: View, up: number, side: number): Vector {
  const width = Math.sqrt(dot(u, u));
  const angle = curvatureRadius ? (side * width) / curvatureRadius : 0;
  const along = curvatureRadius ? (curvatureRadius * Math.sin(angle)) / width : side;
  const normal = cross(u, v);
  const rise = 2 * curvatureRadius * Math.sin(angle / 2) ** 2;
  const inward = (rise * Math.sign(dot(normal, subtract(source, centre)))) / Math.sqrt(dot(normal, normal));
  return vector((k) => centre[k]! + up * v[k]! + along * u[k]! + inward * normal[k]!);
}

/** The rays of an operator in law exact without supersampling. */
function rays(A: Operator) {
  const { volume, beam } = A;
  const [rows, columns] = beam.detectorShape;
  const views = beam.views.map((view) => {
    const central = beam.kind === "parallel" ? view.source : subtract(view.centre, view.source);
    const [z, y, x] = vector((k) => Math.abs(central[k]! / volume.voxelSize[k]!));
    const main = x >= y && x >= z ? 2 : y >= z ? 1 : 0;
    return { view, main, others: [main === 0 ? 1 : 0, main === 2 ? 1 : 2] as const };
  });
  const ray = (number: number, row: number, column: number): Ray => {
    const { view, main, others } = views[number]!;
    const pixel = pixelOf(view, row + 0.5 - rows / 2, column + 0.5 - columns / 2);
    const world = beam.kind === "parallel" ? view.source : subtract(pixel, view.source);
    const point = vector((k) => (pixel[k]! - volume.position[k]!) / volume.voxelSize[k]! + (volume.shape[k]! - 1) / 2);
    const direction = vector((k) => world[k]! / volume.voxelSize[k]!);
    const slope = others.map((k) => direction[k]! / direction[main]!) as [number, number];
    const start = others.map((k, i) => point[k]! - point[main]! * slope[i]!) as [number, number];
    return { main, others, start, slope, length: Math.sqrt(dot(world, world)) / Math.abs(direction[main]!) };
  };
  return { ray, views };
}

/** A x at some places of the projections (row, view, column), x given on the host. */
export function forwardAt(A: Operator, x: ArrayLike<number>, places: readonly number[]): number[] {
  const { ray } = rays(A);
  const [, ny, nx] = A.volume.shape;
  const strides = [ny * nx, nx, 1];
  const [, views, columns] = A.rangeShape as readonly [number, number, number];
  return places.map((place) => {
    const column = place % columns;
    const view = Math.floor(place / columns) % views;
    const { main, others, start, slope, length } = ray(view, Math.floor(place / columns / views), column);
    const [a, b] = others;
    let sum = 0;
    for (let slice = 0; slice < A.volume.shape[main]!; slice++) {
      const [p, q] = [start[0] + slice * slope[0], start[1] + slice * slope[1]];
      for (let i = Math.floor(p); i <= Math.floor(p) + 1; i++)
        for (let j = Math.floor(q); j <= Math.floor(q) + 1; j++)
          if (i >= 0 && j >= 0 && i < A.volume.shape[a]! && j < A.volume.shape[b]!)
            sum +=
              (1 - Math.abs(p - i)) *
              (1 - Math.abs(q - j)) *
              x[slice * strides[main]! + i * strides[a]! + j * strides[b]!]!;
    }
    return sum * length;
  });
}

/** The transpose of A, applied to y on the host, at some places of the volume (z, y, x). */
export function backAt(A: Operator, y: ArrayLike<number>, places: readonly number[]): number[] {
  const { ray, views } = rays(A);
  const { shape, voxelSize, position } = A.volume;
  const [, ny, nx] = shape;
  const [rows, columns] = A.beam.detectorShape;
  return places.map((place) => {
    const voxel = [Math.floor(place / nx / ny), Math.floor(place / nx) % ny, place % nx];
    let sum = 0;
    // Rays that see the voxel pass within one voxel of it: inside the shadow of that cube.
    const shadows = [0, 1, 2, 3, 4, 5, 6, 7].map((corner) =>
      A.beam.projectPoint(
        vector(
          (k) => (voxel[k]! + (corner & (1 << k) ? 1 : -1) - (shape[k]! - 1) / 2) * voxelSize[k]! + position[k]!,
        ) as [number, number, number],
      ),
    );
    for (const [view, { main, others }] of views.entries()) {
      const range = (k: 0 | 1, count: number) => {
        const along = shadows.map((shadow) => shadow[view]![k] + (count - 1) / 2);
        return [Math.max(0, Math.floor(Math.min(...along))), Math.min(count - 1, Math.ceil(Math.max(...along)))];
      };
      const [firstRow = 0, lastRow = 0] = range(0, rows);
      const [firstColumn = 0, lastColumn = 0] = range(1, columns);
      for (let row = firstRow; row <= lastRow; row++)
        for (let column = firstColumn; column <= lastColumn; column++) {
          const { start, slope, length } = ray(view, row, column);
          const [p, q] = [0, 1].map((i) => Math.abs(start[i]! + voxel[main]! * slope[i]! - voxel[others[i]!]!));
          if (p! < 1 && q! < 1)
            sum += (1 - p!) * (1 - q!) * length * y[(row * views.length + view) * columns + column]!;
        }
    }
    return sum;
  });
}
