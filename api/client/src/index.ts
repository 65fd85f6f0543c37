export { createControlPlane } from "./client.js";
export type { ControlPlane, ItemOf, PagedPath } from "./client.js";
export { JobFailed, Problem } from "./problem.js";
export type { FieldError } from "./problem.js";
export type { TransportOptions as ControlPlaneOptions } from "./transport.js";
export type { components, operations, paths } from "./schema.js";
