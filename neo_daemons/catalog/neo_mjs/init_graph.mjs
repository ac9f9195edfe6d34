// Makes the graph database of a neo.mjs checkout, by the package's own storage code, so that the schema is its own.
// usage: node init_graph.mjs CHECKOUT DATABASE
import fs              from 'node:fs';
import path            from 'node:path';
import {pathToFileURL} from 'node:url';

const [home, dbPath] = process.argv.slice(2);
const load = file => import(pathToFileURL(path.join(home, file)).href);

const Neo = (await load('src/Neo.mjs')).default;
await load('src/core/_export.mjs');
await load('src/manager/Instance.mjs');
const SQLite = (await load('ai/graph/storage/SQLite.mjs')).default;

// Under another name first: a database whose making was cut off must not look like one.
const making = `${dbPath}.making`;
fs.rmSync(making, {force: true});
const storage = Neo.create(SQLite, {dbPath: making});
await storage.ready();
storage.db.close();
fs.renameSync(making, dbPath);
console.log(`created the graph database ${dbPath}`);
process.exit(0);
