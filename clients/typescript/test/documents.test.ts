/** What the documents show is what works. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { promisify } from "node:util";

import { FakeServer } from "./fake-server.js";

const COMPILER = new URL("../node_modules/typescript/bin/tsc", import.meta.url);
const DOCUMENTS = ["../README.md", "../../../docs/siblings.md"];

for (const document of DOCUMENTS) {
  const text = readFileSync(new URL(document, import.meta.url), "utf8");
  for (const [number, [, snippet = ""]] of [...text.matchAll(/```js\n(.*?)```/gs)].entries()) {
    test(`each snippet runs: ${document} ${number}`, async () => {
      const server = await FakeServer.start();
      const given = snippet.includes("const token") ? "" : `const token = process.env.TOKEN;\n`;
      const file = new URL(`snippet-${crypto.randomUUID()}.mjs`, import.meta.url);
      writeFileSync(file, `${given}${snippet.replaceAll("https://auth.example.com", server.url)}\nprocess.exit();\n`);
      const TOKEN = await server.auth.issueTestToken({ userId: 42 });
      const env = { ...process.env, TOKEN, AUTH_SERVICE_TOKEN: server.auth.serviceToken };

      const { stdout, stderr } = await promisify(execFile)(process.execPath, [file.pathname], { env });

      assert.equal(stderr, "");
      if (snippet.includes("console.log")) assert.match(stdout, /^42\b/);
      rmSync(file);
      await server.stop();
    });

    test(`each snippet is TypeScript too: ${document} ${number}`, async () => {
      const given = snippet.includes("const token") ? "" : `declare const token: string;\n`;
      const file = new URL(`snippet-${crypto.randomUUID()}.ts`, import.meta.url);
      writeFileSync(file, `${given}${snippet}`);
      const options = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext", "--types", "node"];
      const arguments_ = [COMPILER.pathname, "--ignoreConfig", ...options, file.pathname];

      const compiled = promisify(execFile)(process.execPath, arguments_).catch((error: { stdout: string }) => error);

      assert.equal((await compiled).stdout, "");
      rmSync(file);
    });
  }
}
