// The whole pipeline of a Node.js team: API, worker and an upstream as processes; tenants are created, become active, and
// are polled.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { SignJWT } from 'jose';
import { MongoClient } from 'mongodb';
import { Pool } from 'undici';
import { percentile, perSecond, rate, report } from './measure.mjs';

const TENANTS = 4000;
const CONNECTIONS = 64;
const POLLED_MILLIS = 5000;
const SECRET = 'secret-of-the-peer-secret-of-the-peer';
const NAME = 'NestJS with BullMQ';

const children = [];
process.on('exit', () => children.forEach((child) => child.kill('SIGKILL')));

/** Starts a script, and waits for the port that it listens on. */
async function start(script, variables) {
  const child = fork(new URL(script, import.meta.url), { env: { ...process.env, ...variables } });
  children.push(child);
  child.on('exit', () => process.exit(1));
  const [{ port }] = await once(child, 'message');
  return { pid: child.pid, url: `http://127.0.0.1:${port}` };
}

/** Resident memory, in units of 10^6 bytes. */
function memory({ pid }) {
  const [, kilobytes] = fs.readFileSync(`/proc/${pid}/status`, 'utf8').match(/VmRSS:\s+(\d+)/);
  return (Number(kilobytes) * 1024) / 1e6;
}

const upstream = await start('./pipeline_upstream.mjs', {});
const variables = { SECRET, UPSTREAM: upstream.url };
const api = await start('./pipeline_app.mjs', { ...variables, ROLE: 'api' });
const worker = await start('./pipeline_app.mjs', { ...variables, ROLE: 'worker' });

const database = (await new MongoClient(process.env.MONGODB_URI).connect()).db('peer');
await database.collection('users').insertOne({ sub: 'operator' });
const token = new SignJWT({}).setProtectedHeader({ alg: 'HS256' }).setSubject('operator').setExpirationTime('1h');
const authorization = `Bearer ${await token.sign(new TextEncoder().encode(SECRET))}`;
const headers = { authorization, 'content-type': 'application/json' };
const pool = new Pool(api.url, { connections: CONNECTIONS });

async function request(method, path, expected, body) {
  const response = await pool.request({ method, path, headers, body });
  const text = await response.body.text();
  if (response.statusCode !== expected) throw new Error(`${method} ${path}: ${response.statusCode} ${text}`);
}

const spans = [];
const began = performance.now();
const created = await rate(TENANTS, CONNECTIONS, async (number) => {
  const sent = performance.now();
  const body = JSON.stringify({ slug: `t-${number}`, name: `T ${number}`, plan: 'business' });
  await request('POST', '/tenants', 202, body);
  spans.push(performance.now() - sent);
});
report(`${NAME}: POST /tenants, ${CONNECTIONS} connections`, created, 'requests/s');
report(`${NAME}: POST /tenants, p99`, percentile(spans, 0.99), 'ms');

const tenants = database.collection('tenants');
while ((await tenants.countDocuments({ status: 'active' })) < TENANTS)
  await new Promise((resolve) => setTimeout(resolve, 20));
report(`${NAME}: tenants, until all are active`, perSecond(TENANTS, began), 'tenants/s');

let polls = 0;
const polling = performance.now();
await Promise.all(
  Array.from({ length: CONNECTIONS }, async () => {
    while (performance.now() - polling < POLLED_MILLIS) {
      await request('GET', '/tenants/t-1', 200);
      polls++;
    }
  }),
);
report(`${NAME}: GET /tenants/{slug}`, perSecond(polls, polling), 'requests/s');
report(`${NAME}: memory of the api`, memory(api), 'MB');
report(`${NAME}: memory of the worker`, memory(worker), 'MB');
process.exit(0);
