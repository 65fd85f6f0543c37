//! Peers: the usual queues and frameworks of Node.js, measured right after ours on stores of their own.

use std::{fs, path::Path};

use anyhow::{Context as _, ensure};
use dezky_sim::{
    bench_output::Figure,
    stores::{Mongo, Postgres, Redis},
    tools::{PeerTools, peer_tools},
    workspace,
};
use tokio::process::Command;

use super::run;

/// A peer.
struct Peer {
    name: &'static str,
    /// Its program.
    script: &'static str,
    storage: Storage,
    /// The benchmark of ours that it is compared with.
    after: &'static str,
}

/// Stores of a peer.
enum Storage {
    MongoDbAndRedis,
    PostgreSql,
}

const PEERS: [Peer; 4] = [
    Peer {
        name: "BullMQ with MongoDB",
        script: "bullmq_mongodb.mjs",
        storage: Storage::MongoDbAndRedis,
        after: "engine",
    },
    Peer {
        name: "graphile-worker",
        script: "graphile_worker.mjs",
        storage: Storage::PostgreSql,
        after: "engine",
    },
    Peer {
        name: "pg-boss",
        script: "pg_boss.mjs",
        storage: Storage::PostgreSql,
        after: "engine",
    },
    Peer {
        name: "NestJS with BullMQ",
        script: "pipeline.mjs",
        storage: Storage::MongoDbAndRedis,
        after: "service",
    },
];

/// Figures of peers, each with ours that it is compared with.
const COUNTERPARTS: [(&str, &str); 13] = [
    ("BullMQ with MongoDB: enqueue, 64 senders", ENQUEUE),
    ("BullMQ with MongoDB: drain, 200 slots", DRAIN),
    (
        "graphile-worker: enqueue, one transaction each, 64 senders",
        ENQUEUE,
    ),
    ("graphile-worker, tuned: drain, 200 slots", DRAIN),
    ("graphile-worker: drain, 200 slots", DRAIN),
    ("pg-boss: enqueue, 64 senders", ENQUEUE),
    ("pg-boss: drain, 4 workers with batches of 500", DRAIN),
    (
        "NestJS with BullMQ: POST /tenants, 64 connections",
        "POST /tenants, 64 connections",
    ),
    (
        "NestJS with BullMQ: POST /tenants, p99",
        "POST /tenants, 64 connections, p99",
    ),
    (
        "NestJS with BullMQ: tenants, until all are active",
        "tenants, from the first POST until all are active",
    ),
    (
        "NestJS with BullMQ: GET /tenants/{slug}",
        "GET /tenants/{slug}, 64 connections",
    ),
    (
        "NestJS with BullMQ: memory of the api",
        "memory after the run: api",
    ),
    (
        "NestJS with BullMQ: memory of the worker",
        "memory after the run: worker",
    ),
];
const ENQUEUE: &str = "enqueue, 64 senders";
const DRAIN: &str = "drain, 200 slots";

/// A peer that could not be measured.
#[derive(Debug)]
pub(super) struct Unavailable {
    pub(super) name: &'static str,
    pub(super) reason: String,
}

/// Results of peers.
#[derive(Debug, Default)]
pub(super) struct MeasuredPeers {
    pub(super) figures: Vec<Figure>,
    pub(super) unavailable: Vec<Unavailable>,
}

/// The figure of ours that one of a peer is compared with.
pub(super) fn counterpart(of_peer: &str) -> Option<&'static str> {
    let found = COUNTERPARTS.iter().find(|(name, _)| *name == of_peer);
    found.map(|(_, ours)| *ours)
}

/// Measures the peers of a benchmark. One that cannot be had, or fails, stops nothing.
pub(super) async fn measure_after(benchmark: &str) -> MeasuredPeers {
    let mut measured = MeasuredPeers::default();
    for peer in PEERS.iter().filter(|peer| peer.after == benchmark) {
        println!("Peer {}: starting its stores", peer.name);
        match measure(peer).await {
            Ok(figures) => measured.figures.extend(figures),
            Err(error) => {
                println!("{} is not available: {error:#}", peer.name);
                // The causes name paths of this machine, which do not belong in a document.
                measured.unavailable.push(Unavailable {
                    name: peer.name,
                    reason: error.to_string(),
                });
            }
        }
    }
    measured
}

async fn measure(peer: &Peer) -> anyhow::Result<Vec<Figure>> {
    let tools = peer_tools().context("its packages cannot be installed")?;
    let directory = tempfile::tempdir_in(workspace::dev());
    let directory = directory.context("its directory cannot be created")?;
    let directory = directory.path();
    let command = command_of(peer, &tools, &directory.join("scripts"));
    let mut command = command.context("its program cannot be written")?;
    let measured = match peer.storage {
        Storage::PostgreSql => {
            let log = directory.join("postgres.log");
            let postgres = Postgres::start(&log).await;
            let postgres = postgres.context("PostgreSQL cannot be started")?;
            command.env("POSTGRES_URI", &postgres.uri);
            run(command).await
        }
        Storage::MongoDbAndRedis => {
            let mongo = Mongo::start(&directory.join("mongodb")).await;
            let mongo = mongo.context("MongoDB cannot be started")?;
            let redis = Redis::start(&directory.join("redis")).await;
            let redis = redis.context("Redis cannot be started")?;
            command.env("MONGODB_URI", &mongo.uri);
            command.env("REDIS_URL", &redis.url);
            run(command).await
        }
    };
    let measured = measured.context("its program cannot be run")?;
    ensure!(measured.is_success, "its program failed");
    Ok(measured.figures)
}

fn command_of(peer: &Peer, tools: &PeerTools, scripts: &Path) -> anyhow::Result<Command> {
    fs::create_dir(scripts)?;
    Ok(tools.command(scripts, peer.script)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_comparison_is_with_one_of_the_peers() {
        for (of_peer, _) in COUNTERPARTS {
            let is_known = PEERS.iter().any(|peer| of_peer.starts_with(peer.name));
            assert!(is_known, "{of_peer}");
        }
    }
}
