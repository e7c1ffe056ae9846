// Small line drawings beside the names of pages.
import { s } from "./dom.js";

const PATHS = {
  overview: "M2 13.5V8m4 5.5V3m4 10.5V6m4 7.5V9.5",
  requests: "M2 4h12M2 8h8M2 12h5",
  live: "M1.5 8h3l2-5 3 10 2-5h3",
  models: "M8 1.8l5.6 3.1v6.2L8 14.2l-5.6-3.1V4.9zM2.6 5L8 8l5.4-3M8 8v6",
  tenants: "M6 7.2a2.6 2.6 0 1 0 0-5.2 2.6 2.6 0 0 0 0 5.2zM1.5 14c0-2.5 2-4.2 4.500-4.200s4.500 1.700 4.500 4.200M11 2.400a2.500 2.500 0 0 1 0 4.600M12 10c1.600.500 2.600 2 2.600 4",
  routes: "M3 3v4a3 3 0 0 0 3 3h7M10.500 7.500L13 10l-2.500 2.500M3 7v6",
  triage: "M7 12a5 5 0 1 0 0-10 5 5 0 0 0 0 10zM10.700 10.700L14.500 14.500M7 4.500v3M7 9.500v.100",
  usage: "M2 4c0-1.100 2.700-2 6-2s6 .900 6 2-2.700 2-6 2-6-.900-6-2zM2 4v8c0 1.100 2.700 2 6 2s6-.900 6-2V4M2 8c0 1.100 2.700 2 6 2s6-.900 6-2",
  playground: "M4 2.500v11l9-5.500z",
};

export const icon = (name) => s("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, s("path", { d: PATHS[name] }));
