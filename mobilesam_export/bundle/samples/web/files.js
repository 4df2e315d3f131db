// Files of a bundle: downloaded with progress, checked against the manifest, kept in the Cache API.

import { MobileSAMError } from "./errors.js";

const CACHE = "mobilesam";

export class BundleFiles {
  /** Read the manifest of the bundle at `root`, an address that ends with a slash. */
  static async open(root) {
    const files = new BundleFiles();
    files.root = root;
    const response = await download(`${root}manifest.json`, "no-cache");
    try {
      files.manifest = await response.json();
      files.entries = files.manifest.files;
    } catch {
      throw new MobileSAMError("damaged-file", "manifest.json of the bundle is damaged.");
    }
    return files;
  }

  /**
   * A file as it was exported.
   * @param {string} name in the bundle.
   * @param {(loaded: number) => void} onBytes called as it comes in.
   * @returns {Promise<Uint8Array>}
   */
  async read(name, onBytes = () => {}) {
    const entry = this.entries[name];
    if (!entry) throw new MobileSAMError("missing-file", `The bundle has no ${name}.`);
    const url = this.root + name;
    const key = `${url}?sha256=${entry.sha256}`;
    const cache = await openCache();
    const kept = await cache?.match(key);
    const response = kept ?? (await download(url, "no-cache"));
    const bytes = await readAll(response, entry.bytes, onBytes);
    if (bytes.length !== entry.bytes || !(await hasHash(bytes, entry.sha256))) {
      await cache?.delete(key);
      const text = `${name} is damaged: it is not the file that was exported. Copy the bundle again.`;
      throw new MobileSAMError("damaged-file", text);
    }
    if (cache && !kept) await replace(cache, url, key, bytes);
    return bytes;
  }

  /** A tensor of golden.json, as a typed array. */
  async tensor(item) {
    const { buffer } = await this.read(`golden/${item.file}`);
    return new { float32: Float32Array, uint8: Uint8Array }[item.dtype](buffer);
  }
}

async function download(url, cache) {
  const response = await fetch(url, { cache }).catch(() => null);
  const name = new URL(url).pathname.split("/").pop();
  if (!response) {
    throw new MobileSAMError("missing-file", `${name} cannot be downloaded: is the server running?`);
  }
  if (!response.ok) {
    const text = `${name} is missing from the bundle (the server answers ${response.status}).`;
    throw new MobileSAMError("missing-file", text);
  }
  return response;
}

async function readAll(response, length, onBytes) {
  const bytes = new Uint8Array(length);
  const reader = response.body.getReader();
  let at = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return bytes.subarray(0, Math.min(at, length));
    if (at + value.length > length) return new Uint8Array(0); // longer than it was
    bytes.set(value, at);
    at += value.length;
    onBytes(at);
  }
}

/** Browsers offer hashes and caches on https and localhost only; elsewhere the length must do. */
async function hasHash(bytes, expected) {
  if (!globalThis.crypto?.subtle) return true;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("") === expected;
}

async function openCache() {
  return globalThis.caches ? await caches.open(CACHE).catch(() => null) : null;
}

/** Keep the new file and let go of an older export's; a full disk is no error. */
async function replace(cache, url, key, bytes) {
  try {
    await cache.delete(url, { ignoreSearch: true });
    await cache.put(key, new Response(bytes));
  } catch {
    // Without a cache it is downloaded again.
  }
}
