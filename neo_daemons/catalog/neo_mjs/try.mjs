// Tries an installed neo.mjs with this Node.js: its SQLite binding, the packages that its daemons load, its own storage.
// usage: node try.mjs DIRECTORY (one with node_modules/neo.mjs). What is wrong is one line, and exit code 1.
import {createRequire}  from 'node:module';
import path             from 'node:path';
import {pathToFileURL}  from 'node:url';

const home = path.join(process.argv[2], 'node_modules', 'neo.mjs');
const require = createRequire(path.join(home, 'package.json'));

function say(error) {
    const text = String(error?.message ?? error);

    if (text.includes('Could not locate the bindings file')) {
        return "its SQLite binding was not built because npm ran no install scripts; see ignore-scripts in npm's settings";
    }

    return text.includes('NODE_MODULE_VERSION')
        ? `its SQLite binding was built for a different Node.js than ${process.version} (${process.execPath})`
        : text.split('\n')[0];
}

try {
    const Database = require('better-sqlite3');
    new Database(':memory:').prepare('SELECT 1').get();
    ['commander', 'dotenv', 'fs-extra', 'ws'].forEach(name => require.resolve(name));

    for (const file of ['src/Neo.mjs', 'src/core/_export.mjs', 'ai/config.mjs', 'ai/graph/storage/SQLite.mjs']) {
        await import(pathToFileURL(path.join(home, file)).href);
    }
} catch (error) {
    console.error(say(error));
    process.exit(1);
}
process.exit(0);
