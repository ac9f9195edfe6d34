// Asks whether the bridge keeps up with the log that it tails: exit code 1 if it is behind the end of the log and has
// made no progress for half a minute. Each call is a process of its own, so it remembers in a file what it saw.
// usage: node healthcheck.mjs
import fs       from 'node:fs';
import os       from 'node:os';
import path     from 'node:path';
import Database from 'better-sqlite3';

const
    STUCK_MS = 30_000,
    position = path.join(process.env.NEO_AI_DAEMON_DIR, 'lastSyncId'),
    memory   = path.join(os.tmpdir(), 'bridge-healthcheck.json');

/** @returns {number|null} what a file holds; null if it is missing or holds no number */
const read = (file, parse) => {
    try {
        return parse(fs.readFileSync(file, 'utf8'));
    } catch {
        return null;
    }
};

const
    database = new Database(process.env.NEO_MEMORY_DB_PATH, {readonly: true, fileMustExist: true}),
    end      = database.prepare('SELECT MAX(log_id) FROM GraphLog').pluck().get() ?? 0,
    now      = Date.now(),
    seen     = read(memory, JSON.parse) ?? {reached: null, first: end, since: now},
    // Until it has processed an entry it has no position. It begins at the end of the log.
    reached  = read(position, text => Number.parseInt(text, 10)) ?? seen.first;

if (reached >= end || reached !== seen.reached) {
    seen.since = now;
}
seen.reached = reached;
fs.writeFileSync(memory, JSON.stringify(seen));

if (now - seen.since > STUCK_MS) {
    console.error(`at ${reached}, ${end - reached} behind the end of the log, without progress for ${now - seen.since} ms`);
    process.exit(1);
}
