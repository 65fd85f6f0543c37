//! Sign-in to a provisioned app by `openid-client`, the OIDC client of many portals.

use std::{
    fs,
    process::{Command, Stdio},
};

use dezky_shared::app::App;
use dezky_sim::{authentik::SESSION_COOKIE, relying_party::RelyingParty, tools::portal_tools};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use super::SECRET;
use crate::world::World;

const SCRIPT: &str = include_str!("openid_client.mjs");

/// Runs the script with these arguments. Returns the claims of the member; panics with its output if it fails.
fn run(arguments: &[String]) -> Value {
    let tools = portal_tools().unwrap();
    let directory = TempDir::new().unwrap();
    let script = directory.path().join("openid_client.mjs");
    fs::write(&script, SCRIPT).unwrap();
    tools.link_packages(directory.path()).unwrap();
    let mut command: Command = tools.openapi.node();
    command.arg(script).args(arguments).stdin(Stdio::null());
    let ended = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{stderr}");
    serde_json::from_slice(&ended.stdout).unwrap()
}

impl World {
    /// The cookie of a browser in which this user has signed in at the identity provider.
    fn cookie_of(&self, username: &str) -> String {
        let session = self.upstreams.authentik.add_session(self.user(username).pk);
        format!("{SESSION_COOKIE}={session}")
    }

    /// Runs the script as the client of the app, with the browsers of a member and of a stranger.
    async fn sign_in_by_openid_client(&self, app: &App, member: &str, stranger: &str) -> Value {
        let RelyingParty {
            issuer,
            client_id,
            redirect_uri,
            ..
        } = self.client_of(app, SECRET);
        let arguments = [
            issuer,
            client_id,
            SECRET.to_owned(),
            redirect_uri,
            self.cookie_of(member),
            self.cookie_of(stranger),
        ];
        spawn_blocking(move || run(&arguments)).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openid_client_signs_a_member_in_to_an_app_and_no_stranger() {
    let world = World::start().await;
    let tenant = world.active_tenant("acme", &[]).await;
    world.add_member("acme", "ada@acme.test");
    world.upstreams.authentik.add_user("eve@other.test", &[]);
    let app = world.active_app(&tenant, "wiki").await;

    let signed_in = world
        .sign_in_by_openid_client(&app, "ada@acme.test", "eve@other.test")
        .await;

    let ada = world.user("ada@acme.test");
    assert_eq!(
        signed_in,
        json!({ "sub": ada.uuid, "email": "ada@acme.test" })
    );
    world.stop().await;
}
