// BullMQ whose jobs carry ids, with the state of each job in MongoDB: an insert, then running, then succeeded, each with
// majority and journalled writes.
import { Queue, Worker } from 'bullmq';
import { MongoClient } from 'mongodb';
import { countdown, perSecond, rate, report } from './measure.mjs';

const JOBS = 8000;
const SENDERS = 64;
const SLOTS = 200;
const NAME = 'BullMQ with MongoDB';

const durable = { writeConcern: { w: 'majority', j: true } };
const { hostname: host, port } = new URL(process.env.REDIS_URL);
const connection = { host, port: Number(port) };
const queue = new Queue('durable', { connection });
const mongo = await new MongoClient(process.env.MONGODB_URI, { maxPoolSize: 100 }).connect();
const jobs = mongo.db('peer').collection('jobs');

const enqueued = await rate(JOBS, SENDERS, async (id) => {
  const job = { _id: id, state: 'queued', attempts: 0, createdAt: new Date() };
  await jobs.insertOne(job, durable);
  await queue.add('noop', { id }, { removeOnComplete: true, attempts: 5 });
});
report(`${NAME}: enqueue, ${SENDERS} senders`, enqueued, 'jobs/s');

const { all, done } = countdown(JOBS);
const began = performance.now();
const work = async ({ data: { id } }) => {
  const running = { $set: { state: 'running', startedAt: new Date() }, $inc: { attempts: 1 } };
  await jobs.updateOne({ _id: id, state: 'queued' }, running, durable);
  const succeeded = { $set: { state: 'succeeded', finishedAt: new Date() } };
  await jobs.updateOne({ _id: id, state: 'running' }, succeeded, durable);
};
const worker = new Worker('durable', work, { connection, concurrency: SLOTS });
worker.on('completed', done);
await all;
report(`${NAME}: drain, ${SLOTS} slots`, perSecond(JOBS, began), 'jobs/s');
process.exit(0);
