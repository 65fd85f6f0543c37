use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use dezky_sim::{
    isolated_stores::FreshStores,
    ports::Port,
    process::{Process, Program},
    stores::{Mongo, Redis},
};
use mongodb::{
    Client, Collection,
    bson::{Document, doc},
    options::ClientOptions,
};
use redis::AsyncCommands as _;

async fn mongodb(uri: &str) -> Client {
    let mut options = ClientOptions::parse(uri).await.unwrap();
    options.server_selection_timeout = Some(Duration::from_secs(20));
    Client::with_options(options).unwrap()
}

async fn redis(url: &str) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(url).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

fn things(client: &Client) -> Collection<Document> {
    client.database("test").collection("things")
}

#[tokio::test]
async fn transactions_expire_after_five_seconds() {
    let directory = tempfile::tempdir().unwrap();
    let mongo = Mongo::start(directory.path()).await.unwrap();
    let client = mongodb(&mongo.uri).await;

    let mut session = client.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    let inserted = things(&client)
        .insert_one(doc! {})
        .session(&mut session)
        .await;
    let kept = session.commit_transaction().await;
    let question = doc! { "getParameter": 1, "transactionLifetimeLimitSeconds": 1 };
    let limit = client
        .database("admin")
        .run_command(question)
        .await
        .unwrap();

    inserted.unwrap();
    kept.unwrap();
    assert_eq!(limit.get_i32("transactionLifetimeLimitSeconds").unwrap(), 5);
    client.shutdown().immediate(true).await;
}

#[tokio::test]
async fn acknowledged_writes_survive_a_kill_of_mongodb() {
    let directory = tempfile::tempdir().unwrap();
    let mut mongo = Mongo::start(directory.path()).await.unwrap();
    let client = mongodb(&mongo.uri).await;
    things(&client).insert_one(doc! { "_id": 1 }).await.unwrap();

    mongo.kill().await;
    mongo.restart().await.unwrap();

    let found = things(&client).find_one(doc! { "_id": 1 }).await.unwrap();
    assert!(found.is_some());
    client.shutdown().immediate(true).await;
}

#[tokio::test]
async fn mongodb_restarts_with_its_data_on_another_port() {
    let directory = tempfile::tempdir().unwrap();
    let mut before = Mongo::start(directory.path()).await.unwrap();
    let client = mongodb(&before.uri).await;
    things(&client).insert_one(doc! { "_id": 1 }).await.unwrap();
    client.shutdown().immediate(true).await;
    before.stop().await;

    let after = Mongo::start(directory.path()).await.unwrap();

    assert_ne!(before.uri, after.uri);
    let client = mongodb(&after.uri).await;
    let found = things(&client).find_one(doc! { "_id": 1 }).await.unwrap();
    assert!(found.is_some());
    client.shutdown().immediate(true).await;
}

#[tokio::test]
async fn a_paused_store_does_not_respond_until_it_is_resumed() {
    let directory = tempfile::tempdir().unwrap();
    let store = Redis::start(directory.path()).await.unwrap();
    let mut connection = redis(&store.url).await;
    let _: () = connection.set("key", "value").await.unwrap();
    connection.set_response_timeout(Duration::from_millis(300));

    store.pause();
    let while_paused: redis::RedisResult<String> = connection.get("key").await;
    store.resume();

    assert!(while_paused.unwrap_err().is_timeout());
    let value: String = redis(&store.url).await.get("key").await.unwrap();
    assert_eq!(value, "value");
}

#[tokio::test]
async fn redis_is_empty_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = Redis::start(directory.path()).await.unwrap();
    let _: () = redis(&store.url).await.set("key", "value").await.unwrap();

    store.restart().await.unwrap();

    let value: Option<String> = redis(&store.url).await.get("key").await.unwrap();
    assert_eq!(value, None);
}

#[tokio::test]
async fn isolated_stores_have_unique_names_and_are_emptied() {
    let (one, other) = (FreshStores::new().unwrap(), FreshStores::new().unwrap());
    let client = mongodb(&one.mongodb_uri).await;
    let mut connection = redis(&one.redis_url).await;
    let key = format!("{}:ready:provisioning", one.redis_prefix);
    let collection: Collection<Document> = client.database(&one.database).collection("things");
    collection.insert_one(doc! {}).await.unwrap();
    let _: () = connection.set(&key, "value").await.unwrap();
    let (database, others) = (one.database.clone(), other.database.clone());

    drop(one);

    assert_ne!(database, others);
    let things: Collection<Document> = client.database(&database).collection("things");
    assert_eq!(things.count_documents(doc! {}).await.unwrap(), 0);
    let left: Option<String> = connection.get(&key).await.unwrap();
    assert_eq!(left, None);
    client.shutdown().immediate(true).await;
}

#[tokio::test]
async fn a_failed_start_is_reported_with_the_end_of_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("storage.bson"), "not a database").unwrap();

    let error = Mongo::start(&data).await.unwrap_err().to_string();

    assert!(error.contains("mongodb exited unexpectedly"), "{error}");
    assert!(error.contains("storage engine metadata"), "{error}");
}

#[test]
fn a_reserved_port_is_not_assigned_again() {
    let claimed = Port::free().unwrap();

    let another = Port::prefer(claimed.number).unwrap();
    let number = claimed.number;
    assert_ne!(another.number, number);
    drop(claimed);

    assert_eq!(Port::prefer(number).unwrap().number, number);
}

#[tokio::test]
async fn a_child_process_ends_when_it_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let child = sleeper(directory.path());
    let id = read_id(directory.path());

    drop(child);

    until_gone(&id);
}

#[test]
fn a_child_process_is_killed_with_its_parent() {
    // Runs itself again as the parent, which starts the child and is then killed.
    const PARENT: &str = "DEZKY_TEST_IS_THE_PARENT";
    if let Ok(directory) = dezky_shared::platform::config::required::<String>(PARENT) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let _child = sleeper(Path::new(&directory));
            std::future::pending::<()>().await;
        });
    }
    let directory = tempfile::tempdir().unwrap();
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "stores::a_child_process_is_killed_with_its_parent",
        ])
        .env(PARENT, directory.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let id = read_id(directory.path());

    parent.kill().unwrap();
    parent.wait().unwrap();

    until_gone(&id);
}

/// A process that writes its pid to a file and sleeps.
fn sleeper(directory: &Path) -> Process {
    let script = format!(
        "echo $$ > {0}/id.new && mv {0}/id.new {0}/id && exec sleep 600",
        directory.display()
    );
    Process::start(Program {
        name: "sleeper".to_owned(),
        path: "/bin/sh".into(),
        arguments: vec!["-c".to_owned(), script],
        environment: Vec::new(),
        log: directory.join("log"),
    })
    .unwrap()
}

fn read_id(directory: &Path) -> String {
    let file = directory.join("id");
    wait_until(|| file.exists());
    std::fs::read_to_string(file).unwrap().trim().to_owned()
}

/// Waits until the process is gone, or dead and not yet reaped.
fn until_gone(id: &str) {
    wait_until(
        || match std::fs::read_to_string(format!("/proc/{id}/stat")) {
            Ok(stat) => stat.contains(") Z "),
            Err(_) => true,
        },
    );
}

fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "timeout");
        std::thread::sleep(Duration::from_millis(10));
    }
}
