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
  const read = fs.readFileSync;
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

  function isReached(bound, host) {
    const name = String(host || "localhost").toLowerCase().replace(/^\[|\]$/g, "").replace(/^::ffff:/, "");
    const at = String(bound || "0.0.0.0").toLowerCase();
    if (!isHere(name)) {
      return false;
    }
    if (["localhost", "::", "0.0.0.0", os.hostname().toLowerCase()].includes(name) || at === "::") {
      return true;
    }
    return at === "0.0.0.0" ? !name.includes(":") : at === name || (at === "localhost" && isLoopback(name));
  }

  function isLoopback(name) {
    return name === "::1" || /^127\./.test(name);
  }

  // Whether the registry still says that a port is the owner's; true if it cannot be read.
  function stillHas(number, [, , stateDir, daemon]) {
    let isReadable = false;
    for (const place of plan.places) {
      let names = [];
      try {
        names = fs.readdirSync(place);
        isReadable = true;
      } catch {
        continue;
      }
      for (const name of names.filter((one) => one.endsWith(".json"))) {
        try {
          const entry = JSON.parse(read(path.join(place, name), "utf8"));
          const own = (entry.daemons || []).filter((one) => one.name === daemon);
          const ports = daemon ? own.flatMap((one) => Object.values(one.ports || {})) : (entry.control || []).slice(1);
          if (entry.state_dir === stateDir && ports.includes(number)) {
            return true;
          }
        } catch {
          // It was removed meanwhile, or is a later version's.
        }
      }
    }
    return !isReadable;
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

  function ownerBelow(name) {
    const zone = zones.find(([at, , isOpen]) => !isOpen && at.startsWith(`${real(name)}/`) && fs.existsSync(at));
    return zone ? zone[1] : null;
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
    if (isPort(port) && !socketPath) {
      const number = Number(port);
      const found = (plan.ports[number] || []).find(([at, one]) => isReached(at, host) && stillHas(number, one));
      error = found ? refusal(found[1], `connects to ${host || "localhost"}:${port}`) : null;
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

  const { O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_APPEND } = fs.constants;
  function isReading(flags) {
    if (typeof flags === "number") {
      return (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND)) === 0;
    }
    return flags === undefined || flags === null || flags === "r" || flags === "rs";
  }
  // Function → the first of its paths that it changes, and the first that it does not.
  const changed = { rename: [0, 2], copyFile: [1, 2], cp: [1, 2], link: [1, 2], symlink: [1, 2] };
  const names = [...Object.keys(changed), "writeFile", "appendFile", "unlink", "rm", "rmdir", "truncate", "open"];
  names.push("createWriteStream", "mkdir", "chmod", "chown");
  const said = { rename: "renames or replaces", unlink: "removes", rm: "removes", rmdir: "removes", truncate: "truncates" };
  Object.assign(said, { link: "creates", symlink: "creates", mkdir: "creates" });
  Object.assign(said, { chmod: "changes the permissions of", chown: "changes the owner of" });
  function check(name, given) {
    if (name === "open" && (isReading(given[1]) || typeof given[1] === "function")) {
      return null;
    }
    for (const one of given.slice(...(changed[name] || [0, 1]))) {
      const file = one instanceof URL ? require("url").fileURLToPath(one) : Buffer.isBuffer(one) ? one.toString() : one;
      const isNothing = typeof file !== "string" || (name === "mkdir" && fs.existsSync(file));
      const owner = isNothing ? null : ownerOf(file) || (["rename", "rm", "rmdir"].includes(name) && ownerBelow(file));
      if (owner) {
        return refusal(owner, `${said[name] || "writes to"} ${file}`);
      }
    }
    return null;
  }
  for (const name of names) {
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
