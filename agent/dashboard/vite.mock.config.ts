/** `npm run mock`: the page with a made-up agent behind it, for work on the page alone. */
import { defineConfig, mergeConfig } from "vite";
import base from "./vite.config.ts";
import { mock } from "./mock/server.ts";

export default mergeConfig(base, defineConfig({ plugins: [mock()], server: { host: "127.0.0.1", port: 8471 } }));
