//! A `redis-server` without persistence: the control plane stores only hints in Redis.

use std::{fs, path::Path};

use nix::sys::signal::Signal;

use super::{STOP_TIMEOUT, until_ready};
use crate::{
    ports::Port,
    process::{Process, Program},
    tools,
};

/// A running Redis. Dropping it stops the server.
#[derive(Debug)]
pub struct Redis {
    /// Connection URL.
    pub url: String,
    /// The server process.
    pub process: Process,
    _port: Port,
}

impl Redis {
    /// Starts a server that works in `directory`, on any free port.
    pub async fn start(directory: &Path) -> anyhow::Result<Self> {
        Self::start_on(Port::free()?, directory, &directory.join("redis.log")).await
    }

    /// Starts a server on `port` that logs to `log`.
    pub async fn start_on(port: Port, directory: &Path, log: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(directory)?;
        let process = Process::start(Program {
            name: "redis".to_owned(),
            path: tools::redis_server()?,
            arguments: arguments(&port, directory),
            environment: Vec::new(),
            log: log.to_owned(),
        })?;
        let mut redis = Self {
            url: format!("redis://127.0.0.1:{}/", port.number),
            process,
            _port: port,
        };
        redis.until_ready_to_serve().await?;
        Ok(redis)
    }

    /// Kills the server, as in a crash. Its data are lost.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Stops the server. Its data are lost.
    pub async fn stop(&mut self) {
        self.process.stop(STOP_TIMEOUT).await;
    }

    /// Restarts the server, empty, on the same port.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.process.restart().await?;
        self.until_ready_to_serve().await
    }

    /// Suspends the server (SIGSTOP): connections stay open without responses.
    pub fn pause(&self) {
        self.process.signal(Signal::SIGSTOP);
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.process.signal(Signal::SIGCONT);
    }

    async fn until_ready_to_serve(&mut self) -> anyhow::Result<()> {
        let client = redis::Client::open(self.url.as_str())?;
        until_ready(&mut self.process, async || ping(&client).await.is_ok()).await
    }
}

async fn ping(client: &redis::Client) -> redis::RedisResult<()> {
    let mut connection = client.get_multiplexed_async_connection().await?;
    redis::cmd("PING").query_async(&mut connection).await
}

fn arguments(port: &Port, directory: &Path) -> Vec<String> {
    let port = port.number.to_string();
    let directory = directory.display().to_string();
    [
        "--bind",
        "127.0.0.1",
        "--port",
        &port,
        "--dir",
        &directory,
        "--save",
        "",
        "--appendonly",
        "no",
    ]
    .map(str::to_owned)
    .to_vec()
}
