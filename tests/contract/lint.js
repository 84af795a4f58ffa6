// SPDX-License-Identifier: Apache-2.0
// Lints the OpenAPI document named on the command line with the rules of redocly.yaml beside this
// file. The engine without its command line: that one needs a newer Node.js than Debian 12 has.
"use strict";

const path = require("path");
const { formatProblems, getTotals, lint, loadConfig } = require("@redocly/openapi-core");

async function main() {
  const ref = process.argv[2];
  const config = await loadConfig({ configPath: path.join(__dirname, "redocly.yaml") });
  const problems = await lint({ ref, config });
  const totals = getTotals(problems);
  formatProblems(problems, { format: "stylish", totals, version: "" });
  console.log(`${path.basename(ref)}: ${totals.errors} errors, ${totals.warnings} warnings`);
  process.exitCode = totals.errors + totals.warnings > 0 ? 1 : 0;
}

main();
