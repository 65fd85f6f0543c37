// graphile-worker on PostgreSQL with synchronous commits: as it comes, and with its local queue and batched completions.
import { Logger, makeWorkerUtils, run } from 'graphile-worker';
import pg from 'pg';
import { countdown, perSecond, rate, report } from './measure.mjs';

const JOBS = 20000;
/** Jobs without the tuning, which are slower. */
const FEWER_JOBS = 8000;
const SENDERS = 64;
const SLOTS = 200;
const NAME = 'graphile-worker';

const connectionString = process.env.POSTGRES_URI;
// It would print a line for each job.
const logger = new Logger(() => () => {});
const utils = await makeWorkerUtils({ connectionString, logger });
await utils.migrate();
const pool = new pg.Pool({ connectionString, max: SENDERS });

const tuned = {
  worker: {
    connectionString,
    concurrentJobs: SLOTS,
    maxPoolSize: 20,
    pollInterval: 200,
    localQueue: { size: 500, refetchDelay: { durationMs: 10 } },
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0,
  },
};

const enqueue = (jobs) =>
  rate(jobs, SENDERS, () => pool.query("select graphile_worker.add_job('noop', '{}'::json)"));

const drain = async (jobs, options) => {
  const { all, done } = countdown(jobs);
  const began = performance.now();
  const taskList = { noop: async () => done() };
  const runner = await run({ ...options, logger, noHandleSignals: true, taskList });
  await all;
  const drained = perSecond(jobs, began);
  await runner.stop();
  return drained;
};

report(`${NAME}: enqueue, one transaction each, ${SENDERS} senders`, await enqueue(JOBS), 'jobs/s');
report(`${NAME}, tuned: drain, ${SLOTS} slots`, await drain(JOBS, { preset: tuned }), 'jobs/s');
await enqueue(FEWER_JOBS);
const plain = { connectionString, concurrency: SLOTS, maxPoolSize: 20, pollInterval: 200 };
report(`${NAME}: drain, ${SLOTS} slots`, await drain(FEWER_JOBS, plain), 'jobs/s');
process.exit(0);
