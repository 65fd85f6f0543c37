//! Members in different states, an app, and a storage report.

use std::time::Duration;

use anyhow::ensure;
use reqwest::{Method, RequestBuilder};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{Demo, send};
use crate::callers::DEMO_TENANT;

/// Time limit for the jobs that bring existing members to the empty simulators.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Interval between two looks at the jobs.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// The app.
const APP: &str = "wiki";

/// A member of the demo tenant.
struct Person {
    local_part: &'static str,
    name: &'static str,
    role: &'static str,
    is_suspended: bool,
    has_second_factor: bool,
}

const PEOPLE: [Person; 3] = [
    Person {
        local_part: "ada",
        name: "Ada King",
        role: "admin",
        is_suspended: false,
        has_second_factor: true,
    },
    Person {
        local_part: "grace",
        name: "Grace Hopper",
        role: "member",
        is_suspended: false,
        has_second_factor: false,
    },
    Person {
        local_part: "alan",
        name: "Alan Turing",
        role: "member",
        is_suspended: true,
        has_second_factor: false,
    },
];

#[derive(Debug, Deserialize)]
struct Page {
    items: Vec<Value>,
}

/// A member as returned by a request that issues a password.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Issued {
    id: String,
    status: String,
    one_time_password: String,
}

impl Person {
    fn email(&self) -> String {
        format!("{}@{DEMO_TENANT}.test", self.local_part)
    }
}

impl Demo {
    /// Creates the members, or issues new passwords to existing ones.
    pub(super) async fn ensure_people(&self) -> anyhow::Result<()> {
        self.until_provisioned().await?;
        for person in &PEOPLE {
            self.ensure_person(person).await?;
        }
        Ok(())
    }

    async fn ensure_person(&self, person: &Person) -> anyhow::Result<()> {
        let (email, name) = (person.email(), person.name);
        let issued = match self.find_member(&email).await? {
            None => {
                let new = json!({
                    "localPart": person.local_part, "name": name, "role": person.role,
                });
                self.issue("/users", &new).await?
            }
            Some(id) => {
                let path = format!("/users/{id}/reset-password");
                self.issue(&path, &json!({})).await?
            }
        };
        let Issued {
            id,
            mut status,
            one_time_password,
        } = issued;
        if person.is_suspended && status != "suspended" {
            let suspend = self.request(Method::POST, &format!("/users/{id}/suspend"));
            send(waiting(suspend)).await?;
            "suspended".clone_into(&mut status);
        }
        let mut factor = "";
        if person.has_second_factor {
            let enrolment = self.client.post(format!("{}/second-factors", self.control));
            send(enrolment.json(&json!({ "username": email }))).await?;
            factor = ", with a second factor";
        }
        self.say(&format!(
            "{email:<18} {status}{factor}; one-time password {one_time_password}"
        ));
        Ok(())
    }

    /// Id of the member with this login.
    async fn find_member(&self, email: &str) -> anyhow::Result<Option<String>> {
        let request = self.request(Method::GET, "/users").query(&[("q", email)]);
        let page: Page = send(request).await?.json().await?;
        let mut items = page.items.iter();
        let found = items.find(|item| item["email"] == email && item["managed"] == true);
        Ok(found.and_then(|item| item["id"].as_str().map(str::to_owned)))
    }

    /// Sends a request that issues a password, and waits for its job.
    async fn issue(&self, path: &str, body: &Value) -> anyhow::Result<Issued> {
        let request = self.request(Method::POST, path).json(body);
        Ok(send(waiting(request)).await?.json().await?)
    }

    /// Waits for the jobs with which the tenant's reconcile brings existing members to the empty simulators.
    async fn until_provisioned(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let mut open = 0;
            for state in ["available", "running"] {
                let query = [("kind", "provision_member"), ("state", state)];
                let request = self.request(Method::GET, "/jobs").query(&query);
                let page: Page = send(request).await?.json().await?;
                open += page.items.len();
            }
            if open == 0 {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{open} members are not provisioned"
            );
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Creates the app.
    pub(super) async fn ensure_app(&self) -> anyhow::Result<()> {
        let page: Page = send(self.request(Method::GET, "/apps"))
            .await?
            .json()
            .await?;
        if page.items.iter().any(|app| app["slug"] == APP) {
            return Ok(());
        }
        let new = json!({
            "name": "Wiki", "slug": APP, "redirectUris": ["https://wiki.test/callback"],
        });
        let request = self.request(Method::POST, "/apps").json(&new);
        let app: Value = send(waiting(request)).await?.json().await?;
        let text = |field: &str| app[field].as_str().unwrap_or_default();
        self.say(&format!(
            "app {APP:<14} {}; client {}, secret {}",
            text("status"),
            text("clientId"),
            text("clientSecret")
        ));
        Ok(())
    }

    /// Measures the storage.
    pub(super) async fn measure_storage(&self) -> anyhow::Result<()> {
        let request = waiting(self.request(Method::GET, "/storage"));
        let report: Value = send(request).await?.json().await?;
        let as_of = report["asOf"].as_str().unwrap_or("not yet");
        self.say(&format!("storage report     measured {as_of}"));
        Ok(())
    }
}

/// The request, which waits for its job.
pub(super) fn waiting(request: RequestBuilder) -> RequestBuilder {
    request.header("prefer", "wait=30")
}
