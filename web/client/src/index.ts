export { type Code, type Gateway, NoAnswer, Refusal, type TokenSource } from "./call.js";
export { type DevicePosition, type Fix, fixOf } from "./fixes.js";
export type { components, operations, paths } from "./generated/openapi.js";
export { type Arrival, type Attempt, JourneyReporter, type MinimalReceipt, type Receipt, type ReporterOptions } from "./reporter.js";
export { type Home, type JourneyView, type Location, type Shared, type Status, watchJourney, type WatchOptions } from "./watch.js";
