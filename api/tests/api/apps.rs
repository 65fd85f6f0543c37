//! Apps: settings, secrets, limits and what the view shows. The worker's side is in its own tests.

mod alias;
mod changing;
mod creating;
mod health;
mod secrets;

use bson::doc;
use dezky_shared::{
    app::App,
    queue::{job::Job, secret_box::EncryptionKeys},
};
use futures::TryStreamExt as _;
use serde_json::{Value, json};

use crate::{app::TestApp, client::Reply};

/// A new app with this slug.
fn new(slug: &str) -> Value {
    json!({ "name": "Wiki", "slug": slug, "redirectUris": ["https://wiki.demo.test/callback"] })
}

async fn create(app: &TestApp, body: &Value) -> Reply {
    app.owner().post("/tenants/demo/apps", body).await
}

fn path_of(reply: &Reply) -> String {
    format!("/tenants/demo/apps/{}", reply.body["id"].as_str().unwrap())
}

/// The stored app of this slug.
async fn stored(app: &TestApp, slug: &str) -> App {
    let apps = app.state.store.collection::<App>("apps");
    apps.find_one(doc! { "slug": slug }).await.unwrap().unwrap()
}

/// Jobs of this kind, oldest first.
async fn jobs(app: &TestApp, kind: &str) -> Vec<Job> {
    let jobs = app.state.store.collection::<Job>("jobs");
    let found = jobs.find(doc! { "kind": kind }).sort(doc! { "_id": 1 });
    found.await.unwrap().try_collect().await.unwrap()
}

/// The client secret that a job carries.
fn carried(app: &TestApp, job: &Job) -> Option<String> {
    let keys: &EncryptionKeys = &app.config.encryption_keys;
    let encrypted = job.secrets.as_ref()?;
    Some(keys.decrypt(job.id, encrypted).unwrap())
}
