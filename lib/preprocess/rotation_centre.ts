import { RaysumError } from "../errors.ts";
import { checkHostArray, type HostArray } from "../io/host_array.ts";

export interface RotationCentreOptions {
  /** First and last column between which the axis is looked for; the middle half of the detector when not given. */
  readonly range?: readonly [number, number];
}

export interface RotationCentre {
  /** Where the rotation axis falls on the detector, in columns: 0 is the centre of the first column. */
  readonly centre: number;
  /**
   * How much of the energy that should vanish is left at this centre, relative to the mean over all centres: 0 where
   * the two halves of the turn fit perfectly, near 1 where no centre stands out (noise, or nothing in view).
   */
  readonly score: number;
}

/** The views of half a turn in ascending angle, as differences of neighbouring columns. */
interface HalfTurn {
  readonly angles: Float64Array;
  /** Share of the half turn that each view stands for. */
  readonly weights: Float64Array;
  /** (views, columns - 1); entry u lies at column u + 1/2. */
  readonly differences: Float64Array;
  readonly columns: number;
}

/** One frequency w of the energy outside the wedge: constant + re cos(2 w c) - im sin(2 w c) at the centre c. */
interface Term {
  readonly frequency: number;
  readonly constant: number;
  readonly re: number;
  readonly im: number;
}

const frequencyCount = 64;
const bandWidth = 32; // angular orders looked at just outside the wedge: more of them add mostly noise
const wedgeMargin = 2; // orders: the edge of the wedge is not sharp
const noiseFactor = 2; // the noise is taken as this often the energy of the quietest frequency
const taper = 0.2; // share of the window's half width over which it falls to zero
const passes = 8;
const settled = 0.01; // columns

/**
 * Finds the rotation axis of a parallel-beam scan over half a turn from one sinogram (views, columns) of line
 * integrals and its angles in radians. Views beyond the first half turn are not used.
 *
 * The sinogram is completed to a full turn by its mirror image about a tried centre. The angular spectrum of the
 * sinogram of an object within radius R is confined to orders below w R at each detector frequency w (the "double
 * wedge"); a wrong centre makes a jump between the two halves, which shows outside of it. The criterion is that of
 * Vo et al., Opt. Express 22, 19078 (2014), with the sum of squares in the place of the sum of magnitudes: that is a
 * trigonometric polynomial in the centre, so that each trial costs 64 terms and the result has no grid. Two additions:
 * frequencies count by how far they stand out of the noise, and a window that is symmetric about the last estimate
 * keeps an object wider than the detector from drawing the centre to the middle of it.
 *
 * @throws RaysumError `shape` when angles and views differ in number; `argument` when there are fewer than 8 views or
 * 16 columns, when the views leave a gap of more than four mean steps in the half turn, or when the sinogram shows
 * nothing that tells centres apart
 */
export function findRotationCentre(
  sinogram: HostArray,
  angles: ArrayLike<number>,
  options: RotationCentreOptions = {},
): RotationCentre {
  checkHostArray("sinogram", sinogram, ["views", "columns"]);
  const [views, columns] = sinogram.shape as [number, number];
  if (angles.length !== views) {
    throw new RaysumError("shape", `${angles.length} angles for a sinogram of ${views} views`);
  }
  const { range = [columns / 4 - 0.5, (3 * columns) / 4 - 0.5] } = options;
  const [first, last] = range;
  if (!(first >= 0 && first < last && last <= columns - 1)) {
    throw new RaysumError("argument", `range [${range}]: expected 0 <= first < last <= ${columns - 1} (columns)`);
  }
  const halfTurn = halfTurnOf(sinogram, angles);

  // The lowest frequencies, closely spaced, decide between all centres; the whole band then says where exactly.
  const spacing = Math.PI / columns;
  const highest = highestFrequency(halfTurn, columns / 2);
  const lowest = multiples(Math.min(spacing, highest / frequencyCount));
  let terms = wedgeEnergy(halfTurn, lowest, columns / 2);
  let centre = minimum(terms, first, last, 0.5);

  for (let pass = 0, change = Number.POSITIVE_INFINITY; pass < passes && change > settled; pass++) {
    const radius = Math.max(Math.min(centre, columns - 1 - centre) + 0.5, columns / 16);
    const step = highestFrequency(halfTurn, radius) / frequencyCount;
    terms = wedgeEnergy(halfTurn, multiples(step), radius, centre);
    const reach = Math.min(columns / 16, Math.PI / step / 4); // the polynomial repeats itself every pi / step columns
    const next = minimum(terms, Math.max(first, centre - reach), Math.min(last, centre + reach), 1 / 16);
    change = Math.abs(next - centre);
    centre = next;
  }
  return { centre, score: Math.min(1, energyAt(centre, terms) / total(terms)) };
}

function halfTurnOf(sinogram: HostArray, angles: ArrayLike<number>): HalfTurn {
  const { data, shape } = sinogram;
  const columns = shape[1]!;
  if (columns < 16) throw new RaysumError("argument", `sinogram with ${columns} columns: expected at least 16`);
  const wrong = data.findIndex((value) => !Number.isFinite(value));
  if (wrong >= 0) {
    const place = `view ${Math.floor(wrong / columns)}, column ${wrong % columns}`;
    throw new RaysumError("argument", `sinogram: ${data[wrong]} in ${place}, expected finite line integrals`);
  }
  const bad = Array.from(angles).find((angle) => !Number.isFinite(angle));
  if (bad !== undefined) throw new RaysumError("argument", `angles: ${bad} among them, expected finite radians`);

  const start = Array.from(angles).reduce((least, angle) => Math.min(least, angle));
  const turn = (angle: number): number => (((angle - start) % (2 * Math.PI)) + 2 * Math.PI) % (2 * Math.PI);
  const chosen = Array.from(angles, (angle, view) => ({ angle: turn(angle), view }))
    .filter(({ angle }) => angle < Math.PI * (1 - 1e-6))
    .sort((a, b) => a.angle - b.angle);
  const count = chosen.length;
  if (count < 8) throw new RaysumError("argument", `${count} views in the first half turn: expected at least 8`);
  const gaps = chosen.map(({ angle }, i) => (chosen[i + 1]?.angle ?? Math.PI) - angle);
  const widest = Math.max(...gaps);
  if (widest > (4 * Math.PI) / count) {
    const found = `angles leave a gap of ${widest.toFixed(4)} rad in the half turn`;
    throw new RaysumError("argument", `${found}: expected at most ${((4 * Math.PI) / count).toFixed(4)} rad`);
  }

  const differences = new Float64Array(count * (columns - 1));
  chosen.forEach(({ view }, i) => {
    for (let u = 0; u < columns - 1; u++) {
      differences[i * (columns - 1) + u] = data[view * columns + u + 1]! - data[view * columns + u]!;
    }
  });
  return {
    angles: Float64Array.from(chosen, ({ angle }) => angle),
    weights: Float64Array.from(gaps, (gap, i) => (gap + gaps.at(i - 1)!) / (2 * Math.PI)),
    differences,
    columns,
  };
}

/** Highest detector frequency (radians a column) whose wedge, for that radius, the views sample without aliasing. */
function highestFrequency({ angles }: HalfTurn, radius: number): number {
  return 0.9 * Math.min(Math.PI, angles.length / radius);
}

function multiples(step: number): Float64Array {
  return Float64Array.from({ length: frequencyCount }, (_, i) => (i + 1) * step);
}

/**
 * The energy just outside the double wedge as a function of the centre. Where a(k) is the angular spectrum of the half
 * turn at a frequency w, the full turn about c has exp(i w c) a(k) + (-1)^k exp(-i w c) conj(a(-k)) (the signs turn
 * with the differences, which are odd in the column).
 */
function wedgeEnergy(halfTurn: HalfTurn, frequencies: Float64Array, radius: number, windowCentre?: number): Term[] {
  const { angles, weights, differences, columns } = halfTurn;
  const views = angles.length;
  const window = Float64Array.from({ length: columns - 1 }, (_, u) => {
    if (windowCentre === undefined) return 1;
    const inside = (radius - Math.abs(u + 0.5 - windowCentre)) / (taper * radius);
    return Math.sin((Math.PI / 2) * Math.min(1, Math.max(0, inside))) ** 2;
  });
  const cosine = new Float64Array(columns - 1);
  const sine = new Float64Array(columns - 1);
  const re = new Float64Array(views); // spectrum of each view at one frequency
  const im = new Float64Array(views);
  const terms: Term[] = [];

  for (const frequency of frequencies) {
    // Dividing the spectrum of the differences by 2 i sin(w/2) gives that of a view continued by its values at the
    // ends: no step there that a wide object would show at the edges of the detector.
    const scale = 1 / (2 * Math.sin(frequency / 2));
    for (let u = 0; u < columns - 1; u++) {
      cosine[u] = window[u]! * scale * Math.cos(frequency * (u + 0.5));
      sine[u] = window[u]! * scale * Math.sin(frequency * (u + 0.5));
    }
    for (let view = 0; view < views; view++) {
      const at = view * (columns - 1);
      let sumCosine = 0;
      let sumSine = 0;
      for (let u = 0; u < columns - 1; u++) {
        sumCosine += cosine[u]! * differences[at + u]!;
        sumSine += sine[u]! * differences[at + u]!;
      }
      re[view] = weights[view]! * sumCosine;
      im[view] = -weights[view]! * sumSine;
    }

    const firstOrder = Math.floor(frequency * radius) + wedgeMargin + 1;
    const orders = Math.min(bandWidth, views - firstOrder);
    if (orders < 1) continue;
    const term = { frequency, constant: 0, re: 0, im: 0 };
    for (let order = firstOrder; order < firstOrder + orders; order++) {
      let plusRe = 0; // sums over the views of spectrum times exp(-i order angle), and times exp(i order angle)
      let plusIm = 0;
      let minusRe = 0;
      let minusIm = 0;
      for (let view = 0; view < views; view++) {
        const c = Math.cos(order * angles[view]!);
        const s = Math.sin(order * angles[view]!);
        plusRe += re[view]! * c + im[view]! * s;
        plusIm += im[view]! * c - re[view]! * s;
        minusRe += re[view]! * c - im[view]! * s;
        minusIm += im[view]! * c + re[view]! * s;
      }
      const sign = order % 2 === 0 ? -2 : 2;
      term.constant += (plusRe ** 2 + plusIm ** 2 + minusRe ** 2 + minusIm ** 2) / orders;
      term.re += (sign * (plusRe * minusRe - plusIm * minusIm)) / orders;
      term.im += (sign * (plusRe * minusIm + plusIm * minusRe)) / orders;
    }
    terms.push(term);
  }
  const noise = noiseFactor * Math.min(...terms.map(({ constant }) => constant));
  if (terms.every(({ constant }) => !(constant > noise))) {
    throw new RaysumError("argument", "sinogram: nothing in it stands out, so it shows no axis");
  }
  return terms.map(({ frequency, constant, re, im }) => {
    const weight = constant > noise ? 1 - noise / constant : 0; // as in Wiener's filter
    return { frequency, constant: weight * constant, re: weight * re, im: weight * im };
  });
}

function total(terms: readonly Term[]): number {
  return terms.reduce((sum, { constant }) => sum + constant, 0);
}

function energyAt(centre: number, terms: readonly Term[]): number {
  return terms.reduce((sum, { frequency, constant, re, im }) => {
    const phase = 2 * frequency * centre;
    return sum + constant + re * Math.cos(phase) - im * Math.sin(phase);
  }, 0);
}

/** Where the energy is least between two columns: the best of a grid of that step, refined by a parabola. */
function minimum(terms: readonly Term[], first: number, last: number, step: number): number {
  let best = first;
  let least = Number.POSITIVE_INFINITY;
  for (let c = first; c <= last; c += step) {
    const value = energyAt(c, terms);
    if (value < least) [best, least] = [c, value];
  }
  const before = energyAt(best - step, terms);
  const after = energyAt(best + step, terms);
  const curvature = before - 2 * least + after;
  const shift = curvature > 0 ? (0.5 * (before - after)) / curvature : 0;
  return Math.min(last, Math.max(first, best + step * Math.min(1, Math.max(-1, shift))));
}
