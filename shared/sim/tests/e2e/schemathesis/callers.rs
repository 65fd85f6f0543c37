//! The callers of schemathesis, and the users whose ids its requests name.

use bson::{Bson, Document, doc};
use dezky_shared::{id::PartnerId, platform::clock};
use dezky_sim::issuer::{OPERATOR, PORTAL, TokenSpec};
use mongodb::Database;
use reqwest::{Method, StatusCode};

use super::id;
use crate::stack::Stack;

/// Caller of a run.
pub(super) struct Caller {
    pub(super) name: &'static str,
    /// User id; empty for a caller without one.
    pub(super) user: String,
    pub(super) token: Option<String>,
}

impl Caller {
    /// Extent of a run as this caller. `None` for those whose ids the requests name: the access table sends them to every
    /// route, and compares each response with the document.
    pub(super) fn extent(&self) -> Option<&'static [&'static str]> {
        Some(match self.name {
            "operator" => &["--max-examples", "5", "--continue-on-failure"],
            "partner-owner" => &[
                "--max-examples",
                "10",
                "--continue-on-failure",
                "--include-path-regex",
                "^/partner(/|$)",
            ],
            // Where most requests are not refused: the access table sends every caller to the other routes.
            "owner" => &[
                "--max-examples",
                "1",
                "--phases",
                "fuzzing",
                "--include-path-regex",
                "^/(tenants/|users|invitations)",
            ],
            "anonymous" => &[
                "--max-examples",
                "5",
                "--phases",
                "fuzzing",
                "--include-path-regex",
                "^/(healthz|readyz|webhooks|users)",
            ],
            _ => return None,
        })
    }
}

/// All callers. The tenant `demo` is managed by the partner `nordic`.
pub(super) async fn all(stack: &Stack) -> Vec<Caller> {
    stack.create("demo").await;
    stack.until_status("demo", "active").await;
    let database = stack.database().await;
    let nordic = partner(&database, "nordic").await;
    let demo = assign_to(&database, "demo", nordic).await;

    let kinds = [
        ("stranger", PORTAL, Document::new()),
        ("member", PORTAL, member(&demo, "member")),
        ("owner", PORTAL, member(&demo, "owner")),
        ("partner-owner", PORTAL, staff(nordic, "owner")),
        ("partner-read-only", PORTAL, staff(nordic, "read-only")),
        ("operator", OPERATOR, doc! { "platformAdmin": true }),
    ];
    let mut callers = Vec::new();
    for (name, application, rights) in kinds {
        callers.push(sign_in(stack, &database, name, application, rights).await);
    }
    callers.push(Caller {
        name: "anonymous",
        user: String::new(),
        token: None,
    });
    // The longest run starts first.
    callers.sort_by_key(|caller| caller.name != "operator");
    callers
}

async fn partner(database: &Database, slug: &str) -> PartnerId {
    let id = PartnerId::new();
    let now = clock::now();
    let partner = doc! {
        "_id": id, "slug": slug, "name": slug, "status": "active", "marginBasisPoints": 1_250,
        "revision": 1_i64, "createdAt": now, "updatedAt": now,
    };
    let partners = database.collection("partners");
    partners.insert_one(partner).await.unwrap();
    id
}

/// Assigns the tenant to the partner. The id of the tenant.
async fn assign_to(database: &Database, slug: &str, partner: PartnerId) -> Bson {
    let tenants = database.collection::<Document>("tenants");
    let of = doc! { "$set": { "partnerId": partner }, "$inc": { "revision": 1_i64 } };
    let tenant = tenants.find_one_and_update(doc! { "slug": slug }, of).await;
    tenant.unwrap().unwrap().get("_id").unwrap().clone()
}

fn member(tenant: &Bson, role: &str) -> Document {
    let membership = doc! {
        "tenantId": tenant, "role": role, "source": "local", "changedAt": clock::now(),
    };
    doc! { "memberships": [membership] }
}

fn staff(partner: PartnerId, role: &str) -> Document {
    doc! { "partnerId": partner, "partnerRole": role }
}

async fn sign_in(
    stack: &Stack,
    database: &Database,
    name: &'static str,
    application: &str,
    rights: Document,
) -> Caller {
    let spec = TokenSpec {
        application: application.to_owned(),
        email: Some(format!("{name}@people.test")),
        name: Some(name.to_owned()),
        ..TokenSpec::default()
    };
    let token = stack.issuer.token(&spec).unwrap();
    let (status, user) = stack.ask_with(&token, Method::GET, "/users/me", None).await;
    assert_eq!(status, StatusCode::OK, "{user}");
    if !rights.is_empty() {
        let users = database.collection::<Document>("users");
        let them = doc! { "authentikSubjectId": spec.subject };
        let granted = users.update_one(them, doc! { "$set": rights }).await;
        assert_eq!(granted.unwrap().matched_count, 1, "{name}");
    }
    Caller {
        name,
        user: id(&user),
        token: Some(token),
    }
}
