// Makes dist/: the scripts, as the Python package of this repository expands them, and the compiled TypeScript.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

process.chdir(dirname(fileURLToPath(import.meta.url)));
const checkout = "../../../.venv/bin/featurestore";
const featurestore = process.env.FEATURESTORE ?? (existsSync(checkout) ? checkout : "featurestore");

const folder = mkdtempSync(join(tmpdir(), "featurestore-"));
try {
  execFileSync(featurestore, ["scripts", "--build", folder], { stdio: ["ignore", "ignore", "inherit"] });
  const { scripts } = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8"));
  const made = Object.fromEntries(
    scripts.map(({ name, sha1, flags }) => {
      const source = readFileSync(join(folder, "scripts", `${name}.lua`), "utf8");
      if (createHash("sha1").update(source).digest("hex") !== sha1) throw new Error(`the SHA-1 of ${name} is another`);
      return [name, { sha1, reads: flags.includes("no-writes"), source }];
    }),
  );
  writeFileSync("src/scripts.json", JSON.stringify(made, null, 1));
} finally {
  rmSync(folder, { recursive: true });
}
copyFileSync("../../../LICENSE", "LICENSE");
rmSync("dist", { recursive: true, force: true });
execFileSync(process.execPath, ["node_modules/typescript/bin/tsc"], { stdio: "inherit" });
