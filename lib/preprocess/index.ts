export { type AbsorptionOptions, absorption, flatFieldCorrect, type References, transmission } from "./flat_field.ts";
export { findRotationCentre, type RotationCentre, type RotationCentreOptions } from "./rotation_centre.ts";
