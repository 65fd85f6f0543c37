// pg-boss on PostgreSQL with synchronous commits.
import * as module from 'pg-boss';
import { countdown, perSecond, rate, report } from './measure.mjs';

const JOBS = 8000;
const SENDERS = 64;
const WORKERS = 4;
/** Jobs of a worker at once. It fetches the next ones after half a second, the shortest interval there is. */
const BATCH = 500;
const NAME = 'pg-boss';

const PgBoss = module.PgBoss ?? module.default;
const options = { connectionString: process.env.POSTGRES_URI, max: 20, supervise: false, schedule: false };
const boss = new PgBoss(options);
boss.on('error', console.error);
await boss.start();
await boss.createQueue('noop');

const enqueued = await rate(JOBS, SENDERS, () => boss.send('noop', {}));
report(`${NAME}: enqueue, ${SENDERS} senders`, enqueued, 'jobs/s');

const { all, done } = countdown(JOBS);
const began = performance.now();
const work = async (jobs) => jobs.forEach(done);
const each = { batchSize: BATCH, pollingIntervalSeconds: 0.5 };
for (let worker = 0; worker < WORKERS; worker++) await boss.work('noop', each, work);
await all;
report(`${NAME}: drain, ${WORKERS} workers with batches of ${BATCH}`, perSecond(JOBS, began), 'jobs/s');
process.exit(0);
