export type { Colormap } from "./colormap.ts";
export { type Figure, type FigureOptions, figure } from "./figure.ts";
export type { Panel } from "./frame.ts";
export { type ImageOptions, imagePanel } from "./image.ts";
export { type LineOptions, linePanel, type Series } from "./line.ts";
export { encodePng } from "./png.ts";
export type { Scale } from "./ticks.ts";
