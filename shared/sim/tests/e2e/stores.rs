//! Flushing, stopping and killing of the stores.

use std::time::Duration;

use dezky_sim::proxy::Proxy;
use redis::aio::MultiplexedConnection;

use crate::stack::{OwnStores, Stack};

async fn wipe(url: &str) {
    let client = redis::Client::open(url).unwrap();
    let mut connection: MultiplexedConnection =
        client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("FLUSHALL")
        .exec_async(&mut connection)
        .await
        .unwrap();
}

#[tokio::test]
async fn flushing_redis_at_any_moment_loses_and_duplicates_nothing() {
    let stores = OwnStores::start().await;
    let stack = Stack::start_on(&stores).await;
    let slugs: Vec<String> = (0..12).map(|n| format!("acme{n}")).collect();

    for slug in &slugs {
        stack.create(slug).await;
        wipe(&stores.redis.url).await;
    }
    for slug in &slugs {
        stack.until_status(slug, "active").await;
        wipe(&stores.redis.url).await;
    }

    for slug in &slugs {
        stack.assert_one_of_everything(slug);
    }
}

#[tokio::test]
async fn jobs_run_without_redis() {
    let mut stores = OwnStores::start().await;
    let stack = Stack::start_on(&stores).await;

    stores.redis.kill().await;
    stack.create("acme").await;
    stack.until_status("acme", "active").await;
    stores.redis.restart().await.unwrap();
    stack.create("later").await;
    stack.until_status("later", "active").await;

    stack.assert_one_of_everything("acme");
    stack.assert_one_of_everything("later");
}

#[tokio::test]
async fn an_unresponsive_redis_delays_nothing() {
    let stores = OwnStores::start().await;
    let stack = Stack::start_on(&stores).await;

    stores.redis.pause();
    stack.create("acme").await;
    stack.until_status("acme", "active").await;
    stores.redis.resume();

    stack.assert_one_of_everything("acme");
}

#[tokio::test]
async fn killing_the_database_loses_and_duplicates_nothing() {
    let mut stores = OwnStores::start().await;
    let stack = Stack::start_on(&stores).await;
    let slugs: Vec<String> = (0..6).map(|n| format!("acme{n}")).collect();

    for slug in &slugs {
        stack.create(slug).await;
    }
    tokio::time::sleep(Duration::from_millis(30)).await;
    stores.mongo.kill().await;
    stores.mongo.restart().await.unwrap();

    for slug in &slugs {
        stack.until_status(slug, "active").await;
        stack.assert_one_of_everything(slug);
    }
}

#[tokio::test]
async fn a_worker_retries_its_start_when_the_database_fails() {
    let stores = OwnStores::start().await;
    let mut stack = Stack::start_on(&stores).await;
    stack.worker.kill().await;
    let address = stores.mongo.uri.trim_start_matches("mongodb://");
    let proxy = Proxy::to(address.split('/').next().unwrap()).await.unwrap();
    proxy.lose_the_answer_to(|request| {
        let command = b"createIndexes";
        request.windows(command.len()).any(|part| part == command)
    });

    let mut worker = stack.worker_behind(&proxy);
    stack.create("acme").await;
    stack.until_status("acme", "active").await;

    assert!(!proxy.is_armed());
    worker.expect_running().unwrap();
}
