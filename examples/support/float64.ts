// Single values of the exact projector and its transpose in float64, to tell how accurate a device is at sizes where the whole
// operator would take hours in float64.
import type { Operator } from "raysum";

type Vector = readonly [number, number, number];

const dot = (a: Vector, b: Vector): number => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const subtract = (a: Vector, b: Vector): Vector => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
const cross = (a: Vector, b: Vector): Vector => [
  a[1] * b[2] - a[2] * b[1],
  a[2] * b[0] - a[0] * b[2],
  a[0] * b[1] - a[1] * b[0],
];

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

/** The rays of an operator in law exact whose detectors are flat and not supersampled. */
function rays(A: Operator) {
  const { volume, beam } = A;
  const [rows, columns] = beam.detectorShape;
  const index = (p: Vector): Vector =>
    [0, 1, 2].map(
      (k) => (p[k]! - volume.position[k]!) / volume.voxelSize[k]! + (volume.shape[k]! - 1) / 2,
    ) as unknown as Vector;
  const scaled = (d: Vector): Vector => [0, 1, 2].map((k) => d[k]! / volume.voxelSize[k]!) as unknown as Vector;
  const views = beam.views.map(({ source, centre, v, u }) => {
    const central = scaled(beam.kind === "parallel" ? source : subtract(centre, source));
    const [z, y, x] = [Math.abs(central[0]), Math.abs(central[1]), Math.abs(central[2])];
    const main = x >= y && x >= z ? 2 : y >= z ? 1 : 0;
    return { source, centre, v, u, main, others: [main === 0 ? 1 : 0, main === 2 ? 1 : 2] as const };
  });
  const ray = (view: number, row: number, column: number): Ray => {
    const { source, centre, v, u, main, others } = views[view]!;
    const [up, side] = [row + 0.5 - rows / 2, column + 0.5 - columns / 2];
    const pixel = [0, 1, 2].map((k) => centre[k]! + up * v[k]! + side * u[k]!) as unknown as Vector;
    const world = beam.kind === "parallel" ? source : subtract(pixel, source);
    const [point, direction] = [index(pixel), scaled(world)];
    const slope = others.map((k) => direction[k]! / direction[main]!) as [number, number];
    const start = others.map((k, i) => point[k]! - point[main]! * slope[i]!) as [number, number];
    return { main, others, start, slope, length: Math.sqrt(dot(world, world)) / Math.abs(direction[main]!) };
  };
  /** The pixel (row, column), fractions included, whose ray meets a point given in voxels. */
  const pixelAt = (view: number, voxel: Vector): readonly [number, number] => {
    const { source, centre, v, u } = views[view]!;
    const point = [0, 1, 2].map(
      (k) => (voxel[k]! - (volume.shape[k]! - 1) / 2) * volume.voxelSize[k]! + volume.position[k]!,
    ) as unknown as Vector;
    const direction = beam.kind === "parallel" ? source : subtract(point, source);
    // point + t direction = centre + a v + b u
    const normal = cross(u, v);
    const t = dot(subtract(centre, point), normal) / dot(direction, normal);
    const hit = subtract([0, 1, 2].map((k) => point[k]! + t * direction[k]!) as unknown as Vector, centre);
    const [vv, vu, uu] = [dot(v, v), dot(v, u), dot(u, u)];
    const [hv, hu] = [dot(hit, v), dot(hit, u)];
    const determinant = vv * uu - vu * vu;
    return [(hv * uu - hu * vu) / determinant - 0.5 + rows / 2, (hu * vv - hv * vu) / determinant - 0.5 + columns / 2];
  };
  return { ray, pixelAt, views };
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
  const { ray, pixelAt, views } = rays(A);
  const [, ny, nx] = A.volume.shape;
  const [rows, columns] = A.beam.detectorShape;
  return places.map((place) => {
    const voxel = [Math.floor(place / nx / ny), Math.floor(place / nx) % ny, place % nx];
    let sum = 0;
    for (const [view, { main, others }] of views.entries()) {
      // Rays that see the voxel pass within one voxel of it on its plane: inside the shadow of that square.
      const corners = [-1, 1].flatMap((i) =>
        [-1, 1].map((j) => {
          const corner = [...voxel];
          corner[others[0]]! += i;
          corner[others[1]]! += j;
          return pixelAt(view, corner as unknown as Vector);
        }),
      );
      const range = (k: 0 | 1, count: number) => [
        Math.max(0, Math.floor(Math.min(...corners.map((corner) => corner[k])))),
        Math.min(count - 1, Math.ceil(Math.max(...corners.map((corner) => corner[k])))),
      ];
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
