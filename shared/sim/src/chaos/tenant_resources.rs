//! Requests of customers about the resources of their tenant: its members and its sign-on apps.

use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Reply, Request, patch, post};

/// Share of the requests that concern resources of a tenant, once there is a team.
pub(super) const SHARE: f64 = 0.45;
/// Number of recently created members that are candidates for a change, so that changes of one member meet.
const RECENT: usize = 30;
/// Prefix of the slugs of teams.
const TEAM: &str = "team-";
const CREATE_MEMBER: &str = "create member";
const CREATE_APP: &str = "create app";

/// Slug of a team: a tenant with members and apps.
pub(super) fn team(number: u64) -> String {
    format!("{TEAM}{number}")
}

/// Whether the tenant is a team.
pub(super) fn is_team(slug: &str) -> bool {
    slug.starts_with(TEAM)
}

/// Resources of tenants that the customers have created.
#[derive(Debug, Default)]
pub(super) struct TenantResources {
    /// Slugs of the teams.
    teams: Vec<String>,
    /// Paths of members.
    members: Vec<String>,
    /// Paths of members whose removal was requested.
    removed: Vec<String>,
    /// Paths of apps.
    apps: Vec<String>,
}

impl TenantResources {
    /// A request about a member or an app; `None` if there is no team.
    pub(super) fn choose(
        &mut self,
        number: u64,
        random: &mut StdRng,
    ) -> Option<(&'static str, Request)> {
        let team = self.teams.choose(random)?;
        let tenant = format!("/tenants/{team}");
        let chosen = if random.random_bool(0.75) {
            self.choose_for_member(&tenant, number, random)
        } else {
            self.choose_for_app(&tenant, number, random)
        };
        Some(chosen)
    }

    fn choose_for_member(
        &mut self,
        tenant: &str,
        number: u64,
        random: &mut StdRng,
    ) -> (&'static str, Request) {
        let recent = self.members.len().saturating_sub(RECENT);
        let dice = random.random_range(0..100);
        if dice < 3 {
            return ("import members", import_members(tenant, number, random));
        }
        let Some(member) = self.members[recent..]
            .choose(random)
            .filter(|_| dice >= 25)
            .cloned()
        else {
            return (CREATE_MEMBER, create_member(tenant, number, random));
        };
        let on = |action: &str| post(format!("{member}/{action}"), None);
        match dice {
            ..40 => ("change member", change_member(member, number, random)),
            40..54 => ("suspend member", on("suspend")),
            54..68 => ("resume member", on("resume")),
            68..79 => ("reset password", on("reset-password")),
            79..86 => ("sign out member", on("force-logout")),
            86..95 => {
                self.members.retain(|other| *other != member);
                self.removed.push(member.clone());
                ("remove member", Request::new(Method::DELETE, member, None))
            }
            // Of the last one: a removal is final after a few seconds.
            _ => match self.removed.pop() {
                Some(removed) => {
                    let request = post(format!("{removed}/restore"), None);
                    self.members.push(removed);
                    ("restore member", request)
                }
                None => ("resume member", on("resume")),
            },
        }
    }

    fn choose_for_app(
        &mut self,
        tenant: &str,
        number: u64,
        random: &mut StdRng,
    ) -> (&'static str, Request) {
        let dice = random.random_range(0..100);
        let app = self.apps.choose(random).filter(|_| dice >= 35).cloned();
        let Some(app) = app else {
            return (CREATE_APP, create_app(tenant, number, random));
        };
        match dice {
            ..60 => {
                let body = json!({
                    "name": format!("App {number}"),
                    "redirectUris": [redirect_uri(number)],
                    "accessTokenMinutes": random.random_range(1..60),
                });
                ("change app", patch(app, body))
            }
            60..82 => ("rotate secret", post(format!("{app}/rotate-secret"), None)),
            _ => {
                self.apps.retain(|other| *other != app);
                ("remove app", Request::new(Method::DELETE, app, None))
            }
        }
    }

    /// Records the resource that an accepted request created.
    pub(super) fn remember(&mut self, action: &str, path: &str, reply: &Reply) {
        let created = || reply.id.as_ref().map(|id| format!("{path}/{id}"));
        match action {
            "create" => {
                let slug = reply.slug.iter().filter(|slug| is_team(slug));
                self.teams.extend(slug.cloned());
            }
            CREATE_MEMBER => self.members.extend(created()),
            CREATE_APP => self.apps.extend(created()),
            _ => {}
        }
    }
}

/// Unique addresses, so that each account is created and deleted at most once.
fn create_member(tenant: &str, number: u64, random: &mut StdRng) -> Request {
    let mut body = json!({
        "localPart": format!("member-{number}"),
        "name": format!("Member {number}"),
        "role": if random.random_bool(0.8) { "member" } else { "admin" },
        "password": "generate",
    });
    if random.random_bool(0.15) {
        body["mailbox"] = false.into();
    } else if random.random_bool(0.3) {
        body["aliases"] = json!([format!("alias-{number}")]);
    }
    post(format!("{tenant}/users"), Some(body))
}

/// A file of some new members, of whom one may be in it twice. Their addresses are unique otherwise.
fn import_members(tenant: &str, number: u64, random: &mut StdRng) -> Request {
    let rows = (0..random.random_range(1..12)).map(|row| {
        json!({
            "localPart": format!("import-{number}-{row}"),
            "name": format!("Import {number} {row}"),
            "role": "member",
            "password": "generate",
        })
    });
    let mut rows: Vec<Value> = rows.collect();
    if random.random_bool(0.2) {
        rows.push(rows[0].clone());
    }
    Request::upload(format!("{tenant}/users/import"), &rows)
}

fn change_member(member: String, number: u64, random: &mut StdRng) -> Request {
    let mut body = json!({ "name": format!("Member {number}") });
    // Of a member without a mailbox, this is refused.
    if random.random_bool(0.4) {
        body["aliases"] = json!([format!("alias-{number}")]);
    }
    patch(member, body)
}

fn create_app(tenant: &str, number: u64, random: &mut StdRng) -> Request {
    let is_public = random.random_bool(0.2);
    let body = json!({
        "slug": format!("app-{number}"),
        "name": format!("App {number}"),
        "redirectUris": [redirect_uri(number)],
        "clientType": if is_public { "public" } else { "confidential" },
    });
    post(format!("{tenant}/apps"), Some(body))
}

fn redirect_uri(number: u64) -> String {
    format!("https://app-{number}.test/callback")
}
