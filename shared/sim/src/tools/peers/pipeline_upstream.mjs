// An upstream that answers a small object after 5 ms.
import http from 'node:http';

const MILLIS = 5;

const server = http.createServer((request, response) => {
  request.resume();
  setTimeout(() => {
    response.setHeader('content-type', 'application/json');
    response.end('{"id":"x","name":"y","attributes":{}}');
  }, MILLIS);
});
server.listen(0, '127.0.0.1', () => process.send({ port: server.address().port }));
// The end of the program that started it.
process.on('disconnect', () => process.exit(0));
