import { RaysumError } from "../errors.ts";
import { Beam } from "./beam.ts";
import { counts, listOf, numbers, record, refuse, zyxAxes } from "./check.ts";
import { type Volume, volume } from "./volume.ts";

/**
 * The volume or beam that JSON.stringify wrote, from the text or from the object that JSON.parse makes of it:
 * `{ kind: "volume", shape, voxelSize, position }`, or `{ kind, detectorShape, views: [{ source, centre, v, u }, ...] }`
 * with kind "parallel" or "cone"; all vectors are [z, y, x]. A view with a curved detector has its `curvatureRadius` too.
 * Numbers come back as they were.
 *
 * Throws a RaysumError ("argument") for text that is no JSON, fields that are missing or unknown, and all that `volume`,
 * `parallelBeamVectors` and `coneBeamVectors` refuse.
 */
export function geometryFromJson(json: string | object): Volume | Beam {
  const geometry = typeof json === "string" ? parse(json) : json;
  const kind = typeof geometry === "object" && geometry !== null && "kind" in geometry ? geometry.kind : undefined;
  if (kind === "volume") {
    const { shape, voxelSize, position } = record("geometry", geometry, ["kind", "shape", "voxelSize", "position"]);
    return volume({
      shape: counts("shape", shape, zyxAxes),
      voxelSize: numbers("voxelSize", voxelSize, zyxAxes),
      position: numbers("position", position, zyxAxes),
    });
  }
  if (kind !== "parallel" && kind !== "cone")
    refuse("kind of the geometry", kind, 'expected "volume", "parallel" or "cone"');
  const { detectorShape, views } = record("geometry", geometry, ["kind", "detectorShape", "views"]);
  return new Beam(
    kind,
    counts("detectorShape", detectorShape, ["rows", "columns"]),
    listOf("views", views, (name, entry) => {
      const curved = typeof entry === "object" && entry !== null && "curvatureRadius" in entry;
      const view = record(name, entry, ["source", "centre", "v", "u", ...(curved ? ["curvatureRadius"] : [])]);
      return {
        source: numbers(`${name}.source`, view["source"], zyxAxes),
        centre: numbers(`${name}.centre`, view["centre"], zyxAxes),
        v: numbers(`${name}.v`, view["v"], zyxAxes),
        u: numbers(`${name}.u`, view["u"], zyxAxes),
        ...(curved && { curvatureRadius: view["curvatureRadius"] as number }),
      };
    }),
  );
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new RaysumError("argument", `geometry of ${text.length} characters is no JSON: ${String(cause)}`, { cause });
  }
}
