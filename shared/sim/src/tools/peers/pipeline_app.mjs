// NestJS with Fastify, Mongoose and BullMQ. `POST /tenants` stores a tenant and queues a job; the worker sends six calls to
// the upstreams, two to each, and stores the state of each; `GET /tenants/:slug` is polled by portals. ROLE is `api` or
// `worker`. Decorators are applied as functions, so that nothing has to be compiled.
import 'reflect-metadata';
import { getQueueToken, BullModule, Processor, WorkerHost } from '@nestjs/bullmq';
import { Body, Controller, Get, HttpCode, Inject, Module, NotFoundException, Param, Post, UnauthorizedException, UseGuards } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { getModelToken, MongooseModule } from '@nestjs/mongoose';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { jwtVerify } from 'jose';
import { Schema } from 'mongoose';
import { Pool } from 'undici';

const { MONGODB_URI, REDIS_URL, ROLE, SECRET, UPSTREAM } = process.env;
const SLOTS = 64;
const UPSTREAMS = ['authentik', 'stalwart', 'ocis'];
const DATABASE = 'peer';

const secret = new TextEncoder().encode(SECRET);
const upstream = new Pool(UPSTREAM, { connections: SLOTS });

const pending = Object.fromEntries(UPSTREAMS.map((name) => [name, 'pending']));
const tenantSchema = new Schema(
  {
    slug: { type: String, unique: true },
    name: String,
    plan: String,
    status: { type: String, default: 'pending' },
    provisioningStatus: { type: Object, default: pending },
  },
  { collection: 'tenants', timestamps: true },
);
const userSchema = new Schema({ sub: { type: String, unique: true } }, { collection: 'users' });

/** Applies decorators of a class, of its constructor's parameters, and of its methods. */
function decorate(target, { all = [], parameters = [], methods = {} }) {
  parameters.forEach((token, index) => Inject(token)(target, undefined, index));
  for (const [name, { decorators, parameters: own = [] }] of Object.entries(methods)) {
    own.forEach((decorator, index) => decorator(target.prototype, name, index));
    const descriptor = Object.getOwnPropertyDescriptor(target.prototype, name);
    for (const decorator of decorators) decorator(target.prototype, name, descriptor);
  }
  for (const decorator of all) decorator(target);
  return target;
}

class Guard {
  constructor(users) {
    this.users = users;
  }

  async canActivate(context) {
    const token = context.switchToHttp().getRequest().headers.authorization?.slice('Bearer '.length);
    const verified = await jwtVerify(token ?? '', secret).catch(() => {
      throw new UnauthorizedException();
    });
    return (await this.users.findOne({ sub: verified.payload.sub }).lean()) !== null;
  }
}
decorate(Guard, { parameters: [getModelToken('User')] });

class Tenants {
  constructor(tenants, queue) {
    this.tenants = tenants;
    this.queue = queue;
  }

  async create({ slug, name, plan }) {
    const tenant = await this.tenants.create({ slug, name, plan });
    const options = { attempts: 12, backoff: { type: 'exponential', delay: 2000 }, removeOnComplete: true };
    await this.queue.add('provision', { slug }, options);
    return tenant;
  }

  async find(slug) {
    const tenant = await this.tenants.findOne({ slug }).lean();
    if (!tenant) throw new NotFoundException();
    return tenant;
  }
}
decorate(Tenants, {
  all: [Controller('tenants'), UseGuards(Guard)],
  parameters: [getModelToken('Tenant'), getQueueToken('provision')],
  methods: {
    create: { decorators: [Post(), HttpCode(202)], parameters: [Body()] },
    find: { decorators: [Get(':slug')], parameters: [Param('slug')] },
  },
});

class Provision extends WorkerHost {
  constructor(tenants) {
    super();
    this.tenants = tenants;
  }

  async process({ data: { slug } }) {
    await Promise.all(
      UPSTREAMS.map(async (name) => {
        // One to look, one to create.
        await call(`/${name}`);
        await call(`/${name}`);
        await this.tenants.updateOne({ slug }, { $set: { [`provisioningStatus.${name}`]: 'ok' } });
      }),
    );
    await this.tenants.updateOne({ slug, status: 'pending' }, { $set: { status: 'active' } });
  }
}
decorate(Provision, {
  all: [Processor('provision', { concurrency: SLOTS })],
  parameters: [getModelToken('Tenant')],
});

async function call(path) {
  const headers = { 'content-type': 'application/json' };
  const response = await upstream.request({ method: 'POST', path, body: '{}', headers });
  await response.body.text();
}

const { hostname: host, port } = new URL(REDIS_URL);
const durable = { w: 'majority', j: true };
const isApi = ROLE === 'api';
class App {}
Module({
  imports: [
    MongooseModule.forRoot(MONGODB_URI, { dbName: DATABASE, maxPoolSize: 100, writeConcern: durable }),
    MongooseModule.forFeature([
      { name: 'Tenant', schema: tenantSchema },
      { name: 'User', schema: userSchema },
    ]),
    BullModule.forRoot({ connection: { host, port: Number(port) } }),
    BullModule.registerQueue({ name: 'provision' }),
  ],
  controllers: isApi ? [Tenants] : [],
  providers: isApi ? [Guard] : [Provision],
})(App);

const app = await NestFactory.create(App, new FastifyAdapter(), { logger: ['error'] });
await app.listen(0, '127.0.0.1');
process.send({ port: app.getHttpServer().address().port });
// The end of the program that started it.
process.on('disconnect', () => process.exit(0));
