export * from "./ask.js";
export * from "./documents.js";
export * from "./events.js";
export * from "./intents.js";
export * from "./money.js";
export * from "./results.js";
