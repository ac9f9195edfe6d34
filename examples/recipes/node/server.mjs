// Counts visits, in a file. SIGTERM ends it after the requests that are being answered.
import {createServer} from 'node:http';
import {existsSync, readFileSync, writeFileSync} from 'node:fs';

const {HOST, PORT, STORE} = process.env;
let visits = existsSync(STORE) ? JSON.parse(readFileSync(STORE, 'utf8')).visits : 0;

const server = createServer((request, response) => {
    if (request.url === '/visit') {
        visits += 1;
        writeFileSync(STORE, JSON.stringify({visits}));
    }
    response.writeHead(200, {'content-type': 'application/json'});
    response.end(JSON.stringify({visits}));
});

server.listen(Number(PORT), HOST, () => console.log(`listening on ${HOST}:${PORT}`));
process.on('SIGTERM', () => {
    server.close();
    server.closeAllConnections();
});
