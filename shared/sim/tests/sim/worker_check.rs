//! `dezky-worker check`: one line for each check, and an exit status.

use std::{net::SocketAddr, process::Output};

use dezky_sim::{
    authentik::AuthentikSim,
    dns::DnsSim,
    isolated_stores::{FreshStores, binary},
    issuer::PORTAL,
    ocis::OcisSim,
    stalwart::StalwartSim,
};
use tokio::process::Command;

/// The upstreams of a worker.
struct Upstreams {
    stores: FreshStores,
    authentik: AuthentikSim,
    stalwart: StalwartSim,
    ocis: OcisSim,
    dns: DnsSim,
}

impl Upstreams {
    async fn start() -> Self {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let authentik = AuthentikSim::start(any_port).await.unwrap();
        authentik.set_recovery_flow(true);
        Self {
            stores: FreshStores::new().unwrap(),
            authentik,
            stalwart: StalwartSim::start(any_port).await.unwrap(),
            ocis: OcisSim::start(any_port).await.unwrap(),
            dns: DnsSim::start(any_port).await.unwrap(),
        }
    }

    /// Runs the command. `changed` overrides variables.
    async fn check(&self, changed: &[(&str, &str)]) -> (bool, String) {
        let variables = [
            ("MONGODB_URI", self.stores.mongodb_uri.as_str()),
            ("MONGODB_DATABASE", &self.stores.database),
            ("REDIS_URL", &self.stores.redis_url),
            ("AUTHENTIK_API_URL", &self.authentik.api_url()),
            ("AUTHENTIK_API_TOKEN", AuthentikSim::TOKEN),
            ("STALWART_API_URL", &self.stalwart.server.url),
            ("STALWART_API_TOKEN", StalwartSim::TOKEN),
            ("OCIS_API_URL", &self.ocis.server.url),
            ("OCIS_API_USER", OcisSim::USER),
            ("OCIS_API_PASSWORD", OcisSim::PASSWORD),
            ("DNS_RESOLVERS", &self.dns.address.to_string()),
        ];
        let output = worker(&["check"], &variables, changed).await;
        let text = String::from_utf8(output.stdout).unwrap();
        for secret in [AuthentikSim::TOKEN, StalwartSim::TOKEN, OcisSim::PASSWORD] {
            assert!(!text.contains(secret), "{text}");
        }
        (output.status.success(), text)
    }
}

async fn worker(
    arguments: &[&str],
    variables: &[(&str, &str)],
    changed: &[(&str, &str)],
) -> Output {
    let mut command = Command::new(binary("dezky-worker").unwrap());
    command.args(arguments).env_clear();
    command.envs(variables.iter().chain(changed).copied());
    command.kill_on_drop(true).output().await.unwrap()
}

fn lines_of<'text>(state: &str, text: &'text str) -> Vec<&'text str> {
    let lines = text.lines();
    lines
        .filter(|line| line.split(' ').next() == Some(state))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_prints_each_check_and_fails_if_one_does() {
    let upstreams = Upstreams::start().await;

    let record = "v=spf1 ip4:192.0.2.0/24 -all";
    upstreams
        .dns
        .add("spf.provider.test", "TXT", record)
        .unwrap();

    let (succeeded, text) = upstreams
        .check(&[("MAIL_SPF_INCLUDE", "spf.provider.test")])
        .await;
    assert!(succeeded, "{text}");
    assert!(text.contains("ok       dns        MAIL_SPF_INCLUDE at "));
    for subject in ["mongodb", "redis", "authentik", "stalwart", "ocis", "dns"] {
        let named = lines_of("ok", &text)
            .iter()
            .any(|line| line.split_whitespace().nth(1) == Some(subject));
        assert!(named, "{subject}: {text}");
    }
    assert!(text.ends_with(" ok, 0 failed, 0 unknown\n"), "{text}");

    upstreams.authentik.change(|state| {
        let provider = state.setup.providers.get_mut(PORTAL).unwrap();
        "hashed_user_id".clone_into(&mut provider.sub_mode);
    });
    upstreams.stalwart.withhold("sysDomainCreate");
    upstreams.ocis.server.faults.go_down();
    let (succeeded, text) = upstreams.check(&[("STALWART_TIMEOUT_SECONDS", "5")]).await;
    assert!(!succeeded, "{text}");
    let failed = lines_of("failed", &text);
    assert_eq!(failed.len(), 3, "{text}");
    assert!(failed[0].contains("authentik  subject mode of dezky-portal: it is hashed_user_id"));
    assert!(failed[1].contains("stalwart   permissions to manage: 1 of 21 are missing"));
    assert!(failed[2].contains("ocis       credentials: "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_stores_and_disabled_integrations_have_their_lines() {
    let upstreams = Upstreams::start().await;

    let (succeeded, text) = upstreams
        .check(&[
            ("MONGODB_URI", "mongodb://127.0.0.1:1/"),
            ("OCIS_PROVISIONING_ENABLED", "false"),
            // Not published.
            ("MAIL_SPF_INCLUDE", "spf.provider.test"),
            // Not among the applications of this Authentik.
            (
                "AUTHENTIK_ISSUERS",
                "https://auth.test/application/o/another/",
            ),
        ])
        .await;

    assert!(!succeeded, "{text}");
    let failed = lines_of("failed", &text);
    assert!(
        failed[0].contains("mongodb    connection: no connection"),
        "{text}"
    );
    assert!(
        failed[1].contains("authentik  application another: "),
        "{text}"
    );
    assert!(
        failed[2].contains("dns        MAIL_SPF_INCLUDE at "),
        "{text}"
    );
    assert!(
        text.contains("ok       ocis       integration: switched off"),
        "{text}"
    );
}

#[tokio::test]
async fn other_arguments_are_explained_and_refused() {
    let output = worker(&["chekc"], &[], &[]).await;

    assert_eq!(output.status.code(), Some(2));
    let usage = String::from_utf8(output.stderr).unwrap();
    assert!(usage.contains("usage: dezky-worker"), "{usage}");
}

#[tokio::test]
async fn the_request_for_stalwarts_key_is_json() {
    let output = worker(&["stalwart-key"], &[], &[]).await;

    let request: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(request["methodCalls"][0][0], "x:ApiKey/set");
}
