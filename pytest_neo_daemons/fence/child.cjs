// Refuses connections and writes of a Node.js process, which a test has started, to daemons behind the fence.
// NODE_OPTIONS of tests behind the fence require it.
"use strict";

const place = process.env.NEO_DAEMONS_FENCE;
if (place) {
  try {
    stand(JSON.parse(require("fs").readFileSync(`${place}/plan.json`, "utf8")));
  } catch {
    // The run is over, and its directory gone.
  }
}

function stand(plan) {
  const fs = require("fs");
  const net = require("net");
  const os = require("os");
  const path = require("path");
  const append = fs.appendFileSync;
  const realpath = fs.realpathSync;

  function refusal(owner, what) {
    const test = (process.env.PYTEST_CURRENT_TEST || "the test run").replace(/ \([a-z]+\)$/, "");
    const who = `${test}: its process ${process.pid} (${process.argv.join(" ").slice(0, 200)})`;
    const [whose, remedy] = owner;
    const text = `${who} ${what}, which is ${whose}. It was refused, and nothing was done. ${remedy}`;
    try {
      append(`${place}/hits`, `${text.replace(/\n/g, " ")}\n`);
    } catch {
      // The run is over.
    }
    const error = new Error(text);
    error.name = "ProductionFenceError";
    error.code = "EPRODUCTIONFENCE";
    return error;
  }

  function isHere(host) {
    const name = String(host || "localhost").toLowerCase().replace(/^\[|\]$/g, "").replace(/^::ffff:/, "");
    if (["localhost", "::1", "::", "0.0.0.0", os.hostname().toLowerCase()].includes(name) || /^127\./.test(name)) {
      return true;
    }
    return Object.values(os.networkInterfaces()).flat().some((one) => one.address === name);
  }

  function real(name) {
    const full = path.resolve(name);
    try {
      return realpath(full);
    } catch {
      try {
        return path.join(realpath(path.dirname(full)), path.basename(full));
      } catch {
        return full;
      }
    }
  }

  const zones = [...plan.zones].sort((one, other) => other[0].length - one[0].length);
  function ownerOf(name) {
    const full = real(name);
    const zone = zones.find(([at]) => full === at || full.startsWith(`${at}/`));
    return zone && !zone[2] ? zone[1] : null;
  }

  const connect = net.Socket.prototype.connect;
  net.Socket.prototype.connect = function (...given) {
    const first = Array.isArray(given[0]) ? given[0][0] : given[0];
    const options = first !== null && typeof first === "object" ? first : null;
    const isPort = (value) => value !== undefined && value !== null && value !== "" && Number.isInteger(Number(value));
    const port = options ? options.port : isPort(first) ? first : undefined;
    const host = options ? options.host : typeof given[1] === "string" ? given[1] : undefined;
    const socketPath = options ? options.path : isPort(first) ? undefined : first;
    let error = null;
    if (isPort(port) && !socketPath && plan.ports[Number(port)] && isHere(host)) {
      error = refusal(plan.ports[Number(port)][0][1], `connects to ${host || "localhost"}:${port}`);
    } else if (typeof socketPath === "string") {
      const owner = plan.sockets[real(socketPath)] || ownerOf(socketPath);
      error = owner ? refusal(owner, `connects to the socket ${socketPath}`) : null;
    }
    if (error) {
      process.nextTick(() => this.destroy(error));
      return this;
    }
    return connect.apply(this, given);
  };

  const isReading = (flags) => flags === undefined || flags === null || flags === "r" || flags === "rs" || flags === 0;
  const names = { rename: 2, copyFile: 2, writeFile: 1, appendFile: 1, unlink: 1, rm: 1, rmdir: 1, truncate: 1, open: 1, createWriteStream: 1 };
  const said = { rename: "renames or replaces", unlink: "removes", rm: "removes", rmdir: "removes", truncate: "truncates" };
  function check(name, given) {
    if (name === "open" && (isReading(given[1]) || typeof given[1] === "function")) {
      return null;
    }
    for (const one of given.slice(name === "copyFile" ? 1 : 0, names[name])) {
      const file = one instanceof URL ? require("url").fileURLToPath(one) : Buffer.isBuffer(one) ? one.toString() : one;
      const owner = typeof file === "string" ? ownerOf(file) : null;
      if (owner) {
        return refusal(owner, `${said[name] || "writes to"} ${file}`);
      }
    }
    return null;
  }
  for (const name of Object.keys(names)) {
    wrap(fs, name, name, (error, given) => {
      const callback = given[given.length - 1];
      if (typeof callback !== "function") {
        throw error;
      }
      process.nextTick(callback, error);
    });
    wrap(fs, `${name}Sync`, name, (error) => {
      throw error;
    });
    wrap(fs.promises, name, name, (error) => Promise.reject(error));
  }
  function wrap(module, key, name, fail) {
    const original = module[key];
    if (typeof original === "function") {
      module[key] = function (...given) {
        const error = check(name, given);
        return error ? fail(error, given) : original.apply(this, given);
      };
    }
  }
  require("module").syncBuiltinESMExports();
}
